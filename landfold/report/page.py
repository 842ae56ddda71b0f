"""The result as one page that needs nothing else: scores, maps, what was dropped, and what it was made of.

The page is HTML whose bytes depend on the result alone. Pictures are inside it, and it loads nothing.
"""

import base64
import importlib.metadata
import math
import platform
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import rasterio
import yaml

from landfold.report.result import ReportData
from landfold.scores.sentences import lead_sentence, optimism_sentence, rounded_text

TEMPLATE = Path(__file__).with_name("report.html.j2")

LIGHT = {
    "page": "#ffffff", "surface": "#f4f6f7", "line": "#d5dbe0", "text": "#1d2329", "muted": "#55606b",
    "accent": "#0b5c8a", "random": "#a64400", "other": "#5d6873", "notice": "#fff5dc", "notice-text": "#503c00",
}  # fmt: skip
DARK = {
    "page": "#14181c", "surface": "#1d2328", "line": "#39424b", "text": "#e6eaee", "muted": "#a9b3bd",
    "accent": "#74bdea", "random": "#f2a366", "other": "#a9b3bd", "notice": "#352c14", "notice-text": "#f4e3b5",
}  # fmt: skip
"""Colours of the page by their use; a test holds the contrast of text to WCAG 2.2, level AA."""

SHADES = 11
"""Steps of the shading of the confusion matrix: none, a tenth, ..., all of a class."""

MANY_SCENES = 20
"""Of more scenes, the files are not listed one by one: the list is in the scenes' report."""

MANY_CLASSES = 12
"""With more classes the confusion matrix has counts alone, no shares below them."""

PACKAGES = ("torch", "torchvision", "scikit-learn", "numpy", "rasterio", "geopandas")

DROPPED = {
    "small": "in a scene that is smaller than a patch",
    "invalid": "too much nodata or cloud (patches.max_invalid)",
    "unlabelled": "no label",
    "impure": "no class has enough of the core (patches.min_purity)",
}
"""Why windows are dropped, in metrics/patches.json."""

PIXEL_SPLITS = {
    "zones": ("spatial CV", "zoned"),
    "random_patches": ("random patches", "random"),
    "random_pixels": ("random pixels", "random"),
}
"""Label and kind of the ways to split labelled pixels."""

SCORES = {"accuracy": "Accuracy", "balanced_accuracy": "Balanced accuracy", "macro_f1": "Macro F1"}


def page(result: ReportData, figures: Mapping[str, bytes], colours: Sequence[tuple[int, int, int]]) -> str:
    """The page as HTML text.

    Args:
        result: the numbers.
        figures: of `landfold.report.pictures`, PNG or SVG, by their names.
        colours: red, green and blue of the classes, 0 to 255, in the order of ``scores.classes``.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "score": _score,
        "signed": partial(_score, signed=True),
        "count": _count,
        "percent": _percent,
        "interval": _interval,
    }
    classes = result.scores["classes"]
    return environment.get_template(TEMPLATE.name).render(
        r=result,
        **_shown(result),
        title=str(result.params["project"]["name"]),
        swatch={name: f"#{r:02x}{g:02x}{b:02x}" for name, (r, g, b) in zip(classes, colours, strict=True)},
        score_names=SCORES,
        headlines=_headlines(result),
        sentences=_sentences(result),
        strips=_strips(result),
        confusion=_confusion(_shown(result)["shown"]["confusion"]),
        shares=len(classes) <= MANY_CLASSES,
        images={name: _address(content) for name, content in figures.items()},
        last_epoch=_last_epoch(result),
        dropped=[(DROPPED[reason], result.patches["dropped"][reason]) for reason in DROPPED],
        notices=_notices(result),
        sections={name: _yaml(values) for name, values in result.params.items()},
        files=_files(result.scenes["scenes"]),
        software=_software(),
        light=LIGHT,
        dark=DARK,
        shades={"light": shades(LIGHT), "dark": shades(DARK)},
    )


def _score(value: float | None, *, signed: bool = False) -> str:
    """A score in two digits, or with its sign the difference of two; a dash where it is not defined."""
    return "–" if value is None else rounded_text(value, 2, signed=signed).replace("-", "−")  # noqa: RUF001 - a minus sign


def _count(value: float | None) -> str:
    """A number with narrow spaces between its thousands; a dash where it is not defined."""
    return "–" if value is None else f"{value:,.0f}".replace(",", "\u202f")  # noqa: RUF001 - a dash


def _percent(value: float) -> str:
    """A share in percent."""
    return f"{100 * value:.1f}\u00a0%"


def _interval(scored: Mapping[str, Any]) -> str:
    """The ends of a score's interval in words."""
    return "no interval" if scored.get("low") is None else f"{_score(scored['low'])} to {_score(scored['high'])}"


