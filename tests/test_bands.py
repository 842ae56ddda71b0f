import numpy as np
import spyndex

from landfold.bands import SENTINEL2, STANDARD_NAMES, Radiometry


def test_standard_names_are_those_of_the_index_list():
    assert set(spyndex.bands) >= set(STANDARD_NAMES) - {"CIRRUS"}


def test_sentinel2_names_are_those_of_the_index_list():
    listed = {band.sentinel2a.band: name for name, band in spyndex.bands.items() if hasattr(band, "sentinel2a")}
    own = {native.replace("B0", "B"): name for native, name in SENTINEL2.items() if name != "CIRRUS"}
    assert own == {native: listed[native] for native in own}
    assert len(set(SENTINEL2.values())) == 13


def test_reflectance_is_scale_and_offset_in_float32():
    numbers = np.array([[0, 1000], [10000, 65535]], dtype=np.uint16)
    found = Radiometry(0.0001, -0.1).reflectance(numbers)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [[-0.1, 0.0], [0.9, 6.4535]], atol=1e-6)


def test_the_number_of_reflectance_zero_gives_exactly_zero():
    numbers = np.array([1000], dtype=np.uint16)  # Sentinel-2 since processing baseline 04.00
    assert Radiometry(0.0001, -0.1).reflectance(numbers)[0] == 0


def test_float_numbers_stay_as_they_are_and_nan_stays_nan():
    numbers = np.array([0.123, np.nan, -1.0], dtype=np.float32)
    np.testing.assert_array_equal(Radiometry(1.0, 0.0).reflectance(numbers), numbers)
