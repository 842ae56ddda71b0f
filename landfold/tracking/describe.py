"""The content of a run: metrics, tags, the data set, and a description of the result in markdown."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from landfold.core.errors import first_ten
from landfold.scores.sentences import accuracy_sentence, optimism_sentence, with_interval
from landfold.tracking.origin import CHANGED, COMMIT, DIRTY
from landfold.tracking.redaction import redact_secrets
from landfold.tracking.result import TrackedResult
from landfold.tracking.runs import FOLD, K
from landfold.tracking.store import numbers

NOTE = "mlflow.note.content"
"""The tag that MLflow's page of a run shows first, as markdown."""

HEADLINES = ("accuracy", "balanced_accuracy", "macro_f1")


def metrics(result: TrackedResult) -> dict[str, float]:
    """Metrics of the parent: metrics/summary.json by dotted names, as in `dvc exp show`."""
    return numbers(result.summary)


def fold_metrics(result: TrackedResult, fold: int) -> dict[str, float]:
    """The final scores of one fold, such as ``zoned.accuracy``; the parent's end with ``.pooled`` or ``.mean``.

    Of a network of pixels there are ``pixels.accuracy`` and so on, too, and their number ``pixels.count``.
    """
    row = {name: value for name, value in _fold_row(result.scores, fold).items() if name not in ("fold", "repeat")}
    plain = ("patches", "temperature")
    values = {name if name in plain else f"zoned.{name}": value for name, value in row.items()}
    of_pixels = _fold_row(result.scores.get("pixels", {}), fold)
    names = {"pixels": "count"} | {name: name for name in HEADLINES}
    return numbers(values | {f"pixels.{name}": of_pixels[key] for key, name in names.items() if key in of_pixels})


def _fold_row(scores: Mapping[str, Any], fold: int) -> Mapping[str, Any]:
    return next((row for row in scores.get("per_fold", []) if row.get("fold") == fold), {})


def tags(result: TrackedResult) -> dict[str, str]:
    """Tags of parent and children, to filter and group runs by; digests are shortened to 16 characters."""
    zones = result.params.get("zones", {})
    values = {
        "landfold.data_digest": result.data_digest[:16],
        "landfold.params_digest": result.params_digest[:16],
        "landfold.model_digest": result.model_digest and result.model_digest[:16],
        K: result.k,
        "landfold.folds": len(result.folds),
        "landfold.split": "zoned",
        "landfold.zones.kind": zones.get("kind"),
        "landfold.zones.assignment": zones.get("assignment"),
    }
    return {name: str(value) for name, value in values.items() if value is not None}


def fold_tags(result: TrackedResult, fold: int) -> dict[str, str]:
    """Tags of a child."""
    return tags(result) | {FOLD: str(fold), NOTE: _fold_note(result, fold)}


def dataset(result: TrackedResult) -> dict[str, str]:
    """The patches of a result as the fields of MLflow's `Dataset`; ``digest`` is cut to 36 characters."""
    card, scenes = result.cards[0], result.scenes.get("scenes", [])
    zones = result.summary.get("zones")
    profile = {
        "num_rows": result.summary.get("patches"),
        "zones": zones,
        "folds": len(result.folds),
        "scenes": len(scenes) or None,
        "patches_by_class": {row["class"]: row["support"] for row in result.scores.get("per_class", [])},
    }
    columns = [{"name": name, "type": "float", "required": True} for name in card.get("channels", [])]
    columns.append({"name": f"class: {', '.join(card.get('classes', []))}", "type": "string", "required": True})
    return {
        "name": result.experiment[:500],
        "digest": result.data_digest[:36],
        "source_type": "local",
        "source": redact_secrets(_json(_source(result)))[
            :60_000
        ],  # MLflow's limits are 65535 and, of a profile, 16777215
        "schema": _json({"mlflow_colspec": columns}),
        "profile": _json({name: value for name, value in profile.items() if value}),
    }


def _source(result: TrackedResult) -> dict[str, Any]:
    """Where the pixels come from: the scenes of data/scenes/report.json, and DVC's digests in dvc.lock."""
    scenes = {s["scene"]: f"{s.get('sensor')}, {s.get('acquired')}" for s in result.scenes.get("scenes", [])}
    dvc = _locked(result, ("data/raw", "data/scenes", "data/patches.parquet"))
    return {"uri": "data/raw", "dvc": dvc, "scenes": scenes}


def _locked(result: TrackedResult, paths: Iterable[str]) -> dict[str, str]:
    """DVC's MD5 of outputs from dvc.lock, and of data/raw from data/raw.dvc where the user has added raw data."""
    import yaml

    outs: list[Any] = []
    for name in ("dvc.lock", "data/raw.dvc"):
        file = result.workspace / name
        content = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else None
        if isinstance(content, dict):
            outs += [out | {"path": "data/raw"} for out in content.get("outs", [])]
            outs += [out for stage in content.get("stages", {}).values() for out in stage.get("outs", [])]
    digests = {out["path"]: out["md5"] for out in outs if "md5" in out}
    return {path: digests[path] for path in paths if path in digests}


