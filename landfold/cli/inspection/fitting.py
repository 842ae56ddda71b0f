"""The user's settings where they fit a delivery, and others in their place where they do not."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ruamel.yaml.comments import CommentedMap

from landfold.cli.inspection.default_data import left_from_default, licence
from landfold.cli.inspection.label_contents import LabelView
from landfold.cli.inspection.patch_settings import choose
from landfold.cli.inspection.patch_trial import LabelledGrids, PatchTrial, labelled_grids
from landfold.cli.inspection.proposal import (
    Proposal,
    colour_section,
    default_name,
    draft,
    index_section,
    network_sections,
    normalize_section,
    settings_section,
    without_classes,
)
from landfold.cli.inspection.scene_headers import SceneView
from landfold.cli.inspection.verdict import Rules, Verdict
from landfold.core import settings
from landfold.core.errors import LandfoldError
from landfold.deploy.settings import CardSettings
from landfold.folds.settings import ZoneSettings
from landfold.patches.delivery import Delivery
from landfold.patches.labels import LabelSettings

ORDER = (
    *("project", "ingest", "indices", "normalize", "labels", "patches", "zones", "model", "train", "export"),
    *("colours", "card"),
)
"""Of the sections that are proposed, as in params.yaml."""

FIELDS = ("project", "ingest", "labels")
"""Of `Rules`."""


class Fitting:
    """The user's settings where they fit a delivery, and others in their place where they do not.

    Sections ``project`` and ``ingest`` are kept together, and so is ``labels``, where they refuse no more than drafted
    ones would. ``verdict`` is that under the user's settings; ``chosen`` has the patches and zones that fit.
    """

    def __init__(
        self,
        path: Path,
        delivery: Delivery,
        scenes: Sequence[SceneView],
        labels: LabelView | None,
        content: Mapping[str, Any],
        own: Mapping[str, Any],
        order: list[str | None] | None,
    ) -> None:
        """Judge a delivery by the user's sections that load, ``own``, and draft what is not in them.

        Args:
            path: of the delivery, for the name of the project.
            delivery: its files.
            scenes: with their headers.
            labels: None if there are none.
            content: the user's file as plain data.
            own: its sections that load.
            order: the user's band order.
        """
        self.path, self.delivery, self.scenes, self.view = path, delivery, scenes, labels
        self.content, self.own = content, own
        self.left = left_from_default(content, scenes)
        named = "project" in own and "name" not in self.left.get("project", ())
        self.name = own["project"].name if named else default_name(path)
        self.draft = draft(scenes, labels, name=self.name, order=order)
        self.verdict = self._judged(own)
        sound = not self.verdict.refusals and not self.verdict.unlisted
        other = self.verdict if sound or not own else self._judged({})
        self.keeps_scenes = {"project", "ingest"} <= own.keys() and self._fits_scenes(other)
        self.keeps_labels = "labels" in own and self._fits_labels(own["labels"], other)
        kept = {name for name, keeps in (("project", self.keeps_scenes), ("ingest", self.keeps_scenes)) if keeps}
        kept |= {"labels"} if self.keeps_labels else set()
        self.rules = Rules(*(own[name] if name in kept else getattr(self.draft, name) for name in FIELDS))
        self.chosen: tuple[PatchTrial, ZoneSettings] | None = None
        self.raw = delivery.labels_root.parent if delivery.kind == "delivery" else path
        self._read = self.verdict.labels if self.rules.labels == self.verdict.rules.labels else other.labels

    def _judged(self, own: Mapping[str, Any]) -> Verdict:
        verdict = Verdict(Rules(*(own.get(name) or getattr(self.draft, name) for name in FIELDS)))
        verdict.judge_scenes(self.scenes)
        verdict.judge_labels(self.delivery, self.scenes, self.view)
        return verdict

    def _fits_scenes(self, other: Verdict) -> bool:
        """Whether the user's sections take the scenes, or as many of them as the drafted ones."""
        refused = self.verdict.count("scene")
        if self.draft.ingest is None:  # it has a "?": only the user can know what takes the scenes
            return refused < max(1, len(self.scenes))
        return refused <= other.count("scene")

    def _fits_labels(self, own: LabelSettings, other: Verdict) -> bool:
        """Whether the user's section takes the labels, or as much of them as the drafted one."""
        if self.view is not None and own.kind != self.view.kind and self.verdict.count("labels"):
            return False
        return self.verdict.count("labels") <= other.count("labels") and self.verdict.unlisted <= other.unlisted

    def propose(self) -> Proposal:
        """The sections that the user's file has otherwise."""
        own, rules, drafted = self.own, self.rules, self.draft.sections
        sections = {}
        if self.scenes and not self.keeps_scenes:
            sections |= {name: drafted[name] for name in ("project", "ingest")}
        elif "name" in self.left.get("project", ()):
            values = own["project"].model_dump() | {"name": self.name}
            sections["project"] = settings_section(values, {"name": "the MLflow experiment: choose a name"})
        if self.scenes and rules.ingest is not None:
            names = own["indices"].names if "indices" in own else None
            sections["indices"] = index_section(names, rules.ingest.bands)
        ground = self._ground()
        if ground is not None:
            smallest = min(grid.height * grid.width for grid in ground.grids.values())
            sections["normalize"] = normalize_section(own.get("normalize"), smallest)
            self._choose(ground)
        if self.view is not None and not self.keeps_labels:
            sections["labels"] = drafted["labels"]
        if self.chosen is not None:
            for name, chosen in (("patches", self.chosen[0].settings), ("zones", self.chosen[1])):
                if chosen != own.get(name):
                    sections[name] = settings_section(chosen.model_dump(mode="json"), {})
        if self.view is not None:
            sections |= self._of_classes()
        if self.scenes and (self.left.get("card") or "card" not in own):
            sections["card"] = self._card()
        return Proposal({name: sections[name] for name in ORDER if sections.get(name) is not None})

    def _ground(self) -> LabelledGrids | None:
        rules = self.rules
        if rules.project is None or rules.ingest is None or self._read is None:
            return None
        return labelled_grids(self.scenes, rules.ingest, self._read, rules.project.metric_crs)

    def _choose(self, ground: LabelledGrids) -> None:
        """Patches and zones; of a drafted section of labels, classes that no scene shows are left out."""
        own, unit = self.own, self.rules.labels.unit
        unfitted = "origin_m" in self.left.get("zones", ())  # patches and zones are those of the default data
        patches = None if unfitted and ground.labels.ground is None else own.get("patches")
        zones = None if unfitted else own.get("zones")
        try:
            pixels = ground.class_px() if unit == "pixel" else None
            trial, zones = choose(ground, pixels, patches, zones, self.raw)
            counts = trial.patches.table["label"].value_counts() if pixels is None else pixels
            lost = [name for name in ground.labels.names if not counts.get(name)]
            if lost and not self.keeps_labels and ground.complete and len(counts) - len(lost) >= 2:
                section = without_classes(self.draft.sections["labels"], lost, f"left out, since no {unit} has them")
                asked = settings.validate(json.loads(json.dumps(section)), LabelSettings, where="labels")
                ground = replace(ground, labels=self.verdict.read(self.delivery, asked))
                self._choose(ground)
                return
        except LandfoldError as error:
            self.verdict.refuse("labels", [str(error)])
            return
        self.chosen = trial, zones

    def _of_classes(self) -> dict[str, CommentedMap]:
        """The sections that go with the labels: the network, its training, the map and the colours."""
        own, labels = self.own, self.own["labels"] if self.keeps_labels else self.draft.sections["labels"]
        unit, classes = (labels.unit, labels.names) if self.keeps_labels else (labels["unit"], list(labels["classes"]))
        sections = network_sections(unit, self.content)
        trial = self.chosen and self.chosen[0]
        if trial and trial.ground.labels.ground is None and trial.settings != own.get("patches"):
            export = dict(sections.get("export") or self.content["export"]) | {"stride_px": trial.settings.size_px}
            sections["export"] = settings_section(export, {"stride_px": "one prediction for each patch"})
        if not (self.keeps_labels and "colours" in own):
            colours = colour_section(classes, own.get("colours"))
            if dict(colours) != self.content.get("colours"):
                sections["colours"] = colours
        return sections

    def _card(self) -> CommentedMap:
        """The model card's section without what it tells of the default data."""
        values = self.own["card"].model_dump() if "card" in self.own else {}
        left = self.left.get("card", set()) | (CardSettings.model_fields.keys() - values.keys())
        fresh = {"licence": licence(self.scenes, self.view), "limits": []}
        comments = {
            "licence": "check: licence and attribution of scenes and labels, as their owners ask for it",
            "limits": "what else a user of the model must know, a sentence each",
        }
        return settings_section({name: fresh[name] if name in left else values[name] for name in fresh}, comments)

    def judge_patches(self) -> PatchTrial | None:
        """The patches and folds; those of the user's settings are judged, if these take the scenes and labels."""
        if self.chosen is None:
            return None
        trial, zones = self.chosen
        if not self.own:
            return self.verdict.judge_patches(trial, zones, self.raw)
        if not (self.keeps_scenes and self.keeps_labels):
            return trial
        patches = self.own.get("patches", trial.settings)
        if patches != trial.settings:
            trial = replace(trial, settings=patches, patches=trial.ground.cut(patches), folds=None)
        return self.verdict.judge_patches(trial, self.own.get("zones", zones), self.raw)
