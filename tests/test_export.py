from xml.etree import ElementTree

import geopandas
import numpy as np
import pandas
import pytest
import rasterio
import shapely
from affine import Affine
from matplotlib.image import imread
from rasterio.crs import CRS
from rio_cogeo.cogeo import cog_validate

from landfold.applicability import Survey
from landfold.export import (
    OUTSIDE,
    ExportError,
    ExportSettings,
    SceneMap,
    class_polygons,
    fold_of_cells,
    picture,
    predict_scene,
    write_applicability,
    write_map,
)
from landfold.grid import Grid
from landfold.inference import InferenceError, map_grid
from landfold.raster import Raster
from landfold.zones import grid_zones
from tests import factories
from tests.test_model import make_card

CLASSES = ["water", 'corn "&" <rye>', "Grünland, naß"]
COLOURS = [(47, 127, 209), (242, 209, 107), (31, 111, 58)]
FILES = [
    "s_class.tif",
    "s_class.tif.aux.xml",
    "s_confidence.tif",
    "s_ensemble_class.tif",
    "s_ensemble_class.tif.aux.xml",
    "s_ensemble_confidence.tif",
    "s.gpkg",
]
HONEST = np.array(
    [
        [0, 0, 1, 1, 1, 2],
        [0, 3, 1, 2, 1, 2],
        [3, 3, 1, 1, 2, 2],
        [3, 2, 3, 3, 3, 3],
    ]
)


def make_map(honest: np.ndarray = HONEST, *, crs: CRS = factories.CRS_UTM33) -> SceneMap:
    """A map of 80 m cells whose numbers tell the cell."""
    grid = factories.make_grid(*honest.shape, 80.0, crs=crs, x_px=3, y_px=5)
    place = np.arange(honest.size).reshape(honest.shape) / honest.size

    def layer(low, high):
        return np.where(honest > 0, low + (high - low) * place, np.nan).astype(np.float32)

    ensemble = np.where(honest > 0, honest % 3 + 1, 0).astype(np.uint8)
    layers = layer(0.4, 1.0), ensemble, layer(0.5, 0.9), layer(0, 0.3), layer(0, 0.1)
    return SceneMap(grid, CLASSES, honest.astype(np.uint8), *layers)


@pytest.fixture
def written(tmp_path):
    product = make_map()
    write_map(tmp_path, "s", product, COLOURS)
    return product, tmp_path


def test_writes_the_products_and_nothing_else(written):
    _, folder = written
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".tif")])
def test_rasters_are_valid_cogs_on_the_maps_grid(written, name):
    product, folder = written
    valid, errors, warnings = cog_validate(folder / name, strict=True, quiet=True)
    assert (valid, errors, warnings) == (True, [], [])
    with rasterio.open(folder / name) as dataset:
        assert Grid.of(dataset) == product.grid


def test_rasters_read_back_as_they_were(written):
    product, folder = written
    for name, values in {"s_class": product.honest, "s_ensemble_class": product.ensemble}.items():
        with rasterio.open(folder / f"{name}.tif") as dataset:
            assert (dataset.dtypes, dataset.nodata, dataset.descriptions) == (("uint8",), 0, ("class",))
            assert np.array_equal(dataset.read(1), values)
            assert np.array_equal(dataset.read_masks(1) > 0, values > 0)
    floats = {
        "s_confidence": {"confidence": product.confidence, "padded": product.padded},
        "s_ensemble_confidence": {"confidence": product.ensemble_confidence, "disagreement": product.disagreement},
    }
    for name, bands in floats.items():
        with rasterio.open(folder / f"{name}.tif") as dataset:
            assert dataset.descriptions == tuple(bands)
            assert dataset.dtypes == ("float32", "float32")
            assert np.isnan(dataset.nodata)
            assert np.array_equal(dataset.read(), np.stack(list(bands.values())), equal_nan=True)


