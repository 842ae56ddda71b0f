import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from rasterio.windows import Window

from landfold.core.settings import validate
from landfold.geo.grid import Grid
from landfold.geo.raster import Raster
from landfold.patches.cut import PatchError
from landfold.patches.labels import LabelError, LabelSettings, read_labels
from landfold.patches.pixels import check_pixels, pixel_summary, pixel_warnings, write_label_raster
from tests.factories import ORIGIN_X, ORIGIN_Y, box, leftovers, make_grid, params, tree, write_band, write_raster
from tests.factories import write_labels as write_vectors

GRID = make_grid(20, 30)
NUMBERED = {"classes": {"field": [10], "water": [20]}, "exclude": []}


def read(folder, kind="polygons", **changes):
    fields = {"points": {"invalid": None}, "raster": {"attribute": None, "invalid": None, "resampling": "nearest"}}
    content = params()["labels"] | {"kind": kind, "unit": "pixel"} | fields.get(kind, {}) | changes
    settings = validate(content, LabelSettings, where="labels")
    return read_labels(folder, settings, scenes=folder, find=lambda folder: ())


def draw(folder, labels, *, grid=GRID, valid=None, **options):
    """The pixels of the written raster and the counts."""
    scene = write_raster(folder / "scene.tif", {"R": np.ones(grid.shape, np.uint16)}, grid=grid, valid=valid)
    with Raster.open(scene) as raster:
        counts = write_label_raster(folder / "out/s.tif", "s", raster, labels, **options)
    with rasterio.open(folder / "out/s.tif") as dataset:
        return dataset.read(1), counts


def nested(folder):
    """A field, a lake in it, and a pond in the lake, which is of the same class."""
    shapes = [("lake", box(60, 60, 80, 80)), ("crop", box(0, 0, 200, 150)), ("lake", box(50, 50, 100, 100))]
    write_vectors(folder / "labels/l.gpkg", shapes)
    expected = np.zeros(GRID.shape, np.uint8)
    expected[:15, :20] = 1
    expected[5:10, 5:10] = 2
    return expected


def test_the_raster_of_polygons_has_their_classes_on_the_scenes_grid(tmp_path):
    """Without data: the first two rows, of which 40 px are labelled, and some that no label names."""
    expected = nested(tmp_path)
    valid = np.ones(GRID.shape, dtype=bool)
    valid[:2], valid[:, 25:] = False, False
    found, counts = draw(tmp_path, read(tmp_path / "labels"), valid=valid)
    np.testing.assert_array_equal(found, expected)
    assert counts == {
        "class_px": {"field": 13 * 20 - 25, "water": 25},
        "valid_px": 18 * 25,
        "labelled_without_data_px": 40,
        "overlapping_px": 25,
    }
    assert leftovers(tmp_path) == []


def test_the_file_is_a_cog_that_names_its_classes_and_has_no_colours(tmp_path):
    grid = make_grid(300, 520, x_px=7, y_px=3)
    nested(tmp_path)
    draw(tmp_path, read(tmp_path / "labels"), grid=grid)
    with rasterio.open(tmp_path / "out/s.tif") as dataset:
        assert Grid.of(dataset) == grid
        assert (dataset.count, dataset.dtypes, dataset.nodata) == (1, ("uint8",), 0)
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.block_shapes == [(256, 256)]
        assert dataset.overviews(1)
        assert dataset.descriptions == ("class",)
        tags = {name: value for name, value in dataset.tags(1).items() if name.startswith("CLASS_")}
        assert tags == {"CLASS_1": "field", "CLASS_2": "water"}
        with pytest.raises(ValueError, match="NULL color table"):
            dataset.colormap(1)
    assert sorted(tree(tmp_path / "out")) == ["s.tif"]


def points(folder):
    """A lake by two points to one, a tie, and a field without data."""
    shapes = [("crop", 25, 35), ("lake", 26, 36), ("lake", 21, 31), ("crop", 45, 35), ("lake", 45, 35), ("crop", 5, 5)]
    places = [(kind, shapely.Point(ORIGIN_X + east, ORIGIN_Y - south)) for kind, east, south in shapes]
    write_vectors(folder / "labels/l.gpkg", [*places, ("crop", box(200, 190, 210, 200).centroid)])
    expected = np.zeros(GRID.shape, np.uint8)
    expected[3, 2], expected[0, 0], expected[19, 20] = 2, 1, 1
    return expected


def test_the_raster_of_points_has_the_class_of_most_of_them(tmp_path):
    expected = points(tmp_path)
    valid = np.ones(GRID.shape, dtype=bool)
    valid[0] = False
    found, counts = draw(tmp_path, read(tmp_path / "labels", "points"), valid=valid)
    np.testing.assert_array_equal(found, expected)
    assert counts == {
        "class_px": {"field": 1, "water": 1},
        "valid_px": 19 * 30,
        "labelled_without_data_px": 1,
        "points_in_conflict": 2,
    }