def shades(palette: dict[str, str]) -> list[tuple[str, str]]:
    """Background and text of the steps of the shading, from the page to the accent."""
    ends = [bytes.fromhex(palette[name][1:]) for name in ("page", "accent")]
    steps = [[round(a + (b - a) * i / (SHADES - 1)) for a, b in zip(*ends, strict=True)] for i in range(SHADES)]
    fills = ["#" + bytes(step).hex() for step in steps]
    return [(fill, max(("#000000", "#ffffff"), key=lambda text: contrast(fill, text))) for fill in fills]


def contrast(first: str, second: str) -> float:
    """Contrast of two colours "#rrggbb", 1 to 21 (WCAG 2.2, https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio)."""
    low, high = sorted(map(_luminance, (first, second)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    parts = [part / 255 for part in bytes.fromhex(colour[1:])]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _shown(result: ReportData) -> dict[str, Any]:
    """Whose classes, folds, zones and calibration the page shows: of pixels where the network is one of pixels.

    ``unit`` is what their tables count, ``number`` how many there are.
    """
    scores = result.scores
    if "pixels" in scores:
        return {"shown": scores["pixels"], "unit": "pixels", "number": scores["pixels"]["count"]}
    return {"shown": scores, "unit": "patches", "number": scores["patches"]}


def _headlines(result: ReportData) -> list[tuple[str, dict[str, Any]]]:
    """The scores at the head of the page: what each is, and the score."""
    summary, names = result.summary, ("accuracy", "macro_f1")
    if "pixels" not in summary:
        return [(SCORES[name], summary["zoned"][name]) for name in names]
    return [(f"{SCORES[name]} of pixels", summary["pixels"][name]) for name in names] + [
        (f"{SCORES[name]} of patches", summary["zoned"][name]) for name in names
    ]


def _meaning(summary: Mapping[str, Any]) -> str:
    """The accuracy in words; of a network of pixels what a pixel and a patch score are, too."""

    def of_100(accuracy: Mapping[str, float], what: str) -> str:
        return (
            f"{100 * accuracy['pooled']:.0f} of 100 {what} correctly; for other zones of this kind, "
            f"{100 * accuracy['low']:.0f} to {100 * accuracy['high']:.0f}."
        )

    text, patches = "Under spatial cross-validation (CV) the network classifies ", summary["zoned"]["accuracy"]
    if "pixels" not in summary:
        return text + of_100(patches, "patches")
    return (
        f"{text}{of_100(summary['pixels']['accuracy'], 'labelled pixels')} A patch is a small square with the class of "
        "most of its core, and is predicted by the mean over the pixels there: of these it classifies "
        f"{100 * patches['pooled']:.0f} of 100 correctly. The map is one of pixels."
    )


def _sentences(result: ReportData) -> dict[str, str]:
    """What the numbers mean, in words."""
    audit = result.audit
    optimism = optimism_sentence(result.summary, digits=2)
    if not optimism:
        optimism = "The network was not trained under random folds (audit.network: false). "
        optimism += optimism_sentence(audit, "band statistics alone", digits=2)
    over = None
    if "over_baseline" not in result.summary.get("pixels", {}):
        kind, reached = audit["baseline"].replace("_", " "), rounded_text(audit["zoned"]["accuracy"]["pooled"], 2)
        over = f"a {kind} on the mean and spread of each channel, which reaches {reached}"
    return {
        "meaning": _meaning(result.summary),
        "optimism": f"{optimism}.",
        "lead": f"{lead_sentence(result.summary, over, digits=2)}.",
        "applicability": _of_applicability(result),
        "distances": _of_distances(audit),
        "range": _of_range(audit["autocorrelation"]),
    }


def _of_applicability(result: ReportData) -> str:
    """The share of the maps for which no score holds; nothing where that is not known."""
    if result.applicability is None:
        return ""
    scenes = result.applicability["scenes"]
    cells = sum(scene["cells"] for scene in scenes.values())
    share = sum(scene["outside"] * scene["cells"] for scene in scenes.values()) / max(1, cells)
    most = max(scenes, key=lambda name: scenes[name]["outside"])
    worst = f", most of {most} ({_percent(scenes[most]['outside'])})" if len(scenes) > 1 else ""
    return (
        f"{_percent(share)} of the mapped ground is outside the area of applicability, too unlike the training "
        f"patches{worst}; no score holds there, and the map greys it."
    )


def _of_distances(audit: dict[str, Any]) -> str:
    """Which kind of folds has distances like those of the map's use."""
    held_out = audit["distances"]["held_out_to_train"]
    random, spatial = (held_out[split]["wasserstein_m"] for split in ("random", "zoned"))
    if spatial <= random:
        nearer, advice = "spatial", "the score of spatial CV holds for the rest of this ground, too"
    else:
        nearer = "random"
        advice = (
            "for the rest of this ground expect something between the two scores, for another scene rather that of "
            "spatial CV or less"
        )
    return (
        f"The distances from the map to its patches are more like those under {nearer} CV (Wasserstein distance "
        f"{_count(random)} m for random CV, {_count(spatial)} m for spatial CV): {advice}."
    )


def _of_range(errors: dict[str, Any]) -> str:
    """How large zones are beside the range of the errors' spatial correlation."""
    zones = f"zones are about {_count(errors['zone_size_m'])} m wide"
    if errors["range_m"] is None:
        return f"No spatial correlation of the errors was found; {zones}."
    more = "" if errors["levels_off"] else " or more"
    return f"Errors are spatially correlated over {_count(errors['range_m'])} m{more}; {zones}."


def _strips(result: ReportData) -> list[dict[str, Any]]:
    """The scores of the headline on one scale: label, kind, and the accuracy with its interval."""
    summary, audit = result.summary, result.audit
    baseline = f"Band statistics ({audit['baseline'].replace('_', ' ')})"
    splits = result.scores.get("pixels", {}).get("splits", {})
    rows = [(f"Pixels, {label}", kind, splits[name]) for name, (label, kind) in PIXEL_SPLITS.items() if name in splits]
    if "baseline" in result.scores.get("pixels", {}):
        rows.append(("Pixels, best classical model, spatial CV", "other", result.scores["pixels"]["baseline"]))
    network = "Patches" if rows else "Network"
    rows.append((f"{network}, spatial CV", "zoned", summary["zoned"]))
    if "test" in summary:
        rows.append((f"{network}, test region", "zoned", summary["test"]))
    if "random" in summary:
        rows.append((f"{network}, random CV", "random", summary["random"]))
    rows.append((f"{baseline}, spatial CV", "other", audit["zoned"]))
    rows.append(("Coordinates alone, spatial CV", "other", audit["coordinates"]["zoned"]))
    return [{"label": label, "kind": kind} | scores["accuracy"] for label, kind, scores in rows]


def _confusion(counts: list[list[int]]) -> list[list[dict[str, Any]]]:
    """Cells with their count, their share of the true class and the step of their shading."""
    rows = []
    for row in counts:
        total = sum(row)
        parts = [number / total if total else 0.0 for number in row]
        cells = zip(row, parts, strict=True)
        rows.append([{"count": n, "share": part, "shade": math.ceil(part * (SHADES - 1))} for n, part in cells])
    return rows


def _address(content: bytes) -> str:
    """A figure as an address that holds it."""
    kind = "png" if content.startswith(b"\x89PNG") else "svg+xml"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _last_epoch(result: ReportData) -> dict[str, float]:
    """The means over folds of all numbers of the last epoch."""
    history = result.history
    return history[history["epoch"] == history["epoch"].max()].mean().to_dict()


def _notices(result: ReportData) -> list[tuple[str, str]]:
    """Warnings of all stages: where, and what."""
    notices = [("scores", text) for text in result.scores["warnings"]]
    notices += [("audit", text) for text in result.audit["warnings"]]
    notices += [("folds", text) for text in result.folds["cautions"]]
    for fold, counts in result.folds["folds"].items():
        notices += [(f"fold {fold}", text) for text in counts["flags"]]
    notices += [(f"scene {name}, refused", text) for name, text in result.scenes["refusals"].items()]
    for scene in result.scenes["scenes"]:
        notices += [(f"scene {scene['scene']}", text) for text in scene["warnings"]]
    if overlap := result.patches.get("label_overlap_m2"):
        notices.append(("labels", f"classes overlap on {_count(overlap)} m²"))
    if repaired := result.patches.get("labels_mended"):
        notices.append(("labels", f"{_count(repaired)} polygons crossed themselves and were repaired"))
    return notices


def _files(scenes: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Scene, file and SHA-256, each file once; nothing of many scenes."""
    if len(scenes) > MANY_SCENES:
        return []
    return list(
        dict.fromkeys((scene["scene"], band["file"], band["sha256"]) for scene in scenes for band in scene["bands"])
    )


def _yaml(values: Any) -> str:
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)


def _software() -> dict[str, str]:
    """Versions of what makes the numbers."""
    versions = {"Python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in PACKAGES}
    return versions | {"GDAL": rasterio.__gdal_version__}
