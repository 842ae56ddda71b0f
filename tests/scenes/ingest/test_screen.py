"""Cloud of Sentinel-2 level 1C, which has no mask."""

from dataclasses import replace

import numpy as np
import pytest

from landfold.core.settings import SettingsError
from landfold.scenes.ingest import check_scene
from landfold.scenes.sensors import find_scenes
from landfold.scenes.sensors.scene_files import MaskFile, SceneError
from tests.factories import CRS_UTM33, ORIGIN_X, ORIGIN_Y, make_grid, write_band
from tests.scenes.ingest.deliveries import ingest, ingest_settings, refused

NAME = "T33UUU_20170216T102101"
THRESHOLDS = {"coastal": 0.2, "cirrus": 0.012}
SIZES = {"B01": 60, "B02": 10, "B03": 10, "B10": 60, "B11": 20}
DARK = {"B01": 1700, "B02": 1300, "B03": 1200, "B10": 13, "B11": 2000}


def masks(**changes):
    return ingest_settings().masks.model_dump() | {"l1c": THRESHOLDS} | changes


def level_1c(folder, spots, *, ground_m=(1440, 1920), bands=tuple(SIZES), fill=()):
    """A dark scene with bright squares: (band, number, top, left, side) in metres; ``fill`` rows of 60 m are 0."""
    for band in bands:
        size = SIZES[band]
        grid = make_grid(ground_m[0] // size, ground_m[1] // size, size)
        values = np.full(grid.shape, DARK[band], np.uint16)
        values += (np.arange(grid.width) % 3).astype(np.uint16)
        for name, number, top, left, side in spots:
            if name == band:
                values[top // size : (top + side) // size, left // size : (left + side) // size] = number
        for row in fill:
            values[row * 60 // size : (row + 1) * 60 // size] = 0
        write_band(folder / NAME / f"{NAME}_{band}.tif", grid, values, nodata=0)
    [scene] = find_scenes(folder)
    return scene


def cloudy(valid):
    """Rows and columns of pixels of 60 m that are cloud, each whole."""
    blocks = (~valid).reshape(valid.shape[0] // 6, 6, valid.shape[1] // 6, 6).swapaxes(1, 2)
    assert (blocks.all(axis=(2, 3)) == blocks.any(axis=(2, 3))).all()
    return blocks.any(axis=(2, 3))


def grown(rows, columns, shape=(24, 32)):
    expected = np.zeros(shape, dtype=bool)
    expected[max(0, rows[0] - 1) : rows[1] + 1, max(0, columns[0] - 1) : columns[1] + 1] = True
    return expected


@pytest.mark.parametrize(("band", "number"), [("B01", 2100), ("B10", 130)])
def test_bright_coastal_aerosol_or_cirrus_is_cloud_with_its_rim(tmp_path, band, number):
    """5 x 5 px of 60 m: the square and one pixel around it; a bright one of 2 x 2 px, as a roof, is no cloud."""
    scene = level_1c(tmp_path / "raw", [(band, number, 600, 480, 300), (band, number, 120, 120, 120)])
    report, _, valid, _ = ingest(tmp_path, scene, bands=["B", "G"], masks=masks())
    np.testing.assert_array_equal(cloudy(valid), grown((10, 15), (8, 13)))
    assert report["cloud_fraction"] == pytest.approx(49 / (24 * 32), abs=1e-6)
    [entry] = report["masks"]
    assert (entry["kind"], entry["invalid"]) == ("l1c", THRESHOLDS)
    assert entry["file"] == ", ".join(f"{NAME}_{name}.tif" for name in ("B01", "B03", "B11", "B10"))
    assert check_scene(scene, ingest_settings(bands=["B", "G"], masks=masks()), CRS_UTM33)["masks"][0]["kind"] == "l1c"


def test_snow_is_no_cloud_and_cloud_at_the_edge_is(tmp_path):
    """Snow: G 0.6 and S1 0.1, so NDSI 0.71."""
    snow = [("B01", 6000, 720, 900, 420), ("B03", 6000, 720, 900, 420), ("B11", 1000, 720, 900, 420)]
    scene = level_1c(tmp_path / "raw", [*snow, ("B01", 2100, 0, 0, 180)])
    _, _, valid, _ = ingest(tmp_path, scene, bands=["B"], masks=masks())
    np.testing.assert_array_equal(cloudy(valid), grown((0, 3), (0, 3)))


def test_no_data_is_no_cloud(tmp_path):
    scene = level_1c(tmp_path / "raw", [("B01", 2100, 600, 480, 300)], fill=[0, 1])
    report = ingest(tmp_path, scene, bands=["B"], masks=masks())[0]
    assert report["nodata_fraction"] == pytest.approx(2 / 24, abs=1e-6)
    assert report["cloud_fraction"] == pytest.approx(49 / (24 * 32), abs=1e-6)


@pytest.mark.parametrize("area_m", [(300, 420, 1000, 1100), (490, 610, 900, 700), (1000, 0, 1900, 500)])
def test_a_part_has_the_cloud_that_the_whole_has_there(tmp_path, area_m):
    scene = level_1c(tmp_path / "raw", [("B01", 2100, 600, 480, 300), ("B10", 200, 0, 1200, 240)])
    whole = ingest(tmp_path, scene, bands=["B"], masks=masks())[2]
    left, top, right, bottom = area_m
    area = (ORIGIN_X + left, ORIGIN_Y - bottom, ORIGIN_X + right, ORIGIN_Y - top)
    part = ingest(tmp_path, scene, bands=["B"], masks=masks(), area=area, min_valid=0)[2]
    np.testing.assert_array_equal(part, whole[top // 10 : bottom // 10, left // 10 : right // 10])


def test_thresholds_and_null_are_obeyed(tmp_path):
    scene = level_1c(tmp_path / "raw", [("B01", 2100, 600, 480, 300)])
    higher = masks(l1c={"coastal": 0.22, "cirrus": 0.012})
    assert ingest(tmp_path, scene, bands=["B"], masks=higher)[0]["cloud_fraction"] == 0
    report = ingest(tmp_path, scene, bands=["B"], masks=masks(l1c=None))[0]
    assert (report["cloud_fraction"], report["masks"], report["nodata_fraction"]) == (None, [], 0)
    with pytest.raises(SettingsError, match=r"ingest\.masks\.l1c\.cirrus: missing"):
        ingest_settings(masks=masks(l1c={"coastal": 0.2}))


def test_a_scene_under_cloud_is_refused(tmp_path):
    scene = level_1c(tmp_path / "raw", [("B01", 2100, 0, 0, 2000)])
    message = r"0\.0% of the pixels are valid.*100\.0% are hidden by ingest\.masks"
    refused(tmp_path, SceneError, message, scene, bands=["B"], masks=masks())


@pytest.mark.parametrize("without", ["B01", "B10", "B11"])
def test_without_its_bands_or_with_another_mask_nothing_is_screened(tmp_path, without):
    bands = [band for band in SIZES if band != without]
    scene = level_1c(tmp_path / "raw", [("B01", 2100, 600, 480, 300), ("B10", 130, 600, 480, 300)], bands=bands)
    assert ingest(tmp_path, scene, bands=["B"], masks=masks())[0]["cloud_fraction"] is None


def test_level_2a_has_its_own_mask(tmp_path):
    scene = level_1c(tmp_path / "raw", [("B01", 2100, 600, 480, 300)])
    classes = write_band(tmp_path / "scl.tif", make_grid(144, 192), np.full((144, 192), 4, np.uint8))
    scene = replace(scene, masks=(MaskFile("scl", classes),))
    report = ingest(tmp_path, scene, bands=["B"], masks=masks())[0]
    assert [entry["kind"] for entry in report["masks"]] == ["scl"]
