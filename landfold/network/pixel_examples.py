"""Labelled pixels as the examples of a fold: networks that give each pixel a class."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas

from landfold.network.card import ModelCard
from landfold.network.dataset import ArrayExamples
from landfold.network.errors import TrainingError
from landfold.network.fold import FoldExamples, HeldOutPredictions, predictions_table
from landfold.network.model import Classifier, pixel_probabilities, row_probabilities
from landfold.network.settings import TrainSettings
from landfold.network.surroundings import SurroundingsNetwork
from landfold.network.training import FoldData
from landfold.pixels.counts import PatchMeans, PixelCounts, is_boundary
from landfold.pixels.ground import HeldOutGround
from landfold.pixels.rows import (
    STRIP_PX,
    LabelledScenes,
    PixelRows,
    PixelStrip,
    collect,
    draw,
    trainable,
    usable_pixels,
)

CURVE_PIXELS = 16_384
"""Held-out pixels, drawn at random, of which the loss and accuracy after each epoch are reported."""

RANDOM_SHARE = 0.1
"""Share of the training pixels that a random fold sets aside to show what a random split of pixels would score."""


@dataclass(frozen=True)
class FoldPixels:
    """The labelled pixels that a fold trains on and holds out.

    Attributes:
        scenes: all scenes.
        table: patches with ``side``, ``zone``, ``label`` and ``geometry``, as
            `landfold.network.dataset.read_fold` returns them.
        ground: what the training must not see.
        core_px: side of the cores of the patches.
        spatial: the ground of the spatial fold of the same number, for a random one that trains on as many pixels;
            None for the spatial fold itself.
    """

    scenes: LabelledScenes
    table: pandas.DataFrame
    ground: HeldOutGround
    core_px: int
    spatial: HeldOutGround | None = None

    @property
    def is_random(self) -> bool:
        """Whether it is a random fold."""
        return self.spatial is not None

    def training_masks(self, settings: TrainSettings, fold: int, ground: HeldOutGround) -> list[np.ndarray]:
        """Which pixels to learn from, at most ``train.max_pixels``, a random fold as many as the spatial one."""
        most = settings.max_pixels
        if self.spatial is not None:
            most = min(most, count(usable_pixels(self.scenes, trainable(self.spatial))))
        return draw(usable_pixels(self.scenes, trainable(ground)), most, seed=(settings.seed, fold))


def no_pixels(fold: int) -> TrainingError:
    """The refusal of a fold without a pixel to learn from."""
    return TrainingError(
        f"fold {fold}: no labelled pixel is left to learn from: all lie in held-out ground or its buffer; lower "
        "zones.buffer_m or raise zones.block_size_m"
    )


def count(masks: Sequence[np.ndarray]) -> int:
    """Number of pixels in packed masks."""
    return sum(int(np.bitwise_count(mask).sum()) for mask in masks)


class SurroundingsExamples(FoldExamples):
    """Labelled pixels with their surroundings, for a network of kind surroundings."""

    what = "pixel"

    def __init__(self, pixels: FoldPixels, card: ModelCard, settings: TrainSettings) -> None:
        """Collect the pixels of a fold.

        Raises:
            TrainingError: no pixel to learn from.
        """
        self._pixels, self._card = pixels, card
        boxes, ground = card.model.boxes_px, pixels.ground
        zones = inner_zones(pixels.table, settings, card.fold) if settings.early_stopping is not None else []
        learning = ground.with_zones(zones)
        rows = collect(pixels.scenes, pixels.training_masks(settings, card.fold, learning), learning, boxes)
        if not len(rows):
            raise no_pixels(card.fold)
        self._aside = rows.part(np.zeros(0, dtype=np.int64))
        if pixels.is_random:
            chosen = np.random.default_rng((settings.seed, card.fold)).random(len(rows)) < RANDOM_SHARE
            self._aside, rows = rows.part(chosen), rows.part(~chosen)
        held_out = self._sample(lambda strip: ground.scored(strip.grid), settings, ground.nothing)
        inner = None
        if zones:
            chosen = replace(ground.nothing, zones=frozenset(zones))
            inner = self._sample(
                lambda strip: chosen.in_zones(strip.grid) & ~ground.blocked(strip.grid), settings, ground
            )
        self._rows = rows
        self.arrays = (rows.features, rows.labels, held_out.labels)
        self.data = FoldData(
            card.fold,
            len(card.classes),
            ArrayExamples(rows.features, rows.labels),
            ArrayExamples(held_out.features, held_out.labels),
            None if inner is None else ArrayExamples(inner.features, inner.labels),
        )

    def prepare(self, network: SurroundingsNetwork) -> None:
        """Give the network its bins."""
        network.learn_bins(self._rows.features)

    def predict(self, classifier: Classifier) -> HeldOutPredictions:
        """Predict the pixels of the held-out zones and patches, and those that were set aside."""
        return predict_held_out(classifier, self._pixels, self._aside)

    def _sample(
        self, chosen: Callable[[PixelStrip], np.ndarray], settings: TrainSettings, hidden: HeldOutGround
    ) -> PixelRows:
        """Some of the labelled pixels that are chosen."""
        scenes, boxes = self._pixels.scenes, self._card.model.boxes_px
        masks = draw(usable_pixels(scenes, chosen), CURVE_PIXELS, seed=(settings.seed, self._card.fold, 1))
        return collect(scenes, masks, hidden, boxes)


def inner_zones(table: pandas.DataFrame, settings: TrainSettings, fold: int) -> list[str]:
    """Names of the training zones that choose the epoch."""
    from landfold.network.inner import inner_split  # scikit-learn takes a second to import

    train = (table["side"] == "train").to_numpy()
    _, chosen = inner_split(table, train, parts=settings.inner_folds, seed=settings.seed + fold)
    return sorted(set(table["zone"][chosen]))


def predict_held_out(classifier: Classifier, pixels: FoldPixels, aside: PixelRows | None = None) -> HeldOutPredictions:
    """Predict the labelled pixels that a fold holds out, and the cores of its held-out patches.

    A patch has the mean of the probabilities of its core's pixels. Pixels are counted with ``split`` zones (those of
    the fold's zones), random patches (those of a random fold's patches) or random pixels (``aside``).
    """
    card, ground = classifier.card, pixels.ground
    patches = pixels.table[pixels.table["side"].isin(["validation", "test"])]
    core_px = pixels.core_px
    means, counts = PatchMeans(patches, core_px, len(card.classes)), PixelCounts(card.classes)
    for strip in pixels.scenes.strips(card.margin_px, rows=-(-STRIP_PX // card.core_px) * card.core_px):
        scored = strip.labelled & ground.scored(strip.grid)
        wanted = (means.wanted(strip.scene, strip.window) | scored) & strip.valid
        if not wanted.any():
            continue
        found = np.full((*wanted.shape, len(card.classes)), np.nan, dtype=np.float32)
        found[wanted] = pixel_probabilities([classifier], strip.values, wanted)[0]
        means.add(strip.scene, strip.window, found)
        boundary = is_boundary(strip.labels)[scored]
        labels = strip.classes[scored].astype(np.int64) - 1
        counts.add(ground.zones_of(strip.grid)[scored], boundary, labels, found[scored])
    table = predictions_table(patches, means.means(), card.classes)
    validation = (patches["side"] == "validation").to_numpy()
    tables = [counts.table().assign(split="random patches" if pixels.is_random else "zones")]
    if aside is not None and len(aside):
        random = PixelCounts(card.classes)
        rows = row_probabilities(classifier, aside.features)
        random.add(aside.zones, np.zeros(len(aside), dtype=bool), aside.labels, rows)
        tables.append(random.table().assign(split="random pixels"))
    return HeldOutPredictions(
        table[validation].reset_index(drop=True), table[~validation].reset_index(drop=True), pandas.concat(tables)
    )
