"""What is kept of the predictions of pixels: counts by zone and class, a sample, and the means over patches."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas
from rasterio.windows import Window
from scipy.ndimage import maximum_filter, minimum_filter

SAMPLE_PIXELS = 20_000
"""Pixels of a fold whose probabilities are kept, to fit and score their calibration: 0.6 MB with 8 classes."""

COLUMNS = ["zone", "boundary", "label", "predicted"]
"""What pixels are counted by."""

ZONES, RANDOM_PATCHES, RANDOM_PIXELS = "zones", "random patches", "random pixels"
"""How pixels were held out, the column ``split`` of counts."""


def is_boundary(labels: np.ndarray) -> np.ndarray:
    """Which pixels have another label, or none, among their eight neighbours.

    Args:
        labels: (y + 2, x + 2) class numbers, with one pixel more on each side.

    Returns:
        (y, x) bool.
    """
    return (maximum_filter(labels, 3) != minimum_filter(labels, 3))[1:-1, 1:-1]


@dataclass
class PixelCounts:
    """Pixels counted by zone, boundary, class and predicted class; see `table`."""

    classes: list[str]
    """their names"""
    _parts: list[pandas.DataFrame] = field(default_factory=list)

    def add(self, zones: np.ndarray, boundary: np.ndarray, labels: np.ndarray, probabilities: np.ndarray) -> None:
        """Count pixels.

        Args:
            zones: (pixel,) names.
            boundary: (pixel,) bool.
            labels: (pixel,) class numbers from 0.
            probabilities: (pixel, class).
        """
        part = pandas.DataFrame(
            {
                "zone": zones,
                "boundary": boundary,
                "label": labels,
                "predicted": probabilities.argmax(axis=1),
                "pixels": 1,
            }
        )
        self._parts.append(part.groupby(COLUMNS, as_index=False).sum())

    def table(self) -> pandas.DataFrame:
        """The counts, sorted: `COLUMNS` with names of classes, and ``pixels``."""
        if not self._parts:
            return pandas.DataFrame(columns=[*COLUMNS, "pixels"])
        whole = pandas.concat(self._parts).groupby(COLUMNS, as_index=False).sum()
        names = np.array(self.classes, dtype=object)
        return whole.assign(label=names[whole["label"]], predicted=names[whole["predicted"]])


class PixelSample:
    """A simple random sample of the predicted pixels, drawn while they come strip by strip: each is as likely."""

    def __init__(self, classes: list[str], seed: Sequence[int]) -> None:
        """A sample of at most `SAMPLE_PIXELS` for the named classes; an equal seed gives an equal sample."""
        self._classes, self._random = classes, np.random.default_rng(seed)
        self._rows = pandas.DataFrame()

    def add(self, zones: np.ndarray, labels: np.ndarray, probabilities: np.ndarray) -> None:
        """Draw from these pixels and the sample so far.

        Args:
            zones: (pixel,) names.
            labels: (pixel,) class numbers from 0.
            probabilities: (pixel, class).
        """
        new = pandas.DataFrame(probabilities, columns=[f"p_{name}" for name in self._classes])
        new.insert(0, "zone", zones)
        new.insert(1, "label", np.array(self._classes, dtype=object)[labels])
        new["key"] = self._random.random(len(new))
        self._rows = pandas.concat([self._rows, new]).nsmallest(SAMPLE_PIXELS, "key")

    def table(self) -> pandas.DataFrame:
        """``zone``, ``label`` and p_CLASS of every class, in random order: its first rows are a smaller sample."""
        return self._rows.drop(columns="key").reset_index(drop=True)


class PatchMeans:
    """Mean probabilities over the valid pixels of the cores of patches, strip by strip."""

    def __init__(self, patches: pandas.DataFrame, core_px: int, classes: int) -> None:
        """Patches with ``scene``, ``row``, ``column`` and ``size_px``."""
        margin = (patches["size_px"].to_numpy() - core_px) // 2
        self._scene = patches["scene"].to_numpy(object)
        self._row, self._column = patches["row"].to_numpy() + margin, patches["column"].to_numpy() + margin
        self._core, self._sums = core_px, np.zeros((len(patches), classes))
        self._counts = np.zeros(len(patches), dtype=np.int64)

    def wanted(self, scene: str, window: Window) -> np.ndarray:
        """Which pixels of a strip as wide as its scene are in a core, (y, x) bool."""
        inside = np.zeros((int(window.height), int(window.width)), dtype=bool)
        for _, rows, columns in self._cores(scene, window):
            inside[rows, columns] = True
        return inside

    def add(self, scene: str, window: Window, probabilities: np.ndarray) -> None:
        """Take the pixels of a strip: (y, x, class), NaN where there is no prediction."""
        for patch, rows, columns in self._cores(scene, window):
            core = probabilities[rows, columns].reshape(-1, probabilities.shape[2])
            core = core[~np.isnan(core[:, 0])]
            self._sums[patch] += core.sum(axis=0, dtype=np.float64)
            self._counts[patch] += len(core)

    def means(self) -> np.ndarray:
        """(patch, class) float32; equal for all classes where a core has no valid pixel."""
        counts = np.maximum(self._counts, 1)[:, None]
        means = np.where(self._counts[:, None] > 0, self._sums / counts, 1 / self._sums.shape[1])
        return means.astype(np.float32)

    def _cores(self, scene: str, window: Window) -> list[tuple[int, slice, slice]]:
        top, bottom = int(window.row_off), int(window.row_off + window.height)
        here = (self._scene == scene) & (self._row < bottom) & (self._row + self._core > top)
        return [
            (
                patch,
                slice(max(row - top, 0), min(row + self._core, bottom) - top),
                slice(column, column + self._core),
            )
            for patch, row, column in zip(
                np.flatnonzero(here), self._row[here].tolist(), self._column[here].tolist(), strict=True
            )
        ]
