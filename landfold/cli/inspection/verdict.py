"""What a delivery holds, and what the stages would refuse of it under given or proposed settings."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from landfold.cli.inspection.label_contents import LabelView, read_label_contents
from landfold.cli.inspection.proposal import Proposal, default_name, propose
from landfold.cli.inspection.scene_headers import SceneView, read_headers
from landfold.cli.inspection.scene_settings import least_demanding_settings
from landfold.core import settings
from landfold.core.errors import LandfoldError
from landfold.geo.settings import ProjectSettings
from landfold.patches.delivery import Delivery, InspectionError, explore, isolate_file
from landfold.patches.labels import LabelError, LabelSettings, check_ground, read_labels
from landfold.scenes.indices import MissingBandError, check_bands
from landfold.scenes.ingest import check_scene
from landfold.scenes.settings import IndexSettings, IngestSettings

SECTIONS = {"project": ProjectSettings, "ingest": IngestSettings, "indices": IndexSettings, "labels": LabelSettings}
"""The sections of params.yaml that decide what is refused."""


@dataclass(frozen=True)
class Finding:
    """A refusal or a warning: ``about`` (scene, labels, indices, settings or delivery), which one, and the message."""

    about: str
    name: str | None
    message: str


@dataclass(frozen=True)
class Inspection:
    """The content of a delivery, and the verdict under the settings ``judged_by``: a file, or the proposal."""

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


def inspect(path: Path, params: Path | None = None) -> Inspection:
    """Read the headers of scenes and the contents of labels, and judge them by the settings in ``params``.

    Without ``params``, or for a section of it that does not load, the proposed settings judge.

    Raises:
        InspectionError: if there is nothing to inspect at the path.
    """
    content, own, faults = _own_settings(params)
    with isolate_file(path) as folder:
        ingest: IngestSettings | None = own.get("ingest")
        delivery = explore(
            folder,
            band_order=ingest.band_order if ingest else None,
            mask_file=ingest.mask_file if ingest else None,
        )
        scenes = [read_headers(scene) for scene in delivery.scenes]
        asked: LabelSettings | None = own.get("labels")
        labels = read_label_contents(delivery, kind=asked and asked.kind, layer=asked and asked.layer)
        name = own["project"].name if "project" in own else default_name(path)
        proposal = propose(scenes, labels, name=name, order=ingest.band_order if ingest else None, own=content)
        rules = _Rules(
            own.get("project", proposal.project),
            own.get("ingest", proposal.ingest),
            own.get("labels", proposal.labels),
        )
        verdict = _Verdict(rules)
        verdict.refuse("settings", faults, name=str(params))
        verdict.refuse("delivery", delivery.faults)
        verdict.judge_scenes(scenes)
        verdict.judge_labels(delivery, scenes, labels)
        if scenes:
            verdict.judge_indices(own.get("indices"), own.get("ingest"))

        def named(message: str) -> str:
            """The message with the path that was asked about, where links in another folder were read."""
            return message if folder == path else message.replace(str(folder), str(path.parent))

        return Inspection(
            path,
            delivery,
            str(params) if own else "proposal",
            scenes,
            labels and replace(labels, fault=labels.fault and named(labels.fault)),
            [replace(finding, message=named(finding.message)) for finding in verdict.refusals],
            [replace(finding, message=named(finding.message)) for finding in verdict.warnings],
            proposal,
        )


def _own_settings(params: Path | None) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """The content of a file, the sections of it that load, and the faults of the others."""
    if params is None:
        return {}, {}, []
    loaded, faults = {}, []
    try:
        content = settings.read(params)
    except settings.SettingsError as error:
        return {}, {}, [str(error)]
    for section, model in SECTIONS.items():
        try:
            if section not in content:
                raise settings.SettingsError(f"{params}: section '{section}' is missing")
            loaded[section] = settings.validate(content[section], model, where=f"{params}: {section}")
        except settings.SettingsError as error:
            faults.append(str(error))
    return content, loaded, faults


@dataclass(frozen=True)
class _Rules:
    """The settings by which to judge; None for a section that is unknown."""

    project: ProjectSettings | None
    ingest: IngestSettings | None
    labels: LabelSettings | None

    def equivalence_key(self, scene: SceneView) -> Any:
        """Equal for scenes that are judged alike; None where more than the headers decides."""
        if self.ingest is None or self.ingest.area is not None or self.ingest.crs_policy == "reproject":
            return None
        return scene.equivalence_key(self.ingest.resolution_m if self.ingest.crs_policy == "keep" else None)


@dataclass
class _Verdict:
    """Refusals and warnings so far."""

    rules: _Rules
    refusals: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)

    def refuse(self, about: str, messages: Iterable[str], name: str | None = None) -> None:
        self.refusals += [Finding(about, name, message) for message in messages]

    def warn(self, about: str, messages: Iterable[str], name: str | None = None) -> None:
        self.warnings += [Finding(about, name, message) for message in messages]

    def judge_indices(self, indices: IndexSettings | None, ingest: IngestSettings | None) -> None:
        """Refuse indices that need a band which is not in ``ingest.bands``."""
        try:
            if indices is not None and ingest is not None:
                check_bands(indices.names, ingest.bands)
        except MissingBandError as error:
            self.refuse("indices", [str(error)])

    def judge_scenes(self, views: Sequence[SceneView]) -> None:
        accepted: dict[Any, list[str]] = {}
        for view in views:
            name, key = view.scene.name, self.rules.equivalence_key(view)
            self.warn("scene", view.scene.warnings, name)
            try:
                notes = accepted.get(key) if key is not None else None
                if notes is None:
                    notes = accepted[key] = self._scene_warnings(view)[len(view.scene.warnings) :]
                self.warn("scene", notes, name)
            except LandfoldError as error:
                self.refuse("scene", [str(error)], name)

    def _scene_warnings(self, view: SceneView) -> list[str]:
        """The warnings of a scene that ingest accepts."""
        scene, rules = view.scene, self.rules
        if scene.fault:
            raise InspectionError(scene.fault)
        if rules.ingest is None or rules.project is None:
            ingest, project = least_demanding_settings(view.bands)
            check_scene(scene, ingest, project.metric_crs)
            raise InspectionError(f"scene {scene.name}: cannot be judged before each '?' of the proposal is filled in")
        return check_scene(scene, rules.ingest, rules.project.metric_crs)["warnings"]

    def judge_labels(self, delivery: Delivery, scenes: Sequence[SceneView], view: LabelView | None) -> None:
        asked = self.rules.labels
        if view is not None and view.others:
            names = ", ".join(path.name for path in view.others)
            self.warn("labels", [f"these may be labels as well: {names}"])
        if view is None and (delivery.kind != "delivery" or asked is None):
            if delivery.kind == "delivery":
                fix = "put them into the folder labels, or tiles into a folder for each class"
                self.refuse("labels", [f"no labels were found: {fix}"])
            return
        if asked is None:
            message = view.fault or "the classes are not known; fill in each '?' of the proposed section"
            where = f"{view.path}: " if view.path and view.fault else ""
            self.refuse("labels", [where + message])
            return
        try:
            labels = read_labels(
                delivery.labels_root, asked, scenes=delivery.scenes_root or Path(), find=lambda _: delivery.scenes
            )
            if grids := {v.scene.name: v.grid for v in scenes if v.grid is not None}:
                crs = next(v.crs for v in scenes if v.crs is not None)
                check_ground(labels, grids, self.rules.project.metric_crs if self.rules.project else crs)
        except LandfoldError as error:
            self.refuse("labels", [f"{error}{_other_kind(view, asked)}"])
            return
        self.warn("labels", labels.warnings)
        if view is not None and view.kind == asked.kind:
            self._judge_values(view, asked)

    def _judge_values(self, view: LabelView, asked: LabelSettings) -> None:
        """Refuse classes without any value; warn of values of a raster without a class."""
        values = view.values
        if asked.attribute is not None:
            values = next((a.values for a in view.attributes if a.name == asked.attribute), {})
        absent = [name for name, merged in asked.classes.items() if values and not set(merged) & set(values)]
        if absent:
            message = f"no value of class {', '.join(absent)} is in the labels, so it would have no {asked.unit}; "
            self.refuse("labels", [f"{message}there are {', '.join(values)}: take the class out of labels.classes"])
        if asked.kind == "raster" and values:
            try:
                asked.numbers(values, view.path)
            except LabelError as error:
                self.warn("labels", [f"{error}; it is refused where a {asked.unit} meets it"])


def _other_kind(view: LabelView | None, asked: LabelSettings) -> str:
    """Which kind of labels there is, where the settings ask for another."""
    if view is None or view.kind == asked.kind:
        return ""
    where = "the folders of the scenes" if view.kind == "folder" else view.path.name
    return f"; {where} would be labels.kind: {view.kind}"
