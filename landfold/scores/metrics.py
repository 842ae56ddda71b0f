"""Scores of confusion matrices: (..., class, class), truth along the rows and prediction along the columns.

One formula serves the pooled patches, each fold and all zones but one at once.

Rules for classes that are absent from a pool or a fold: balanced accuracy and macro F1 are means over the classes that
occur in its truth, as in scikit-learn's ``balanced_accuracy_score``; a class that is predicted but does not occur
lowers the precision of the others and is not averaged in. The precision of a class that is never predicted is 0, and so
is the recall of one that never occurs (``zero_division=0`` in scikit-learn).
"""

from collections.abc import Callable
from typing import Any

import numpy as np

KAPPA_CAVEAT = (
    "Kappa sets accuracy against a random map that nobody would make, and adds nothing to accuracy, quantity and "
    "allocation disagreement (Pontius and Millones 2011, doi:10.1080/01431161.2011.552923; Foody 2020, "
    "doi:10.1016/j.rse.2019.111630). It depends on how common the classes are, so that kappas of two regions must not "
    "be compared; it is given because some readers ask for it."
)


def confusions(truth: np.ndarray, predicted: np.ndarray, groups: np.ndarray, classes: int) -> np.ndarray:
    """Counts for each distinct value of ``groups``, sorted: (group, class, class) int64.

    ``truth`` and ``predicted`` are the numbers of classes, one a patch, as is ``groups``.
    """
    _, group = np.unique(groups, return_inverse=True)
    counts = np.zeros((group.max() + 1, classes, classes), dtype=np.int64)
    np.add.at(counts, (group, truth, predicted), 1)
    return counts


def accuracy(confusion: np.ndarray) -> np.ndarray:
    """Share of patches that are classified correctly: (..., class, class) -> (...)."""
    return ratio(np.trace(confusion, axis1=-2, axis2=-1), confusion.sum(axis=(-2, -1)))


def balanced_accuracy(confusion: np.ndarray) -> np.ndarray:
    """Mean recall of the classes that occur in the truth: (..., class, class) -> (...)."""
    return _mean_over_present(recall(confusion), confusion)


def macro_f1(confusion: np.ndarray) -> np.ndarray:
    """Mean F1 of the classes that occur in the truth: (..., class, class) -> (...)."""
    return _mean_over_present(f1(confusion), confusion)


def weighted_f1(confusion: np.ndarray) -> np.ndarray:
    """Mean F1 of the classes, weighted by their support: (..., class, class) -> (...)."""
    return ratio((f1(confusion) * support(confusion)).sum(axis=-1), confusion.sum(axis=(-2, -1)))


def precision(confusion: np.ndarray) -> np.ndarray:
    """Correct share of what is predicted as a class (user's accuracy): (..., class, class) -> (..., class)."""
    return ratio(_correct(confusion), predicted(confusion))


def recall(confusion: np.ndarray) -> np.ndarray:
    """Share of a class that is predicted as such (producer's accuracy): (..., class, class) -> (..., class)."""
    return ratio(_correct(confusion), support(confusion))


def f1(confusion: np.ndarray) -> np.ndarray:
    """Harmonic mean of precision and recall, by class: (..., class, class) -> (..., class)."""
    return ratio(2 * _correct(confusion), predicted(confusion) + support(confusion))


def support(confusion: np.ndarray) -> np.ndarray:
    """Number of patches of each true class: (..., class, class) -> (..., class)."""
    return confusion.sum(axis=-1)


def predicted(confusion: np.ndarray) -> np.ndarray:
    """Number of patches of each predicted class: (..., class, class) -> (..., class)."""
    return confusion.sum(axis=-2)


def quantity_disagreement(confusion: np.ndarray) -> np.ndarray:
    """Share of patches wrong because classes are predicted too often or too rarely: (..., class, class) -> (...).

    Pontius and Millones (2011), https://doi.org/10.1080/01431161.2011.552923. Patches count alike: it is no share of
    the area of the classes on the ground.
    """
    difference = np.abs(predicted(confusion) - support(confusion)).sum(axis=-1)
    return ratio(difference / 2, confusion.sum(axis=(-2, -1)))


def allocation_disagreement(confusion: np.ndarray) -> np.ndarray:
    """Share of patches wrong because classes are in each other's places: (..., class, class) -> (...).

    With `quantity_disagreement`, of the same source, it adds up to 1 - accuracy.
    """
    swapped = np.minimum(predicted(confusion), support(confusion)) - _correct(confusion)
    return ratio(swapped.sum(axis=-1), confusion.sum(axis=(-2, -1)))


def kappa(confusion: np.ndarray) -> np.ndarray:
    """Cohen's kappa (1960, https://doi.org/10.1177/001316446002000104): (..., class, class) -> (...).

    NaN where chance alone is never wrong. Print `KAPPA_CAVEAT` beside it.
    """
    total = confusion.sum(axis=(-2, -1))
    chance = ratio((predicted(confusion) * support(confusion)).sum(axis=-1), total.astype(np.float64) ** 2)
    above_chance = accuracy(confusion) - chance
    return np.divide(above_chance, 1 - chance, out=np.full(np.shape(chance), np.nan), where=chance < 1)


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """``part / whole``, and 0 where ``whole`` is 0: the rule of the module's docstring."""
    return np.divide(part, whole, out=np.zeros(np.shape(whole)), where=np.asarray(whole) > 0)


def _correct(confusion: np.ndarray) -> np.ndarray:
    return np.diagonal(confusion, axis1=-2, axis2=-1)


def _mean_over_present(scores: np.ndarray, confusion: np.ndarray) -> np.ndarray:
    present = support(confusion) > 0
    return ratio((scores * present).sum(axis=-1), present.sum(axis=-1))


Score = Callable[[np.ndarray], np.ndarray]
"""A function of confusion matrices."""

HEADLINE: dict[str, Score] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
}
"""The scores that get an interval and a spread over folds."""


def rounded(value: Any) -> float:
    """To the 4 digits of the metrics' files."""
    return round(float(value), 4)
