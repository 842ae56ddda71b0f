import numpy as np
import pytest
import spyndex

from landfold.geo.bands import LANDSAT_OLI, LANDSAT_TM, SENTINEL2, STANDARD_NAMES, WORDS, Radiometry, standard_name


def test_standard_names_are_those_of_the_index_list():
    assert set(spyndex.bands) >= set(STANDARD_NAMES) - {"CIRRUS"}


def test_sentinel2_names_are_those_of_the_index_list():
    listed = {band.sentinel2a.band: name for name, band in spyndex.bands.items() if hasattr(band, "sentinel2a")}
    own = {native.replace("B0", "B"): name for native, name in SENTINEL2.items() if name != "CIRRUS"}
    assert own == {native: listed[native] for native in own}
    assert len(set(SENTINEL2.values())) == 13


@pytest.mark.parametrize(
    ("table", "platform"), [(LANDSAT_OLI, "landsat8"), (LANDSAT_TM, "landsat7"), (LANDSAT_TM, "landsat5")]
)
def test_landsat_names_are_those_of_the_index_list(table, platform):
    listed = {name: getattr(spyndex.bands[name], platform, None) for name in set(table.values()) - {"CIRRUS"}}
    names = {name: native for native, name in table.items()}
    assert {name: band.band for name, band in listed.items() if band} == {n: names[n] for n, b in listed.items() if b}
    assert sum(band is not None for band in listed.values()) >= 6
    assert len(set(table.values())) == len(table)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("R", "R"),
        ("S1", "S1"),
        ("B02", "B"),
        (" b8a ", "N2"),
        ("B11", "S1"),
        ("NIR", "N"),
        ("Near-Infrared", "N"),
        ("red_edge  1", "RE1"),
        ("swir2", "S2"),
    ],
)
def test_a_name_that_leaves_no_choice_is_understood(text, name):
    assert standard_name(text) == name


@pytest.mark.parametrize("text", ["", "B2", "B8", "SR_B4", "Band 4", "red edge", "swir", "r", "band 1 reflectance"])
def test_a_name_that_leaves_a_choice_is_not(text):
    assert standard_name(text) is None


def test_every_name_leads_to_a_standard_name():
    tables = (SENTINEL2, LANDSAT_OLI, LANDSAT_TM, WORDS)
    assert {name for table in tables for name in table.values()} <= set(STANDARD_NAMES)


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
