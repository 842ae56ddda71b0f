from io import BytesIO

import geopandas
import numpy as np
import pandas
import pytest
import shapely
from PIL import Image

from landfold.folds.lists import CrossValidationFolds, write_folds
from landfold.folds.split import FoldError, split_fold
from landfold.folds.zones import Blocks, zone_table
from landfold.geo.writer import create
from landfold.maps.colours import ColourSettings
from landfold.report import pictures
from landfold.report.pictures import CHARTS, PICTURES, draw
from landfold.report.result import ReportError
from tests.factories import CRS_UTM33, ORIGIN_X, ORIGIN_Y, make_grid, write_raster
from tests.report.test_page import SOURCES, contents, of_pixels, write_result

CLASSES = ["water", "farm"]
COLOURS = ColourSettings.model_validate({"water": "#2f7fd1"})


def write_all(folder):
    """All that the report is made from: a scene of 40 x 60 px of 10 m, patches of 5 x 5 px, two folds of zones."""
    write_result(folder, contents(CLASSES))
    rows, columns = np.mgrid[:40, :60].astype(np.float32)
    channels = {"R": rows / 40 + 1, "G": columns / 60 + 1, "B": (rows + columns) / 100 + 1}
    for name in ("scenes", "normalized"):
        write_raster(folder / f"data/{name}/S000.tif", channels, valid=np.ones((40, 60), bool))
    grid = make_grid(8, 12, 50.0)
    classes = (1 + np.mgrid[:8, :12][1] // 6).astype(np.uint8)
    with create(folder / "data/maps/S000_class.tif", grid, ["class"], dtype="uint8", nodata=0) as writer:
        writer.write(grid.whole, classes[None])
        writer.describe_classes(dict(enumerate(CLASSES, 1)), {1: (47, 127, 209), 2: (242, 209, 107)})
    write_raster(
        folder / "data/maps/S000_applicability.tif", {"applicable": (classes < 2).astype(np.float32)}, grid=grid
    )
    write_patches(folder, (columns[::5, ::5] + 2.5).ravel() * 10, (rows[::5, ::5] + 2.5).ravel() * 10)


def write_patches(folder, east, south):
    """Patches, folds, predictions and audit at these metres east and south of the common origin."""
    x, y = ORIGIN_X + east, ORIGIN_Y - south
    zone = Blocks(200, (ORIGIN_X, ORIGIN_Y)).at(x, y)
    fold = np.unique(zone, return_inverse=True)[1] % 2
    label = np.where(east < 300, *CLASSES)
    table = geopandas.GeoDataFrame(
        {"patch": [f"S000/{i}" for i in range(len(x))], "label": label, "x": x, "y": y, "zone": zone, "fold": fold},
        geometry=shapely.box(x - 25, y - 25, x + 25, y + 25),
        crs=CRS_UTM33,
    )
    table.drop(columns=["zone", "fold"]).to_parquet(folder / "data/patches.parquet", index=False)
    splits = [split_fold(table.geometry.to_numpy(), fold, i, 30) for i in (0, 1)]
    areas = zone_table(zone, fold, Blocks(200, (ORIGIN_X, ORIGIN_Y)), CRS_UTM33)
    write_folds(folder / "data/folds/k2", CrossValidationFolds(table, splits, [], [areas]))
    predictions = table.assign(repeat=0, predicted=np.where(south < 350, label, "water"))
    predictions.to_parquet(folder / "data/predictions.parquet", index=False)
    (folder / "data/audit").mkdir(exist_ok=True)
    audited = {"predicted_zoned": "water", "predicted_random": label, "zoned_m": 1.0 + east, "random_m": 50.0}
    table[["patch", "label"]].assign(**audited).to_parquet(folder / "data/audit/baseline.parquet", index=False)
    kinds = np.tile(["sample_to_sample", "prediction_to_sample", "zoned", "random"], 24)
    pandas.DataFrame({"kind": kinds, "distance_m": 1 + east}).to_parquet(folder / "data/audit/distances.parquet")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write_all(folder)
    return folder


@pytest.fixture
def here(written, monkeypatch):
    monkeypatch.chdir(written)


def shown(monkeypatch, name):
    """The arguments with which a picture's function is called."""
    calls = []
    monkeypatch.setattr(pictures, name, lambda *args, **options: calls.append((args, options)))
    return calls


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_is_drawn_from_the_files(here, name):
    assert min(Image.open(BytesIO(draw(name, SOURCES, COLOURS))).size) > 200


@pytest.mark.parametrize("name", CHARTS)
def test_every_chart_is_drawn_from_the_files(here, name):
    assert draw(name, SOURCES, COLOURS).startswith(b"<svg")


def test_the_map_of_folds_has_the_scenes_and_what_any_fold_drops(here, monkeypatch):
    calls = shown(monkeypatch, "fold_map")
    PICTURES["folds"](SOURCES, COLOURS)
    ((zones, patches), options) = calls[0]
    assert set(zones["fold"]) == {0, 1}
    assert list(patches["patch"]) == [f"S000/{i}" for i in range(96)]
    sides = [pandas.read_parquet(SOURCES.folds / f"fold_{i}.parquet")["side"] for i in (0, 1)]
    assert patches["buffer"].sum() == sum((side == "buffer").sum() for side in sides) > 0
    assert options["backdrops"][0].values.shape == (3, 40, 60)


def test_the_map_of_errors_has_one_repeat_and_the_colours_of_the_classes(here, monkeypatch):
    table = pandas.read_parquet(SOURCES.predictions)
    monkeypatch.setattr(pandas, "read_parquet", lambda *_, **__: pandas.concat([table, table.assign(repeat=1)]))
    calls = shown(monkeypatch, "error_map")
    PICTURES["errors"](SOURCES, COLOURS)
    ((_, patches, colours), _) = calls[0]
    assert len(patches) == 96
    assert colours == {"water": (47, 127, 209), "farm": (242, 209, 107)}


def test_the_map_greys_the_share_that_export_has_measured(here, monkeypatch):
    calls = shown(monkeypatch, "class_map")
    PICTURES["map"](SOURCES, COLOURS)
    assert calls[0][1] == {"outside": 0.054}


def test_the_gap_is_that_of_the_network_where_it_was_trained(here, monkeypatch):
    calls = shown(monkeypatch, "gap_bars")
    PICTURES["gap"](SOURCES, COLOURS)
    assert list(calls[0][0][0]) == ["network", "band statistics (random forest)", "coordinates alone"]


def test_pixels_are_drawn_where_there_are_any(here, monkeypatch):
    files = contents()
    of_pixels(files)
    monkeypatch.setattr(pictures, "_metrics", lambda _, name: files[f"metrics/{name}.json"])
    calls = shown(monkeypatch, "gap_bars")
    PICTURES["gap"](SOURCES, COLOURS)
    compared, pixels = calls[0][0]
    assert list(compared) == ["network, patches", "band statistics (random forest)"]
    assert set(pixels) == {"zones", "random_patches", "random_pixels", "gap"}
    zones, reliability = shown(monkeypatch, "zone_accuracies"), shown(monkeypatch, "reliability_diagram")
    for name in ("zones", "reliability"):
        CHARTS[name](SOURCES)
    assert zones[0][1] == {"of": "pixels", "median": 0.575, "pooled": 0.61}
    assert reliability[0][0] == ([],)


def test_folds_need_no_more_than_the_zones(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_all(tmp_path)
    for path in [*tmp_path.glob("metrics/*.json"), *tmp_path.glob("data/maps/*"), SOURCES.predictions]:
        path.unlink()
    assert draw("folds", SOURCES, COLOURS)
    with pytest.raises(ReportError, match=r"^picture errors: .*data/predictions.parquet.*; run `dvc repro`"):
        draw("errors", SOURCES, COLOURS)
    (SOURCES.folds / "index.json").unlink()
    with pytest.raises(FoldError, match=r"index.json: not found.* run `dvc repro zones`"):
        draw("folds", SOURCES, COLOURS)
