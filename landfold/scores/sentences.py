"""The main results in words, the same in the lines of the stages, the report, MLflow and the model card.

A score is ``{"pooled", "low", "high"}``; a result is a dictionary of scores by name under ``zoned`` (spatial CV) and,
where they were measured, ``random`` (random CV) and ``gap`` (random less zoned): metrics/summary.json of the network,
metrics/audit.json of band statistics. A sentence of what a result lacks is "". No sentence ends with a full stop.
"""

from collections.abc import Mapping
from typing import Any


def rounded_text(value: float, digits: int = 3, *, signed: bool = False) -> str:
    """A score, or with its sign the difference of two."""
    return f"{value:{'+' if signed else ''}.{digits}f}"


def with_interval(score: Mapping[str, float], digits: int = 3, *, signed: bool = False) -> str:
    """A score and its 95 % interval: ``0.713 (0.656 to 0.761)``; without an interval the score alone."""
    ends = [rounded_text(score[end], digits, signed=signed) for end in ("low", "high") if score.get(end) is not None]
    return rounded_text(score["pooled"], digits, signed=signed) + (f" ({ends[0]} to {ends[1]})" if ends else "")


def accuracy_sentence(summary: Mapping[str, Any], digits: int = 3) -> str:
    """Accuracy and macro F1 under spatial CV, and on how many patches."""
    scores = summary.get("zoned", {})
    names = {"accuracy": "accuracy", "macro_f1": "macro F1"}
    values = [f"{label} {with_interval(scores[name], digits)}" for name, label in names.items() if name in scores]
    patches = f" on {summary['patches']} patches" if "patches" in summary else ""
    return f"Spatial CV: {', '.join(values)}{patches}" if values else ""


def optimism_sentence(result: Mapping[str, Any], of: str = "the network", digits: int = 3) -> str:
    """By how much random CV is too optimistic of what ``of`` names."""
    if "gap" not in result:
        return ""
    spatial, random, gap = (result[part]["accuracy"] for part in ("zoned", "random", "gap"))
    text = f"Random CV gives {of} an accuracy of {rounded_text(random['pooled'], digits)}, spatial CV "
    text += rounded_text(spatial["pooled"], digits)
    if gap["low"] > 0:
        return f"{text}: an optimistic bias of {with_interval(gap, digits)}"
    verdict = "a difference that may be chance" if gap["pooled"] > 0 else "no optimistic bias"
    return f"{text}: {verdict}, {with_interval(gap, digits, signed=True)}"


def lead_sentence(summary: Mapping[str, Any], over: str = "band statistics alone", digits: int = 3) -> str:
    """How much more accurate the network is than a classifier of band statistics, which ``over`` names."""
    if "over_baseline" not in summary:
        return ""
    difference = summary["over_baseline"]["accuracy"]
    better, worse = difference["low"] > 0, difference["high"] < 0
    verdict = "is better than" if better else "is worse than" if worse else "is not clearly better than"
    return f"The network {verdict} {over}: {with_interval(difference, digits, signed=True)} in accuracy"
