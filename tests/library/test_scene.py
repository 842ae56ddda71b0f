import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.enums import ColorInterp
from rasterio.windows import Window

import landfold
from landfold.geo.bands import Radiometry
from landfold.geo.dataset import RasterError
from landfold.geo.grid import GridError
from tests.factories import CRS_UTM33, ORIGIN_X, ORIGIN_Y, make_grid, write_raster


def numbers(shape=(30, 40)):
    return np.arange(shape[0] * shape[1], dtype=np.uint16).reshape(shape) + 1000


def test_a_raster_of_landfold_is_read_by_names_and_windows(tmp_path):
    valid = np.ones((30, 40), dtype=bool)
    valid[:5, :7] = False
    red, nir = numbers(), numbers() + 5000
    path = write_raster(tmp_path / "s.tif", {"R": red, "N": nir}, valid=valid, radiometry=Radiometry(1e-4, -0.1))
    scene = landfold.open_scene(path)
    assert (scene.bands, scene.shape, scene.crs) == (("R", "N"), (30, 40), CRS_UTM33)
    assert scene.transform == make_grid(30, 40).transform
    assert scene.bounds == (ORIGIN_X, ORIGIN_Y - 300, ORIGIN_X + 400, ORIGIN_Y)
    whole = scene.read()
    expected = np.where(valid, red * 1e-4 - 0.1, np.nan)
    np.testing.assert_allclose(whole[0], expected, rtol=1e-5)
    window = scene.window(ORIGIN_X + 55, ORIGIN_Y - 95, ORIGIN_X + 105, ORIGIN_Y - 35)
    assert window == Window(5, 3, 6, 7)
    np.testing.assert_array_equal(scene.read(["N"], window)[0], whole[1][3:10, 5:11])
    assert scene.window(ORIGIN_X - 99, ORIGIN_Y - 30, ORIGIN_X + 20, ORIGIN_Y + 99) == Window(0, 0, 2, 3)
    with pytest.raises(RasterError, match=r"no channel G; it has R, N"):
        scene.read(["G"])
    with pytest.raises(GridError, match=r"s\.tif: covers \(.*\), which \(0, 0, 9, 9\) is off"):
        scene.window(0, 0, 9, 9)


TRANSFORM = make_grid().transform


def write(path, *, crs=CRS_UTM33, transform=TRANSFORM, bands=1, **options):
    profile = {"driver": "GTiff", "dtype": "uint16", "count": bands, "height": 30, "width": 40} | options
    with rasterio.open(path, "w", crs=crs, transform=transform, **profile) as dataset:
        for band in range(1, bands + 1):
            dataset.write(numbers() + band, band)
        if bands == 4:
            dataset.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
            alpha = np.full((30, 40), 65535, dtype=np.uint16)
            alpha[0, 0] = 0
            dataset.write(alpha, bands)
    return path


def test_any_geotiff_has_names_and_its_nodata_is_nan(tmp_path):
    scene = landfold.open_scene(str(write(tmp_path / "other.tif", bands=2, nodata=1001)))
    assert scene.bands == ("band_1", "band_2")
    first, second = scene.read()
    assert np.isnan(first[0, 0])
    assert not np.isnan(first[1:]).any()
    assert second[0, 0] == 1002


def test_an_alpha_band_is_a_mask(tmp_path):
    scene = landfold.open_scene(write(tmp_path / "rgba.tif", bands=4, photometric="RGB", alpha="yes"))
    assert scene.bands == ("band_1", "band_2", "band_3")
    values = scene.read()
    assert values.shape == (3, 30, 40)
    assert np.isnan(values[:, 0, 0]).all()
    assert np.isfinite(values).sum() == 3 * (30 * 40 - 1)


def test_what_lies_nowhere_or_is_no_raster_is_refused(tmp_path):
    with pytest.raises(GridError, match="has no CRS, and none is guessed"):
        landfold.open_scene(write(tmp_path / "free.tif", crs=None))
    (tmp_path / "text.tif").write_text("no raster")
    with pytest.raises(RasterError, match=r"text\.tif: cannot be read"):
        landfold.open_scene(tmp_path / "text.tif")
    turned = landfold.open_scene(write(tmp_path / "turned.tif", transform=Affine(10, 2, ORIGIN_X, 2, -10, ORIGIN_Y)))
    with pytest.raises(GridError, match="the grid is rotated or south-up; give windows in pixels"):
        turned.window(0, 0, 1, 1)
    assert turned.read(window=Window(3, 4, 5, 6)).shape == (1, 6, 5)
