"""Remote scenes: windows read over HTTP range requests, from a server on the loopback device."""

import json
import re

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

import stages.ingest
from landfold.core.settings import validate
from landfold.geo import remote
from landfold.geo.bands import Radiometry
from landfold.geo.dataset import RasterError, open_dataset, reading
from landfold.geo.writer import to_cog
from landfold.scenes.ingest import ingest_scene
from landfold.scenes.sensors import find_scenes
from landfold.scenes.settings import IngestSettings
from tests.factories import (
    CRS_UTM33,
    centres,
    leftovers,
    make_grid,
    params,
    small_scene,
    tree,
    write_params,
    write_raster,
)
from tests.products import assert_fault

QUERY = "sig=TOPSECRET%2Fa%3D&se=2030, 'x'"
HEADER = 16384
"""Bytes that GDAL reads at first, and in multiples of which it rounds up a read of one tile."""


TILE = 64
BIG = make_grid(640, 960)


def big_file(path, *, bands=3, names=(), **options):
    """A tiled, band-interleaved, uncompressed raster whose numbers tell band and place; each tile has 8 KiB."""
    east, south = centres(BIG)
    profile = {"driver": "GTiff", "dtype": "uint16", "count": bands, "height": BIG.height, "width": BIG.width}
    profile |= {"crs": BIG.crs, "transform": BIG.transform, "tiled": True, "blockxsize": TILE, "blockysize": TILE}
    profile |= {"interleave": "band", "sparse_ok": False} | options
    with rasterio.open(path, "w", **profile) as dataset:
        for band in range(1, bands + 1):
            dataset.write(np.round(band * 12000 + east / 5 + south / 3).astype("uint16"), band)
        dataset.descriptions = tuple(names) or (None,) * bands
    return path


def vsi(url):
    return remote.REMOTE + url


def again(source, read):
    with reading(source):
        return remote.with_retries(source, read)


def read(source, band, window):
    with open_dataset(source) as dataset:
        return again(source, lambda: dataset.read(band, window=window))


def local(path, band, window):
    with rasterio.open(path) as dataset:
        return dataset.read(band, window=window)


def ingest(scene, target, **changes):
    settings = validate(params()["ingest"] | changes, IngestSettings, where="ingest")
    return ingest_scene(scene, settings, CRS_UTM33, target)


ONE = Window(4 * TILE + 5, 3 * TILE + 5, 20, 20)
FOUR = Window(4 * TILE - 10, 3 * TILE - 10, 20, 20)
WIDE = Window(TILE, TILE, 6 * TILE, 4 * TILE)


@pytest.mark.parametrize(("window", "tiles"), [(ONE, 1), (FOUR, 4), (WIDE, 24)])
@pytest.mark.parametrize("band", [1, 3])
def test_the_bytes_moved_are_those_of_the_windows_tiles(server, window, tiles, band):
    path = big_file(server.root / "big.tif")
    found = read(vsi(server.url("big.tif")), band, window)
    np.testing.assert_array_equal(found, local(path, band, window))
    needed = tiles * TILE * TILE * 2
    assert needed <= server.moved <= HEADER + needed + 2 * HEADER
    assert server.moved < path.stat().st_size / 10
    assert len(server.requests) <= 2 + 4, "the size, the header, and a row of tiles at a time"


def test_no_sidecar_is_asked_for_even_with_a_local_file_open(server, tmp_path):
    path = big_file(server.root / "big.tif")
    (tmp_path / "near").mkdir()
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(big_file(tmp_path / "near/l.tif"), "r+") as near:
        near.write_mask(np.arange(960) * np.ones((640, 1)) > 100)
    assert (tmp_path / "near/l.tif.msk").exists()
    source = vsi(server.url("big.tif"))
    with open_dataset(source) as far, open_dataset(tmp_path / "near/l.tif") as near, open_dataset(source) as again:
        assert near.read_masks(1)[0, 0] == 0, "a local file has its sidecars, whatever is open beside it"
        np.testing.assert_array_equal(far.read_masks(1, window=ONE), 255)
        np.testing.assert_array_equal(again.read(1, window=ONE), local(path, 1, ONE))
    assert {name for name, _, _ in server.requests} == {"big.tif"}


