"""Rasters of many bands, each a scene of its own."""

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp

from landfold.scenes.sensors import find_scenes
from landfold.scenes.sensors.scene_files import SceneError
from tests.factories import make_grid
from tests.products import assert_fault

EUROSAT = [f"B{i:02}" for i in range(1, 13)] + ["B8A"]


def stack(path, descriptions, *, alpha=False):
    """A raster of 12 x 16 px with one band for each description."""
    grid = make_grid(12, 16)
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "dtype": "uint16", "height": 12, "width": 16}
    profile |= {"crs": grid.crs, "transform": grid.transform, "count": len(descriptions)}
    with rasterio.open(path, "w", **profile) as dataset:
        if alpha:
            dataset.colorinterp = [*[ColorInterp.undefined] * (len(descriptions) - 1), ColorInterp.alpha]
        dataset.write(np.arange(len(descriptions) * 192, dtype="uint16").reshape(-1, 12, 16))
        for i, text in enumerate(descriptions, start=1):
            if text:
                dataset.set_band_description(i, text)
    return path


def indexes(scene):
    return {name: band.index for name, band in scene.bands.items()}


@pytest.mark.parametrize(
    ("descriptions", "expected", "sensor"),
    [
        (["B", "G", "R", "N"], {"B": 1, "G": 2, "R": 3, "N": 4}, "unknown"),
        (["B04", "B03", "b8a", "B11"], {"R": 1, "G": 2, "N2": 3, "S1": 4}, "sentinel2"),
        (["B2", "B3", "B8A", "B11"], {"B": 1, "G": 2, "N2": 3, "S1": 4}, "sentinel2"),
        (["nir", "Red", "SWIR_1", "red-edge 2"], {"N": 1, "R": 2, "S1": 3, "RE2": 4}, "unknown"),
    ],
)
def test_descriptions_tell_the_bands(tmp_path, descriptions, expected, sensor):
    path = stack(tmp_path / "farm 2, 'ü'.tif", descriptions)
    [scene] = find_scenes(tmp_path)
    assert (scene.name, scene.sensor, scene.folder) == ("farm 2, 'ü'", sensor, tmp_path)
    assert indexes(scene) == expected
    for band in scene.bands.values():
        assert (band.path, band.source, band.radiometry, band.nodata) == (path, None, None, None)
    assert (scene.warnings, scene.masks, scene.fault) == ([], (), None)


@pytest.mark.parametrize("suffix", [".TIF", ".tiff", ".gtif"])
def test_the_setting_tells_the_bands_where_the_file_does_not(tmp_path, suffix):
    stack(tmp_path / f"LE70220491999322EDC01_stack{suffix}", ["band 1 reflectance", None, "Band 3", None, None])
    [scene] = find_scenes(tmp_path, band_order=["B", None, "R", "-", "FMASK"])
    assert indexes(scene) == {"B": 1, "R": 3}
    assert [(mask.kind, mask.index) for mask in scene.masks] == [("fmask", 5)]
    assert scene.acquired == "1999-11-18"
    assert scene.warnings == []


def test_tiles_in_folders_of_classes_are_scenes(tmp_path):
    for tile in ("River/River_1", "River/River_2", "Sea Lake/SeaLake_1"):
        stack(tmp_path / f"{tile}.tif", [None] * 13)
    found = find_scenes(tmp_path, band_order=EUROSAT)
    assert [scene.name for scene in found] == ["River_1", "River_2", "SeaLake_1"]
    assert [scene.folder.name for scene in found] == ["River", "River", "Sea Lake"]
    for scene in found:
        assert scene.sensor == "sentinel2"
        assert (scene.bands["N2"].index, scene.bands["WV"].index, len(scene.bands)) == (13, 9, 13)


