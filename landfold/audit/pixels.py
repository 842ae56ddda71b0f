"""The baseline of pixels: the best of a few classical models on what the network of surroundings sees of a pixel."""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np
import pandas
from joblib import cpu_count
from threadpoolctl import threadpool_limits

from landfold.classical.selection import fit_best
from landfold.pixels.folds import FoldPixels, count, predict_held_out
from landfold.pixels.rows import collect, trainable, usable_pixels
from landfold.scores.metrics import rounded

BOXES_PX = (3, 7, 15)
"""Sides of the boxes around each pixel."""

WORTH_PROCESSES = 5000
"""Labelled pixels from which on a process of its own for each fold takes less time than it costs to start."""


@dataclass(frozen=True)
class PixelBaseline:
    """What the baseline says of what the folds hold out.

    Attributes:
        patches: ``patch``, ``fold`` and ``predicted`` (the class with the highest mean probability over the core) of
            the validation patches of every fold.
        pixels: counts of the labelled pixels of every fold, see `landfold.pixels.counts.PixelCounts`, with ``fold``.
        candidates: ``fold``, ``model``, its ``score`` on inner zones, and which was ``chosen``.
    """

    patches: pandas.DataFrame
    pixels: pandas.DataFrame
    candidates: pandas.DataFrame

    def summary(self) -> dict[str, Any]:
        """The number of folds that chose each model, and the mean score of each on inner zones, by name."""
        by_model = self.candidates.groupby("model")
        return {
            "chosen": {name: int(number) for name, number in by_model["chosen"].sum().items()},
            "inner_score": {
                name: None if np.isnan(mean) else rounded(mean) for name, mean in by_model["score"].mean().items()
            },
        }


def pixel_baseline(folds: Sequence[FoldPixels], classes: list[str], *, pixels: int, seed: int) -> PixelBaseline:
    """Train on at most so many labelled pixels of each fold, and predict what it holds out.

    Args:
        folds: the labelled pixels of every fold, by number.
        classes: their names.
        pixels: most training pixels of a fold, drawn at random.
        seed: of the draws and the classifier.
    """
    fit = partial(_of_fold, classes=classes, pixels=pixels, seed=seed)
    workers = min(len(folds), cpu_count())
    if workers > 1 and count(usable_pixels(folds[0].scenes, trainable(folds[0].ground))) >= WORTH_PROCESSES:
        with ProcessPoolExecutor(workers, get_context("spawn"), initializer=threadpool_limits, initargs=(1,)) as pool:
            parts = list(pool.map(fit, range(len(folds)), folds))
    else:
        parts = list(map(fit, range(len(folds)), folds))
    patches, counts, candidates = (pandas.concat(tables, ignore_index=True) for tables in zip(*parts, strict=True))
    return PixelBaseline(patches, counts, candidates)


def _of_fold(
    number: int, fold: FoldPixels, *, classes: list[str], pixels: int, seed: int
) -> tuple[pandas.DataFrame, pandas.DataFrame, pandas.DataFrame]:
    from landfold.pixels.surroundings import margin_px, pixel_features  # torch takes seconds to import

    masks = fold.training_masks(pixels, fold.ground, seed=(seed, number))
    rows = collect(fold.scenes, masks, fold.ground, BOXES_PX)
    chosen = fit_best(rows.features, rows.labels, rows.zones, seed=seed)

    def predict(values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        probabilities = np.zeros((int(wanted.sum()), len(classes)), dtype=np.float32)
        features = pixel_features(values, BOXES_PX, wanted)
        probabilities[:, chosen.model.classes_] = chosen.model.predict_proba(features)
        return probabilities

    means, counts = predict_held_out(fold, classes, predict, margin_px=margin_px(BOXES_PX))
    held_out = fold.held_out_patches
    best = np.array(classes, dtype=object)[means.argmax(axis=1)]
    table = pandas.DataFrame({"patch": held_out["patch"].to_numpy(), "fold": number, "predicted": best})
    table = table[(held_out["side"] == "validation").to_numpy()]
    return table, counts.assign(fold=number), chosen.table().assign(fold=number)
