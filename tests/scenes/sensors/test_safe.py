"""Sentinel-2 SAFE products: folders and archives."""

import zipfile

import numpy as np
import pytest
import rasterio

from landfold.scenes.sensors import find_scenes, metadata
from landfold.scenes.sensors.scene_files import SceneError
from tests.products import L1C_FILES, SAFE_NAME, assert_fault, safe_xml, write_safe, zipped

OFFSETS = dict.fromkeys(range(13), -1000)
FEW = {"B02": (60,)}


def metres(band):
    """The resolution in a band file's name."""
    return int(str(band.source or band.path).rsplit("_", 1)[1].split("m")[0])


def test_level_2a_is_read_with_each_band_at_its_finest_resolution(tmp_path):
    root = write_safe(tmp_path)
    [scene] = find_scenes(tmp_path)
    assert (scene.name, scene.sensor, scene.folder, scene.acquired) == (SAFE_NAME, "sentinel2", root, "2022-10-05")
    found = {band.native_name: metres(band) for band in scene.bands.values()}
    assert found == {"B01": 60, "B02": 10, "B03": 10, "B04": 10, "B08": 10, "B8A": 20}
    assert list(scene.bands) == ["A", "B", "G", "R", "N", "N2"]
    assert {band.nodata for band in scene.bands.values()} == {0}
    assert [(mask.kind, mask.path.name) for mask in scene.masks] == [("scl", "T29UNU_20221005T115411_SCL_20m.jp2")]
    assert scene.processing == {"level": "L2A", "baseline": "04.00"}
    assert (scene.warnings, scene.fault) == ([], None)


def test_where_10_m_is_absent_the_coarser_file_is_taken(tmp_path):
    write_safe(tmp_path, files={"B02": (20, 60), "B03": (60,)})
    [scene] = find_scenes(tmp_path)
    assert {name: metres(band) for name, band in scene.bands.items()} == {"B": 20, "G": 60}
    assert scene.masks == ()


def test_level_1c_is_read(tmp_path):
    write_safe(tmp_path, "S2A_MSIL1C_20221005T115411_N0400_R023_T29UNU_20221005T135454", level="L1C")
    [scene] = find_scenes(tmp_path)
    assert {band.native_name for band in scene.bands.values()} == set(L1C_FILES)
    assert scene.processing == {"level": "L1C", "baseline": "04.00"}
    assert {band.radiometry.offset for band in scene.bands.values()} == {-0.1}


@pytest.mark.parametrize("level", ["L1C", "L2A"])
@pytest.mark.parametrize(
    ("baseline", "offsets", "numbers", "reflectance"),
    [
        ("04.00", OFFSETS, [1000, 1001, 11000], [0.0, 0.0001, 1.0]),
        ("05.11", OFFSETS, [1000, 1001, 11000], [0.0, 0.0001, 1.0]),
        ("03.01", None, [0, 1, 10000], [0.0, 0.0001, 1.0]),
        ("99.99", None, [0, 1, 10000], [0.0, 0.0001, 1.0]),
    ],
)
def test_the_offset_is_the_products_own(tmp_path, level, baseline, offsets, numbers, reflectance):
    write_safe(tmp_path, level=level, files=FEW, xml=safe_xml(level=level, baseline=baseline, offsets=offsets))
    [scene] = find_scenes(tmp_path)
    found = scene.bands["B"].radiometry.reflectance(np.array(numbers, dtype=np.uint16))
    np.testing.assert_allclose(found, reflectance, atol=1e-7)
    assert found[0] == 0
    assert scene.processing["baseline"] == baseline


def test_each_band_has_the_offset_of_its_own_id(tmp_path):
    xml = safe_xml(offsets={i: -100 * i for i in range(13)}, quantification=5000)
    write_safe(tmp_path, files={"B02": (60,), "B8A": (60,), "B12": (60,)}, xml=xml)
    [scene] = find_scenes(tmp_path)
    found = {band.native_name: (band.radiometry.scale, band.radiometry.offset) for band in scene.bands.values()}
    assert found == {"B02": (0.0002, -0.02), "B8A": (0.0002, -0.16), "B12": (0.0002, -0.24)}


