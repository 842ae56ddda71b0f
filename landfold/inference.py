"""A window slid over a normalized scene: class probabilities for every cell of the map, strip by strip.

The map has one cell every ``stride_px`` pixels, from the scene's first pixel on. The window of a cell
has its centre at the cell's centre, so what is predicted lies where it is drawn. Where a window reaches
over the edge of the scene, it is padded by reflection and the share of padding is told.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from rasterio.windows import Window

from landfold.errors import LandfoldError
from landfold.grid import Grid
from landfold.model import Classifier
from landfold.raster import Raster

STRIP_CELLS = 8
"""Rows of cells that are read at once: each pixel row is then decoded about once, in little memory."""


class InferenceError(LandfoldError):
    """A model that does not fit the scene or the map that is asked for."""


@dataclass(frozen=True)
class Strip:
    """Some whole rows of cells of the map.

    ``window`` places them on the map's grid. ``probabilities`` is (model, row, column, class) float32;
    ``valid`` (row, column) the share of the cell's own pixels that hold data, and ``padded`` the share of
    its window that lies outside the scene or holds none.
    """

    window: Window
    probabilities: np.ndarray
    valid: np.ndarray
    padded: np.ndarray


def map_grid(scene: Grid, stride_px: int) -> Grid:
    """The grid of the map; its last row and column may reach beyond the scene by less than a cell."""
    rows, columns = ceil(scene.height / stride_px), ceil(scene.width / stride_px)
    return scene.cells(offset_px=0, stride_px=stride_px, rows=rows, columns=columns)


def check_stride(size_px: int, stride_px: int) -> None:
    """Refuse a stride at which no window can be centred on its cell without resampling.

    Raises:
        InferenceError: if window and stride differ by an odd number of pixels.
    """
    if (size_px - stride_px) % 2 or stride_px > size_px:
        raise InferenceError(
            f"export.stride_px is {stride_px}, but windows are {size_px} px: choose a stride of at most {size_px} "
            f"that is {'even' if size_px % 2 == 0 else 'odd'}, so that windows are centred on the map's cells"
        )


def slide(raster: Raster, models: Sequence[Classifier], stride_px: int) -> Iterator[Strip]:
    """Predict a normalized scene with every model, a few rows of cells at a time.

    Raises:
        InferenceError: the scene's channels are not those that a model was trained on, or models differ.
    """
    card = models[0].card
    for other in (model.card for model in models):
        if list(raster.names) != other.channels:
            raise InferenceError(
                f"{raster.dataset.name}: channels {', '.join(raster.names)}; "
                f"the model of fold {other.fold} expects {', '.join(other.channels)}"
            )
        if (other.classes, other.size_px) != (card.classes, card.size_px):
            raise InferenceError(
                f"the models of folds {card.fold} and {other.fold} differ in classes or size_px; run dvc repro"
            )
    check_stride(card.size_px, stride_px)
    grid = map_grid(raster.grid, stride_px)
    lead = (card.size_px - stride_px) // 2
    for row in range(0, grid.height, STRIP_CELLS):
        rows = min(STRIP_CELLS, grid.height - row)
        first, last = row * stride_px - lead, (row + rows - 1) * stride_px - lead + card.size_px
        left, right = -lead, (grid.width - 1) * stride_px - lead + card.size_px
        values, data = _padded(raster, first, last, left, right)
        windows = _windows(values, card.size_px, stride_px)
        # row by row: all windows of a strip at once would be its pixels (size / stride)^2 times
        probabilities = np.stack([[model.probabilities(cells) for cells in windows] for model in models])
        padded = 1 - _windows(data[None], card.size_px, stride_px).mean(axis=(2, 3, 4))
        own = data[lead : lead + rows * stride_px, lead : lead + grid.width * stride_px]
        valid = own.reshape(rows, stride_px, grid.width, stride_px).mean(axis=(1, 3))
        yield Strip(Window(0, row, grid.width, rows), probabilities, valid, padded.astype(np.float32))


def _padded(raster: Raster, top: int, bottom: int, left: int, right: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels [top, bottom) x [left, right), reflected at the edges, and where there is data (False outside)."""
    grid = raster.grid
    rows = (max(0, -top), max(0, bottom - grid.height))
    columns = (max(0, -left), max(0, right - grid.width))
    # n rows below the scene mirror the n above its last one, which a single row of cells need not hold
    low = max(0, min(top, grid.height - 1 - rows[1]))
    window = Window(0, low, grid.width, min(grid.height, bottom) - low)
    values = np.pad(raster.stored(window), ((0, 0), rows, columns), mode="reflect")
    data = np.pad(raster.valid(window), (rows, columns), mode="constant")
    start = top - low + rows[0]
    part = slice(start, start + bottom - top)
    return values[:, part], data[part]


def _windows(values: np.ndarray, size: int, stride: int) -> np.ndarray:
    """Overlapping windows of (channel, y, x): (row, column, channel, size, size), a view where possible."""
    views = np.lib.stride_tricks.sliding_window_view(values, (size, size), axis=(1, 2))
    return np.moveaxis(views[:, ::stride, ::stride], 0, 2)
