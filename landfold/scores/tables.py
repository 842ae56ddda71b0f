"""What metrics/scores.json holds: every table behind the headline of metrics/summary.json.

All numbers are rounded to 4 digits (metres to 1). A score ``{"pooled", "low", "high"}`` has its zone-bootstrap 95 %
interval; ``low`` and ``high`` are null where no resample defines the score. A null number is one that is not defined.
With repeats a score is pooled within each repeat and then averaged; counts are those of one repeat, except in
``confusion`` and ``calibration.reliability``, which count every repeat.

``classes``: their names, in the order of all tables.
``patches``, ``zones``, ``repeats``: numbers; ``zones`` are those of the first repeat, which are resampled.
``headline``: score name (accuracy, balanced_accuracy, macro_f1) to ``{"pooled", "low", "high"}``.
``pooled``: plain numbers: weighted_f1, top2, log_loss, brier, ece, quantity_disagreement, allocation_disagreement.
``kappa``: ``{"value", "caveat"}``, the caveat one or two sentences to print beside it.
``confusion``: rows of counts, truth along the rows, prediction along the columns, both in the order of ``classes``.
``per_class``: a list of ``{"class", "support", "precision", "recall", "f1"}``: precision is user's accuracy, recall
producer's, each a ``{"pooled", "low", "high"}``.
``per_fold``: a list of ``{"fold", "repeat", "patches", "accuracy", "balanced_accuracy", "macro_f1", "log_loss",
"temperature"}``.
``per_zone``: a list, by name, of ``{"zone", "fold", "patches", "accuracy", "distance_m"}``: the fold in the first
repeat, and the mean distance of its patches to the nearest training patch, metres.
``zone_summary``: ``{"worst": a row of per_zone, "median_accuracy", "least_patches"}``: the worst zone of those with
``least_patches`` or more, or of all zones where there is none so large; the median is over all zones.
``comparisons``: a list, one a pair and headline score, of ``{"comparison", "of", "against", "score", "of_value",
"against_value", "difference", "low", "high"}``: difference is of_value less against_value, paired over the resamples.
``comparison`` is over_baseline (of network, against baseline: band statistics) and, where the network was trained
under the random folds, too, gap (of random, against zoned: the network under both).
``calibration``: ``bins`` (number of bins of equal width of the confidence), ``clip`` (least probability in a
logarithm), ``before`` and ``after`` temperature scaling ``{"log_loss", "brier", "ece"}``, ``temperatures``, a list of
``{"fold", "temperature", "fitted_on" (patches), "log_loss_before", "log_loss_after"}``, and ``reliability``, a list
of ``{"scaled", "bin", "low", "high", "count", "confidence", "accuracy"}``, bins without a patch left out.
``warnings``: sentences, empty where there is nothing to warn of.
"""

from typing import Any

import numpy as np
import pandas

from landfold.scores.calibration import BINS, CLIP, brier, calibration_error, log_loss, reliability, top_accuracy
from landfold.scores.metrics import (
    FEW_ZONES,
    HEADLINE,
    KAPPA_CAVEAT,
    allocation_disagreement,
    class_table,
    compare,
    compare_splits,
    f1,
    kappa,
    quantity_disagreement,
    rounded,
    weighted_f1,
    zone_bootstrap,
)
from landfold.scores.predictions import OutOfFold
from landfold.scores.settings import EvaluateSettings

LEAST_PATCHES = 10
"""A zone with fewer patches is not called the worst: by chance alone some of those have nothing right."""


def summarize(found: OutOfFold, settings: EvaluateSettings) -> dict[str, Any]:
    """What metrics/summary.json holds, rounded to 4 digits.

    A headline score under ``zoned`` has ``pooled`` (over the out-of-fold predictions of a repeat, averaged over
    repeats), ``low`` and ``high`` (its zone-bootstrap 95 % interval), ``mean`` and ``std`` over folds (the
    population's standard deviation: these are all the folds there are). The others are plain numbers; ``ece_scaled``
    is the expected calibration error after temperature scaling. ``over_baseline`` is what the network has
    over band statistics on the same patches, paired (their scores are in metrics/audit.json). ``random`` and
    ``gap`` (random less zoned, paired) are there where the network was trained under the random folds, too;
    ``test`` where there is a test region. All else is in metrics/scores.json (see `tables`):
    `dvc exp show` gives a column to every number here.
    """
    zones = found.zone_confusions()
    pooled = zones.sum(axis=0)
    folds = found.confusion_by(found.table["fold"].to_numpy())
    scores: dict[str, Any] = _scores(zones, settings)
    for name, score in HEADLINE.items():
        by_fold = score(folds)
        scores[name] |= {"mean": rounded(by_fold.mean()), "std": rounded(by_fold.std())}
    scores |= _plain(found, pooled) | {"ece_scaled": _probability_scores(found, found.scaling.probabilities)["ece"]}
    scores["f1"] = dict(zip(found.classes, map(rounded, f1(pooled).mean(axis=0)), strict=True))
    _, _, over = compare(found.zone_confusions("predicted_baseline"), zones, settings)
    summary = {"zoned": scores, "over_baseline": over, "patches": _patches(found), "zones": len(zones)}
    if "predicted_random" in found.table:
        compared = compare_splits(zones, found.zone_confusions("predicted_random"), settings)
        summary |= {part: compared[part] for part in ("random", "gap")}
    if len(found.test):
        counts = found.confusions_of_test()
        summary["test"] = _scores(counts, settings) | {"patches": len(found.test), "zones": len(counts)}
    return summary


