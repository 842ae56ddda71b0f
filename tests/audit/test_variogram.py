import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy.signal import fftconvolve

from landfold.audit import variogram as variogram_module
from landfold.audit.variogram import variogram


def smooth_ground(seed, reach_px, side=60):
    """A field whose points resemble each other up to ``reach_px`` and not beyond: noise averaged over discs."""
    y, x = np.mgrid[-reach_px : reach_px + 1, -reach_px : reach_px + 1]
    disc = (np.hypot(x, y) <= reach_px / 2).astype(float)
    field = fftconvolve(np.random.default_rng(seed).standard_normal((side * 2, side * 2)), disc, mode="valid")
    row, column = (axis.ravel() for axis in np.mgrid[:side, :side])
    points = np.stack([4e5 + 100.0 * column, 58e5 - 100.0 * row], axis=1)
    return points, field[:side, :side].ravel() / np.sqrt(disc.sum())


@pytest.mark.parametrize("reach_px", [6, 10])
def test_the_variogram_finds_the_range_of_a_field_that_has_one(reach_px):
    found = [variogram(*smooth_ground(seed, reach_px), seed=0) for seed in range(4)]
    assert np.median([v.range_m for v in found]) == pytest.approx(100 * reach_px, rel=0.25)
    assert np.median([v.sill for v in found]) == pytest.approx(1, rel=0.3)
    assert all(v.nugget < 0.2 and v.levels_off for v in found)


def test_noise_has_no_range_and_a_slope_no_end():
    points, _ = smooth_ground(0, 4)
    for seed in range(10):
        values = np.random.default_rng(seed).random(len(points))
        found = variogram(points, values, seed=0)
        assert found.range_m is None
        assert found.sill == pytest.approx(values.var(), rel=0.02)
    slope = variogram(points, points[:, 0] / 1000, seed=0)
    assert not slope.levels_off


def test_semivariances_are_those_of_all_pairs():
    generator = np.random.default_rng(2)
    points, values = generator.uniform(0, [3000, 900], (300, 2)), generator.random(300)
    found = variogram(points, values, seed=0)
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1)[np.triu_indices(300, 1)]
    squares = ((values[:, None] - values[None]) ** 2)[np.triu_indices(300, 1)]
    longest = np.hypot(*np.ptp(points, axis=0)) / 3
    lag = np.floor(apart / longest * variogram_module.LAGS).astype(int)
    for i in range(variogram_module.LAGS):
        np.testing.assert_allclose(found.lag_m[i], apart[lag == i].mean())
        np.testing.assert_allclose(found.semivariance[i], squares[lag == i].mean() / 2)
        assert found.pairs[i] == (lag == i).sum()


@pytest.mark.parametrize("points", [np.zeros((5, 2)), np.array([(0.0, 0.0), (1.0, 0.0)]), np.eye(2).repeat(9, axis=0)])
def test_too_few_places_have_no_range(points):
    assert variogram(points, np.arange(len(points), dtype=float), seed=0).range_m is None


def test_equal_values_have_no_range():
    points, _ = smooth_ground(0, 4)
    assert variogram(points, np.ones(len(points)), seed=0).range_m is None


@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 5), st.sampled_from([1.0, 300.0, 90_000.0]))
@hypothesis_settings(max_examples=60, deadline=None)
def test_any_layout_has_a_range_within_its_extent_or_none(seed, count, clumps, spread_m):
    generator = np.random.default_rng(seed)
    points = generator.uniform(0, 1e5, (clumps, 2)).repeat(count, axis=0)
    points += generator.normal(0, spread_m, points.shape).round(-1)
    found = variogram(points, (generator.random(len(points)) > 0.7).astype(float), seed=0)
    assert found.range_m is None or 0 < found.range_m <= np.hypot(*np.ptp(points, axis=0)) / 3
    assert 0 <= found.nugget <= found.sill
    assert len(found.lag_m) == len(found.semivariance) == len(found.pairs) <= variogram_module.LAGS


def test_many_points_are_sampled_by_the_seed(monkeypatch):
    points, values = smooth_ground(0, 10)
    whole = variogram(points, values, seed=0)
    monkeypatch.setattr(variogram_module, "VARIOGRAM_POINTS", 500)
    first, again, other = (variogram(points, values, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.semivariance, again.semivariance)
    assert (first.semivariance != other.semivariance).any()
    assert 0 < first.pairs.sum() < whole.pairs.sum() / 20
    assert first.range_m == pytest.approx(whole.range_m, rel=0.5)
