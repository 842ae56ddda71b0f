"""Landsat Collection 2 products."""

import math

import numpy as np
import pytest

from landfold.scenes.sensors import find_scenes
from tests.products import LANDSAT_NAME, assert_fault, mtl, mtl_text, write_landsat

L1_NAME = "LC08_L1TP_193023_20210101_20210308_02_T1"
TM_NAME = "LT05_L1TP_193023_19900101_20200916_02_T1"
SINE = math.sin(math.radians(64.45083205))


def level1(product, *, bands, craft="LANDSAT_8", sensor="OLI_TIRS", **rescaling):
    """Groups of a level 1 MTL, which has the radiometry of level 1 alone."""
    return mtl(
        PRODUCT_CONTENTS={
            "LANDSAT_PRODUCT_ID": product,
            "PROCESSING_LEVEL": "L1TP",
            "FILE_NAME_BAND_ST_B10": "",
            **{f"FILE_NAME_BAND_{i}": "" for i in range(1, 8)},
            "FILE_NAME_QUALITY_L1_PIXEL": f"{product}_QA_PIXEL.TIF",
            **{f"FILE_NAME_BAND_{band}": f"{product}_B{band}.TIF" for band in bands},
        },
        IMAGE_ATTRIBUTES={"SPACECRAFT_ID": craft, "SENSOR_ID": sensor},
        LEVEL2_PROCESSING_RECORD=None,
        LEVEL2_SURFACE_REFLECTANCE_PARAMETERS=None,
        LEVEL1_RADIOMETRIC_RESCALING=rescaling,
    )


@pytest.mark.parametrize("forms", [("txt",), ("json",), ("xml",), ("txt", "json", "xml")])
def test_level_2_is_read_from_any_form_of_its_mtl(tmp_path, forms):
    folder = write_landsat(tmp_path / "any name, 'ü'", forms=forms)
    [scene] = find_scenes(tmp_path)
    assert (scene.name, scene.sensor, scene.folder) == (LANDSAT_NAME, "landsat8", folder)
    assert scene.acquired == "2020-10-31"
    assert {name: band.native_name for name, band in scene.bands.items()} == {"B": "B2", "R": "B4", "N": "B5"}
    assert [(mask.kind, mask.path.name) for mask in scene.masks] == [("qa_pixel", f"{LANDSAT_NAME}_QA_PIXEL.TIF")]
    assert scene.processing == {"level": "L2SP", "collection": "02"}
    assert scene.warnings == []
    assert {band.nodata for band in scene.bands.values()} == {0}


def test_level_2_is_surface_reflectance(tmp_path):
    [scene] = find_scenes(write_landsat(tmp_path))
    numbers = np.array([7273, 43636, 65535], dtype=np.uint16)
    for band in scene.bands.values():
        found = band.radiometry.reflectance(numbers)
        np.testing.assert_allclose(found, [7.5e-6, 0.99999, 1.602213], atol=5e-7)  # the MTL's REFLECTANCE_MAXIMUM


def test_the_kelvin_of_level_2_are_no_band(tmp_path):
    groups = mtl(PRODUCT_CONTENTS={"FILE_NAME_BAND_10": f"{LANDSAT_NAME}_ST_B10.TIF"})
    [scene] = find_scenes(write_landsat(tmp_path, groups=groups))
    assert {"T", "T1", "T2"}.isdisjoint(scene.bands)


def test_level_1_is_reflectance_under_the_sun_and_radiance(tmp_path):
    bands = [*range(1, 12)]
    write_landsat(
        tmp_path,
        [f"B{i}" for i in bands],
        product=L1_NAME,
        groups=level1(
            L1_NAME,
            bands=bands,
            **{
                "RADIANCE_MULT_BAND_11": "3.3420E-04",
                "RADIANCE_ADD_BAND_11": "0.10000",
            },
        ),
    )
    [scene] = find_scenes(tmp_path)
    assert {band.native_name: name for name, band in scene.bands.items()} == {
        "B1": "A", "B2": "B", "B3": "G", "B4": "R", "B5": "N", "B6": "S1", "B7": "S2", "B9": "CIRRUS",
        "B10": "T1", "B11": "T2",
    }  # fmt: skip
    numbers = np.array([5000, 30000], dtype=np.uint16)
    found = scene.bands["R"].radiometry.reflectance(numbers)
    np.testing.assert_allclose(found, [0, 0.5 / SINE], atol=1e-6)
    thermal = scene.bands["T1"].radiometry
    assert (thermal.scale, thermal.offset) == (3.342e-4, 0.1)
    assert scene.processing["level"] == "L1TP"


