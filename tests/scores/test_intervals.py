import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from landfold.scores import metrics
from landfold.scores.intervals import (
    compare,
    compare_splits,
    difference_interval,
    effective_zones,
    headline_scores,
    leave_one_out,
    share_interval,
    zone_sizes,
)
from landfold.scores.metrics import HEADLINE


def zones_of_confusions(least=1):
    shapes = st.tuples(st.integers(least, 6), st.integers(2, 4)).map(lambda s: (s[0], s[1], s[1]))
    counts = shapes.flatmap(lambda shape: arrays(np.int64, shape, elements=st.integers(0, 9)))
    return counts.map(lambda c: c + np.eye(c.shape[-1], dtype=np.int64))  # a zone has patches


def right_of(right, patches):
    """Zones of one class, (zone, class, class), of which so many patches are right."""
    confusions = np.zeros((len(right), 2, 2), dtype=np.int64)
    confusions[:, 0, 0], confusions[:, 0, 1] = right, np.asarray(patches) - right
    return confusions


def accuracy_ends(confusions):
    score = headline_scores(confusions)["accuracy"]
    return score["low"], score["high"]


@given(zones_of_confusions())
@hypothesis_settings(max_examples=60, deadline=None)
def test_an_interval_is_around_the_pooled_score_and_between_0_and_1(confusions):
    for name, score in headline_scores(confusions).items():
        assert score["pooled"] == round(float(HEADLINE[name](confusions.sum(axis=0))), 4)
        assert 0 <= score["low"] <= score["pooled"] <= score["high"] <= 1


def test_the_effective_number_of_zones_falls_with_their_inequality():
    assert effective_zones(np.full(9, 40)) == pytest.approx(9)
    assert effective_zones(np.array([90, 5, 5])) == pytest.approx(100**2 / (90**2 + 2 * 5**2))
    assert effective_zones(np.array([7, 0, 0])) == 1


def test_the_standard_error_of_zones_of_equal_size_is_that_of_their_mean():
    shares = np.random.default_rng(7).integers(0, 11, 200) / 10
    low, high = accuracy_ends(right_of(10 * shares, np.full(200, 10)))
    half = 1.972 * shares.std(ddof=1) / np.sqrt(200)
    assert low == pytest.approx(shares.mean() - half, abs=0.05 * half)
    assert high == pytest.approx(shares.mean() + half, abs=0.05 * half)


def test_independent_patches_have_the_exact_binomial_interval():
    # a zone for each patch: what is left is the estimate of the degrees of freedom
    right = np.repeat([1, 0], [180, 60])
    exact = stats.binomtest(180, 240).proportion_ci(method="exact")
    assert accuracy_ends(right_of(right, np.ones(240))) == pytest.approx((exact.low, exact.high), abs=3e-3)


@pytest.mark.parametrize(("sizes", "number"), [([4, 3, 3], 100 / 34), ([10], 1), ([1] * 10, 10)])
def test_ten_of_ten_is_no_certainty(sizes, number):
    sizes = np.array(sizes)
    for right, expected in ((sizes, (0.025 ** (1 / number), 1)), (0 * sizes, (0, 1 - 0.025 ** (1 / number)))):
        assert accuracy_ends(right_of(right, sizes)) == pytest.approx(expected, abs=1e-4)


def test_all_right_is_told_of_every_score():
    confusions = np.array([np.diag([5, 0, 0]), np.diag([0, 9, 1]), np.diag([2, 2, 2])])
    low = 0.025 ** (1 / effective_zones(zone_sizes(confusions)))
    for score in headline_scores(confusions).values():
        assert score == {"pooled": 1.0, "low": round(low, 4), "high": 1.0}


@given(zones_of_confusions(), st.integers(2, 5))
@hypothesis_settings(max_examples=30, deadline=None)
def test_neither_scale_of_the_counts_nor_order_of_zones_and_classes_matters(confusions, times):
    scores = headline_scores(confusions)
    order = np.random.default_rng(times).permutation(confusions.shape[-1])
    for same in (times * confusions, confusions[::-1], confusions[:, order][:, :, order]):
        for name, score in headline_scores(same).items():
            assert score == pytest.approx(scores[name], abs=1.1e-4)


@given(st.integers(0, 4), st.integers(2, 30))
@hypothesis_settings(max_examples=25, deadline=None)
def test_an_accuracy_of_one_half_has_a_symmetric_interval(right, pairs):
    low, high = accuracy_ends(right_of(np.tile([right, 9 - right], pairs), np.full(2 * pairs, 9)))
    assert low + high == pytest.approx(1, abs=2e-4)
    assert low < 0.5 < high


def test_four_times_the_zones_of_the_same_kind_make_an_interval_half_as_wide():
    spatial, _ = two_splits(zones=30)
    few, many = (headline_scores(np.repeat(spatial, times, axis=0)) for times in (1, 4))
    for name, score in few.items():
        wide, narrow = (part["high"] - part["low"] for part in (score, many[name]))
        assert narrow == pytest.approx(wide / 2, rel=0.1)


