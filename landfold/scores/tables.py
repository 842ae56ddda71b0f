"""Tables of out-of-fold predictions: by pair of classes, class, zone and comparison."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas

from landfold.scores.intervals import Draws, compare, leave_one_out, share_interval
from landfold.scores.metrics import Score, f1, precision, predicted, ratio, recall, rounded, support
from landfold.scores.predictions import OutOfFoldPredictions


def confusion_table(confusion: np.ndarray, classes: list[str]) -> pandas.DataFrame:
    """One row for each pair of classes: actual, predicted, count, and count's share of the actual class."""
    share = ratio(confusion, np.broadcast_to(support(confusion)[:, None], confusion.shape))
    return pandas.DataFrame(
        {
            "actual": np.repeat(classes, len(classes)),
            "predicted": np.tile(classes, len(classes)),
            "count": confusion.ravel(),
            "share": share.ravel().round(4),
        }
    )


def class_scores(confusions: np.ndarray, classes: list[str]) -> list[dict[str, Any]]:
    """Support, precision, recall and F1 of each class: ``per_class`` in `landfold.scores.summary`.

    ``confusions`` is (zone, repeat, class, class); a value is the mean over repeats, its support that of one repeat.
    ``low`` and ``high`` are the 95 % interval over zones, None where the score is not defined: recall of a class that
    does not occur and its F1, precision of one that is not predicted.
    """
    rows = [
        {"class": name, "support": int(n)} for name, n in zip(classes, support(confusions[:, 0].sum(0)), strict=True)
    ]
    for name, (score, whole) in _CLASS_SCORES.items():
        values, without = leave_one_out(confusions, score)
        sizes = whole(confusions).sum(axis=1)
        for i, row in enumerate(rows):
            ends = share_interval(values[i], without[:, i], sizes[:, i]) if sizes[:, i].any() else (np.nan, np.nan)
            row[name] = dict(zip(("pooled", "low", "high"), map(defined, (values[i], *ends)), strict=True))
    return rows


def class_table(per_class: list[dict[str, Any]]) -> pandas.DataFrame:
    """`class_scores` in long form: class, support, score, value, low, high."""
    rows = [(row["class"], row["support"], name, *row[name].values()) for name in _CLASS_SCORES for row in per_class]
    return pandas.DataFrame(rows, columns=["class", "support", "score", "value", "low", "high"])


def defined(value: float) -> float | None:
    """Rounded; None for NaN, which JSON does not have."""
    return None if np.isnan(value) else rounded(value)


def _counted_by_f1(confusions: np.ndarray) -> np.ndarray:
    """(zone, repeat, class, class) to (zone, repeat, class): 0 where the class does not occur at all."""
    return (support(confusions) + predicted(confusions)) * (support(confusions.sum(axis=0)) > 0)


_CLASS_SCORES: dict[str, tuple[Score, Score]] = {
    "precision": (precision, predicted),
    "recall": (recall, support),
    "f1": (f1, _counted_by_f1),
}
"""Each with the number of patches that it counts."""


def zone_scores(pool: OutOfFoldPredictions) -> pandas.DataFrame:
    """One row a zone of the first repeat, by name: zone, fold, patches, accuracy, distance_m.

    The accuracy is the mean over all repeats, and ``distance_m`` the mean distance to the nearest training patch.
    """
    rows = pool.table[["zone", "fold", "repeat", "distance_m"]].assign(
        correct=(pool.table["label"] == pool.table["predicted"]).astype(float)
    )
    groups = rows.groupby("zone", sort=True)
    return pandas.DataFrame(
        {
            "fold": groups["fold"].min(),  # those of later repeats are higher
            "patches": groups.size() // rows["repeat"].nunique(),
            "accuracy": groups["correct"].mean().round(4),
            "distance_m": groups["distance_m"].mean().round(1),
        }
    ).reset_index()


def zone_summary(by_zone: pandas.DataFrame, of: str, least: int) -> dict[str, Any]:
    """The worst zone and the median; see ``zone_summary`` in `landfold.scores.summary`.

    Args:
        by_zone: columns ``zone``, ``accuracy`` and that of the counts.
        of: what is counted: patches or pixels.
        least: a zone with fewer of them is not called the worst where there are larger ones.
    """
    large = by_zone[by_zone[of] >= least]
    ranked = (large if len(large) else by_zone).sort_values(["accuracy", of, "zone"], ascending=[True, False, True])
    return {
        "worst": ranked[:1].to_dict("records")[0],
        "median_accuracy": rounded(by_zone["accuracy"].median()),
        f"least_{of}": least,
    }


def comparison_rows(
    comparison: str, of: str, against: str, scores: tuple[dict[str, Any], dict[str, Any], dict[str, Any]]
) -> list[dict[str, Any]]:
    """Rows of ``comparisons`` in `landfold.scores.summary`, one a headline score.

    Args:
        comparison: name of the pair.
        of: name of the second.
        against: name of the first, which is subtracted.
        scores: of the first and the second, and their differences, as `landfold.scores.intervals.compare` gives them.
    """
    first, second, differences = scores
    return [
        {
            "comparison": comparison,
            "of": of,
            "against": against,
            "score": name,
            "of_value": second[name]["pooled"],
            "against_value": first[name]["pooled"],
            "difference": difference["pooled"],
            "low": difference["low"],
            "high": difference["high"],
        }
        for name, difference in differences.items()
    ]


def comparisons(pool: OutOfFoldPredictions, draws: Draws) -> list[dict[str, Any]]:
    """Paired differences, one row a pair and headline score: see ``comparisons`` in `landfold.scores.summary`."""
    spatial = pool.zone_confusions()
    pairs = [("over_baseline", "network", "baseline", pool.zone_confusions("predicted_baseline"), spatial, {})]
    if "predicted_random" in pool.table:
        pairs.append(("gap", "random", "zoned", spatial, pool.zone_confusions("predicted_random"), draws.both))
    return [
        row
        for comparison, of, against, first, second, extra_sd in pairs
        for row in comparison_rows(comparison, of, against, compare(first, second, extra_sd))
    ]


def plot_tables(scores: Mapping[str, Any]) -> dict[str, pandas.DataFrame]:
    """What `dvc plots` draws, by the name of its file: of pixels where the network is one of pixels, else of patches.

    The comparisons are all there are, those of patches first. ``scores`` are those of metrics/scores.json.
    """
    shown = scores.get("pixels", scores)
    return {
        "confusion": confusion_table(np.array(shown["confusion"]), scores["classes"]),
        "per_class": class_table(shown["per_class"]),
        "reliability": pandas.DataFrame(shown["calibration"]["reliability"]),
        "zones": pandas.DataFrame(shown["per_zone"]),
        "comparisons": pandas.DataFrame(scores["comparisons"] + scores.get("pixels", {}).get("comparisons", [])),
    }
