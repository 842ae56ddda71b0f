import subprocess
import sys
import textwrap

import numpy as np
import pytest
import rasterio
from rasterio.enums import MaskFlags
from rasterio.windows import Window

from landfold.geo import raster
from landfold.geo.bands import Radiometry
from landfold.geo.raster import Raster, RasterError
from tests.factories import centres, leftovers, make_grid, tree, write_raster


def numbers(height=70, width=90, base=1000):
    return (np.add.outer(np.arange(height) * 90, np.arange(width)) + base).astype(np.uint16)


def whole(source):
    return Window(0, 0, source.grid.width, source.grid.height)


def test_a_raster_reads_back_as_reflectance_with_nan_under_the_mask(tmp_path):
    valid = np.ones((70, 90), dtype=bool)
    valid[:9, :13] = False
    values = {"R": numbers(), "N": numbers(base=3000)}
    path = write_raster(tmp_path / "s.tif", values, valid=valid, radiometry=Radiometry(0.0001, -0.1))
    with Raster.open(path) as source:
        assert source.names == ("R", "N")
        assert source.grid == make_grid(70, 90)
        assert source.is_integer
        assert source.radiometry == (Radiometry(0.0001, -0.1),) * 2
        found = source.read(whole(source))
        np.testing.assert_array_equal(source.valid(whole(source)), valid)
        np.testing.assert_array_equal(source.stored(whole(source))[1][valid], values["N"][valid])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(found), np.broadcast_to(~valid, (2, 70, 90)))
    np.testing.assert_allclose(found[0][valid], values["R"][valid] * 0.0001 - 0.1, atol=1e-6)


def test_windows_and_names_pick_what_they_say(tmp_path):
    values = {"R": numbers(), "N": numbers(base=3000)}
    path = write_raster(tmp_path / "s.tif", values, valid=np.ones((70, 90), dtype=bool))
    window = Window(col_off=11, row_off=5, width=7, height=4)
    with Raster.open(path) as source:
        np.testing.assert_array_equal(source.stored(window, ["N", "R"])[1], values["R"][5:9, 11:18])
        np.testing.assert_array_equal(source.read(window, ["N"])[0], values["N"][5:9, 11:18])
        with pytest.raises(RasterError, match=r"s\.tif: no channel S1, B; it has R, N"):
            source.read(window, ["S1", "R", "B"])


def test_channels_with_nan_are_undefined_each_by_itself(tmp_path):
    first, second = np.ones((20, 30), np.float32), np.full((20, 30), 2, np.float32)
    first[:5] = np.nan
    second[:, :3] = np.nan
    path = write_raster(tmp_path / "i.tif", {"NDVI": first, "NDWI": second}, nodata=np.nan)
    with Raster.open(path) as source:
        np.testing.assert_array_equal(source.read(whole(source)), [first, second])
        np.testing.assert_array_equal(source.read(whole(source), ["NDWI"])[0], second)
        np.testing.assert_array_equal(source.valid(whole(source)), ~(np.isnan(first) & np.isnan(second)))


def test_a_nodata_number_is_undefined_each_channel_by_itself(tmp_path):
    first, second = numbers(), numbers(base=3000)
    first[:5], second[:, :3] = 7, 7
    path = write_raster(tmp_path / "i.tif", {"a": first, "b": second}, nodata=7)
    with Raster.open(path) as source:
        np.testing.assert_array_equal(np.isnan(source.read(whole(source))), np.stack([first, second]) == 7)


def test_the_file_is_tiled_masked_inside_and_without_companions(tmp_path):
    write_raster(tmp_path / "s.tif", {"R": numbers(300, 310)}, valid=numbers(300, 310) > 5000)
    with rasterio.open(tmp_path / "s.tif") as dataset:
        assert dataset.block_shapes == [(256, 256)]
        assert dataset.compression.name == "deflate"
        assert MaskFlags.per_dataset in dataset.mask_flag_enums[0]
    assert list(tree(tmp_path)) == ["s.tif"]


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_equal_content_is_equal_bytes(tmp_path, dtype):
    values = {"R": numbers().astype(dtype)}
    one = write_raster(tmp_path / "one" / "s.tif", values, valid=numbers() > 2000)
    two = write_raster(tmp_path / "two" / "t.tif", values, valid=numbers() > 2000)
    assert one.read_bytes() == two.read_bytes()


