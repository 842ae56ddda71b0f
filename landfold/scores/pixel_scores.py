"""Scores of held-out labelled pixels: section ``pixels`` of metrics/scores.json, see `landfold.scores.summary`.

Pixels of one zone resemble each other even more than its patches do, and a class with large polygons has most of them.
An interval is therefore one over zones, as for patches.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas

from landfold.pixels.counts import RANDOM_PIXELS, ZONES
from landfold.scores.calibration import calibration_scores
from landfold.scores.intervals import (
    NO_DRAWS,
    Draws,
    ScoreWithInterval,
    compare,
    effective_zones,
    headline_scores,
    zone_sizes,
)
from landfold.scores.metrics import HEADLINE, rounded
from landfold.scores.pixels import BASELINE, RANDOM_SPLITS, HeldOutPixels
from landfold.scores.tables import class_scores, comparison_rows, zone_summary

LEAST_PIXELS = 1000
"""A zone with fewer labelled pixels is not called the worst: they may be of a single polygon."""


def pixel_scores(
    pixels: HeldOutPixels, by_zone: pandas.DataFrame, *, coverage: float = 0.9, draws: Draws = NO_DRAWS
) -> dict[str, Any]:
    """What metrics/scores.json holds of pixels: see the docstring of `landfold.scores.summary`.

    Args:
        pixels: the counts.
        by_zone: `landfold.scores.tables.zone_scores` of the patches, whose ``distance_m`` the zones have.
        coverage: share of the prediction sets that are to hold the true class.
        draws: what other partitions and deals would change; it widens intervals.
    """
    zones = pixels.zone_confusions(pixels.spatial)
    of_zones = _zone_table(pixels, by_zone)
    return {
        "count": int(zones[0].sum()),
        "zones": len(zones[0]),
        "effective_zones": round(effective_zones(zone_sizes(zones[0])), 1),
        "headline": _headline(zones, draws.partitions),
        "confusion": sum(counts.sum(axis=0) for counts in zones).tolist(),
        "per_class": _class_scores(zones, pixels.classes),
        "per_fold": _fold_rows(pixels),
        "per_zone": of_zones.to_dict("records"),
        "zone_summary": zone_summary(of_zones, "pixels", LEAST_PIXELS),
        "boundary": _part_scores(pixels, boundary=True),
        "interior": _part_scores(pixels, boundary=False),
        "calibration": calibration_scores(pixels.sample, coverage),
        "splits": {_key(split): _split_scores(pixels, split, draws) for split in pixels.splits()},
        "comparisons": _comparisons(pixels, draws),
    } | _baseline(pixels)


def _baseline(pixels: HeldOutPixels) -> dict[str, Any]:
    """Headline scores of the baseline of pixels; empty where there is none."""
    rows = pixels.of_split(BASELINE)
    return {"baseline": _headline(pixels.zone_confusions(rows))} if len(rows) else {}


def pixel_summary(scores: dict[str, Any]) -> dict[str, Any]:
    """What metrics/summary.json holds of pixels: see `landfold.scores.summary.score_summary`."""
    names = ("accuracy", "macro_f1")
    summary = {"count": scores["count"]} | {name: scores["headline"][name] for name in names}
    random = _key(RANDOM_PIXELS)
    if random in scores["splits"]:
        summary["random"] = {name: scores["splits"][random][name] for name in names}
    for key, comparison in (("over_baseline", "over_baseline"), ("gap", random)):
        differences = {
            row["score"]: {"pooled": row["difference"], "low": row["low"], "high": row["high"]}
            for row in scores["comparisons"]
            if row["comparison"] == comparison and row["score"] in names
        }
        if differences:
            summary[key] = differences
    return summary


def _key(split: str) -> str:
    """The name of a split in JSON."""
    return split.replace(" ", "_")


def _headline(zones: Sequence[np.ndarray], extra_sd: Mapping[str, float] | None = None) -> dict[str, ScoreWithInterval]:
    """Headline scores of the (zone, class, class) counts of each repeat, averaged over repeats; see `_average`."""
    return _average([headline_scores(counts, extra_sd) for counts in zones])


def _average(repeats: Sequence[dict[str, ScoreWithInterval]]) -> dict[str, Any]:
    """Mean of each score, and of the ends of its interval, over the repeats that define it.

    Repeats have other zones on the same ground, which cannot be left out together. The mean of their ends is as wide
    as the interval of one repeat, and so rather too wide than too narrow.
    """
    averages = {}
    for name, first in repeats[0].items():
        defined = [scores[name] for scores in repeats if scores[name]["low"] is not None] or [first]
        averages[name] = {end: _mean([score[end] for score in defined]) for end in first}
    return averages


def _mean(values: Sequence[float | None]) -> float | None:
    return None if None in values else rounded(np.mean(values))


def _class_scores(zones: Sequence[np.ndarray], classes: list[str]) -> list[dict[str, Any]]:
    """`landfold.scores.tables.class_scores` of each repeat, averaged; the support is that of the first."""
    repeats = [class_scores(counts[:, None], classes) for counts in zones]
    names = ("precision", "recall", "f1")
    return [
        {"class": rows[0]["class"], "support": rows[0]["support"]}
        | _average([{name: row[name] for name in names} for row in rows])
        for rows in zip(*repeats, strict=True)
    ]


def _fold_rows(pixels: HeldOutPixels) -> list[dict[str, Any]]:
    repeats = pixels.spatial.groupby("fold")["repeat"].first()
    counts = pixels.fold_confusions()
    return [
        {"fold": int(fold), "repeat": int(repeat), "pixels": int(counts[fold].sum())}
        | {name: rounded(score(counts[fold])) for name, score in HEADLINE.items()}
        for fold, repeat in repeats.items()
    ]


def _zone_table(pixels: HeldOutPixels, by_zone: pandas.DataFrame) -> pandas.DataFrame:
    """One row a zone of the first repeat, by name: zone, fold, pixels, accuracy, distance_m."""
    rows = pixels.spatial[pixels.spatial["repeat"] == 0]
    correct = rows["pixels"].where(rows["label"] == rows["predicted"], 0)
    groups = rows.assign(correct=correct).groupby("zone", sort=True)
    total = groups["pixels"].sum()
    table = pandas.DataFrame(
        {"fold": groups["fold"].first(), "pixels": total, "accuracy": (groups["correct"].sum() / total).round(4)}
    )
    return table.join(by_zone.set_index("zone")["distance_m"], how="left").reset_index()


def _part_scores(pixels: HeldOutPixels, *, boundary: bool) -> dict[str, Any]:
    """Number and headline scores of the pixels at a boundary, or of the others; None where there are none."""
    zones = pixels.zone_confusions(pixels.spatial[pixels.spatial["boundary"] == boundary])
    number = int(zones[0].sum())
    if not number:
        return {"pixels": 0} | {name: dict.fromkeys(("pooled", "low", "high")) for name in HEADLINE}
    return {"pixels": number} | _headline(zones)


def _split_scores(pixels: HeldOutPixels, split: str, draws: Draws) -> dict[str, Any]:
    extra_sd = draws.deals if split in RANDOM_SPLITS else draws.partitions
    number = int(pixels.zone_confusions(pixels.of_split(split))[0].sum())
    return {"pixels": number} | _headline(pixels.zone_confusions(pixels.comparable(split)), extra_sd)


def _comparisons(pixels: HeldOutPixels, draws: Draws) -> list[dict[str, Any]]:
    """The network less its baseline, and each random split less the spatial one, paired over the zones."""
    spatial = pixels.zone_confusions(pixels.spatial)
    pairs = [
        (_key(split), split, ZONES, spatial, pixels.zone_confusions(pixels.comparable(split)))
        for split in pixels.splits()
        if split in RANDOM_SPLITS
    ]
    if len(pixels.of_split(BASELINE)):
        baseline = pixels.zone_confusions(pixels.of_split(BASELINE))
        pairs.insert(0, ("over_baseline", "network", BASELINE, baseline, spatial))
    rows = []
    for comparison, of, against, firsts, seconds in pairs:
        extra_sd = draws.both if of in RANDOM_SPLITS else {}
        repeats = [
            compare(first[:, None], second[:, None], extra_sd) for first, second in zip(firsts, seconds, strict=True)
        ]
        rows += comparison_rows(comparison, of, against, tuple(map(_average, zip(*repeats, strict=True))))
    return rows
