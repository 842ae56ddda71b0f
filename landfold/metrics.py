"""Scores of the out-of-fold predictions: every patch is judged by the fold that never saw its zone.

All scores are computed from confusion matrices, (..., class, class) with truth along the rows and
prediction along the columns, so that one formula serves the pool, each fold and thousands of
bootstrap resamples at once.

Rules for classes that are absent from a pool, a fold or a resample: balanced accuracy and macro F1
are means over the classes that occur in its truth, as scikit-learn's ``balanced_accuracy_score``
does; a class that is predicted there but does not occur lowers the others' precision and is not
averaged in. The precision of a class that is never predicted is 0, and so is the recall of one that
never occurs (``zero_division=0`` in scikit-learn).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas
from pydantic import Field

from landfold.settings import Settings

INTERVAL = (0.025, 0.975)
"""Quantiles of the resamples that bound a 95 % interval."""

_BATCH = 256
"""Resamples at a time: 10,000 zones then take 20 MB. The result does not depend on it."""


class EvaluateSettings(Settings):
    """Section ``evaluate`` of params.yaml."""

    bootstrap: int = Field(ge=1)
    """number of resamples of the zones behind each 95 % interval"""
    seed: int = Field(ge=0)
    """seed of the resamples"""


def confusions(truth: np.ndarray, predicted: np.ndarray, groups: np.ndarray, classes: int) -> np.ndarray:
    """Counts for each distinct value of ``groups``, sorted: (group, class, class) int64.

    ``truth`` and ``predicted`` are the numbers of classes, one a patch, as is ``groups``.
    """
    _, group = np.unique(groups, return_inverse=True)
    counts = np.zeros((group.max() + 1, classes, classes), dtype=np.int64)
    np.add.at(counts, (group, truth, predicted), 1)
    return counts


def accuracy(confusion: np.ndarray) -> np.ndarray:
    """Share of patches whose class is right: (..., class, class) -> (...)."""
    return _ratio(np.trace(confusion, axis1=-2, axis2=-1), confusion.sum(axis=(-2, -1)))


def balanced_accuracy(confusion: np.ndarray) -> np.ndarray:
    """Mean recall of the classes that occur in the truth: (..., class, class) -> (...)."""
    return _over_present(recall(confusion), confusion)


def macro_f1(confusion: np.ndarray) -> np.ndarray:
    """Mean F1 of the classes that occur in the truth: (..., class, class) -> (...)."""
    return _over_present(f1(confusion), confusion)


def weighted_f1(confusion: np.ndarray) -> np.ndarray:
    """Mean F1 of the classes, weighted by their support: (..., class, class) -> (...)."""
    return _ratio((f1(confusion) * support(confusion)).sum(axis=-1), confusion.sum(axis=(-2, -1)))


def precision(confusion: np.ndarray) -> np.ndarray:
    """Of what is called a class, the share that is it (user's accuracy): (..., class, class) -> (..., class)."""
    return _ratio(_hits(confusion), confusion.sum(axis=-2))


def recall(confusion: np.ndarray) -> np.ndarray:
    """Of what is a class, the share called it (producer's accuracy): (..., class, class) -> (..., class)."""
    return _ratio(_hits(confusion), support(confusion))


def f1(confusion: np.ndarray) -> np.ndarray:
    """Harmonic mean of precision and recall, by class: (..., class, class) -> (..., class)."""
    return _ratio(2 * _hits(confusion), confusion.sum(axis=-2) + support(confusion))


def support(confusion: np.ndarray) -> np.ndarray:
    """Number of patches that are of a class: (..., class, class) -> (..., class)."""
    return confusion.sum(axis=-1)


def _hits(confusion: np.ndarray) -> np.ndarray:
    return np.diagonal(confusion, axis1=-2, axis2=-1)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """``part / whole``, and 0 where ``whole`` is 0: the rule of the module's docstring."""
    return np.divide(part, whole, out=np.zeros(np.shape(whole)), where=np.asarray(whole) > 0)


def _over_present(scores: np.ndarray, confusion: np.ndarray) -> np.ndarray:
    present = support(confusion) > 0
    return _ratio((scores * present).sum(axis=-1), present.sum(axis=-1))


HEADLINE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
}
"""The scores that get an interval and a spread over folds."""