@pytest.mark.parametrize("window", [ONE, FOUR])
@pytest.mark.parametrize("fault", [503, 429, "drop", "hang"])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_an_interrupted_read_is_tried_again(server, window, fault, number):
    path = big_file(server.root / "big.tif", compress="deflate")
    server.reset(**{f"n{number}": fault})
    np.testing.assert_array_equal(read(vsi(server.url("big.tif")), 2, window), local(path, 2, window))
    assert len(server.requests) >= 3


def test_a_second_interruption_is_overcome_too(server):
    path = big_file(server.root / "big.tif")
    server.reset(n2="drop", n5="drop")
    np.testing.assert_array_equal(read(vsi(server.url("big.tif")), 2, ONE), local(path, 2, ONE))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")  # of the answer that was thrown away
def test_what_a_broken_answer_left_is_not_taken_for_the_file(server):
    """Tags behind the break would be gone without a word: scale and offset among them."""
    big_file(server.root / "plain.tif", names=["a", "b", "c"])
    with rasterio.open(server.root / "plain.tif", "r+") as dataset:
        dataset.scales, dataset.offsets = [0.5] * 3, [7.0] * 3
        dataset.update_tags(filler="x" * 12000)
    to_cog(server.root / "plain.tif", server.root / "cog.tif", overview_resampling="nearest")
    for fault in (None, "drop"):
        server.reset(n1=fault)
        with open_dataset(vsi(server.url(f"cog.tif?{fault}"))) as dataset:
            assert (dataset.scales[0], dataset.offsets[0], dataset.descriptions[0]) == (0.5, 7.0, "a"), fault
            assert dataset.transform == BIG.transform


@pytest.mark.parametrize("share", [0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95])
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_mask_is_not_lost_wherever_the_first_answer_breaks_off(server, share):
    grid = make_grid(130, 200)
    values = np.arange(130 * 200, dtype="uint16").reshape(grid.shape)
    write_raster(server.root / "m.tif", {"R": values}, grid=grid, valid=values % 7 > 0, radiometry=Radiometry(0.1, 3.0))
    server.share = share
    server.reset(n1="drop")
    with open_dataset(vsi(server.url("m.tif"))) as dataset:
        assert (dataset.scales, dataset.offsets, dataset.descriptions) == ((0.1,), (3.0,), ("R",))
        source = vsi(server.url("m.tif"))
        mask = again(source, lambda: dataset.read_masks(1))
        np.testing.assert_array_equal(mask > 0, values % 7 > 0)
        np.testing.assert_array_equal(again(source, lambda: dataset.read(1))[mask > 0], values[mask > 0])


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (503, r"HTTP response code.*: 503"),
        (403, r"HTTP response code.*: 403"),
        ("drop", "fail"),
        ("hang", "no answer|timed out"),
    ],
)
@pytest.mark.parametrize("late", [False, True])
def test_a_lasting_failure_is_one_clear_error(server, monkeypatch, capfd, caplog, fault, reason, late):
    monkeypatch.setenv("GDAL_HTTP_TIMEOUT", "0.2")
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "1")
    big_file(server.root / "big.tif")
    source = vsi(server.url("big.tif", user="me:PASSWORD@", query=f"?{QUERY}").replace(" ", "%20").replace("'", "%27"))
    shown = re.escape(server.url("big.tif"))
    server.reset(**{"late" if late else "all": fault})
    with pytest.raises(RasterError, match=rf"^{shown}: cannot be read \(.*\), in several attempts; is the") as caught:
        read(source, 1, ONE)
    assert re.search(reason, str(caught.value))
    assert len(server.requests) <= 14
    assert not re.search("SECRET|PASSWORD|me:", str(caught.value))
    assert not re.search("SECRET|PASSWORD|me:", "".join(capfd.readouterr()) + caplog.text)
    assert caught.value.__cause__ is None


