"""The result as one page that needs nothing else: scores, maps, what was dropped, and what it was made of.

The page is HTML whose bytes depend on the result alone. Pictures are inside it, and it loads nothing.
"""

import base64
import csv
import importlib.metadata
import math
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import rasterio
import yaml

from landfold.core.digests import file_sha256
from landfold.core.errors import LandfoldError
from landfold.core.files import read_json
from landfold.report import charts

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

PICTURES = ("map", "errors", "folds", "gap", "audit_distances", "accuracy_by_distance")

PACKAGES = ("torch", "torchvision", "scikit-learn", "numpy", "rasterio", "geopandas")

DROPPED = {
    "small": "in a scene that is smaller than a patch",
    "invalid": "too much nodata or cloud (patches.max_invalid)",
    "unlabelled": "no label",
    "impure": "no class has enough of the core (patches.min_purity)",
}
"""Why windows are dropped, in metrics/patches.json."""

SCORES = {"accuracy": "Accuracy", "balanced_accuracy": "Balanced accuracy", "macro_f1": "Macro F1"}


class ReportError(LandfoldError):
    """A result that lacks a part."""


@dataclass(frozen=True)
class Result:
    """What the page tells, as the stages wrote it.

    ``scores`` is metrics/scores.json (see `landfold.scores`), ``card`` the model.json of the first fold,
    ``applicability`` that of the maps, None where it is off; ``history`` the rows of history.csv, ``pictures`` the
    bytes of PNG files by their name, ``params`` the sections in force, ``digests`` the SHA-256 of every file read.
    """

    summary: dict[str, Any]
    scores: dict[str, Any]
    audit: dict[str, Any]
    patches: dict[str, Any]
    folds: dict[str, Any]
    scenes: dict[str, Any]
    index: dict[str, Any]
    card: dict[str, Any]
    applicability: dict[str, Any] | None
    history: list[dict[str, float]]
    pictures: dict[str, bytes]
    params: dict[str, Any]
    digests: dict[str, str]


def read_result(metrics: Path, *, scenes: Path, index: Path, card: Path, maps: Path, params: dict[str, Any]) -> Result:
    """Read what the stages wrote.

    Args:
        metrics: the folder of summary.json, scores.json, audit.json, patches.json, folds.json and plots.
        scenes: the scenes' report.json.
        index: the folds' index.json.
        card: the model.json of a fold.
        maps: the folder of the maps, where applicability.json is unless it is off.
        params: the sections of params.yaml.

    Raises:
        ReportError: naming a file that is not there.
    """
    json_files = {name: metrics / f"{name}.json" for name in ("summary", "scores", "audit", "patches", "folds")}
    json_files |= {"scenes": scenes, "index": index, "card": card}
    history, applicability = metrics / "plots/history.csv", maps / "applicability.json"
    pictures = {name: metrics / f"plots/{name}.png" for name in PICTURES}
    required = [*json_files.values(), history, *pictures.values()]
    for path in required:
        if not path.is_file():
            raise ReportError(f"{path}: not found; run `dvc repro`, so that its stage writes it")
    found: dict[str, Any] = {name: read_json(path) for name, path in json_files.items()}
    with history.open(encoding="utf-8", newline="") as stream:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(stream)]
    return Result(
        **found,
        applicability=read_json(applicability) if applicability.is_file() else None,
        history=rows,
        pictures={name: path.read_bytes() for name, path in pictures.items()},
        params=params,
        digests={path.as_posix(): file_sha256(path) for path in required},
    )