def zone_bootstrap(confusions: np.ndarray, settings: EvaluateSettings) -> dict[str, tuple[float, float]]:
    """95 % percentile interval (low, high) of each headline score, from resampled zones.

    ``confusions`` is (zone, class, class), or (zone, repeat, class, class): a score is then the mean over
    repeats. As many zones as there are get drawn with replacement,
    whole, since patches of one zone resemble each other: resampling patches would give intervals
    that are far too narrow. The interval speaks of other zones of this kind, with the models as
    they are; it does not retrain. With one zone it is the score itself.
    """
    samples = _resampled(confusions, settings)
    return {name: _interval(scores.reshape(len(scores), -1).mean(axis=1)) for name, scores in samples.items()}


def compare(first: np.ndarray, second: np.ndarray, settings: EvaluateSettings) -> tuple[dict[str, Any], ...]:
    """Headline scores of two predictions of the same patches, and what the second has over the first.

    Both are (zone, repeat, class, class): counted by the same zones in the same repeats. A score is the mean
    over repeats.

    Returns:
        For the first, the second, and second less first: ``pooled``, ``low`` and ``high`` of every score,
        rounded to 4 digits. The interval of the difference is a paired one: every resample of the zones is scored
        under both.
    """
    both = np.stack([first, second], axis=1)
    samples = _resampled(both, settings)
    found: tuple[dict[str, Any], ...] = ({}, {}, {})
    for name, score in HEADLINE.items():
        (a, b), resampled = score(both.sum(axis=0)).mean(axis=-1), samples[name].mean(axis=-1)
        pairs = ((a, resampled[:, 0]), (b, resampled[:, 1]), (b - a, resampled[:, 1] - resampled[:, 0]))
        for part, (value, spread) in zip(found, pairs, strict=True):
            values = map(rounded, (value, *_interval(spread)))
            part[name] = dict(zip(("pooled", "low", "high"), values, strict=True))
    return found


def compare_splits(zoned: np.ndarray, random: np.ndarray, settings: EvaluateSettings) -> dict[str, Any]:
    """`compare` for what one method scores under zoned and under random folds: keys zoned, random and gap."""
    return dict(zip(("zoned", "random", "gap"), compare(zoned, random, settings), strict=True))


def _resampled(confusions: np.ndarray, settings: EvaluateSettings) -> dict[str, np.ndarray]:
    """Every headline score of every resample of the zones: (zone, ..., class, class) to (resample, ...)."""
    zones, counts = len(confusions), confusions.astype(np.float64)  # exact, and many times faster than integers
    generator = np.random.default_rng(settings.seed)
    found: dict[str, list[np.ndarray]] = {name: [] for name in HEADLINE}
    for start in range(0, settings.bootstrap, _BATCH):
        size = min(_BATCH, settings.bootstrap - start)
        times = generator.multinomial(zones, np.full(zones, 1 / zones), size=size)
        resampled = np.tensordot(times, counts, axes=1)
        for name, score in HEADLINE.items():
            found[name].append(score(resampled))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _interval(scores: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(scores, INTERVAL)
    return float(low), float(high)


def confusion_table(confusion: np.ndarray, classes: list[str]) -> pandas.DataFrame:
    """One row for each pair of classes: actual, predicted, count, and count's share of the actual class."""
    share = _ratio(confusion, np.broadcast_to(support(confusion)[:, None], confusion.shape))
    return pandas.DataFrame(
        {
            "actual": np.repeat(classes, len(classes)),
            "predicted": np.tile(classes, len(classes)),
            "count": confusion.ravel(),
            "share": share.ravel().round(4),
        }
    )


def class_table(confusion: np.ndarray, classes: list[str]) -> pandas.DataFrame:
    """Precision, recall and F1 of each class in long form: class, support, score, value."""
    parts = [
        pandas.DataFrame(
            {
                "class": classes,
                "support": support(confusion),
                "score": score.__name__,
                "value": score(confusion).round(4),
            }
        )
        for score in (precision, recall, f1)
    ]
    return pandas.concat(parts, ignore_index=True)


def rounded(value: Any) -> float:
    """To the 4 digits of the metrics' files."""
    return round(float(value), 4)
