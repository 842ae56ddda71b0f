import dataclasses
import json

import geopandas
import numpy as np
import pandas
import pytest
from scipy.special import softmax
from sklearn.metrics import cohen_kappa_score, f1_score, log_loss

from landfold.scores.intervals import Draws, effective_zones, headline_scores
from landfold.scores.predictions import OutOfFoldPredictions
from landfold.scores.summary import score_summary, score_tables

CLASSES = ["water", "farm", "bog", "lava"]  # lava never occurs


def pool(*, zones=12, repeats=1, random=True, count=240):
    generator = np.random.default_rng(5)
    truth, zone = generator.integers(0, 3, count), generator.integers(0, zones, count)
    parts = []
    for repeat in range(repeats):
        logits = 2 * np.eye(4)[truth] + 2 * generator.normal(size=(count, 4))
        probabilities = softmax(logits, axis=1).astype(np.float32)
        names = np.array(CLASSES)
        part = {
            "label": names[truth],
            "predicted": names[probabilities.argmax(axis=1)],
            "predicted_baseline": names[np.where(generator.random(count) < 0.4, truth, 1)],
            "predicted_random": names[np.where(generator.random(count) < 0.9, truth, 1)],
            "zone": [f"E{z:02}N0" for z in zone],
            "fold": zone % 3 + 3 * repeat,
            "repeat": repeat,
            "distance_m": 100.0 * zone,
        }
        parts.append(pandas.DataFrame(part | {f"p_{n}": probabilities[:, i] for i, n in enumerate(CLASSES)}))
    table = geopandas.GeoDataFrame(pandas.concat(parts, ignore_index=True))
    return OutOfFoldPredictions(
        CLASSES, table if random else table.drop(columns="predicted_random"), pandas.DataFrame(), table[:0]
    )


def test_all_that_the_docstring_names_is_there_and_is_json():
    found = score_tables(pool())
    assert set(found) == {
        *(
            "classes",
            "baseline",
            "patches",
            "zones",
            "effective_zones",
            "repeats",
            "headline",
            "pooled",
            "kappa",
            "confusion",
            "per_class",
        ),
        *("per_fold", "per_zone", "zone_summary", "random", "comparisons", "calibration", "warnings"),
    }
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_summary_and_the_tables_say_the_same():
    summary, found = summarized(pool()), score_tables(pool())
    zoned = summary["zoned"]
    for name, score in found["headline"].items():
        assert {key: zoned[name][key] for key in score} == score
    assert {name: zoned[name] for name in found["pooled"]} == found["pooled"]
    assert {row["class"]: row["f1"]["pooled"] for row in found["per_class"]} == zoned["f1"]
    assert zoned["ece_scaled"] == found["calibration"]["after"]["ece"]
    for row in found["comparisons"]:
        expected = summary[row["comparison"]][row["score"]]
        assert {"pooled": row["difference"], "low": row["low"], "high": row["high"]} == expected


def test_numbers_are_those_of_scikit_learn():
    pooled = pool()
    found, table = score_tables(pooled), pooled.table
    assert found["kappa"]["value"] == pytest.approx(cohen_kappa_score(table["label"], table["predicted"]), abs=1e-4)
    assert "Pontius and Millones 2011" in found["kappa"]["caveat"]
    f1 = f1_score(table["label"], table["predicted"], labels=CLASSES, average=None, zero_division=0)
    assert [row["f1"]["pooled"] for row in found["per_class"]] == pytest.approx(list(f1), abs=1e-4)
    for row in found["per_fold"]:
        own = (table["fold"] == row["fold"]).to_numpy()
        expected = log_loss(pooled.truth[own], pooled.probabilities[own], labels=range(4))
        assert (row["patches"], row["log_loss"]) == (own.sum(), pytest.approx(expected, abs=1e-4))
    pooled_scores = found["pooled"]
    assert 1 - found["headline"]["accuracy"]["pooled"] == pytest.approx(
        pooled_scores["quantity_disagreement"] + pooled_scores["allocation_disagreement"], abs=2e-4
    )


def test_a_class_that_never_occurs_has_no_interval():
    pooled = pool()
    lava = score_tables(pooled)["per_class"][3]
    assert (lava["class"], lava["support"]) == ("lava", 0)
    assert lava["recall"] == lava["f1"] == {"pooled": 0, "low": None, "high": None}
    calls = pooled.table[pooled.table["predicted"] == "lava"].groupby("zone").size().to_numpy()
    high = 1 - 0.025 ** (1 / effective_zones(calls))
    assert lava["precision"] == {"pooled": 0, "low": 0, "high": round(high, 4)}, "it is predicted, and always wrongly"


def test_a_tiny_zone_is_not_the_worst():
    pooled = pool()
    pooled.table.loc[0, ["zone", "label", "predicted"]] = ["E99N0", "water", "bog"]
    found = score_tables(pooled)
    assert next(row for row in found["per_zone"] if row["zone"] == "E99N0")["accuracy"] == 0
    large = [row for row in found["per_zone"] if row["patches"] >= 10]
    assert found["zone_summary"]["worst"] == min(large, key=lambda row: row["accuracy"])
    median = np.median([row["accuracy"] for row in found["per_zone"]])
    assert found["zone_summary"]["median_accuracy"] == pytest.approx(median, abs=1e-4)


