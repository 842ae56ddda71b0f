import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from landfold.scores import intervals, metrics
from landfold.scores.intervals import compare_splits, zone_bootstrap
from landfold.scores.metrics import HEADLINE
from landfold.scores.settings import Resampling

SETTINGS = Resampling(bootstrap=500, seed=0)


def zones_of_confusions(least=1):
    shapes = st.tuples(st.integers(least, 6), st.integers(2, 4)).map(lambda s: (s[0], s[1], s[1]))
    counts = shapes.flatmap(lambda shape: arrays(np.int64, shape, elements=st.integers(0, 9)))
    return counts.map(lambda c: c + np.eye(c.shape[-1], dtype=np.int64))  # a zone has patches


@given(zones_of_confusions())
@hypothesis_settings(max_examples=40, deadline=None)
def test_interval_is_ordered_and_reproducible_and_within_the_zones_for_accuracy(confusions):
    interval = zone_bootstrap(confusions, SETTINGS)
    assert interval == zone_bootstrap(confusions, SETTINGS)
    for low, high in interval.values():
        assert 0 <= low <= high <= 1
    by_zone = metrics.accuracy(confusions)  # a resample's accuracy is a weighted mean of its zones'
    low, high = interval["accuracy"]
    assert by_zone.min() - 1e-12 <= low
    assert high <= by_zone.max() + 1e-12


@given(zones_of_confusions())
@hypothesis_settings(max_examples=25, deadline=None)
def test_one_zone_or_equal_zones_give_the_score_itself(confusions):
    for equal in (confusions[:1], np.repeat(confusions[:1], 5, axis=0)):
        for name, (low, high) in zone_bootstrap(equal, SETTINGS).items():
            point = HEADLINE[name](confusions[0])
            assert (low, high) == (pytest.approx(point), pytest.approx(point))


def test_perfect_predictions_have_no_uncertainty():
    confusions = np.array([np.diag([5, 0, 0]), np.diag([0, 9, 1]), np.diag([2, 2, 2])])
    assert zone_bootstrap(confusions, SETTINGS) == dict.fromkeys(HEADLINE, (1.0, 1.0))


def test_interval_matches_the_exact_distribution_of_two_zones():
    # Two zones of 4 patches, one all right and one all wrong: accuracy is 0, 1/2 or 1 with 1/4, 1/2, 1/4.
    confusions = np.array([[[4, 0], [0, 0]], [[0, 4], [0, 0]]])
    assert zone_bootstrap(confusions, SETTINGS)["accuracy"] == (0.0, 1.0)


def test_interval_covers_about_what_the_normal_approximation_says():
    generator = np.random.default_rng(7)
    right = generator.integers(0, 11, 200)
    confusions = np.zeros((200, 2, 2), dtype=np.int64)
    confusions[:, 0, 0], confusions[:, 0, 1] = right, 10 - right
    low, high = zone_bootstrap(confusions, Resampling(bootstrap=2000, seed=1))["accuracy"]
    half = 1.96 * (right / 10).std() / np.sqrt(200)
    assert low == pytest.approx((right / 10).mean() - half, abs=0.1 * half)
    assert high == pytest.approx((right / 10).mean() + half, abs=0.1 * half)


@pytest.mark.parametrize("change", [{"seed": 1}, {"bootstrap": 100}])
def test_each_setting_changes_the_interval(change):
    confusions = np.random.default_rng(0).integers(0, 9, (7, 3, 3))
    assert zone_bootstrap(confusions, SETTINGS) != zone_bootstrap(confusions, SETTINGS.model_copy(update=change))


def test_interval_does_not_depend_on_the_batches(monkeypatch):
    confusions = np.random.default_rng(0).integers(0, 9, (7, 3, 3))
    whole = zone_bootstrap(confusions, SETTINGS)
    monkeypatch.setattr(intervals, "_BATCH", 37)
    assert zone_bootstrap(confusions, SETTINGS) == whole


@given(zones_of_confusions(least=2), st.integers(2, 5))
@hypothesis_settings(max_examples=25, deadline=None)
def test_interval_does_not_depend_on_the_scale_of_the_counts_nor_on_the_names_of_the_classes(confusions, times):
    interval = zone_bootstrap(confusions, SETTINGS)
    order = np.random.default_rng(times).permutation(confusions.shape[-1])
    for same in (times * confusions, confusions[:, order][:, :, order]):
        for name, ends in zone_bootstrap(same, SETTINGS).items():
            assert ends == pytest.approx(interval[name])


