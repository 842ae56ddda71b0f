"""Windows of pixels as the examples of a fold: networks of kind segmentation.

A fold learns from windows around its training pixels, each shifted at random by an epoch so that its pixel lies
anywhere in it. They are cut from copies of the scenes in which the ground that the fold must not see is blank.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np
import torch
from rasterio.windows import Window

from landfold.geo.grid import Grid
from landfold.network.card import ModelCard
from landfold.network.dataset import IGNORED, ArrayExamples, Examples, allocate
from landfold.network.fold import FoldExamples, HeldOutPredictions
from landfold.network.model import Classifier
from landfold.network.pixel_examples import inner_zones, no_pixels, predict_fold
from landfold.network.settings import TrainSettings
from landfold.network.training import FoldData
from landfold.pixels.folds import FoldPixels
from landfold.pixels.ground import HeldOutGround
from landfold.pixels.rows import LabelledScenes, PixelStrip, strip_windows, usable_pixels

CURVE_PIXELS = 2**17
"""Held-out pixels, in the cores of windows drawn at random, of which loss and accuracy after an epoch are reported."""

LEAST_CURVE_WINDOWS = 4
"""There are at least so many windows, however large they are."""


class WindowExamples(FoldExamples):
    """Windows around labelled pixels, for a network of kind segmentation."""

    what = "pixel"

    def __init__(
        self,
        pixels: FoldPixels,
        card: ModelCard,
        settings: TrainSettings,
        *,
        cache_gb: float = inf,
        scratch: Path | None = None,
    ) -> None:
        """Copy what a fold may see of the scenes.

        Args:
            pixels: of the fold.
            card: the network with ``size_px`` and ``core_px``, and the fold.
            settings: how to train.
            cache_gb: copies of more GB are memory-mapped from a temporary file.
            scratch: folder for that file.

        Raises:
            TrainingError: no pixel to learn from.
            DatasetError: memory runs out.
        """
        self._pixels, self._card, ground = pixels, card, pixels.ground
        zones = inner_zones(pixels.table, settings, card.fold) if settings.early_stopping is not None else []
        learning = ground.with_zones(zones)
        masks = pixels.training_masks(settings.max_pixels, learning, seed=(settings.seed, card.fold))
        train = _copy(pixels.scenes, masks, learning, card, cache_gb, scratch)
        if not len(train):
            raise no_pixels(card.fold)
        held_out = self._sample(lambda strip: ground.scored(strip.grid), settings, ground.nothing)
        inner = None
        if zones:
            chosen = replace(ground.nothing, zones=frozenset(zones))
            inner = self._sample(
                lambda strip: chosen.in_zones(strip.grid) & ~ground.blocked(strip.grid), settings, ground
            )
        self.arrays = (train.copy, train.places, train.targets, held_out.targets)
        self.data = FoldData(card.fold, len(card.classes), train, held_out, inner)

    def predict(self, classifier: Classifier) -> HeldOutPredictions:
        """Predict the pixels of the held-out zones and patches."""
        return predict_fold(classifier, self._pixels)

    def _sample(
        self, chosen: Callable[[PixelStrip], np.ndarray], settings: TrainSettings, hidden: HeldOutGround
    ) -> ArrayExamples:
        """Some windows as the map has them, with the classes of those chosen pixels that lie in their cores."""
        scenes, card = self._pixels.scenes, self._card
        most = max(LEAST_CURVE_WINDOWS, CURVE_PIXELS // card.core_px**2)
        cells = _cells(scenes, usable_pixels(scenes, chosen), card.core_px, most, seed=(settings.seed, card.fold, 1))
        shape = (sum(map(len, cells.values())), len(card.channels), card.size_px, card.size_px)
        values = np.zeros(shape, dtype=np.float32)
        classes = np.full((shape[0], *shape[2:]), IGNORED, dtype=np.int64)
        margin = card.margin_px
        for number, part in enumerate(scenes.parts(cells, margin)):
            height, width = part.valid.shape
            around = _with_margin(part.grid, margin)
            seen = np.where(hidden.blocked(around), 0, part.values)
            values[number, :, : seen.shape[1], : seen.shape[2]] = seen
            scored = part.labelled & chosen(part)
            core = classes[number, margin : margin + height, margin : margin + width]
            core[scored] = part.classes[scored].astype(np.int64) - 1
        return ArrayExamples(values, classes)


class ShiftedWindows(Examples):
    """Windows around pixels, cut from one array that holds all scenes; `views` draws their shifts."""

    def __init__(
        self,
        copy: np.ndarray,
        places: np.ndarray,
        targets: np.ndarray,
        *,
        starts: np.ndarray,
        widths: np.ndarray,
        size_px: int,
    ) -> None:
        """Take the array and the pixels in it.

        Args:
            copy: (pixel, channel + 1) float32, the scenes one after the other, row by row, each with a margin of
                ``size_px`` - 1 blank pixels on all sides; the last of a pixel is 0 or its class number + 1.
            places: (n,) int64, the pixels for which windows are cut.
            targets: (n,) int64, their class numbers.
            starts: (scene,) int64, the first pixel of each scene.
            widths: (scene,) int64, pixels of each scene's rows, with the margin.
            size_px: side of the windows.
        """
        self.copy, self.places, self.targets = copy, places, targets
        self._starts, self._widths, self._size = starts, widths, size_px

    def views(self, order: torch.Tensor, random: torch.Generator) -> torch.Tensor:
        """(n, 3) int64: the position, and the row and the column at which the pixel lies in its window."""
        return torch.cat([order[:, None], torch.randint(self._size, (len(order), 2), generator=random)], dim=1)

    def gather(self, part: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Windows (n, channel, size_px, size_px), channels last in memory, and classes (n, size_px, size_px)."""
        position, row, column = part.numpy().T
        size, places = self._size, self.places[position]
        widths = self._widths[np.searchsorted(self._starts, places, side="right") - 1]
        corners = places - row * widths - column
        cut = np.empty((len(part), size, size, self.copy.shape[1]), dtype=np.float32)
        for window, corner, width in zip(cut, corners.tolist(), widths.tolist(), strict=True):
            rows = self.copy[corner : corner + (size - 1) * width + size]
            strides = (width * rows.strides[0], *rows.strides)
            window[:] = np.lib.stride_tricks.as_strided(rows, window.shape, strides, writeable=False)
        classes = torch.from_numpy(cut[..., -1]).long() - 1
        values = torch.from_numpy(np.ascontiguousarray(cut[..., :-1])).permute(0, 3, 1, 2)
        return values, classes.masked_fill_(classes < 0, IGNORED)


