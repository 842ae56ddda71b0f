import time

import geopandas
import pyogrio
import pytest
import shapely

from landfold.geo.vector import write_geopackage
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
