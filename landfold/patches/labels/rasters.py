"""Labels as a raster of class values on any CRS and grid, warped onto the grid of a scene by windows."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas
import shapely
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from landfold.core.errors import first_ten
from landfold.geo.crs import describe_crs, is_metric
from landfold.geo.dataset import alpha_band, not_hidden, open_dataset, reading, warped
from landfold.geo.grid import ALIGNMENT_TOLERANCE_PX, Grid
from landfold.geo.lattice import outline, pixels_across, shared_lattice
from landfold.geo.remote import with_retries
from landfold.patches.labels.classes import Labels, PixelLabels
from landfold.patches.labels.files import one_file
from landfold.patches.settings import UNLABELLED, LabelError, LabelSettings

RASTERS = {".tif", ".tiff", ".gtif", ".vrt", ".img", ".jp2", ".png", ".asc"}
TOLERANCE_PX = 0.001
"""Error of the warp in pixels of the labels. GDAL's default is an eighth; 0 fails in rasterio 1.4."""
MIN_SAMPLES, MAX_SAMPLES = 8, 16
"""Rows and columns of samples in a pixel for a majority: the border of a class is known to 1/16 of the pixel."""
SAMPLES_AT_ONCE = 1 << 22
"""Samples in memory, 4 MB of each array of them."""


