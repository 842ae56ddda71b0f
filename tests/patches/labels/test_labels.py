import geopandas
import numpy as np
import pandas
import pyogrio
import pytest
import rasterio
import scipy.ndimage
import shapely
from affine import Affine
from rasterio.crs import CRS
from rasterio.windows import Window

from landfold.core.settings import SettingsError, validate
from landfold.geo.dataset import RasterError
from landfold.geo.grid import Grid
from landfold.geo.vector import VectorError
from landfold.patches.labels import LabelError, LabelSettings, check_ground, read_labels
from landfold.patches.labels.vectors import overlap_area, read_polygons
from landfold.patches.settings import UNLABELLED
from landfold.scenes.sensors.scene_files import BandFile, SceneFiles
from tests.factories import CRS_UTM33, ORIGIN_X, ORIGIN_Y, box, centres, make_grid, params, write_band, write_labels

FIELDS = {
    "polygons": {},
    "points": {"invalid": None},
    "raster": {"attribute": None, "invalid": None, "resampling": "nearest"},
    "table": {"attribute": None, "invalid": None},
    "folder": {"attribute": None, "invalid": None},
}


def label_settings(kind="polygons", **changes):
    return validate(params()["labels"] | {"kind": kind} | FIELDS[kind] | changes, LabelSettings, where="labels")


def read(folder, kind="polygons", *, delivered=(), root=None, **changes):
    return read_labels(folder, label_settings(kind, **changes), scenes=root or folder, find=lambda folder: delivered)


def burned(folder, grid=None, window=None, kind="polygons", **changes):
    """Class numbers of a window, (y, x)."""
    grid = grid or make_grid(20, 30)
    with read(folder, kind, **changes).on("s", grid) as labels:
        return labels.classes(window or grid.whole)


def test_a_pixel_has_the_class_of_the_polygon_at_its_centre(tmp_path):
    write_labels(tmp_path / "l.gpkg", [("crop", box(20, 30, 76, 54)), ("lake", box(200, 0, 300, 200))])
    expected = np.full((20, 30), UNLABELLED, np.uint8)
    expected[3:5, 2:8] = 1  # to 76 m: the eighth pixel's centre is at 75 m; to 54 m: the sixth row's at 55 m
    expected[:, 20:] = 2
    found = burned(tmp_path)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


def test_a_window_is_the_same_piece_of_the_whole(tmp_path):
    triangle = shapely.Polygon(np.array(box(15, 12, 265, 180).exterior.coords)[:3])
    write_labels(tmp_path / "l.gpkg", [("crop", triangle), ("lake", box(100, 90, 140, 120))])
    whole = burned(tmp_path)
    assert set(np.unique(whole)) == {0, 1, 2}
    for window in make_grid(20, 30).blocks(7):
        np.testing.assert_array_equal(burned(tmp_path, window=window), whole[window.toslices()])


def test_zone_values_are_burned_as_the_classes_are(tmp_path):
    """The smaller polygon wins; 3, 3.0 and "3" are one value; a polygon without one keeps its class."""
    shapes = [box(0, 0, 300, 200), box(20, 30, 80, 50), box(100, 30, 180, 50)]
    table = geopandas.GeoDataFrame({"kind": ["crop", "lake", "crop"], "farm": [12.0, 3.0, None]}, geometry=shapes)
    table.set_crs(CRS_UTM33).to_file(tmp_path / "l.gpkg")
    labels = read(tmp_path, zone_attribute="farm")
    assert labels.zone_values == ("12", "3", None)
    with labels.on("s", make_grid(20, 30)) as there:
        found, classes = there.zone_values(make_grid(20, 30).whole), there.classes(make_grid(20, 30).whole)
    expected = np.ones((20, 30), dtype=int)
    expected[3:5, 2:8], expected[3:5, 10:18] = 2, 3
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(classes == 2, expected == 2)
    assert read(tmp_path).zone_values == ()
    with pytest.raises(VectorError, match=r"no attribute 'field' \(labels\.zone_attribute\); the file has kind, farm"):
        read(tmp_path, zone_attribute="field")


def test_labels_in_another_crs_land_on_the_same_pixels(tmp_path):
    shapes = [("crop", box(20, 30, 80, 50)), ("lake", box(200, 0, 300, 200))]
    write_labels(tmp_path / "utm" / "l.gpkg", shapes)
    write_labels(tmp_path / "degrees" / "l.geojson", shapes, to="EPSG:4326")
    write_labels(tmp_path / "neighbour" / "l.gpkg", shapes, to="EPSG:32632")
    for folder in ("degrees", "neighbour"):
        np.testing.assert_array_equal(burned(tmp_path / folder), burned(tmp_path / "utm"))


@pytest.mark.parametrize("order", [1, -1])
def test_the_smaller_polygon_wins_whatever_the_order(tmp_path, order):
    shapes = [("crop", box(0, 0, 300, 200)), ("lake", box(50, 50, 100, 100)), ("meadow", box(60, 60, 80, 80))]
    write_labels(tmp_path / "l.gpkg", shapes[::order])
    found = burned(tmp_path)
    assert (found[5:10, 5:10] == 2).sum() == 25 - 4
    assert (found[6:8, 6:8] == 1).all()


def test_pixels_in_polygons_of_several_classes_are_counted(tmp_path):
    """A field in a lake in a field: burned in any order, all of the lake is shared."""
    nested = [("crop", box(0, 0, 300, 200)), ("lake", box(50, 50, 100, 100)), ("meadow", box(60, 60, 80, 80))]
    write_labels(tmp_path / "l.gpkg", [*nested, ("meadow", box(0, 0, 20, 20))])
    with read(tmp_path).on("s", make_grid(20, 30)) as labels:
        assert labels.conflicts(Window(0, 0, 30, 20)) == {"overlapping_px": 25}
        assert labels.conflicts(Window(0, 0, 30, 6)) == {"overlapping_px": 5}
        assert labels.conflicts(Window(10, 0, 20, 20)) == {"overlapping_px": 0}


