"""Band statistics: mean and standard deviation of every channel over a window, of patches and of map cells.

They are the features of a classifier that knows no shapes, and the space in which a map cell is like
the training patches or is not. Sums are taken over integers, values in steps of 2 ** -20, so that they
are exact however a scene is cut into strips: a window has the same statistics as a patch and as a
cell, and one of constant colour has a standard deviation of exactly 0.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from math import ceil
from pathlib import Path

import numpy as np
import pandas
from rasterio.windows import Window

from landfold.core.errors import LandfoldError
from landfold.geo.raster import Raster
from landfold.geo.windows import scenes_of

STEPS = 2**20
"""To the unit: a value is off by at most 5e-7, and the squares of a window of 2048 x 2048 px fit 64 bits."""

STRIP_PX = 64
"""Rows of pixels, beyond one window, that are in memory at once: 45 MB of a scene of 10980 px and 16 channels."""

TOGETHER_PX = 2**18
"""Pixels, over all channels, that are summed at once: many channels of a small tile, one of a wide strip."""


class FeatureError(LandfoldError):
    """Windows that cannot be described."""


def feature_names(channels: Sequence[str]) -> list[str]:
    """Names of the features in their order: the mean and the standard deviation of each channel in turn."""
    return [f"{channel}_{statistic}" for channel in channels for statistic in ("mean", "std")]


def patch_features(patches: pandas.DataFrame, normalized: Path) -> pandas.DataFrame:
    """Mean and standard deviation of every channel over the valid pixels of each patch's whole window.

    Args:
        patches: columns ``patch``, ``scene``, ``row``, ``column`` and ``size_px``.
        normalized: folder of the normalized scenes.

    Returns:
        Columns as `feature_names`, float32, NaN where no pixel of a window is valid; index ``patch``, in
        the order of the table.

    Raises:
        WindowError: no patches, a scene is absent, or scenes differ in their channels.
    """
    channels: list[str] = []
    features = np.empty((0, 0), dtype=np.float32)
    places = patches.reset_index(drop=True)
    for raster, part in scenes_of(places, normalized):
        if not channels:
            channels = list(raster.names)
            features = np.empty((len(places), 2 * len(channels)), dtype=np.float32)
        for size, alike in part.groupby("size_px"):
            _fill(features, raster, alike, int(size))
    return pandas.DataFrame(
        features, columns=feature_names(channels), index=pandas.Index(places["patch"], name="patch")
    )


def cell_features(raster: Raster, *, size_px: int, stride_px: int) -> Iterator[tuple[Window, np.ndarray]]:
    """The same statistics for the window centred on each cell of a map, some whole rows of cells at a time.

    Cells and windows are those of `landfold.maps.inference.slide`. A window may reach over the edge of the
    scene: only pixels inside it that are valid count.

    Yields:
        The cells' window on the map's grid; and (row, column, feature) float32 with features as
        `feature_names`, NaN where no pixel of a window is valid.

    Raises:
        FeatureError: no window can be centred on its cell.
    """
    if (size_px - stride_px) % 2 or not 0 < stride_px <= size_px:
        raise FeatureError(
            f"windows of {size_px} px cannot be centred on cells of {stride_px} px: the cell must not be larger, and "
            "the difference must be even"
        )
    grid, lead = raster.grid, (size_px - stride_px) // 2
    rows, columns = ceil(grid.height / stride_px), ceil(grid.width / stride_px)
    lefts = np.arange(columns) * stride_px - lead
    at_once = max(1, STRIP_PX // stride_px)
    for row in range(0, rows, at_once):
        tops = np.arange(row, min(row + at_once, rows)) * stride_px - lead
        yield Window(0, row, columns, len(tops)), _statistics(raster, tops, lefts, size_px)


def full_windows(raster: Raster, *, size_px: int, stride_px: int, max_invalid: float) -> np.ndarray:
    """Which windows on the stride's grid, wholly inside the scene, hold enough data: (row, column) bool.

    They are the windows of which `landfold.patches.cut.cut_patches` would make patches, were they all labelled.
    """
    grid = raster.grid
    tops, lefts = (np.arange(0, side - size_px + 1, stride_px) for side in grid.shape)
    full = np.zeros((len(tops), len(lefts)), dtype=bool)
    at_once = max(1, STRIP_PX // stride_px)
    for row in range(0, len(tops) if len(lefts) else 0, at_once):
        part = tops[row : row + at_once]
        strip = Window(0, int(part[0]), grid.width, int(part[-1] - part[0]) + size_px)
        valid = raster.read_mask(strip).astype(np.int64)
        y, x = part - part[0], lefts
        invalid_px = size_px**2 - _sums(valid, [y, y + size_px], [x, x + size_px])
        full[row : row + at_once] = invalid_px / size_px**2 <= max_invalid
    return full


def _fill(features: np.ndarray, raster: Raster, places: pandas.DataFrame, size_px: int) -> None:
    """Write the statistics of one scene's windows, all of one size, to the rows of ``features`` of their index."""
    rows = np.unique(places["row"].to_numpy())
    for _, strip in groupby(rows, key=lambda row: row // STRIP_PX):
        part = places[places["row"].isin(list(strip))]
        tops, row = np.unique(part["row"].to_numpy(), return_inverse=True)
        lefts, column = np.unique(part["column"].to_numpy(), return_inverse=True)
        features[part.index] = _statistics(raster, tops, lefts, size_px)[row, column]


def _statistics(raster: Raster, tops: np.ndarray, lefts: np.ndarray, size_px: int) -> np.ndarray:
    """Features of all windows with these upper and left edges, which may lie outside of the scene.

    Returns (row, column, feature) float32, NaN where no pixel is valid.
    """
    grid = raster.grid
    first, last = max(0, int(tops[0])), min(grid.height, int(tops[-1]) + size_px)
    window = Window(0, first, grid.width, last - first)
    valid = raster.read_mask(window)
    y = [np.clip(edge - first, 0, last - first) for edge in (tops, tops + size_px)]
    x = [np.clip(edge, 0, grid.width) for edge in (lefts, lefts + size_px)]
    counts = _sums(valid.astype(np.int64), y, x)
    stored = raster.read_raw(window)
    at_once = max(1, TOGETHER_PX // valid.size)
    features = []
    with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN that is promised
        for first_channel in range(0, len(stored), at_once):
            channels = stored[first_channel : first_channel + at_once]
            steps = np.rint(np.where(valid, channels, 0) * np.float64(STEPS)).astype(np.int64)
            mean = _sums(steps, y, x) / counts
            variance = _sums(steps * steps, y, x) / counts - mean**2
            features += [mean / STEPS, np.sqrt(np.maximum(variance, 0)) / STEPS]
    means, deviations = np.concatenate(features[::2]), np.concatenate(features[1::2])
    both = np.stack([means, deviations], axis=1).reshape(-1, *counts.shape)
    return np.moveaxis(both, 0, -1).astype(np.float32)


def _sums(values: np.ndarray, y: list[np.ndarray], x: list[np.ndarray]) -> np.ndarray:
    """Sums of (..., y, x) integers over boxes [y0, y1) x [x0, x1): (..., row, column) int64.

    The cumulative sums may run over 64 bits: differences are right all the same, as integers wrap around.
    """
    down = np.zeros((*values.shape[:-2], values.shape[-2] + 1, values.shape[-1]), dtype=np.int64)
    np.cumsum(values, axis=-2, out=down[..., 1:, :])
    rows = down[..., y[1], :] - down[..., y[0], :]
    across = np.zeros((*rows.shape[:-1], rows.shape[-1] + 1), dtype=np.int64)
    np.cumsum(rows, axis=-1, out=across[..., 1:])
    return across[..., x[1]] - across[..., x[0]]