def label_raster(folder, resolution_m=10.0):
    """A lake below the diagonal; nothing in one corner."""
    grid = make_grid(round(200 / resolution_m), round(300 / resolution_m), resolution_m)
    rows, columns = np.indices(grid.shape)
    values = np.where(rows > columns, 20, 10).astype(np.uint8)
    values[-1, -1] = 0
    write_band(folder / "labels/l.tif", grid, values, nodata=0)
    return np.array([0, 1, 2], np.uint8)[values // 10]


@pytest.mark.parametrize("resampling", ["nearest", "mode"])
def test_the_raster_of_a_raster_is_put_onto_the_scenes_pixels(tmp_path, resampling):
    fine = label_raster(tmp_path, 20.0)
    found, counts = draw(tmp_path, read(tmp_path / "labels", "raster", **(NUMBERED | {"resampling": resampling})))
    expected = np.kron(fine, np.ones((2, 2), np.uint8))
    np.testing.assert_array_equal(found, expected)
    assert counts == {
        "class_px": {"field": int((expected == 1).sum()), "water": int((expected == 2).sum())},
        "valid_px": 600,
        "labelled_without_data_px": 0,
    }


@pytest.mark.parametrize("kind", ["polygons", "points", "raster", "warped"])
def test_strips_of_any_height_give_the_same_bytes_and_counts(tmp_path, kind):
    {"polygons": nested, "points": points, "raster": label_raster, "warped": lambda f: label_raster(f, 25.0)}[kind](
        tmp_path
    )
    changes = NUMBERED if kind in ("raster", "warped") else {}
    labels = read(tmp_path / "labels", kind.replace("warped", "raster"), **changes)
    valid = np.indices(GRID.shape).sum(axis=0) > 9
    made = set()
    for strip_px in (1, 3, 7, 20, 256):
        _, counts = draw(tmp_path, labels, valid=valid, strip_px=strip_px)
        made.add(((tmp_path / "out/s.tif").read_bytes(), str(counts)))
    assert len(made) == 1


def test_a_raster_that_spans_tiles_is_the_same_by_strips(tmp_path):
    nested(tmp_path)
    labels, grid = read(tmp_path / "labels"), make_grid(530, 270)
    made = set()
    for strip_px in (100, 256, 1000):
        draw(tmp_path, labels, grid=grid, strip_px=strip_px)
        made.add((tmp_path / "out/s.tif").read_bytes())
    assert len(made) == 1


def test_a_failure_in_the_last_strip_leaves_the_earlier_file(tmp_path):
    label_raster(tmp_path)
    labels = read(tmp_path / "labels", "raster", **NUMBERED)
    draw(tmp_path, labels)
    values = np.full(GRID.shape, 10, np.uint8)
    values[-1] = 77
    write_band(tmp_path / "labels/l.tif", GRID, values)
    before = tree(tmp_path / "out")
    with pytest.raises(LabelError, match=r"l\.tif: class 77 is in neither"):
        draw(tmp_path, labels, strip_px=5)
    assert tree(tmp_path / "out") == before
    assert leftovers(tmp_path) == []


def test_as_many_classes_as_bytes_have_numbers(tmp_path):
    names = {f"c{number}": [number] for number in range(1, 256)}
    values = np.arange(600, dtype=np.uint16).reshape(20, 30) % 255 + 1
    write_band(tmp_path / "labels/l.tif", GRID, values)
    found, counts = draw(tmp_path, read(tmp_path / "labels", "raster", classes=names, exclude=[]))
    np.testing.assert_array_equal(found, values)
    assert (counts["class_px"]["c1"], counts["class_px"]["c255"]) == (3, 2)
    with rasterio.open(tmp_path / "out/s.tif") as dataset:
        assert dataset.tags(1)["CLASS_255"] == "c255"


def test_only_a_strip_is_read_at_a_time(tmp_path, monkeypatch):
    nested(tmp_path)
    labels, read_px = read(tmp_path / "labels"), []
    original = Raster.read_mask

    def counting(raster, window):
        read_px.append(window)
        return original(raster, window)

    monkeypatch.setattr(Raster, "read_mask", counting)
    draw(tmp_path, labels, grid=make_grid(600, 30))
    assert read_px == [Window(0, 0, 30, 256), Window(0, 256, 30, 256), Window(0, 512, 30, 88)]


ONE = {"class_px": {"field": 5, "water": 0}, "valid_px": 9, "labelled_without_data_px": 2, "points_in_conflict": 4}
TWO = {"class_px": {"field": 1, "water": 3}, "valid_px": 8, "labelled_without_data_px": 0, "points_in_conflict": 0}


def test_scenes_add_up():
    assert pixel_summary({"one": ONE, "two": TWO}) == {
        "class_px": {"field": 6, "water": 3},
        "labelled_px": {"valid": 9, "total": 11},
        "valid_px": 17,
        "labelled_without_data_px": 2,
        "points_in_conflict": 4,
    }


def test_a_class_without_a_pixel_is_refused_by_name():
    check_pixels(pixel_summary({"one": ONE, "two": TWO}), ["field", "water"])
    with pytest.raises(LabelError, match=r"no labelled pixel of class water has data in any scene: bring labels of it"):
        check_pixels(pixel_summary({"one": ONE}), ["field", "water"])


def test_a_class_without_a_patch_and_lost_points_are_told():
    summary = pixel_summary({"one": ONE, "two": TWO})
    table = geopandas.GeoDataFrame({"label": ["field", "field"]})
    no_patch, lost = pixel_warnings(summary, table)
    assert no_patch.startswith("no patch of class water: its pixels are labelled, but ")
    assert lost == "4 points share a pixel with as many points of another class; these pixels have no label"
    assert pixel_warnings(pixel_summary({"two": TWO}), geopandas.GeoDataFrame({"label": ["field", "water"]})) == []
    with pytest.raises(PatchError, match="no patch is left"):
        pixel_warnings(summary, table[:0])