def test_polygons_side_by_side_share_no_pixel(tmp_path):
    write_labels(tmp_path / "l.gpkg", [("crop", box(0, 0, 100, 100)), ("lake", box(100, 0, 300, 107))])
    with read(tmp_path).on("s", make_grid(20, 30)) as labels:
        assert labels.conflicts(Window(0, 0, 30, 20)) == {"overlapping_px": 0}


def test_classes_merge_values_and_their_order_gives_the_numbers(tmp_path):
    write_labels(tmp_path / "l.gpkg", [("crop", box(0, 0, 50, 50)), ("meadow", box(50, 0, 99, 50))])
    assert set(np.unique(burned(tmp_path))) == {0, 1}
    apart = {"water": ["lake"], "meadow": ["meadow"], "field": ["crop"]}
    assert set(np.unique(burned(tmp_path, classes=apart))) == {0, 2, 3}


def test_an_excluded_value_is_as_if_it_were_not_there(tmp_path):
    bowtie = shapely.Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])
    write_labels(tmp_path / "l.gpkg", [("crop", box(0, 0, 300, 200)), ("road", box(50, 50, 60, 60)), ("road", bowtie)])
    assert (burned(tmp_path) == 1).all()


def test_ground_far_from_all_polygons_is_unlabelled(tmp_path):
    write_labels(tmp_path / "l.gpkg", [("crop", box(0, 0, 50, 50))])
    elsewhere = make_grid(5, 6, x_px=1000)
    assert (burned(tmp_path, elsewhere) == UNLABELLED).all()
    with read(tmp_path).on("s", elsewhere) as labels:
        assert labels.polygons.empty


def test_overlap_counts_pairs_of_different_classes_once(tmp_path):
    shapes = [
        ("crop", box(0, 0, 100, 100)),
        ("lake", box(50, 50, 150, 150)),  # 2500 m2 with the crop
        ("meadow", box(0, 0, 20, 20)),  # same class as crop
        ("lake", box(140, 140, 160, 160)),  # same class as the other lake
        ("crop", box(150, 0, 200, 50)),  # touches a lake along no area
    ]
    write_labels(tmp_path / "l.gpkg", shapes)
    assert overlap_area(read_polygons(tmp_path, label_settings()).polygons) == pytest.approx(2500)


def refused(folder, message, kind="polygons", **changes):
    with pytest.raises((LabelError, VectorError), match=message):
        read(folder, kind, **changes)


GOOD = [("crop", box(0, 0, 50, 50))]


def test_no_label_file_is_refused(tmp_path):
    (tmp_path / "readme.txt").touch()
    refused(tmp_path, r"expected one vector file of labels \(GeoPackage, .*found none")
    refused(tmp_path / "nowhere", "found none")


def test_several_label_files_are_refused_by_name(tmp_path):
    write_labels(tmp_path / "a.gpkg", GOOD)
    write_labels(tmp_path / "b.geojson", GOOD, to="EPSG:4326")
    refused(tmp_path, r"found a\.gpkg, b\.geojson")


def test_a_shapefile_with_its_companions_is_one_file(tmp_path):
    write_labels(tmp_path / "l.shp", GOOD)
    assert len(list(tmp_path.iterdir())) > 1
    assert (burned(tmp_path) == 1).sum() == 25


def test_a_broken_file_is_refused(tmp_path):
    (tmp_path / "l.gpkg").write_bytes(b"no such thing")
    refused(tmp_path, r"l\.gpkg: not a vector file that can be read")


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_a_file_without_crs_is_refused(tmp_path):
    write_labels(tmp_path / "l.gpkg", GOOD, crs=None)
    refused(tmp_path, r"l\.gpkg: the file has no CRS, and none is guessed")


def test_a_table_without_geometry_is_refused(tmp_path):
    pyogrio.write_dataframe(pandas.DataFrame({"kind": ["crop"]}), tmp_path / "l.gpkg")
    refused(tmp_path, r"l\.gpkg: a table without geometry")


def test_an_absent_attribute_is_refused_with_those_that_are_there(tmp_path):
    write_labels(tmp_path / "l.gpkg", GOOD)
    refused(tmp_path, r"no attribute 'fclass' \(labels\.attribute\); the file has kind", attribute="fclass")


def test_a_value_that_no_list_names_is_refused(tmp_path):
    write_labels(tmp_path / "l.gpkg", [*GOOD, ("swamp", box(0, 0, 9, 9)), ("bog", box(0, 0, 9, 9))])
    refused(tmp_path, r"class bog, swamp is in neither labels\.classes nor labels\.exclude")


def test_a_polygon_without_value_is_refused_by_row(tmp_path):
    write_labels(tmp_path / "l.gpkg", [*GOOD, (None, box(0, 0, 9, 9))])
    refused(tmp_path, r"1 polygons have no value of 'kind' \(labels\.attribute\) \(row 1\)")


@pytest.mark.parametrize(
    "shape",
    [
        shapely.Polygon([(0, 0), (10, 10), (10, 0), (0, 10)]),
        shapely.Point(0, 0),
        shapely.LineString([(0, 0), (1, 1)]),
        shapely.Polygon(),
        None,
    ],
)
def test_what_is_no_valid_polygon_is_refused_by_row(tmp_path, shape):
    table = geopandas.GeoDataFrame({"kind": ["crop", "lake"]}, geometry=[GOOD[0][1], shape], crs=CRS_UTM33)
    table.to_file(tmp_path / "l.gpkg")
    refused(tmp_path, r"l\.gpkg: 1 features are not valid polygons \(row 1\); set labels\.invalid: repair")


BOWTIE = shapely.Polygon(np.array([(0, 0), (100, 100), (100, 0), (0, 100)]) * [1, -1] + [ORIGIN_X, ORIGIN_Y])