def test_a_server_without_ranges_is_told_at_once(server):
    big_file(server.root / "big.tif")
    server.reset(all="whole")
    with pytest.raises(
        RasterError, match=r"big\.tif: cannot be read \(Range downloading not supported by this server: f"
    ):
        read(vsi(server.url("big.tif")), 1, ONE)
    assert len(server.requests) <= 3


def test_a_file_that_is_not_there_is_told_at_once(server):
    with pytest.raises(RasterError, match=rf"^{server.url('none.tif')}: cannot be read \(HTTP response code: 404\)"):
        read(vsi(server.url("none.tif?a=b")), 1, ONE)
    assert len(server.requests) <= 2


def test_errors_of_others_in_the_block_tell_no_secret(server):
    big_file(server.root / "big.tif")
    source = vsi(server.url("big.tif", user="me:PASSWORD@", query="?sig=SECRET"))
    with pytest.raises(RasterError, match=rf"^{server.url('big.tif')} is wrong$"), open_dataset(source) as dataset:
        raise RasterError(f"{dataset.name} is wrong")


def test_no_other_kind_of_file_is_read_from_afar(server, tmp_path):
    near = big_file(tmp_path / "near.tif")
    text = f"""<VRTDataset rasterXSize="960" rasterYSize="640"><VRTRasterBand dataType="UInt16" band="1">
    <SimpleSource><SourceFilename>{near}</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>
    </VRTDataset>"""
    (server.root / "evil.tif").write_text(text)
    with pytest.raises(RasterError, match=r"evil\.tif: cannot be read"):
        read(vsi(server.url("evil.tif")), 1, ONE)


def test_options_that_the_user_has_set_go_first(server, monkeypatch):
    big_file(server.root / "big.tif")
    for value in ("77", None):
        if value:
            monkeypatch.setenv("GDAL_HTTP_LOW_SPEED_TIME", value)
        else:
            monkeypatch.delenv("GDAL_HTTP_LOW_SPEED_TIME")
        with open_dataset(vsi(server.url("big.tif"))):
            options = rasterio.env.getenv()
            assert str(options["GDAL_HTTP_LOW_SPEED_TIME"]) == (value or "20")
            assert float(options["GDAL_HTTP_TIMEOUT"]) == 0.5


# Lists of URLs.


def listed(folder, *lines, name="far"):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.urls"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def served_scene(server, name="T33UUU_20170216T102101"):
    """A scene of band files on the server; the local folder and its URLs."""
    folder = small_scene(server.root, name)
    return folder, [server.url(f"{name}/{path.name}") for path in sorted(folder.iterdir())]


def test_a_list_of_urls_is_like_a_folder_of_their_files(server, tmp_path):
    folder, urls = served_scene(server)
    mask = folder / "T33UUU_20170216T102101_SCL.tif"
    mask.write_bytes((folder / "T33UUU_20170216T102101_B02.tif").read_bytes())
    big_file(server.root / "my stack ü.tif", bands=2, names=["R", "N"])
    big_file(server.root / "nameless.tif", bands=2)
    path = listed(
        tmp_path / "raw",
        "# a comment",
        "",
        *(f"  {url}?{QUERY}#part" for url in urls),
        server.url(f"{folder.name}/{mask.name}"),
        server.url("my stack ü.tif"),
        server.url("nameless.tif"),
        server.url("readme.txt"),
    )
    scene, stack = find_scenes(tmp_path / "raw", band_order=["R", "N"])
    assert (scene.name, scene.sensor, scene.acquired, scene.folder) == (folder.name, "sentinel2", "2017-02-16", path)
    assert list(scene.bands) == ["B", "G", "R", "N"]
    for band in (*scene.bands.values(), *scene.masks):
        assert band.path == path
        assert re.fullmatch(r"T33UUU_20170216T102101_(B0[2348]|SCL)\.tif", band.shown)
    assert scene.bands["R"].source.startswith(vsi(urls[2]) + "?sig=TOPSECRET%2Fa%3D&se=2030,%20%27x%27")
    assert not scene.bands["R"].source.endswith("#part")
    assert [mask.kind for mask in scene.masks] == ["scl"]
    assert (stack.name, stack.folder, {name: band.index for name, band in stack.bands.items()}) == (
        "my stack ü",
        path,
        {"R": 1, "N": 2},
    )
    assert stack.bands["R"].shown == "my stack ü.tif"
    warnings = scene.warnings + stack.warnings
    assert "not understood, ignored: far.urls/nameless.tif, far.urls/readme.txt" in warnings
    assert "SECRET" not in str(warnings)


