import numpy as np
import pytest
from rasterio.windows import Window

import stages.indices
import stages.ingest
import stages.normalize
from landfold.geo.raster import Raster
from landfold.scenes.normalize import SceneStatistics
from tests.factories import leftovers, small_scene, tree, write_params


@pytest.fixture
def prepared(tmp_path, stage):
    write_params(tmp_path)
    for name in ("one", "two"):
        small_scene(tmp_path / "data/raw/scenes", name)
    stage(stages.ingest)
    stage(stages.indices)


def test_every_scene_gets_statistics_and_a_normalized_raster(tmp_path, stage, prepared):
    assert "normalize: 2 scenes to p2-p98" in stage(stages.normalize)
    assert sorted(tree(tmp_path / "data/normalized")) == ["one.tif", "two.tif"]
    assert sorted(tree(tmp_path / "data/statistics")) == ["one.json", "two.json"]
    found = SceneStatistics.load(tmp_path / "data/statistics/one.json")
    assert list(found.channels) == ["B", "G", "R", "N", "NDVI", "NDWI"]
    with Raster.open(tmp_path / "data/normalized/one.tif") as normalized:
        window = Window(0, 0, 120, 90)
        values, valid = normalized.read_raw(window), normalized.read_mask(window)
    assert normalized.names == tuple(found.channels)
    assert not valid[:10, :10].any()
    assert valid.sum() == 90 * 120 - 100
    assert (values[:, ~valid] == 0).all()
    assert values.min() == 0
    assert values.max() == 1
    with Raster.open(tmp_path / "data/scenes/one.tif") as scene:
        red = scene.read_reflectance(window, ["R"])[0][valid].astype(np.float64)
    assert found.channels["R"].low == pytest.approx(np.percentile(red, 2), abs=1e-6)
    assert found.channels["R"].high == pytest.approx(np.percentile(red, 98), abs=1e-6)


def test_without_indices_the_bands_alone_are_channels(tmp_path, stage, prepared):
    write_params(tmp_path, indices__names=[])
    stage(stages.indices)
    stage(stages.normalize)
    assert list(SceneStatistics.load(tmp_path / "data/statistics/one.json").channels) == ["B", "G", "R", "N"]


def test_a_second_run_gives_the_same_bytes_and_other_percentiles_others(tmp_path, stage, prepared):
    stage(stages.normalize)
    before = tree(tmp_path / "data")
    stage(stages.normalize)
    assert tree(tmp_path / "data") == before
    write_params(tmp_path, normalize__high_percentile=90)
    stage(stages.normalize)
    after = tree(tmp_path / "data")
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {f"normalized/{n}.tif" for n in ("one", "two")} | {f"statistics/{n}.json" for n in ("one", "two")}


def test_a_refusal_leaves_the_earlier_output(tmp_path, stage, prepared):
    stage(stages.normalize)
    before = tree(tmp_path / "data")
    write_params(tmp_path, normalize__min_valid_px=10_701)
    assert "scene one: channel B has 10700 valid pixels" in stage(stages.normalize, refused=True)
    assert tree(tmp_path / "data") == before
    assert leftovers(tmp_path) == []