def test_invalid_polygons_are_repaired_counted_and_named(tmp_path):
    write_labels(tmp_path / "l.gpkg", [("lake", box(200, 0, 300, 100)), ("crop", BOWTIE)])
    labels = read(tmp_path, invalid="repair")
    assert labels.summary(CRS_UTM33) == {"label_overlap_m2": 0, "labels_mended": 1}
    assert [w.split(": ")[1] for w in labels.warnings] == ["1 invalid polygons were repaired (row 1)"]
    assert sorted(shapely.area(labels.polygons.geometry.values)) == [5000, 10_000]
    found = burned(tmp_path, invalid="repair")
    assert found[1, 0] == 1
    assert found[1, 9] == 1
    assert (found[1, 3:7] == UNLABELLED).all(), "between the wings"
    assert (
        read_polygons(tmp_path, label_settings(invalid="repair", exclude=["road", "crop"], classes=TWO)).repaired == 0
    )


TWO = {"water": ["lake"], "land": ["rock"]}


@pytest.mark.parametrize("shape", [shapely.Point(0, 0), shapely.Polygon([(0, 0), (9, 9), (0, 0)]), None])
def test_what_cannot_be_repaired_is_refused_by_row(tmp_path, shape):
    table = geopandas.GeoDataFrame({"kind": ["crop", "lake"]}, geometry=[GOOD[0][1], shape], crs=CRS_UTM33)
    table.to_file(tmp_path / "l.gpkg")
    refused(tmp_path, r"1 features are not valid polygons \(row 1\); and nothing of them is left", invalid="repair")


def test_repairing_keeps_area_and_drops_lines(tmp_path):
    corners = [(0, 0), (100, 0), (100, 50), (100, 150), (100, 50), (0, 50)]
    spike = shapely.Polygon([(ORIGIN_X + east, ORIGIN_Y - south) for east, south in corners])
    write_labels(tmp_path / "l.gpkg", [("crop", spike)])
    repaired = read(tmp_path, invalid="repair").polygons.geometry.iloc[0]
    assert repaired.equals(box(0, 0, 100, 50))


def test_valid_polygons_are_the_same_with_repair(tmp_path):
    write_labels(tmp_path / "l.gpkg", [("crop", box(20, 30, 76, 54)), ("lake", box(200, 0, 300, 200))])
    np.testing.assert_array_equal(burned(tmp_path, invalid="repair"), burned(tmp_path))
    assert read(tmp_path, invalid="repair").warnings == ()


def test_a_file_of_several_layers_needs_a_choice(tmp_path):
    path = tmp_path / "l.gpkg"
    for layer, left in (("old", 0), ("new", 100)):
        table = geopandas.GeoDataFrame({"kind": ["crop"]}, geometry=[box(left, 0, left + 50, 50)], crs=CRS_UTM33)
        table.to_file(path, layer=layer)
    pyogrio.write_dataframe(pandas.DataFrame({"note": ["styles and such"]}), path, layer="notes")
    refused(tmp_path, r"l\.gpkg: 2 layers \(old, new\); choose one with labels\.layer")
    refused(tmp_path, r"no layer 'newest' \(labels\.layer\); the file has old, new", layer="newest")
    assert np.flatnonzero(burned(tmp_path, layer="old")[0]).tolist() == [0, 1, 2, 3, 4]
    assert np.flatnonzero(burned(tmp_path, layer="new")[0]).tolist() == [10, 11, 12, 13, 14]


def test_a_layer_of_a_file_that_has_none_is_refused(tmp_path):
    geopandas.GeoDataFrame({"kind": ["crop"]}, geometry=[box(0, 0, 9, 9)], crs=CRS_UTM33).to_parquet(
        tmp_path / "l.parquet"
    )
    refused(tmp_path, r"l\.parquet: no layer 'a' \(labels\.layer\); the file has none", layer="a")


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".shp", ".fgb", ".gml", ".parquet", ".zip"])
def test_formats_give_the_same_classes(tmp_path, suffix):
    folder = tmp_path / "labels"
    folder.mkdir()
    table = geopandas.GeoDataFrame({"kind": ["crop"]}, geometry=[box(20, 30, 80, 50)], crs=CRS_UTM33)
    if suffix == ".parquet":
        table.rename_geometry("shape").to_parquet(folder / "l.parquet")
    elif suffix == ".geojson":
        table.to_crs(4326).to_file(folder / "l.geojson")
    elif suffix == ".zip":
        table.to_file(folder / "l.shz")
        (folder / "l.shz").rename(folder / "l.zip")
    else:
        table.to_file(folder / f"l{suffix}")
    expected = np.zeros((20, 30), np.uint8)
    expected[3:5, 2:8] = 1
    np.testing.assert_array_equal(burned(folder), expected)


@pytest.mark.parametrize("values", [[1, 2], [1.0, 2.0], ["1", "2"]])
def test_numbers_and_text_are_one_value(tmp_path, values):
    shapes = [box(0, 0, 50, 50), box(100, 0, 150, 50)]
    geopandas.GeoDataFrame({"kind": values}, geometry=shapes, crs=CRS_UTM33).to_file(tmp_path / "l.gpkg")
    found = burned(tmp_path, classes={"field": [1], "water": ["2"]}, exclude=[3.0])
    assert [found[0, 0], found[0, 10]] == [1, 2]
    refused(tmp_path, r"class 2 is in neither", classes={"field": [1], "water": [20]})


def test_a_file_of_excluded_values_alone_is_refused(tmp_path):
    write_labels(tmp_path / "l.gpkg", [("road", box(0, 0, 50, 50))])
    refused(tmp_path, r"l\.gpkg: no feature is left")


# --- points


def write_points(path, points, *, to=None):
    """Points of (kind, metres east, metres south)."""
    shapes = [shapely.Point(ORIGIN_X + east, ORIGIN_Y - south) for _, east, south in points]
    return write_labels(path, [(kind, shape) for (kind, *_), shape in zip(points, shapes, strict=True)], to=to)


