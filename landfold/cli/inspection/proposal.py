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
from landfold.scenes.indices import MissingBandError, check_bands
from landfold.scenes.settings import IngestSettings, NormalizeSettings

INDICES = ("NDVI", "NDWI", "NDBI")
NORMALIZE = {"low_percentile": 2, "high_percentile": 98, "min_valid_px": 1000}
"""Those of the repository's params.yaml; tests compare them."""


@dataclass(frozen=True)
class Draft:
    """Sections ``project``, ``ingest`` and ``labels`` that fit the files; a model is None where a "?" keeps it out."""

    sections: dict[str, CommentedMap]
    project: ProjectSettings | None
    ingest: IngestSettings | None
    labels: LabelSettings | None


@dataclass(frozen=True)
class Proposal:
    """Sections of params.yaml that the user's file has otherwise, or all where there is none.

    ``commented`` has them with comments, ``sections`` as plain data, and ``text`` as it is printed.
    """

    commented: dict[str, CommentedMap]

    @property
    def sections(self) -> dict[str, Any]:
        """Plain data."""
        return _plain(self.commented)

    @property
    def text(self) -> str:
        """Text to paste."""
        return yaml_text(self.commented)

    @property
    def unknown(self) -> bool:
        """Whether a value is one that only the user can know."""
        return f'"{UNKNOWN}' in self.text


def draft(views: Sequence[SceneView], labels: LabelView | None, *, name: str, order: list[str | None] | None) -> Draft:
    """Settings under which as many scenes and labels as possible are accepted.

    Args:
        views: the scenes.
        labels: the labels; None if there are none.
        name: of the project.
        order: the band order of the user's settings; it is kept where it fits.
    """
    sections: dict[str, CommentedMap] = {}
    if views:
        sections["project"], sections["ingest"] = scene_sections(views, name, order)
    if labels is not None:
        sections["labels"] = _labels(labels, views)
    plain = _plain(sections)
    return Draft(
        sections,
        _model(plain, "project", ProjectSettings),
        _model(plain, "ingest", IngestSettings),
        _model(plain, "labels", LabelSettings),
    )


def without_classes(section: CommentedMap, names: Sequence[str], reason: str) -> CommentedMap:
    """Section ``labels`` with the values of some classes in ``exclude``, for a reason that stands beside them."""
    values = [value for name in names for value in section["classes"].pop(name)]
    excluded = [*section["exclude"], *values]
    section["exclude"] = commented([("exclude", excluded, "")])["exclude"]
    section.ca.items.pop("exclude", None)
    section.yaml_set_comment_before_after_key("exclude", before=f"{reason}: {', '.join(names)}", indent=2)
    return section


def index_section(own: Sequence[str] | None, bands: Sequence[str]) -> CommentedMap | None:
    """Section ``indices`` with those of the user, or the usual ones, that the bands allow; None if it is the user's."""
    allowed, without = [], []
    for name in INDICES if own is None else own:
        try:
            check_bands([name], bands)
            allowed.append(name)
        except MissingBandError:
            without.append(name)
    if own is not None and not without:
        return None
    return commented([("names", allowed, f"without {', '.join(without)}, whose bands are absent" if without else "")])


def normalize_section(own: NormalizeSettings | None, smallest_px: int) -> CommentedMap | None:
    """Section ``normalize`` for scenes of which the smallest has so many pixels; None if the user's fits."""
    values = NORMALIZE if own is None else own.model_dump()
    if values["min_valid_px"] <= smallest_px and own is not None:
        return None
    fitting = min(values["min_valid_px"], max(1, smallest_px // 10))
    comment = f"the smallest scene has {smallest_px} pixels" if fitting < values["min_valid_px"] else ""
    entries = values | {"min_valid_px": fitting}
    return commented((name, value, comment * (name == "min_valid_px")) for name, value in entries.items())


def settings_section(values: Mapping[str, Any], comments: Mapping[str, str]) -> CommentedMap:
    """A section of plain values, with comments for some of them."""
    return commented((name, _whole(value), comments.get(name, "")) for name, value in values.items())


def _whole(value: Any) -> Any:
    """Whole numbers without a point, as params.yaml has them."""
    if isinstance(value, list):
        return [_whole(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


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


def network_sections(unit: str, own: Mapping[str, Any]) -> dict[str, CommentedMap]:
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
    """A class for each value, or for all values of one name; named by the value where the file has no names."""
    merged: dict[str, list[str]] = {}
    for value in view.values:
        merged.setdefault(view.names.get(value) or (value if value[:1].isalpha() else f"class_{value}"), []).append(
            value
        )
    counts = [sum(view.values[value] for value in values) for values in merged.values()]
    entries = [
        (name, values, f"{count} {view.unit if count != 1 else view.unit.removesuffix('s')}")
        for (name, values), count in zip(merged.items(), counts, strict=True)
    ]
    for number in range(len(entries) + 1, 3):
        entries.append((UNKNOWN * number, [UNKNOWN * number], "Landfold needs two classes"))
    return commented(entries, depth=2)


def colour_section(classes: list[str], own: ColourSettings | None) -> CommentedMap:
    """The user's colours of classes, and those that the others would have without the section."""
    rgb = (own or ColourSettings()).rgb(classes)
    return commented(
        (name, "#{:02x}{:02x}{:02x}".format(*colour), "") for name, colour in zip(classes, rgb, strict=True)
    )


def default_name(path: Path) -> str:
    """The name of a project after the folder that it was found in."""
    parts = [part for part in path.resolve().parts if part not in ("/", "data", "raw", "scenes")]
    return f"landfold-{Path(parts[-1]).stem[:40]}" if parts else "landfold"
