"""Remote scenes by lists of URLs, on a server on the loopback device."""

import json
import re

import pytest
from rasterio.windows import Window

import stages.ingest
from landfold.core.settings import validate
from landfold.geo.dataset import RasterError
from landfold.scenes.ingest import ingest_scene
from landfold.scenes.sensors import find_scenes
from landfold.scenes.settings import IngestSettings
from tests.factories import (
    CRS_UTM33,
    leftovers,
    params,
    small_scene,
    tree,
    write_params,
)
from tests.geo.test_remote import BIG, HEADER, QUERY, TILE, big_file, vsi
from tests.products import assert_fault


def ingest(scene, target, **changes):
    settings = validate(params()["ingest"] | changes, IngestSettings, where="ingest")
    return ingest_scene(scene, settings, CRS_UTM33, target)


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
    assert {name for name, _, _ in server.requests} == {"far.tif"}, "no sidecar is asked for, even while one is written"


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