@pytest.mark.parametrize("to", [None, "EPSG:4326"])
def test_points_are_counted_in_their_pixels(tmp_path, to):
    points = [("crop", 25, 35), ("crop", 26, 36), ("lake", 25, 35), ("lake", 299, 199), ("road", 5, 5)]
    outside = [("crop", -1, 35), ("crop", 301, 35), ("crop", 25, -1), ("crop", 25, 201)]
    write_points(tmp_path / "l.geojson" if to else tmp_path / "l.gpkg", points + outside, to=to)
    labels = read(tmp_path, "points")
    assert labels.summary(CRS_UTM33) == {"label_points": 8}
    grid = make_grid(20, 30)
    with labels.on("s", grid) as there:
        expected = np.zeros((2, 30), int)
        expected[0, 2], expected[1, 2], expected[1, 29] = 2, 1, 1
        np.testing.assert_array_equal(there.counts(grid.whole), expected)
        np.testing.assert_array_equal(there.counts(Window(2, 3, 4, 1)), expected[:, 2:6])
        assert there.counts(Window(2, 4, 4, 5)).sum() == 0


def test_a_pixel_has_the_class_of_most_of_its_points(tmp_path):
    points = [
        *(("crop", 25, 35), ("lake", 26, 36), ("lake", 21, 31)),  # lake
        *(("crop", 45, 35), ("lake", 45, 35)),  # a tie
        *(("crop", 65, 35), ("meadow", 66, 35), ("lake", 67, 35)),  # crop and meadow are one class
        *(("lake", 299, 199), ("road", 298, 198), ("lake", 301, 35)),  # an excluded one, and one outside
    ]
    write_points(tmp_path / "l.gpkg", points)
    expected = np.zeros((20, 30), np.uint8)
    expected[3, 2], expected[3, 6], expected[19, 29] = 2, 1, 2
    with read(tmp_path, "points").on("s", make_grid(20, 30)) as there:
        found = there.classes(Window(0, 0, 30, 20))
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(there.classes(Window(2, 3, 5, 4)), expected[3:7, 2:7])
        assert there.conflicts(Window(0, 0, 30, 20)) == {"points_in_conflict": 2}
        assert there.conflicts(Window(0, 4, 30, 16)) == {"points_in_conflict": 0}
        assert not there.classes(Window(0, 4, 30, 2)).any()


def test_a_tie_of_two_classes_holds_beside_a_smaller_third(tmp_path):
    three = {"field": ["crop"], "water": ["lake"], "meadow": ["meadow"]}
    lakes_and_meadows = [("lake", 25, 35), ("meadow", 25, 35)] * 2
    write_points(tmp_path / "l.gpkg", [("crop", 25, 35), *lakes_and_meadows, *[("meadow", 35, 35)] * 300])
    with read(tmp_path, "points", classes=three).on("s", make_grid(20, 30)) as there:
        assert there.classes(Window(2, 3, 2, 1)).tolist() == [[0, 3]]
        assert there.conflicts(Window(0, 0, 30, 20)) == {"points_in_conflict": 5}


def test_a_point_on_a_border_belongs_to_the_pixel_right_and_below(tmp_path):
    write_points(tmp_path / "l.gpkg", [("crop", 20, 30), ("crop", 0, 0), ("crop", 300, 10), ("crop", 10, 200)])
    with read(tmp_path, "points").on("s", make_grid(20, 30)) as there:
        assert there.counts(Window(2, 3, 1, 1)).tolist() == [[1], [0]]
        assert there.counts(Window(0, 0, 30, 20)).sum() == 2, "the right and lower edge lie outside"