def test_where_all_zones_are_tiny_one_of_them_is_the_worst():
    worst = score_tables(pool(zones=60, count=120))["zone_summary"]["worst"]
    assert worst["accuracy"] == 0


@pytest.mark.parametrize(("zones", "warned"), [(9, True), (12, False)])
def test_a_small_effective_number_of_zones_is_told_and_warned_of(zones, warned):
    pooled = pool(zones=zones)
    found = score_tables(pooled)
    sizes = pooled.table.groupby("zone").size()
    effective = round(sizes.sum() ** 2 / (sizes**2).sum(), 1)
    assert effective < zones
    assert found["effective_zones"] == summarized(pooled)["effective_zones"] == effective
    expected = [f"{zones} zones count as {effective} of equal size: intervals over fewer than 10 zones"]
    assert [warning[: len(expected[0])] for warning in found["warnings"]] == (expected if warned else [])


def test_zones_that_are_many_but_unequal_are_warned_of():
    pooled = pool()
    pooled.table.loc[pooled.table.index[12:], "zone"] = "E00N0"
    (warning,) = score_tables(pooled)["warnings"]
    assert " zones count as 1.1 of equal size" in warning


def test_few_zones_of_the_test_region_are_warned_of():
    pooled = pool()
    with_test = OutOfFoldPredictions(CLASSES, pooled.table, pooled.history, pooled.table[pooled.table["zone"] < "E03"])
    (warning,) = score_tables(with_test)["warnings"]
    assert warning.startswith("3 zones in the test region count as ")


def test_repeats_are_averaged_and_counted_once():
    pooled = pool(repeats=3)
    found = score_tables(pooled)
    singles = [
        score_tables(
            OutOfFoldPredictions(CLASSES, part.assign(repeat=0, fold=part["fold"] % 3), pooled.history, pooled.test)
        )
        for _, part in pooled.table.groupby("repeat")
    ]
    for name in found["pooled"]:
        assert found["pooled"][name] == pytest.approx(np.mean([one["pooled"][name] for one in singles]), abs=1e-4), name
    assert found["kappa"]["value"] == pytest.approx(np.mean([one["kappa"]["value"] for one in singles]), abs=1e-4)
    assert (found["patches"], found["repeats"], len(found["per_fold"])) == (240, 3, 9)
    assert [row["support"] for row in found["per_class"]] == [row["support"] for row in singles[0]["per_class"]]
    assert sum(row["patches"] for row in found["per_zone"]) == 240
    assert {row["fold"] for row in found["per_zone"]} == {0, 1, 2}
    assert np.sum(found["confusion"]) == 720
    after = np.mean([one["calibration"]["after"]["ece"] for one in singles])
    assert found["calibration"]["after"]["ece"] == pytest.approx(after, abs=1e-4)


def test_headline_intervals_are_over_zones():
    pooled = pool()
    assert score_tables(pooled)["headline"] == headline_scores(pooled.zone_confusions())


def summarized(predictions):
    return score_summary(predictions, score_tables(predictions))


def test_summary_does_not_depend_on_the_order_of_patches():
    pooled = pool()
    shuffled = dataclasses.replace(pooled, table=pooled.table.sample(frac=1, random_state=0))
    assert summarized(shuffled) == summarized(pooled)


def test_summary_holds_pool_interval_and_population_spread_over_folds():
    pooled = pool()
    summary = summarized(pooled)
    correct = pooled.table["label"] == pooled.table["predicted"]
    by_fold = correct.groupby(pooled.table["fold"]).mean()
    accuracy = summary["zoned"]["accuracy"]
    assert accuracy["pooled"] == round(correct.mean(), 4)
    assert accuracy["mean"] == round(by_fold.mean(), 4)
    assert accuracy["std"] == round(by_fold.std(ddof=0), 4)
    assert accuracy["low"] < accuracy["pooled"] < accuracy["high"]
    assert list(summary["zoned"]["f1"]) == CLASSES
    assert (summary["patches"], summary["zones"]) == (240, 12)


def test_what_other_partitions_and_deals_would_change_widens_intervals():
    pooled = pool()
    narrow, wide = (
        score_tables(pooled, draws={"patches": Draws(*({"accuracy": deviation} for deviation in pair))})
        for pair in ((0.0, 0.0), (0.03, 0.04))
    )

    def below(score: dict[str, float], value: str = "pooled") -> float:
        return score[value] - score["low"]

    for name, deviation in (("headline", 0.03), ("random", 0.04)):
        before, after = narrow[name]["accuracy"], wide[name]["accuracy"]
        assert before["pooled"] == after["pooled"]
        assert below(after) == pytest.approx(np.hypot(below(before), 1.96 * deviation), abs=2e-4)
        assert narrow[name]["macro_f1"] == wide[name]["macro_f1"]
    before, after = (
        next(row for row in found["comparisons"] if row["comparison"] == "gap") for found in (narrow, wide)
    )
    expected = np.hypot(below(before, "difference"), 1.96 * 0.05)
    assert below(after, "difference") == pytest.approx(expected, abs=2e-4)
