"""What was delivered, what would be refused and why, and settings that fit it: all before any run."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rasterio.crs import CRS

from landfold.cli.inspection.labels import LabelView, look_at_labels
from landfold.cli.inspection.proposal import Proposal, default_name, propose, stand_in_settings
from landfold.cli.inspection.scenes import SceneView, look
from landfold.core import settings
from landfold.core.errors import LandfoldError
from landfold.geo.settings import ProjectSettings
from landfold.patches.delivery import Delivery, InspectionError, explore, isolate_file
from landfold.patches.labels import LabelError, LabelSettings, check_ground, read_labels
from landfold.scenes.indices import MissingBandError, check_bands
from landfold.scenes.ingest import check_scene
from landfold.scenes.settings import IndexSettings, IngestSettings

__all__ = ["Finding", "Inspection", "InspectionError", "inspect"]

NOT_LOOKED_AT = (
    "damaged pixels, and the share of valid ones (ingest.min_valid), which takes reading all of them",
    "whether each class keeps a patch (patches, zones), which takes cutting them",
)


@dataclass(frozen=True)
class Finding:
    """A refusal or a warning: ``about`` (scene, labels, indices, settings or delivery), which one, and the message."""

    about: str
    name: str | None
    message: str


@dataclass(frozen=True)
class Inspection:
    """All that was found at a path, and the verdict under the settings ``judged_by``: a file, or the proposal."""

    path: Path
    place: Delivery
    judged_by: str
    scenes: list[SceneView]
    labels: LabelView | None
    refusals: list[Finding]
    warnings: list[Finding]
    proposal: Proposal

    @property
    def taken(self) -> bool:
        """Whether nothing would be refused."""
        return not self.refusals

    def refused(self, scene: str) -> bool:
        """Whether a scene would be refused."""
        return any(finding.about == "scene" and finding.name == scene for finding in self.refusals)


@dataclass(frozen=True)
class _Rules:
    """The settings by which to judge; None for a section that is unknown."""

    judged_by: str
    project: ProjectSettings | None
    ingest: IngestSettings | None
    labels: LabelSettings | None


def inspect(path: Path, params: Path | None = None) -> Inspection:
    """Look at a delivery, at scenes or at labels, and judge them by the settings in ``params``.

    Without ``params``, or for a section of it that does not load, the proposed settings judge.

    Raises:
        InspectionError: if there is nothing to inspect at the path.
    """
    own, faults = _own_settings(params)
    with isolate_file(path) as folder:
        ingest = own.get("ingest")
        place = explore(
            folder,
            band_order=ingest.band_order if ingest else None,
            mask_file=ingest.mask_file if ingest else None,
        )
        views = [look(scene) for scene in place.scenes]
        asked: LabelSettings | None = own.get("labels")
        labels = look_at_labels(place, kind=asked and asked.kind, layer=asked and asked.layer)
        name = own["project"].name if "project" in own else default_name(path)
        proposal = propose(views, labels, name=name, order=ingest.band_order if ingest else None)
        rules = _Rules(
            judged_by=str(params) if own else "proposal",
            project=own.get("project", proposal.project),
            ingest=own.get("ingest", proposal.ingest),
            labels=own.get("labels", proposal.labels),
        )
        refusals = [Finding("settings", str(params), fault) for fault in faults]
        refusals += [Finding("delivery", None, fault) for fault in place.faults]
        warnings = []
        for judge in (_judge_scenes(views, rules), _judge_labels(place, views, labels, rules)):
            refusals += judge[0]
            warnings += judge[1]
        refusals += _judge_indices(own.get("indices"), own.get("ingest")) if views else []
        shown = _Shown(folder, path)
        labels = labels and replace(labels, fault=labels.fault and shown.text(labels.fault))
        return Inspection(
            path, place, rules.judged_by, views, labels, shown.all(refusals), shown.all(warnings), proposal
        )


@dataclass(frozen=True)
class _Shown:
    """Messages name the file that was asked about, not the folder that stands in for it."""

    folder: Path
    path: Path

    def text(self, message: str) -> str:
        """One message."""
        return message if self.folder == self.path else message.replace(str(self.folder), str(self.path.parent))

    def all(self, findings: Sequence[Finding]) -> list[Finding]:
        """The messages of all findings."""
        return [replace(finding, message=self.text(finding.message)) for finding in findings]


def _own_settings(params: Path | None) -> tuple[dict[str, Any], list[str]]:
    """The sections of a file that load, and what is wrong with the others."""
    if params is None:
        return {}, []
    models = {"project": ProjectSettings, "ingest": IngestSettings, "indices": IndexSettings, "labels": LabelSettings}
    loaded, faults = {}, []
    try:
        content = settings.read(params)
    except settings.SettingsError as error:
        return {}, [str(error)]
    for section, model in models.items():
        try:
            if section not in content:
                raise settings.SettingsError(f"{params}: section '{section}' is missing")
            loaded[section] = settings.validate(content[section], model, where=f"{params}: {section}")
        except settings.SettingsError as error:
            faults.append(str(error))
    return loaded, faults


def _judge_indices(indices: IndexSettings | None, ingest: IngestSettings | None) -> list[Finding]:
    """Indices that need a band that no scene is asked for."""
    try:
        if indices is not None and ingest is not None:
            check_bands(indices.names, ingest.bands)
    except MissingBandError as error:
        return [Finding("indices", None, str(error))]
    return []


def _judge_scenes(views: Sequence[SceneView], rules: _Rules) -> tuple[list[Finding], list[Finding]]:
    refusals, warnings = [], []
    taken: dict[Any, list[str]] = {}
    for view in views:
        scene, sort = view.scene, _sort(view, rules)
        try:
            if sort is None or sort not in taken:
                notes = _check(view, rules)[len(scene.warnings) :]
                taken |= {} if sort is None else {sort: notes}
            else:
                notes = taken[sort]
        except LandfoldError as error:
            refusals.append(Finding("scene", scene.name, str(error)))
            notes = []
        warnings += [Finding("scene", scene.name, note) for note in [*scene.warnings, *notes]]
    return refusals, warnings


def _sort(view: SceneView, rules: _Rules) -> Any:
    """What a scene's verdict depends on; None where that is more than its headers, so that it must be tried itself."""
    if rules.ingest is None or rules.ingest.area is not None or rules.ingest.crs_policy == "reproject":
        return None
    return view.sort(rules.ingest.resolution_m if rules.ingest.crs_policy == "keep" else None)


