"""The scores in files: metrics/summary.json, and every table behind it in metrics/scores.json.

All numbers are rounded to 4 digits (metres and effective zones to 1). A score ``{"pooled", "low", "high"}`` has its
95 % interval over zones (`landfold.scores.intervals`); ``low`` and ``high`` are null where the score is not defined, as
is any other number.
With repeats a score is pooled within each repeat and then averaged; counts are those of one repeat, except in
``confusion`` and ``calibration.reliability``, which count every repeat.

``classes``: their names, in the order of all tables.
``baseline``: what the network is compared with: its ``name`` in words, and its headline scores on the same patches.
``patches``, ``zones``, ``effective_zones``, ``repeats``: numbers; ``zones`` are those of the first repeat, over which
intervals are taken, and ``effective_zones`` how many of equal size would average as well: unequal zones count for less.
``random``: headline scores under random folds; null where the network was not trained under them.
``headline``: score name (accuracy, balanced_accuracy, macro_f1) to ``{"pooled", "low", "high"}``.
``pooled``: plain numbers: weighted_f1, top2, log_loss, brier, ece, quantity_disagreement, allocation_disagreement.
``kappa``: ``{"value", "caveat"}``, the caveat one or two sentences to print beside it.
``confusion``: rows of counts, truth along the rows, prediction along the columns, both in the order of ``classes``.
``per_class``: a list of ``{"class", "support", "precision", "recall", "f1"}``: precision is user's accuracy, recall
producer's, each a ``{"pooled", "low", "high"}``.
``per_fold``: a list of ``{"fold", "repeat", "patches", "accuracy", "balanced_accuracy", "macro_f1", "log_loss",
"temperature"}``, the temperature that the other folds give.
``per_zone``: a list, by name, of ``{"zone", "fold", "patches", "accuracy", "distance_m"}``: the fold in the first
repeat, and the mean distance of its patches to the nearest training patch, metres.
``zone_summary``: ``{"worst": a row of per_zone, "median_accuracy", "least_patches"}``: the worst zone of those with
``least_patches`` or more, or of all zones where there is none so large; the median is over all zones.
``comparisons``: a list, one a pair and headline score, of ``{"comparison", "of", "against", "score", "of_value",
"against_value", "difference", "low", "high"}``: difference is of_value less against_value, paired over the zones.
``comparison`` is over_baseline (of network, against baseline) and, where the network was trained
under the random folds, too, gap (of random, against zoned: the network under random and under spatial folds).
``calibration``: ``bins`` (number of bins of equal width of the confidence), ``clip`` (least probability in a
logarithm), ``before`` and ``after`` scaling ``{"log_loss", "brier", "ece"}``, ``fitted`` (as
`landfold.pixels.calibration.Calibrations`: each fold is scaled by what the other folds give), ``reliability``, a list
of ``{"scaled", "bin", "low", "high", "count", "confidence", "accuracy"}``, bins without a patch left out, and
``sets``, prediction sets at ``fitted.coverage``: ``covered``, the share that holds the true class, and ``classes``,
their mean number; both of the first repeat.
``warnings``: sentences, empty where there is nothing to warn of.

``pixels``, of a network of pixels alone: scores of the labelled pixels of held-out zones, each by the fold that did not
train on its zone. All else is of patches, whose probabilities are the mean over the pixels of their core, so that both
kinds of network are compared on the same patches. Counts and zones are those of the first repeat, except in
``confusion`` and ``reliability``; with repeats the ends of an interval are averaged, too, since their zones differ.
``pixels.count``, ``pixels.zones``, ``pixels.effective_zones``: numbers.
``pixels.headline``, ``pixels.confusion``, ``pixels.per_class``: as those of patches; a class's support are its pixels.
``pixels.per_fold``: a list of ``{"fold", "repeat", "pixels", "accuracy", "balanced_accuracy", "macro_f1"}``.
``pixels.per_zone``: a list, by name, of ``{"zone", "fold", "pixels", "accuracy", "distance_m"}``: the distance is that
of the patches of the zone.
``pixels.zone_summary``: ``{"worst", "median_accuracy", "least_pixels"}``, as that of patches.
``pixels.boundary``, ``pixels.interior``: ``{"pixels"}`` and the headline scores of the pixels with another label, or
none, among their eight neighbours, and of the others; null scores where there is no such pixel.
``pixels.calibration``: as that of patches, of a random sample of the pixels. It is what a map is scaled by.
``pixels.splits``: zones (the score above) and, where the network was trained under the random folds, too,
random_patches (the labelled pixels in patches that were held out at random) and random_pixels (a random tenth of the
pixels to learn from, set aside: a random split of pixels), each ``{"pixels"}`` and the headline scores. All are of the
same zones. Patches hold fewer boundaries than the zones: random_patches is weighted to the zones' number of pixels of
each class at a boundary and inside.
``pixels.baseline``: headline scores of the baseline of pixels, where there is one.
``pixels.comparisons``: as those of patches: over_baseline where there is a baseline of pixels; random_patches and
random_pixels, each against zones.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas

from landfold.scores.calibration import calibration_scores, log_loss, probability_scores, top_accuracy
from landfold.scores.intervals import FEW_ZONES, NO_DRAWS, Draws, effective_zones, headline_scores, zone_sizes
from landfold.scores.metrics import (
    HEADLINE,
    KAPPA_CAVEAT,
    allocation_disagreement,
    kappa,
    quantity_disagreement,
    rounded,
    weighted_f1,
)
from landfold.scores.pixel_scores import pixel_scores, pixel_summary
from landfold.scores.pixels import HeldOutPixels
from landfold.scores.predictions import OutOfFoldPredictions
from landfold.scores.tables import class_scores, comparisons, defined, zone_scores, zone_summary

LEAST_PATCHES = 10
"""A zone with fewer patches is not called the worst: by chance alone some of those have nothing right."""


def score_summary(pool: OutOfFoldPredictions, tables: dict[str, Any]) -> dict[str, Any]:
    """What metrics/summary.json holds, rounded to 4 digits.

    A headline score under ``zoned`` (spatial CV) has ``pooled`` (over the out-of-fold predictions of a repeat, averaged
    over repeats), ``low`` and ``high`` (its 95 % interval over zones), ``mean`` and ``std`` over folds (the
    population's standard deviation: these are all the folds there are). The others are plain numbers; ``ece_scaled``
    is the expected calibration error after scaling. ``over_baseline`` is the network's score less that of
    its baseline on the same patches, paired. ``random`` and ``gap``
    (random less zoned, paired) are there where the network was trained under the random folds, too; ``test`` where
    there is a test region. ``pixels``, of a network of pixels, has their number (``count``), ``accuracy`` and
    ``macro_f1`` under spatial CV and, where it was trained under the random folds, too, those that a random split of
    pixels gives (``random``) and their ``gap`` (random less spatial, paired). `dvc exp show` gives a column to every
    number here: all else is in metrics/scores.json.

    Args:
        pool: the predictions.
        tables: what `score_tables` gives for them.
    """
    by_fold = pool.confusion_by(pool.table["fold"].to_numpy())
    spatial: dict[str, Any] = {
        name: tables["headline"][name] | {"mean": rounded(scores.mean()), "std": rounded(scores.std())}
        for name, scores in ((name, score(by_fold)) for name, score in HEADLINE.items())
    }
    spatial |= tables["pooled"] | {"ece_scaled": tables["calibration"]["after"]["ece"]}
    spatial["f1"] = {row["class"]: row["f1"]["pooled"] for row in tables["per_class"]}
    summary = {"zoned": spatial} | {name: tables[name] for name in ("patches", "zones", "effective_zones")}
    for row in tables["comparisons"]:
        difference = {"pooled": row["difference"], "low": row["low"], "high": row["high"]}
        summary.setdefault(row["comparison"], {})[row["score"]] = difference
    if "gap" in summary:
        summary["random"] = tables["random"]
    if len(pool.test):
        counts = pool.confusions_of_test()
        summary["test"] = headline_scores(counts) | {"patches": len(pool.test), "zones": len(counts)}
    if "pixels" in tables:
        summary["pixels"] = pixel_summary(tables["pixels"])
    return summary


def score_tables(
    pool: OutOfFoldPredictions,
    pixels: HeldOutPixels | None = None,
    *,
    coverage: float = 0.9,
    draws: Mapping[str, Draws] | None = None,
) -> dict[str, Any]:
    """What metrics/scores.json holds: see the module's docstring.

    Args:
        pool: the predictions of patches.
        pixels: those of a network of pixels.
        coverage: share of the prediction sets that are to hold the true class.
        draws: of ``patches`` and ``pixels``, what other partitions and deals would change; it widens intervals.
    """
    draws = draws or {}
    tables = _patch_tables(pool, pixels, coverage, draws.get("patches", NO_DRAWS))
    if pixels is not None:
        tables["pixels"] = pixel_scores(
            pixels, zone_scores(pool), coverage=coverage, draws=draws.get("pixels", NO_DRAWS)
        )
    return tables


def _patch_tables(
    pool: OutOfFoldPredictions, pixels: HeldOutPixels | None, coverage: float, draws: Draws
) -> dict[str, Any]:
    zones = pool.zone_confusions()
    by_repeat = zones.sum(axis=0)
    by_zone = zone_scores(pool)
    calibration = calibration_scores(pool.held_out, coverage)
    random = None
    if "predicted_random" in pool.table:
        random = headline_scores(pool.zone_confusions("predicted_random"), draws.deals)
    return {
        "classes": pool.classes,
        "baseline": {"name": pool.baseline} | headline_scores(pool.zone_confusions("predicted_baseline")),
        "patches": len(pool.table) // len(by_repeat),
        "zones": len(zones),
        "effective_zones": round(effective_zones(zone_sizes(zones)), 1),
        "repeats": len(by_repeat),
        "headline": headline_scores(zones, draws.partitions),
        "pooled": _plain_scores(pool, by_repeat),
        "kappa": {"value": defined(kappa(by_repeat).mean()), "caveat": KAPPA_CAVEAT},
        "confusion": pool.confusion().tolist(),
        "per_class": class_scores(zones, pool.classes),
        "per_fold": _per_fold(pool, calibration["fitted"]["folds"]),
        "per_zone": by_zone.to_dict("records"),
        "zone_summary": zone_summary(by_zone, "patches", LEAST_PATCHES),
        "random": random,
        "comparisons": comparisons(pool, draws),
        "calibration": calibration,
        "warnings": _warnings(pool, pixels),
    }


def _plain_scores(pool: OutOfFoldPredictions, by_repeat: np.ndarray) -> dict[str, float]:
    """The scores that are given without an interval; ``by_repeat`` is (repeat, class, class)."""
    repeats, truth = pool.table["repeat"].to_numpy(), pool.truth
    top2 = [top_accuracy(pool.probabilities[repeats == i], truth[repeats == i], 2) for i in np.unique(repeats)]
    return {
        "weighted_f1": rounded(weighted_f1(by_repeat).mean()),
        "top2": rounded(np.mean(top2)),
        **probability_scores(pool.held_out, pool.probabilities),
        "quantity_disagreement": rounded(quantity_disagreement(by_repeat).mean()),
        "allocation_disagreement": rounded(allocation_disagreement(by_repeat).mean()),
    }


def _warnings(pool: OutOfFoldPredictions, pixels: HeldOutPixels | None) -> list[str]:
    """What speaks against the intervals."""
    sizes = {
        "zones": _patches_of_zones(pool.table),
        "zones in the test region": _patches_of_zones(pool.test),
        "zones by their pixels": [] if pixels is None else zone_sizes(pixels.zone_confusions(pixels.spatial)[0]),
    }
    counted = {what: (len(own), effective_zones(own)) for what, own in sizes.items() if len(own)}
    return [
        f"{number} {what} count as {effective:.1f} of equal size: intervals over fewer than {FEW_ZONES} zones are "
        "uncertain themselves; make smaller zones (zones.block_size_m), but not below the range over which errors are "
        "correlated, or label more ground"
        for what, (number, effective) in counted.items()
        if effective < FEW_ZONES
    ]


def _patches_of_zones(table: pandas.DataFrame) -> np.ndarray:
    return table["zone"].value_counts().to_numpy()


def _per_fold(pool: OutOfFoldPredictions, calibrations: list[dict[str, float]]) -> list[dict[str, Any]]:
    folds = pool.table["fold"].to_numpy()
    rows = []
    for fold, counts in zip(np.unique(folds), pool.confusion_by(folds), strict=True):
        own = folds == fold
        rows.append(
            {
                "fold": int(fold),
                "repeat": int(pool.table["repeat"].to_numpy()[own][0]),
                "patches": int(own.sum()),
                **{name: rounded(score(counts)) for name, score in HEADLINE.items()},
                "log_loss": rounded(log_loss(pool.probabilities[own], pool.truth[own])),
                "temperature": rounded(calibrations[fold]["temperature"]),
            }
        )
    return rows