def test_the_name_of_the_quantification_before_baseline_02_07_is_known(tmp_path):
    write_safe(tmp_path, files=FEW, xml=safe_xml(baseline="02.06", tag="L2A_BOA_QUANTIFICATION_VALUE"))
    [scene] = find_scenes(tmp_path)
    assert (scene.bands["B"].radiometry.scale, scene.bands["B"].radiometry.offset) == (0.0001, 0.0)


@pytest.mark.parametrize(("text", "nodata"), [("NODATA", 0), ("SATURATED", None)])
def test_nodata_is_what_the_product_declares(tmp_path, text, nodata):
    write_safe(tmp_path, files=FEW, xml=safe_xml(offsets=OFFSETS).replace(">NODATA<", f">{text}<"))
    [scene] = find_scenes(tmp_path)
    assert scene.bands["B"].nodata == nodata


@pytest.mark.parametrize("inside", [None, ""])
@pytest.mark.parametrize("archive", [f"{SAFE_NAME}.zip", f"{SAFE_NAME}.SAFE.zip", "my 'zip', \"ü\" & {co}.ZIP"])
def test_an_archive_is_read_in_place(tmp_path, inside, archive):
    root = write_safe(tmp_path / "unpacked")
    scenes = tmp_path / "scenes"
    scenes.mkdir()
    path = zipped(root, scenes / archive, inside=inside)
    [scene] = find_scenes(scenes)
    assert scene.name == (SAFE_NAME if inside is None else path.stem.removesuffix(".SAFE"))
    assert [p.name for p in scenes.iterdir()] == [archive], "nothing is unpacked"
    [folder] = find_scenes(tmp_path / "unpacked")
    assert scene.bands.keys() == folder.bands.keys()
    assert [(m.kind, m.path) for m in scene.masks] == [("scl", path)]
    for name, band in scene.bands.items():
        assert band.path == path
        assert (band.radiometry, band.nodata) == (folder.bands[name].radiometry, folder.bands[name].nodata)
        with rasterio.open(band.source) as a, rasterio.open(folder.bands[name].path) as b:
            assert a.transform == b.transform
            np.testing.assert_array_equal(a.read(), b.read())
    with rasterio.open(scene.masks[0].source) as mask:
        assert mask.shape == (36, 48)


def test_a_product_and_its_archive_are_one_scene_twice(tmp_path):
    zipped(write_safe(tmp_path, files=FEW), tmp_path / f"{SAFE_NAME}.zip")
    with pytest.raises(SceneError, match=rf"scene {SAFE_NAME}: found in .*\.SAFE and in .*\.zip; a scene's name"):
        find_scenes(tmp_path)


def test_a_folder_with_a_name_of_its_own_is_called_by_it(tmp_path):
    write_safe(tmp_path, files=FEW).rename(tmp_path / "wald, 'Größe' am See.SAFE")
    assert [scene.name for scene in find_scenes(tmp_path)] == ["wald, 'Größe' am See"]


def test_products_lie_beside_other_scenes(tmp_path):
    write_safe(tmp_path, files=FEW)
    (tmp_path / "farm_N.tif").touch()
    (tmp_path / "notes.txt").touch()
    found = find_scenes(tmp_path)
    assert [scene.name for scene in found] == [SAFE_NAME, "farm"]
    assert [warning for scene in found for warning in scene.warnings] == ["not understood, ignored: notes.txt"]


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        (safe_xml(), r"no BOA_ADD_OFFSET, though processing baseline 04\.00 has one for each band"),
        (safe_xml(offsets={0: -1000}), r"no BOA_ADD_OFFSET for band B02, though other bands have one"),
        (safe_xml(offsets={**OFFSETS, 1: "much"}), r"BOA_ADD_OFFSET is 'much', no number"),
        (safe_xml(offsets=OFFSETS, tag="OTHER"), r"BOA_QUANTIFICATION_VALUE is absent"),
        (safe_xml(offsets=OFFSETS, quantification=0), r"BOA_QUANTIFICATION_VALUE is 0, not positive"),
        (safe_xml(offsets=OFFSETS)[:900], r"no well-formed XML .*; fetch the product again"),
        (
            '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
            "declares a document",
        ),
    ],
)
def test_metadata_that_do_not_tell_the_radiometry_are_refused(tmp_path, xml, message):
    write_safe(tmp_path, files=FEW, xml=xml)
    [scene] = find_scenes(tmp_path)
    assert_fault([scene], rf"MTD_MSIL2A\.xml.*{message}", name=SAFE_NAME)
    assert (scene.sensor, scene.acquired, scene.folder.name) == ("sentinel2", "2022-10-05", f"{SAFE_NAME}.SAFE")


