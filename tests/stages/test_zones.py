import geopandas
import pandas
import pytest
import shapely

import stages.ingest
import stages.patches
import stages.zones
from tests.factories import halves, leftovers, read_json, small_scene, tree, write_params


@pytest.fixture
def patches(tmp_path, stage):
    write_params(tmp_path)
    for name in ("one_20200101", "one_20200601"):  # two dates over one ground
        small_scene(tmp_path / "data/raw/scenes", name)
    stage(stages.ingest)
    halves(tmp_path / "data/raw/labels/labels.gpkg")
    stage(stages.patches)
    return geopandas.read_parquet(tmp_path / "data/patches.parquet")


def test_folds_keep_ground_apart_in_every_scene_and_date(tmp_path, stage, patches):
    out = stage(stages.zones)
    assert "zones in 2 folds" in out
    assert sorted(tree(tmp_path / "data/folds/k2")) == [
        *("fold_0.parquet", "fold_1.parquet", "index.json", "patches.parquet", "zones.gpkg")
    ]
    shapes = patches.geometry.to_numpy()
    assert len(set(shapely.to_wkb(shapes))) < len(shapes), "each place is there at two dates"
    for fold in (0, 1):
        side = pandas.read_parquet(tmp_path / f"data/folds/k2/fold_{fold}.parquet")["side"].to_numpy()
        train, validation = shapes[side == "train"], shapes[side == "validation"]
        assert shapely.area(shapely.intersection(train[:, None], validation[None])).max() == 0
        assert (side == "buffer").any(), "windows overlap, so the border of a zone costs patches"
    metrics = read_json(tmp_path / "metrics/folds.json")
    assert metrics["folds"]["0"]["validation"] + metrics["folds"]["1"]["validation"] == len(patches)
    assert (tmp_path / "metrics/plots/folds.png").stat().st_size > 1000


def test_a_second_run_gives_the_same_bytes(tmp_path, stage, patches):
    stage(stages.zones)
    before = tree(tmp_path)
    stage(stages.zones)
    assert tree(tmp_path) == before
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"zones__block_size_m": 1e6}, "1 zones cannot make 2 folds"),
        ({"zones__buffer_m": 5000}, "training patches lie within zones.buffer_m = 5000 m"),
        ({"zones__folds": [0, 1, 2]}, "params.yaml: zones: folds must be [0, 1] for k: 2"),
    ],
)
def test_a_refusal_leaves_the_earlier_output(tmp_path, stage, patches, changes, message):
    stage(stages.zones)
    write_params(tmp_path, **changes)
    before = tree(tmp_path)
    assert message in stage(stages.zones, refused=True)
    assert tree(tmp_path) == before
    assert leftovers(tmp_path) == []