def test_the_bands_of_a_remote_stack_may_be_named_by_the_setting(server, tmp_path):
    big_file(server.root / "nameless.tif", bands=2)
    listed(tmp_path / "raw", server.url("nameless.tif"))
    [scene] = find_scenes(tmp_path / "raw", band_order=["R", "N"])
    assert {name: (band.index, band.shown) for name, band in scene.bands.items()} == {
        "R": (1, "nameless.tif"),
        "N": (2, "nameless.tif"),
    }
    message = r"far\.urls/nameless\.tif: its 2 bands carry no names"
    assert_fault(find_scenes(tmp_path / "raw"), message, name="nameless")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["s3://bucket/a_B02.tif"], r"line 1: 's3://bucket/a_B02\.tif' cannot be read over the network; give an http"),
        (["", "ftp://me:SECRET@h/a_B02.tif?k=SECRET"], r"line 2: 'ftp://h/a_B02\.tif' cannot be read"),
        (["/vsis3/bucket/a_B02.tif"], r"line 1: '/vsis3/bucket/a_B02\.tif' cannot be read"),
        (["../a_B02.tif"], r"line 1: '\.\./a_B02\.tif' cannot be read"),
        (["file:///etc/a_B02.tif"], r"line 1: 'file:///etc/a_B02\.tif' cannot be read"),
        (["http://h/"], r"line 1: 'http://h/' cannot be read"),
        (["http:///a_B02.tif"], r"line 1: 'http:///a_B02\.tif' cannot be read"),
        (["http://[h/a_B02.tif?SECRET"], r"line 1: .* cannot be read"),
        (["http://h/1/B02.tif", "http://h/2/B02.tif"], r"line 2: a second URL of a file B02\.tif"),
        (["# nothing"], r"far\.urls: holds no URL; write one a line"),
    ],
)
def test_a_list_that_cannot_be_read_is_a_fault(tmp_path, lines, message):
    listed(tmp_path, *lines)
    small_scene(tmp_path, "good")
    found = find_scenes(tmp_path)
    assert_fault(found, rf"far\.urls: {message}" if message.startswith("line") else message, name="far")
    assert {scene.name for scene in found} == {"far", "good"}
    assert "SECRET" not in str(found)


def test_landsat_files_by_url_have_no_radiometry(tmp_path):
    product = "LC08_L2SP_001062_20201031_20201106_02_T2"
    listed(tmp_path, *(f"https://h/{product}_{file}?SECRET" for file in ("SR_B2.TIF", "SR_B4.TIF", "MTL.txt")))
    found = find_scenes(tmp_path)
    assert_fault(found, rf"far\.urls/{product}_SR_B2\.TIF: a Landsat product .* a STAC item file", name=product)
    assert "SECRET" not in str(found)


def test_a_server_that_does_not_answer_is_not_asked_for_every_band(server, tmp_path):
    _, urls = served_scene(server)
    server.reset(all=403)
    listed(tmp_path / "raw", *urls)
    [scene] = find_scenes(tmp_path / "raw")
    assert list(scene.bands) == ["B", "G", "R", "N"]
    assert len(server.requests) <= 2
    with pytest.raises(RasterError, match=rf"^{urls[0]}: cannot be read \(HTTP response code: 403\)"):
        ingest(scene, tmp_path / "s.tif")
    assert leftovers(tmp_path) == []


