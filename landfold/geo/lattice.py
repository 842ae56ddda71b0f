"""Grids compared with each other: outlines in another CRS, common lattices, and the pixels that lie over an area."""

from collections.abc import Sequence
from math import ceil, floor

import numpy as np
import shapely
from affine import Affine
from rasterio.crs import CRS
from rasterio.windows import Window

from landfold.geo.crs import transform_points
from landfold.geo.grid import ALIGNMENT_TOLERANCE_PX, Grid

Bounds = tuple[float, float, float, float]
"""x_min, y_min, x_max, y_max in units of a CRS."""


def outline(grid: Grid, crs: CRS, *, pieces: int = 100) -> np.ndarray:
    """A closed ring of points along the edges of a grid, (2, point) x and y in ``crs``.

    Straight edges of a grid are curved in another CRS, so that corners are not enough.

    Args:
        grid: the grid.
        crs: of the points; they are infinite where it cannot hold them.
        pieces: how many pieces a side is cut into, on average.
    """
    ring = grid.footprint(grid.whole)
    x, y = shapely.get_coordinates(shapely.segmentize(ring, ring.length / 4 / pieces)).T
    return np.array(transform_points(grid.crs, crs, x, y))


def bounds_in(crs: CRS, *grids: Grid) -> Bounds:
    """The rectangle in ``crs`` around the ground of all grids; not finite where the CRS cannot hold it."""
    points = np.concatenate([outline(grid, crs) for grid in grids], axis=1)
    return (*points.min(axis=1), *points.max(axis=1))


def lattice_over(bounds: Bounds, crs: CRS, cell_m: float, origin: tuple[float, float] = (0.0, 0.0)) -> Grid:
    """The cells that meet a rectangle, of the lattice of ``cell_m`` in ``crs`` with a corner at ``origin``, x and y."""
    x, y = origin
    x_min, y_min, x_max, y_max = ((edge - start) / cell_m for edge, start in zip(bounds, (x, y, x, y), strict=True))
    left, right = floor(x_min + ALIGNMENT_TOLERANCE_PX), ceil(x_max - ALIGNMENT_TOLERANCE_PX)
    bottom, top = floor(y_min + ALIGNMENT_TOLERANCE_PX), ceil(y_max - ALIGNMENT_TOLERANCE_PX)
    transform = Affine(cell_m, 0.0, x + left * cell_m, 0.0, -cell_m, y + top * cell_m)
    return Grid(crs, transform, top - bottom, right - left)


def shared_lattice(grids: Sequence[Grid]) -> Grid | None:
    """The grid over the ground of all grids, if their pixels lie on one lattice; else None."""
    first = grids[0]
    corners: list[tuple[int, int]] = []
    for grid in grids:
        if grid.crs != first.crs:
            return None
        here = ~first.transform @ grid.transform
        left, top = round(here.c), round(here.f)
        expected = [(left, top), (left + grid.width, top + grid.height)]
        actual = [here @ corner for corner in ((0, 0), (grid.width, grid.height))]
        if not np.allclose(actual, expected, rtol=0, atol=ALIGNMENT_TOLERANCE_PX):
            return None
        corners += expected
    left, top = np.min(corners, axis=0)
    right, bottom = np.max(corners, axis=0)
    return first.part(Window(int(left), int(top), int(right - left), int(bottom - top)))


def pixels_across(grid: Grid, other: Grid) -> tuple[float, float]:
    """How many pixels of ``other`` a pixel in the middle of ``grid`` spans, along the columns and rows of ``grid``.

    Not finite where the CRS of ``other`` cannot hold it.
    """
    columns, rows = grid.width / 2 + np.array([0, 1, 0]), grid.height / 2 + np.array([0, 0, 1])
    columns, rows = ~other.transform @ transform_points(grid.crs, other.crs, *(grid.transform @ (columns, rows)))
    return tuple(float(np.hypot(columns[at] - columns[0], rows[at] - rows[0])) for at in (1, 2))


def window_over(grid: Grid, ground: Grid) -> Window | None:
    """The window of the pixels of ``grid`` that meet the rectangle, along its axes, around another grid's ground.

    None if there are none.
    """
    points = outline(ground, grid.crs)
    if not np.isfinite(points).all():
        return None
    columns, rows = ~grid.transform @ tuple(points)
    left, top = (max(0, floor(at.min() + ALIGNMENT_TOLERANCE_PX)) for at in (columns, rows))
    right, bottom = (
        min(size, ceil(at.max() - ALIGNMENT_TOLERANCE_PX)) for at, size in ((columns, grid.width), (rows, grid.height))
    )
    return Window(left, top, right - left, bottom - top) if left < right and top < bottom else None


def cells_under(grid: Grid, other: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the cells of ``other`` in which the centres of a grid's pixels lie, (y, x) int64 each.

    They are outside of its shape for a centre beside it, and -1 for one that its CRS cannot hold.
    """
    columns, rows = np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5)
    x, y = transform_points(grid.crs, other.crs, *(grid.transform @ (columns, rows)))
    known = np.isfinite(x) & np.isfinite(y)
    column, row = ~other.transform @ (np.where(known, x, 0), np.where(known, y, 0))
    return tuple(np.where(known, np.floor(place), -1).astype(np.int64) for place in (row, column))
