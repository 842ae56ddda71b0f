import json
import warnings

import numpy as np
import pystac
import pytest
import shapely
from affine import Affine
from jsonschema import Draft7Validator
from pystac.validation.local_validator import get_local_schema_cache
from rasterio.crs import CRS
from referencing import Registry, Resource

from landfold.geo.grid import Grid
from landfold.maps.stac import to_degrees, write_item
from tests.factories import tree
from tests.maps.test_export import CLASSES, COLOURS, LINEAGE, VALID, export_settings, random_tables, write_known_map


def write(folder, *, scene="s", acquired="2017-02-16", crs=None, layers=("margin", "probabilities"), **options):
    """A map with its item: the item's content."""
    options |= {"crs": crs} if crs else {}
    settings = export_settings(
        stride_px=1, layers=list(layers), polygons={"formats": ["gpkg"], "min_area_m2": 0, "simplify_m": 0}
    )
    write_known_map(
        folder, random_tables(), valid=VALID, scene=scene, acquired=acquired, colours=COLOURS, settings=settings,
        **options,
    )  # fmt: skip
    return json.loads((folder / f"{scene}_stac.json").read_text(encoding="utf-8"))


def check(item):
    """Against STAC's own schema, which pystac brings along."""
    cache = get_local_schema_cache()
    registry = Registry().with_resources([(uri, Resource.from_contents(schema)) for uri, schema in cache.items()])
    (uri,) = (uri for uri in cache if uri.endswith("/item.json"))
    errors = list(Draft7Validator(cache[uri], registry=registry).iter_errors(item))
    assert errors == []


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("map")
    return folder, write(folder)


def test_the_item_is_valid_and_pystac_reads_it(written):
    folder, item = written
    check(item)
    assert (item["type"], item["stac_version"], item["id"], item["links"]) == ("Feature", "1.1.0", "s", [])
    with warnings.catch_warnings(action="error"):
        read = pystac.Item.from_file(folder / "s_stac.json")
    assert (read.properties["start_datetime"], read.datetime) == ("2017-02-16T00:00:00Z", None)
    assert str(folder) not in json.dumps(item)


def test_the_schema_would_see_a_fault(written):
    item = json.loads(json.dumps(written[1]))
    del item["properties"]["start_datetime"]
    with pytest.raises(AssertionError, match="start_datetime"):
        check(item)


def test_every_file_is_an_asset_with_its_type_and_bands(written):
    folder, item = written
    there = {f"./{path.name}" for path in folder.iterdir() if not path.name.endswith((".aux.xml", "_stac.json"))}
    assets = item["assets"]
    assert {asset["href"] for asset in assets.values()} == there
    assert sorted(assets) == [
        "class",
        "class_qml",
        "class_sld",
        "confidence",
        "confidence_qml",
        "gpkg",
        "probabilities",
        "qml",
    ]
    cog = "image/tiff; application=geotiff; profile=cloud-optimized"
    assert {assets[name]["type"] for name in ("class", "confidence", "probabilities")} == {cog}
    assert assets["gpkg"]["type"] == "application/geopackage+sqlite3"
    assert (assets["class"]["roles"], assets["class_qml"]["roles"]) == (["data"], ["style"])
    assert assets["class"]["bands"] == [{"name": "class", "data_type": "uint8", "nodata": 0}]
    names = [band["name"] for band in assets["confidence"]["bands"]]
    assert names == ["confidence", "padded", "disagreement", "margin"]
    assert {band["nodata"] for band in assets["confidence"]["bands"]} == {"nan"}
    percent = assets["probabilities"]["bands"]
    assert percent == [{"name": name, "data_type": "uint8", "nodata": 255, "raster:scale": 0.01} for name in CLASSES]


