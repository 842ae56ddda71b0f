"""Labelled pixels as the examples of a fold: networks that give each pixel a class."""

from collections.abc import Callable
from dataclasses import replace

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
from landfold.pixels.counts import RANDOM_PIXELS, PixelCounts, PixelSample
from landfold.pixels.folds import FoldPixels, predict_held_out
from landfold.pixels.ground import HeldOutGround
from landfold.pixels.rows import PixelRows, PixelStrip, collect, draw, usable_pixels

CURVE_PIXELS = 16_384
"""Held-out pixels, drawn at random, of which the loss and accuracy after each epoch are reported."""

RANDOM_SHARE = 0.1
"""Share of its pixels that a random fold sets aside to show what a random split of pixels would score."""


def no_pixels(fold: int) -> TrainingError:
    """The refusal of a fold without a pixel to learn from."""
    return TrainingError(
        f"fold {fold}: no labelled pixel is left to learn from: all lie in held-out ground or its buffer; lower "
        "zones.buffer_m or raise zones.block_size_m"
    )


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
        masks = pixels.training_masks(
            settings.max_pixels, learning, seed=(settings.seed, card.fold), aside=RANDOM_SHARE
        )
        rows = collect(pixels.scenes, masks, learning, boxes)
        if not len(rows):
            raise no_pixels(card.fold)
        self._aside = rows.part(np.zeros(0, dtype=np.int64))
        if pixels.is_random:
            chosen = np.zeros(len(rows), dtype=bool)
            order = np.random.default_rng((settings.seed, card.fold)).permutation(len(rows))
            chosen[order[: round(RANDOM_SHARE * len(rows))]] = True
            self._aside, rows = rows.part(chosen), rows.part(~chosen)
        self.held_out = held_out = self._sample(lambda strip: ground.scored(strip.grid), settings, ground.nothing)
        inner = None
        if zones:
            chosen = replace(ground.nothing, zones=frozenset(zones))
            inner = self._sample(
                lambda strip: chosen.in_zones(strip.grid) & ~ground.blocked(strip.grid), settings, ground
            )
        self.rows = rows
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
        network.learn_bins(self.rows.features)

    def predict(self, classifier: Classifier) -> HeldOutPredictions:
        """Predict the pixels of the held-out zones and patches, and those that were set aside."""
        return predict_fold(classifier, self._pixels, self._aside)

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


def predict_fold(classifier: Classifier, pixels: FoldPixels, aside: PixelRows | None = None) -> HeldOutPredictions:
    """Predict the labelled pixels that a fold holds out, and its held-out patches.

    A patch has the mean of the probabilities of its core's pixels. ``aside`` are pixels that a random fold has set
    aside of those that it learned from: what a random split of pixels would score.
    """
    card = classifier.card
    sample = None if pixels.is_random else PixelSample(card.classes, seed=(card.train["seed"], card.fold))
    means, counts = predict_held_out(
        pixels,
        card.classes,
        lambda values, chosen: pixel_probabilities([classifier], values, chosen)[0],
        margin_px=card.margin_px,
        step_px=card.core_px,
        sample=sample,
    )
    table = predictions_table(pixels.held_out_patches, means, card.classes)
    validation = (pixels.held_out_patches["side"] == "validation").to_numpy()
    tables = [counts]
    if aside is not None and len(aside):
        random, inside = PixelCounts(card.classes), np.zeros(len(aside), dtype=bool)
        random.add(aside.zones, inside, aside.labels, row_probabilities(classifier, aside.features))
        tables.append(random.table().assign(split=RANDOM_PIXELS))
    return HeldOutPredictions(
        table[validation].reset_index(drop=True),
        table[~validation].reset_index(drop=True),
        pandas.concat(tables),
        sample and sample.table(),
    )