def _json(content: object) -> str:
    return json.dumps(content, ensure_ascii=False)


def note(result: TrackedResult, tags_of_run: Mapping[str, str], kept: Iterable[str], left_out: Iterable[str]) -> str:
    """The description of a result: scores with their intervals, optimistic bias of random folds, origin, and files."""
    parts = [_headline(result), _table(result), *_facts(result), _made_from(result, tags_of_run)]
    files = set(kept)
    if "metrics/report.html" in files:
        parts.append("**Report:** tab Artifacts, `metrics/report.html`; tables of classes, zones and folds: `tables/`.")
    if missing := sorted(left_out):
        parts.append(f"Not uploaded, over `track.maps_mb`: {first_ten(missing)}.")
    return redact_secrets("\n\n".join(part for part in parts if part))[:4900]  # MLflow's limit of a tag is 5000


def _headline(result: TrackedResult) -> str:
    accuracy, optimism = accuracy_sentence(result.summary), optimism_sentence(result.summary)
    return (accuracy and f"**{accuracy}.**") + (optimism and f" {optimism}.")


def _table(result: TrackedResult) -> str:
    """The headline scores as a markdown table, narrow enough for MLflow's page; empty rows are left out."""
    pixels = result.summary.get("pixels", {})
    lines = {
        "pixels, spatial folds (95 %)": [_pooled(result.summary, "pixels", name) for name in HEADLINES],
        "pixels, random minus spatial": [_pooled(pixels, "gap", name) for name in HEADLINES],
        "pixels, spatial folds minus baseline": [_pooled(pixels, "over_baseline", name) for name in HEADLINES],
        "spatial folds, pooled (95 %)": [_pooled(result.summary, "zoned", name) for name in HEADLINES],
        "spatial folds, mean ± sd": [_spread(result.summary, name) for name in HEADLINES],
        "random folds": [_pooled(result.summary, "random", name) for name in HEADLINES],
        "random minus spatial folds": [_pooled(result.summary, "gap", name) for name in HEADLINES],
        "spatial folds minus baseline": [_pooled(result.summary, "over_baseline", name) for name in HEADLINES],
    }
    lines = {title: cells for title, cells in lines.items() if any(cells)}
    if not lines:
        return ""
    names = [name.replace("_", " ").replace("f1", "F1") for name in HEADLINES]
    rows = [["", *names], *([title, *cells] for title, cells in lines.items())]
    # the page leaves no space between columns
    spaced = [f"| {' | '.join(f'{cell}&emsp;' for cell in row)} |" for row in rows]
    return "\n".join([spaced[0], "| :--- " * len(rows[0]) + "|", *spaced[1:]])


def _pooled(summary: Mapping[str, Any], part: str, name: str) -> str:
    score = summary.get(part, {}).get(name, {})
    return with_interval(score) if "pooled" in score else ""


def _spread(summary: Mapping[str, Any], name: str) -> str:
    score = summary.get("zoned", {}).get(name, {})
    return f"{score['mean']:.3f} ± {score['std']:.3f}" if "std" in score else ""


def _facts(result: TrackedResult) -> list[str]:
    zones, facts = result.params.get("zones", {}), []
    if "patches" in result.summary:
        pixels = f"{result.summary['pixels']['count']} labelled pixels, " if "pixels" in result.summary else ""
        split = ", ".join(str(zones[name]) for name in ("kind", "assignment") if name in zones)
        facts.append(
            f"{pixels}{result.summary['patches']} patches in {result.summary.get('zones')} zones, "
            f"{len(result.folds)} folds ({split}), buffer {zones.get('buffer_m')} m."
        )
    worst = result.scores.get("zone_summary", {}).get("worst")
    if worst:
        facts.append(f"Worst zone: {worst['zone']}, {worst['accuracy']:.3f} of {worst['patches']} patches are right.")
    return facts + [f"**Warning:** {text}" for text in result.scores.get("warnings", [])]


def _made_from(result: TrackedResult, of_run: Mapping[str, str]) -> str:
    data = f"data `{result.data_digest[:12]}`, settings `{result.params_digest[:12]}`"
    if COMMIT not in of_run:
        return f"Made from {data}."
    changed = of_run.get(DIRTY) == "true"
    changes = f" with changes in {first_ten(of_run[CHANGED].split(', '))}" if changed else ""
    return f"Made from commit `{of_run[COMMIT][:12]}`{changes}; {data}."


def _fold_note(result: TrackedResult, fold: int) -> str:
    row = _fold_row(result.scores, fold)
    text = f"Fold {fold} of {len(result.folds)}: trained on patches of other zones, scored on patches of its own."
    if "accuracy" in row:
        text += f" {row.get('patches')} patches, accuracy {row['accuracy']:.3f}"
        text += f", macro F1 {row['macro_f1']:.3f}." if "macro_f1" in row else "."
    return text + " One fold is noisy: the pooled score and its interval are those of the parent run."