def test_a_multipoint_counts_as_its_points(tmp_path):
    shape = shapely.MultiPoint([(ORIGIN_X + 5, ORIGIN_Y - 5), (ORIGIN_X + 15, ORIGIN_Y - 5)])
    write_labels(tmp_path / "l.gpkg", [("crop", shape)])
    with read(tmp_path, "points").on("s", make_grid(20, 30)) as there:
        assert there.counts(Window(0, 0, 3, 1)).tolist() == [[1, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize("shape", [box(0, 0, 9, 9), shapely.Point(), None])
def test_what_is_no_point_is_refused_by_row(tmp_path, shape):
    table = geopandas.GeoDataFrame({"kind": ["crop", "lake"]}, geometry=[shapely.Point(0, 0), shape], crs=CRS_UTM33)
    table.to_file(tmp_path / "l.gpkg")
    refused(tmp_path, r"l\.gpkg: 1 features are not points \(row 1\)", "points")


# --- raster

NUMBERED = {"classes": {"field": [10, 11], "water": ["20"]}, "exclude": [30]}


def write_label_raster(folder, values, grid, **options):
    return write_band(folder / "classes.tif", grid, np.asarray(values), **options)


def warped(folder, grid=None, window=None, **changes):
    return burned(folder, grid, window, "raster", **(NUMBERED | changes))


def field_and_lake(height=20, width=30):
    """Class 10 with a lake of 20 in an odd place, a road of 30, and a corner without data (0)."""
    values = np.full((height, width), 10, np.uint8)
    values[2:7, 11:17], values[9, :], values[:4, :3] = 20, 30, 0
    expected = np.where(values == 20, 2, 1).astype(np.uint8)
    expected[9, :], expected[:4, :3] = 0, 0
    return values, expected


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_a_raster_on_the_scenes_grid_is_taken_as_it_is(tmp_path, dtype):
    values, expected = field_and_lake()
    write_label_raster(tmp_path, values.astype(dtype), make_grid(20, 30), nodata=0)
    np.testing.assert_array_equal(warped(tmp_path), expected)
    for window in make_grid(20, 30).blocks(7):
        np.testing.assert_array_equal(warped(tmp_path, window=window), expected[window.toslices()])


@pytest.mark.parametrize(
    ("dtype", "resampling"), [("uint8", "nearest"), ("float32", "nearest"), ("uint8", "mode"), ("int32", "mode")]
)
def test_a_raster_around_the_scene_lands_on_the_same_pixels(tmp_path, dtype, resampling):
    values, expected = field_and_lake()
    wide = np.zeros((31, 47), np.uint8)
    wide[5:25, 9:39] = values
    write_label_raster(tmp_path, wide.astype(dtype), make_grid(31, 47, x_px=-9, y_px=-5), nodata=0)
    np.testing.assert_array_equal(warped(tmp_path, resampling=resampling), expected)


@pytest.mark.parametrize("how", ["mask", "nan", "undeclared nan", "none"])
def test_ground_without_label_is_unlabelled_however_it_is_told(tmp_path, how):
    values, expected = field_and_lake()
    small = make_grid(15, 20, x_px=3, y_px=2)
    part = values[2:17, 3:23]
    options = {"mask": part != 20} if how == "mask" else {"nodata": np.nan} if how == "nan" else {}
    if "nan" in how:
        part = np.where(part == 20, np.nan, part).astype(np.float32)
    write_label_raster(tmp_path, part, small, **options)
    inside = np.zeros((20, 30), np.uint8)
    inside[2:17, 3:23] = expected[2:17, 3:23]
    if how != "none":
        inside[inside == 2] = UNLABELLED
    found = warped(tmp_path, classes={"field": [10], "water": [20], "nothing": [0]})
    np.testing.assert_array_equal(found, np.where(inside == 3, 0, inside))


@pytest.mark.parametrize(
    ("dtype", "resampling"),
    [("uint8", "nearest"), ("int16", "nearest"), ("float32", "nearest"), ("uint8", "mode"), ("int16", "mode")],
)
def test_the_value_zero_may_be_a_class(tmp_path, dtype, resampling):
    write_label_raster(tmp_path, np.zeros((4, 5), dtype), make_grid(4, 5, x_px=1, y_px=1))
    classes = {"field": [0], "water": [20]}
    found = warped(tmp_path, make_grid(20, 30), classes=classes, resampling=resampling)
    expected = np.zeros((20, 30), np.uint8)
    expected[1:5, 1:6] = 1
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", ["uint8", "int16"])
@pytest.mark.parametrize("x_px", [0, 3])
def test_where_alpha_is_zero_there_is_no_label(tmp_path, dtype, x_px):
    values, expected = field_and_lake()
    grid = make_grid(20, 30, x_px=x_px)
    profile = {"driver": "GTiff", "dtype": dtype, "count": 2, "height": 20, "width": 30, "crs": grid.crs}
    with rasterio.open(tmp_path / "l.tif", "w", **profile, transform=grid.transform, alpha="yes") as dataset:
        dataset.write(np.stack([values, np.where(values == 20, 0, 255)]).astype(dtype))
    expected = np.where(expected == 2, UNLABELLED, expected)
    found = warped(tmp_path, classes={"field": [10], "water": [20]}, exclude=[0, 30])
    np.testing.assert_array_equal(found[:, x_px:], expected[:, : 30 - x_px])
    assert (found[:, :x_px] == UNLABELLED).all()


def test_mode_takes_the_class_of_most_ground_and_nearest_that_of_the_centre(tmp_path):
    """Labels of 10/3 m: nine to a pixel of the scene, the centre one alone a lake."""
    values = np.full((60, 90), 10, np.uint8)
    values[1::3, 1::3] = 20
    values[:3, :3] = [[0, 0, 0], [0, 20, 0], [0, 0, 0]]  # most of this pixel is unlabelled
    write_label_raster(tmp_path, values, make_grid(60, 90, 10 / 3), nodata=0)
    assert (warped(tmp_path, resampling="nearest") == 2).all()
    expected = np.ones((20, 30), np.uint8)
    expected[0, 0] = UNLABELLED
    np.testing.assert_array_equal(warped(tmp_path, resampling="mode"), expected)


@pytest.mark.parametrize("how", ["mask", "mask and nodata", "nan"])
def test_ground_without_label_has_a_vote_however_it_is_told(tmp_path, how):
    """Of four label pixels in each of the scene's, one is a field and three are unlabelled."""
    values = np.full((40, 60), 20, np.float32 if how == "nan" else np.uint8)
    values[::2, ::2] = 10
    if how == "nan":
        values[values == 20] = np.nan
    options = {} if how == "nan" else {"mask": values == 10, "nodata": 0 if "nodata" in how else None}
    write_label_raster(tmp_path, values, make_grid(40, 60, 5.0), **options)
    assert (warped(tmp_path, resampling="mode") == UNLABELLED).all()


def overlaps(pixels, size, labels, label_size, start):
    """Lengths that pixels along one axis share with label pixels, (pixel, label)."""
    left, at = np.arange(pixels)[:, None] * size, start + np.arange(labels) * label_size
    return np.clip(np.minimum(left + size, at + label_size) - np.maximum(left, at), 0, None)


@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.95, 1.0, 1.3, 2.0, 2.4, 3.0])
def test_mode_is_the_majority_of_the_ground_at_any_ratio_of_pixels(tmp_path, ratio):
    """Against the shares of the classes by exact areas; GDAL's own mode differs in up to a tenth of these pixels."""
    grid, size, shift_m = make_grid(40, 60), 10 / ratio, 3.7
    shape = (int(480 / size) + 2, int(680 / size) + 2)
    noise = scipy.ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(4, *shape)), (0, 1.5, 1.5))
    values = 10 * (1 + noise.argmax(axis=0)).astype(np.uint8)
    transform = Affine(size, 0, ORIGIN_X - shift_m, 0, -size, ORIGIN_Y + shift_m)
    write_label_raster(tmp_path, values, Grid(CRS_UTM33, transform, *shape))
    down, right = (overlaps(n, 10, m, size, -shift_m) for n, m in zip(grid.shape, shape, strict=True))
    shares = np.stack([down @ (values == value) @ right.T for value in (10, 20, 30, 40)]) / 100
    classes = {"a": [10], "b": [20], "c": [30], "d": [40]}
    found = warped(tmp_path, grid, classes=classes, exclude=[], resampling="mode")
    first, second = np.sort(shares, axis=0)[[-1, -2]]
    clear = first - second > 0.25  # a row and a column of 8 samples may fall to either of two classes
    assert clear.mean() > 0.6
    np.testing.assert_array_equal(found[clear], shares.argmax(axis=0)[clear] + 1)
    assert (found == shares.argmax(axis=0) + 1).mean() > 0.97


