import pytest

import stages.indices
import stages.ingest
from landfold.geo.raster import Raster
from tests.factories import leftovers, small_scene, tree, write_params


@pytest.fixture
def scenes(tmp_path, stage):
    write_params(tmp_path)
    for name in ("one", "two"):
        small_scene(tmp_path / "data/raw/scenes", name)
    stage(stages.ingest)
    return tmp_path / "data/scenes"


def test_every_scene_gets_its_indices(tmp_path, stage, scenes):
    assert "indices: NDVI, NDWI for 2 scenes" in stage(stages.indices)
    assert sorted(tree(tmp_path / "data/indices")) == ["one.tif", "two.tif"]
    with Raster.open(tmp_path / "data/indices/one.tif") as found, Raster.open(scenes / "one.tif") as source:
        assert found.names == ("NDVI", "NDWI")
        assert found.grid == source.grid


def test_no_index_gives_an_empty_folder(tmp_path, stage, scenes):
    stage(stages.indices)
    write_params(tmp_path, indices__names=[])
    assert "indices: none for 2 scenes" in stage(stages.indices)
    assert list((tmp_path / "data/indices").iterdir()) == []


@pytest.mark.parametrize(
    ("names", "message"),
    [(["NDBI"], "index NDBI: it needs band S1"), (["NDVX1"], "'NDVX1' is not in the Awesome Spectral Indices list")],
)
def test_a_refusal_leaves_the_earlier_output(tmp_path, stage, scenes, names, message):
    stage(stages.indices)
    before = tree(tmp_path / "data")
    write_params(tmp_path, indices__names=["NDVI", *names])
    assert message in stage(stages.indices, refused=True)
    assert tree(tmp_path / "data") == before
    assert leftovers(tmp_path) == []
