import geopandas
import numpy as np
import pandas
import pytest
import shapely

import stages.audit
import stages.zones
from tests.factories import CRS_UTM33, leftovers, make_grid, read_json, tree, write_params, write_raster

SIDE_PX, PATCH_PX = 192, 8


@pytest.fixture
def project(tmp_path, stage):
    """A normalized scene of farm and water in a patchwork, some of it labelled, and its folds."""
    write_params(
        tmp_path,
        patches__size_px=PATCH_PX,
        patches__core_px=PATCH_PX,
        patches__stride_px=PATCH_PX,
        zones__block_size_m=480,
        zones__buffer_m=10,
    )
    generator = np.random.default_rng(0)
    water = generator.random((SIDE_PX // 16, SIDE_PX // 16)).repeat(16, axis=0).repeat(16, axis=1) > 0.5
    channels = {name: (0.3 + 0.2 * water + generator.normal(0, 0.3, water.shape)) for name in ("G", "N")}
    channels = {name: values.clip(0, 1).astype(np.float32) for name, values in channels.items()}
    grid = make_grid(SIDE_PX, SIDE_PX)
    write_raster(tmp_path / "data/normalized/one.tif", channels, grid=grid, valid=np.ones(water.shape, dtype=bool))
    row, column = (axis.ravel() * PATCH_PX for axis in np.mgrid[: SIDE_PX // PATCH_PX, : SIDE_PX // PATCH_PX])
    some = generator.random(len(row)) < 0.5
    row, column = row[some], column[some]
    left, top = grid.transform @ (column, row)
    geopandas.GeoDataFrame(
        {
            "patch": [f"one/{r}/{c}" for r, c in zip(row, column, strict=True)],
            "scene": "one",
            "row": row,
            "column": column,
            "size_px": PATCH_PX,
            "label": np.where(water[row, column], "water", "farm"),
            "x": left + 40,
            "y": top - 40,
        },
        geometry=shapely.box(left, top - 80, left + 80, top),
        crs=CRS_UTM33,
    ).to_parquet(tmp_path / "data/patches.parquet")
    stage(stages.zones)
    return tmp_path


def test_the_gap_is_measured_and_told(project, stage):
    out = stage(stages.audit)
    found = read_json(project / "metrics/audit.json")
    zoned, random = (found[split]["accuracy"]["pooled"] for split in ("zoned", "random"))
    assert f"an accuracy of {random:.3f}, spatial CV {zoned:.3f}: " in out
    assert found["coordinates"]["gap"]["accuracy"]["pooled"] > 0.1
    rows = pandas.read_parquet(project / "data/audit/baseline.parquet")
    patches = pandas.read_parquet(project / "data/folds/k2/patches.parquet")
    assert list(rows["patch"]) == list(patches["patch"])
    assert list(rows["fold"]) == list(patches["fold"])
    assert round((rows["label"] == rows["predicted_zoned"]).mean(), 4) == zoned
    assert found["distances"]["sample_to_sample"]["median"] == 80
    assert found["autocorrelation"]["zone_size_m"] == 480
    distances = pandas.read_parquet(project / "data/audit/distances.parquet")
    assert set(distances["kind"]) == {"sample_to_sample", "prediction_to_sample", "zoned", "random"}
    assert list(distances["distance_m"][distances["kind"] == "zoned"]) == list(rows["zoned_m"])
    assert distances["distance_m"][distances["kind"] == "sample_to_sample"].median() == 80


def test_a_second_run_gives_the_same_bytes(project, stage):
    stage(stages.audit)
    before = tree(project)
    stage(stages.audit)
    assert tree(project) == before
    assert leftovers(project) == []


@pytest.mark.parametrize("change", [{"audit__prediction_points": 20}, {"patches__stride_px": 16}])
def test_settings_of_the_prediction_points_change_the_distances(project, stage, change):
    stage(stages.audit)
    before = read_json(project / "metrics/audit.json")["distances"]
    params = {"patches__size_px": 8, "patches__core_px": 8, "patches__stride_px": 8}
    write_params(project, **(params | change))
    stage(stages.audit)
    assert read_json(project / "metrics/audit.json")["distances"] != before


def test_small_zones_are_warned_of(project, stage, monkeypatch):
    monkeypatch.setattr("landfold.audit.audit.Audit.warnings", lambda self: ["zones are small"])
    assert stage(stages.audit).startswith("audit: warning: zones are small\naudit: Random CV gives band statistics")


def test_folds_without_their_random_counterpart_are_refused(project, stage):
    (project / "data/folds/k2/random_1.parquet").unlink()
    before = tree(project)
    assert "random_1.parquet: not found" in stage(stages.audit, refused=True)
    assert tree(project) == before
