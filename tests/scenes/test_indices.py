import numpy as np
import pytest
import rasterio
import spyndex
from rasterio.windows import Window

from landfold.core.settings import SettingsError, validate
from landfold.geo.bands import STANDARD_NAMES, Radiometry
from landfold.geo.raster import Raster
from landfold.scenes.indices import MissingBandError, check_bands, compute, required_bands, write_indices
from landfold.scenes.settings import IndexSettings
from tests.factories import leftovers, make_grid, write_raster


def of(*names):
    return validate({"names": list(names)}, IndexSettings, where="indices")


B, G, R, N, S1 = (np.array([[value, 0.2, 0.0]]) for value in (0.05, 0.08, 0.1, 0.4, 0.25))


@pytest.mark.parametrize(
    ("name", "bands", "expected"),
    [
        ("NDVI", {"N": N, "R": R}, (0.4 - 0.1) / (0.4 + 0.1)),
        ("NDWI", {"G": G, "N": N}, (0.08 - 0.4) / (0.08 + 0.4)),
        ("NDBI", {"S1": S1, "N": N}, (0.25 - 0.4) / (0.25 + 0.4)),
        ("SAVI", {"N": N, "R": R}, (1 + 1.0) * (0.4 - 0.1) / (0.4 + 0.1 + 1.0)),  # L = 1
        ("EVI", {"N": N, "R": R, "B": B}, 2.5 * (0.4 - 0.1) / (0.4 + 6 * 0.1 - 7.5 * 0.05 + 1)),
    ],
)
def test_values_are_those_of_the_formula(name, bands, expected):
    found = compute(name, bands)
    assert found.dtype == np.float32
    assert found.shape == (1, 3)
    assert found[0, 0] == np.float32(expected)


def test_nothing_over_nothing_is_nan_and_not_zero():
    found = compute("NDVI", {"N": np.array([[0.0, 0.3, -0.3]]), "R": np.array([[0.0, 0.3, 0.3]])})
    np.testing.assert_array_equal(found, [[np.nan, 0.0, np.nan]])


OPTICAL = [name for name in spyndex.indices if set(spyndex.indices[name].bands) <= {*STANDARD_NAMES, *"LCgk"}]


@pytest.mark.parametrize("name", OPTICAL)
def test_nodata_in_any_band_is_nodata_in_the_index(name):
    bands = required_bands(name)
    for absent in bands:
        values = {band: np.array([[0.2 + 0.05 * i, 0.3]]) for i, band in enumerate(bands)}
        values[absent][0, 0] = np.nan
        assert np.isnan(compute(name, values)[0, 0])


def test_every_index_of_the_list_either_computes_or_says_what_it_lacks():
    computed = 0
    for name in spyndex.indices:
        try:
            bands = required_bands(name)
        except MissingBandError as error:
            assert str(error).startswith(f"index {name}: it needs ")  # noqa: PT017
            continue
        found = compute(name, {band: np.array([[0.2 + 0.05 * i]]) for i, band in enumerate(bands)})
        assert found.shape == (1, 1)
        computed += 1
    assert computed > 230


@pytest.mark.parametrize(("name", "lacking"), [("kNDVI", "kNN, kNR"), ("FAI", "lambdaN, lambdaR, lambdaS1")])
def test_an_index_that_needs_more_than_bands_is_refused(name, lacking):
    with pytest.raises(MissingBandError, match=f"index {name}: it needs {lacking}, which no band of a scene provides"):
        required_bands(name)


def test_an_index_whose_band_is_absent_is_refused_by_name():
    check_bands(["NDVI"], ["R", "N"])
    with pytest.raises(
        MissingBandError, match=r"index NDBI: it needs band S1, but ingest\.bands is R, N; add the band"
    ):
        check_bands(["NDVI", "NDBI"], ["R", "N"])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["NDVI_"], r"'NDVI_' is not in the Awesome Spectral Indices list \(did you mean 'NDVI'"),
        (["ndvi"], "did you mean 'NDVI'"),
        (["?"], "'[?]' is not in the Awesome Spectral Indices list$"),
        (["NDVI", "NDVI"], "an index is named twice"),
    ],
)
def test_an_unknown_index_is_refused_with_a_suggestion(names, message):
    with pytest.raises(SettingsError, match=message.replace("list$", "list [(]indices to add")):
        of(*names)


@pytest.fixture
def scene(tmp_path):
    """Reflectance stored as integers with offset; dark pixels; a nodata corner; larger than one block."""
    height, width = 40, 530
    red = np.broadcast_to(np.arange(width, dtype=np.uint16) * 3 + 1500, (height, width)).copy()
    near = np.broadcast_to(np.arange(height, dtype=np.uint16)[:, None] * 20 + 3000, (height, width)).copy()
    green = np.full((height, width), 2000, np.uint16)
    red[30:34, 500:505] = near[30:34, 500:505] = 1000  # reflectance 0
    valid = np.ones((height, width), dtype=bool)
    valid[:7, :11] = False
    return write_raster(
        tmp_path / "s.tif", {"G": green, "R": red, "N": near}, valid=valid, radiometry=Radiometry(0.0001, -0.1)
    )


def test_the_written_file_holds_the_indices_of_reflectance(tmp_path, scene):
    told = []
    write_indices(scene, of("NDWI", "NDVI"), tmp_path / "i.tif", progress=told.append)
    with Raster.open(scene) as source, Raster.open(tmp_path / "i.tif") as found:
        window = Window(0, 0, 530, 40)
        green, red, near = source.read_reflectance(window).astype(np.float64)
        assert found.names == ("NDWI", "NDVI")
        assert found.grid == source.grid == make_grid(40, 530)
        ndwi, ndvi = found.read_reflectance(window)
        valid = source.read_mask(window)
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(ndvi, (near - red) / (near + red), rtol=1e-6)
        np.testing.assert_allclose(ndwi, (green - near) / (green + near), rtol=1e-6)
    assert np.isnan(ndvi[~valid]).all()
    assert np.isnan(ndvi[30:34, 500:505]).all()
    assert (ndwi[30:34, 500:505] == 1).all(), "an index is undefined by itself, not with the first of the file"
    with rasterio.open(tmp_path / "i.tif") as file:
        assert set(file.dtypes) == {"float32"}
        assert np.isnan(file.nodata)
        assert file.descriptions == ("NDWI", "NDVI")
    assert told[-1] == 1.0


def test_the_order_of_the_names_does_not_change_an_index(tmp_path, scene):
    write_indices(scene, of("NDWI", "NDVI"), tmp_path / "1.tif")
    write_indices(scene, of("NDVI", "NDWI"), tmp_path / "2.tif")
    window = Window(0, 0, 530, 40)
    with Raster.open(tmp_path / "1.tif") as one, Raster.open(tmp_path / "2.tif") as two:
        np.testing.assert_array_equal(one.read_reflectance(window, ["NDVI", "NDWI"]), two.read_reflectance(window))


def test_a_refused_index_leaves_no_file(tmp_path, scene):
    with pytest.raises(MissingBandError, match="NDBI"):
        write_indices(scene, of("NDVI", "NDBI"), tmp_path / "i.tif")
    assert not (tmp_path / "i.tif").exists()
    assert leftovers(tmp_path) == []
