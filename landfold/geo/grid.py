"""The pixel grid of a raster: CRS, transform and shape, and the windows on it."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isclose
from typing import Any

import shapely
from affine import Affine
from rasterio.crs import CRS
from rasterio.windows import Window

from landfold.core.errors import LandfoldError
from landfold.geo.crs import describe_crs

ALIGNMENT_TOLERANCE_PX = 1e-3
"""Grids closer than this are the same: far below what any resampling shows, far above rounding."""


class GridError(LandfoldError):
    """A grid that cannot be used, or two that do not fit each other."""


@dataclass(frozen=True)
class Grid:
    """Where the pixels of a raster lie.

    ``transform`` maps (column, row) in pixels, counted from the outer corner of the first pixel,
    to (x, y) in units of ``crs``.
    """

    crs: CRS
    transform: Affine
    height: int
    width: int

    @classmethod
    def of(cls, dataset: Any) -> "Grid":
        """The grid of an open rasterio dataset.

        Raises:
            GridError: if it has no CRS or no usable transform.
        """
        if dataset.crs is None:
            raise GridError(
                f"{dataset.name}: the file has no CRS, and none is guessed; "
                "assign the right one (for example: rio edit-info --crs EPSG:... FILE) or drop the scene"
            )
        grid = cls(dataset.crs, dataset.transform, dataset.height, dataset.width)
        if not abs(grid.transform.determinant) > 0 or grid.transform == Affine.identity():
            raise GridError(
                f"{dataset.name}: degenerate transform {tuple(grid.transform)[:6]}; it must be georeferenced"
            )
        return grid

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.height, self.width

    @property
    def whole(self) -> Window:
        """The window of all pixels."""
        return Window(0, 0, self.width, self.height)

    @property
    def is_north_up(self) -> bool:
        """Whether rows run north to south and columns west to east, without rotation."""
        t = self.transform
        return t.b == 0 and t.d == 0 and t.a > 0 and t.e < 0

    @property
    def resolution(self) -> tuple[float, float]:
        """Pixel width and height in units of the CRS, both positive."""
        t = self.transform
        return (t.a**2 + t.d**2) ** 0.5, (t.b**2 + t.e**2) ** 0.5

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(x_min, y_min, x_max, y_max) in units of the CRS."""
        return self.footprint(self.whole).bounds

    def footprint(self, window: Window) -> shapely.Polygon:
        """The ground that a window covers, as a polygon in the grid's CRS."""
        left, top = window.col_off, window.row_off
        right, bottom = left + window.width, top + window.height
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        return shapely.Polygon([self.transform @ corner for corner in corners])

    def same_ground(self, other: "Grid", tolerance: float) -> bool:
        """Whether the bounds of both are equal but for ``tolerance``, in units of the CRS."""
        return all(isclose(a, b, rel_tol=0, abs_tol=tolerance) for a, b in zip(self.bounds, other.bounds, strict=True))

    def part(self, window: Window) -> "Grid":
        """The grid of a window of whole pixels."""
        transform = self.transform @ Affine.translation(window.col_off, window.row_off)
        return Grid(self.crs, transform, window.height, window.width)

    def refined(self, factor: int) -> "Grid":
        """The grid whose pixels are these, each divided into ``factor`` rows and columns."""
        return Grid(self.crs, self.transform @ Affine.scale(1 / factor), self.height * factor, self.width * factor)

    def cells(self, *, offset_px: int, stride_px: int, rows: int, columns: int) -> "Grid":
        """The grid of a map with one cell every ``stride_px`` pixels.

        ``offset_px`` is the row and column of the first cell's outer corner on this grid.
        """
        transform = self.transform @ Affine.translation(offset_px, offset_px) @ Affine.scale(stride_px)
        return Grid(self.crs, transform, rows, columns)

    def blocks(self, size: int = 512) -> Iterator[Window]:
        """Windows of at most ``size`` x ``size`` pixels that cover the grid once, in row order."""
        for row in range(0, self.height, size):
            for column in range(0, self.width, size):
                yield Window(column, row, min(size, self.width - column), min(size, self.height - row))

    def difference(self, other: "Grid") -> str | None:
        """What sets the other grid apart, in words; None if both are the same grid."""
        if self.crs != other.crs:
            return f"CRS {describe_crs(other.crs)}, not {describe_crs(self.crs)}"
        if self.shape != other.shape:
            return f"{other.width} x {other.height} px, not {self.width} x {self.height}"
        shift = ~self.transform @ other.transform
        corners = [(0, 0), (self.width, 0), (0, self.height)]
        distances = [max(abs(a - b) for a, b in zip(shift @ corner, corner, strict=True)) for corner in corners]
        if max(distances) > ALIGNMENT_TOLERANCE_PX:
            return f"shifted by up to {max(distances):.3g} px"
        return None