def test_a_raster_in_another_crs_lands_where_its_polygon_does(tmp_path):
    """Labels in degrees, finer than the scene; only pixels on the border may differ."""
    shape = box(60, 40, 210, 150)
    degrees = geopandas.GeoSeries([shape], crs=CRS_UTM33).to_crs(4326)
    west, south, east, north = degrees.total_bounds
    step = 1e-5
    west, north = west - 50 * step, north + 50 * step
    height, width = int((north - south) / step) + 50, int((east - west) / step) + 50
    grid = Grid(CRS.from_epsg(4326), Affine(step, 0, west, 0, -step, north), height, width)
    values = rasterio.features.rasterize(degrees, out_shape=grid.shape, transform=grid.transform, default_value=20)
    write_label_raster(tmp_path, values.astype(np.uint8), grid, nodata=0)
    expected = np.zeros((20, 30), np.uint8)
    expected[4:15, 6:21] = 2
    np.testing.assert_array_equal(warped(tmp_path), expected)
    np.testing.assert_array_equal(warped(tmp_path, resampling="mode")[5:14, 7:20], expected[5:14, 7:20])


def test_a_large_raster_in_degrees_is_not_shifted_by_approximation(tmp_path):
    """Numbers that tell the label's row and column, against each scene pixel's centre put into degrees."""
    grid = make_grid(60, 90, 1000.0)
    east, south = (part.ravel() for part in centres(grid))
    there = geopandas.GeoSeries(shapely.points(ORIGIN_X + east, ORIGIN_Y - south), crs=CRS_UTM33).to_crs(4326)
    step = 0.002
    transform = Affine(step, 0, there.x.min() - 0.1, 0, -step, there.y.max() + 0.1)
    columns, rows = ~transform @ (there.x.to_numpy(), there.y.to_numpy())
    height, width = int(rows.max()) + 40, int(columns.max()) + 40
    values = (np.arange(height)[:, None] % 10 * 10 + np.arange(width) % 10).astype(np.uint8)
    write_label_raster(tmp_path, values, Grid(CRS.from_epsg(4326), transform, height, width))
    found = warped(tmp_path, grid, classes={f"c{i}": [i] for i in range(100)}, exclude=[]).ravel() - 1
    inside = (np.abs(rows - np.round(rows)) > 0.01) & (np.abs(columns - np.round(columns)) > 0.01)
    assert inside.mean() > 0.9
    np.testing.assert_array_equal(found[inside], values[rows.astype(int), columns.astype(int)][inside])


def test_a_rotated_or_south_up_raster_lands_on_the_same_pixels(tmp_path):
    values, expected = field_and_lake()
    grid = make_grid(20, 30)
    flipped = Affine(10, 0, ORIGIN_X, 0, 10, ORIGIN_Y - 200)
    write_label_raster(tmp_path / "south", values[::-1], grid, transform=flipped, nodata=0)
    turned = Affine(0, 10, ORIGIN_X, -10, 0, ORIGIN_Y)  # rows run east
    write_label_raster(tmp_path / "turned", values.T, grid, transform=turned, nodata=0)
    np.testing.assert_array_equal(warped(tmp_path / "south"), expected)
    np.testing.assert_array_equal(warped(tmp_path / "turned"), expected)


def test_a_raster_value_that_no_list_names_is_refused_where_it_is_met(tmp_path):
    values, _ = field_and_lake()
    values[15:, 25:] = 77
    write_label_raster(tmp_path, values, make_grid(20, 30), nodata=0)
    assert warped(tmp_path, window=Window(0, 0, 30, 15)).max() == 2
    with pytest.raises(LabelError, match=r"classes\.tif: class 77 is in neither labels\.classes nor labels\.exclude"):
        warped(tmp_path)


def test_rasters_that_say_too_little_are_refused(tmp_path):
    values, _ = field_and_lake()
    refused(tmp_path, r"expected one label raster \(GeoTIFF, \.\.\.\), found none", "raster", **NUMBERED)
    write_label_raster(tmp_path, values, make_grid(20, 30), crs=None)
    refused(tmp_path, r"classes\.tif: the label raster has no CRS, and none is guessed", "raster", **NUMBERED)
    (tmp_path / "classes.tif").write_bytes(b"no such thing")
    with pytest.raises(RasterError, match=r"classes\.tif: cannot be read"):
        read(tmp_path, "raster", **NUMBERED)
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 2, "height": 20, "width": 30, "crs": CRS_UTM33}
    profile |= {"transform": make_grid(20, 30).transform, "photometric": "MINISBLACK"}
    with rasterio.open(tmp_path / "classes.tif", "w", **profile) as dataset:
        dataset.write(np.stack([values, values]))
    refused(tmp_path, r"classes\.tif: 2 bands; expected one, of class values", "raster", **NUMBERED)


SMALL = make_grid(20, 30)


@pytest.mark.parametrize(
    ("grid", "told"),
    [
        (make_grid(7, 10, 30), "labels have pixels of 30 m, scenes one, two of 10 m: labels.resampling: nearest gives"),
        (make_grid(20, 30, 10).part(Window(0.5, 0, 30, 20)), "of 10 m, which do not coincide with those of scenes one"),
        (
            Grid(CRS.from_epsg(4326), Affine(1e-4, 0, 13.5, 0, -2e-4, 52.3), 40, 40),
            "of 0.0001 x 0.0002 degrees, scenes",
        ),
        (make_grid(31, 47, x_px=-9, y_px=-5), None),
        (make_grid(20, 30), None),
    ],
)
def test_a_raster_of_other_pixels_is_told_once(tmp_path, grid, told):
    write_label_raster(tmp_path, np.full(grid.shape, 10, np.uint8), grid)
    warnings = read(tmp_path, "raster", **NUMBERED).pixel_warnings({"one": SMALL, "two": make_grid(20, 30, y_px=7)})
    assert len(warnings) == (told is not None)
    if told:
        assert told in warnings[0]


