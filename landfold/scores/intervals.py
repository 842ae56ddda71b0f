"""95 % intervals of scores over whole zones, and paired comparisons of two predictions of the same patches.

Patches of one zone resemble each other, so that an interval over patches would be far too narrow (Roberts et al. 2017,
https://doi.org/10.1111/ecog.02881). The zone is therefore the unit:

1. The standard error is that of the jackknife: each zone is left out once (CR3 in Cameron and Miller 2015,
   https://doi.org/10.3368/jhr.50.2.317, for the mean of a share).
2. A few large zones say less than many equal ones. The degrees of freedom of t are Satterthwaite's, estimated from what
   each zone contributes (Johnson and Rust 1992, https://doi.org/10.3102/10769986017002175).
3. The interval of a share is the exact one of Clopper and Pearson (1934, https://doi.org/10.1093/biomet/26.4.404) for
   the number of independent observations that would have this standard error (Korn and Graubard 1998, Survey
   Methodology 24, 193-201), so that it stays within 0 and 1. That of a difference is symmetric. Where all zones agree,
   as when all is right, the standard error says nothing: each zone then counts as one observation.

An interval lies around the pooled score, which is not corrected for bias: subtracting the jackknife's estimate of it
made no interval better. It holds for other zones of this kind, and for the models as they are: nothing is trained
again. How often it holds is measured by ``python -m benchmarks.coverage``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import hypot

import numpy as np
from scipy.special import betaincinv, ndtri, stdtrit  # many times faster than the same of scipy.stats

from landfold.scores.metrics import HEADLINE, Score, ratio, rounded

TAIL = 0.025
"""Outside of a 95 % interval on either side."""

FEW_ZONES = 10
"""With an effective number of zones below it intervals are flagged: the standard error is itself estimated from few
values (Cameron and Miller 2015, section VI)."""

_NORMAL = float(ndtri(1 - TAIL))

_AGREE = 1e-10
"""Scores without a zone that differ by less from that of all are equal but for rounding."""

ScoreWithInterval = dict[str, float]
"""``pooled``, ``low`` and ``high``, rounded to 4 digits."""


@dataclass(frozen=True)
class Draws:
    """Standard deviations of the headline scores, by name, that zones cannot show; `landfold.audit.spread` has them.

    Attributes:
        partitions: over ways to put the zones together into folds.
        deals: over random deals of the patches or pixels.
    """

    partitions: Mapping[str, float] = field(default_factory=dict)
    deals: Mapping[str, float] = field(default_factory=dict)

    @property
    def both(self) -> dict[str, float]:
        """Of the difference of a score under random and one under spatial folds."""
        return {name: hypot(deviation, self.deals.get(name, 0.0)) for name, deviation in self.partitions.items()}


NO_DRAWS = Draws()
"""Where the spread was not measured."""


def zone_sizes(confusions: np.ndarray) -> np.ndarray:
    """Patches or pixels of each zone: (zone, ..., class, class) counts to (zone,)."""
    return confusions.reshape(len(confusions), -1).sum(axis=1)


def effective_zones(sizes: np.ndarray) -> float:
    """Number of zones of equal size that would average as well: Kish's (sum n)^2 / sum n^2 (1965, Survey Sampling).

    Args:
        sizes: (zone,) numbers of patches or pixels; 0.0 is returned where there are none.
    """
    return float(ratio(sizes.sum() ** 2, (sizes.astype(np.float64) ** 2).sum()))


def headline_scores(
    confusions: np.ndarray, extra_sd: Mapping[str, float] | None = None
) -> dict[str, ScoreWithInterval]:
    """Every headline score of the pooled zones with its interval.

    Args:
        confusions: (zone, class, class) counts, or (zone, repeat, class, class): a score is then the mean over repeats.
        extra_sd: by name of a score, the standard deviation of what zones cannot show, such as that over partitions or
            seeds; it widens the interval as in `share_interval`. Scores that are not named have none.
    """
    sizes, scores = zone_sizes(confusions), {}
    for name, score in HEADLINE.items():
        pooled, without = leave_one_out(confusions, score)
        scores[name] = _score(pooled, share_interval(pooled, without, sizes, (extra_sd or {}).get(name, 0)))
    return scores


def compare(
    first: np.ndarray, second: np.ndarray, extra_sd: Mapping[str, float] | None = None
) -> tuple[dict[str, ScoreWithInterval], dict[str, ScoreWithInterval], dict[str, ScoreWithInterval]]:
    """Headline scores of two predictions of the same patches, and the second's less the first's.

    The interval of the difference is a paired one: each zone is left out of both at once.

    Args:
        first: (zone, repeat, class, class) counts; a score is the mean over repeats.
        second: the same, of the same zones and repeats.
        extra_sd: as in `headline_scores`, of the differences.

    Returns:
        The scores of the first, of the second, and the differences.
    """
    sizes, differences = zone_sizes(first) + zone_sizes(second), {}
    for name, score in HEADLINE.items():
        (a, without_a), (b, without_b) = leave_one_out(first, score), leave_one_out(second, score)
        ends = difference_interval(b - a, without_b - without_a, sizes, (extra_sd or {}).get(name, 0))
        differences[name] = _score(b - a, ends)
    return headline_scores(first), headline_scores(second), differences


def compare_splits(spatial: np.ndarray, random: np.ndarray) -> dict[str, dict[str, ScoreWithInterval]]:
    """`compare` for one method under spatial and under random folds: keys zoned (spatial), random and gap."""
    return dict(zip(("zoned", "random", "gap"), compare(spatial, random), strict=True))


def leave_one_out(confusions: np.ndarray, score: Score) -> tuple[np.ndarray, np.ndarray]:
    """A score of all zones, (...), and of all zones but one, (zone, ...); means over repeats.

    Args:
        confusions: (zone, class, class) or (zone, repeat, class, class) counts, which may be weighted.
        score: (..., class, class) to (...) or (..., class).
    """
    by_repeat = confusions.reshape(len(confusions), -1, *confusions.shape[-2:]).astype(np.float64)
    pooled = by_repeat.sum(axis=0)
    rest = pooled - by_repeat
    rest[rest < _AGREE * pooled] = 0  # what rounding leaves of weighted counts
    return score(pooled).mean(axis=0), score(rest).mean(axis=1)


def share_interval(share: float, without: np.ndarray, sizes: np.ndarray, extra_sd: float = 0.0) -> tuple[float, float]:
    """The ends of the 95 % interval of a score between 0 and 1.

    Args:
        share: the score of all zones.
        without: (zone,) scores with one zone left out.
        sizes: (zone,) numbers of patches or pixels that the score counts; zones with 0 of them are no observations.
        extra_sd: standard deviation of what zones cannot show, taken as known: 1.96 of it and the half width on either
            side are added in quadrature.
    """
    error, quantile = _standard_error(share, without, sizes)
    number = share * (1 - share) * (_NORMAL / (quantile * error)) ** 2 if error else effective_zones(sizes)
    right, wrong = share * number, (1 - share) * number
    low = betaincinv(right, wrong + 1, TAIL) if right > 0 else 0.0
    high = betaincinv(right + 1, wrong, 1 - TAIL) if wrong > 0 else 1.0
    return _widened(share, low, high, extra_sd, least=0)


def difference_interval(
    difference: float, without: np.ndarray, sizes: np.ndarray, extra_sd: float = 0.0
) -> tuple[float, float]:
    """The ends of the 95 % interval of a difference of two scores, between -1 and 1; arguments as in `share_interval`.

    Where all zones agree in the difference, its half width is the largest share of other zones that is likely to be
    missed by their effective number.
    """
    error, quantile = _standard_error(difference, without, sizes)
    half = quantile * error if error else 1 - TAIL ** (1 / max(effective_zones(sizes), 1))
    return _widened(difference, difference - half, difference + half, extra_sd, least=-1)


def _standard_error(score: float, without: np.ndarray, sizes: np.ndarray) -> tuple[float, float]:
    """Jackknife standard error, 0 where zones agree or there is one alone, and the quantile of t that goes with it."""
    squares = ((without - score) ** 2)[sizes > 0]
    zones, total = len(squares), squares.sum()
    if zones < 2 or total < _AGREE**2:
        return 0.0, _NORMAL
    freedom = (3.16 - 2.77 / np.sqrt(zones)) * total**2 / (squares**2).sum()
    return float(np.sqrt((zones - 1) / zones * total)), float(stdtrit(np.clip(freedom, 1, zones - 1), 1 - TAIL))


def _widened(score: float, low: float, high: float, extra_sd: float, *, least: float) -> tuple[float, float]:
    extra = _NORMAL * extra_sd
    ends = score - np.hypot(score - low, extra), score + np.hypot(high - score, extra)
    return float(max(ends[0], least)), float(min(ends[1], 1))


def _score(value: float, ends: tuple[float, float]) -> ScoreWithInterval:
    return dict(zip(("pooled", "low", "high"), map(rounded, (value, *ends)), strict=True))
