"""Class probabilities of every cell of a map, from windows of a normalized scene, part by part.

The map has one cell every ``stride_px`` pixels, from the scene's first pixel on. The window of a cell has its centre at
the cell's centre, so that a prediction lies where it is drawn. With several offsets the windows of a cell lie
symmetrically about that centre, and the probabilities are their mean. A window that reaches over the edge of the scene
is padded by reflection, and the share of padding is part of the result. Memory holds one part, however large the scene
is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil
from typing import Protocol

import numpy as np
from rasterio.windows import Window

from landfold.core.errors import LandfoldError
from landfold.geo.grid import Grid
from landfold.geo.raster import Raster
from landfold.maps.settings import ExportSettings
from landfold.network.card import ModelCard

STRIP_CELLS, STRIP_PX = 8, 128
"""Rows of cells, and of pixels, that are read at once: each pixel row is decoded about once, in little memory."""

BATCH, WIDE_PX = 256, 2**15
"""Rows of cells are cut at multiples of `Classifier.probabilities`' batch, so that the same windows share one as in
an uncut row; a part is one batch wide, or as many as fit into so many pixels: wider than a Sentinel-2 tile."""


class InferenceError(LandfoldError):
    """A model that does not fit the scene, or a map that cannot be made with it."""


class WindowClassifier(Protocol):
    """What predicts windows: `landfold.network.model.Classifier`, or anything with its card and this method."""

    card: ModelCard
    device: str
    """what computes: cpu or cuda"""

    def probabilities(self, windows: np.ndarray) -> np.ndarray:
        """(n, channel, size_px, size_px) float32 in [0, 1] to (n, class) float32."""


@dataclass(frozen=True)
class MapStrip:
    """Some rows of cells of a map, as wide as the map unless that is very wide.

    Attributes:
        window: their place on the map's grid.
        probabilities: (model, row, column, class) float32.
        valid: (row, column), the share of the cell's own pixels that hold data.
        padded: (row, column) float32, the share of the cell's windows that is outside of the scene or holds no data.
    """

    window: Window
    probabilities: np.ndarray
    valid: np.ndarray
    padded: np.ndarray


def map_grid(scene: Grid, stride_px: int | None) -> Grid:
    """The grid of the map, the scene's own for None; its last row and column may reach out by less than a cell."""
    stride_px = stride_px or 1
    rows, columns = ceil(scene.height / stride_px), ceil(scene.width / stride_px)
    return scene.cells(offset_px=0, stride_px=stride_px, rows=rows, columns=columns)


def check_cells(card: ModelCard, stride_px: int | None) -> None:
    """Refuse a stride that a model of pixels has no use for, or at which windows cannot be centred on cells.

    Raises:
        InferenceError: see above.
    """
    if card.model.of_pixels:
        if stride_px is not None:
            raise InferenceError(
                f"export.stride_px is {stride_px}, but the model maps the scene's own pixels: set it to null"
            )
        return
    check_stride(card.size_px, stride_px)


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


