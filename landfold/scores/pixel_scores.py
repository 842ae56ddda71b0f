"""Scores of held-out labelled pixels: section ``pixels`` of metrics/scores.json, see `landfold.scores.summary`.

Pixels of one zone resemble each other even more than its patches do, and a class with large polygons has most of them.
An interval is therefore one over zones, as for patches: a zone is drawn with all its pixels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas

from landfold.pixels.counts import RANDOM_PIXELS, ZONES
from landfold.scores.calibration import calibration_scores
from landfold.scores.intervals import ScoreWithInterval, compare, headline_scores
from landfold.scores.metrics import HEADLINE, rounded
from landfold.scores.pixels import BASELINE, RANDOM_SPLITS, HeldOutPixels
from landfold.scores.settings import EvaluateSettings
from landfold.scores.tables import class_scores, comparison_rows, zone_summary

LEAST_PIXELS = 1000
"""A zone with fewer labelled pixels is not called the worst: they may be of a single polygon."""


def pixel_scores(pixels: HeldOutPixels, by_zone: pandas.DataFrame, settings: EvaluateSettings) -> dict[str, Any]:
    """What metrics/scores.json holds of pixels: see the docstring of `landfold.scores.summary`.

    Args:
        pixels: the counts.
        by_zone: `landfold.scores.tables.zone_scores` of the patches, whose ``distance_m`` the zones have.
        settings: of the resamples.
    """
    zones = pixels.zone_confusions(pixels.spatial)
    of_zones = _zone_table(pixels, by_zone)
    return {
        "count": int(zones[0].sum()),
        "zones": len(zones[0]),
        "headline": _headline(zones, settings),
        "confusion": sum(counts.sum(axis=0) for counts in zones).tolist(),
        "per_class": _class_scores(zones, pixels.classes, settings),
        "per_fold": _fold_rows(pixels),
        "per_zone": of_zones.to_dict("records"),
        "zone_summary": zone_summary(of_zones, "pixels", LEAST_PIXELS),
        "boundary": _part_scores(pixels, settings, boundary=True),
        "interior": _part_scores(pixels, settings, boundary=False),
        "calibration": calibration_scores(pixels.sample, settings),
        "splits": {_key(split): _split_scores(pixels, split, settings) for split in pixels.splits()},
        "comparisons": _comparisons(pixels, settings),
    } | _baseline(pixels, settings)


def _baseline(pixels: HeldOutPixels, settings: EvaluateSettings) -> dict[str, Any]:
    """Headline scores of the baseline of pixels; empty where there is none."""
    rows = pixels.of_split(BASELINE)
    return {"baseline": _headline(pixels.zone_confusions(rows), settings)} if len(rows) else {}


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


def _headline(zones: Sequence[np.ndarray], settings: EvaluateSettings) -> dict[str, ScoreWithInterval]:
    """Headline scores of the (zone, class, class) counts of each repeat, averaged over repeats; see `_average`."""
    return _average([headline_scores(counts, settings) for counts in zones])


def _average(repeats: Sequence[dict[str, ScoreWithInterval]]) -> dict[str, Any]:
    """Mean of each score, and of the ends of its interval, over the repeats that define it.

    Repeats have other zones on the same ground, which cannot be resampled together. The mean of their ends is as wide
    as the interval of one repeat, and so rather too wide than too narrow.
    """
    averages = {}
    for name, first in repeats[0].items():
        defined = [scores[name] for scores in repeats if scores[name]["low"] is not None] or [first]
        averages[name] = {end: _mean([score[end] for score in defined]) for end in first}
    return averages


def _mean(values: Sequence[float | None]) -> float | None:
    return None if None in values else rounded(np.mean(values))


def _class_scores(zones: Sequence[np.ndarray], classes: list[str], settings: EvaluateSettings) -> list[dict[str, Any]]:
    """`landfold.scores.tables.class_scores` of each repeat, averaged; the support is that of the first."""
    repeats = [class_scores(counts[:, None], classes, settings) for counts in zones]
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


def _part_scores(pixels: HeldOutPixels, settings: EvaluateSettings, *, boundary: bool) -> dict[str, Any]:
    """Number and headline scores of the pixels at a boundary, or of the others; None where there are none."""
    zones = pixels.zone_confusions(pixels.spatial[pixels.spatial["boundary"] == boundary])
    number = int(zones[0].sum())
    if not number:
        return {"pixels": 0} | {name: dict.fromkeys(("pooled", "low", "high")) for name in HEADLINE}
    return {"pixels": number} | _headline(zones, settings)


def _split_scores(pixels: HeldOutPixels, split: str, settings: EvaluateSettings) -> dict[str, Any]:
    number = int(pixels.zone_confusions(pixels.of_split(split))[0].sum())
    return {"pixels": number} | _headline(pixels.zone_confusions(pixels.comparable(split)), settings)


def _comparisons(pixels: HeldOutPixels, settings: EvaluateSettings) -> list[dict[str, Any]]:
    """The network less its baseline, and each random split less the spatial one, paired over resamples of the zones."""
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
        repeats = [
            compare(first[:, None], second[:, None], settings) for first, second in zip(firsts, seconds, strict=True)
        ]
        rows += comparison_rows(comparison, of, against, tuple(map(_average, zip(*repeats, strict=True))))
    return rows
