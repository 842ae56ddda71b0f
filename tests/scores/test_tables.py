import numpy as np
import pandas
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings

from landfold.scores import metrics
from landfold.scores.intervals import NO_DRAWS, headline_scores
from landfold.scores.metrics import HEADLINE
from landfold.scores.summary import score_tables
from landfold.scores.tables import (
    class_scores,
    class_table,
    comparisons,
    confusion_table,
    zone_scores,
)
from tests.scores.test_intervals import two_splits, zones_of_confusions
from tests.scores.test_summary import pool

NAMES = ["water", "farm", "bog"]  # not in alphabetical order: the order is the settings'


def test_confusion_table_has_one_row_a_pair_in_the_order_of_the_classes():
    table = confusion_table(np.array([[3, 1], [0, 0]]), ["water", "bog"])
    assert table.to_dict("list") == {
        "actual": ["water", "water", "bog", "bog"],
        "predicted": ["water", "bog", "water", "bog"],
        "count": [3, 1, 0, 0],
        "share": [0.75, 0.25, 0.0, 0.0],
    }


def test_class_table_is_long_and_its_intervals_are_of_zones():
    zones = np.array([[[3, 1], [0, 2]], [[4, 0], [0, 2]], [[2, 2], [0, 2]]])[:, None]
    table = class_table(class_scores(zones, ["water", "bog"]))
    assert list(table["score"]) == ["precision"] * 2 + ["recall"] * 2 + ["f1"] * 2
    assert list(table["class"]) == ["water", "bog"] * 3
    assert list(table["support"]) == [12, 6] * 3
    assert list(table["value"]) == [1.0, 0.6667, 0.75, 1.0, 0.8571, 0.8]
    accuracy = headline_scores(zones[:, :, :1])["accuracy"]  # of water alone it is the recall of water
    assert list(table.loc[2, ["low", "high"]]) == [accuracy["low"], accuracy["high"]]


def test_interval_of_a_class_is_of_the_zones_that_have_it():
    # Bog is in one zone of four, and always right there; farm never occurs and is never predicted.
    zones = np.zeros((4, 1, 3, 3), dtype=np.int64)
    zones[:, 0, 0, 0] = 5
    zones[0, 0, 1, 1] = 2
    table = class_table(class_scores(zones, ["water", "bog", "farm"])).set_index(["class", "score"])
    for score in ("precision", "recall", "f1"):
        assert list(table.loc[("bog", score), ["value", "low", "high"]]) == [1, 0.025, 1], "one observation"
        assert list(table.loc[("water", score), ["value", "low", "high"]]) == [1, round(0.025**0.25, 4), 1]
        assert table.loc[("farm", score), "value"] == 0
        assert table.loc[("farm", score), ["low", "high"]].isna().all(), "never there, never predicted"


def test_f1_of_a_class_feels_the_zones_in_which_it_is_only_predicted():
    zones = np.zeros((5, 1, 2, 2), dtype=np.int64)
    zones[:, 0, 0, 0] = 9
    zones[0, 0, 1, 1] = 9
    (certain,) = class_scores(zones, ["water", "bog"])[1:]
    zones[1:, 0, 0, 1] = 1, 0, 9, 3
    (wrong,) = class_scores(zones, ["water", "bog"])[1:]
    assert wrong["f1"]["pooled"] < certain["f1"]["pooled"] == 1
    assert wrong["recall"] == certain["recall"]


def test_class_table_of_repeats_is_their_mean():
    spatial, _ = two_splits(repeats=3)
    pooled = spatial.sum(axis=0)
    table = class_table(class_scores(spatial, NAMES))
    recall = table[table["score"] == "recall"]
    np.testing.assert_allclose(recall["value"], metrics.recall(pooled).mean(axis=0), atol=1e-4)
    assert list(recall["support"]) == list(metrics.support(pooled)[0])
    assert (table["low"] < table["value"]).all()
    assert (table["value"] < table["high"]).all()


@given(zones_of_confusions())
@hypothesis_settings(max_examples=30, deadline=None)
def test_class_intervals_are_ordered_and_within_0_and_1(confusions):
    names = [f"c{i}" for i in range(confusions.shape[-1])]
    table = class_table(class_scores(confusions[:, None], names))
    ends = table.dropna()[["low", "high"]]
    assert ((ends["low"] >= 0) & (ends["low"] <= ends["high"]) & (ends["high"] <= 1)).all()


def test_every_zone_has_its_accuracy_and_distance():
    pooled = pool()
    by_zone = zone_scores(pooled)
    assert list(by_zone["zone"]) == [f"E{z:02}N0" for z in range(12)]
    assert list(by_zone["fold"]) == [z % 3 for z in range(12)]
    assert list(by_zone["distance_m"]) == [100.0 * z for z in range(12)]
    assert by_zone["patches"].sum() == 240
    right = np.average(by_zone["accuracy"], weights=by_zone["patches"])
    assert right == pytest.approx(score_tables(pooled)["headline"]["accuracy"]["pooled"], abs=1e-4)


def test_comparisons_are_of_what_was_trained():
    both, one = (pandas.DataFrame(comparisons(pool(random=random), NO_DRAWS)) for random in (True, False))
    assert list(both["comparison"]) == ["over_baseline"] * 3 + ["gap"] * 3
    assert list(both["score"]) == list(HEADLINE) * 2
    assert list(both["of"] + "-" + both["against"]) == ["network-baseline"] * 3 + ["random-zoned"] * 3
    assert list(one["comparison"]) == ["over_baseline"] * 3
    difference = both["of_value"] - both["against_value"]
    assert list(both["difference"]) == pytest.approx(list(difference), abs=1.1e-4)
    assert (both["low"] <= both["difference"]).all()
    assert (both["difference"] <= both["high"]).all()
    assert (both["low"] > 0).any()