def test_a_failure_while_writing_leaves_the_earlier_raster(tmp_path):
    path = write_raster(tmp_path / "s.tif", {"R": numbers()})
    before = tree(tmp_path)
    grid = make_grid(70, 90)
    with (
        pytest.raises(ZeroDivisionError, match="by zero"),
        raster.create(path, grid, ["R"], dtype="uint16") as writer,
    ):
        writer.write(Window(0, 0, 90, 70), numbers()[None])
        1 / 0  # noqa: B018
    assert tree(tmp_path) == before


def test_a_full_disk_is_told_as_such_and_leaves_nothing(tmp_path):
    """The limit on the size of a file stands for the disk; GDAL meets both in the same place."""
    program = """
        import resource, signal, sys
        from pathlib import Path
        import numpy as np
        from landfold.raster import Raster, RasterWriteError, create
        from tests.factories import make_grid, write_raster

        folder = Path(sys.argv[1])
        source = write_raster(folder / "source.tif", {"R": np.ones((9, 9), np.uint16)})
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        noise = np.random.default_rng(0).integers(0, 60_000, (1, 512, 512)).astype(np.uint16)
        grid = make_grid(512, 512)
        try:
            with Raster.open(source), create(folder / "s.tif", grid, ["R"], dtype="uint16") as writer:
                for window in grid.blocks():
                    writer.write(window, noise)
        except RasterWriteError as error:
            print(error)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "s.tif: cannot be written (" in found.stdout
    assert "source.tif" not in found.stdout
    assert list(tree(tmp_path)) == ["source.tif"]
    assert leftovers(tmp_path) == []


def test_a_raster_with_a_nameless_band_is_refused(tmp_path):
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "height": 4, "width": 5}
    grid = make_grid(4, 5)
    with rasterio.open(tmp_path / "x.tif", "w", **profile, crs=grid.crs, transform=grid.transform) as dataset:
        dataset.write(np.ones((1, 4, 5), np.uint8))
    with pytest.raises(RasterError, match=r"x\.tif: a band without a name"), Raster.open(tmp_path / "x.tif"):
        pass


@pytest.mark.parametrize("content", [None, b"", b"no raster at all"])
def test_what_is_no_raster_is_refused_and_named(tmp_path, content):
    if content is not None:
        (tmp_path / "x.tif").write_bytes(content)
    with pytest.raises(RasterError, match=r"x\.tif: cannot be read \("), raster.opened(tmp_path / "x.tif"):
        pass


def test_a_truncated_raster_is_named_even_inside_another_open_one(tmp_path):
    good = write_raster(tmp_path / "good.tif", {"R": numbers()})
    bad = write_raster(tmp_path / "bad.tif", {"R": np.random.default_rng(0).normal(size=(256, 300)).astype("f4")})
    content = bytearray(bad.read_bytes())
    content[len(content) // 2 :] = b"\0" * (len(content) - len(content) // 2)
    bad.write_bytes(content)
    with (
        pytest.raises(RasterError, match=r"bad\.tif: cannot be read \(.*fetch it again"),
        Raster.open(bad) as first,
        Raster.open(good) as second,
    ):
        second.read(whole(second))
        first.read(whole(first))


def test_a_cloud_optimized_copy_keeps_numbers_names_and_mask(tmp_path):
    east, _ = centres(make_grid(300, 600))
    valid = east > 100
    source = write_raster(tmp_path / "s.tif", {"R": east.astype(np.uint16)}, valid=valid)
    raster.to_cog(source, tmp_path / "cog.tif", overview_resampling="nearest")
    with Raster.open(source) as a, Raster.open(tmp_path / "cog.tif") as b:
        assert a.grid == b.grid
        assert b.names == ("R",)
        np.testing.assert_array_equal(a.read(whole(a)), b.read(whole(b)))
        assert b.dataset.overviews(1) == [2, 4] or b.dataset.overviews(1) == [2]
        assert b.dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    assert sorted(tree(tmp_path)) == ["cog.tif", "s.tif"]


def test_decoded_blocks_are_kept(tmp_path):
    """A cache counted in megabytes, which rasterio takes for bytes, made each patch decode its block anew."""
    path = write_raster(tmp_path / "s.tif", {"R": numbers()})
    with raster.opened(path):
        assert 64 * 2**20 <= rasterio.env.getenv()["GDAL_CACHEMAX"] <= 2**30


def test_scan_gives_every_block_once_in_order(tmp_path):
    rows, columns = np.mgrid[:700, :900]
    values = {"R": (rows * 7 + columns).astype("uint16"), "G": (rows + columns * 5).astype("uint16")}
    path = write_raster(tmp_path / "s.tif", values, valid=rows > columns)
    with Raster.open(path) as source:
        windows = list(source.grid.blocks())
        expected = [(source.stored(window), source.valid(window)) for window in windows]
        found = list(source.scan())
        next(source.scan())  # one that is given up early does no harm
        again = source.stored(windows[-1])
    assert len(windows) == len(found) == 4
    for (stored, valid), (stored_too, valid_too) in zip(expected, found, strict=True):
        assert np.array_equal(stored, stored_too)
        assert np.array_equal(valid, valid_too)
    assert np.array_equal(again, expected[-1][0])


def test_scan_names_the_file_that_breaks(tmp_path):
    random = np.random.default_rng(0).integers(0, 60000, (700, 900)).astype("uint16")
    path = write_raster(tmp_path / "s.tif", {"R": random})
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    with pytest.raises(RasterError, match=r"s\.tif: cannot be read"), Raster.open(path) as source:
        list(source.scan())


@pytest.mark.parametrize("name", ["scene.tif", "SCENE.TIFF", "scene.jp2"])
def test_what_is_called_an_image_and_leads_elsewhere_is_refused(tmp_path, name):
    """By its content GDAL would take it for a VRT, whose pixels are the bytes of any file."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"1234")
    (tmp_path / name).write_text(
        '<VRTDataset rasterXSize="2" rasterYSize="2"><VRTRasterBand dataType="Byte" band="1" '
        f'subClass="VRTRawRasterBand"><SourceFilename relativeToVRT="0">{secret}</SourceFilename></VRTRasterBand>'
        "</VRTDataset>"
    )
    with pytest.raises(RasterError, match=rf"{name}: cannot be read"), raster.opened(tmp_path / name):
        pass


