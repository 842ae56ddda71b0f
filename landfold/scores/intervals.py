"""95 % intervals of scores by resampling whole zones, and paired comparisons of two predictions of the same patches.

Patches of one zone resemble each other, so that resampling patches would give intervals that are far too narrow
(Roberts et al. 2017, https://doi.org/10.1111/ecog.02881). Zones are drawn with replacement, as many as there are; an
interval lies between two quantiles of the resamples' scores. It holds for other zones of this kind and for the models
as they are: nothing is trained again.
"""

from collections.abc import Mapping

import numpy as np

from landfold.scores.metrics import HEADLINE, Score, rounded
from landfold.scores.settings import Resampling

QUANTILES = (0.025, 0.975)
"""Of the resamples, the ends of a 95 % interval."""

FEW_ZONES = 10
"""With fewer zones an interval is flagged: resampling few clusters gives intervals that are too narrow (Cameron et
al. 2008, https://doi.org/10.1162/rest.90.3.414)."""

_BATCH = 256
"""Resamples at a time: 10,000 zones then take 20 MB. The result does not depend on it."""

ScoreWithInterval = dict[str, float]
"""``pooled``, ``low`` and ``high``, rounded to 4 digits."""


def zone_bootstrap(confusions: np.ndarray, settings: Resampling) -> dict[str, tuple[float, float]]:
    """95 % percentile interval (low, high) of each headline score; with one zone it is the score itself.

    ``confusions`` is (zone, class, class), or (zone, repeat, class, class): a score is then the mean over repeats.
    """
    samples = resampled_scores(confusions, settings, HEADLINE)
    return {name: interval(scores.reshape(len(scores), -1).mean(axis=1)) for name, scores in samples.items()}


def headline_scores(confusions: np.ndarray, settings: Resampling) -> dict[str, ScoreWithInterval]:
    """Every headline score of the pooled zones with its interval; ``confusions`` as in `zone_bootstrap`."""
    pooled, intervals = confusions.sum(axis=0), zone_bootstrap(confusions, settings)
    return {name: _with_interval(np.mean(score(pooled)), intervals[name]) for name, score in HEADLINE.items()}


def compare(
    first: np.ndarray, second: np.ndarray, settings: Resampling
) -> tuple[dict[str, ScoreWithInterval], dict[str, ScoreWithInterval], dict[str, ScoreWithInterval]]:
    """Headline scores of two predictions of the same patches, and the second's less the first's.

    The interval of the difference is a paired one: every resample of the zones is scored under both.

    Args:
        first: (zone, repeat, class, class) counts; a score is the mean over repeats.
        second: the same, of the same zones and repeats.
        settings: of the resamples.

    Returns:
        The scores of the first, of the second, and the differences.
    """
    both = np.stack([first, second], axis=1)
    samples = resampled_scores(both, settings, HEADLINE)
    results: tuple[dict[str, ScoreWithInterval], ...] = ({}, {}, {})
    for name, score in HEADLINE.items():
        (a, b), (a_samples, b_samples) = score(both.sum(axis=0)).mean(axis=-1), samples[name].mean(axis=-1).T
        pairs = ((a, a_samples), (b, b_samples), (b - a, b_samples - a_samples))
        for result, (value, spread) in zip(results, pairs, strict=True):
            result[name] = _with_interval(value, interval(spread))
    return results


def compare_splits(
    spatial: np.ndarray, random: np.ndarray, settings: Resampling
) -> dict[str, dict[str, ScoreWithInterval]]:
    """`compare` for one method under spatial and under random folds: keys zoned (spatial), random and gap."""
    return dict(zip(("zoned", "random", "gap"), compare(spatial, random, settings), strict=True))


def resampled_scores(
    confusions: np.ndarray, settings: Resampling, scores: Mapping[str, Score]
) -> dict[str, np.ndarray]:
    """Every score of every resample of the zones: (zone, ..., class, class) to (resample, ...)."""
    zones, counts = len(confusions), confusions.astype(np.float64)  # exact, and many times faster than integers
    generator = np.random.default_rng(settings.seed)
    samples: dict[str, list[np.ndarray]] = {name: [] for name in scores}
    for start in range(0, settings.bootstrap, _BATCH):
        size = min(_BATCH, settings.bootstrap - start)
        times = generator.multinomial(zones, np.full(zones, 1 / zones), size=size)
        resampled = np.tensordot(times, counts, axes=1)
        for name, score in scores.items():
            samples[name].append(score(resampled))
    return {name: np.concatenate(parts) for name, parts in samples.items()}


def interval(samples: np.ndarray) -> tuple[float, float]:
    """The ends of the 95 % percentile interval of (resample,) scores."""
    low, high = np.quantile(samples, QUANTILES)
    return float(low), float(high)


def _with_interval(value: float, ends: tuple[float, float]) -> ScoreWithInterval:
    return dict(zip(("pooled", "low", "high"), map(rounded, (value, *ends)), strict=True))