def test_only_scenes_of_other_pixels_are_named(tmp_path):
    write_label_raster(tmp_path, np.full((20, 30), 10, np.uint8), SMALL)
    labels = read(tmp_path, "raster", **(NUMBERED | {"resampling": "mode"}))
    [warning] = labels.pixel_warnings({"one": SMALL, "two": make_grid(10, 15, 20)})
    assert "labels have pixels of 10 m, scene two of 20 m: labels.resampling: mode gives each pixel" in warning


# --- whole scenes

ROOT_NAMES = ["Lake/tile 1.tif", "Lake/größe, 'zwei'.tif", "Crop/more/tile_1.tif"]


def delivered(root, names=ROOT_NAMES):
    """Scenes of one file each, called by the file's stem."""
    paths = [root / name for name in names]
    return [SceneFiles(p.stem, "unknown", p.parent, {"R": BandFile("R", "R", p)}) for p in paths]


def bands_in(folder, name):
    """A scene of two files in a folder."""
    bands = {band: BandFile(band, band, folder / f"{name}_{band}.tif") for band in ("R", "N")}
    return SceneFiles(name, "unknown", folder, bands)


def write_table(folder, lines, *, header="file,class", encoding="utf-8"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "classes.csv").write_text("\n".join([header, *lines]) + "\n", encoding=encoding)


def classes_of(labels, scenes):
    found = {}
    for scene in scenes:
        with labels.on(scene.name, make_grid(3, 4)) as there:
            numbers = there.classes(Window(0, 0, 4, 3))
        assert numbers.shape == (3, 4)
        assert (numbers == numbers[0, 0]).all()
        found[scene.name] = int(numbers[0, 0])
    return found


TABLE = ["tile 1,lake", "\"Lake/größe, 'zwei'.tif\",road", "Crop/more/tile_1,crop"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_table_gives_each_scene_its_class(tmp_path, encoding):
    scenes = delivered(tmp_path / "scenes")
    write_table(tmp_path / "labels", TABLE, encoding=encoding)
    labels = read(tmp_path / "labels", "table", delivered=scenes, root=tmp_path / "scenes")
    assert classes_of(labels, scenes) == {"tile 1": 2, "größe, 'zwei'": 0, "tile_1": 1}
    assert labels.summary(CRS_UTM33) == {"labelled_scenes": 2}
    with pytest.raises(LabelError, match="scene new: it is not among the delivered ones"):  # noqa: SIM117
        with labels.on("new", make_grid(3, 4)):
            pass


def test_a_scene_of_several_files_may_be_listed_by_its_folder_or_a_file(tmp_path):
    scenes = [bands_in(tmp_path / "a/one", "one"), bands_in(tmp_path / "b/two.SAFE", "two")]
    write_table(tmp_path / "labels", ["a/one,crop", "b/two.SAFE/two_R.tif,lake"])
    labels = read(tmp_path / "labels", "table", delivered=scenes, root=tmp_path)
    assert classes_of(labels, scenes) == {"one": 1, "two": 2}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (TABLE[:2], r"classes\.csv: 1 of 3 scenes are not listed \(tile_1\); add a line for each"),
        ([*TABLE, "tile_9.tif,crop"], r"classes\.csv: line 5: 'tile_9\.tif' is no scene or file below .*scenes"),
        ([*TABLE, "/etc/tile.tif,crop"], r"line 5: '/etc/tile\.tif' leads out of .*scenes; give a path below it"),
        ([*TABLE, "../labels/tile.tif,crop"], r"line 5: '\.\./labels/tile\.tif' leads out of .*scenes"),
        ([*TABLE, "Crop/../../x.tif,crop"], r"line 5: 'Crop/\.\./\.\./x\.tif' leads out of"),
        ([*TABLE, "https://host/x.tif,crop"], r"line 5: 'https://host/x\.tif' leads out of"),
        ([*TABLE, "..\\x.tif,crop"], r"line 5: '\.\.\\x\.tif' leads out of"),
        ([*TABLE, ".,crop"], r"line 5: '\.' is no scene or file"),
        ([*TABLE, "tile 1.tif,lake"], r"scene tile 1 is listed in lines 2 and 5; keep one of them"),
        ([*TABLE[:2], "tile_1,swamp"], r"class swamp is in neither labels\.classes nor labels\.exclude"),
        ([*TABLE[:2], "", "tile_1,"], r"no file or no class in line 5; fill in or delete"),
    ],
)
def test_a_table_that_is_not_complete_and_exact_is_refused(tmp_path, lines, message):
    write_table(tmp_path / "labels", lines)
    root = tmp_path / "scenes"
    refused(tmp_path / "labels", message, "table", delivered=delivered(root), root=root)


def test_a_bare_name_of_two_files_is_refused(tmp_path):
    scenes = [bands_in(tmp_path / "a", "one"), bands_in(tmp_path / "a", "two"), *delivered(tmp_path, ["b/a.tif"])]
    write_table(tmp_path / "labels", ["a,crop"])
    refused(
        tmp_path / "labels",
        r"line 2: 'a' may be scene a or one or two; give its path",
        "table",
        delivered=scenes,
        root=tmp_path,
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"file;class\na;crop\n", r"expected columns file and class, separated by commas; found file;class"),
        (b"", r"classes\.csv: no CSV file in UTF-8"),
        ("file,class\nstra\u00dfe,crop\n".encode("latin-1"), r"classes\.csv: no CSV file in UTF-8"),
        (b'file,class\na,crop,b,c\nd,e\n"', r"classes\.csv: no CSV file in UTF-8"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, content, message):
    (tmp_path / "classes.csv").write_bytes(content)
    refused(tmp_path, message, "table", delivered=delivered(tmp_path))