def _check(view: SceneView, rules: _Rules) -> list[str]:
    """The warnings of a scene that would be taken."""
    scene = view.scene
    if scene.fault:
        raise InspectionError(scene.fault)
    if rules.ingest is None or rules.project is None:
        ingest, project = stand_in_settings(view.bands)
        check_scene(scene, ingest, project.metric_crs)
        raise InspectionError(f"scene {scene.name}: cannot be judged before each '?' of the proposal is filled in")
    return check_scene(scene, rules.ingest, rules.project.metric_crs)["warnings"]


def _judge_labels(
    place: Delivery, views: Sequence[SceneView], view: LabelView | None, rules: _Rules
) -> tuple[list[Finding], list[Finding]]:
    warnings = []
    if view is not None and view.others:
        names = ", ".join(path.name for path in view.others)
        warnings.append(Finding("labels", None, f"these may be labels as well: {names}"))
    if view is None and (place.kind != "delivery" or rules.labels is None):
        missing = place.kind == "delivery"
        message = "no labels were found: put them into the folder labels, or tiles into a folder for each class"
        return ([Finding("labels", None, message)] if missing else []), warnings
    if rules.labels is None:
        message = view.fault or "the classes cannot be told; fill in each '?' of the proposed section"
        where = f"{view.path}: " if view.path and view.fault else ""
        return [Finding("labels", None, where + message)], warnings
    try:
        labels = read_labels(
            place.labels_root, rules.labels, scenes=place.scenes_root or Path(), find=lambda _: place.scenes
        )
        grids = {v.scene.name: v.grid for v in views if v.grid is not None}
        if grids:
            check_ground(labels, grids, _metric(rules, views))
    except LandfoldError as error:
        return [Finding("labels", None, f"{error}{_other_kind(view, rules.labels)}")], warnings
    warnings += [Finding("labels", None, warning) for warning in labels.warnings]
    return _judge_values(view, rules.labels, warnings)


def _other_kind(view: LabelView | None, asked: LabelSettings) -> str:
    """What labels there are, where they are of another kind than the settings ask for."""
    if view is None or view.kind == asked.kind:
        return ""
    where = "the folders of the scenes" if view.kind == "folder" else view.path.name
    return f"; {where} would be labels.kind: {view.kind}"


def _metric(rules: _Rules, views: Sequence[SceneView]) -> CRS:
    return rules.project.metric_crs if rules.project else next(v.crs for v in views if v.crs is not None)


def _judge_values(
    view: LabelView | None, asked: LabelSettings, warnings: list[Finding]
) -> tuple[list[Finding], list[Finding]]:
    """Classes without any value, and values of a raster without class."""
    values = _values(view, asked)
    if not values:
        return [], warnings
    absent = [name for name, merged in asked.classes.items() if not set(merged) & set(values)]
    refusals = []
    if absent:
        message = f"no value of class {', '.join(absent)} is in the labels, so it would have no patch; there are "
        refusals.append(Finding("labels", None, f"{message}{', '.join(values)}: take the class out of labels.classes"))
    if asked.kind == "raster":
        try:
            asked.numbers(values, view.path)
        except LabelError as error:
            warnings.append(Finding("labels", None, f"{error}; it is refused where a patch meets it"))
    return refusals, warnings


def _values(view: LabelView | None, asked: LabelSettings) -> dict[str, int]:
    """How often each value occurs that the settings speak of; {} where that is not known."""
    if view is None or view.kind != asked.kind:
        return {}
    if asked.attribute is None:
        return view.values
    return next((a.values for a in view.attributes if a.name == asked.attribute), {})
