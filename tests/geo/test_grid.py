import math

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.windows import Window

from landfold.geo.grid import Grid, GridError
from tests.factories import CRS_UTM33, ORIGIN_X, ORIGIN_Y, make_grid, write_band


def grid_of(path):
    with rasterio.open(path) as dataset:
        return Grid.of(dataset)


def test_the_grid_of_a_file_is_the_one_it_was_written_with(tmp_path):
    grid = make_grid(7, 5, 20.0, x_px=3, y_px=11)
    assert grid_of(write_band(tmp_path / "a.tif", grid, np.ones((7, 5), np.uint16))) == grid
    assert grid.shape == (7, 5)
    assert grid.resolution == (20.0, 20.0)
    assert grid.bounds == (ORIGIN_X + 60, ORIGIN_Y - 360, ORIGIN_X + 160, ORIGIN_Y - 220)


def test_a_file_without_crs_is_refused_and_named(tmp_path):
    path = write_band(tmp_path / "a.tif", make_grid(7, 5), np.ones((7, 5), np.uint16), crs=None)
    with pytest.raises(GridError, match=r"a\.tif: the file has no CRS, and none is guessed"):
        grid_of(path)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("transform", [Affine.identity(), Affine(10, 0, 4e5, 0, 0, 5e6), Affine(1, 2, 4e5, 2, 4, 5e6)])
def test_a_degenerate_transform_is_refused(tmp_path, transform):
    path = write_band(tmp_path / "a.tif", make_grid(7, 5), np.ones((7, 5), np.uint16), transform=transform)
    with pytest.raises(GridError, match=r"a\.tif: degenerate transform"):
        grid_of(path)


def test_pixels_of_a_hand_in_degrees_are_no_degenerate_grid(tmp_path):
    grid = Grid(CRS.from_epsg(4326), Affine(9e-7, 0, 13.0, 0, -9e-7, 52.0), 7, 5)
    assert grid_of(write_band(tmp_path / "a.tif", grid, np.ones((7, 5), np.uint16))).resolution == (9e-7, 9e-7)


def test_north_up_is_told_from_rotated_mirrored_and_south_up():
    grid = make_grid()
    flips = [Affine.rotation(10), Affine.scale(1, -1), Affine.scale(-1, 1), Affine.rotation(90)]
    assert grid.is_north_up
    for flip in flips:
        assert not Grid(CRS_UTM33, grid.transform @ flip, 9, 12).is_north_up


def test_difference_of_equal_grids_is_none():
    grid = make_grid()
    nudged = Grid(grid.crs, grid.transform @ Affine.translation(0.0005, 0), *grid.shape)
    assert grid.difference(make_grid()) is None
    assert grid.difference(nudged) is None


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (make_grid(crs=CRS.from_epsg(32632)), "CRS EPSG:32632, not EPSG:32633"),
        (make_grid(90, 121), "121 x 90 px, not 120 x 90"),
        (make_grid(y_px=1), "shifted by up to 1 px"),
        (Grid(CRS_UTM33, make_grid().transform @ Affine.translation(0.25, 0), 90, 120), "shifted by up to 0.25 px"),
        (Grid(CRS_UTM33, make_grid().transform @ Affine.scale(2), 90, 120), "shifted by up to 120 px"),
        (Grid(CRS_UTM33, make_grid().transform @ Affine.rotation(1), 90, 120), "shifted by up to 2.09 px"),
    ],
)
def test_difference_says_what_differs(other, message):
    assert make_grid().difference(other) == message


def test_footprint_is_the_ground_of_the_window():
    footprint = make_grid().footprint(Window(col_off=2, row_off=5, width=3, height=4))
    assert footprint.equals(shapely.box(ORIGIN_X + 20, ORIGIN_Y - 90, ORIGIN_X + 50, ORIGIN_Y - 50))


def test_footprint_of_a_rotated_grid_turns_with_it():
    angle = math.radians(30)
    grid = Grid(CRS_UTM33, Affine.translation(1000, 2000) @ Affine.rotation(30) @ Affine.scale(10, -10), 8, 6)
    footprint = grid.footprint(Window(1, 2, 3, 4))
    assert footprint.area == pytest.approx(3 * 4 * 100)
    u, v = 10.0, -20.0
    corner = (1000 + u * math.cos(angle) - v * math.sin(angle), 2000 + u * math.sin(angle) + v * math.cos(angle))
    assert footprint.exterior.coords[0] == pytest.approx(corner)
    assert grid.resolution == pytest.approx((10.0, 10.0))


def test_a_part_has_the_pixels_of_the_whole():
    turned = Affine.translation(ORIGIN_X, ORIGIN_Y) @ Affine.rotation(30) @ Affine.scale(20, -20)
    for grid in (make_grid(7, 5, 20.0), Grid(CRS_UTM33, turned, 7, 5)):
        part = grid.part(Window(3, 1, 2, 4))
        assert part.shape == (4, 2)
        assert part.transform @ (1.5, 2.5) == pytest.approx(grid.transform @ (4.5, 3.5))
        assert grid.part(grid.whole) == grid


@pytest.mark.parametrize(("offset", "stride"), [(8, 16), (0, 1), (5, 3)])
def test_cells_are_centred_on_the_cores_of_their_windows(offset, stride):
    grid = make_grid()
    cells = grid.cells(offset_px=offset, stride_px=stride, rows=3, columns=4)
    assert cells.shape == (3, 4)
    assert cells.transform == Affine(
        10.0 * stride, 0, ORIGIN_X + 10 * offset, 0, -10.0 * stride, ORIGIN_Y - 10 * offset
    )
    last = cells.footprint(Window(3, 2, 1, 1))
    assert last.equals(grid.footprint(Window(offset + 3 * stride, offset + 2 * stride, stride, stride)))


@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 40))
@hypothesis_settings(max_examples=60, deadline=None)
def test_blocks_cover_every_pixel_once(height, width, size):
    seen = np.zeros((height, width), dtype=int)
    for window in make_grid(height, width).blocks(size):
        assert 1 <= window.width <= size
        assert 1 <= window.height <= size
        assert window.col_off + window.width <= width
        assert window.row_off + window.height <= height
        seen[window.toslices()] += 1
    assert (seen == 1).all()
