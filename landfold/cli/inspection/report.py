"""An inspection as text of 100 columns, and as data."""

import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from landfold.cli.inspection import NOT_LOOKED_AT, Finding, Inspection
from landfold.cli.inspection.labels import LabelView
from landfold.cli.inspection.scenes import SceneView
from landfold.geo.bands import STANDARD_NAMES

WIDTH = 100
MAX_LINES = 20
"""With more scenes than this, those of one kind share a line."""
MAX_FINDINGS = 12
MAX_NAMES = 3
MAX_SETS = 6
MAX_VALUES = 40

_PASTE = "Proposed for params.yaml, in the place of the sections of these names"
_FILL_IN = 'Fill in what is "?", then inspect again: what depends on it is not judged yet.'
_PUT = "For a run, put scenes below data/raw/scenes and labels below data/raw/labels."

_KINDS = {
    "delivery": "a delivery, with scenes/ and labels/ as data/raw has them",
    "scenes": "a folder of scenes",
    "scene": "one scene",
    "labels": "labels",
}


def report_text(found: Inspection) -> str:
    """All that was found, in sections; each line at most WIDTH columns, but for those of the proposal."""
    parts = [_head(found)]
    if found.scenes:
        parts.append(_scenes(found))
    if found.labels is not None:
        parts.append(_labels(found.labels))
    refusals, warnings = _relative(found.refusals, found.path), _relative(found.warnings, found.path)
    parts.append(_findings("Would be refused", refusals) if refusals else "Nothing would be refused.")
    if warnings:
        parts.append(_findings("Warnings", warnings))
    parts.append("\n".join(["Not looked at", *(f"  {line}" for line in NOT_LOOKED_AT)]))
    parts.append("\n".join([_PASTE, *_advice(found), "", found.proposal.text.rstrip()]))
    return "\n\n".join(parts)


def report_data(found: Inspection) -> dict[str, Any]:
    """The same content for machines."""
    return {
        "path": str(found.path),
        "kind": found.place.kind,
        "judged_by": found.judged_by,
        "taken": found.taken,
        "scenes": [_scene_data(found, view) for view in found.scenes],
        "labels": None if found.labels is None else _label_data(found.labels),
        "refusals": [vars(finding) for finding in found.refusals],
        "warnings": [vars(finding) for finding in found.warnings],
        "not_looked_at": list(NOT_LOOKED_AT),
        "proposal": {"sections": found.proposal.sections, "yaml": found.proposal.text},
    }


def _scene_data(found: Inspection, view: SceneView) -> dict[str, Any]:
    scene, (width, height) = view.scene, view.size_px or (None, None)
    return {
        "name": scene.name,
        "sensor": scene.sensor,
        "acquired": scene.acquired,
        "processing": scene.processing,
        "crs": view.crs_name,
        "width_px": width,
        "height_px": height,
        "resolutions": list(view.resolutions),
        "unit": view.unit,
        "orientation": view.orientation,
        "bounds": list(view.grid.bounds) if view.grid else None,
        "dtype": view.dtype,
        "bands": view.bands,
        "unnamed_bands": list(view.nameless),
        "masks": [mask.kind for mask in scene.masks],
        "verdict": "refused" if found.refused(scene.name) else "taken",
    }


def _label_data(view: LabelView) -> dict[str, Any]:
    return {
        "kind": view.kind,
        "file": view.path.name if view.path else None,
        "crs": view.crs,
        "layer": view.layer,
        "layers": list(view.layers),
        "features": view.features,
        "invalid": view.invalid,
        "attribute": view.attribute.name if view.attribute else None,
        "attributes": {a.name: {"values": dict(a.values), "empty": a.empty} for a in view.attributes},
        "all_attributes": list(view.all_attributes),
        "unit": view.unit,
        "values": dict(view.values),
        "others": [path.name for path in view.others],
        "fault": view.fault,
    }