def test_a_remote_scene_ingests_to_the_same_bytes_as_the_local_one(server, tmp_path, stage):
    folder, urls = served_scene(server)
    listed(tmp_path / "data/raw/scenes", *(url.replace("//", "//me:PASSWORD@") + f"?{QUERY}" for url in urls))
    write_params(tmp_path)
    out = stage(stages.ingest)
    [near] = find_scenes(server.root)
    ingest(near, tmp_path / "near.tif")
    assert (tmp_path / "data/scenes" / f"{folder.name}.tif").read_bytes() == (tmp_path / "near.tif").read_bytes()
    report = (tmp_path / "data/scenes/report.json").read_text()
    files = [band["file"] for band in json.loads(report)["scenes"][0]["bands"]]
    assert files == sorted(path.name for path in folder.iterdir())
    assert not re.search("SECRET|PASSWORD|127.0.0.1", report + out)
    server.reset(all=403)
    before = tree(tmp_path / "data/scenes")
    listed(tmp_path / "data/raw/scenes", *(url + "?other=SECRET" for url in urls))
    assert "SECRET" not in stage(stages.ingest, refused=True)
    assert tree(tmp_path / "data/scenes") == before


@pytest.mark.parametrize("fault", ["drop", 503, "hang"])
@pytest.mark.parametrize("policy", ["error", "reproject"])
def test_an_ingest_goes_on_after_an_interruption(server, tmp_path, fault, policy):
    big_file(server.root / "far.tif", names=["R", "N", "B"])
    listed(tmp_path / "raw", server.url("far.tif"))
    [scene] = find_scenes(tmp_path / "raw")
    [near] = find_scenes(server.root)
    changes = {"bands": ["R"], "crs_policy": policy, "resolution_m": 20 if policy == "reproject" else 10}
    ingest(near, tmp_path / "near.tif", **changes)
    server.reset(n3=fault, n5=fault)
    ingest(scene, tmp_path / "far.tif", **changes)
    assert (tmp_path / "far.tif").read_bytes() == (tmp_path / "near.tif").read_bytes()


def test_a_small_area_of_a_big_remote_scene_moves_few_bytes(server, tmp_path):
    path = big_file(server.root / "far.tif", names=["R", "N", "B"])
    listed(tmp_path / "raw", server.url("far.tif"))
    [scene] = find_scenes(tmp_path / "raw")
    x_min, _, _, y_max = BIG.footprint(Window(4 * TILE, 3 * TILE, TILE, TILE)).bounds
    area = [x_min + 100, y_max - 400, x_min + 500, y_max - 100]
    server.reset()
    ingest(scene, tmp_path / "far_area.tif", bands=["R", "B"], area=area)
    tiles = 2 * TILE * TILE * 2
    assert tiles <= server.moved <= tiles + 2 * 2 * HEADER + HEADER
    assert server.moved < path.stat().st_size / 20
    [near] = find_scenes(server.root)
    ingest(near, tmp_path / "near.tif", bands=["R", "B"], area=area)
    assert (tmp_path / "far_area.tif").read_bytes() == (tmp_path / "near.tif").read_bytes()


# STAC items.

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
    assert_fault(one(tmp_path, assets, **properties), r"asset red tells an offset of -0\.1, but its .* 03\.01 has none")


def test_numbers_without_a_scale_of_a_baseline_with_an_offset_are_warned_about(tmp_path):
    [scene] = one(tmp_path, {"red": asset("https://h/r.tif", "B04")}, **{"s2:processing_baseline": "05.10"})
    assert re.search(r"tells no scale and offset .* the offset -0\.1: see that ingest\.scale", scene.warnings[0])


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