def test_zones_without_what_a_score_counts_are_no_observations():
    of_three, sizes = np.array([0.4, 0.5, 0.6]), np.array([5, 5, 5])
    more = share_interval(0.5, np.append(of_three, [0.5] * 20), np.append(sizes, [0] * 20))
    assert more == share_interval(0.5, of_three, sizes)
    assert share_interval(0.5, np.append(of_three, [0.5] * 20), np.full(23, 5)) != more


def test_weighted_counts_leave_no_trace_of_a_zone_that_is_left_out():
    # in 64 bit numbers 0.1 + 0.2 + 0.3 - 0.1 - 0.2 - 0.3 is not 0
    counts = np.zeros((3, 2, 2))
    counts[:, 0, 0] = 0.1, 0.2, 0.3
    counts[2, 1, 0] = 0.7
    _, without = leave_one_out(counts, metrics.balanced_accuracy)
    assert without[2] == 1, "the other class is gone"


@pytest.mark.parametrize("sd", [0.01, 0.2])
def test_an_extra_standard_deviation_is_added_in_quadrature(sd):
    spatial, random = two_splits()
    plain, wider = headline_scores(spatial), headline_scores(spatial, extra_sd={"accuracy": sd})
    score = plain["accuracy"]
    for end, limit in (("low", 0), ("high", 1)):
        half = np.hypot(score[end] - score["pooled"], 1.96 * sd)
        if abs(limit - score["pooled"]) > half:
            assert abs(wider["accuracy"][end] - score["pooled"]) == pytest.approx(half, abs=2e-4)
        else:
            assert wider["accuracy"][end] == limit
    assert wider["macro_f1"] == plain["macro_f1"]
    gap, wider_gap = compare(spatial, random)[2]["accuracy"], compare(spatial, random, {"accuracy": sd})[2]["accuracy"]
    half = np.hypot(gap["high"] - gap["pooled"], 1.96 * sd)
    assert wider_gap["high"] - wider_gap["pooled"] == pytest.approx(half, abs=2e-4)


def two_splits(seed=0, *, zones=9, repeats=1):
    """Confusions of the same patches under two splits: (zone, repeat, class, class) each."""
    generator = np.random.default_rng(seed)
    truth, zone = generator.integers(0, 3, 300), generator.integers(0, zones, 300)
    found = []
    for share in (0.5, 0.7):
        parts = []
        for _ in range(repeats):
            predicted = np.where(generator.random(300) < share, truth, generator.integers(0, 3, 300))
            parts.append(metrics.confusions(truth, predicted, zone, 3))
        found.append(np.stack(parts, axis=1))
    return found


def test_each_split_has_the_interval_that_it_has_alone():
    spatial, random = two_splits()
    found = compare_splits(spatial, random)
    assert found["zoned"] == headline_scores(spatial[:, 0])
    assert found["random"] == headline_scores(random[:, 0])


def test_a_split_has_no_gap_to_itself_as_far_as_its_zones_show():
    spatial, _ = two_splits()
    half = 1 - 0.025 ** (1 / effective_zones(zone_sizes(spatial)))
    for gap in compare_splits(spatial, spatial)["gap"].values():
        assert gap == pytest.approx({"pooled": 0, "low": -half, "high": half}, abs=1e-4)


def test_a_difference_stays_within_1_on_either_side():
    assert difference_interval(0.9, np.array([0.9]), np.array([5])) == (pytest.approx(-0.075), 1)
    assert difference_interval(-0.9, np.array([-0.9, -0.2]), np.array([5, 5]))[0] == -1


def test_the_gap_is_paired_over_zones():
    # Zones differ far more than the splits do: in each zone of 10, random is right on one patch more, or on two.
    right, more = np.arange(9), np.tile([1, 2, 1], 3)
    found = compare_splits(*(right_of(part, np.full(9, 10))[:, None] for part in (right, right + more)))
    gap = found["gap"]["accuracy"]
    assert gap["pooled"] == pytest.approx(0.1333, abs=1e-4)
    assert gap["high"] - gap["low"] < 0.1
    assert found["zoned"]["accuracy"]["high"] - found["zoned"]["accuracy"]["low"] > 0.3


def test_a_gap_changes_its_sign_with_its_sides():
    spatial, random = two_splits()
    gap, turned = (compare_splits(*pair)["gap"] for pair in ((spatial, random), (random, spatial)))
    for name in HEADLINE:
        assert gap[name]["pooled"] == -turned[name]["pooled"] > 0
        assert gap[name]["low"] == pytest.approx(-turned[name]["high"], abs=1e-4)


def test_repeats_count_alike():
    spatial, random = two_splits(repeats=3)
    found = compare_splits(spatial, random)
    mean = np.mean([metrics.macro_f1(spatial[:, repeat].sum(axis=0)) for repeat in range(3)])
    assert found["zoned"]["macro_f1"]["pooled"] == round(mean, 4)
    same = [np.repeat(part[:, :1], 3, axis=1) for part in (spatial, random)]
    assert compare_splits(*same) == compare_splits(spatial[:, :1], random[:, :1])
