"""Files called as Sentinel-2's bands that are of another sensor."""

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS

from landfold.geo.grid import Grid
from landfold.scenes.sensors import find_scenes
from tests.factories import make_grid, write_band
from tests.products import assert_fault
from tests.scenes.ingest.deliveries import write_stack

DN = np.arange(1, 13, dtype=np.uint16).reshape(3, 4)
DEGREES = Grid(CRS.from_epsg(4326), Affine(1.4e-4, 0, 13.5, 0, -9e-5, 52.3), 3, 4)


def deliver(folder, scene, grid, bands=("B02", "B03", "B04", "B05")):
    for band in bands:
        write_band(folder / f"{scene}_{band}.tif", grid, DN)
    return find_scenes(folder)


@pytest.mark.parametrize(
    ("scene", "grid", "against"),
    [
        ("field_2020", make_grid(3, 4, 30.0), r"pixels of 30 m are none of Sentinel-2's \(10, 20, 60 m\), and no S2A"),
        ("LC08_193023_20200701", make_grid(3, 4, 30.0), r"'LC08' in the name is Landsat's"),
        ("LC81930232020183LGN00", make_grid(3, 4, 10.0), r"'LC81930232020183LGN00' in the name is Landsat's"),
        ("landsat8_summer", make_grid(3, 4, 10.0), r"'landsat8' in the name is Landsat's"),
        ("planet", make_grid(3, 4, 3.0), r"pixels of 3 m are none"),
    ],
)
def test_names_of_bands_alone_do_not_make_a_scene_sentinel2(tmp_path, scene, grid, against):
    message = rf"scene {scene}: bands are called B02, B03, B04, B05, as Sentinel-2's are, but {against}.*standard names"
    assert_fault(deliver(tmp_path, scene, grid), message, name=scene)


@pytest.mark.parametrize(
    ("scene", "grid"),
    [
        ("field_2020", make_grid(3, 4, 10.0)),
        ("field_2020", make_grid(3, 4, 9.93)),
        ("field_2020", DEGREES),
        ("T33UUU_20170216T102101", make_grid(3, 4, 30.0)),
        ("S2A_summer", make_grid(3, 4, 30.0)),
    ],
)
def test_pixels_or_the_name_speak_for_sentinel2(tmp_path, scene, grid):
    [found] = deliver(tmp_path, scene, grid)
    assert (found.fault, found.sensor, list(found.bands)) == (None, "sentinel2", ["B", "G", "R", "RE1"])


def test_standard_names_need_no_evidence(tmp_path):
    [found] = deliver(tmp_path, "LC08_193023_20200701", make_grid(3, 4, 30.0), ["B", "G", "R", "N"])
    assert (found.fault, list(found.bands)) == (None, ["B", "G", "N", "R"])


def test_descriptions_of_a_stack_are_names_of_bands_too(tmp_path):
    path = write_stack(tmp_path / "landsat_2020.tif", make_grid(3, 4, 30.0), [DN, DN])
    with rasterio.open(path, "r+") as file:
        file.descriptions = ("B02", "B03")
    assert_fault(find_scenes(tmp_path), r"bands are called B02, B03, .*'landsat.*' in the name")