def _head(found: Inspection) -> str:
    by = "the settings proposed below" if found.judged_by == "proposal" else f"your {found.judged_by}"
    return f"{found.path}: {_KINDS[found.place.kind]}\njudged by {by}"


def _advice(found: Inspection) -> Iterable[str]:
    if '"?' in found.proposal.text:
        yield f"  {_FILL_IN}"
    if found.place.kind != "delivery":
        yield f"  {_PUT}"


# Scenes


def _scenes(found: Inspection) -> str:
    many = len(found.scenes) > MAX_LINES
    rows = _grouped(found) if many else [_row(found, view) for view in found.scenes]
    heads = ("scenes" if many else "scene", "sensor", "date", "CRS", "size px", "pixel", "bands", "masks", "verdict")
    refused = sum(found.refused(view.scene.name) for view in found.scenes)
    title = (
        f"{_count(len(found.scenes), 'scene')}, {refused} would be refused"
        if refused
        else _count(len(found.scenes), "scene")
    )
    more = [f"  and {len(rows) - MAX_LINES} more kinds of scenes"] if len(rows) > MAX_LINES else []
    return "\n".join([title, *_table([heads, *rows[:MAX_LINES]]), *more, *_bands(found.scenes)])


def _row(found: Inspection, view: SceneView) -> tuple[str, ...]:
    return (
        view.scene.name,
        view.scene.sensor,
        view.scene.acquired or "-",
        _short(view.crs_name or "none", 14),
        "x".join(map(str, view.size_px)) if view.size_px else "-",
        _pixel([view]),
        str(len(view.bands) or (f"{len(view.nameless)}?" if view.nameless else "-")),
        ",".join(dict.fromkeys(mask.kind for mask in view.scene.masks)) or "-",
        "REFUSED" if found.refused(view.scene.name) else "taken",
    )


def _grouped(found: Inspection) -> list[tuple[str, ...]]:
    """One row for all scenes that differ in name, date and a little in pixel size only."""
    refused = {finding.name for finding in found.refusals if finding.about == "scene"}
    groups: dict[tuple[Any, ...], list[SceneView]] = {}
    for view in found.scenes:
        key = (view.scene.sensor, view.crs_name, view.size_px, view.orientation, tuple(view.bands), len(view.nameless))
        groups.setdefault((*key, view.scene.name in refused), []).append(view)
    rows = []
    for views in sorted(groups.values(), key=len, reverse=True):
        row = _row(found, views[0])
        dates = sorted({view.scene.acquired for view in views if view.scene.acquired})
        date = row[2] if len(dates) < 2 else f"{dates[0][:4]}-{dates[-1][:4]}"
        name = row[0] if len(views) == 1 else f"{len(views)} as {_short(row[0], 18)}"
        rows.append((name, row[1], date, row[3], row[4], _pixel(views), *row[6:]))
    return rows


def _pixel(views: Sequence[SceneView]) -> str:
    """The pixel sizes of scenes, and how they are turned."""
    sizes = sorted({size for view in views for size in view.resolutions})
    if not sizes:
        return "-"
    unit = {"degree": "deg", None: ""}.get(views[0].unit, views[0].unit)
    span = [f"{size:.4g}" for size in (sizes[0], sizes[-1])]
    turned = "" if views[0].orientation == "north-up" else f" {views[0].orientation}"
    return f"{'-'.join(dict.fromkeys(span))} {unit}{turned}".strip()