def _overviews_of(file):
    return f"<PAMDataset><Metadata domain='OVERVIEWS'><MDI key='OVERVIEW_FILE'>{file}</MDI></Metadata></PAMDataset>"


@pytest.mark.parametrize(
    ("companion", "message"),
    [
        ("scene.tif.msk", r"scene\.tif\.msk: no TIFF, as a mask or overviews"),
        ("SCENE.TIF.OVR", r"SCENE\.TIF\.OVR: no TIFF, as a mask or overviews"),
        ("scene.tif.aux.xml", r"scene\.tif: its tag OVERVIEW_FILE would lead"),
        ("scene.tif.msk.aux.xml", r"scene\.tif\.msk: its tag OVERVIEW_FILE would lead"),
        (None, r"scene\.tif: its tag OVERVIEW_FILE would lead"),
    ],
)
def test_what_lies_beside_an_image_does_not_lead_elsewhere(tmp_path, companion, message):
    """GDAL takes masks and overviews by any of its drivers: these would be the bytes of any file, or of any host."""
    path = write_raster(tmp_path / "scene.tif", {"R": numbers()})
    leads = tmp_path / "leads.vrt"
    leads.write_text(
        '<VRTDataset rasterXSize="90" rasterYSize="70"><VRTRasterBand dataType="Byte" band="1">'
        f"<SimpleSource><SourceFilename>{tmp_path / 'secret'}</SourceFilename></SimpleSource></VRTRasterBand>"
        "</VRTDataset>"
    )
    if companion is None:
        with rasterio.open(path, "r+") as dataset:
            dataset.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=str(leads))
    else:
        if companion == "scene.tif.msk.aux.xml":
            write_raster(tmp_path / "mask.tif", {"R": numbers()}).rename(tmp_path / "scene.tif.msk")
        is_vrt = not companion.endswith(".aux.xml")
        (tmp_path / companion).write_text(leads.read_text() if is_vrt else _overviews_of(leads))
    with pytest.raises(RasterError, match=message), raster.opened(path):
        pass


def test_a_mask_and_overviews_beside_an_image_are_taken(tmp_path):
    path = tmp_path / "scene.tif"
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "height": 600, "width": 700}
    profile |= {"crs": "EPSG:32633", "transform": make_grid(600, 700).transform}
    values = np.ones((1, 600, 700), dtype=np.uint8)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "w", **profile) as dataset:
        dataset.write(values)
        dataset.write_mask(np.arange(600 * 700).reshape(600, 700) % 2 == 0)
    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2])
    assert {"scene.tif.msk", "scene.tif.ovr"} <= set(tree(tmp_path))
    with raster.opened(path) as dataset:
        assert dataset.overviews(1) == [2]
        assert (dataset.read_masks(1) > 0).mean() == 0.5
