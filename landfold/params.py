"""Which model owns which section of params.yaml, for those who judge the file as a whole."""

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

from landfold.core.settings import Settings, SettingsError, validate

OWNERS = {
    "project": "landfold.geo.settings:ProjectSettings",
    "dataset": "landfold.fetch.settings:DatasetSettings",
    "ingest": "landfold.scenes.ingest:IngestSettings",
    "indices": "landfold.scenes.indices:IndexSettings",
    "normalize": "landfold.scenes.normalize:NormalizeSettings",
    "labels": "landfold.patches.settings:LabelSettings",
    "patches": "landfold.patches.settings:PatchSettings",
    "zones": "landfold.folds.settings:ZoneSettings",
    "audit": "landfold.audit.settings:AuditSettings",
    "model": "landfold.network.model:ModelSettings",
    "train": "landfold.network.recipe:TrainSettings",
    "evaluate": "landfold.scores.metrics:EvaluateSettings",
    "export": "landfold.maps.export:ExportSettings",
    "track": "landfold.tracking:TrackSettings",
    "colours": "landfold.maps.colours:ColourSettings",
    "card": "landfold.deploy.modelcard:CardSettings",
}
"""Section: module and model. Imported only when needed, since torch takes seconds."""


def owner(section: str) -> type[Settings]:
    """The settings model of a section."""
    module, _, name = OWNERS[section].partition(":")
    return getattr(import_module(module), name)


def faults(content: Mapping[str, Any], sections: Iterable[str], *, where: str) -> list[str]:
    """What the owners of the sections refuse, one line a setting; ``where`` names the file."""
    lines: list[str] = []
    for section in sections:
        if section not in content:
            lines.append(f"{where}: section '{section}' is missing")
            continue
        try:
            validate(content[section], owner(section), where=f"{where}: {section}")
        except SettingsError as error:
            lines += str(error).splitlines()
    return lines
