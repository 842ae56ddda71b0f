import warnings

import geopandas
import numpy as np
import pandas
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    cohen_kappa_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
)

from landfold.scores import metrics
from landfold.scores.metrics import HEADLINE, zone_bootstrap
from landfold.scores.predictions import OutOfFold
from landfold.scores.settings import EvaluateSettings
from landfold.scores.tables import summarize

NAMES = ["water", "farm", "bog"]  # not in alphabetical order: the order is the settings'
SETTINGS = EvaluateSettings(bootstrap=500, seed=0)


def out_of_fold(label, predicted, *, zone=None, fold=None, classes=NAMES):
    count = len(label)
    table = geopandas.GeoDataFrame(
        {
            "label": label,
            "predicted": predicted,
            "predicted_baseline": predicted,
            "zone": ["z"] * count if zone is None else zone,
            "fold": [0] * count if fold is None else fold,
            "repeat": 0,
            "distance_m": 100.0,
        }
        | {f"p_{name}": np.float32(np.array(predicted) == name) for name in classes}
    )
    return OutOfFold(list(classes), table, pandas.DataFrame(), table[:0])


@pytest.mark.parametrize("seed", range(20))
def test_scores_are_those_of_scikit_learn(seed):
    generator = np.random.default_rng(seed)
    names = np.array(["c", "a", "e", "b", "d"])
    occur = generator.integers(2, 6)  # the last classes never occur in truth, but are predicted
    truth = names[generator.integers(0, occur, 60)]
    predicted = np.where(generator.random(60) < 0.5, truth, names[generator.integers(0, 5, 60)])
    confusion = out_of_fold(truth, predicted, classes=names).confusion()
    present = [name for name in names if name in truth]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="y_pred contains classes not in y_true")
        balanced = balanced_accuracy_score(truth, predicted)
    assert np.array_equal(confusion, confusion_matrix(truth, predicted, labels=names))
    assert metrics.accuracy(confusion) == pytest.approx(accuracy_score(truth, predicted), abs=1e-12)
    assert metrics.balanced_accuracy(confusion) == pytest.approx(balanced, abs=1e-12)
    macro = f1_score(truth, predicted, labels=present, average="macro", zero_division=0)
    assert metrics.macro_f1(confusion) == pytest.approx(macro, abs=1e-12)
    weighted = f1_score(truth, predicted, labels=names, average="weighted", zero_division=0)
    assert metrics.weighted_f1(confusion) == pytest.approx(weighted, abs=1e-12)
    assert metrics.kappa(confusion) == pytest.approx(cohen_kappa_score(truth, predicted), abs=1e-12)
    by_class = precision_recall_fscore_support(truth, predicted, labels=names, zero_division=0)
    for score, expected in zip((metrics.precision, metrics.recall, metrics.f1, metrics.support), by_class, strict=True):
        np.testing.assert_allclose(score(confusion), expected, atol=1e-12)


def test_known_truth_by_hand():
    confusion = np.array([[6, 2, 0], [1, 3, 0], [0, 0, 0]])  # the third class never occurs nor is predicted
    assert metrics.accuracy(confusion) == 9 / 12
    assert metrics.balanced_accuracy(confusion) == (6 / 8 + 3 / 4) / 2
    np.testing.assert_allclose(metrics.precision(confusion), [6 / 7, 3 / 5, 0])
    np.testing.assert_allclose(metrics.recall(confusion), [6 / 8, 3 / 4, 0])
    np.testing.assert_allclose(metrics.f1(confusion), [12 / 15, 6 / 9, 0])
    assert metrics.macro_f1(confusion) == pytest.approx((12 / 15 + 6 / 9) / 2)
    assert metrics.weighted_f1(confusion) == pytest.approx((8 * 12 / 15 + 4 * 6 / 9) / 12)


def test_truth_is_along_the_rows():
    assert out_of_fold(["water"], ["farm"]).confusion()[0, 1] == 1


def test_a_class_only_predicted_costs_the_others_and_is_not_averaged_in():
    confusion = np.array([[3, 1], [0, 0]])
    assert metrics.balanced_accuracy(confusion) == 3 / 4
    assert metrics.macro_f1(confusion) == pytest.approx(6 / 7)


