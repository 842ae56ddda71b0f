"""Scores of the out-of-fold predictions: every patch is judged by the fold that never saw its zone.

All scores are computed from confusion matrices, (..., class, class) with truth along the rows and
prediction along the columns, so that one formula serves the pool, each fold and thousands of
bootstrap resamples at once.

Rules for classes that are absent from a pool, a fold or a resample: balanced accuracy and macro F1
are means over the classes that occur in its truth, as scikit-learn's ``balanced_accuracy_score``
does; a class that is predicted there but does not occur lowers the others' precision and is not
averaged in. The precision of a class that is never predicted is 0, and so is the recall of one that
never occurs (``zero_division=0`` in scikit-learn). An interval of one class is of the resamples in which
its score is defined: those in which it occurs or, for precision, is predicted.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas

from landfold.scores.settings import EvaluateSettings

INTERVAL = (0.025, 0.975)
"""Quantiles of the resamples that bound a 95 % interval."""

FEW_ZONES = 10
"""With fewer zones an interval is flagged: resampling few clusters gives intervals that are too narrow (Cameron et
al. 2008, https://doi.org/10.1162/rest.90.3.414)."""

KAPPA_CAVEAT = (
    "Kappa sets accuracy against a random map that nobody would make, and adds nothing to accuracy, quantity and "
    "allocation disagreement (Pontius and Millones 2011, doi:10.1080/01431161.2011.552923; Foody 2020, "
    "doi:10.1016/j.rse.2019.111630). It depends on how common the classes are, so that kappas of two regions must not "
    "be compared; it is given because some readers ask for it."
)

_BATCH = 256
"""Resamples at a time: 10,000 zones then take 20 MB. The result does not depend on it."""


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


def quantity_disagreement(confusion: np.ndarray) -> np.ndarray:
    """Share of patches wrong because classes are called too often or too rarely: (..., class, class) -> (...).

    Pontius and Millones (2011), https://doi.org/10.1080/01431161.2011.552923. Patches count alike: it speaks of the
    patches, not of the area of the classes on the ground.
    """
    too_many = np.abs(confusion.sum(axis=-2) - support(confusion)).sum(axis=-1)
    return _ratio(too_many / 2, confusion.sum(axis=(-2, -1)))


def allocation_disagreement(confusion: np.ndarray) -> np.ndarray:
    """Share of patches wrong because classes are in each other's places: (..., class, class) -> (...).

    With `quantity_disagreement` it adds up to 1 - accuracy.
    """
    wrong = np.minimum(confusion.sum(axis=-2), support(confusion)) - _hits(confusion)
    return _ratio(wrong.sum(axis=-1), confusion.sum(axis=(-2, -1)))


def kappa(confusion: np.ndarray) -> np.ndarray:
    """Cohen's kappa; mind `KAPPA_CAVEAT`. NaN where chance alone is never wrong: (..., class, class) -> (...)."""
    total = confusion.sum(axis=(-2, -1))
    chance = _ratio((confusion.sum(axis=-2) * support(confusion)).sum(axis=-1), total.astype(np.float64) ** 2)
    over = accuracy(confusion) - chance
    return np.divide(over, 1 - chance, out=np.full(np.shape(chance), np.nan), where=chance < 1)


def _hits(confusion: np.ndarray) -> np.ndarray:
    return np.diagonal(confusion, axis1=-2, axis2=-1)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """``part / whole``, and 0 where ``whole`` is 0: the rule of the module's docstring."""
    return np.divide(part, whole, out=np.zeros(np.shape(whole)), where=np.asarray(whole) > 0)


def _over_present(scores: np.ndarray, confusion: np.ndarray) -> np.ndarray:
    present = support(confusion) > 0
    return _ratio((scores * present).sum(axis=-1), present.sum(axis=-1))


Score = Callable[[np.ndarray], np.ndarray]

HEADLINE: dict[str, Score] = {
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
    samples = _resampled(confusions, settings, HEADLINE)
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
    samples = _resampled(both, settings, HEADLINE)
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


def _resampled(
    confusions: np.ndarray, settings: EvaluateSettings, scores: Mapping[str, Score]
) -> dict[str, np.ndarray]:
    """Every score of every resample of the zones: (zone, ..., class, class) to (resample, ...)."""
    zones, counts = len(confusions), confusions.astype(np.float64)  # exact, and many times faster than integers
    generator = np.random.default_rng(settings.seed)
    found: dict[str, list[np.ndarray]] = {name: [] for name in scores}
    for start in range(0, settings.bootstrap, _BATCH):
        size = min(_BATCH, settings.bootstrap - start)
        times = generator.multinomial(zones, np.full(zones, 1 / zones), size=size)
        resampled = np.tensordot(times, counts, axes=1)
        for name, score in scores.items():
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


def class_table(confusions: np.ndarray, classes: list[str], settings: EvaluateSettings) -> pandas.DataFrame:
    """Precision, recall and F1 of each class in long form: class, support, score, value, low, high.

    ``confusions`` is (zone, repeat, class, class); a value is the mean over repeats, its support that of one repeat.
    ``low`` and ``high`` are the zone-bootstrap 95 % interval over the resamples that define the score, NaN where none
    does.
    """
    pooled = confusions.sum(axis=0)
    samples = _resampled(confusions, settings, _CLASS_SCORES)
    parts = [
        pandas.DataFrame(
            {
                "class": classes,
                "support": support(pooled)[0],
                "score": name,
                "value": np.nan_to_num(score(pooled)).mean(axis=0).round(4),
                **dict(zip(("low", "high"), _class_intervals(samples[name]).round(4), strict=True)),
            }
        )
        for name, score in _CLASS_SCORES.items()
    ]
    return pandas.concat(parts, ignore_index=True)


def _class_intervals(samples: np.ndarray) -> np.ndarray:
    """(resample, repeat, class), NaN where undefined -> (2, class): an undefined repeat of a defined resample is 0."""
    defined = ~np.isnan(samples).all(axis=1)
    scores = np.nan_to_num(samples).mean(axis=1)
    each = [_interval(scores[there, i]) if there.any() else (np.nan, np.nan) for i, there in enumerate(defined.T)]
    return np.array(each).T


def _where_defined(score: Score, whole: Score) -> Score:
    """NaN instead of 0 where there is nothing to score."""
    return lambda confusion: np.where(whole(confusion) > 0, score(confusion), np.nan)


_CLASS_SCORES: dict[str, Score] = {
    "precision": _where_defined(precision, lambda confusion: confusion.sum(axis=-2)),
    "recall": _where_defined(recall, support),
    "f1": _where_defined(f1, support),
}
"""A class's scores. F1 is defined where the class occurs, as in macro F1."""


def rounded(value: Any) -> float:
    """To the 4 digits of the metrics' files."""
    return round(float(value), 4)
