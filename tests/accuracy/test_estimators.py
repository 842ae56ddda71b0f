import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import norm

from landfold.accuracy.estimators import AccuracyError, estimate, standard_errors

OLOFSSON_2014 = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
"""Olofsson et al. 2014, doi:10.1016/j.rse.2014.02.015, table 8: rows map, columns reference."""


def test_olofsson_2014_table_8():
    pixels = np.array([200_000, 150_000, 3_200_000, 6_450_000])
    found = estimate(OLOFSSON_2014, pixels * 0.09)
    margin = {name: 1.96 * part.standard_error for name, part in vars(found).items() if name != "proportions"}
    assert found.overall.value == pytest.approx(0.9465, abs=5e-5)
    assert margin["overall"] == pytest.approx(0.0185, abs=5e-5)
    assert found.users.value.round(3).tolist() == [0.880, 0.733, 0.927, 0.963]
    assert margin["users"].round(3).tolist() == [0.074, 0.101, 0.040, 0.021]
    assert found.producers.value.round(3).tolist() == [0.749, 0.847, 0.935, 0.962]
    assert margin["producers"].round(3).tolist() == [0.213, 0.254, 0.034, 0.018]
    assert found.areas.value.round().tolist() == [21158, 11686, 285770, 581386]
    assert margin["areas"].round().tolist() == [6158, 3756, 15510, 16282]


def test_olofsson_2013_example_1():
    """doi:10.1016/j.rse.2012.10.031."""
    counts = np.array([[97, 0, 3], [3, 279, 18], [2, 1, 97]])
    found = estimate(counts, np.array([22353, 1122543, 610228]))
    assert found.overall.value == pytest.approx(0.944417, abs=5e-7)
    assert found.producers.value.round(6).tolist() == [0.480631, 0.994189, 0.896926]
    assert round(found.areas.value[0]) == 45112
    assert round(1.96 * found.areas.standard_error[0]) == 21073


def population():
    """A map and the truth of each of its 420,000 cells, as the counts of their pairs: (map class, reference class)."""
    generator = np.random.default_rng(2)
    classes = generator.choice(3, size=(600, 700), p=[0.1, 0.3, 0.6])
    right = generator.random(classes.shape) < np.array([0.8, 0.85, 0.9])[classes]
    truth = np.where(right, classes, (classes + generator.choice([1, 2], size=classes.shape, p=[0.6, 0.4])) % 3)
    return np.bincount(3 * classes.ravel() + truth.ravel(), minlength=9).reshape(3, 3)


def simulate(cells, points, *, seed=11, draws=2000):
    """Matrices of stratified samples of cells without replacement: (draw, map class, reference class)."""
    generator = np.random.default_rng(seed)
    drawn = [generator.multivariate_hypergeometric(c, n, size=draws) for c, n in zip(cells, points, strict=True)]
    return np.stack(drawn, axis=1)


def test_estimates_are_unbiased_and_intervals_cover():
    cells = population()
    hits, mapped, truth = np.diag(cells), cells.sum(axis=1), cells.sum(axis=0)
    expected = {
        "overall": hits.sum() / cells.sum(),
        "users": hits / mapped,
        "producers": hits / truth,
        "areas": truth,
    }
    samples = [estimate(n, mapped) for n in simulate(cells, [200, 200, 400])]
    for name, true in expected.items():
        values = np.stack([getattr(one, name).value for one in samples])
        errors = np.stack([getattr(one, name).standard_error for one in samples])
        noise = values.std(axis=0) / len(samples) ** 0.5
        ratio = name == "producers"  # a ratio of estimates has a bias of the order of 1/n
        assert (abs(values.mean(axis=0) - true) < 4 * noise + (0.003 if ratio else 0)).all(), name
        assert errors.mean(axis=0) == pytest.approx(values.std(axis=0), rel=0.06), name
        covered = (abs(values - true) <= 1.96 * errors).mean(axis=0)
        assert ((covered > 0.93) & (covered < 0.97)).all(), (name, covered)


