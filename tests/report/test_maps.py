from io import BytesIO

import geopandas
import numpy as np
import pytest
import shapely
from matplotlib.image import imread

from landfold.geo.raster import Raster
from landfold.geo.writer import create
from landfold.report.figures import png
from landfold.report.maps import OUTSIDE, Imagery, class_map, error_map, fold_map
from tests.factories import make_grid, write_raster

COLOURS = [(47, 127, 209), (242, 209, 107), (31, 111, 58)]
CLASS_COLOURS = {"water": (47, 127, 209), "farm": (233, 196, 106)}


def zones():
    boxes = [shapely.box(330000 + 2000 * i, 5814000, 332000 + 2000 * i, 5815000) for i in range(2)]
    return geopandas.GeoDataFrame({"zone": ["a", "b"], "fold": [0, 1]}, geometry=boxes, crs="EPSG:32633")


RIGHT = ["water"] * 4 + ["farm"] * 4


def patches(predicted=RIGHT, fold=(0, 0, 0, 0, 1, 1, 1, 1)):
    x = 330200 + 400.0 * np.arange(8)
    return geopandas.GeoDataFrame(
        {"label": RIGHT, "predicted": predicted, "fold": fold, "buffer": False, "x": x, "y": 5814300.0},
        geometry=shapely.box(x - 50, 5814250, x + 50, 5814350),
        crs="EPSG:32633",
    )


def drawn(figure):
    """Pixels (y, x, 3), 0 to 255, of a figure."""
    return (imread(BytesIO(png(figure)))[..., :3] * 255).round()


def count(pixels, colour, tolerance=1):
    return int((abs(pixels - np.array(colour)) <= tolerance).all(axis=-1).sum())


def test_error_map_shows_the_true_colour_of_what_is_wrong():
    right = drawn(error_map(zones(), patches(), CLASS_COLOURS))
    wrong = drawn(error_map(zones(), patches(["farm"] * 8), CLASS_COLOURS))
    assert count(right, CLASS_COLOURS["water"]) > 0  # the legend
    assert count(wrong, CLASS_COLOURS["water"]) > 3 * count(right, CLASS_COLOURS["water"])
    assert count(wrong, CLASS_COLOURS["farm"]) == count(right, CLASS_COLOURS["farm"])


def test_error_map_keeps_the_shape_of_the_ground():
    north_south = zones()
    north_south["geometry"] = shapely.transform(north_south.geometry.to_numpy(), lambda c: c[:, ::-1])
    turned = patches().rename(columns={"x": "y", "y": "x"})
    flat, tall = error_map(zones(), patches(), CLASS_COLOURS), error_map(north_south, turned, CLASS_COLOURS)
    assert drawn(tall).shape[0] > 2 * drawn(flat).shape[0]


def test_fold_map_shows_the_scene_the_buffer_and_the_test_region():
    bare = drawn(fold_map(zones(), patches()))
    test = drawn(fold_map(zones(), patches(fold=(-1, -1, -1, -1, 1, 1, 1, 1))))
    assert count(test, (0, 0, 0)) > count(bare, (0, 0, 0)) + 100
    outlined = drawn(fold_map(zones(), patches().assign(buffer=True)))
    assert count(outlined, (0, 0, 0), 120) > count(bare, (0, 0, 0), 120) + 50
    scene = np.zeros((3, 20, 30))
    scene[:, :10] = np.linspace(1, 2, 30)  # the south half is without data
    shown = drawn(fold_map(zones(), patches(), backdrops=[Imagery(scene, tuple(zones().total_bounds))]))
    assert bare.shape == shown.shape
    changed = np.flatnonzero((abs(bare - shown) > 25).any(axis=(1, 2)))
    assert 0 < len(changed) < 0.6 * bare.shape[0]
    assert changed.max() - changed.min() < 0.6 * bare.shape[0]


@pytest.fixture
def mapped(tmp_path):
    """A map of 80 m cells over a scene of 70 x 92 px: class 1 above, 2 in the middle, 3 below, which is outside."""
    grid = make_grid(9, 12, 80.0)
    classes = np.repeat(np.arange(9) // 3 + 1, 12).reshape(9, 12).astype(np.uint8)
    with create(tmp_path / "s_class.tif", grid, ["class"], dtype="uint8", nodata=0) as writer:
        writer.write(grid.whole, classes[None])
        writer.describe_classes(dict(enumerate("abc", 1)), dict(enumerate(COLOURS, 1)))
    applicable = {"dissimilarity": classes.astype(np.float32), "applicable": (classes < 3).astype(np.float32)}
    write_raster(tmp_path / "s_applicability.tif", applicable, grid=grid)
    return tmp_path


def scene_of(folder, names=("R", "G", "B")):
    rows, columns = np.mgrid[:70, :92].astype(np.float32)
    values = dict(zip(names, (rows / 70, columns / 92, (rows + columns) / 162), strict=False))
    return Raster.open(write_raster(folder / "scene.tif", values, valid=(rows >= 16) | (columns >= 24)))


@pytest.mark.parametrize("names", [("R", "G", "B"), ("NDVI",)])
def test_class_map_is_drawn_with_and_without_natural_colours(mapped, names):
    with scene_of(mapped, names) as scene:
        pixels = drawn(class_map(scene, mapped, "s", COLOURS))
    assert pixels.shape[1] > 600
    for colour in COLOURS:
        assert count(pixels, colour) > 500


def test_class_map_greys_what_is_outside(mapped):
    greyed = np.round(0.35 * np.array(COLOURS[2]) + 0.65 * np.array(OUTSIDE))
    with scene_of(mapped) as scene:
        plain, shown = (drawn(class_map(scene, mapped, "s", COLOURS, outside=part)) for part in (None, 1 / 3))
    assert count(plain, greyed) == 0
    assert count(shown, greyed) > 1_000
    assert count(plain, COLOURS[1]) == count(shown, COLOURS[1])