def test_groups_are_sorted_and_sum_to_the_pool():
    label, predicted = ["water", "farm", "bog", "farm"], ["water", "water", "bog", "farm"]
    pool = out_of_fold(label, predicted)
    by_zone = pool.confusion_by(np.array(["b", "a", "b", "a"]))
    assert by_zone.shape == (2, 3, 3)
    np.testing.assert_array_equal(by_zone[0], [[0, 0, 0], [1, 1, 0], [0, 0, 0]])
    np.testing.assert_array_equal(by_zone.sum(axis=0), pool.confusion())


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
    low, high = zone_bootstrap(confusions, EvaluateSettings(bootstrap=2000, seed=1))["accuracy"]
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
    monkeypatch.setattr(metrics, "_BATCH", 37)
    assert zone_bootstrap(confusions, SETTINGS) == whole


def scattered(count=200):
    generator = np.random.default_rng(3)
    truth = np.array(NAMES)[generator.integers(0, 3, count)]
    predicted = np.where(generator.random(count) < 0.6, truth, np.array(NAMES)[generator.integers(0, 3, count)])
    zone = generator.integers(0, 9, count)
    return out_of_fold(truth, predicted, zone=[f"E{z}N0" for z in zone], fold=zone % 3)


def test_summary_does_not_depend_on_the_order_of_patches():
    pool = scattered()
    turned = OutOfFold(pool.classes, pool.table.sample(frac=1, random_state=0), pool.history, pool.test)
    assert summarize(turned, SETTINGS) == summarize(pool, SETTINGS)


def test_summary_holds_pool_interval_and_population_spread_over_folds():
    pool = scattered()
    summary = summarize(pool, SETTINGS)
    right = pool.table["label"] == pool.table["predicted"]
    by_fold = right.groupby(pool.table["fold"]).mean()
    accuracy = summary["zoned"]["accuracy"]
    assert accuracy["pooled"] == round(right.mean(), 4)
    assert accuracy["mean"] == round(by_fold.mean(), 4)
    assert accuracy["std"] == round(by_fold.std(ddof=0), 4)
    assert accuracy["low"] < accuracy["pooled"] < accuracy["high"]
    assert list(summary["zoned"]["f1"]) == NAMES
    assert (summary["patches"], summary["zones"]) == (200, 9)


def test_confusion_table_has_one_row_a_pair_in_the_order_of_the_classes():
    table = metrics.confusion_table(np.array([[3, 1], [0, 0]]), ["water", "bog"])
    assert table.to_dict("list") == {
        "actual": ["water", "water", "bog", "bog"],
        "predicted": ["water", "bog", "water", "bog"],
        "count": [3, 1, 0, 0],
        "share": [0.75, 0.25, 0.0, 0.0],
    }


def test_disagreement_by_hand():
    # Called: 7, 5, 0; in truth: 8, 4, 0. Of 3 errors 1 is of quantity, and 2 are a swap of places.
    confusion = np.array([[6, 2, 0], [1, 3, 0], [0, 0, 0]])
    assert metrics.quantity_disagreement(confusion) == 1 / 12
    assert metrics.allocation_disagreement(confusion) == 2 / 12


@pytest.mark.parametrize(
    ("confusion", "quantity", "allocation"),
    [
        ([[0, 4], [4, 0]], 0, 1),  # the numbers are right, the places all wrong
        ([[0, 4], [0, 4]], 0.5, 0),  # one class everywhere
        ([[5, 0], [0, 3]], 0, 0),
        ([[10, 4, 0], [2, 7, 3], [2, 0, 2]], 1 / 30, 10 / 30),
    ],
)
def test_disagreement_of_known_matrices(confusion, quantity, allocation):
    confusion = np.array(confusion)
    assert metrics.quantity_disagreement(confusion) == pytest.approx(quantity)
    assert metrics.allocation_disagreement(confusion) == pytest.approx(allocation)


def test_kappa_is_undefined_where_chance_is_never_wrong():
    assert np.isnan(metrics.kappa(np.array([[4, 0], [0, 0]])))


def test_class_table_is_long_and_its_intervals_are_of_zones():
    zones = np.array([[[3, 1], [0, 2]]] * 3)[:, None]  # three equal zones: no spread
    table = metrics.class_table(zones, ["water", "bog"], SETTINGS)
    assert list(table["score"]) == ["precision"] * 2 + ["recall"] * 2 + ["f1"] * 2
    assert list(table["class"]) == ["water", "bog"] * 3
    assert list(table["support"]) == [12, 6] * 3
    assert list(table["value"]) == [1.0, 0.6667, 0.75, 1.0, 0.8571, 0.8]
    assert list(table["low"]) == list(table["value"]) == list(table["high"])


