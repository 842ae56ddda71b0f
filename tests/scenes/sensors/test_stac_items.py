import json
import re

import numpy as np
import pytest

from landfold.geo.bands import Radiometry
from landfold.scenes.sensors import find_scenes
from tests.factories import (
    small_scene,
)
from tests.products import assert_fault
from tests.scenes.sensors.test_url_lists import ingest, served_scene

COG = "image/tiff; application=geotiff; profile=cloud-optimized"


def asset(href, name, common=None, *, version="1.0.0", scale=None, offset=None, nodata=None, **more):
    """An asset of one band, as STAC 1.0 or 1.1 has it."""
    numbers = {"scale": scale, "offset": offset, "nodata": nodata}
    numbers = {key: value for key, value in numbers.items() if value is not None}
    found = {"href": href, "type": COG, "roles": ["data"]} | more
    if version == "1.0.0":
        found["eo:bands"] = [{"name": name} | ({"common_name": common} if common else {})]
        return found | ({"raster:bands": [numbers]} if numbers else {})
    prefixed = {key if key == "nodata" else f"raster:{key}": value for key, value in numbers.items()}
    return found | {"bands": [{"name": name, **({"eo:common_name": common} if common else {}), **prefixed}]}


def item(assets, name="S2A_33UUU_20170216_0_L2A", *, version="1.0.0", **properties):
    properties = {"datetime": "2017-02-16T10:21:01Z", "platform": "sentinel-2a"} | properties
    return {"type": "Feature", "stac_version": version, "id": name, "properties": properties, "assets": assets}


def write_stac(path, *items):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = items[0] if len(items) == 1 else {"type": "FeatureCollection", "features": list(items)}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def one(tmp_path, assets, **properties):
    write_stac(tmp_path / "s.json", item(assets, **properties))
    return find_scenes(tmp_path)


@pytest.mark.parametrize("version", ["1.0.0", "1.1.0"])
def test_a_stac_item_is_a_scene(tmp_path, version):
    assets = {
        "red": asset("https://h/B04.tif?SECRET", "B04", "red", version=version, scale=1e-4, offset=-0.1, nodata=0),
        "re": asset("https://h/B05.tif", "B05", "rededge", version=version),
        "nir08": asset("https://h/B8A.tif", "nir08", "nir08", version=version, nodata="nan"),
        "nir09": asset("https://h/B09.jp2", "B09", "nir09", version=version, type="image/jp2"),
        "scl": {"href": "https://h/SCL.tif", "type": COG, "roles": ["data"]},
        "visual": {"href": "https://h/TCI.tif", "type": COG, "eo:bands": [{"name": n} for n in ("B04", "B03", "B02")]},
        "thumbnail": asset("https://h/t.tif", "B03", "green", roles=["thumbnail"]),
        "aot": {"href": "https://h/AOT.tif", "type": COG, "roles": ["data"]},
        "meta": {"href": "https://h/m.xml", "type": "application/xml"},
    }
    path = write_stac(tmp_path / "found.geojson", item(assets, version=version))
    [scene] = find_scenes(tmp_path)
    assert (scene.name, scene.sensor, scene.folder) == ("S2A_33UUU_20170216_0_L2A", "sentinel2", path)
    assert (scene.acquired, scene.fault, scene.warnings) == ("2017-02-16", None, [])
    found = {name: (band.native_name, band.source, band.shown) for name, band in scene.bands.items()}
    assert found == {
        "R": ("B04", "/vsicurl/https://h/B04.tif?SECRET", "B04.tif"),
        "RE1": ("B05", "/vsicurl/https://h/B05.tif", "B05.tif"),
        "N2": ("nir08", "/vsicurl/https://h/B8A.tif", "B8A.tif"),
        "WV": ("B09", "/vsicurl/https://h/B09.jp2", "B09.jp2"),
    }
    assert (scene.bands["R"].radiometry, scene.bands["R"].nodata) == (Radiometry(1e-4, -0.1), 0)
    assert scene.bands["RE1"].radiometry is None
    assert np.isnan(scene.bands["N2"].nodata)
    assert {band.path for band in scene.bands.values()} == {path}
    assert [(mask.kind, mask.path, mask.source) for mask in scene.masks] == [
        ("scl", path, "/vsicurl/https://h/SCL.tif")
    ]