def _bands(views: Sequence[SceneView]) -> Iterable[str]:
    """A legend of the sets of bands."""
    sets = Counter(tuple(view.bands) for view in views if view.bands)
    order = list(STANDARD_NAMES).index
    for bands, count in sets.most_common(MAX_SETS):
        names = " ".join(sorted(bands, key=order))
        yield from _fold(f"{_count(len(bands), 'band')} of {_count(count, 'scene')}: {names}", "  ", "    ")
    unnamed = Counter(len(view.nameless) for view in views if view.nameless and not view.bands)
    for bands, count in unnamed.most_common(MAX_SETS):
        yield f"  {bands}? = {bands} bands without names that Landfold knows, in {_count(count, 'scene')}"


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    room = WIDTH - sum(widths[1:]) - 2 * len(widths)
    rows = [(_short(first, max(room, 8)), *rest) for first, *rest in rows]
    widths[0] = max(len(first) for first, *_ in rows)
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return [f"  {line}".rstrip() for line in lines]


# Labels


def _labels(view: LabelView) -> str:
    facts = [view.kind, view.path.name if view.path else "the folder that holds a scene is its class"]
    facts += [f"layer {view.layer} of {len(view.layers)}"] if view.layer else []
    facts += [view.crs or "no CRS"] if view.kind in ("polygons", "points", "raster") and not view.fault else []
    facts += [f"{view.features} {'lines' if view.kind == 'table' else 'features'}"] if view.features is not None else []
    facts += [f"{view.invalid} invalid"] if view.invalid else []
    lines = [f"Labels: {', '.join(facts)}"]
    if view.fault:
        return "\n".join([*lines, *_fold(view.fault, "  ", "  ")])
    if view.attribute:
        others = ", ".join(f"{a.name} ({len(a.values)})" for a in view.attributes[1:])
        lines += _fold(f"attribute {view.attribute.name}" + (f"; or {others}" if others else ""), "  ", "    ")
    values = ", ".join(f"{value} {count}" for value, count in list(view.values.items())[:MAX_VALUES])
    values += f" and {len(view.values) - MAX_VALUES} more" if len(view.values) > MAX_VALUES else ""
    head = f"{_count(len(view.values), 'value')} ({view.unit} of each)"
    return "\n".join([*lines, *_fold(f"{head}: {values}" if values else "no values", "  ", "    ")])


# Refusals and warnings


def _findings(title: str, findings: Sequence[Finding]) -> str:
    """Messages that differ in the name of their scene alone are one."""
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(_without_name(finding), []).append(finding)
    lines = [title]
    for same in list(groups.values())[:MAX_FINDINGS]:
        lines += _entry(same)
    if len(groups) > MAX_FINDINGS:
        lines.append(f"  and {len(groups) - MAX_FINDINGS} more; --json has them all")
    return "\n".join(lines)


def _relative(findings: Sequence[Finding], path: Path) -> list[Finding]:
    """Messages with paths below the folder that was asked about."""
    base = path if path.is_dir() else path.parent
    return [replace(finding, message=finding.message.replace(f"{base}/", "")) for finding in findings]


def _entry(same: Sequence[Finding]) -> Iterable[str]:
    first = same[0]
    message = first.message.removeprefix(f"scene {first.name}: ")
    if len(same) > 1:
        names = ", ".join(str(finding.name) for finding in same[:MAX_NAMES])
        names += f" and {len(same) - MAX_NAMES} more" if len(same) > MAX_NAMES else ""
        message = f"{len(same)} scenes ({names}), the first: {message}"
    elif first.about == "scene" and not message.startswith(f"{first.name}."):
        message = f"{first.name}: {message}"
    elif first.about == "labels" and not message.startswith("labels"):
        message = f"labels: {message}"
    for line in message.splitlines():
        yield from _fold(line, "  - " if line == message.splitlines()[0] else "    ", "    ")


def _without_name(finding: Finding) -> str:
    """A message without what is the scene's own: its name, and the path that leads to it."""
    if not finding.name:
        return finding.message
    return " ".join("" if finding.name in word else word for word in finding.message.split())


# Words


def _fold(text: str, first: str, rest: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _short(text: str, width: int) -> str:
    """A text of at most ``width`` signs: its two ends."""
    if len(text) <= width:
        return text
    ahead = (width - 2) // 2
    return f"{text[:ahead]}..{text[ahead + 2 - width :]}"
