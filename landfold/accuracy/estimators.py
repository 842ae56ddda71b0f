"""Estimators of accuracy and area from a probability sample of reference points.

Those of Olofsson et al. (2013, doi:10.1016/j.rse.2012.10.031; 2014, doi:10.1016/j.rse.2014.02.015) for a stratified
random sample whose strata are the classes of the map. After simple random or systematic sampling the same formulae are
those of post-stratification by map class (Card 1982, Photogrammetric Engineering and Remote Sensing 48; Cochran 1977,
Sampling Techniques, section 5A.9).
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from landfold.core.errors import LandfoldError


class AccuracyError(LandfoldError):
    """Points from which no accuracy of the map can be estimated."""


@dataclass(frozen=True)
class Estimate:
    """Estimates and their standard errors, arrays of one shape or single numbers; NaN where there is none."""

    value: np.ndarray
    standard_error: np.ndarray


@dataclass(frozen=True)
class Estimates:
    """Area-adjusted accuracies and areas.

    Attributes:
        overall: overall accuracy, a single number.
        users: (class,) user's accuracy.
        producers: (class,) producer's accuracy.
        areas: (class,) area by the reference, in the unit of the mapped areas.
        proportions: (map class, reference class) estimated share of the map's area.
    """

    overall: Estimate
    users: Estimate
    producers: Estimate
    areas: Estimate
    proportions: np.ndarray


def estimate(counts: np.ndarray, mapped: np.ndarray) -> Estimates:
    """Area-adjusted accuracies and areas: Olofsson et al. 2014, equations 1 to 11, doi:10.1016/j.rse.2014.02.015.

    The user's accuracy of a class that is not mapped and the producer's accuracy of one that is not in the reference
    are NaN, and so is everything that depends on a mapped class without points, or on the variance of one with a
    single point.

    Args:
        counts: number of points, (map class, reference class).
        mapped: (class,) area in the map in any unit, such as cells.
    """
    points = counts.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        q = np.where(mapped[:, None] > 0, counts / points[:, None], 0.0)
        spread = np.where(mapped[:, None] > 0, q * (1 - q) / (points[:, None] - 1), 0.0)
        weights = mapped / mapped.sum()
        proportions = weights[:, None] * q
        truth = proportions.sum(axis=0)
        hits, hit_spread = np.diagonal(proportions), np.diagonal(spread)
        users = np.where(mapped > 0, np.diagonal(q), np.nan)
        producers = hits / truth
        others = spread - np.diag(hit_spread)
        # In shares of the map instead of areas: numerator and denominator are divided by its area squared.
        omitted = producers**2 * (weights[:, None] ** 2 * others).sum(axis=0)
        producers_variance = (weights**2 * (1 - producers) ** 2 * hit_spread + omitted) / truth**2
        areas_variance = (weights[:, None] ** 2 * spread).sum(axis=0)
    return Estimates(
        overall=Estimate(hits.sum(), np.sqrt((weights**2 * hit_spread).sum())),
        users=Estimate(users, np.where(mapped > 0, np.sqrt(hit_spread), np.nan)),
        producers=Estimate(producers, np.sqrt(producers_variance)),
        areas=Estimate(mapped.sum() * truth, mapped.sum() * np.sqrt(areas_variance)),
        proportions=proportions,
    )


def standard_errors(level: float) -> float:
    """Half width of an interval in standard errors; 1.96 at 95 %, as the sources have it.

    Raises:
        AccuracyError: the level is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise AccuracyError(f"level {level:g}: expected a share between 0 and 1, such as 0.95")
    return 1.96 if level == 0.95 else float(ndtri(0.5 + level / 2))