@given(st.integers(0, 9), st.integers(2, 30))
@hypothesis_settings(max_examples=25, deadline=None)
def test_the_score_is_within_its_interval_where_zones_lie_around_it_evenly(right, pairs):
    # As many zones with `right` of 9 as with 9 - right: accuracy is 1/2, and its resamples lie evenly around it.
    confusions = np.zeros((2 * pairs, 2, 2), dtype=np.int64)
    confusions[:, 0, 0] = np.tile([right, 9 - right], pairs)
    confusions[:, 0, 1] = 9 - confusions[:, 0, 0]
    low, high = zone_bootstrap(confusions, SETTINGS)["accuracy"]
    assert low <= 0.5 + 1e-12
    assert high >= 0.5 - 1e-12
    step = abs(9 - 2 * right) / 9 / (2 * pairs)  # of one zone more; a quantile may fall on either side of a step
    assert low + high == pytest.approx(1, abs=step + 0.25 / np.sqrt(pairs))


def test_an_order_of_zones_changes_an_interval_by_chance_alone():
    spatial, _ = two_splits()
    settings = Resampling(bootstrap=4000, seed=0)
    turned = zone_bootstrap(spatial[::-1, 0], settings)
    for name, ends in zone_bootstrap(spatial[:, 0], settings).items():
        assert ends == pytest.approx(turned[name], abs=0.01)


def test_more_zones_of_the_same_kind_make_an_interval_narrower():
    spatial, _ = two_splits()
    few, many = (zone_bootstrap(np.repeat(spatial[:, 0], times, axis=0), SETTINGS) for times in (1, 16))
    for name, (low, high) in few.items():
        assert many[name][1] - many[name][0] == pytest.approx((high - low) / 4, rel=0.3)


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
    found = compare_splits(spatial, random, SETTINGS)
    for part, confusions in (("zoned", spatial), ("random", random)):
        for name, (low, high) in zone_bootstrap(confusions[:, 0], SETTINGS).items():
            pooled = float(HEADLINE[name](confusions[:, 0].sum(axis=0)))
            assert found[part][name] == {"pooled": round(pooled, 4), "low": round(low, 4), "high": round(high, 4)}


def test_a_split_has_no_gap_to_itself_in_any_resample():
    spatial, _ = two_splits()
    for gap in compare_splits(spatial, spatial, SETTINGS)["gap"].values():
        assert gap == {"pooled": 0, "low": 0, "high": 0}


def test_the_gap_is_paired_over_zones():
    # Zones differ far more than the splits do: in each zone of 10, random is right on one patch more.
    right = np.arange(9)
    spatial, random = (np.zeros((9, 1, 2, 2), dtype=np.int64) for _ in range(2))
    for part, more in ((spatial, 0), (random, 1)):
        part[:, 0, 0, 0], part[:, 0, 0, 1] = right + more, 10 - right - more
    found = compare_splits(spatial, random, SETTINGS)
    assert found["gap"]["accuracy"] == {"pooled": 0.1, "low": 0.1, "high": 0.1}
    assert found["zoned"]["accuracy"]["high"] - found["zoned"]["accuracy"]["low"] > 0.2


def test_a_gap_changes_its_sign_with_its_sides():
    spatial, random = two_splits()
    gap, turned = (compare_splits(*pair, SETTINGS)["gap"] for pair in ((spatial, random), (random, spatial)))
    for name in HEADLINE:
        assert gap[name]["pooled"] == -turned[name]["pooled"] > 0
        assert gap[name]["low"] == pytest.approx(-turned[name]["high"], abs=1e-4)


def test_repeats_count_alike():
    spatial, random = two_splits(repeats=3)
    found = compare_splits(spatial, random, SETTINGS)
    mean = np.mean([metrics.macro_f1(spatial[:, repeat].sum(axis=0)) for repeat in range(3)])
    assert found["zoned"]["macro_f1"]["pooled"] == round(mean, 4)
    same = [np.repeat(part[:, :1], 3, axis=1) for part in (spatial, random)]
    assert compare_splits(*same, SETTINGS) == compare_splits(spatial[:, :1], random[:, :1], SETTINGS)