def test_the_sun_of_level_2_changes_nothing(tmp_path):
    groups = mtl(IMAGE_ATTRIBUTES={"SUN_ELEVATION": -3.0})
    [scene] = find_scenes(write_landsat(tmp_path, groups=groups))
    assert scene.bands["R"].radiometry.scale == 2.75e-5


@pytest.mark.parametrize(
    ("craft", "sensor", "name"), [("LANDSAT_5", "TM", "landsat5"), ("LANDSAT_4", "TM", "landsat4")]
)
def test_bands_of_the_thematic_mapper(tmp_path, craft, sensor, name):
    rescaling = {"RADIANCE_MULT_BAND_6": "5.5375E-02", "RADIANCE_ADD_BAND_6": "1.18243"}
    groups = level1(TM_NAME, bands=range(1, 8), craft=craft, sensor=sensor, **rescaling)
    [scene] = find_scenes(write_landsat(tmp_path, [f"B{i}" for i in range(1, 8)], product=TM_NAME, groups=groups))
    assert scene.sensor == name
    found = {band.native_name: band.name for band in scene.bands.values()}
    assert found == {"B1": "B", "B2": "G", "B3": "R", "B4": "N", "B5": "S1", "B6": "T", "B7": "S2"}
    assert scene.bands["T"].radiometry.offset == 1.18243


def test_etm_has_its_thermal_band_at_low_gain(tmp_path):
    product = "LE07_L1TP_022049_20020416_20200916_02_T1"
    rescaling = {
        f"RADIANCE_{part}_BAND_6_VCID_{i}": value
        for i, values in {1: ("6.7087E-02", "-0.06709"), 2: ("3.7205E-02", "3.16280")}.items()
        for part, value in zip(("MULT", "ADD"), values, strict=True)
    }
    bands = [1, 2, 3, 4, 5, "6_VCID_1", "6_VCID_2", 7, 8]
    groups = level1(product, bands=bands, craft="LANDSAT_7", sensor="ETM", **rescaling)
    [scene] = find_scenes(write_landsat(tmp_path, [f"B{i}" for i in bands], product=product, groups=groups))
    assert (scene.sensor, list(scene.bands)) == ("landsat7", ["B", "G", "R", "N", "S1", "T", "S2"])
    thermal = scene.bands["T"]
    assert thermal.path.name == f"{product}_B6_VCID_1.TIF"
    assert (thermal.radiometry.scale, thermal.radiometry.offset) == (0.067087, -0.06709)


def test_several_products_may_lie_in_one_folder(tmp_path):
    other = LANDSAT_NAME.replace("LC08", "LC09")
    groups = mtl(
        PRODUCT_CONTENTS={"LANDSAT_PRODUCT_ID": other, "FILE_NAME_BAND_3": f"{other}_SR_B3.TIF"},
        IMAGE_ATTRIBUTES={"SPACECRAFT_ID": "LANDSAT_9"},
    )
    write_landsat(tmp_path)
    write_landsat(tmp_path, ["SR_B3"], product=other, groups=groups)
    found = find_scenes(tmp_path)
    assert [(s.sensor, list(s.bands)) for s in found] == [("landsat8", ["B", "R", "N"]), ("landsat9", ["G"])]


def test_file_names_of_the_mtl_lead_nowhere_else(tmp_path):
    write_landsat(tmp_path / "other", ["SR_B3"], product="stolen", groups=mtl())
    (tmp_path / "other" / "stolen_MTL.txt").unlink()
    groups = mtl(PRODUCT_CONTENTS={"FILE_NAME_BAND_3": "../other/stolen_SR_B3.TIF"})
    [scene] = find_scenes(write_landsat(tmp_path / "product", groups=groups))
    assert list(scene.bands) == ["B", "R", "N"]


def test_what_is_not_the_products_becomes_a_warning(tmp_path):
    write_landsat(tmp_path)
    (tmp_path / "SOURCE.txt").touch()
    (tmp_path / f"{LANDSAT_NAME}_ANG.txt").touch()
    [scene] = find_scenes(tmp_path)
    assert scene.warnings == ["not understood, ignored: SOURCE.txt"]


@pytest.mark.parametrize("file", [f"{L1_NAME}_B10.TIF", f"{LANDSAT_NAME}_SR_B2.TIF", f"{LANDSAT_NAME}_QA_PIXEL.TIF"])
def test_band_files_without_their_mtl_are_refused(tmp_path, file):
    (tmp_path / file).touch()  # _B10 is cirrus of Sentinel-2 and a thermal band of Landsat 8
    message = rf"{file}: a Landsat product without {file[:40]}_MTL\.txt .* beside it"
    [scene] = find_scenes(tmp_path)
    assert_fault([scene], message, name=file[:40])
    assert scene.acquired == f"{file[17:21]}-{file[21:23]}-{file[23:25]}"