@pytest.mark.parametrize(
    ("platform", "sensor", "name", "common", "band"),
    [
        ("landsat-8", "landsat8", "OLI_B5", "nir08", "N"),
        ("landsat-9", "landsat9", "SR_B4", "red", "R"),
        ("landsat-7", "landsat7", "B4", "nir08", "N"),
        ("LANDSAT_5", "landsat5", "TM_B3", None, "R"),
        ("LANDSAT_8", "landsat8", "OLI_B3", None, "G"),
    ],
)
def test_bands_of_landsat_items_go_by_their_sensor(tmp_path, platform, sensor, name, common, band):
    assets = {
        "x": asset("https://h/x.TIF", name, common, scale=2.75e-5, offset=-0.2),
        "qa_pixel": {"href": "https://h/qa.TIF", "type": "image/vnd.stac.geotiff; cloud-optimized=true"},
        "lwir11": asset("https://h/st.TIF", "TIRS_B10" if platform != "landsat-7" else "B6", "lwir11"),
    }
    [scene] = one(tmp_path, assets, platform=platform)
    assert (scene.sensor, list(scene.bands), [mask.kind for mask in scene.masks]) == (sensor, [band], ["qa_pixel"])
    assert scene.bands[band].radiometry == Radiometry(2.75e-5, -0.2)


def test_of_several_files_of_a_band_the_cloud_optimized_and_finest_is_taken(tmp_path):
    jp2 = asset("s3://bucket/B04.jp2", "red", "red", type="image/jp2")
    coarse, fine = (asset(f"https://h/B04_{m}m.tif", "B04", "red", gsd=m) for m in (60, 10))
    [scene] = one(tmp_path, {"a-jp2": jp2, "b": coarse, "c": fine, "d": asset("https://h/n.tif", "nir")})
    assert {name: band.shown for name, band in scene.bands.items()} == {"R": "B04_10m.tif", "N": "n.tif"}
    assert_fault(one(tmp_path, {"a": fine, "b": fine}), r"s\.json: item S2A_.*: assets a and b are both band R")


@pytest.mark.parametrize(
    ("properties", "offset", "expected"),
    [
        ({"earthsearch:boa_offset_applied": True, "s2:processing_baseline": "05.00"}, -0.1, 0.0),
        ({"earthsearch:boa_offset_applied": False, "s2:processing_baseline": "05.00"}, -0.1, -0.1),
        ({"earthsearch:boa_offset_applied": False, "s2:processing_baseline": "02.14"}, 0, 0.0),
        ({"s2:processing_baseline": "05.00"}, -0.1, -0.1),
    ],
)
def test_an_offset_that_earth_search_has_applied_is_not_applied_again(tmp_path, properties, offset, expected):
    assets = {"red": asset("https://h/r.tif", "red", "red", scale=1e-4, offset=offset)}
    [scene] = one(tmp_path, assets, **properties)
    assert scene.bands["R"].radiometry == Radiometry(1e-4, expected)
    doubtful = properties.get("earthsearch:boa_offset_applied") is False and offset != 0
    assert bool(re.search("the flag is known to be wrong for some items", str(scene.warnings))) == doubtful
    assert scene.processing["baseline"] == properties["s2:processing_baseline"]


def test_an_offset_of_a_baseline_that_has_none_is_a_fault(tmp_path):
    assets = {"red": asset("https://h/r.tif", "red", "red", scale=1e-4, offset=-0.1)}
    properties = {"earthsearch:boa_offset_applied": False, "s2:processing_baseline": "03.01"}
    assert_fault(one(tmp_path, assets, **properties), r"asset red has an offset of -0\.1, but its .* 03\.01 has none")


def test_numbers_without_a_scale_of_a_baseline_with_an_offset_are_warned_about(tmp_path):
    [scene] = one(tmp_path, {"red": asset("https://h/r.tif", "B04")}, **{"s2:processing_baseline": "05.10"})
    assert re.search(r"gives no scale and offset .* the offset -0\.1: see that ingest\.scale", scene.warnings[0])


