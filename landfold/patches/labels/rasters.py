"""Labels as a raster of class values on any CRS and grid, warped onto the grid of a scene by windows."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas
import shapely
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.windows import Window

from landfold.core.errors import first_ten
from landfold.geo.crs import describe_crs, is_metric
from landfold.geo.dataset import open_dataset, reading, warped
from landfold.geo.grid import Grid
from landfold.geo.lattice import outline, shared_lattice
from landfold.patches.labels.classes import Labels, PixelLabels
from landfold.patches.labels.files import one_file
from landfold.patches.settings import UNLABELLED, LabelError, LabelSettings

RASTERS = {".tif", ".tiff", ".gtif", ".vrt", ".img", ".jp2", ".png", ".asc"}
TOLERANCE_PX = 0.001
"""Error of the warp in pixels of the labels. GDAL's default is an eighth; 0 fails in rasterio 1.4."""


class RasterOnGrid(PixelLabels):
    """A label raster through a reader on the grid of a scene."""

    def __init__(self, reader: Any, settings: LabelSettings, path: Path, *, nodata: float | None) -> None:
        """A reader on the scene's grid; ``nodata`` is a value without label, beside those that its mask leaves out."""
        super().__init__(len(settings.names))
        self.reader, self.settings, self.path, self.nodata = reader, settings, path, nodata
        self._numbers_of: dict[Any, int] = {}

    def classes(self, window: Window) -> np.ndarray:
        """Class numbers of a window, (y, x) uint8.

        Raises:
            LabelError: a value that the settings do not list, under this window.
            RasterError: the file cannot be read.
        """
        with reading(self.path):
            stored = self.reader.read(1, window=window)
            labelled = self._mask(window) > 0
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

    def _mask(self, window: Window) -> np.ndarray:
        """Numbers above 0 where there is data; GDAL takes no alpha of signed or wide numbers for a mask."""
        if ColorInterp.alpha in self.reader.colorinterp:
            return self.reader.read(self.reader.colorinterp.index(ColorInterp.alpha) + 1, window=window)
        return self.reader.read_masks(1, window=window)


@dataclass(frozen=True)
class LabelRaster(Labels):
    """One raster of class values. Its nodata value, its mask and ground outside it are unlabelled.

    With ``resampling: mode`` nodata votes like any value, so that labels do not grow at their edges; a tie
    goes to the value that GDAL meets first. Only what lies under the cores of windows is read, or under scenes where
    each pixel is to have a label, so a value in neither list is an error where a patch or a pixel would meet it.
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
                yield RasterOnGrid(dataset, self.settings, self.path, nodata=dataset.nodata)
                return
            votes = self.settings.resampling == "mode"
            with warped(
                dataset,
                grid,
                self.settings.resampling,
                nodata=None if votes else dataset.nodata,  # GDAL alters values that only happen to equal it
                add_alpha=(votes or dataset.nodata is None) and ColorInterp.alpha not in dataset.colorinterp,
                tolerance=TOLERANCE_PX,
            ) as reader:
                yield RasterOnGrid(reader, self.settings, self.path, nodata=dataset.nodata)

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


def _pixel_size(grid: Grid) -> str:
    """The size of a grid's pixels with their unit, such as ``30 m`` and ``0.0001 x 0.0002 degrees``."""
    width, height = (f"{side:.6g}" for side in grid.resolution)
    unit = "m" if is_metric(grid.crs) else "degrees" if grid.crs.is_geographic else f"units of {describe_crs(grid.crs)}"
    return f"{width} {unit}" if width == height else f"{width} x {height} {unit}"


def read_raster(folder: Path, settings: LabelSettings) -> LabelRaster:
    """The one raster in ``folder``; its pixels are read scene by scene.

    Raises:
        LabelError: no file or several, no CRS, more than one band of values, or one that ``resampling: mode``
            cannot count rightly: with a mask, whose pixels could not vote, or of floats, where NaN could not.
        RasterError: the file cannot be read.
    """
    path = one_file(folder, RASTERS, "label raster (GeoTIFF, ...)")
    with open_dataset(path) as dataset:
        if dataset.crs is None:
            raise LabelError(f"{path}: the label raster has no CRS, and none is guessed; assign the right one")
        bands = [kind for kind in dataset.colorinterp if kind != ColorInterp.alpha]
        if len(bands) != 1:
            raise LabelError(f"{path}: {len(bands)} bands; expected one, of class values")
        floating = np.issubdtype(np.dtype(dataset.dtypes[0]), np.floating)
        if settings.resampling == "mode" and (floating or MaskFlags.per_dataset in dataset.mask_flag_enums[0]):
            raise LabelError(
                f"{path}: {'floats' if floating else 'a mask beside the values'}; labels.resampling: mode needs "
                "integers with a nodata value; convert the file, or set nearest"
            )
        return LabelRaster(path, settings, Grid.of(dataset))
