"""The main results in words, the same in the lines of the stages, the report, MLflow and the model card.

A score is ``{"pooled", "low", "high"}``; a result is a dictionary of scores by name under ``zoned`` (spatial CV) and,
where they were measured, ``random`` (random CV) and ``gap`` (random less zoned): metrics/summary.json of the network,
metrics/audit.json of band statistics. Of a network of pixels the summary has ``pixels``, too: their ``count``, scores,
``random`` (a random split of pixels) and ``gap``. A sentence of what a result lacks is "". No sentence ends with a full
stop.
"""

from collections.abc import Mapping
from typing import Any

BAND_STATISTICS = "band statistics alone"
PIXEL_BASELINE = "the best classical model of pixels and their surroundings"
"""What the network is compared with: the audit's classifiers of patches and of pixels."""


def rounded_text(value: float, digits: int = 3, *, signed: bool = False) -> str:
    """A score, or with its sign the difference of two."""
    return f"{value:{'+' if signed else ''}.{digits}f}"


def with_interval(score: Mapping[str, float], digits: int = 3, *, signed: bool = False) -> str:
    """A score and its 95 % interval: ``0.713 (0.656 to 0.761)``; without an interval the score alone."""
    ends = [rounded_text(score[end], digits, signed=signed) for end in ("low", "high") if score.get(end) is not None]
    return rounded_text(score["pooled"], digits, signed=signed) + (f" ({ends[0]} to {ends[1]})" if ends else "")


def accuracy_sentence(summary: Mapping[str, Any], digits: int = 3) -> str:
    """Accuracy and macro F1 under spatial CV, and on how many patches; of a network of pixels on these first."""
    parts = []
    if "pixels" in summary:
        parts.append(f"{_scores_text(summary['pixels'], digits)} on {summary['pixels']['count']} labelled pixels")
    if scores := _scores_text(summary.get("zoned", {}), digits):
        parts.append(scores + (f" on {summary['patches']} patches" if "patches" in summary else ""))
    return f"Spatial CV: {'; '.join(parts)}" if parts else ""


def _scores_text(scores: Mapping[str, Any], digits: int) -> str:
    names = {"accuracy": "accuracy", "macro_f1": "macro F1"}
    return ", ".join(
        f"{label} {with_interval(scores[name], digits)}" for name, label in names.items() if name in scores
    )


def optimism_sentence(result: Mapping[str, Any], of: str = "the network", digits: int = 3) -> str:
    """By how much random CV is too optimistic of what ``of`` names.

    Of a network of pixels it is the split that is made most often, of pixels at random.
    """
    if "gap" in result.get("pixels", {}):
        pixels = result["pixels"]
        return _bias("A random split of pixels", of, (pixels, pixels["random"], pixels["gap"]), digits)
    if "gap" not in result:
        return ""
    return _bias("Random CV", of, (result["zoned"], result["random"], result["gap"]), digits)


def _bias(split: str, of: str, scores: tuple[Mapping[str, Any], ...], digits: int) -> str:
    """The accuracy under a random split, the spatial one, and the verdict on their difference, in this order."""
    spatial, random, gap = (part["accuracy"] for part in scores)
    text = f"{split} gives {of} an accuracy of {rounded_text(random['pooled'], digits)}, spatial CV "
    text += rounded_text(spatial["pooled"], digits)
    if gap["low"] > 0:
        return f"{text}: an optimistic bias of {with_interval(gap, digits)}"
    verdict = "a difference that may be chance" if gap["pooled"] > 0 else "no optimistic bias"
    return f"{text}: {verdict}, {with_interval(gap, digits, signed=True)}"


def lead_sentence(summary: Mapping[str, Any], over: str | None = None, digits: int = 3) -> str:
    """How much more accurate the network is than its baseline, of pixels where both are of pixels.

    Args:
        summary: metrics/summary.json.
        over: the baseline in words; what it is by default.
        digits: of the numbers.
    """
    if "over_baseline" not in summary:
        return ""
    pixels = summary.get("pixels", {})
    of_pixels = "over_baseline" in pixels
    over = over or (PIXEL_BASELINE if of_pixels else BAND_STATISTICS)
    difference = (pixels if of_pixels else summary)["over_baseline"]["accuracy"]
    better, worse = difference["low"] > 0, difference["high"] < 0
    verdict = "is better than" if better else "is worse than" if worse else "is not clearly better than"
    text = f"The network {verdict} {over}: {with_interval(difference, digits, signed=True)} in accuracy"
    return f"{text} of {'pixels' if of_pixels else 'patches'}" if pixels else text
