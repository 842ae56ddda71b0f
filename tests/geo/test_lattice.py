"""Grids that are not square, not at the origin, and some of them turned."""

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.windows import Window

from landfold.geo.crs import WGS84, transform_points
from landfold.geo.grid import Grid
from landfold.geo.lattice import bounds_in, cells_under, lattice_over, outline, shared_lattice, window_over
from tests.factories import CRS_UTM33, ORIGIN_X, ORIGIN_Y, make_grid

UTM32 = CRS.from_epsg(32632)
TURNED = Grid(CRS_UTM33, Affine.translation(ORIGIN_X, ORIGIN_Y) @ Affine.rotation(30) @ Affine.scale(20, -20), 7, 5)


def test_the_outline_is_a_closed_ring_along_the_edges():
    for grid in (make_grid(90, 120), TURNED):
        points = outline(grid, CRS_UTM33, pieces=10)
        assert points.shape[0] == 2
        assert points.shape[1] >= 41
        np.testing.assert_array_equal(points[:, 0], points[:, -1])
        assert shapely.Polygon(points.T).symmetric_difference(grid.footprint(grid.whole)).area < 1e-3
    assert len(outline(make_grid(90, 120), CRS_UTM33, pieces=1).T) < 10


def test_edges_that_are_curved_in_another_crs_are_within_the_bounds():
    grid = Grid(WGS84, Affine(0.01, 0, 10.0, 0, -0.01, 52.0), 100, 800)
    south = np.linspace(10, 18, 9999), np.full(9999, 51.0)
    _, northing = transform_points(WGS84, CRS_UTM33, *south)
    _, y_min, _, _ = bounds_in(CRS_UTM33, grid)
    assert northing[0] - northing.min() > 1000, "the edge bends beyond its corners"
    assert y_min == pytest.approx(northing.min(), abs=10)


def test_bounds_are_of_all_grids_and_not_finite_where_a_crs_cannot_hold_them():
    grids = make_grid(9, 12), make_grid(4, 5, x_px=100, y_px=-7)
    assert bounds_in(CRS_UTM33, *grids) == (ORIGIN_X, ORIGIN_Y - 90, ORIGIN_X + 1050, ORIGIN_Y + 70)
    assert bounds_in(CRS_UTM33, grids[0]) == grids[0].bounds
    far = Grid(CRS.from_epsg(3035), Affine(1e6, 0, -9e6, 0, -1e6, 1e7), 3, 3)
    assert not np.isfinite(bounds_in(CRS_UTM33, far)).all()


@given(
    st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.floats(1, 5e3), st.floats(1, 5e3), st.sampled_from([10.0, 7.5, 80])
)
@hypothesis_settings(max_examples=60, deadline=None)
def test_a_lattice_covers_its_bounds_with_no_cell_too_many(x, y, width, height, cell_m):
    grid = lattice_over((x, y, x + width, y + height), CRS_UTM33, cell_m)
    tolerance = 1e-3 * cell_m + 1e-6
    x_min, y_min, x_max, y_max = grid.bounds
    assert x - cell_m - tolerance <= x_min <= x + tolerance
    assert y - cell_m - tolerance <= y_min <= y + tolerance
    assert x + width - tolerance <= x_max <= x + width + cell_m + tolerance
    assert y + height - tolerance <= y_max <= y + height + cell_m + tolerance
    assert grid.transform.c / cell_m == pytest.approx(round(grid.transform.c / cell_m), abs=1e-6)
    assert grid.transform.f / cell_m == pytest.approx(round(grid.transform.f / cell_m), abs=1e-6)


def test_edges_on_the_lattice_take_no_further_cells():
    grid = make_grid(9, 12)
    assert lattice_over(grid.bounds, CRS_UTM33, 10.0) == grid
    nudged = tuple(edge + 1e-7 for edge in grid.bounds)
    assert lattice_over(nudged, CRS_UTM33, 10.0) == grid


def test_grids_of_one_lattice_share_it_over_the_ground_of_all():
    grids = [make_grid(9, 12), make_grid(4, 5, x_px=100, y_px=-7), make_grid(2, 3, x_px=-1, y_px=20)]
    assert shared_lattice(grids) == make_grid(29, 106, x_px=-1, y_px=-7)
    assert shared_lattice(grids[:1]) == grids[0]
    assert shared_lattice([TURNED, TURNED.part(Window(2, 1, 3, 4))]) == TURNED


@pytest.mark.parametrize(
    "other",
    [
        make_grid(9, 12, 20.0),
        Grid(UTM32, make_grid().transform, 9, 12),
        Grid(CRS_UTM33, make_grid().transform @ Affine.translation(0.4, 0), 9, 12),
        TURNED,
    ],
    ids=["pixel size", "CRS", "shift", "turn"],
)
def test_other_grids_share_no_lattice(other):
    assert shared_lattice([make_grid(9, 12), other]) is None


def test_the_window_over_an_area_has_the_pixels_that_meet_it():
    grid = make_grid(90, 120)

    def window(left, top, width, height):
        return window_over(grid, Grid(CRS_UTM33, grid.transform @ Affine.translation(left, top), height, width))

    assert window(3.2, 5.0, 4, 2) == Window(3, 5, 5, 2)
    assert window(-5, 80, 10, 100) == Window(0, 80, 5, 10)
    assert window(120, 0, 5, 5) is None, "it only touches the grid"
    assert window_over(grid, Grid(CRS.from_epsg(3035), Affine(1e6, 0, -9e6, 0, -1e6, 1e7), 3, 3)) is None
    (x,), (y,) = transform_points(CRS_UTM33, UTM32, [ORIGIN_X + 605], [ORIGIN_Y - 455])
    assert window_over(grid, Grid(UTM32, Affine(1, 0, x, 0, -1, y), 1, 1)) == Window(60, 45, 1, 1)


def test_cells_under_a_grid_are_those_that_hold_its_centres():
    cells = Grid(CRS_UTM33, make_grid().transform @ Affine.scale(8), 11, 15)
    rows, columns = cells_under(make_grid(90, 120), cells)
    np.testing.assert_array_equal(rows, np.broadcast_to(np.arange(90)[:, None] // 8, (90, 120)))
    np.testing.assert_array_equal(columns, np.broadcast_to(np.arange(120) // 8, (90, 120)))
    assert rows.max() == 11, "beside the grid of cells"


def test_centres_outside_of_an_area_of_a_crs_are_under_no_cell():
    grid = Grid(CRS.from_epsg(3035), Affine(1e6, 0, -9e6, 0, -1e6, 1e7), 3, 3)
    rows, columns = cells_under(grid, make_grid(10, 10))
    assert rows.dtype == columns.dtype == np.int64
    assert (rows[0, 0], columns[0, 0]) == (-1, -1)
