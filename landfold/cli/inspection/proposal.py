"""Sections of params.yaml that fit a delivery, ready to paste; "?" stands for what only the user can know."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml.comments import CommentedMap

from landfold.cli.inspection.commented_yaml import commented, yaml_text
from landfold.cli.inspection.label_contents import MAX_VALUES, LabelView
from landfold.cli.inspection.networks import NETWORKS, fits
from landfold.cli.inspection.scene_headers import SceneView
from landfold.cli.inspection.scene_settings import UNKNOWN, scene_sections
from landfold.core.settings import Settings, SettingsError, validate
from landfold.geo.grid import ALIGNMENT_TOLERANCE_PX
from landfold.geo.lattice import pixels_across
from landfold.geo.settings import ProjectSettings
from landfold.maps.colours import ColourSettings
from landfold.patches.labels import LabelSettings
from landfold.scenes.settings import IngestSettings


@dataclass(frozen=True)
class Proposal:
    """Sections of params.yaml as data and as commented text; a model is None where a "?" keeps it from loading."""

    sections: dict[str, Any]
    text: str
    project: ProjectSettings | None
    ingest: IngestSettings | None
    labels: LabelSettings | None


def propose(
    views: Sequence[SceneView],
    labels: LabelView | None,
    *,
    name: str,
    order: list[str | None] | None,
    own: Mapping[str, Any],
) -> Proposal:
    """Settings under which as many scenes and labels as possible are accepted.

    Args:
        views: the scenes.
        labels: the labels; None if there are none.
        name: of the project.
        order: the band order of the user's settings; it is kept where it fits.
        own: the user's settings; the network's are kept where they go with the labels.
    """
    commented_sections: dict[str, CommentedMap] = {}
    if views:
        commented_sections["project"], commented_sections["ingest"] = scene_sections(views, name, order)
    if labels is not None:
        commented_sections["labels"] = _labels(labels, views)
        commented_sections |= _networks(commented_sections["labels"]["unit"], own)
        commented_sections["colours"] = _colours(list(commented_sections["labels"]["classes"]))
    sections = _plain(commented_sections)
    return Proposal(
        sections,
        yaml_text(commented_sections) + ("\n# labels: none were found\n" if labels is None else ""),
        _model(sections, "project", ProjectSettings),
        _model(sections, "ingest", IngestSettings),
        _model(sections, "labels", LabelSettings),
    )


def _plain(value: Any) -> Any:
    """Comments and styles taken off: dict, list, str and numbers."""
    return json.loads(json.dumps(value))


def _model(sections: dict[str, Any], section: str, model: type[Settings]) -> Any:
    content = sections.get(section)
    if content is None or (section == "labels" and f'"{UNKNOWN}"' in json.dumps(content)):
        return None
    try:
        return validate(content, model, where=section)
    except SettingsError:
        return None


def _labels(view: LabelView, scenes: Sequence[SceneView]) -> CommentedMap:
    uses = LabelSettings.USES[view.kind]
    attribute, comment = _attribute(view) if "attribute" in uses else (None, "")
    values = {
        "kind": (view.kind, _kind_comment(view)),
        "unit": ("patch", "") if view.kind in ("table", "folder") else ("pixel", "or patch: see docs/training.md"),
        "attribute": (attribute, comment),
        "layer": (view.layer, f"of {', '.join(view.layers)}" if view.layers else ""),
        "invalid": (None, ""),
        "resampling": _resampling(view, scenes) if "resampling" in uses else (None, ""),
        "classes": (_classes(view), "name: its values; rename and merge as you like"),
        "exclude": ([], "values to leave out"),
    }
    if "invalid" in uses:
        comment = f"refuse | repair: {view.invalid or 'none'} of {view.features} invalid"
        values["invalid"] = ("repair" if view.invalid else "refuse", comment)
    return commented((field, *values.get(field, (None, ""))) for field in LabelSettings.model_fields)


def _resampling(view: LabelView, scenes: Sequence[SceneView]) -> tuple[str, str]:
    """``mode`` where pixels of the labels lie in those of the scenes, nearest where they are larger."""
    grids = [scene.grid for scene in scenes if scene.grid is not None]
    if view.grid and any(min(pixels_across(grid, view.grid)) < 1 - ALIGNMENT_TOLERANCE_PX for grid in grids):
        return "nearest", "nearest | mode: the labels have larger pixels than scenes"
    return "mode", "nearest | mode"


def _networks(unit: str, own: Mapping[str, Any]) -> dict[str, CommentedMap]:
    """The sections that go with ``labels.unit``, where the user's do not."""
    if fits(unit, own):
        return {}
    return {section: _uncommented(values) for section, values in NETWORKS[unit].items()}


def _uncommented(values: Mapping[str, Any], *, depth: int = 1) -> CommentedMap:
    parts = (
        (name, _uncommented(value, depth=depth + 1) if isinstance(value, dict) else value, "")
        for name, value in values.items()
    )
    return commented(parts, depth=depth)


def _kind_comment(view: LabelView) -> str:
    if view.kind == "folder":
        return "the folder that holds a scene is its class"
    return f"{view.path.name}" if view.path else ""


def _attribute(view: LabelView) -> tuple[str, str]:
    if view.attribute is None:
        names = ", ".join(view.all_attributes) or "none"
        return UNKNOWN, f"no attribute has 2 to {MAX_VALUES} distinct values; there are {names}"
    others = [f"{a.name} ({len(a.values)} values)" for a in view.attributes[1:]]
    comment = f"or: {', '.join(others)}" if others else ""
    if view.attribute.empty:
        comment = f"{view.attribute.empty} {view.unit} have no value; {comment}"
    return view.attribute.name, comment.removesuffix("; ")


def _classes(view: LabelView) -> CommentedMap:
    entries = []
    for value, count in view.values.items():
        name = value if value[:1].isalpha() else f"class_{value}"
        entries.append((name, [value], f"{count} {view.unit if count != 1 else view.unit.removesuffix('s')}"))
    for number in range(len(entries) + 1, 3):
        entries.append((UNKNOWN * number, [UNKNOWN * number], "Landfold needs two classes"))
    return commented(entries, depth=2)


def _colours(classes: list[str]) -> CommentedMap:
    """The colours that the classes would have without the section."""
    rgb = ColourSettings().rgb(classes)
    return commented(
        (name, "#{:02x}{:02x}{:02x}".format(*colour), "") for name, colour in zip(classes, rgb, strict=True)
    )


def default_name(path: Path) -> str:
    """The name of a project after the folder that it was found in."""
    parts = [part for part in path.resolve().parts if part not in ("/", "data", "raw", "scenes")]
    return f"landfold-{Path(parts[-1]).stem[:40]}" if parts else "landfold"