def shifts_px(stride_px: int, offsets: int) -> list[int]:
    """Offsets of a cell's windows from its centre along one axis: whole pixels, symmetrical about 0.

    They are the centres of ``offsets`` equal parts of the cell, rounded away from its centre.

    Raises:
        InferenceError: more offsets than the cell has pixels, so that some would be equal.
    """
    if offsets > stride_px:
        raise InferenceError(
            f"export.offsets is {offsets}, but a cell has {stride_px} x {stride_px} px: choose at most {stride_px}"
        )
    # twice as large, so that halves are whole: (2 i + 1 - n) / (2 n) of a cell from its centre
    parts = [(2 * i + 1 - offsets) * stride_px for i in range(offsets)]
    return [(1 if part > 0 else -1) * ((abs(part) + offsets) // (2 * offsets)) for part in parts]


def predict_scene(
    raster: Raster, classifiers: Sequence[WindowClassifier], settings: ExportSettings
) -> Iterator[MapStrip]:
    """The probabilities of a normalized scene by every model, part by part: of its pixels or of cells.

    Raises:
        InferenceError: see `check_cells`, `predict_pixels` and `predict_windows`.
    """
    check_cells(classifiers[0].card, settings.stride_px)
    if classifiers[0].card.model.of_pixels:
        from landfold.maps.pixels import predict_pixels  # torch, which mapping mapped scenes again does not need

        return predict_pixels(raster, classifiers, flips_and_rotations=settings.flips_and_rotations)
    return predict_windows(
        raster,
        classifiers,
        settings.stride_px,
        offsets=settings.offsets,
        flips_and_rotations=settings.flips_and_rotations,
    )


def predict_windows(
    raster: Raster,
    models: Sequence[WindowClassifier],
    stride_px: int,
    *,
    offsets: int = 1,
    flips_and_rotations: bool = False,
) -> Iterator[MapStrip]:
    """Predict a normalized scene with every model, a few rows of cells at a time.

    Args:
        raster: the normalized scene.
        models: of the same classes and size of windows.
        stride_px: side of a cell in pixels of the scene.
        offsets: windows of a cell along each axis; its probabilities are the mean over all of them.
        flips_and_rotations: whether to average over the eight flips and rotations (D4) of each window.

    Raises:
        InferenceError: the scene's channels are not those that a model was trained on, models differ, or
            windows cannot be centred on cells.
    """
    check_models(raster, models)
    size_px = models[0].card.size_px
    check_stride(size_px, stride_px)
    layout = _Layout(size_px, stride_px, shifts_px(stride_px, offsets))
    for cells in _parts(map_grid(raster.grid, stride_px), stride_px):
        yield _predict_part(raster, models, layout, cells, flips_and_rotations)


@dataclass(frozen=True)
class _Layout:
    """How windows lie about cells, in pixels of the scene."""

    size: int
    stride: int
    shifts: list[int]

    @property
    def halo(self) -> int:
        """How far the outermost windows reach beyond their cells."""
        return (self.size - self.stride) // 2 + max(self.shifts)

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """Row and column of the first cell's windows (upper left corners) in a part that is read with its halo."""
        return [(max(self.shifts) + y, max(self.shifts) + x) for y, x in product(self.shifts, self.shifts)]


def _parts(grid: Grid, stride_px: int) -> Iterator[Window]:
    """The parts of a map that are predicted at once."""
    rows = max(1, min(STRIP_CELLS, STRIP_PX // stride_px))
    columns = BATCH * max(1, WIDE_PX // stride_px // BATCH)
    for row, column in product(range(0, grid.height, rows), range(0, grid.width, columns)):
        yield Window(column, row, min(columns, grid.width - column), min(rows, grid.height - row))


def _predict_part(
    raster: Raster, models: Sequence[WindowClassifier], layout: _Layout, cells: Window, flips_and_rotations: bool
) -> MapStrip:
    rows, columns, stride, halo = cells.height, cells.width, layout.stride, layout.halo
    top, left = cells.row_off * stride - halo, cells.col_off * stride - halo
    height, width = rows * stride + 2 * halo, columns * stride + 2 * halo
    values, data = _padded(raster, top, top + height, left, left + width)
    total, missing = np.float32(0), np.zeros((rows, columns))
    for y, x in layout.offsets:
        # row by row: all windows of a strip at once would be its pixels (size / stride)^2 times
        windows = _windows(values[:, y:, x:], layout.size, stride)[:rows, :columns]
        total = total + np.stack(
            [[_probabilities(model, row, flips_and_rotations) for row in windows] for model in models]
        )
        missing += 1 - _windows(data[None, y:, x:], layout.size, stride)[:rows, :columns].mean(axis=(2, 3, 4))
    own = data[halo : halo + rows * stride, halo : halo + columns * stride]
    valid = own.reshape(rows, stride, columns, stride).mean(axis=(1, 3))
    count = len(layout.offsets)
    return MapStrip(cells, total / np.float32(count), valid, (missing / count).astype(np.float32))


def check_models(raster: Raster, models: Sequence[WindowClassifier]) -> None:
    """Refuse models that do not fit the scene or each other.

    Raises:
        InferenceError: the scene's channels are not those that a model was trained on, or models differ in classes or
            windows.
    """
    card = models[0].card
    for other in (model.card for model in models):
        if list(raster.names) != other.channels:
            raise InferenceError(
                f"{raster.dataset.name}: channels {', '.join(raster.names)}; "
                f"the model of fold {other.fold} expects {', '.join(other.channels)}"
            )
        if (other.classes, other.size_px, other.core_px) != (card.classes, card.size_px, card.core_px):
            raise InferenceError(
                f"the models of folds {card.fold} and {other.fold} differ in classes or size_px; run dvc repro"
            )


def _probabilities(model: WindowClassifier, windows: np.ndarray, flips_and_rotations: bool) -> np.ndarray:
    """(n, class) of windows (n, channel, size, size), or the mean over their eight flips and rotations."""
    if not flips_and_rotations:
        return model.probabilities(windows)
    sides = (windows, windows[..., ::-1])
    shown = [np.rot90(side, turn, axes=(2, 3)) for side in sides for turn in range(4)]
    return np.mean([model.probabilities(view) for view in shown], axis=0)


def _padded(raster: Raster, top: int, bottom: int, left: int, right: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels [top, bottom) x [left, right), reflected at the scene's edges, and where there is data (False outside)."""
    rows, columns = _reflected(top, bottom, raster.grid.height), _reflected(left, right, raster.grid.width)
    top_row, left_column = int(rows.min()), int(columns.min())
    window = Window(left_column, top_row, int(columns.max()) - left_column + 1, int(rows.max()) - top_row + 1)
    at = np.ix_(rows - top_row, columns - left_column)
    y, x = np.arange(top, bottom)[:, None], np.arange(left, right)
    inside = (y >= 0) & (y < raster.grid.height) & (x >= 0) & (x < raster.grid.width)
    return raster.read_raw(window)[:, at[0], at[1]], raster.read_mask(window)[at] & inside


def _reflected(first: int, last: int, size: int) -> np.ndarray:
    """Which of ``size`` pixels lie at the positions [first, last): mirrored about the outermost, as often as needed."""
    period = max(1, 2 * (size - 1))
    position = np.arange(first, last) % period
    return np.where(position < size, position, period - position)


def _windows(values: np.ndarray, size: int, stride: int) -> np.ndarray:
    """Overlapping windows of (channel, y, x): (row, column, channel, size, size), a view where possible."""
    views = np.lib.stride_tricks.sliding_window_view(values, (size, size), axis=(1, 2))
    return np.moveaxis(views[:, ::stride, ::stride], 0, 2)
