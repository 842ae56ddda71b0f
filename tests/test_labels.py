import geopandas
import numpy as np
import pandas
import pyogrio
import pytest
import shapely
from rasterio.windows import Window

from landfold.labels import UNLABELLED, LabelError, LabelSettings, class_raster, describe, overlap_area, read_polygons
from landfold.settings import SettingsError, validate
from tests.factories import CRS_UTM33, box, make_grid, write_labels


def label_settings(**changes):
    values = {"attribute": "kind", "classes": {"field": ["crop", "meadow"], "water": ["lake"]}, "exclude": ["road"]}
    return validate(values | changes, LabelSettings, where="labels")


def burned(folder, grid=None, window=None, **changes):
    grid = grid or make_grid(20, 30)
    labels = read_polygons(folder, label_settings(**changes))
    return class_raster(labels.on(grid), grid, window or Window(0, 0, grid.width, grid.height))


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
    labels = read_polygons(tmp_path, label_settings())
    elsewhere = make_grid(5, 6, x_px=1000)
    assert labels.on(elsewhere).empty
    assert (class_raster(labels.on(elsewhere), elsewhere, Window(0, 0, 6, 5)) == UNLABELLED).all()
    assert describe(labels) == "1 polygons in EPSG:32633, 2 classes"


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


def refused(folder, message, **changes):
    with pytest.raises(LabelError, match=message):
        read_polygons(folder, label_settings(**changes))


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
    refused(tmp_path, r"l\.gpkg: not a vector file that GDAL reads")


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
    refused(tmp_path, r"1 polygons have no value of 'kind' \(labels\.attribute\), row 1")


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
    refused(tmp_path, r"l\.gpkg: 1 features are not valid polygons \(row 1\)")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"exclude": ["crop"]}, "labels: listed more than once: crop"),
        ({"classes": {"a": ["x"], "b": ["x"]}}, "labels: listed more than once: x"),
        ({"classes": {"a": ["x"]}}, "at least 2 items"),
        ({"classes": {f"c{i}": [f"v{i}"] for i in range(256)}}, "at most 255 items"),
    ],
)
def test_classes_that_contradict_themselves_are_refused(changes, message):
    with pytest.raises(SettingsError, match=message):
        label_settings(**changes)