def page(result: Result, colours: Sequence[tuple[int, int, int]]) -> str:
    """The page as HTML text; ``colours`` are those of the classes, in the order of ``scores.classes``."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"score": score, "signed": signed, "count": count, "percent": percent, "interval": interval}
    classes = result.scores["classes"]
    return environment.get_template(TEMPLATE.name).render(
        r=result,
        title=str(result.params["project"]["name"]),
        swatch={name: f"#{r:02x}{g:02x}{b:02x}" for name, (r, g, b) in zip(classes, colours, strict=True)},
        score_names=SCORES,
        baseline=result.audit["baseline"].replace("_", " "),
        sentences=_sentences(result),
        strips=_strips(result),
        confusion=_confusion(result.scores["confusion"]),
        shares=len(classes) <= MANY_CLASSES,
        images=_images(result),
        dropped=[(DROPPED[reason], result.patches["dropped"][reason]) for reason in DROPPED],
        notices=_notices(result),
        sections={name: _yaml(values) for name, values in result.params.items() if name != "track"},
        files=_files(result.scenes["scenes"]),
        software=_software(),
        light=LIGHT,
        dark=DARK,
        shades={"light": shades(LIGHT), "dark": shades(DARK)},
    )


def score(value: float | None) -> str:
    """A score in two digits; a dash where it is not defined."""
    return "–" if value is None else f"{value:.2f}".replace("-", "−")  # noqa: RUF001 - a minus sign


def signed(value: float | None) -> str:
    """A difference in two digits, with its sign."""
    return "–" if value is None else f"{value:+.2f}".replace("-", "−")  # noqa: RUF001 - a minus sign


def count(value: float | None) -> str:
    """A number with narrow spaces between its thousands; a dash where it is not defined."""
    return "–" if value is None else f"{value:,.0f}".replace(",", "\u202f")  # noqa: RUF001 - a dash


def percent(value: float) -> str:
    """A share in percent."""
    return f"{100 * value:.1f}\u00a0%"


def interval(found: dict[str, Any]) -> str:
    """The bounds of an interval in words."""
    if found.get("low") is None:
        return "no interval"
    return f"{score(found['low'])} to {score(found['high'])}"


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


def _sentences(result: Result) -> dict[str, str]:
    """What the numbers mean, in words."""
    accuracy = result.summary["zoned"]["accuracy"]
    meaning = (
        f"Of 100 patches on ground of this kind that the network has not seen, it names about "
        f"{100 * accuracy['pooled']:.0f} rightly; other zones of this kind would give "
        f"{100 * accuracy['low']:.0f} to {100 * accuracy['high']:.0f}."
    )
    of_parts = {"random": _of_random, "baseline": _of_baseline, "applicability": _of_applicability}
    return {"meaning": meaning} | {name: words(result) for name, words in of_parts.items()} | _of_distances(result)


def _of_random(result: Result) -> str:
    """What random folds would have said of the network, else of band statistics."""
    summary, found = result.summary, result.summary if "gap" in result.summary else result.audit
    random, gap = found["random"]["accuracy"], found["gap"]["accuracy"]
    who = "A random split would have said"
    if found is not summary:
        who = (
            "The network was not trained under random folds (audit.network: false). Of band statistics alone, "
            "a random split would have said"
        )
    text = f"{who} {score(random['pooled'])}"
    if gap["low"] > 0:
        return f"{text}: {score(gap['pooled'])} too much ({interval(gap)})."
    if gap["pooled"] > 0:
        return f"{text}, {score(gap['pooled'])} more, which may be chance ({interval(gap)})."
    return f"{text}, no more than under zoned folds (a difference of {signed(gap['pooled'])}, {interval(gap)})."


def _of_baseline(result: Result) -> str:
    over, reached = result.summary["over_baseline"]["accuracy"], result.audit["zoned"]["accuracy"]
    kind = result.audit["baseline"].replace("_", " ")
    text = f"A {kind} on the mean and spread of each channel reaches {score(reached['pooled'])} on the same patches"
    if over["low"] > 0:
        return f"{text}; the network is better by {score(over['pooled'])} ({interval(over)})."
    if over["high"] < 0:
        return f"{text}; the network is worse by {score(-over['pooled'])}: shape and texture taught it nothing."
    return f"{text}; the network's {signed(over['pooled'])} ({interval(over)}) may be chance."


def _of_applicability(result: Result) -> str:
    """The share of the maps that no score speaks for; nothing where that is not known."""
    if result.applicability is None:
        return ""
    scenes = result.applicability["scenes"].values()
    share = sum(scene["outside"] * scene["cells"] for scene in scenes) / max(1, sum(scene["cells"] for scene in scenes))
    most = max(result.applicability["scenes"], key=lambda name: result.applicability["scenes"][name]["outside"])
    worst = f", most of all of {most} ({percent(result.applicability['scenes'][most]['outside'])})"
    return (
        f"{percent(share)} of the mapped ground is unlike the training patches{worst if len(scenes) > 1 else ''}; "
        "no score holds there, and the map greys it."
    )


def _of_distances(result: Result) -> dict[str, str]:
    """Which split resembles the map's use, and how large zones are beside the reach of alike errors."""
    held_out = result.audit["distances"]["held_out_to_train"]
    reach = {split: held_out[split]["wasserstein_m"] for split in ("zoned", "random")}
    nearer = min(reach, key=reach.__getitem__)
    advice = {
        "zoned": "the zoned score speaks for the rest of this ground, too",
        "random": "for the rest of this ground expect something between the two scores, for another scene rather "
        "the zoned one or less",
    }[nearer]
    distances = (
        f"Distances under {nearer} folds resemble those from the map to its patches more (the Wasserstein distance is "
        f"{count(reach['random'])} m for random folds, {count(reach['zoned'])} m for zoned ones): {advice}."
    )
    found = result.audit["autocorrelation"]
    wide = f"zones are about {count(found['zone_size_m'])} m wide"
    if found["range_m"] is None:
        return {"distances": distances, "reach": f"No range of alike errors was found; {wide}."}
    more = "" if found["levels_off"] else " or more"
    reached = f"Errors resemble each other over {count(found['range_m'])} m{more}; {wide}."
    return {"distances": distances, "reach": reached}


