"""How much a score depends on the draw: on which zones make up a fold, and on how patches are dealt at random.

One partition is no result: other folds of the same zones give another score. A model that is cheap to train, logistic
regression, is scored under several partitions of the zones and several random deals; their standard deviations are
added to the intervals of the scores under spatial and under random folds.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from landfold.folds.split import random_assignment
from landfold.pixels.folds import FoldPixels
from landfold.pixels.rows import PixelRows, collect, draw, trainable, usable_pixels
from landfold.scores.metrics import HEADLINE, confusions, rounded

DRAWS = 6
"""Partitions, and deals: the standard deviation of six is known within about a third of itself."""

PIXELS = 8000
"""Labelled pixels that the spread is measured on."""

BOXES_PX = (3, 7)
"""Sides of the boxes of their features."""

Spread = dict[str, dict[str, float]]
"""``partitions`` and ``deals``: standard deviation of each headline score, rounded to 4 digits."""


def spread(features: np.ndarray, labels: np.ndarray, zones: np.ndarray, *, k: int, seed: int) -> Spread:
    """The standard deviations of the scores over partitions of the zones and over random deals.

    Args:
        features: (row, feature).
        labels: (row,) classes.
        zones: (row,) names of zones.
        k: number of folds.
        seed: of the partitions and deals.
    """
    numbers = np.unique(labels.astype(str), return_inverse=True)[1]
    return {
        "partitions": _deviations(features, numbers, zones.astype(str), k, seed),
        "deals": _deviations(features, numbers, None, k, seed),
    }


def _deviations(
    features: np.ndarray, labels: np.ndarray, zones: np.ndarray | None, k: int, seed: int
) -> dict[str, float]:
    found = []
    for draw_number in range(DRAWS):
        predicted = np.zeros_like(labels)
        for train, test in _folds(labels, zones, k, seed + draw_number):
            model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, tol=1e-3, max_iter=200))
            predicted[test] = model.fit(features[train], labels[train]).predict(features[test])
        counts = confusions(labels, predicted, np.zeros(len(labels)), labels.max() + 1)[0]
        found.append([float(score(counts)) for score in HEADLINE.values()])
    return dict(zip(HEADLINE, map(rounded, np.std(found, axis=0, ddof=1)), strict=True))


def _folds(labels: np.ndarray, zones: np.ndarray | None, k: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    if zones is None:
        folds = random_assignment(labels, np.zeros(len(labels), dtype=bool), k, seed=(seed,))
        splits = [(np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)) for fold in range(k)]
    else:  # StratifiedGroupKFold gives much the same folds for any seed
        splits = GroupKFold(k, shuffle=True, random_state=seed).split(labels, labels, zones)
    return (split for split in splits if len(split[1]) and len(set(labels[split[0]].tolist())) > 1)


def sample_of_pixels(pixels: FoldPixels, *, seed: int) -> PixelRows:
    """Labelled pixels of all zones but none of the test region, drawn at random; ``pixels`` are those of any fold."""
    none = pixels.ground.footprints[:0]
    ground = replace(pixels.ground, zones=frozenset(), footprints=none, buffer_m=0.0)
    masks = draw(usable_pixels(pixels.scenes, trainable(ground)), PIXELS, seed=(seed,))
    return collect(pixels.scenes, masks, ground, BOXES_PX)
