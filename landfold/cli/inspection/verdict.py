"""What the stages would refuse of a delivery under some settings, and what the user should know."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from landfold.cli.inspection.label_contents import LabelView
from landfold.cli.inspection.patch_trial import PatchTrial, fold_trial
from landfold.cli.inspection.scene_headers import SceneView
from landfold.cli.inspection.scene_settings import least_demanding_settings
from landfold.core.errors import LandfoldError
from landfold.folds.settings import ZoneSettings
from landfold.folds.summary import fold_summary, fold_warnings
from landfold.geo.settings import ProjectSettings
from landfold.patches.cut import classes_without_patch
from landfold.patches.delivery import Delivery, InspectionError
from landfold.patches.labels import LabelError, Labels, LabelSettings, check_ground, read_labels
from landfold.scenes.indices import MissingBandError, check_bands
from landfold.scenes.ingest import check_scene
from landfold.scenes.settings import IndexSettings, IngestSettings


@dataclass(frozen=True)
class Finding:
    """A refusal or a warning, and the name of the scene or file that it is about.

    ``about`` is scene, labels, indices, patches, zones, settings or delivery.
    """

    about: str
    name: str | None
    message: str


@dataclass(frozen=True)
class Rules:
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
class Verdict:
    """Refusals and warnings so far."""

    rules: Rules
    refusals: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)
    labels: Labels | None = None
    """those that were read and taken"""
    unlisted: bool = False
    """whether the labels hold values that the settings do not list"""

    def count(self, about: str) -> int:
        """How many refusals are about something."""
        return sum(finding.about == about for finding in self.refusals)

    def refuse(self, about: str, messages: Iterable[str], name: str | None = None) -> None:
        """Add refusals about something, of one name where it has one."""
        self.refusals += [Finding(about, name, message) for message in messages]

    def warn(self, about: str, messages: Iterable[str], name: str | None = None) -> None:
        """Add warnings, as `refuse`."""
        self.warnings += [Finding(about, name, message) for message in messages]

    def judge_indices(self, indices: IndexSettings | None, ingest: IngestSettings | None) -> None:
        """Refuse indices that need a band which is not in ``ingest.bands``."""
        try:
            if indices is not None and ingest is not None:
                check_bands(indices.names, ingest.bands)
        except MissingBandError as error:
            self.refuse("indices", [str(error)])

    def judge_scenes(self, views: Sequence[SceneView]) -> None:
        """Refuse what ingest refuses before it reads pixels, and add its warnings."""
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

    @staticmethod
    def read(delivery: Delivery, asked: LabelSettings) -> Labels:
        """The labels of a delivery under some settings.

        Raises:
            LandfoldError: what stage patches refuses of them.
        """
        return read_labels(
            delivery.labels_root, asked, scenes=delivery.scenes_root or Path(), find=lambda _: delivery.scenes
        )

    def judge_labels(self, delivery: Delivery, scenes: Sequence[SceneView], view: LabelView | None) -> None:
        """Refuse what stage patches refuses of the labels, and add its warnings; they are read into ``labels``."""
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
            labels = self.labels = self.read(delivery, asked)
            if grids := {v.scene.name: v.grid for v in scenes if v.grid is not None}:
                crs = next(v.crs for v in scenes if v.crs is not None)
                check_ground(labels, grids, self.rules.project.metric_crs if self.rules.project else crs)
        except LandfoldError as error:
            self.refuse("labels", [f"{error}{_other_kind(view, asked)}"])
            self.labels = None
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
                self.unlisted = True
                self.warn("labels", [f"{error}; it is refused where a {asked.unit} meets it"])

    def judge_patches(self, trial: PatchTrial, zones: ZoneSettings | None, raw: Path) -> PatchTrial:
        """Refuse classes without what their labels must have, and zones without folds; the trial with its folds."""
        if not trial.ground.complete:
            return trial
        names, table = trial.ground.labels.names, trial.patches.table
        try:
            classes_without_patch(table, names)
        except LandfoldError as error:
            self.refuse("patches", [str(error)])
            return trial
        if trial.pixels is None:
            self.refuse("patches", trial.absent())
        else:
            lost = [name for name in names if not trial.pixels[name]]
            fix = "bring labels of it, or move its values to labels.exclude"
            self.refuse("labels", [f"no pixel of a scene has a label of class {name}; {fix}" for name in lost])
            self.warn("patches", [text for text in trial.absent() if not text.startswith(_prefixes(lost))])
        if zones is None:
            return trial
        try:
            folds = fold_trial(table, zones, raw)
        except LandfoldError as error:
            self.refuse("zones", [str(error)])
            return trial
        flagged = {fold: part["flags"] for fold, part in fold_summary(folds)["folds"].items() if part["flags"]}
        self.warn("zones", fold_warnings(folds, zones))
        self.warn("zones", [f"fold {fold}: {', '.join(flags)}" for fold, flags in flagged.items()])
        return replace(trial, folds=folds)


def _prefixes(classes: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"no patch of class {name}:" for name in classes)


def _other_kind(view: LabelView | None, asked: LabelSettings) -> str:
    """Which kind of labels there is, where the settings ask for another."""
    if view is None or view.kind == asked.kind:
        return ""
    where = "the folders of the scenes" if view.kind == "folder" else view.path.name
    return f"; {where} would be labels.kind: {view.kind}"