def test_no_order_is_guessed(tmp_path):
    stack(tmp_path / "tile.tif", [None] * 3)
    stack(tmp_path / "more.tif", ["band 1", None])
    more, tile = find_scenes(tmp_path)
    assert_fault([more], r"more\.tif: its 2 bands carry no names .*\(band 1, nothing\); say in ingest", name="more")
    message = r"tile\.tif: its 3 bands carry .* in ingest\.band_order what they are, 3 names"
    assert_fault([tile], message, name="tile")
    assert tile.folder == tmp_path / "tile.tif", "the file, so that a table of labels may name it"


def test_a_file_that_names_all_its_bands_needs_no_order_of_others(tmp_path):
    stack(tmp_path / "named.tif", ["R", "N"])
    stack(tmp_path / "tile.tif", [None] * 3)
    named, tile = find_scenes(tmp_path, band_order=["N", "R", "G"])
    assert (indexes(named), indexes(tile)) == ({"R": 1, "N": 2}, {"N": 1, "R": 2, "G": 3})


@pytest.mark.parametrize("order", [["R"], ["R", "N", "G"]])
def test_an_order_of_another_length_is_refused(tmp_path, order):
    stack(tmp_path / "tile.tif", ["R", None])
    assert_fault(
        find_scenes(tmp_path, band_order=order), rf"tile\.tif: has 2 bands, but ingest\.band_order names {len(order)}"
    )


def test_an_order_that_contradicts_the_file_is_refused(tmp_path):
    stack(tmp_path / "tile.tif", ["B02", "red"])
    assert indexes(find_scenes(tmp_path, band_order=["B", "-"])[0]) == {"B": 1}
    assert_fault(
        find_scenes(tmp_path, band_order=["R", "B"]),
        r"tile\.tif: band 1 is described as B02, but ingest\.band_order says R",
        name="tile",
    )


def test_an_order_of_unknown_names_is_refused(tmp_path):
    stack(tmp_path / "tile.tif", [None, None])
    with pytest.raises(SceneError, match=r"ingest\.band_order: 'B2' names no band; known are A, B"):
        find_scenes(tmp_path, band_order=["B", "B2"])


@pytest.mark.parametrize("descriptions", [["R", "B04"], ["R", "SCL", "scl"]])
def test_a_band_that_is_there_twice_is_refused(tmp_path, descriptions):
    stack(tmp_path / "tile.tif", descriptions)
    assert_fault(find_scenes(tmp_path), r"tile\.tif: bands \d and \d are both \w+; each can be there once")


def test_a_band_whose_description_names_none_is_left_out_and_told(tmp_path):
    stack(tmp_path / "tile.tif", ["R", "elevation", None, "QA_PIXEL"])
    [scene] = find_scenes(tmp_path)
    assert indexes(scene) == {"R": 1}
    assert scene.warnings == ["tile.tif: bands whose description names none, ignored: 2 (elevation), 3"]
    assert [(mask.kind, mask.index) for mask in scene.masks] == [("qa_pixel", 4)]


def test_an_alpha_band_is_no_band(tmp_path):
    stack(tmp_path / "tile.tif", [None, None, None, None], alpha=True)
    [scene] = find_scenes(tmp_path, band_order=["R", "G", "B"])
    assert indexes(scene) == {"R": 1, "G": 2, "B": 3}


def test_a_name_that_ends_as_a_band_files_is_no_band_file_with_several_bands(tmp_path):
    stack(tmp_path / "farm_N.tif", ["R", "N"])
    [scene] = find_scenes(tmp_path)
    assert (scene.name, indexes(scene)) == ("farm_N", {"R": 1, "N": 2})


def test_a_mask_may_lie_beside_its_scene(tmp_path):
    stack(tmp_path / "farm.tif", ["R", "N"])
    mask = stack(tmp_path / "farm_FMASK.tif", [None])
    [scene] = find_scenes(tmp_path)
    assert [(m.kind, m.path, m.index) for m in scene.masks] == [("fmask", mask, 1)]


def test_one_stem_in_two_folders_is_refused(tmp_path):
    for folder in ("River", "Lake"):
        stack(tmp_path / folder / "tile_1.tif", ["R", "N"])
    with pytest.raises(
        SceneError, match=r"scene tile_1: found in .*Lake and in .*River; a scene's name must be unique"
    ):
        find_scenes(tmp_path)