def test_metadata_that_are_no_text_of_a_product_are_refused(tmp_path, monkeypatch):
    path = write_safe(tmp_path, files=FEW) / "MTD_MSIL2A.xml"
    path.write_text(safe_xml(offsets=OFFSETS).replace("UTF-8", "UTF-16"), encoding="utf-16")
    assert_fault(find_scenes(tmp_path), r"MTD_MSIL2A\.xml: not UTF-8 text")
    monkeypatch.setattr(metadata, "MAX_BYTES", 2**20)
    path.write_text(" " * (2**20 + 1))
    assert_fault(find_scenes(tmp_path), r"MTD_MSIL2A\.xml: larger than 1 MiB")


def test_a_safe_without_its_metadata_is_refused(tmp_path):
    (write_safe(tmp_path, files=FEW) / "MTD_MSIL2A.xml").unlink()
    [scene] = find_scenes(tmp_path)
    assert_fault([scene], r"\.SAFE: holds neither MTD_MSIL1C\.xml nor MTD_MSIL2A\.xml", name=SAFE_NAME)
    assert scene.warnings == []


def test_a_product_of_several_tiles_is_refused(tmp_path):
    write_safe(tmp_path, files=FEW, granule="L2A_T29UNU_A038058_20221005T115407")
    write_safe(tmp_path, files=FEW, granule="L2A_T29UNV_A038058_20221005T115407")
    assert_fault(find_scenes(tmp_path), r"holds 2 granules \(L2A_T29UNU.*, L2A_T29UNV.*\); Landfold reads products of")


def test_an_archive_that_is_cut_off_is_refused(tmp_path):
    path = zipped(write_safe(tmp_path / "unpacked", files=FEW), tmp_path / "product.zip")
    path.write_bytes(path.read_bytes()[:-100])
    [whole, broken] = find_scenes(tmp_path)
    assert (whole.name, whole.fault, list(whole.bands)) == (SAFE_NAME, None, ["B"])
    assert_fault([broken], r"product\.zip: cannot be read as a zip archive", name="product")


def test_an_archive_of_something_else_is_refused_where_no_scene_is_beside_it(tmp_path):
    write_safe(tmp_path / "a", files=FEW)
    (tmp_path / "b").mkdir()
    with zipfile.ZipFile(tmp_path / "b" / "tiles.zip", "w") as archive:
        archive.writestr("tile.tif", b"")
    with pytest.raises(SceneError, match=r"b: no file is understood \(there is tiles\.zip\)"):
        find_scenes(tmp_path)
    (tmp_path / "b" / "farm_N.tif").touch()
    assert find_scenes(tmp_path)[1].warnings == ["not understood, ignored: tiles.zip"]


def test_no_damage_of_an_archive_is_a_traceback(tmp_path):
    """Whatever bytes of its metadata, of its members' heads or of its directory are changed."""
    content = zipped(write_safe(tmp_path / "product", files=FEW), tmp_path / "raw.zip").read_bytes()
    scenes, refused = tmp_path / "scenes", 0
    scenes.mkdir()
    for at in range(0, len(content), len(content) // 80):
        damaged = bytearray(content)
        damaged[at : at + 3] = bytes(255 - byte for byte in damaged[at : at + 3])
        (scenes / "p.zip").write_bytes(damaged)
        try:
            refused += any(scene.fault for scene in find_scenes(scenes))
        except SceneError:
            refused += 1
    assert refused > 20
