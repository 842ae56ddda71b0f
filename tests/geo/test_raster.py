import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from landfold.geo.bands import Radiometry
from landfold.geo.raster import Raster, RasterError
from tests.factories import make_grid, write_raster


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
        found = source.read_reflectance(whole(source))
        np.testing.assert_array_equal(source.read_mask(whole(source)), valid)
        np.testing.assert_array_equal(source.read_raw(whole(source))[1][valid], values["N"][valid])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(found), np.broadcast_to(~valid, (2, 70, 90)))
    np.testing.assert_allclose(found[0][valid], values["R"][valid] * 0.0001 - 0.1, atol=1e-6)


def test_windows_and_names_pick_what_they_say(tmp_path):
    values = {"R": numbers(), "N": numbers(base=3000)}
    path = write_raster(tmp_path / "s.tif", values, valid=np.ones((70, 90), dtype=bool))
    window = Window(col_off=11, row_off=5, width=7, height=4)
    with Raster.open(path) as source:
        np.testing.assert_array_equal(source.read_raw(window, ["N", "R"])[1], values["R"][5:9, 11:18])
        np.testing.assert_array_equal(source.read_reflectance(window, ["N"])[0], values["N"][5:9, 11:18])
        with pytest.raises(RasterError, match=r"s\.tif: no channel S1, B; it has R, N"):
            source.read_reflectance(window, ["S1", "R", "B"])


def test_channels_with_nan_are_undefined_each_by_itself(tmp_path):
    first, second = np.ones((20, 30), np.float32), np.full((20, 30), 2, np.float32)
    first[:5] = np.nan
    second[:, :3] = np.nan
    path = write_raster(tmp_path / "i.tif", {"NDVI": first, "NDWI": second}, nodata=np.nan)
    with Raster.open(path) as source:
        np.testing.assert_array_equal(source.read_reflectance(whole(source)), [first, second])
        np.testing.assert_array_equal(source.read_reflectance(whole(source), ["NDWI"])[0], second)
        np.testing.assert_array_equal(source.read_mask(whole(source)), ~(np.isnan(first) & np.isnan(second)))


def test_a_nodata_number_is_undefined_each_channel_by_itself(tmp_path):
    first, second = numbers(), numbers(base=3000)
    first[:5], second[:, :3] = 7, 7
    path = write_raster(tmp_path / "i.tif", {"a": first, "b": second}, nodata=7)
    with Raster.open(path) as source:
        np.testing.assert_array_equal(np.isnan(source.read_reflectance(whole(source))), np.stack([first, second]) == 7)


@pytest.mark.parametrize("hiding", ["mask", "alpha"])
def test_a_nodata_number_does_not_make_a_mask_forgotten(tmp_path, hiding):
    """GDAL's own mask of such a file is one of the two."""
    values, shown = np.arange(1, 21, dtype=np.uint16).reshape(4, 5), np.ones((4, 5), dtype=bool)
    values[0, :2], shown[2, 1:4] = 0, False
    path, grid = tmp_path / "s.tif", make_grid(4, 5)
    profile = {"driver": "GTiff", "dtype": "uint16", "count": 2, "height": 4, "width": 5, "nodata": 0}
    profile |= {"crs": grid.crs, "transform": grid.transform}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **profile) as dataset:
        if hiding == "alpha":
            dataset.colorinterp = [ColorInterp.gray, ColorInterp.alpha]
        dataset.write(np.stack([values, np.where(shown, 255, 0)]))
        dataset.descriptions = ("B", "second")
        if hiding == "mask":
            dataset.write_mask(shown)
    with Raster.open(path) as source:
        found = source.read_reflectance(whole(source), ["B"])[0]
    np.testing.assert_array_equal(np.isnan(found), (values == 0) | ~shown)


def test_a_raster_with_a_nameless_band_is_refused(tmp_path):
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "height": 4, "width": 5}
    grid = make_grid(4, 5)
    with rasterio.open(tmp_path / "x.tif", "w", **profile, crs=grid.crs, transform=grid.transform) as dataset:
        dataset.write(np.ones((1, 4, 5), np.uint8))
    with pytest.raises(RasterError, match=r"x\.tif: a band without a name"), Raster.open(tmp_path / "x.tif"):
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
        second.read_reflectance(whole(second))
        first.read_reflectance(whole(first))


def test_scan_gives_every_block_once_in_order(tmp_path):
    rows, columns = np.mgrid[:700, :900]
    values = {"R": (rows * 7 + columns).astype("uint16"), "G": (rows + columns * 5).astype("uint16")}
    path = write_raster(tmp_path / "s.tif", values, valid=rows > columns)
    with Raster.open(path) as source:
        windows = list(source.grid.blocks())
        expected = [(source.read_raw(window), source.read_mask(window)) for window in windows]
        found = list(source.scan())
        next(source.scan())  # one that is given up early does no harm
        again = source.read_raw(windows[-1])
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
