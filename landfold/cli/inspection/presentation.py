"""An inspection on the terminal, and as data for programs."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from landfold.cli.inspection.inspection import Inspection
from landfold.cli.inspection.label_contents import LabelView
from landfold.cli.inspection.patch_presentation import patch_data, show_patches
from landfold.cli.inspection.proposal import Proposal
from landfold.cli.inspection.scene_headers import SceneView
from landfold.cli.inspection.verdict import Finding
from landfold.geo.bands import STANDARD_NAMES

MAX_ROWS = 20
"""With more scenes than this, those of one kind share a row."""
MAX_FINDINGS = 12
MAX_NAMES = 3
MAX_SETS = 6
MAX_VALUES = 40

NOT_CHECKED = (
    "damaged pixels, and the share of valid ones (ingest.min_valid), which takes reading all of them",
    "what nodata and clouds hide: the patches are counted as if all pixels held data",
)

_KINDS = {
    "delivery": "a delivery, with scenes/ and labels/ as data/raw has them",
    "scenes": "a folder of scenes",
    "scene": "one scene",
    "labels": "labels",
}


def show(inspection: Inspection, console: Console, *, written: Proposal | None = None) -> None:
    """Print an inspection in sections, as wide as the console; sections of params.yaml as they are.

    ``written`` is what has been put into the file before, which is then shown, and no proposal.
    """
    by = "the settings proposed below" if inspection.judged_by == "proposal" else f"your {inspection.judged_by}"
    _print(console, f"{inspection.path}: {_KINDS[inspection.place.kind]}\njudged by {by}")
    if inspection.scenes:
        _show_scenes(inspection, console)
    if inspection.labels is not None:
        _show_labels(inspection.labels, console)
    if inspection.trial is not None:
        show_patches(inspection.trial, console)
    if inspection.refusals:
        _show_findings("Would be refused", inspection.refusals, inspection, console)
    else:
        _print(console, "\nNothing would be refused.")
    if inspection.warnings:
        _show_findings("Warnings", inspection.warnings, inspection, console)
    _print(console, "\nNot checked")
    _show_list(NOT_CHECKED, console)
    proposal = written or inspection.proposal
    if not proposal.commented:
        _print(console, "\nNo other settings are proposed.")
        return
    title = "Proposed for params.yaml, in the place of the sections of these names; --write puts them there"
    _print(console, f"\n{'Written to params.yaml, without these comments' if written else title}")
    if proposal.unknown:
        _print(console, '  Fill in what is "?", then inspect again: what depends on it is not judged yet.')
    if inspection.labels is None:
        _print(console, "  labels: none were found")
    if inspection.place.kind != "delivery":
        _print(console, "  For a run, put scenes below data/raw/scenes and labels below data/raw/labels.")
    console.print(f"\n{proposal.text.rstrip()}", soft_wrap=True, markup=False, highlight=False)


def report_data(inspection: Inspection) -> dict[str, Any]:
    """The same content for programs."""
    return {
        "path": str(inspection.path),
        "kind": inspection.place.kind,
        "judged_by": inspection.judged_by,
        "taken": inspection.taken,
        "scenes": [_scene_data(inspection, view) for view in inspection.scenes],
        "labels": None if inspection.labels is None else _label_data(inspection.labels),
        "patches": None if inspection.trial is None else patch_data(inspection.trial),
        "refusals": [asdict(finding) for finding in inspection.refusals],
        "warnings": [asdict(finding) for finding in inspection.warnings],
        "not_checked": list(NOT_CHECKED),
        "proposal": {"sections": inspection.proposal.sections, "yaml": inspection.proposal.text},
    }


def _scene_data(inspection: Inspection, view: SceneView) -> dict[str, Any]:
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
        "verdict": "refused" if inspection.refused(scene.name) else "taken",
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


def _show_scenes(inspection: Inspection, console: Console) -> None:
    many = len(inspection.scenes) > MAX_ROWS
    rows = _grouped(inspection) if many else [_row(inspection, view) for view in inspection.scenes]
    refused = sum(inspection.refused(view.scene.name) for view in inspection.scenes)
    title = _count(len(inspection.scenes), "scene") + (f", {refused} would be refused" if refused else "")
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("scenes" if many else "scene", overflow="fold")
    for name in ("sensor", "date", "CRS", "size px", "pixel", "bands", "masks", "verdict"):
        table.add_column(name, no_wrap=name != "CRS")
    for row in rows[:MAX_ROWS]:
        table.add_row(*row)
    _print(console, f"\n{title}")
    console.print(Padding(table, (0, 0, 0, 2)), markup=False, highlight=False)
    if len(rows) > MAX_ROWS:
        _print(console, f"  and {len(rows) - MAX_ROWS} more kinds of scenes")
    _show_list(_band_sets(inspection.scenes), console)


def _row(inspection: Inspection, view: SceneView) -> tuple[str, ...]:
    return (
        view.scene.name,
        view.scene.sensor,
        view.scene.acquired or "-",
        view.crs_name or "none",
        "x".join(map(str, view.size_px)) if view.size_px else "-",
        _pixel([view]),
        str(len(view.bands) or (f"{len(view.nameless)}?" if view.nameless else "-")),
        ",".join(dict.fromkeys(mask.kind for mask in view.scene.masks)) or "-",
        "REFUSED" if inspection.refused(view.scene.name) else "taken",
    )


def _grouped(inspection: Inspection) -> list[tuple[str, ...]]:
    """One row for all scenes that differ in name, date and a little in pixel size only."""
    refused = {finding.name for finding in inspection.refusals if finding.about == "scene"}
    groups: dict[tuple[Any, ...], list[SceneView]] = {}
    for view in inspection.scenes:
        key = (view.scene.sensor, view.crs_name, view.size_px, view.orientation, tuple(view.bands), len(view.nameless))
        groups.setdefault((*key, view.scene.name in refused), []).append(view)
    rows = []
    for views in sorted(groups.values(), key=len, reverse=True):
        row = _row(inspection, views[0])
        dates = sorted({view.scene.acquired for view in views if view.scene.acquired})
        date = row[2] if len(dates) < 2 else f"{dates[0][:4]}-{dates[-1][:4]}"
        name = row[0] if len(views) == 1 else f"{len(views)} as {row[0]}"
        rows.append((name, row[1], date, row[3], row[4], _pixel(views), *row[6:]))
    return rows


def _pixel(views: Sequence[SceneView]) -> str:
    """The pixel sizes of scenes, and their orientation if it is not north-up."""
    sizes = sorted({size for view in views for size in view.resolutions})
    if not sizes:
        return "-"
    unit = {"degree": "deg", None: ""}.get(views[0].unit, views[0].unit)
    span = [f"{size:.4g}" for size in (sizes[0], sizes[-1])]
    orientation = "" if views[0].orientation == "north-up" else f" {views[0].orientation}"
    return f"{'-'.join(dict.fromkeys(span))} {unit}{orientation}".strip()


def _band_sets(views: Sequence[SceneView]) -> Iterable[str]:
    """Each set of bands, and how many scenes have it."""
    sets = Counter(tuple(view.bands) for view in views if view.bands)
    order = list(STANDARD_NAMES).index
    for bands, count in sets.most_common(MAX_SETS):
        names = " ".join(sorted(bands, key=order))
        yield f"{_count(len(bands), 'band')} of {_count(count, 'scene')}: {names}"
    unnamed = Counter(len(view.nameless) for view in views if view.nameless and not view.bands)
    for bands, count in unnamed.most_common(MAX_SETS):
        yield f"{bands}? = {bands} bands without names that Landfold knows, in {_count(count, 'scene')}"


def _show_labels(view: LabelView, console: Console) -> None:
    facts = [view.kind, view.path.name if view.path else "the folder that holds a scene is its class"]
    facts += [f"layer {view.layer} of {len(view.layers)}"] if view.layer else []
    facts += [view.crs or "no CRS"] if view.kind in ("polygons", "points", "raster") and not view.fault else []
    facts += [f"{view.features} {'lines' if view.kind == 'table' else 'features'}"] if view.features is not None else []
    facts += [f"{view.invalid} invalid"] if view.invalid else []
    _print(console, f"\nLabels: {', '.join(facts)}")
    if view.fault:
        _show_list([view.fault], console)
        return
    lines = []
    if view.attribute:
        others = ", ".join(f"{a.name} ({len(a.values)})" for a in view.attributes[1:])
        lines.append(f"attribute {view.attribute.name}" + (f"; or {others}" if others else ""))
    values = ", ".join(f"{value} {count}" for value, count in list(view.values.items())[:MAX_VALUES])
    values += f" and {len(view.values) - MAX_VALUES} more" if len(view.values) > MAX_VALUES else ""
    lines.append(f"{_count(len(view.values), 'value')} ({view.unit} of each): {values}" if values else "no values")
    _show_list(lines, console)


def _show_findings(title: str, findings: Sequence[Finding], inspection: Inspection, console: Console) -> None:
    """Findings as a list; messages that differ in the name of their scene alone are one entry."""
    base = inspection.path if inspection.path.is_dir() else inspection.path.parent
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        finding = replace(finding, message=finding.message.replace(f"{base}/", ""))
        groups.setdefault(_without_name(finding), []).append(finding)
    entries = [_entry(equal) for equal in list(groups.values())[:MAX_FINDINGS]]
    if len(groups) > MAX_FINDINGS:
        entries.append(f"and {len(groups) - MAX_FINDINGS} more; --json has them all")
    _print(console, f"\n{title}")
    _show_list(entries, console, bullet="-")


def _entry(equal: Sequence[Finding]) -> str:
    first = equal[0]
    message = first.message.removeprefix(f"scene {first.name}: ")
    if len(equal) > 1:
        names = ", ".join(str(finding.name) for finding in equal[:MAX_NAMES])
        names += f" and {len(equal) - MAX_NAMES} more" if len(equal) > MAX_NAMES else ""
        return f"{len(equal)} scenes ({names}), the first: {message}"
    if first.about == "scene" and not message.startswith(f"{first.name}."):
        return f"{first.name}: {message}"
    if first.about == "labels" and not message.startswith("labels"):
        return f"labels: {message}"
    return message


def _without_name(finding: Finding) -> str:
    """A message without the name of its scene and the paths with it."""
    if not finding.name:
        return finding.message
    return " ".join("" if finding.name in word else word for word in finding.message.split())


def _show_list(lines: Iterable[str], console: Console, bullet: str = "") -> None:
    """Indented lines, wrapped at the width of the console."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    for line in lines:
        grid.add_row(*[bullet] * bool(bullet), line)
    if grid.row_count:
        console.print(Padding(grid, (0, 0, 0, 2)), markup=False, highlight=False)


def _print(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, overflow="fold")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