@pytest.mark.parametrize("name", ["s_class.tif", "s_ensemble_class.tif"])
def test_colours_and_names_are_inside_and_beside(written, name):
    _, folder = written
    with rasterio.open(folder / name) as dataset:
        colours, tags = dataset.colormap(1), dataset.tags(1)
        assert dataset.colorinterp[0] == rasterio.enums.ColorInterp.palette
    assert [colours[i][:3] for i in (1, 2, 3)] == COLOURS
    assert [tags[f"CLASS_{i}"] for i in (1, 2, 3)] == CLASSES
    root = ElementTree.fromstring((folder / f"{name}.aux.xml").read_text(encoding="utf-8"))  # noqa: S314
    assert root.find("PAMRasterBand").get("band") == "1"
    assert [node.text for node in root.iter("Category")] == ["nodata", *CLASSES]


def test_large_maps_have_overviews(tmp_path):
    rows, columns = np.mgrid[:530, :600]
    honest = np.where((rows < 40) & (columns < 64), 0, (columns // 64 + rows // 64) % 3 + 1)
    product = make_map(honest)
    write_map(tmp_path, "s", product, COLOURS)
    for name in (name for name in FILES if name.endswith(".tif")):
        assert cog_validate(tmp_path / name, strict=True, quiet=True)[0]
        with rasterio.open(tmp_path / name) as dataset:
            assert len(dataset.overviews(1)) >= 1
    with rasterio.open(tmp_path / "s_class.tif") as dataset:
        assert np.array_equal(dataset.read(1), honest)
        assert dataset.overviews(1)[0] == 2
        small = dataset.read(1, out_shape=(265, 300))
    assert np.array_equal(small, honest[::2, ::2])


def test_a_second_write_gives_the_same_bytes(tmp_path):
    scene = write_scene(tmp_path / "scene.tif")
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        write_map(tmp_path / name, "s", make_map(), COLOURS)
        with Raster.open(scene) as raster:
            picture(tmp_path / name / "map.png", raster, make_map(), COLOURS)
    first = factories.tree(tmp_path / "first")
    assert sorted(first) == sorted([*FILES, "map.png"])
    assert factories.tree(tmp_path / "second") == first


def test_polygons_are_the_connected_cells_of_a_class(written):
    product, folder = written
    table = geopandas.read_file(folder / "s.gpkg", layer="classes")
    assert table.crs == product.grid.crs
    assert list(table.columns) == ["class", "area_m2", "confidence", "geometry"]
    assert table.geometry.is_valid.all()
    assert list(table["area_m2"]) == sorted(table["area_m2"], reverse=True)
    assert np.array_equal(table["area_m2"], table.area)
    cells = {name: [] for name in CLASSES}
    for name, area in zip(table["class"], table["area_m2"] / 6400, strict=True):
        cells[name].append(area)
    assert cells == {CLASSES[0]: [7], CLASSES[1]: [4, 1, 1], CLASSES[2]: [4, 4]}
    for number, name in enumerate(CLASSES, 1):
        assert table.loc[table["class"] == name, "area_m2"].sum() == (product.honest == number).sum() * 6400
    columns, rows = np.meshgrid(np.arange(6) + 0.5, np.arange(4) + 0.5)
    x, y = product.grid.transform @ (columns, rows)
    for row in table.itertuples():
        inside = shapely.contains_xy(row.geometry, x, y)
        assert set(product.honest[inside]) == {CLASSES.index(row[1]) + 1}
        assert row.confidence == pytest.approx(product.confidence[inside].mean(), abs=1e-4)


def test_cells_that_touch_at_a_corner_are_two_polygons():
    table = class_polygons(make_map(np.array([[1, 2, 0], [2, 1, 0]])))
    assert sorted(table["class"]) == sorted([CLASSES[0], CLASSES[0], CLASSES[1], CLASSES[1]])
    assert (table["area_m2"] == 6400).all()


@pytest.mark.parametrize("seed", range(5))
def test_polygons_of_any_map_are_valid_disjoint_and_complete(seed):
    random = np.random.default_rng(seed)
    honest = random.choice(4, size=(23, 31), p=[0.1, 0.5, 0.3, 0.1])
    table = class_polygons(make_map(honest))
    assert table.geometry.is_valid.all()
    assert table["area_m2"].sum() == (honest > 0).sum() * 6400
    assert shapely.union_all(table.geometry.to_numpy()).area == pytest.approx(table["area_m2"].sum())
    for number, name in enumerate(CLASSES, 1):
        assert table.loc[table["class"] == name, "area_m2"].sum() == (honest == number).sum() * 6400


def test_polygons_keep_another_crs():
    table = class_polygons(make_map(crs=CRS.from_epsg(32760)))
    assert table.crs.to_epsg() == 32760


def test_refuses_a_map_without_data():
    with pytest.raises(ExportError, match=r"the map has no cell with data; lower export.min_valid"):
        class_polygons(make_map(np.zeros((3, 4), dtype=int)))


def write_scene(path, *, height=70, width=92, names=("R", "G", "B")):
    rows, columns = np.mgrid[:height, :width]
    values = [rows / height, columns / width, (rows + columns) / (height + width)]
    channels = {name: part.astype(np.float32) for name, part in zip(names, values, strict=False)}
    return factories.write_raster(path, channels, valid=~((rows < 16) & (columns < 24)))


@pytest.mark.parametrize("names", [("R", "G", "B"), ("NDVI",)])
def test_picture_is_drawn_with_and_without_natural_colours(tmp_path, names):
    with Raster.open(write_scene(tmp_path / "scene.tif", names=names)) as raster:
        picture(tmp_path / "plots/map.png", raster, make_map(), COLOURS)
    drawn = imread(tmp_path / "plots/map.png")
    assert drawn.shape[1] > 600
    for colour in COLOURS:
        assert (np.abs(drawn[:, :, :3] * 255 - colour).max(axis=2) < 1).sum() > 500


class Fixed:
    """A classifier of a fold whose probabilities follow the column in the centre of the window."""

    def __init__(self, fold: int, table: list[list[float]]) -> None:
        self.card = make_card(channels=["R", "G", "B"], classes=CLASSES, size_px=16, fold=fold)
        self.table = np.array(table, dtype=np.float32)

    def probabilities(self, windows: np.ndarray) -> np.ndarray:
        column = windows[:, 1, 7:9, 7:9].mean(axis=(1, 2)) * 92
        return self.table[(column > 46).astype(int)]


def models():
    """Three folds; west of column 46 all but fold 2 say class 1, east of it all say something else."""
    return [
        Fixed(0, [[0.7, 0.2, 0.1], [0.6, 0.3, 0.1]]),
        Fixed(1, [[0.5, 0.4, 0.1], [0.1, 0.8, 0.1]]),
        Fixed(2, [[0.1, 0.1, 0.8], [0.1, 0.2, 0.7]]),
    ]


def predict(folder, folds, *, min_valid=0.5, stride_px=8, found=None):
    with Raster.open(write_scene(folder / "scene.tif")) as raster:
        settings = ExportSettings(stride_px=stride_px, min_valid=min_valid, applicability=False)
        return predict_scene(raster, found or models(), folds, settings)


def test_the_honest_class_is_that_of_the_zones_fold_and_the_ensemble_that_of_the_mean(tmp_path):
    folds = np.tile([0, 1, 2, -1], (9, 3))
    product = predict(tmp_path, folds)
    data = np.ones((9, 12), bool)
    data[:2, :3] = False  # the scene's corner of nodata
    data[8, 11] = False  # 6 x 4 of 8 x 8 pixels
    east = np.arange(12) * 8 + 4 > 46
    assert product.grid.shape == (9, 12)
    assert np.array_equal(product.honest > 0, data)
    assert np.array_equal(product.ensemble > 0, data)
    west_truth, east_truth = {0: (1, 0.7), 1: (1, 0.5), 2: (3, 0.8)}, {0: (1, 0.6), 1: (2, 0.8), 2: (3, 0.7)}
    west_mean, east_mean = (1, 1.3 / 3), (2, 1.3 / 3)
    for row, column in zip(*np.nonzero(data), strict=True):
        mean = east_mean if east[column] else west_mean
        own = (east_truth if east[column] else west_truth).get(folds[row, column], mean)
        assert product.honest[row, column] == own[0]
        assert product.confidence[row, column] == pytest.approx(own[1])
        assert product.ensemble[row, column] == mean[0]
        assert product.ensemble_confidence[row, column] == pytest.approx(mean[1])
        assert product.disagreement[row, column] == pytest.approx(2 / 3 if east[column] else 1 / 3)
    layers = (product.confidence, product.ensemble_confidence, product.disagreement, product.padded)
    assert all(np.array_equal(np.isnan(layer), ~data) for layer in layers)


def test_a_cell_with_too_few_valid_pixels_is_nodata(tmp_path):
    folds = np.zeros((9, 12), dtype=int)
    # the last row of cells holds 6 of 8 rows of pixels, the last column 4 of 8 columns
    shares = {0.0: (True, True, True), 0.3: (True, True, True), 0.4: (True, True, False), 0.6: (True, False, False)}
    for min_valid, (below, right, corner) in shares.items():
        honest = predict(tmp_path, folds, min_valid=min_valid).honest
        assert (honest[8, 5] > 0, honest[4, 11] > 0, honest[8, 11] > 0) == (below, right, corner)
        assert (honest[:2, :3] == 0).all()


def test_the_stride_is_the_side_of_a_cell(tmp_path):
    folds = np.zeros((18, 23), dtype=int)
    product = predict(tmp_path, folds, stride_px=4)
    assert product.grid.resolution == (40, 40)
    assert product.grid.transform @ (0, 0) == (factories.ORIGIN_X, factories.ORIGIN_Y)


@pytest.mark.parametrize("order", [[1, 0, 2], [0, 2], [1, 2]])
def test_refuses_models_that_are_not_one_of_each_fold(tmp_path, order):
    found = [models()[i] for i in order]
    with pytest.raises(ExportError, match=r"models of the folds \[.*\]; expected \[0, 1"):
        predict(tmp_path, np.zeros((9, 12), dtype=int), found=found)


def test_refuses_a_stride_that_does_not_centre_windows(tmp_path):
    with pytest.raises(InferenceError, match=r"export.stride_px is 7, but windows are 16 px"):
        predict(tmp_path, np.zeros((10, 14), dtype=int), stride_px=7)


def zone_of(x, y):
    return grid_zones(x, y, block_size_m=240, origin_m=(0, 0))


def test_fold_of_cells_is_that_of_the_zone_under_the_centre():
    scene = factories.make_grid(70, 92)
    grid = map_grid(scene, 8)
    columns, rows = np.meshgrid(np.arange(12) * 80 + 40, np.arange(9) * 80 + 40)
    x, y = factories.ORIGIN_X + columns, factories.ORIGIN_Y - rows
    names = zone_of(x.ravel(), y.ravel())
    known = {name: number % 3 for number, name in enumerate(sorted(set(names))) if number % 4}
    found = fold_of_cells(grid, scene.crs, zone_of, known)
    assert found.dtype == np.int64
    assert np.array_equal(found.ravel(), [known.get(name, -1) for name in names])
    assert set(found.ravel()) == {-1, 0, 1, 2}


def test_fold_of_cells_in_another_crs():
    scene = factories.make_grid(40, 50)
    other = CRS.from_epsg(32632)
    grid = map_grid(scene, 10)
    centre = geopandas.GeoSeries(
        shapely.points(*(grid.transform @ (np.array([3.5]), np.array([2.5])))), crs=scene.crs
    ).to_crs(other)
    zone = zone_of(centre.x.to_numpy(), centre.y.to_numpy())[0]
    found = fold_of_cells(grid, other, zone_of, {zone: 1})
    assert found[2, 3] == 1
    assert 0 < (found == 1).sum() <= 9
    assert (fold_of_cells(grid, scene.crs, zone_of, {zone: 1}) == -1).all()


def test_fold_of_cells_of_a_rotated_grid():
    turned = Affine.translation(factories.ORIGIN_X, factories.ORIGIN_Y) @ Affine.rotation(30) @ Affine.scale(80, -80)
    grid = Grid(factories.CRS_UTM33, turned, 5, 7)
    x, y = turned @ (4.5, 1.5)
    zone = zone_of(np.array([x]), np.array([y]))[0]
    assert fold_of_cells(grid, grid.crs, zone_of, {zone: 2})[1, 4] == 2


def test_geopackage_survives_special_names(written):
    _, folder = written
    table = geopandas.read_file(folder / "s.gpkg")
    assert set(table["class"]) == set(CLASSES)
    assert not pandas.isna(table).any().any()


def make_survey(product: SceneMap) -> Survey:
    """Dissimilarities that tell the cell, one of them exactly the threshold."""
    place = np.arange(product.honest.size).reshape(product.honest.shape) / 10
    own, ensemble = (np.where(product.honest > 0, part, np.nan).astype(np.float32) for part in (place, place / 3))
    return Survey(own, ensemble, float(np.float32(1.7)))


def test_applicability_is_in_the_file_with_its_threshold(tmp_path):
    product = make_map()
    found = make_survey(product)
    write_applicability(tmp_path, "s", product.grid, found)
    names = {"s_applicability.tif": found.own, "s_ensemble_applicability.tif": found.ensemble}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    for name, values in names.items():
        assert cog_validate(tmp_path / name, strict=True, quiet=True) == (True, [], [])
        with rasterio.open(tmp_path / name) as dataset:
            tags = dataset.tags()
            assert Grid.of(dataset) == product.grid
            assert dataset.descriptions == ("dissimilarity", "applicable")
            assert np.isnan(dataset.nodata)
            dissimilarity, applicable = dataset.read()
        assert "doi:10.1111/2041-210X.13650" in tags["METHOD"]
        threshold = np.float32(tags["THRESHOLD"])
        assert float(threshold) == found.threshold
        data = product.honest > 0
        assert np.array_equal(dissimilarity, values, equal_nan=True)
        assert np.array_equal(np.isnan(applicable), ~data)
        assert np.array_equal(applicable[data], (dissimilarity <= threshold)[data])
    assert found.applicable(found.own)[2, 5] == 1  # cell 17, on the threshold
    assert found.applicable(found.own)[3, 0] == 0


def test_applicability_has_the_same_bytes_twice(tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        write_applicability(tmp_path / name, "s", make_map().grid, make_survey(make_map()))
    assert factories.tree(tmp_path / "first") == factories.tree(tmp_path / "second")


def test_the_picture_greys_what_is_outside(tmp_path):
    product = make_map()
    with Raster.open(write_scene(tmp_path / "scene.tif")) as raster:
        for name, outside in {"all": np.zeros((4, 6), bool), "some": make_survey(product).outside}.items():
            picture(tmp_path / f"{name}.png", raster, product, COLOURS, outside)
    drawn = {name: imread(tmp_path / f"{name}.png")[:, :, :3] * 255 for name in ("all", "some")}
    below = {name: pixels[len(pixels) // 2 :] for name, pixels in drawn.items()}
    greyed = 0.35 * np.array(COLOURS[2]) + 0.65 * np.array(OUTSIDE)  # in row 3, five cells of 80 m
    shown = {name: (np.abs(pixels - greyed).max(axis=2) < 15).sum() for name, pixels in below.items()}
    assert shown["some"] > 15_000  # the picture has 256 colours only, so this one is not exact
    assert shown["all"] == 0