@pytest.mark.parametrize("second", ["tile.tiff", "TILE.tif"])
def test_one_stem_in_one_folder_is_refused_with_both_files(tmp_path, second):
    stack(tmp_path / "tile.tif", ["R", "N"])
    stack(tmp_path / second, ["R", "N"])
    with pytest.raises(SceneError, match=r"(?i)found in .*tile\.tiff? and in .*tile\.tiff?; a scene's name must be"):
        find_scenes(tmp_path)


def test_a_file_that_cannot_be_opened_is_a_scene_with_a_fault(tmp_path):
    stack(tmp_path / "good.tif", ["R", "N"])
    (tmp_path / "corrupt.tif").write_bytes(b"II*\0 and no more")
    corrupt, good = find_scenes(tmp_path)
    assert (corrupt.name, corrupt.bands, good.fault) == ("corrupt", {}, None)
    assert f"{tmp_path / 'corrupt.tif'}: cannot be read" in corrupt.fault


def test_beside_band_files_a_raster_must_name_its_own_bands(tmp_path):
    stack(tmp_path / "farm_N.tif", [None])
    stack(tmp_path / "farm_TCI.tif", [None] * 3)
    stack(tmp_path / "stack.tif", ["R", "N"])
    (tmp_path / "broken.tif").touch()
    farm, other = find_scenes(tmp_path, band_order=["R", "G", "B"])
    assert (farm.name, list(farm.bands), other.name) == ("farm", ["N"], "stack")
    assert farm.warnings == ["not understood, ignored: broken.tif, farm_TCI.tif"]


def test_a_raster_of_one_band_without_a_name_is_no_scene(tmp_path):
    stack(tmp_path / "landsat.tif", ["R", "N"])
    stack(tmp_path / "training_data.tif", [None])
    [scene] = find_scenes(tmp_path)
    assert scene.warnings == ["not understood, ignored: training_data.tif"]
    stack(tmp_path / "one" / "height.tif", [None])
    with pytest.raises(SceneError, match=r"one: no file is understood \(there is height\.tif\); files of one band are"):
        find_scenes(tmp_path)
    found = find_scenes(tmp_path / "one", band_order=["N"])
    assert [indexes(scene) for scene in found] == [{"N": 1}]


def picture(path, *, described=()):
    """An 8-bit picture whose bands are marked as red, green and blue, and a fourth one."""
    stack(path, [None] * 4)
    with rasterio.open(path) as file:
        profile = file.profile | {"dtype": "uint8", "photometric": "RGB", "alpha": "NO"}
    with rasterio.open(path, "w", **profile) as file:
        file.write(np.arange(4 * 192).reshape(4, 12, 16).astype("uint8"))
        for i, text in enumerate(described, start=1):
            file.set_band_description(i, text)
    return path


def test_a_colour_that_the_setting_contradicts_is_refused(tmp_path):
    picture(tmp_path / "s.tif")
    message = r"s\.tif: band 1 is marked as the colour R, but ingest\.band_order says B; correct the order, or the mark"
    assert_fault(find_scenes(tmp_path, band_order=["B", "G", "R", "N"]), message)
    [scene] = find_scenes(tmp_path, band_order=["R", "G", "B", "N"])
    assert indexes(scene) == {"R": 1, "G": 2, "B": 3, "N": 4}
    [scene] = find_scenes(tmp_path, band_order=["-", "G", "-", "N"])
    assert indexes(scene) == {"G": 2, "N": 4}
    assert_fault(
        find_scenes(tmp_path), r"carry no names that Landfold knows \(their colours are marked as R, G, B, none"
    )


def test_a_description_says_more_than_a_colour(tmp_path):
    """GDAL marks the first bands of 8-bit files so unless it is told not to."""
    picture(tmp_path / "s.tif", described=["blue", "green", "red", "nir"])
    [scene] = find_scenes(tmp_path)
    assert indexes(scene) == {"B": 1, "G": 2, "R": 3, "N": 4}