@pytest.mark.parametrize(
    ("assets", "message"),
    [
        ({}, r"no asset is a GeoTIFF or JP2 file of one band"),
        ({"a": asset("https://h/a.tif", "x", "rededge")}, r"no asset is a GeoTIFF"),
        ({"a": asset("s3://b/a.tif?SECRET", "red")}, r"asset a: 's3://b/a\.tif' is not read; give an http .*s3\.amaz"),
        ({"a": asset("ftp://me:SECRET@h/a.tif", "red")}, r"asset a: 'ftp://h/a\.tif' is not read"),
        ({"a": asset("file:///etc/a.tif", "red")}, r"asset a: 'file:///etc/a\.tif' is not read"),
        ({"a": asset("/vsicurl/http://h/a.tif", "red")}, r"asset a: .* leads out of"),
        ({"a": asset("//h/a.tif", "red")}, r"asset a: .* leads out of"),
        ({"a": asset("/etc/a.tif", "red")}, r"asset a: '/etc/a\.tif' leads out of"),
        ({"a": asset("../../a.tif", "red")}, r"asset a: '\.\./\.\./a\.tif' leads out of"),
        ({"a": asset("%2e%2e/a.tif", "red")}, r"asset a: '%2e%2e/a\.tif' leads out of"),
        ({"a": asset("a.tif", "red")}, r"asset a: 'a\.tif' is no file in .*; put it there"),
        ({"a": asset("", "red")}, r"asset a has no href"),
        ({"a": asset("https://h/a.tif", "red", scale=0)}, r"asset a: scale 0 and offset 0 are no reflectance"),
        ({"a": asset("https://h/a.tif", "red", scale="x")}, r"asset a: scale is 'x', no number"),
        (
            {"a": asset("https://h/a.tif", "B03", "red")},
            r"asset a is called B03, which is G, but has the common name red",
        ),
    ],
)
def test_an_item_that_cannot_be_used_is_a_fault_and_hides_no_other(tmp_path, assets, message):
    folder = tmp_path / "scenes"
    good = item({"a": asset("https://h/a.tif", "red")}, "good")
    write_stac(folder / "found.json", item(assets, "bad_20200101"), good)
    found = find_scenes(folder)
    assert_fault(found, rf"found\.json: item bad_20200101: {message}", name="bad_20200101")
    assert [(scene.name, scene.fault) for scene in found if scene.bands] == [("good", None)]
    assert "SECRET" not in str(found)


def test_relative_paths_of_an_item_are_files_beside_it(tmp_path):
    folder = small_scene(tmp_path / "raw", "T33UUU_20170216T102101")
    names = {"red": "B04", "nir": "B08"}
    assets = {c: asset(f"./{folder.name}/{folder.name}_{n}.tif", n, c, scale=2e-4) for c, n in names.items()}
    for path in folder.iterdir():
        if not path.stem.endswith(("B04", "B08")):
            path.unlink()
    write_stac(tmp_path / "raw" / "item.json", item(assets, "an item"))
    [scene] = find_scenes(tmp_path / "raw")
    assert (scene.name, scene.warnings) == ("an item", [])
    assert scene.bands["R"].path == folder / f"{folder.name}_B04.tif"
    assert scene.bands["R"].source is None
    assert scene.bands["R"].radiometry == Radiometry(2e-4, 0.0)


def test_an_item_ingests_to_the_numbers_of_its_files(server, tmp_path):
    folder, urls = served_scene(server)
    common = ["blue", "green", "red", "nir"]
    names = ["B02", "B03", "B04", "B08"]
    assets = {c: asset(u, n, c, nodata=0) for u, c, n in zip(urls, common, names, strict=True)}
    write_stac(tmp_path / "raw" / "item.json", item(assets, folder.name))
    [far], [near] = find_scenes(tmp_path / "raw"), find_scenes(server.root)
    report = ingest(far, tmp_path / "far.tif")
    ingest(near, tmp_path / "near.tif")
    assert (tmp_path / "far.tif").read_bytes() == (tmp_path / "near.tif").read_bytes()
    assert [band["file"] for band in report["bands"]] == [f"{folder.name}_{n}.tif" for n in names]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"type": "Feature", "stac_version": "1.0.0"', "no JSON"),
        ('{"type": "Collection", "stac_version": "1.0.0"}', r"STAC, but no items in it \(Collection\)"),
        ('{"type": "FeatureCollection", "stac_version": "1.0.0", "features": []}', "STAC, but no items"),
        ('{"type": "FeatureCollection", "stac_version": "1.0.0", "features": [1]}', "features that are no STAC items"),
        ("[" * 100_000 + '"stac_version"', "no JSON"),
    ],
)
def test_a_stac_file_without_items_is_a_fault(tmp_path, text, message):
    (tmp_path / "found.json").write_text(text)
    assert_fault(find_scenes(tmp_path), rf"found\.json: {message}", name="found")


def test_a_json_that_is_no_stac_is_not_understood(tmp_path):
    small_scene(tmp_path, "good")
    (tmp_path / "good" / "notes.json").write_text('{"type": "FeatureCollection", "features": []}')
    [scene] = find_scenes(tmp_path)
    assert scene.warnings == ["not understood, ignored: notes.json"]


def test_an_item_that_calls_itself_a_path_is_a_fault(tmp_path):
    write_stac(tmp_path / "s.json", item({"a": asset("https://h/a.tif", "red")}, "../evil"))
    assert_fault(find_scenes(tmp_path), r"the scene calls itself '\.\./evil', which can be no file's name")