def test_a_product_without_its_mtl_is_one_fault_and_hides_no_other(tmp_path):
    other = LANDSAT_NAME.replace("LC08", "LC09")
    write_landsat(tmp_path, forms=())
    write_landsat(tmp_path, ["SR_B3", "QA_PIXEL"], product=other, forms=())
    write_landsat(tmp_path / "good", product="good", groups=mtl(PRODUCT_CONTENTS={"LANDSAT_PRODUCT_ID": "good"}))
    first, second, good = find_scenes(tmp_path)
    assert_fault([first], r"_QA_PIXEL\.TIF: a Landsat product without", name=LANDSAT_NAME)
    assert_fault([second], r"_QA_PIXEL\.TIF: a Landsat product without", name=other)
    assert (good.name, good.fault) == ("good", None)
    assert [scene.warnings for scene in (first, second, good)] == [[], [], []]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"PRODUCT_CONTENTS": {"COLLECTION_NUMBER": "01"}}, r"collection 01, but Landfold reads Collection 2"),
        ({"PRODUCT_CONTENTS": None}, r"no collection number, but Landfold reads Collection 2"),
        ({"PRODUCT_CONTENTS": {"LANDSAT_PRODUCT_ID": ""}}, r"no LANDSAT_PRODUCT_ID; the file is truncated"),
        ({"PRODUCT_CONTENTS": {"PROCESSING_LEVEL": "abc"}}, r"PROCESSING_LEVEL is 'abc'; expected L1TP, L1GT,"),
        ({"IMAGE_ATTRIBUTES": {"SENSOR_ID": "MSS"}}, r"MSS of LANDSAT_8; Landfold knows OLI"),
        ({"IMAGE_ATTRIBUTES": {"SPACECRAFT_ID": "LANDSAT_3"}}, r"OLI_TIRS of LANDSAT_3; Landfold knows OLI"),
        ({"LEVEL2_SURFACE_REFLECTANCE_PARAMETERS": None}, r"no group LEVEL2_SURFACE_REFLECTANCE_PARAMETERS"),
        (
            {"LEVEL2_SURFACE_REFLECTANCE_PARAMETERS": {"REFLECTANCE_ADD_BAND_4": "none"}},
            r"REFLECTANCE_ADD_BAND_4 of LEVEL2_SURFACE_REFLECTANCE_PARAMETERS is 'none', no number",
        ),
        (
            {"LEVEL2_SURFACE_REFLECTANCE_PARAMETERS": {"REFLECTANCE_MULT_BAND_4": 0}},
            r"MULT_BAND_4 .* is 0, not positive",
        ),
    ],
)
def test_an_mtl_that_does_not_tell_is_refused(tmp_path, changes, message):
    write_landsat(tmp_path, groups=mtl(**changes))
    assert_fault(find_scenes(tmp_path), rf"_MTL\.txt: .*{message}", name=LANDSAT_NAME)


@pytest.mark.parametrize("elevation", [-3.0, 0, "dark"])
def test_level_1_without_sun_is_refused(tmp_path, elevation):
    groups = level1(L1_NAME, bands=[4])
    groups["IMAGE_ATTRIBUTES"]["SUN_ELEVATION"] = elevation
    write_landsat(tmp_path, ["B4"], product=L1_NAME, groups=groups)
    assert_fault(find_scenes(tmp_path), r"SUN_ELEVATION is .*(without sun has no reflectance|no number)")


@pytest.mark.parametrize("text", ["[]", "{}", "{", '{"LANDSAT_METADATA_FILE": {"A": 1}}'])
def test_a_json_that_is_no_mtl_is_refused(tmp_path, text):
    (tmp_path / f"{LANDSAT_NAME}_MTL.json").write_text(text)
    assert_fault(find_scenes(tmp_path), r"_MTL\.json: no MTL in JSON")


def test_a_product_cannot_call_itself_a_path(tmp_path):
    write_landsat(tmp_path, groups=mtl(PRODUCT_CONTENTS={"LANDSAT_PRODUCT_ID": "../../evil"}))
    message = r"the scene calls itself '\.\./\.\./evil', which can be no file's name"
    assert_fault(find_scenes(tmp_path), message, name=".._.._evil")


def test_the_xml_of_an_mtl_may_not_declare_entities(tmp_path):
    text = mtl_text(mtl(), "xml").replace("?>", '?><!DOCTYPE a [<!ENTITY b "b">]>', 1)
    (tmp_path / f"{LANDSAT_NAME}_MTL.xml").write_text(text)
    assert_fault(find_scenes(tmp_path), r"_MTL\.xml: declares a document type")