def _copy(
    scenes: LabelledScenes,
    masks: Sequence[np.ndarray],
    hidden: HeldOutGround,
    card: ModelCard,
    cache_gb: float,
    scratch: Path | None,
) -> ShiftedWindows:
    """All scenes without what is hidden, and with the classes of the chosen pixels alone."""
    margin, grids = card.size_px - 1, scenes.grids()
    shapes = [(grid.height + 2 * margin, grid.width + 2 * margin) for grid in grids.values()]
    ends = np.cumsum([height * width for height, width in shapes])
    copy = allocate((int(ends[-1]), len(scenes.channels) + 1), cache_gb, scratch, what="scenes")
    if not isinstance(copy, np.memmap):
        copy[:] = 0  # a new file is
    starts = np.concatenate([[0], ends[:-1]])
    first = dict(zip(grids, starts.tolist(), strict=True))
    images = {
        name: copy[start : start + height * width].reshape(height, width, -1)
        for (name, start), (height, width) in zip(first.items(), shapes, strict=True)
    }
    places, targets = [], []
    for strip, chosen in zip(scenes.strips(), _masks(scenes, masks), strict=True):
        image, (top, height, width) = images[strip.scene], (int(strip.window.row_off) + margin, *strip.valid.shape)
        seen = strip.valid & ~hidden.blocked(strip.grid)
        window = image[top : top + height, margin : margin + width]
        window[..., :-1] = np.moveaxis(np.where(seen, strip.values, 0), 0, -1)
        window[..., -1] = np.where(chosen, strip.classes, 0)
        rows, columns = np.nonzero(chosen)
        places.append(first[strip.scene] + (rows + top) * image.shape[1] + columns + margin)
        targets.append(strip.classes[chosen].astype(np.int64) - 1)
    return ShiftedWindows(
        copy,
        np.concatenate(places),
        np.concatenate(targets),
        starts=starts,
        widths=np.array([width for _, width in shapes]),
        size_px=card.size_px,
    )


def _masks(scenes: LabelledScenes, masks: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """Packed masks of all strips as (y, x) bool."""
    shapes = [(int(w.height), int(w.width)) for grid in scenes.grids().values() for w in strip_windows(grid)]
    for (height, width), mask in zip(shapes, masks, strict=True):
        yield np.unpackbits(mask, count=height * width).astype(bool).reshape(height, width)


def _cells(
    scenes: LabelledScenes, masks: Sequence[np.ndarray], core_px: int, most: int, *, seed: Sequence[int]
) -> dict[str, list[Window]]:
    """The cores, as the map has them, that chosen pixels lie in, by scene; at most so many, drawn at random."""
    bits, grids = _masks(scenes, masks), scenes.grids()
    found: set[tuple[str, int, int]] = set()
    for name, grid in grids.items():
        for window in strip_windows(grid):
            rows, columns = np.nonzero(next(bits))
            cells = np.unique(np.stack([(rows + int(window.row_off)) // core_px, columns // core_px]), axis=1)
            found |= {(name, row, column) for row, column in cells.T.tolist()}
    cells, drawn = sorted(found), range(len(found))
    if len(cells) > most:
        drawn = sorted(np.random.default_rng(seed).choice(len(cells), most, replace=False).tolist())
    windows: dict[str, list[Window]] = {}
    for name, row, column in (cells[number] for number in drawn):
        top, left, grid = row * core_px, column * core_px, grids[name]
        window = Window(left, top, min(core_px, grid.width - left), min(core_px, grid.height - top))
        windows.setdefault(name, []).append(window)
    return windows


def _with_margin(grid: Grid, margin: int) -> Grid:
    return grid.part(Window(-margin, -margin, grid.width + 2 * margin, grid.height + 2 * margin))
