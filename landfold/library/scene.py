"""Reflectance of any GeoTIFF by windows, for a notebook."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.windows import Window, from_bounds

from landfold.geo.bands import Radiometry
from landfold.geo.dataset import open_dataset
from landfold.geo.grid import Grid, GridError
from landfold.geo.raster import Raster


@dataclass(frozen=True)
class Scene:
    """A raster on disk; each read opens the file, so nothing is left open.

    ``bands`` are the names of its bands: their descriptions, or ``band_1``, ``band_2``, ... where it has none.
    """

    path: Path
    grid: Grid
    bands: tuple[str, ...]

    @property
    def crs(self) -> CRS:
        """Its CRS."""
        return self.grid.crs

    @property
    def transform(self) -> Affine:
        """From (column, row) in pixels, counted from the outer corner of the first, to (x, y)."""
        return self.grid.transform

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.grid.shape

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(x_min, y_min, x_max, y_max) in units of the CRS."""
        return self.grid.bounds

    def read(self, bands: Sequence[str] | None = None, window: Window | None = None) -> np.ndarray:
        """Reflectance, (band, y, x) float32, NaN where not valid.

        Scale and offset of the file's tags are applied. What its mask, its alpha band or its nodata value leave out
        is not valid.

        Args:
            bands: names of bands; all by default.
            window: pixels of the grid, see `window`; all by default.

        Raises:
            RasterError: no such band, or the file cannot be read.
        """
        with _opened(self.path) as raster:
            return raster.read_reflectance(self.grid.whole if window is None else window, list(bands or self.bands))

    def window(self, x_min: float, y_min: float, x_max: float, y_max: float) -> Window:
        """The window of whole pixels around a rectangle in units of the CRS, as far as it lies on the grid.

        Raises:
            GridError: it lies off the grid, or the grid is rotated or south-up.
        """
        if not self.grid.is_north_up:
            raise GridError(f"{self.path}: the grid is rotated or south-up; give windows in pixels")
        around = from_bounds(x_min, y_min, x_max, y_max, self.transform)
        left, top = max(0, int(np.floor(around.col_off + 1e-6))), max(0, int(np.floor(around.row_off + 1e-6)))
        right = min(self.grid.width, int(np.ceil(around.col_off + around.width - 1e-6)))
        bottom = min(self.grid.height, int(np.ceil(around.row_off + around.height - 1e-6)))
        if left >= right or top >= bottom:
            raise GridError(f"{self.path}: covers {self.bounds}, which ({x_min}, {y_min}, {x_max}, {y_max}) is off")
        return Window(left, top, right - left, bottom - top)


def open_scene(path: Path | str) -> Scene:
    """Look at a raster: one of Landfold's own, or any GeoTIFF with a CRS.

    Args:
        path: the file.

    Raises:
        RasterError: the file cannot be read.
        GridError: it has no CRS or no usable transform.

    Examples:
        >>> scene = open_scene("data/scenes/T33UUU.tif")  # doctest: +SKIP
        >>> scene.read(["R", "N"], scene.window(330000, 5820000, 331000, 5821000)).shape  # doctest: +SKIP
        (2, 100, 100)
    """
    with _opened(Path(path)) as raster:
        return Scene(Path(path), raster.grid, raster.names)


@contextmanager
def _opened(path: Path) -> Iterator[Raster]:
    """A raster whose bands have names; an alpha band is a mask and none of them."""
    with open_dataset(path) as dataset:
        bands = [i for i, kind in enumerate(dataset.colorinterp) if kind != ColorInterp.alpha]
        names = tuple(dataset.descriptions[i] or f"band_{i + 1}" for i in bands)
        radiometry = tuple(Radiometry(dataset.scales[i], dataset.offsets[i]) for i in bands)
        yield Raster(dataset, Grid.of(dataset), names, radiometry)
