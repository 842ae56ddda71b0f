"""The baseline of pixels: gradient boosting on the channels of each pixel and their means and deviations around it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas
from sklearn.ensemble import HistGradientBoostingClassifier

from landfold.pixels.folds import FoldPixels, predict_held_out
from landfold.pixels.rows import collect

BOXES_PX = (3, 7, 15)
"""Sides of the boxes around each pixel."""

BOOSTING: dict[str, Any] = {"max_iter": 60, "learning_rate": 0.15, "max_features": 0.3, "early_stopping": False}
"""Half the time of scikit-learn's defaults for .003 of accuracy less, on inner folds of the default data."""


@dataclass(frozen=True)
class PixelBaseline:
    """What the baseline says of what the folds hold out.

    Attributes:
        patches: ``patch``, ``fold`` and ``predicted`` (the class with the highest mean probability over the core) of
            the validation patches of every fold.
        pixels: counts of the labelled pixels of every fold, see `landfold.pixels.counts.PixelCounts`, with ``fold``.
    """

    patches: pandas.DataFrame
    pixels: pandas.DataFrame


def pixel_baseline(folds: Sequence[FoldPixels], classes: list[str], *, pixels: int, seed: int) -> PixelBaseline:
    """Train on at most so many labelled pixels of each fold, and predict what it holds out.

    Args:
        folds: the labelled pixels of every fold, by number.
        classes: their names.
        pixels: most training pixels of a fold, drawn at random.
        seed: of the draws and the classifier.
    """
    parts = list(_folds(folds, classes, pixels, seed))
    patches, counts = zip(*parts, strict=True)
    return PixelBaseline(pandas.concat(patches, ignore_index=True), pandas.concat(counts, ignore_index=True))


def _folds(
    folds: Sequence[FoldPixels], classes: list[str], pixels: int, seed: int
) -> Iterator[tuple[pandas.DataFrame, pandas.DataFrame]]:
    from landfold.pixels.surroundings import margin_px, pixel_features  # torch takes seconds to import

    for number, fold in enumerate(folds):
        masks = fold.training_masks(pixels, fold.ground, seed=(seed, number))
        rows = collect(fold.scenes, masks, fold.ground, BOXES_PX)
        model = HistGradientBoostingClassifier(random_state=seed, **BOOSTING).fit(rows.features, rows.labels)

        def predict(values: np.ndarray, chosen: np.ndarray, model: Any = model) -> np.ndarray:
            probabilities = np.zeros((int(chosen.sum()), len(classes)), dtype=np.float32)
            probabilities[:, model.classes_] = model.predict_proba(pixel_features(values, BOXES_PX, chosen))
            return probabilities

        means, counts = predict_held_out(fold, classes, predict, margin_px=margin_px(BOXES_PX))
        held_out = fold.held_out_patches
        best = np.array(classes, dtype=object)[means.argmax(axis=1)]
        table = pandas.DataFrame({"patch": held_out["patch"].to_numpy(), "fold": number, "predicted": best})
        yield table[(held_out["side"] == "validation").to_numpy()], counts.assign(fold=number)