def test_no_table_is_refused(tmp_path):
    refused(tmp_path, "expected one CSV file of labels, found none", "table", delivered=delivered(tmp_path))


FOLDERS = {"classes": {"field": ["more"], "water": ["Lake"]}, "exclude": ["b"]}


def test_the_folder_that_holds_a_scene_is_its_class(tmp_path):
    scenes = [*delivered(tmp_path), bands_in(tmp_path / "Lake/one", "one"), bands_in(tmp_path / "b", "two")]
    faulty = SceneFiles("broken", "unknown", tmp_path / "x", {}, fault="no metadata")
    labels = read(tmp_path, "folder", delivered=[*scenes, faulty], **FOLDERS)
    assert classes_of(labels, scenes) == {"tile 1": 2, "größe, 'zwei'": 2, "tile_1": 1, "one": 2, "two": 0}
    assert labels.summary(CRS_UTM33) == {"labelled_scenes": 4}


@pytest.mark.parametrize("name", ["Swamp/tile.tif", "Lake/Swamp/tile.tif"])
def test_a_folder_that_is_no_class_is_refused(tmp_path, name):
    scenes = [*delivered(tmp_path), *delivered(tmp_path, [name])]
    refused(tmp_path, "scene tile in .*Swamp: class Swamp is in neither", "folder", delivered=scenes, **FOLDERS)


# --- labels and scenes


def test_labels_that_meet_no_scene_are_refused_with_both_bounds(tmp_path):
    write_labels(tmp_path / "l.geojson", [("crop", box(5000, 0, 5100, 50))], to="EPSG:4326")
    grids = {"a": make_grid(20, 30), "b": make_grid(20, 30, x_px=100, y_px=7)}
    west, south, east, north = box(5000, 0, 5100, 50).bounds
    message = (
        rf"the labels meet no scene: in EPSG:32633 they lie in x {west:.0f} to {east:.0f}, "
        rf"y {south:.0f} to {north:.0f}, "
        rf"the 2 scenes in x {ORIGIN_X:.0f} to {ORIGIN_X + 1300:.0f}, y {ORIGIN_Y - 270:.0f} to {ORIGIN_Y:.0f}; check"
    )
    with pytest.raises((LabelError, VectorError), match=message):
        check_ground(read(tmp_path), grids, CRS_UTM33)
    check_ground(read(tmp_path), grids | {"c": make_grid(5, 6, x_px=505)}, CRS_UTM33)  # one that meets is enough


def test_points_and_rasters_that_meet_no_scene_are_refused(tmp_path):
    write_points(tmp_path / "points/l.gpkg", [("crop", 25, 35)])
    write_label_raster(tmp_path / "raster", np.full((4, 5), 10, np.uint8), make_grid(4, 5))
    here, elsewhere = {"s": make_grid(20, 30)}, {"s": make_grid(20, 30, x_px=9)}
    for kind, changes in (("points", {}), ("raster", NUMBERED)):
        labels = read(tmp_path / kind, kind, **changes)
        check_ground(labels, here, CRS_UTM33)
        with pytest.raises(LabelError, match="the labels meet no scene: in EPSG:32633 they lie in x 3999"):
            check_ground(labels, elsewhere, CRS_UTM33)


def test_labels_of_whole_scenes_have_no_ground(tmp_path):
    labels = read(tmp_path, "folder", delivered=delivered(tmp_path), **FOLDERS)
    assert labels.ground is None
    check_ground(labels, {"s": make_grid(20, 30)}, CRS_UTM33)


# --- settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"exclude": ["crop"]}, "labels: listed more than once: crop"),
        ({"classes": {"a": ["x"], "b": ["x"]}}, "labels: listed more than once: x"),
        ({"classes": {"a": [1], "b": ["1"]}, "exclude": []}, "labels: listed more than once: 1"),
        ({"classes": {"a": ["x"]}}, "at least 2 items"),
        ({"exclude": [False]}, "expected text or a number; put yes, no, on, off"),
        ({"attribute": None}, "kind: polygons needs attribute; it is null"),
        ({"invalid": None}, "kind: polygons needs invalid; it is null"),
        ({"resampling": "mode"}, "kind: polygons has no use for resampling; set it to null"),
        ({"kind": "points"}, "kind: points has no use for invalid; set it to null"),
        ({"kind": "points", "invalid": None, "zone_attribute": "id"}, "kind: points has no use for zone_attribute"),
        ({"kind": "raster", "invalid": None}, "kind: raster has no use for attribute; set it to null"),
        ({"kind": "raster", "invalid": None, "attribute": None}, "kind: raster needs resampling; it is null"),
        ({"kind": "table", "invalid": None}, "kind: table has no use for attribute; set it to null"),
        ({"kind": "folder", "invalid": None, "attribute": None, "layer": "x"}, "kind: folder has no use for layer"),
        (
            {"kind": "table", "unit": "pixel", "invalid": None, "attribute": None},
            "kind: table has one class for a whole scene and none for each pixel; set unit to patch, or bring polygons",
        ),
        ({"kind": "folder", "unit": "pixel", "invalid": None, "attribute": None}, "kind: folder has one class for"),
        ({"unit": "object"}, "'patch' or 'pixel'"),
        ({"kind": "lines"}, "'polygons', 'points', 'raster', 'table' or 'folder'"),
        ({"classes": {f"c{i}": [f"v{i}"] for i in range(256)}}, "at most 255 items"),
    ],
)
def test_classes_that_contradict_themselves_are_refused(changes, message):
    with pytest.raises(SettingsError, match=message):
        validate(params()["labels"] | changes, LabelSettings, where="labels")
