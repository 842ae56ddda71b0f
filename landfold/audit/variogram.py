"""The range over which values on the ground resemble each other: an empirical variogram and its spherical model."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import curve_fit

VARIOGRAM_POINTS = 4000
"""More points than these are sampled: 8 million pairs, in about a second."""

LAGS = 15
"""Classes of distance of the variogram, of equal width."""

STRUCTURE = 0.5
"""Share of the variation between lags that a model must explain, beyond a constant, for its range to count."""

LARGEST_NUGGET = 0.9
"""Of the sill: above it neighbours are hardly more alike than strangers, and a range would be chance. Cambardella et
al. (1994, https://doi.org/10.2136/sssaj1994.03615995005800050033x) call a dependence weak from 0.75 on."""


@dataclass(frozen=True)
class Variogram:
    """Half the mean squared difference of pairs by their distance, and the spherical model fitted to it.

    ``lag_m``, ``semivariance`` and ``pairs`` have one entry a lag that has pairs. ``range_m`` is where
    the model reaches its sill; None where values near each other are no more alike than distant ones,
    and ``levels_off`` is False where they still drift apart at the longest lag, so that the range is
    at least ``range_m``.
    """

    lag_m: np.ndarray
    semivariance: np.ndarray
    pairs: np.ndarray
    range_m: float | None
    nugget: float
    sill: float
    levels_off: bool


def variogram(points: np.ndarray, values: np.ndarray, *, seed: int) -> Variogram:
    """The empirical variogram of values at points, in all directions, and its spherical model.

    Lags are of equal width up to a third of the diagonal of the points' extent: pairs farther apart are from
    its corners alone. The model is fitted by least squares weighted with pairs / distance^2, which trusts near
    lags most, as gstat does (Pebesma 2004, https://doi.org/10.1016/j.cageo.2004.03.012).

    Args:
        points: (n, 2) metres.
        values: (n,) float.
        seed: of the sample, where there are more points than `VARIOGRAM_POINTS`.
    """
    if len(points) > VARIOGRAM_POINTS:
        chosen = np.sort(np.random.default_rng(seed).permutation(len(points))[:VARIOGRAM_POINTS])
        points, values = points[chosen], values[chosen]
    longest = float(np.hypot(*np.ptp(points, axis=0))) / 3
    distance, squares, pairs = _lags(points, values, longest)
    there = (pairs > 0) & (distance > 0)
    lag, gamma, number = distance[there] / pairs[there], squares[there] / pairs[there] / 2, pairs[there]
    flat = float(np.average(gamma, weights=number)) if len(lag) else 0.0
    without_range = Variogram(lag, gamma, number, None, flat, flat, levels_off=True)
    if len(lag) < 4 or not flat > 0:
        return without_range
    (nugget, partial, range_m), rest = _fit(lag, gamma / flat, number, longest)
    if rest > 1 - STRUCTURE or nugget > LARGEST_NUGGET * (nugget + partial):
        return without_range
    sill = float(nugget + partial) * flat
    return Variogram(lag, gamma, number, float(range_m), float(nugget) * flat, sill, bool(range_m < 0.99 * longest))


def _lags(points: np.ndarray, values: np.ndarray, longest: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums of distances and of squared differences, and number of pairs, in each of LAGS lags."""
    sums = np.zeros((3, LAGS))
    for start in range(0, len(points) - 1 if longest > 0 else 0, 256):
        rows = np.arange(start, min(start + 256, len(points)))
        rest = points[start:]
        apart = np.hypot(rest[:, 0] - points[rows, :1], rest[:, 1] - points[rows, 1:])
        later = np.arange(len(rest)) > (rows - start)[:, None]
        near = later & (apart < longest)
        lag = (apart[near] * (LAGS / longest)).astype(np.int64)
        squares = (values[start:] - values[rows, None])[near] ** 2
        for total, weights in zip(sums, (apart[near], squares, None), strict=True):
            total += np.bincount(lag.clip(max=LAGS - 1), weights, minlength=LAGS)
    return sums[0], sums[1], sums[2]


def _fit(lag: np.ndarray, gamma: np.ndarray, pairs: np.ndarray, longest: float) -> tuple[np.ndarray, float]:
    """Nugget, partial sill and range of the spherical model, and the share of the variation that it leaves."""

    def spherical(distance: np.ndarray, nugget: float, partial: float, range_m: float) -> np.ndarray:
        part = np.minimum(distance / range_m, 1)
        return nugget + partial * (1.5 * part - 0.5 * part**3)

    sigma = lag / np.sqrt(pairs)
    least, most = [0, 0, lag[0]], [np.inf, np.inf, longest]
    model, _ = curve_fit(
        spherical, lag, gamma, p0=[0.5, 0.5, (lag[0] + longest) / 2], sigma=sigma, bounds=(least, most)
    )
    weights = sigma**-2
    flat = np.average(gamma, weights=weights)
    total = (weights * (gamma - flat) ** 2).sum()
    return model, float((weights * (gamma - spherical(lag, *model)) ** 2).sum() / total) if total > 0 else 1.0
