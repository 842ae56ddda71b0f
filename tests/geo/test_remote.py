"""Windows read over HTTP range requests, from a server on the loopback device."""

import re

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

from landfold.geo import remote
from landfold.geo.bands import Radiometry
from landfold.geo.dataset import RasterError, open_dataset, reading
from landfold.geo.writer import to_cog
from tests.factories import (
    centres,
    make_grid,
    write_raster,
)

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
            assert float(options["GDAL_HTTP_TIMEOUT"]) == 2
