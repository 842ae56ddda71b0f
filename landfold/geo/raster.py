"""Rasters that Landfold has written, read by windows.

A scene raster of Landfold is a tiled GeoTIFF with a name for each band, a per-dataset mask
(255 valid, 0 nodata), and, for reflectance stored as integers, GDAL's scale and offset tags.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.enums import Resampling
from rasterio.windows import Window

from landfold.geo.bands import Radiometry
from landfold.geo.dataset import RasterError, alpha_band, has_mask, not_hidden, open_dataset, reading
from landfold.geo.grid import Grid


@dataclass(frozen=True)
class Raster:
    """An open raster that Landfold has written: one grid, named channels, and one mask for all or a nodata value."""

    dataset: Any
    grid: Grid
    names: tuple[str, ...]
    radiometry: tuple[Radiometry, ...]

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator["Raster"]:
        """Open a raster that Landfold has written.

        Raises:
            RasterError: if it cannot be read, or a band has no name.
        """
        with open_dataset(path) as dataset:
            if any(name is None for name in dataset.descriptions):
                raise RasterError(f"{path}: a band without a name; the file was not written by Landfold")
            radiometry = tuple(Radiometry(s, o) for s, o in zip(dataset.scales, dataset.offsets, strict=True))
            yield cls(dataset, Grid.of(dataset), tuple(dataset.descriptions), radiometry)

    @property
    def is_integer(self) -> bool:
        """Whether numbers are stored as integers."""
        return np.issubdtype(np.dtype(self.dataset.dtypes[0]), np.integer)

    def read_raw(self, window: Window, names: Sequence[str] | None = None) -> np.ndarray:
        """Numbers as stored, (channel, y, x); those under the mask are arbitrary."""
        with reading(self.dataset.name):
            return self.dataset.read(self._indexes(names), window=window)

    def read_mask(self, window: Window) -> np.ndarray:
        """Which pixels hold data, in any channel if each has its own nodata: (y, x) bool."""
        with reading(self.dataset.name):
            return self.dataset.dataset_mask(window=window) > 0

    def read_reflectance(self, window: Window, names: Sequence[str] | None = None) -> np.ndarray:
        """Reflectance, or float channels as they are: (channel, y, x) float32, NaN where not valid."""
        raw = self.read_raw(window, names)
        indexes = self._indexes(names)
        values = np.stack([self.radiometry[i - 1].reflectance(a) for i, a in zip(indexes, raw, strict=True)])
        if has_mask(self.dataset, 1) or alpha_band(self.dataset):
            with reading(self.dataset.name):
                values[:, ~not_hidden(self.dataset, 1, window)] = np.nan
        if self.dataset.nodata is not None:  # of each channel by itself; NaN is there already
            values[raw == self.dataset.nodata] = np.nan
        return values

    def scan(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """All blocks once, as `read_raw` and `read_mask` give them; a thread decodes the next one meanwhile.

        Read nothing else from this raster until the end: GDAL's datasets serve one thread at a time.
        """

        def block(window: Window) -> tuple[np.ndarray, np.ndarray]:
            return self.read_raw(window), self.read_mask(window)

        with ThreadPoolExecutor(max_workers=1) as reader:
            following = None
            for window in self.grid.blocks():
                current, following = following, reader.submit(block, window)
                if current:
                    yield current.result()
            yield following.result()

    def thumbnail(
        self, names: Sequence[str], *, longest_px: int, resampling: Resampling = Resampling.average
    ) -> np.ndarray:
        """The whole raster resampled to at most ``longest_px`` a side, (channel, y, x) as stored; for pictures."""
        scale = min(1.0, longest_px / max(self.grid.shape))
        shape = (len(names), max(1, round(self.grid.height * scale)), max(1, round(self.grid.width * scale)))
        with reading(self.dataset.name):
            return self.dataset.read(self._indexes(names), out_shape=shape, resampling=resampling)

    def _indexes(self, names: Sequence[str] | None) -> list[int]:
        if names is None:
            return list(range(1, len(self.names) + 1))
        missing = [name for name in names if name not in self.names]
        if missing:
            raise RasterError(f"{self.dataset.name}: no channel {', '.join(missing)}; it has {', '.join(self.names)}")
        return [self.names.index(name) + 1 for name in names]
