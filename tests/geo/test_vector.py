import time

import geopandas
import pandas
import pyogrio
import pytest
import shapely

from landfold.geo.vector import (
    VectorError,
    are_polygons,
    check_attribute,
    check_features,
    check_rows,
    layers,
    read_layer,
    write_geopackage,
)
from tests.factories import CRS_UTM33, box, leftovers, tree


def table(count=3):
    shapes = [box(i, 0, i + 1, 1) for i in range(count)]
    return geopandas.GeoDataFrame({"name": [f"ü{i}" for i in range(count)]}, geometry=shapes, crs=CRS_UTM33)


def test_layers_come_back_as_they_were_written(tmp_path):
    write_geopackage(tmp_path / "a.gpkg", {"zones": table(), "patches": table(2)})
    assert sorted(name for name, _ in pyogrio.list_layers(tmp_path / "a.gpkg")) == ["patches", "zones"]
    found = geopandas.read_file(tmp_path / "a.gpkg", layer="zones")
    assert list(found["name"]) == ["ü0", "ü1", "ü2"]
    assert found.crs == CRS_UTM33
    assert shapely.equals(found.geometry.to_numpy(), table().geometry.to_numpy()).all()
    assert list(tree(tmp_path)) == ["a.gpkg"]


def test_equal_content_is_equal_bytes_at_any_time(tmp_path):
    write_geopackage(tmp_path / "a.gpkg", {"zones": table(), "patches": table(2)})
    time.sleep(0.01)
    write_geopackage(tmp_path / "b.gpkg", {"zones": table(), "patches": table(2)})
    write_geopackage(tmp_path / "c.gpkg", {"zones": table(4), "patches": table(2)})
    content = {name: (tmp_path / f"{name}.gpkg").read_bytes() for name in "abc"}
    assert content["a"] == content["b"] != content["c"]
    assert b"2000-01-01T00:00:00" in content["a"]


def test_styles_are_a_table_of_their_own(tmp_path):
    write_geopackage(tmp_path / "a.gpkg", {"zones": table(), "patches": table(2)}, styles={"zones": "<qgis/>"})
    assert layers(tmp_path / "a.gpkg") == {"zones": "Polygon", "patches": "Polygon"}
    styles = pyogrio.read_dataframe(tmp_path / "a.gpkg", layer="layer_styles")
    assert styles[["f_table_name", "styleQML", "useAsDefault"]].to_numpy().tolist() == [["zones", "<qgis/>", True]]


def test_the_fixed_time_is_taken_back_afterwards(tmp_path):
    write_geopackage(tmp_path / "a.gpkg", {"zones": table()})
    assert pyogrio.get_gdal_config_option("OGR_CURRENT_DATE") is None


def test_a_failure_leaves_the_earlier_file(tmp_path):
    path = tmp_path / "a.gpkg"
    write_geopackage(path, {"zones": table()})
    before = tree(tmp_path)
    with pytest.raises(AttributeError, match="to_file"):
        write_geopackage(path, {"zones": table(4), "patches": None})
    assert tree(tmp_path) == before
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".shp", ".fgb", ".parquet"])
def test_a_file_of_one_layer_is_read(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    table().to_parquet(path) if suffix == ".parquet" else table().to_file(path)
    features = read_layer(path, setting="labels.layer")
    assert sorted(features["name"]) == ["ü0", "ü1", "ü2"], "FlatGeobuf sorts by place"
    assert features.crs == CRS_UTM33
    check_features(path, features, "polygons")
    assert layers(path) == ({} if suffix == ".parquet" else {"a": "Polygon"})


def test_of_several_layers_one_is_chosen(tmp_path):
    path = tmp_path / "a.gpkg"
    points = table().set_geometry(table().centroid)
    write_geopackage(path, {"zones": table(), "points": points})
    pyogrio.write_dataframe(pandas.DataFrame({"note": ["no geometry"]}), path, layer="notes")
    assert layers(path) == {"zones": "Polygon", "points": "Point"}
    assert set(read_layer(path, "zones", setting="x").geom_type) == {"Polygon"}
    assert set(read_layer(path, setting="x", geometry="Point").geom_type) == {"Point"}
    with pytest.raises(VectorError, match=r"a\.gpkg: 2 layers \(zones, points\); choose one with labels\.layer"):
        read_layer(path, setting="labels.layer")
    with pytest.raises(VectorError, match=r"2 layers \(zones, points\); save one of them to a file of its own"):
        read_layer(path, setting=None)
    with pytest.raises(VectorError, match=r"a\.gpkg: no layer 'zone' \(labels\.layer\); the file has zones, points"):
        read_layer(path, "zone", setting="labels.layer")


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".parquet"])
@pytest.mark.parametrize("content", [None, b"", b"no vector file"])
def test_what_is_no_vector_file_is_refused(tmp_path, suffix, content):
    path = tmp_path / f"a{suffix}"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(VectorError, match=rf"a\{suffix}: not a vector file that can be read \("):
        read_layer(path, setting="labels.layer")


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_features_have_geometry_and_a_crs(tmp_path):
    pandas.DataFrame({"name": ["a"]}).to_parquet(tmp_path / "a.parquet")
    cases = {
        "a.parquet": (None, "a table without geometry; expected points"),
        "b.gpkg": (table().set_crs(None, allow_override=True), "the file has no CRS, and none is guessed"),
        "c.gpkg": (table()[:0], "no features; expected points"),
    }
    for name, (features, message) in cases.items():
        path = tmp_path / name
        if features is not None:
            features.to_file(path)
        with pytest.raises(VectorError, match=rf"{name}: {message}"):
            check_features(path, read_layer(path, setting=None), "points")


def test_wrong_rows_are_counted_and_named(tmp_path):
    features = table(12)
    check_rows(tmp_path, features["name"] == "x", "features are x", "delete them")
    with pytest.raises(VectorError, match=r": 11 features are x \(row 1, 2, .*, 10, \.\.\.\); delete them"):
        check_rows(tmp_path, features["name"] != "ü0", "features are x", "delete them")


def test_an_absent_attribute_is_refused_with_those_that_are_there(tmp_path):
    check_attribute(tmp_path, table(), "name", "zones.attribute")
    message = r": no attribute 'Nmae' \(zones\.attribute\); the file has name \(did you mean 'name'\?\)"
    with pytest.raises(VectorError, match=message):
        check_attribute(tmp_path, table(), "Nmae", "zones.attribute")


def test_polygons_are_valid_and_not_empty():
    bow = shapely.Polygon([(0, 0), (9, 9), (9, 0), (0, 9)])
    shapes = [
        box(0, 0, 1, 1),
        shapely.MultiPolygon([box(0, 0, 1, 1)]),
        bow,
        shapely.Polygon(),
        shapely.Point(0, 0),
        None,
    ]
    features = geopandas.GeoDataFrame(geometry=shapes, crs=CRS_UTM33)
    assert list(are_polygons(features)) == [True, True, False, False, False, False]