def _patches(found: OutOfFold) -> int:
    """Of one repeat."""
    return len(found.table) // found.table["repeat"].nunique()


def _scores(zones: np.ndarray, settings: EvaluateSettings) -> dict[str, dict[str, float]]:
    """Pooled, low and high of every headline score, of counts by zone and, if there are several, by repeat."""
    intervals = zone_bootstrap(zones, settings)
    return {
        name: dict(
            zip(
                ("pooled", "low", "high"),
                map(rounded, (np.mean(score(zones.sum(axis=0))), *intervals[name])),
                strict=True,
            )
        )
        for name, score in HEADLINE.items()
    }


def _plain(found: OutOfFold, pooled: np.ndarray) -> dict[str, float]:
    """The scores that are given without an interval; ``pooled`` is (repeat, class, class)."""
    repeats, truth = found.table["repeat"].to_numpy(), found.truth
    top2 = [top_accuracy(found.probabilities[repeats == i], truth[repeats == i], 2) for i in np.unique(repeats)]
    return {
        "weighted_f1": rounded(weighted_f1(pooled).mean()),
        "top2": rounded(np.mean(top2)),
        **_probability_scores(found, found.probabilities),
        "quantity_disagreement": rounded(quantity_disagreement(pooled).mean()),
        "allocation_disagreement": rounded(allocation_disagreement(pooled).mean()),
    }


def _probability_scores(found: OutOfFold, probabilities: np.ndarray) -> dict[str, float]:
    """Log loss, Brier score and expected calibration error, each the mean over repeats."""
    repeats, truth = found.table["repeat"].to_numpy(), found.truth
    scores = {"log_loss": log_loss, "brier": brier, "ece": calibration_error}
    return {
        name: rounded(np.mean([score(probabilities[repeats == i], truth[repeats == i]) for i in np.unique(repeats)]))
        for name, score in scores.items()
    }


def tables(found: OutOfFold, settings: EvaluateSettings) -> dict[str, Any]:
    """What metrics/scores.json holds: see the module's docstring."""
    zones = found.zone_confusions()
    pooled = zones.sum(axis=0)
    chance_corrected = kappa(pooled).mean()
    by_zone = zone_table(found)
    return {
        "classes": found.classes,
        "patches": _patches(found),
        "zones": len(zones),
        "repeats": pooled.shape[0],
        "headline": _scores(zones, settings),
        "pooled": _plain(found, pooled),
        "kappa": {"value": _number(chance_corrected), "caveat": KAPPA_CAVEAT},
        "confusion": found.confusion().tolist(),
        "per_class": _per_class(class_table(zones, found.classes, settings)),
        "per_fold": _per_fold(found),
        "per_zone": _records(by_zone),
        "zone_summary": _zone_summary(by_zone),
        "comparisons": _records(comparison_table(found, settings)),
        "calibration": _calibration(found),
        "warnings": warnings(found),
    }


def warnings(found: OutOfFold) -> list[str]:
    """What speaks against the intervals."""
    counted = {"zones": found.table["zone"].nunique()}
    if len(found.test):
        counted["zones in the test region"] = found.test["zone"].nunique()
    return [
        f"{number} {what}: intervals over fewer than {FEW_ZONES} zones are too narrow; make smaller zones "
        "(zones.block_size_m) as far as errors do not resemble each other over them, or label more ground"
        for what, number in counted.items()
        if number < FEW_ZONES
    ]