def _strips(result: Result) -> list[dict[str, Any]]:
    """The scores of the headline on one scale: label, kind, and the accuracy with its interval."""
    summary, audit = result.summary, result.audit
    baseline = f"Band statistics ({audit['baseline'].replace('_', ' ')})"
    rows = [("Network, ground it has not seen", "zoned", summary["zoned"])]
    if "test" in summary:
        rows.append(("Network, test region", "zoned", summary["test"]))
    if "random" in summary:
        rows.append(("Network, as a random split has it", "random", summary["random"]))
    rows.append((f"{baseline}, ground not seen", "other", audit["zoned"]))
    rows.append(("Place alone, no image, ground not seen", "other", audit["coordinates"]["zoned"]))
    return [{"label": label, "kind": kind} | found["accuracy"] for label, kind, found in rows]


def _confusion(counts: list[list[int]]) -> list[list[dict[str, Any]]]:
    """Cells with their count, their share of the true class and the step of their shading."""
    rows = []
    for row in counts:
        total = sum(row)
        parts = [number / total if total else 0.0 for number in row]
        cells = zip(row, parts, strict=True)
        rows.append([{"count": n, "share": part, "shade": math.ceil(part * (SHADES - 1))} for n, part in cells])
    return rows


def _images(result: Result) -> dict[str, dict[str, str]]:
    """Source and text of every picture."""
    scores, audit, names = result.scores, result.audit, ", ".join(result.scores["classes"])
    worst, pooled = scores["zone_summary"]["worst"], result.summary["zoned"]["accuracy"]["pooled"]
    median = scores["zone_summary"]["median_accuracy"]
    last = max(row["epoch"] for row in result.history)
    ends = {
        key: score(sum(values) / len(values))
        for key in ("train_loss", "validation_loss", "train_accuracy", "validation_accuracy")
        if (values := [row[key] for row in result.history if row["epoch"] == last])
    }
    calibration = scores["calibration"]
    drawn = {
        "loss": charts.curves(result.history, "loss", "loss"),
        "accuracy": charts.curves(result.history, "accuracy", "accuracy"),
        "reliability": charts.reliability(calibration["reliability"]),
        "zones": charts.zones(scores["per_zone"], median=median, pooled=pooled),
    }
    gap = result.summary.get("gap", audit["gap"])["accuracy"]
    alts = {
        "map": f"Above, a scene in natural colours; below, the map of the same ground in the colours of the "
        f"classes {names}.",
        "errors": f"Places of the {count(scores['patches'])} patches: right ones pale, wrong ones as dots in the "
        "colour of their true class.",
        "folds": f"Map of {scores['zones']} zones over the scenes, each in the colour of the fold that holds it out, "
        "with the patches in them; patches dropped beside a border are outlined.",
        "gap": f"Bars of accuracy, balanced accuracy and macro F1 under random and zoned folds; of accuracy, random "
        f"folds give {signed(gap['pooled'])} more.",
        "audit_distances": "Cumulative distances: from held-out patches to the nearest training patch under random "
        "and zoned folds, between neighbouring patches, and from the map to the nearest patch.",
        "accuracy_by_distance": "Accuracy of band statistics by the distance to the nearest training patch, under "
        "random and zoned folds.",
        "loss": f"Loss of every fold over {last:.0f} epochs; the means end at {ends['train_loss']} in training and "
        f"{ends['validation_loss']} on held-out ground.",
        "accuracy": f"Accuracy of every fold over {last:.0f} epochs; the means end at {ends['train_accuracy']} in "
        f"training and {ends['validation_accuracy']} on held-out ground.",
        "reliability": f"Share of right predictions by their confidence; the expected calibration error is "
        f"{score(calibration['before']['ece'])} before temperature scaling, {score(calibration['after']['ece'])} "
        "after it.",
        "zones": f"Accuracy of {scores['zones']} zones in rising order, from {score(worst['accuracy'])} in "
        f"{worst['zone']}; the median is {score(median)}.",
    }
    sources = {name: _data("png", content) for name, content in result.pictures.items()}
    sources |= {name: _data("svg+xml", svg.encode()) for name, svg in drawn.items()}
    return {name: {"src": sources[name], "alt": alts[name]} for name in alts}


def _data(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _notices(result: Result) -> list[tuple[str, str]]:
    """Warnings of all stages: where, and what."""
    found = [("scores", text) for text in result.scores["warnings"]]
    found += [("audit", text) for text in result.audit["warnings"]]
    found += [("folds", text) for text in result.folds["cautions"]]
    for fold, told in result.folds["folds"].items():
        found += [(f"fold {fold}", text) for text in told["flags"]]
    found += [(f"scene {name}, refused", text) for name, text in result.scenes["refusals"].items()]
    for scene in result.scenes["scenes"]:
        found += [(f"scene {scene['scene']}", text) for text in scene["warnings"]]
    if result.patches.get("label_overlap_m2"):
        found.append(("labels", f"classes overlap on {count(result.patches['label_overlap_m2'])} m²"))
    if result.patches.get("labels_mended"):
        found.append(
            ("labels", f"{count(result.patches['labels_mended'])} polygons crossed themselves and were mended")
        )
    return found


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
