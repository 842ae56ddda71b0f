"""Projects of labelled pixels whose labels, scenes or zones are out of the ordinary, from raw data to scores."""

import numpy as np
import pandas
import pytest
import rasterio
import yaml

from tests import factories, in_process
from tests.factories import ROOT, box, make_grid, read_json

SMALL = {
    "audit": {"pixels": 200, "trees": 5, "prediction_points": 20, "network": False},
    "train": {"epochs": 1, "epoch_size": 512, "max_pixels": 2000, "batch_size": 64},
    "patches": {"size_px": 8, "core_px": 8, "stride_px": 8},
    "track": {"enabled": False},
    "colours": {},
}
BLOCKS = {"block_size_m": 240, "buffer_m": 0}
CLUSTERS = {"kind": "kmeans", "clusters": 10, "block_size_m": None, "origin_m": None, "buffer_m": 0}


def scene(raw, name="T33UUU_20170216T102101", *, shape=(90, 120), x_px=0, y_px=0):
    """A scene of four bands at a place."""
    grid = make_grid(*shape, x_px=x_px, y_px=y_px)
    east, south = factories.centres(grid)
    for number, (band, base) in enumerate(factories.BAND_VALUES.items()):
        values = base + (number + 1) * east / 10 + (5 - number) * south / 10
        factories.write_band(raw / f"scenes/{name}/{name}_{band}.tif", grid, values.astype("uint16"))


def fields(raw, *more, columns=12):
    """Fields and lakes like a chequerboard, and other polygons."""
    cells = [(i, j) for i in range(columns) for j in range(6)]
    polygons = [(("crop", "lake")[(i + j) % 2], box(i * 100, j * 150, i * 100 + 100, j * 150 + 150)) for i, j in cells]
    factories.write_labels(raw / "labels/fields.gpkg", [*polygons, *more])


@pytest.fixture
def scored(tmp_path, monkeypatch):
    """Run a project with two folds; its scores of pixels, and how many are labelled."""
    monkeypatch.chdir(tmp_path)

    def run(*, zones=BLOCKS, classes=("crop", "lake"), **changes):
        content = yaml.safe_load((ROOT / "params.yaml").read_text("utf-8"))
        own = factories.params()
        for section in ("project", "dataset", "ingest", "indices", "normalize", "labels"):
            content[section] = own[section]
        content["labels"] |= {"unit": "pixel", "classes": {name: [name] for name in classes}, "exclude": []}
        content["zones"] |= {"k": 2, "folds": [0, 1], **zones}
        for section, values in (SMALL | changes).items():
            content[section] = content[section] | values if values else values
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        in_process.to_scores(monkeypatch)
        labelled = read_json(tmp_path / "metrics/patches.json")["labelled_px"]["valid"]
        return read_json(tmp_path / "metrics/scores.json")["pixels"], labelled

    return run


def test_a_class_in_one_zone_alone_is_told_counts_as_wrong_and_stays_in_the_score(tmp_path, scored, capsys):
    scene(tmp_path / "data/raw")
    fields(tmp_path / "data/raw", ("rock", box(500, 500, 560, 560)))
    scores, _ = scored(classes=("crop", "lake", "rock"))
    assert "no training pixel of class rock" in capsys.readouterr().err
    (rock,) = (row for row in scores["per_class"] if row["class"] == "rock")
    assert (rock["support"], rock["recall"]["pooled"], rock["f1"]["pooled"]) == (36, 0, 0)
    assert 0 < scores["headline"]["macro_f1"]["pooled"] < 1


def test_scenes_on_the_same_ground_are_held_out_together(tmp_path, scored):
    scene(tmp_path / "data/raw")
    scene(tmp_path / "data/raw", "T33UUU_20180216T102101", x_px=37, y_px=5)
    fields(tmp_path / "data/raw", columns=15)
    scores, labelled = scored(zones=CLUSTERS)
    assert scores["count"] == labelled
    zones = pandas.read_parquet(tmp_path / "data/folds/k2/patches.parquet")
    scenes = zones["patch"].str.partition("/")[0]
    assert scenes.groupby(zones["zone"]).nunique().max() == 2


def test_a_scene_without_labels_and_scenes_smaller_than_a_box_are_mapped(tmp_path, scored, monkeypatch):
    for i in range(2):
        for j in range(3):
            scene(tmp_path / "data/raw", f"tile{i}{j}_20200101", shape=(9, 10), x_px=30 * i, y_px=30 * j)
    scene(tmp_path / "data/raw", "far_20200101", shape=(20, 30), x_px=900)
    fields(tmp_path / "data/raw")
    scores, labelled = scored(
        zones={"block_size_m": 300, "buffer_m": 0},
        normalize={"low_percentile": 2, "high_percentile": 98, "min_valid_px": 10},
        model={"boxes_px": [3, 25]},
    )
    assert scores["count"] == labelled == 6 * 90
    in_process.stages.export.main(in_process.read_params())
    for name, shape in (("tile12_20200101", (9, 10)), ("far_20200101", (20, 30))):
        with rasterio.open(tmp_path / f"data/maps/{name}_class.tif") as classes:
            assert classes.shape == shape
            assert classes.read(1).all()


def test_repeats_score_each_pixel_once_and_none_of_the_test_region(tmp_path, scored):
    scene(tmp_path / "data/raw")
    fields(tmp_path / "data/raw")
    x, y = factories.ORIGIN_X, factories.ORIGIN_Y
    region = [x + 960, y - 900, x + 1200, y]
    zones = {"folds": [0, 1, 2, 3], "repeats": 2, "test_region": region, "origin_m": [x, y], "buffer_m": 20}
    scores, labelled = scored(zones={"block_size_m": 240} | zones)
    assert scores["count"] == labelled - 24 * 90
    # blocks of the second repeat lie elsewhere: those that hold patches of the test region alone are in no fold
    assert 1.9 * scores["count"] < np.sum(scores["confusion"]) <= 2 * scores["count"]
    assert len(pandas.read_parquet(tmp_path / "models/k2/fold_3/test.parquet"))
