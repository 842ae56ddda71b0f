"""Cloud of Sentinel-2 level 1C, by reflectance at 60 m: level 1C has no mask that goes with each pixel.

After ESA's mask of level 1C (Sentinel-2 MSI Technical Guide, "Level-1C cloud masks"): opaque cloud is bright in band A
(B01, 443 nm) and, unlike snow, in S1 (B11); cirrus is bright in CIRRUS (B10, 1375 nm), where water vapour hides the
ground. Single pixels, such as roofs, are eroded, and what is left is dilated over the rims of the cloud. Cloud that is
thinner than the thresholds, and shadow, are not found; bright sand may be taken for cloud.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from affine import Affine
from rasterio.windows import Window
from scipy.ndimage import binary_dilation, binary_erosion

from landfold.geo.grid import Grid
from landfold.scenes.ingest.open_files import OpenFiles
from landfold.scenes.ingest.sources import BandSource
from landfold.scenes.sensors.scene_files import BandFile, SceneFiles
from landfold.scenes.settings import IngestSettings, L1cThresholds

BANDS = ("A", "G", "S1", "CIRRUS")
PIXEL_M = 60.0
"""The pixels of bands A and CIRRUS, and of ESA's mask."""

SNOW_NDSI = 0.4
"""(G - S1) / (G + S1) from which a pixel is snow or ice (Hall et al. 1995, doi:10.1016/0034-4257(95)00137-P)."""

SQUARE = np.ones((3, 3), dtype=bool)
DILATIONS = 2
REACH_PX = 1 + DILATIONS
"""So far a pixel of the mask depends on others."""


def is_level_1c(scene: SceneFiles) -> bool:
    """Whether a scene is Sentinel-2 of level 1C with the bands of the screen; level 2A has no CIRRUS."""
    has_classes = any(mask.kind == "scl" for mask in scene.masks)
    return scene.sensor == "sentinel2" and not has_classes and set(BANDS) <= scene.bands.keys()


@dataclass(frozen=True)
class L1cScreen:
    """The open bands of the screen, in the order of BANDS, and its thresholds."""

    bands: tuple[BandSource, ...]
    thresholds: L1cThresholds

    @classmethod
    def open(cls, files: OpenFiles, settings: IngestSettings) -> "L1cScreen | None":
        """The screen of a scene; None where it is switched off or the scene is none of level 1C.

        Raises:
            RasterError, SceneError, GridError: see `BandSource.open`.
        """
        if settings.masks.l1c is None or not is_level_1c(files.scene):
            return None
        bands = tuple(BandSource.open(files, files.scene.bands[name], settings) for name in BANDS)
        return cls(bands, settings.masks.l1c)

    @property
    def files(self) -> list[BandFile]:
        """What it reads."""
        return [band.file for band in self.bands]

    def reader(self, files: OpenFiles, grid: Grid, part: Window) -> Callable[[Window], np.ndarray]:
        """A function of a window of the common grid, inside ``part``: which pixels are no cloud, (y, x) bool.

        The mask of ``part`` is made at once: at 60 m that of a whole tile is 3 MB.
        """
        width, height = grid.resolution
        t = grid.transform
        shape = ceil(grid.height * height / PIXEL_M), ceil(grid.width * width / PIXEL_M)
        whole = Grid(grid.crs, Affine(PIXEL_M, 0.0, t.c, 0.0, -PIXEL_M, t.f), *shape)
        rows, columns = (
            (max(0, int(start * size / PIXEL_M) - REACH_PX), min(most, ceil(end * size / PIXEL_M) + REACH_PX))
            for start, end, size, most in (
                (part.row_off, part.row_off + part.height, height, whole.height),
                (part.col_off, part.col_off + part.width, width, whole.width),
            )
        )
        cloud = self._cloud(files, whole.part(Window.from_slices(rows, columns)))

        def read(window: Window) -> np.ndarray:
            at_rows = (window.row_off + np.arange(window.height) + 0.5) * height // PIXEL_M - rows[0]
            at_columns = (window.col_off + np.arange(window.width) + 0.5) * width // PIXEL_M - columns[0]
            return ~cloud[np.ix_(at_rows.astype(int), at_columns.astype(int))]

        return read

    def _cloud(self, files: OpenFiles, grid: Grid) -> np.ndarray:
        """Which pixels of a grid of 60 m are cloud, (y, x) bool."""
        readers = [band.reader(files, grid, "average") for band in self.bands]
        cloud = np.zeros(grid.shape, dtype=bool)
        for window in grid.blocks():
            numbers, causes = zip(*(read(window) for read in readers), strict=True)
            a, g, s1, cirrus = (
                band.radiometry.reflectance(values) for band, values in zip(self.bands, numbers, strict=True)
            )
            opaque = (a > self.thresholds.coastal) & (g - s1 < SNOW_NDSI * (g + s1))
            found = (opaque | (cirrus > self.thresholds.cirrus)) & ~np.logical_or.reduce(causes)
            cloud[window.toslices()] = found
        kept = binary_erosion(cloud, SQUARE, border_value=1)
        return binary_dilation(kept, SQUARE, iterations=DILATIONS)

    def report(self) -> dict[str, Any]:
        """The screen's entry among the masks of report.json."""
        names = ", ".join(file.shown for file in self.files)
        return {"kind": "l1c", "file": names, "invalid": self.thresholds.model_dump(mode="json")}
