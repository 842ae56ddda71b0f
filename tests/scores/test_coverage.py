"""95 % intervals hold in about 95 of 100 simulations: benchmarks/coverage.py on ground that is small."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.coverage import (
    Ground,
    confusions,
    coverage,
    drawn_anew,
    jackknife,
    latent_correlation,
    percentile_bootstrap,
    simulate,
    spherical,
    with_ones,
)
from landfold.scores.intervals import effective_zones, share_interval

DRAWS = 400
"""An observed coverage then has a standard error of 0.011."""


def by_draw(counts):
    return list(zip(*(counts[method] for method in ("network", "baseline", "random")), strict=True))


@pytest.fixture(scope="module")
def ground():
    """Patches 100 m apart in 16 zones of 600 m, of which some are nearly empty; three classes, two of them common."""
    generator = np.random.default_rng(0)
    row, column = (axis.ravel() for axis in np.mgrid[:24, :24])
    kept = generator.random(len(row)) < generator.uniform(0.1, 1, (4, 4))[row // 6, column // 6]
    row, column = row[kept], column[kept]
    truth = generator.choice(3, len(row), p=[0.45, 0.45, 0.1])
    wrong = {"network": 0.3, "baseline": 0.35, "random": 0.15}
    hard, predicted = generator.standard_normal(len(row)), {}
    for method, share in wrong.items():
        level = hard + generator.standard_normal(len(row))
        predicted[method] = np.where(level > np.quantile(level, 1 - share), (truth + 1) % 3, truth)
    zone = np.unique(row // 6 * 4 + column // 6, return_inverse=True)[1]
    return Ground(np.column_stack([100.0 * column, 100.0 * row]), zone, truth, predicted)


@pytest.fixture(scope="module")
def correlation(ground):
    return with_ones(0.9 * spherical(ground.distance_m, 350))


def test_intervals_hold_where_zones_are_larger_than_the_range_of_the_errors(ground, correlation):
    counts = simulate(ground, correlation, DRAWS, seed=1, alike=True)
    found = coverage([jackknife(*draw) for draw in by_draw(counts)])
    assert found["covered"].between(0.9, 0.985).all(), found


def test_intervals_hold_for_zones_that_are_drawn_at_random(ground, correlation):
    counts = drawn_anew(simulate(ground, correlation, DRAWS, seed=2))
    found = coverage([jackknife(*draw) for draw in by_draw(counts)])
    assert found["covered"].between(0.9, 0.985).all(), found


def test_intervals_over_patches_or_by_the_bootstrap_do_not_hold(ground, correlation):
    counts = simulate(ground, correlation, 100, seed=0, alike=True)
    zones = coverage([jackknife(*draw) for draw in by_draw(counts)])["covered"]
    bootstrap = coverage([percentile_bootstrap(*draw) for draw in by_draw(counts)])["covered"]
    assert bootstrap.mean() < zones.mean() - 0.03
    patches = simulate(replace(ground, zone=np.arange(len(ground.zone))), correlation, 100, seed=0, alike=True)
    by_patch = coverage([jackknife(*draw) for draw in by_draw(patches)])["covered"]
    assert by_patch[("network", "accuracy")] < 0.85


def test_exact_limits_hold_where_nearly_all_is_right():
    """Zones of 4 to 40 patches, each right with 0.98: often all are, or one zone alone is wrong somewhere."""
    generator = np.random.default_rng(4)
    sizes = generator.integers(4, 41, 12)
    right = generator.binomial(sizes, 0.98, (1000, 12))
    shares, without = right.sum(axis=1) / sizes.sum(), (right.sum(axis=1)[:, None] - right) / (sizes.sum() - sizes)
    ends = np.array([share_interval(share, rest, sizes) for share, rest in zip(shares, without, strict=True)])
    assert ((ends[:, 0] <= 0.98) & (ends[:, 1] >= 0.98)).mean() > 0.95
    assert (shares == 1).any()
    np.testing.assert_allclose(ends[shares == 1, 0], 0.025 ** (1 / effective_zones(sizes)))


def test_simulated_errors_have_the_correlation_of_the_observed_ones(ground):
    rates = np.full((3, 3), 0.15) + 0.55 * np.eye(3)
    field = with_ones(0.8 * spherical(ground.distance_m, 600))
    root = np.linalg.cholesky(field)
    seed = np.random.default_rng(0).standard_normal((1, len(field))) @ root.T
    levels = (seed[0] > np.quantile(seed[0], 0.7)).astype(int)
    observed = replace(ground, predicted={"network": (ground.truth + levels) % 3})
    latent = latent_correlation(observed, "network")
    neighbours = np.argwhere(np.triu(ground.distance_m == 100))
    assert np.allclose(np.diagonal(latent), 1)
    assert 0.4 < np.mean([latent[a, b] for a, b in neighbours]) < 0.9, "0.67 was put in"
    one_zone = confusions(replace(ground, zone=np.zeros_like(ground.zone)), rates, np.zeros((1, len(field))))
    assert (one_zone[0, 0].sum(axis=1) == np.bincount(ground.truth)).all()
    assert np.trace(one_zone[0, 0]) == len(field), "the middle of the field is right"
