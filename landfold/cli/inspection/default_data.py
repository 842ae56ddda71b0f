"""Settings of the repository that describe its default data, and are wrong for any other."""

from collections.abc import Mapping, Sequence
from typing import Any

from landfold.cli.inspection.label_contents import LabelView
from landfold.cli.inspection.scene_headers import SceneView

DEFAULTS: dict[str, dict[str, Any]] = {
    "project": {"name": "landfold-brandenburg"},
    "card": {
        "licence": "contains modified Copernicus Sentinel data 2017; labels (c) OpenStreetMap contributors, ODbL",
        "limits": ["One scene of one winter day (16 February 2017) near Berlin; summer looks different."],
    },
    "zones": {"origin_m": [1360, 1400]},
}
"""By section; tests compare them with params.yaml."""


def left_from_default(content: Mapping[str, Any], views: Sequence[SceneView]) -> dict[str, set[str]]:
    """Which settings of a file are still those of the default data, by section, where the scenes are others.

    The default data are known by the names of their scenes in section ``dataset``.
    """
    dataset = content.get("dataset")
    known = dataset.get("scenes") if isinstance(dataset, dict) else None
    if not views or (isinstance(known, dict) and known.keys() & {view.scene.name for view in views}):
        return {}
    kept: dict[str, set[str]] = {}
    for section, values in DEFAULTS.items():
        own = content.get(section)
        names = {name for name, value in values.items() if isinstance(own, dict) and own.get(name) == value}
        if names:
            kept[section] = names
    return kept


def default_warnings(left: Mapping[str, set[str]]) -> list[str]:
    """What of it the user should change: the name of the project, and what the model card says."""
    fixes = {
        ("project", "name"): "name the project after your data; MLflow keeps its runs under this name",
        ("card", "licence"): "give the licence and attribution of your scenes and labels; the model card shows them",
        ("card", "limits"): "say what a user of your model must know, or set []; the model card shows it",
    }
    return [
        f"{section}.{name} is still that of the default data: {fix}"
        for (section, name), fix in fixes.items()
        if name in left.get(section, ())
    ]


def licence(views: Sequence[SceneView], labels: LabelView | None) -> str:
    """What the attribution of the data has to name, as far as their files tell.

    The wording for Sentinel data is that of the Legal Notice on the use of Copernicus Sentinel Data; for Landsat that
    of the USGS (How to acknowledge or cite USGS data).
    """
    years: dict[str, set[str]] = {}
    for view in views:
        years.setdefault(view.scene.sensor, set()).add((view.scene.acquired or "")[:4])
    parts = []
    sentinel = sorted(set().union(*(found for sensor, found in years.items() if sensor.startswith("sentinel"))) - {""})
    if any(sensor.startswith("sentinel") for sensor in years):
        parts.append(" ".join(["contains modified Copernicus Sentinel data", ", ".join(sentinel)]).rstrip())
    if any(sensor.startswith("landsat") for sensor in years):
        parts.append("Landsat data courtesy of the U.S. Geological Survey")
    if any(not sensor.startswith(("sentinel", "landsat")) for sensor in years):
        parts.append("scenes: licence not stated")
    if labels is not None:
        parts.append(f"labels{f' {labels.path.name}' if labels.path else ''}: licence not stated")
    return "; ".join(parts)
