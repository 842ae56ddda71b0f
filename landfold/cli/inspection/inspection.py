"""What a delivery holds, what would be refused of it, and the settings that fit."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from landfold.cli.inspection.default_data import default_warnings
from landfold.cli.inspection.fitting import Fitting
from landfold.cli.inspection.label_contents import LabelView, read_label_contents
from landfold.cli.inspection.params_file import write_settings
from landfold.cli.inspection.patch_trial import PatchTrial
from landfold.cli.inspection.proposal import (
    Proposal,
)
from landfold.cli.inspection.scene_headers import SceneView, read_headers
from landfold.cli.inspection.scene_settings import UNKNOWN
from landfold.cli.inspection.verdict import Finding
from landfold.core import settings
from landfold.deploy.settings import CardSettings
from landfold.folds.settings import ZoneSettings
from landfold.geo.settings import ProjectSettings
from landfold.maps.colours import ColourSettings
from landfold.params import read_params
from landfold.patches.delivery import Delivery, InspectionError, explore, isolate_file
from landfold.patches.labels import LabelSettings
from landfold.patches.settings import PatchSettings
from landfold.scenes.settings import IndexSettings, IngestSettings, NormalizeSettings

SECTIONS = {
    "project": ProjectSettings,
    "ingest": IngestSettings,
    "indices": IndexSettings,
    "normalize": NormalizeSettings,
    "labels": LabelSettings,
    "patches": PatchSettings,
    "zones": ZoneSettings,
    "colours": ColourSettings,
    "card": CardSettings,
}
"""The sections of params.yaml that depend on the data."""


@dataclass(frozen=True)
class Inspection:
    """The content of a delivery, and the verdict under the settings ``judged_by``: a file, or the proposal.

    ``trial`` has the patches and folds, under the settings that judge where those take the scenes and labels.
    """

    path: Path
    place: Delivery
    judged_by: str
    scenes: list[SceneView]
    labels: LabelView | None
    trial: PatchTrial | None
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
        order = _band_order(content)
        delivery = explore(folder, band_order=order, mask_file=own["ingest"].mask_file if "ingest" in own else None)
        scenes = [read_headers(scene) for scene in delivery.scenes]
        asked: LabelSettings | None = own.get("labels")
        labels = read_label_contents(delivery, kind=asked and asked.kind, layer=asked and asked.layer)
        fitting = Fitting(path, delivery, scenes, labels, content, own, order)
        verdict = fitting.verdict
        verdict.refuse("settings", faults, name=str(params))
        verdict.refuse("delivery", delivery.faults)
        if scenes:
            verdict.judge_indices(own.get("indices"), own.get("ingest"))
        verdict.warn("settings", default_warnings(fitting.left))
        proposal = fitting.propose()
        trial = fitting.judge_patches()

        def named(message: str) -> str:
            """The message with the path that was asked about, where links in another folder were read."""
            return message if folder == path else message.replace(str(folder), str(path.parent))

        return Inspection(
            path,
            delivery,
            str(params) if own else "proposal",
            scenes,
            labels and replace(labels, fault=labels.fault and named(labels.fault)),
            trial,
            [replace(finding, message=named(finding.message)) for finding in verdict.refusals],
            [replace(finding, message=named(finding.message)) for finding in verdict.warnings],
            proposal,
        )


def write(inspection: Inspection, params: Path) -> list[str]:
    """Put the proposed settings into a file; the dotted names of those that changed.

    Raises:
        SettingsError: the file is absent or no file of settings.
        ParamsFileError: it may not be written.
        InspectionError: no scene and no label was recognised, so that nothing can be proposed.
    """
    if not inspection.scenes and inspection.labels is None:
        raise InspectionError(
            f"{inspection.path}: neither scenes nor labels were recognised, so there is nothing to write; put scenes "
            "below scenes and labels into labels"
        )
    return write_settings(params, inspection.proposal.commented)


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
    if not faults:
        try:
            read_params(params)
        except settings.SettingsError as error:
            faults.append(str(error))
    return content, loaded, faults


def _band_order(content: Mapping[str, Any]) -> list[str | None] | None:
    """``ingest.band_order`` of a file, even where another setting keeps its section from loading."""
    ingest = content.get("ingest")
    order = ingest.get("band_order") if isinstance(ingest, dict) else None
    usable = isinstance(order, list) and order and all(isinstance(name, str) for name in order)
    return order if usable and UNKNOWN not in order else None
