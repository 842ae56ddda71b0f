import geopandas
import pandas
import pytest
import shapely

import stages.ingest
import stages.patches
import stages.zones
from tests.factories import (
    CRS_UTM33,
    ORIGIN_X,
    ORIGIN_Y,
    box,
    halves,
    leftovers,
    read_json,
    small_scene,
    tree,
    write_params,
)


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
        *("fold_0.parquet", "fold_1.parquet", "index.json", "patches.parquet"),
        *("random_0.parquet", "random_1.parquet", "zones.gpkg"),
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
    assert metrics["cautions"] == []
    assert not (tmp_path / "metrics/plots").exists(), "the stage report draws"


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


FREE = {"zones__block_size_m": None, "zones__origin_m": None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"zones__kind": "hexagon"}, "zones in 2 folds; "),
        (
            {"zones__kind": "kmeans", "zones__clusters": 6, **FREE},
            "warning: zones.kind: kmeans: new patches move every",
        ),
        ({"zones__repeats": 2, "zones__folds": [0, 1, 2, 3]}, "zones in 2 folds, 2 times; "),
        ({"zones__assignment": "knndm"}, "zones in 2 folds; "),
        ({"zones__assignment": "balanced", "zones__tries": 50}, "zones in 2 folds; "),
        (
            {"zones__test_region": [ORIGIN_X, ORIGIN_Y - 330, ORIGIN_X + 330, ORIGIN_Y]},
            "patches in the test region; no shared ground",
        ),
    ],
)
def test_every_choice_makes_other_folds(tmp_path, stage, patches, changes, message):
    stage(stages.zones)
    before = tree(tmp_path / "data/folds/k2")
    write_params(tmp_path, **changes)
    assert message in stage(stages.zones)
    after = tree(tmp_path / "data/folds/k2")
    assert set(before) <= set(after)
    assert after["index.json"] != before["index.json"]
    if "zones__test_region" in changes:
        sides = pandas.read_parquet(tmp_path / "data/folds/k2/fold_0.parquet")["side"].to_numpy()
        region = shapely.box(*changes["zones__test_region"])
        inside = shapely.area(shapely.intersection(patches.geometry.to_numpy(), region)) > 0
        assert ((sides == "test") == inside).all()
        assert read_json(tmp_path / "metrics/folds.json")["test"] == inside.sum() > 0


def test_patches_on_two_dates_are_joined_or_too_few_zones_are_left(tmp_path, stage, patches):
    write_params(tmp_path, zones__kind="scene", **FREE)
    assert "all 139 training patches lie within zones.buffer_m = 0 m" in stage(stages.zones, refused=True)
    write_params(tmp_path, zones__kind="scene", zones__overlaps="merge", **FREE)
    assert "zones.overlaps: merge leaves 1 of 2 zones, too few for 2 folds" in stage(stages.zones, refused=True)


def test_zones_from_the_labels_and_from_a_file(tmp_path, stage, patches):
    """Four farms in a row, two of them water: the label polygons name them, and so does a file of zones."""
    farms = [box(300 * i, 0, 300 * (i + 1), 900) for i in range(4)]
    table = geopandas.GeoDataFrame(
        {"kind": ["crop", "lake", "crop", "lake"], "farm": [7, 8, 9, 10]}, geometry=farms, crs=CRS_UTM33
    )
    (tmp_path / "data/raw/labels/labels.gpkg").unlink()
    table.to_file(tmp_path / "data/raw/labels/farms.gpkg")
    (tmp_path / "data/raw/zones").mkdir()
    table.to_crs(4326).to_file(tmp_path / "data/raw/zones/farms.gpkg")
    kinds = {
        "label": {"labels__zone_attribute": "farm"},
        "polygons": {"zones__file": "zones/farms.gpkg", "zones__attribute": "farm"},
    }
    found = {}
    for kind, own in kinds.items():
        write_params(tmp_path, zones__kind=kind, **FREE, **own)
        stage(stages.patches)
        assert "4 zones in 2 folds" in stage(stages.zones)
        found[kind] = pandas.read_parquet(tmp_path / "data/folds/k2/patches.parquet")
        zones = geopandas.read_file(tmp_path / "data/folds/k2/zones.gpkg")
        assert sorted(zones["zone"]) == ["10", "7", "8", "9"]
    clear = (geopandas.read_parquet(tmp_path / "data/patches.parquet")["x"] - ORIGIN_X) % 300
    clear = (clear > 40) & (clear < 260)  # the core lies within one farm
    assert (found["label"]["zone"] == found["polygons"]["zone"])[clear].all()
    expected = ((geopandas.read_parquet(tmp_path / "data/patches.parquet")["x"] - ORIGIN_X) // 300).astype(int) + 7
    assert (found["polygons"]["zone"] == expected.astype(str)).all()