class RasterOnGrid(PixelLabels):
    """A label raster through a reader on the grid of a scene, or on that grid refined for a majority."""

    def __init__(self, reader: Any, settings: LabelSettings, path: Path, *, nodata: float | None, samples: int) -> None:
        """A reader on the scene's grid, each pixel divided into ``samples`` rows and columns.

        ``nodata`` is a value without label, beside those that the reader's mask leaves out.
        """
        super().__init__(len(settings.names))
        self.reader, self.settings, self.path, self.nodata, self.samples = reader, settings, path, nodata, samples
        self._numbers_of: dict[Any, int] = {}

    def classes(self, window: Window) -> np.ndarray:
        """Class numbers of a window, (y, x) uint8.

        Raises:
            LabelError: a value that the settings do not list, under this window.
            RasterError: the file cannot be read.
        """
        if self.samples == 1:
            return self._read(window)
        rows = max(1, SAMPLES_AT_ONCE // (window.width * self.samples**2))
        strips = [
            Window(window.col_off, window.row_off + row, window.width, min(rows, window.height - row))
            for row in range(0, window.height, rows)
        ]
        return np.concatenate([self._majority(strip) for strip in strips])

    def _majority(self, window: Window) -> np.ndarray:
        """The class with most samples in each pixel, (y, x); of several the one with the smallest number."""
        k = self.samples
        fine = self._read(Window(window.col_off * k, window.row_off * k, window.width * k, window.height * k))
        fine = fine.reshape(window.height, k, window.width, k).swapaxes(1, 2).reshape(window.height, window.width, -1)
        numbers = fine.min(axis=-1)
        mixed = numbers != fine.max(axis=-1)
        shares = [(fine[mixed] == number).sum(axis=-1) for number in (UNLABELLED, *self._numbers)]
        numbers[mixed] = np.argmax(shares, axis=0)
        return numbers

    def _read(self, window: Window) -> np.ndarray:
        """Class numbers on the grid of the reader, (y, x) uint8."""
        with reading(self.path):
            stored, labelled = with_retries(
                self.path, lambda: (self.reader.read(1, window=window), not_hidden(self.reader, 1, window))
            )
        if self.nodata is not None:
            labelled &= stored != self.nodata
        if np.issubdtype(stored.dtype, np.floating):
            labelled &= ~np.isnan(stored)
        codes, values = pandas.factorize(stored[labelled])
        new = [value for value in values if value not in self._numbers_of]
        self._numbers_of |= self.settings.numbers(new, self.path)
        numbers = np.full(stored.shape, UNLABELLED, dtype=np.uint8)
        numbers[labelled] = np.array([self._numbers_of[value] for value in values], dtype=np.uint8)[codes]
        return numbers


@dataclass(frozen=True)
class LabelRaster(Labels):
    """One raster of class values. Its nodata value, its mask and ground outside it are unlabelled.

    With ``resampling: mode`` a pixel has the class of most of its ground, by samples on a regular lattice in it, since
    GDAL's mode counts pixels whole that lie in part in another. Unlabelled ground votes like a class, so that labels do
    not grow at their edges, and wins a tie; between classes the first of the settings does. Only what lies under the
    cores of windows is read, or under scenes where each pixel is to have a label, so a value in neither list is an
    error where a patch or a pixel would meet it.
    """

    path: Path
    settings: LabelSettings
    grid: Grid

    @property
    def names(self) -> list[str]:
        """Class names in the order of their numbers."""
        return self.settings.names

    @contextmanager
    def on(self, scene: str, grid: Grid) -> Iterator[RasterOnGrid]:
        """The raster on a scene's grid: as it is where the grids are the same, warped elsewhere."""
        with open_dataset(self.path) as dataset:
            if self.grid.difference(grid) is None:
                yield RasterOnGrid(dataset, self.settings, self.path, nodata=dataset.nodata, samples=1)
                return
            samples = majority_samples(grid, self.grid) if self.settings.resampling == "mode" else 1
            with warped(
                dataset,
                grid.refined(samples),
                "nearest",
                nodata=None,  # GDAL alters values that only happen to equal it, and with it forgets a mask
                add_alpha=alpha_band(dataset) is None,
                tolerance=TOLERANCE_PX,
            ) as reader:
                yield RasterOnGrid(reader, self.settings, self.path, nodata=dataset.nodata, samples=samples)

    def pixel_warnings(self, grids: Mapping[str, Grid]) -> tuple[str, ...]:
        """One warning where the raster has other pixels than scenes; how much ground both cover does not matter."""
        others = {scene: grid for scene, grid in grids.items() if shared_lattice([self.grid, grid]) is None}
        if not others:
            return ()
        own, sizes = _pixel_size(self.grid), first_ten(sorted({_pixel_size(grid) for grid in others.values()}))
        scenes = f"scene{'s'[: len(others) - 1]} {first_ten(list(others))}"
        differ = f"{scenes} of {sizes}" if sizes != own else f"which do not coincide with those of {scenes}"
        return (
            f"{self.path}: labels have pixels of {own}, {differ}: labels.resampling: {self.settings.resampling} gives "
            "each pixel of a scene its class, and borders between classes are as rough as the larger pixels",
        )

    @property
    def ground(self) -> geopandas.GeoSeries:
        """The outline of the raster."""
        return geopandas.GeoSeries([shapely.Polygon(outline(self.grid, self.grid.crs).T)], crs=self.grid.crs)


def majority_samples(scene: Grid, labels: Grid) -> int:
    """Rows and columns of samples in a scene's pixel, a multiple of the labels' pixels in it where that is possible.

    Then labels whose pixels divide those of the scene are counted exactly.
    """
    across = [span for span in pixels_across(scene, labels) if np.isfinite(span)]
    whole = max(1, ceil(max(across, default=1) - ALIGNMENT_TOLERANCE_PX))
    return min(whole * ceil(MIN_SAMPLES / whole), MAX_SAMPLES)


def _pixel_size(grid: Grid) -> str:
    """The size of a grid's pixels with their unit, such as ``30 m`` and ``0.0001 x 0.0002 degrees``."""
    width, height = (f"{side:.6g}" for side in grid.resolution)
    unit = "m" if is_metric(grid.crs) else "degrees" if grid.crs.is_geographic else f"units of {describe_crs(grid.crs)}"
    return f"{width} {unit}" if width == height else f"{width} x {height} {unit}"


def read_raster(folder: Path, settings: LabelSettings) -> LabelRaster:
    """The one raster in ``folder``; its pixels are read scene by scene.

    Raises:
        LabelError: no file or several, no CRS, or more than one band of values.
        RasterError: the file cannot be read.
    """
    path = one_file(folder, RASTERS, "label raster (GeoTIFF, ...)")
    with open_dataset(path) as dataset:
        if dataset.crs is None:
            raise LabelError(f"{path}: the label raster has no CRS, and none is guessed; assign the right one")
        bands = [kind for kind in dataset.colorinterp if kind != ColorInterp.alpha]
        if len(bands) != 1:
            raise LabelError(f"{path}: {len(bands)} bands; expected one, of class values")
        return LabelRaster(path, settings, Grid.of(dataset))