def test_interval_of_a_class_is_of_the_resamples_that_have_it():
    # Bog is in one zone of four, and always right there; a third of the resamples leave it out.
    zones = np.zeros((4, 1, 3, 3), dtype=np.int64)
    zones[:, 0, 0, 0] = 5
    zones[0, 0, 1, 1] = 2
    table = metrics.class_table(zones, ["water", "bog", "farm"], SETTINGS).set_index(["class", "score"])
    for score in ("precision", "recall", "f1"):
        assert list(table.loc[("bog", score), ["value", "low", "high"]]) == [1, 1, 1]
        assert table.loc[("farm", score), "value"] == 0
        assert table.loc[("farm", score), ["low", "high"]].isna().all(), "never there, never called"


def test_class_table_of_repeats_is_their_mean():
    zoned, _ = two_splits(repeats=3)
    pooled = zoned.sum(axis=0)
    table = metrics.class_table(zoned, NAMES, SETTINGS)
    recall = table[table["score"] == "recall"]
    np.testing.assert_allclose(recall["value"], metrics.recall(pooled).mean(axis=0), atol=1e-4)
    assert list(recall["support"]) == list(metrics.support(pooled)[0])
    assert (table["low"] < table["value"]).all()
    assert (table["value"] < table["high"]).all()


@given(zones_of_confusions(), st.integers(0, 2**16))
@hypothesis_settings(max_examples=30, deadline=None)
def test_class_intervals_are_ordered_and_within_0_and_1(confusions, seed):
    settings = EvaluateSettings(bootstrap=100, seed=seed)
    table = metrics.class_table(confusions[:, None], [f"c{i}" for i in range(confusions.shape[-1])], settings)
    found = table.dropna()
    assert ((found["low"] >= 0) & (found["low"] <= found["high"]) & (found["high"] <= 1)).all()


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
    zoned, _ = two_splits()
    settings = EvaluateSettings(bootstrap=4000, seed=0)
    turned = zone_bootstrap(zoned[::-1, 0], settings)
    for name, ends in zone_bootstrap(zoned[:, 0], settings).items():
        assert ends == pytest.approx(turned[name], abs=0.01)


def test_more_zones_of_the_same_kind_make_an_interval_narrower():
    zoned, _ = two_splits()
    few, many = (zone_bootstrap(np.repeat(zoned[:, 0], times, axis=0), SETTINGS) for times in (1, 16))
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
    zoned, random = two_splits()
    found = metrics.compare_splits(zoned, random, SETTINGS)
    for part, confusions in (("zoned", zoned), ("random", random)):
        for name, (low, high) in zone_bootstrap(confusions[:, 0], SETTINGS).items():
            pooled = float(HEADLINE[name](confusions[:, 0].sum(axis=0)))
            assert found[part][name] == {"pooled": round(pooled, 4), "low": round(low, 4), "high": round(high, 4)}


def test_a_split_has_no_gap_to_itself_in_any_resample():
    zoned, _ = two_splits()
    for gap in metrics.compare_splits(zoned, zoned, SETTINGS)["gap"].values():
        assert gap == {"pooled": 0, "low": 0, "high": 0}


def test_the_gap_is_paired_over_zones():
    # Zones differ far more than the splits do: in each zone of 10, random is right on one patch more.
    right = np.arange(9)
    zoned, random = (np.zeros((9, 1, 2, 2), dtype=np.int64) for _ in range(2))
    for part, more in ((zoned, 0), (random, 1)):
        part[:, 0, 0, 0], part[:, 0, 0, 1] = right + more, 10 - right - more
    found = metrics.compare_splits(zoned, random, SETTINGS)
    assert found["gap"]["accuracy"] == {"pooled": 0.1, "low": 0.1, "high": 0.1}
    assert found["zoned"]["accuracy"]["high"] - found["zoned"]["accuracy"]["low"] > 0.2


def test_a_gap_changes_its_sign_with_its_sides():
    zoned, random = two_splits()
    gap, turned = (metrics.compare_splits(*pair, SETTINGS)["gap"] for pair in ((zoned, random), (random, zoned)))
    for name in HEADLINE:
        assert gap[name]["pooled"] == -turned[name]["pooled"] > 0
        assert gap[name]["low"] == pytest.approx(-turned[name]["high"], abs=1e-4)


def test_repeats_count_alike():
    zoned, random = two_splits(repeats=3)
    found = metrics.compare_splits(zoned, random, SETTINGS)
    mean = np.mean([metrics.macro_f1(zoned[:, repeat].sum(axis=0)) for repeat in range(3)])
    assert found["zoned"]["macro_f1"]["pooled"] == round(mean, 4)
    same = [np.repeat(part[:, :1], 3, axis=1) for part in (zoned, random)]
    assert metrics.compare_splits(*same, SETTINGS) == metrics.compare_splits(zoned[:, :1], random[:, :1], SETTINGS)