def test_classes_have_value_name_title_and_colour(written):
    _, item = written
    assert any("classification/v2.0.0" in uri for uri in item["stac_extensions"])
    classes = item["assets"]["class"]["classification:classes"]
    assert classes[0] == {"value": 0, "name": "nodata", "nodata": True}
    assert [entry["value"] for entry in classes[1:]] == [1, 2, 3]
    assert [entry["title"] for entry in classes[1:]] == CLASSES
    assert [entry["name"] for entry in classes[1:]] == ["water", "corn_rye", "Gr_nland_na"]  # [0-9A-Za-z-_] alone
    assert [entry["color_hint"] for entry in classes[1:]] == ["2F7FD1", "F2D16B", "1F6F3A"]


def test_projection_and_lineage(written):
    _, item = written
    properties = item["properties"]
    assert any("projection/v2.0.0" in uri for uri in item["stac_extensions"])
    assert (properties["proj:code"], properties["proj:shape"]) == ("EPSG:32633", [14, 23])
    assert properties["proj:transform"] == [80, 0, 399_960 + 240, 0, -80, 5_800_020 - 400]
    assert properties["landfold:model_sha256"] == LINEAGE["MODEL_SHA256"]
    assert {"landfold:params_sha256", "landfold:code_sha256", "landfold:landfold_version"} <= set(properties)


def test_the_footprint_is_the_ground_of_the_grid(written):
    _, item = written
    shape = shapely.geometry.shape(item["geometry"])
    assert shape.is_valid
    assert shape.exterior.is_ccw
    assert item["bbox"] == list(shape.bounds)
    assert len(shape.exterior.coords) > 60
    # 14 x 23 cells of 80 m at 52.3 degrees north
    metres = shape.area * 111_320**2 * np.cos(np.radians(shape.centroid.y))
    assert metres == pytest.approx(14 * 23 * 6400, rel=0.005)
    assert shape.bounds[0] == pytest.approx(13.53, abs=0.02)


def test_names_are_quoted_in_paths_and_other_crs_are_told(tmp_path):
    local = CRS.from_proj4("+proj=laea +lat_0=52 +lon_0=10 +x_0=0 +y_0=0 +ellps=GRS80 +units=m")
    item = write(tmp_path, scene='é "n° 1" & 100 %', acquired="2020-03-01T10:11:12Z", crs=local)
    check(item)
    assert item["properties"]["datetime"] == "2020-03-01T10:11:12Z"
    assert item["assets"]["class"]["href"] == "./%C3%A9%20%22n%C2%B0%201%22%20%26%20100%20%25_class.tif"
    assert item["properties"]["proj:code"] is None
    assert item["properties"]["proj:wkt2"].startswith("PROJCRS")
    assert CRS.from_wkt(item["properties"]["proj:wkt2"]) == local


def test_several_scenes_have_the_time_from_the_first_to_the_last(written, tmp_path):
    folder, _ = written
    times = ["2020-03-01T12:00:00+02:00", "2019-12-31", "2020-02-01"]
    files = [folder / "s_class.tif"]
    classes = dict(zip(CLASSES, COLOURS, strict=True))
    path = write_item(folder, "s", files, acquired=times, classes=classes, lineage={})
    told = json.loads(path.read_text(encoding="utf-8"))["properties"]
    assert (told["start_datetime"], told["end_datetime"]) == ("2019-12-31T00:00:00Z", "2020-03-01T10:00:00Z")
    first = tree(folder)["s_stac.json"]
    write_item(folder, "s", files, acquired=times, classes=classes, lineage={})
    assert tree(folder)["s_stac.json"] == first


def test_a_grid_across_the_antimeridian_is_cut_there():
    grid = Grid(CRS.from_epsg(32760), Affine(1000, 0, 790_000, 0, -1000, 8_200_000), 100, 120)
    shape = to_degrees(grid)
    assert shape.geom_type == "MultiPolygon"
    assert shape.is_valid
    west, east = (part.bounds for part in shape.geoms)
    assert 179 < west[0] < west[2] == 180
    assert -180 == east[0] < east[2] < -179
