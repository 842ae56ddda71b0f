"""The rasters of one map with their styles: class, confidence, probabilities and area of applicability."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.features import sieve
from rasterio.windows import Window
from scipy.special import entr

from landfold.geo.bands import Radiometry
from landfold.geo.grid import Grid
from landfold.geo.raster import Raster
from landfold.geo.writer import RasterWriter, create_cog
from landfold.maps.classmap import NO_CLASS
from landfold.maps.style import write_class_styles, write_dissimilarity_style, write_share_style

MOST_BYTES = 254
"""Up to so many classes are bytes; beyond, 255 would be a class, which many tools take for nodata."""

PERCENT = Radiometry(0.01, 0)
"""Probabilities of all classes are stored in whole percents, which GIS multiply by this: a tenth of the space of
float32, and half a percent is less than any calibration is good for."""

NO_PERCENT = 255

STEPS = 4096
"""Confidence and the other measures are stored in steps of 1/4096: float32 of few digits takes about half the space."""

SIEVE_TAG = "SIEVE_PX"
"""Tag of a class raster: groups of fewer cells than this were merged into their neighbours; 0: none."""


@dataclass(frozen=True)
class MapFiles:
    """The rasters of one map: STEM_class.tif, STEM_confidence.tif, ..., all on one grid and with the same tags.

    Attributes:
        stem: folder and beginning of the names.
        grid: the map's, one pixel a cell.
        legend: name to red, green and blue (0 to 255) of every class, in the order of the models' outputs.
        layers: setting ``export.layers``.
        sieve_px: setting ``export.sieve_px``.
        tags: of every raster.
    """

    stem: Path
    grid: Grid
    legend: Mapping[str, tuple[int, int, int]]
    layers: Sequence[str]
    sieve_px: int
    tags: Mapping[str, str]

    def path(self, part: str) -> Path:
        """STEM_PART.tif."""
        return self.stem.with_name(f"{self.stem.name}_{part}.tif")

    @contextmanager
    def open(self, *extra: str) -> Iterator["MapWriter"]:
        """Write class, confidence with the bands ``extra``, and the other layers; COGs at the end of the block.

        The class raster alone is sieved, when all of it is there; its tag SIEVE_PX tells.
        """
        dtype = "uint8" if len(self.legend) <= MOST_BYTES else "uint16"
        bands = ["confidence", *extra, *(name for name in ("margin", "entropy") if name in self.layers)]
        with ExitStack() as stack:
            options = {"dtype": dtype, "nodata": NO_CLASS, "overview_resampling": "mode"}
            tags = {SIEVE_TAG: str(self.sieve_px)}
            classes = stack.enter_context(self._create("class", ["class"], tags, **options))
            classes.describe_classes(dict(enumerate(self.legend, 1)), dict(enumerate(self.legend.values(), 1)))
            confidence = stack.enter_context(self.create_float("confidence", bands))
            percent = None
            if "probabilities" in self.layers:
                options = {"dtype": "uint8", "nodata": NO_PERCENT, "radiometry": [PERCENT] * len(self.legend)}
                percent = stack.enter_context(
                    self._create("probabilities", list(self.legend), overview_resampling="average", **options)
                )
            yield MapWriter(classes, confidence, percent, bands)
            if self.sieve_px > 1:
                _sieve(classes, self.sieve_px)

    def create_float(self, part: str, bands: list[str], **tags: str) -> AbstractContextManager[RasterWriter]:
        """A raster of float32 bands, NaN where there is no data, with more tags."""
        return self._create(part, bands, tags, dtype="float32", nodata=np.nan, overview_resampling="average")

    def _create(
        self, part: str, bands: list[str], tags: Mapping[str, str] | None = None, **options: Any
    ) -> AbstractContextManager[RasterWriter]:
        return create_cog(self.path(part), self.grid, bands, tags={**self.tags, **(tags or {})}, **options)

    def write_styles(self, threshold: float | None) -> list[Path]:
        """Write the styles of class and confidence, and with the ``threshold`` of applicability; gives the files."""
        written = [*write_class_styles(self.path("class"), self.legend), write_share_style(self.path("confidence"))]
        if threshold is not None:
            written.append(write_dissimilarity_style(self.path("applicability"), threshold))
        return written

    def rasters(self, *, with_applicability: bool) -> list[Path]:
        """All rasters of a finished map."""
        optional = {"probabilities": "probabilities" in self.layers, "applicability": with_applicability}
        return [self.path(part) for part in ("class", "confidence", *(p for p, there in optional.items() if there))]


@dataclass(frozen=True)
class MapWriter:
    """The open rasters of one map; ``bands`` are those of the confidence raster."""

    classes: RasterWriter
    confidence: RasterWriter
    percent: RasterWriter | None
    bands: list[str]

    def write(self, window: Window, data: np.ndarray, probabilities: np.ndarray, *extra: np.ndarray) -> None:
        """Write the cells of a window.

        Args:
            window: on the map's grid.
            data: (row, column) bool, False where nothing is mapped.
            probabilities: (row, column, class).
            extra: (row, column) of each extra band of the confidence raster, in order.
        """
        number = np.where(data, probabilities.argmax(axis=2) + 1, NO_CLASS)
        self.classes.write(window, number[None].astype(self.classes.dataset.dtypes[0]))
        layers = [probabilities.max(axis=2), *extra]
        layers += [_MEASURES[name](probabilities) for name in self.bands[len(layers) :]]
        steps = np.rint(np.stack(layers) * STEPS) / STEPS
        self.confidence.write(window, np.where(data, steps, np.nan).astype(np.float32))
        if self.percent:
            percent = np.where(data[..., None], np.rint(100 * probabilities), NO_PERCENT)
            self.percent.write(window, np.moveaxis(percent, 2, 0).astype(np.uint8))


def _sieve(classes: RasterWriter, least_cells: int) -> None:
    """Give groups of fewer cells than ``least_cells`` the class of their largest neighbour, as GDAL's sieve does.

    Cells without a class are neighbours of none and stay as they are. Held are three arrays of the raster, and GDAL's
    table of its groups: 1 GB for 10980 x 10980 cells in 9 million groups.
    """
    values = classes.dataset.read(1)
    sieved = sieve(values, least_cells, mask=values != NO_CLASS)
    classes.write(Window(0, 0, values.shape[1], values.shape[0]), sieved[None])


def write_labels(
    path: Path, labels: Path, legend: Mapping[str, tuple[int, int, int]], tags: Mapping[str, str]
) -> list[Path]:
    """Write the reference labels of a scene in the colours of its map, to look at beside it: a COG with its styles.

    Args:
        path: of the new raster, which ends in .tif.
        labels: the class numbers that the patches stage wrote, 0 where there is no label.
        legend: name to red, green and blue (0 to 255) of every class.
        tags: of the raster.

    Returns:
        The files.
    """
    options = {"dtype": "uint8", "nodata": NO_CLASS, "overview_resampling": "mode", "tags": tags}
    with Raster.open(labels) as source, create_cog(path, source.grid, ["class"], **options) as target:
        target.describe_classes(dict(enumerate(legend, 1)), dict(enumerate(legend.values(), 1)))
        for window in source.grid.blocks():
            target.write(window, source.read_raw(window))
    return [path, *write_class_styles(path, legend)]


def margin(probabilities: np.ndarray) -> np.ndarray:
    """Probability of the most probable class minus that of the second: (..., class) to (...), 0 to 1."""
    if probabilities.shape[2] == 1:
        return probabilities[..., 0]
    two = np.partition(probabilities, -2, axis=2)[..., -2:]
    return two[..., 1] - two[..., 0]


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """Shannon entropy divided by its maximum: (row, column, class) to (row, column).

    0: one class has probability 1; 1: all classes are equally probable.
    """
    return entr(probabilities).sum(axis=2) / np.log(max(2, probabilities.shape[2]))


_MEASURES = {"margin": margin, "entropy": entropy}