def test_post_stratification_covers_too():
    """Simple random samples: how many points fall into a class is left to chance."""
    weights, q = np.array([0.25, 0.75]), np.array([[0.85, 0.15], [0.1, 0.9]])
    counts = np.random.default_rng(5).multinomial(400, (weights[:, None] * q).ravel(), size=2000).reshape(-1, 2, 2)
    samples = [estimate(n, weights) for n in counts]
    values = np.array([one.areas.value[0] for one in samples])
    errors = np.array([one.areas.standard_error[0] for one in samples])
    true = (weights @ q)[0]
    assert values.mean() == pytest.approx(true, abs=4 * values.std() / 2000**0.5)
    assert 0.93 < (abs(values - true) <= 1.96 * errors).mean() < 0.97


def test_a_naive_proportion_would_be_wrong():
    """Why the estimator exists: with equal points in each class the share of right points is not the accuracy."""
    counts = np.array([[50, 50], [0, 100]])
    assert counts.trace() / counts.sum() == 0.75
    assert estimate(counts, np.array([1.0, 99.0])).overall.value == pytest.approx(0.995)


MATRICES = st.integers(2, 5).flatmap(
    lambda k: st.tuples(
        arrays(np.int64, (k, k), elements=st.integers(0, 40)).map(lambda n: n + 2 * np.eye(k, dtype=np.int64)),
        arrays(np.float64, k, elements=st.floats(0.5, 1e6)),
    )
)


@given(MATRICES)
def test_areas_sum_to_the_map_and_shares_are_shares(case):
    counts, mapped = case
    found = estimate(counts, mapped)
    assert found.areas.value.sum() == pytest.approx(mapped.sum())
    assert found.proportions.sum() == pytest.approx(1)
    assert found.proportions.sum(axis=1) == pytest.approx(mapped / mapped.sum())
    for part in (found.overall, found.users, found.producers):
        assert np.all((part.value >= 0) & (part.value <= 1 + 1e-12))
        assert np.all(part.standard_error >= 0)


@given(MATRICES, st.floats(0.01, 1000))
def test_the_unit_of_areas_is_free(case, factor):
    counts, mapped = case
    one, other = estimate(counts, mapped), estimate(counts, factor * mapped)
    assert other.areas.standard_error == pytest.approx(factor * one.areas.standard_error)
    assert other.producers.standard_error == pytest.approx(one.producers.standard_error)


@given(MATRICES)
def test_a_perfect_sample_leaves_the_map_as_it_is(case):
    counts, mapped = case
    found = estimate(np.diag(counts.sum(axis=1)), mapped)
    assert found.overall.value == pytest.approx(1)
    assert found.users.value == pytest.approx(np.ones(len(mapped)))
    assert found.producers.value == pytest.approx(np.ones(len(mapped)))
    assert found.areas.value == pytest.approx(mapped)
    assert found.areas.standard_error == pytest.approx(np.zeros(len(mapped)))


@given(MATRICES, st.randoms(use_true_random=False))
def test_the_order_of_the_classes_is_free(case, random):
    counts, mapped = case
    order = random.sample(range(len(mapped)), len(mapped))
    one, other = estimate(counts, mapped), estimate(counts[np.ix_(order, order)], mapped[order])
    assert other.producers.standard_error == pytest.approx(one.producers.standard_error[order])
    assert other.areas.value == pytest.approx(one.areas.value[order])


def test_a_class_that_is_not_mapped_but_met():
    found = estimate(np.array([[8, 2], [0, 0]]), np.array([100.0, 0.0]))
    assert found.areas.value == pytest.approx([80, 20])
    assert found.areas.standard_error[1] == pytest.approx(100 * (0.2 * 0.8 / 9) ** 0.5)
    assert np.isnan(found.users.value).tolist() == [False, True]
    assert found.producers.value.tolist() == [1.0, 0.0]


def test_a_stratum_without_variance_is_nan_not_zero():
    single = estimate(np.array([[1, 0], [2, 8]]), np.array([1.0, 9.0]))
    assert np.isnan(single.overall.standard_error)
    assert np.isnan(single.areas.standard_error).all()
    none = estimate(np.array([[0, 0], [2, 8]]), np.array([1.0, 9.0]))
    assert np.isnan(none.overall.value)


def test_levels():
    assert standard_errors(0.95) == 1.96
    assert standard_errors(0.9) == pytest.approx(1.6448536)
    assert standard_errors(0.6827) == pytest.approx(norm.ppf(0.84135))
    for level in (0, 1, 95, float("nan")):
        with pytest.raises(AccuracyError, match=r"share between 0 and 1, such as 0\.95"):
            standard_errors(level)