def zone_table(found: OutOfFold) -> pandas.DataFrame:
    """One row a zone of the first repeat, by name: zone, fold, patches, accuracy, distance_m.

    The accuracy is the mean over all repeats, and ``distance_m`` the mean distance to the nearest training patch.
    """
    rows = found.table[["zone", "fold", "repeat", "distance_m"]].assign(
        right=(found.table["label"] == found.table["predicted"]).astype(float)
    )
    groups = rows.groupby("zone", sort=True)
    return pandas.DataFrame(
        {
            "fold": groups["fold"].min(),  # those of later repeats are higher
            "patches": groups.size() // rows["repeat"].nunique(),
            "accuracy": groups["right"].mean().round(4),
            "distance_m": groups["distance_m"].mean().round(1),
        }
    ).reset_index()


def _zone_summary(by_zone: pandas.DataFrame) -> dict[str, Any]:
    large = by_zone[by_zone["patches"] >= LEAST_PATCHES]
    ranked = (large if len(large) else by_zone).sort_values(
        ["accuracy", "patches", "zone"], ascending=[True, False, True]
    )
    return {
        "worst": _records(ranked[:1])[0],
        "median_accuracy": rounded(by_zone["accuracy"].median()),
        "least_patches": LEAST_PATCHES,
    }


def comparison_table(found: OutOfFold, settings: EvaluateSettings) -> pandas.DataFrame:
    """Paired differences, one row a pair and headline score, with the columns of ``comparisons`` in the docstring."""
    zones = found.zone_confusions()
    pairs = [("over_baseline", "network", "baseline", found.zone_confusions("predicted_baseline"), zones)]
    if "predicted_random" in found.table:
        pairs.append(("gap", "random", "zoned", zones, found.zone_confusions("predicted_random")))
    rows = []
    for comparison, of, against, first, second in pairs:
        before, after, difference = compare(first, second, settings)
        rows += [
            {
                "comparison": comparison,
                "of": of,
                "against": against,
                "score": name,
                "of_value": after[name]["pooled"],
                "against_value": before[name]["pooled"],
                "difference": difference[name]["pooled"],
                "low": difference[name]["low"],
                "high": difference[name]["high"],
            }
            for name in HEADLINE
        ]
    return pandas.DataFrame(rows)


def reliability_table(found: OutOfFold) -> pandas.DataFrame:
    """`landfold.scores.calibration.reliability` before and after temperature scaling: column ``scaled``, bool."""
    parts = [
        reliability(probabilities, found.truth).assign(scaled=scaled)
        for scaled, probabilities in ((False, found.probabilities), (True, found.scaling.probabilities))
    ]
    whole = pandas.concat(parts, ignore_index=True).round(4)
    return whole[["scaled", *whole.columns.drop("scaled")]]


def _per_class(long: pandas.DataFrame) -> list[dict[str, Any]]:
    return [
        {"class": name, "support": int(rows["support"].iloc[0])}
        | {
            row.score: {"pooled": row.value, "low": _number(row.low), "high": _number(row.high)}
            for row in rows.itertuples()
        }
        for name, rows in long.groupby("class", sort=False)
    ]


def _per_fold(found: OutOfFold) -> list[dict[str, Any]]:
    folds = found.table["fold"].to_numpy()
    temperatures = found.scaling.temperatures.set_index("fold")
    rows = []
    for fold, counts in zip(np.unique(folds), found.confusion_by(folds), strict=True):
        own = folds == fold
        rows.append(
            {
                "fold": int(fold),
                "repeat": int(found.table["repeat"].to_numpy()[own][0]),
                "patches": int(own.sum()),
                **{name: rounded(score(counts)) for name, score in HEADLINE.items()},
                "log_loss": rounded(temperatures.loc[fold, "log_loss_before"]),
                "temperature": rounded(temperatures.loc[fold, "temperature"]),
            }
        )
    return rows


def _calibration(found: OutOfFold) -> dict[str, Any]:
    return {
        "bins": BINS,
        "clip": CLIP,
        "before": _probability_scores(found, found.probabilities),
        "after": _probability_scores(found, found.scaling.probabilities),
        "temperatures": _records(found.scaling.temperatures.round(4)),
        "reliability": _records(reliability_table(found)),
    }


def _records(table: pandas.DataFrame) -> list[dict[str, Any]]:
    """Rows of plain Python values, for JSON."""
    return [dict(zip(table.columns, row, strict=True)) for row in zip(*(table[c].tolist() for c in table), strict=True)]


def _number(value: Any) -> float | None:
    """Rounded; None for NaN, which JSON does not have."""
    return None if np.isnan(value) else rounded(value)
