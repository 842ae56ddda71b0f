"""The model card: README.md of the model folder, written from the metrics for those who consider using the model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from landfold.core.digests import model_digest
from landfold.deploy.bundlecard import BundleCard
from landfold.deploy.settings import CardSettings
from landfold.geo.bands import STANDARD_NAMES
from landfold.scores.sentences import lead_sentence

TEMPLATE = Path(__file__).with_name("modelcard.md.j2")

WORST = 5
"""Zones that are named, of those with enough patches or pixels to tell."""

SCORES = {"accuracy": "Overall accuracy", "balanced_accuracy": "Balanced accuracy", "macro_f1": "Macro F1"}


@dataclass(frozen=True)
class Metrics:
    """Content of metrics/summary.json, scores.json and patches.json."""

    summary: dict[str, Any]
    scores: dict[str, Any]
    patches: dict[str, Any]


def write_model_card(
    path: Path, card: BundleCard, metrics: Metrics, settings: CardSettings, *, digest: str, area: dict[str, Any] | None
) -> None:
    """Write the model card in Markdown; equal content is equal bytes.

    Args:
        path: README.md of the model folder.
        card: the model's own card.
        metrics: what the stages measured.
        settings: section ``card``.
        digest: the digest of the model.
        area: summary of the area of applicability, None if the model has none.
    """
    environment = jinja2.Environment(  # noqa: S701 - Markdown: the filter `text` escapes, HTML among it
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {"text": _text, "number": _number, "interval": _interval, "plain": _plain}
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        card=card,
        metrics=metrics,
        settings=settings,
        digest=digest,
        weights=model_digest(card.weights),
        area=area,
        scores=SCORES,
        pixels=(pixels := metrics.scores.get("pixels")),
        unit="pixels" if pixels else "patches",
        pixel_gap=_random_less_spatial(pixels) if pixels else {},
        worst=_worst(metrics.scores, "patches"),
        worst_pixels=_worst(pixels, "pixels") if pixels else [],
        lead=lead_sentence(metrics.summary),
        names=STANDARD_NAMES,
    )
    path.write_text(page, encoding="utf-8", newline="\n")


def _random_less_spatial(pixels: dict[str, Any]) -> dict[str, dict[str, float]]:
    """By how much a random split of pixels is too optimistic, by score; empty where it was not measured."""
    return {
        row["score"]: {"pooled": row["difference"], "low": row["low"], "high": row["high"]}
        for row in pixels["comparisons"]
        if row["comparison"] == "random_pixels"
    }


def _worst(scores: dict[str, Any], unit: str) -> list[dict[str, Any]]:
    """The zones with the lowest accuracy among those with enough patches or pixels."""
    least = scores["zone_summary"][f"least_{unit}"]
    zones = [zone for zone in scores["per_zone"] if zone[unit] >= least]
    return sorted(zones, key=lambda zone: (zone["accuracy"], zone["zone"]))[:WORST]


def _text(value: object) -> str:
    """Text that Markdown shows as it is, in a table too."""
    plain = " ".join(str(value).split())
    return "".join(f"\\{sign}" if sign in "\\`*_[]<>|#" else sign for sign in plain)


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _interval(score: dict[str, float] | None) -> str:
    """A score with its interval, as in 0.713 (0.656 to 0.761)."""
    if not score or score["pooled"] is None:
        return "-"
    return f"{_number(score['pooled'])} ({_number(score['low'])} to {_number(score['high'])})"


def _plain(value: float) -> str:
    """A number as people write it: 10 for 10.0."""
    return f"{value:g}"
