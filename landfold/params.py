"""params.yaml as a whole: which model owns which section, and one check of all of them."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import PrivateAttr, model_validator

from landfold.audit.settings import AuditSettings
from landfold.core.settings import Settings, SettingsError, read, used_or_null, validate
from landfold.deploy.settings import CardSettings
from landfold.fetch.settings import DatasetSettings
from landfold.folds.settings import ZoneSettings
from landfold.geo.settings import ProjectSettings
from landfold.maps.colours import ColourSettings
from landfold.maps.settings import ExportSettings
from landfold.network.settings import MachineSettings, ModelSettings, TrainSettings
from landfold.patches.settings import LabelSettings, PatchSettings
from landfold.scenes.settings import IndexSettings, IngestSettings, NormalizeSettings
from landfold.scores.settings import EvaluateSettings
from landfold.tracking.settings import TrackSettings


def check_unit(unit: str, model: ModelSettings, train: TrainSettings, export: ExportSettings) -> None:
    """Refuse networks, trainings and maps that do not go with what has a label.

    Raises:
        ValueError: for pydantic, which names the file.
    """
    pixels = unit == "pixel"
    if pixels != model.of_pixels:
        kinds = "surroundings, classical or segmentation" if pixels else "classifier"
        raise ValueError(
            f"model.kind is {model.kind}, but labels.unit: {unit} needs {kinds}; change one of them "
            "(docs/training.md lists what goes with each)"
        )
    used_or_null(f"labels.unit: {unit}", "train.max_pixels", train.max_pixels, pixels)
    used_or_null(f"labels.unit: {unit}", "export.stride_px", export.stride_px, not pixels)
    if pixels and export.offsets > 1:
        raise ValueError("export.offsets averages windows of patches; with labels.unit: pixel set it to 1")
    if model.kind == "segmentation" and train.epoch_size is None:
        raise ValueError(
            "train.epoch_size: null would show a window around every labelled pixel in every epoch; with "
            "model.kind: segmentation set it to a number of windows, such as 1000"
        )
    if model.kind == "classical" and ((train.devices, train.nodes) != (1, 1) or train.early_stopping is not None):
        raise ValueError(
            "model.kind: classical learns in one process and without epochs: set train.devices and train.nodes to 1, "
            "and train.early_stopping to null"
        )
    if model.by_features:
        moot = [name for name in ("flips_and_rotations", "spectral_jitter", "band_dropout") if getattr(train, name)]
        if moot or export.flips_and_rotations:
            names = [f"train.{name}" for name in moot] + ["export.flips_and_rotations"] * export.flips_and_rotations
            raise ValueError(
                f"{' and '.join(names)}: model.kind: {model.kind} sees the same in every flip and rotation, and no "
                "channels by themselves; set false or 0"
            )


class Params(Settings):
    """All sections of params.yaml, in the order of the pipeline."""

    project: ProjectSettings
    """what all stages share"""
    dataset: DatasetSettings
    """the default data set"""
    ingest: IngestSettings
    """how scenes are read"""
    indices: IndexSettings
    """spectral indices"""
    normalize: NormalizeSettings
    """percentiles of each scene"""
    labels: LabelSettings
    """what the labels are"""
    patches: PatchSettings
    """how patches are cut"""
    zones: ZoneSettings
    """zones and folds"""
    audit: AuditSettings
    """the audit of the folds"""
    model: ModelSettings
    """the network"""
    train: TrainSettings
    """how it is trained"""
    machine: MachineSettings
    """where it runs"""
    evaluate: EvaluateSettings
    """how it is scored"""
    export: ExportSettings
    """the maps"""
    colours: ColourSettings
    """colours of the classes"""
    track: TrackSettings
    """records in MLflow"""
    card: CardSettings
    """what the model card adds"""

    @model_validator(mode="after")
    def _unit_fits(self) -> Self:
        check_unit(self.labels.unit, self.model, self.train, self.export)
        return self

    _content: dict[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def content(self) -> dict[str, Any]:
        """The file as plain data, as it is written."""
        return self._content


OWNERS: dict[str, type[Settings]] = {name: field.annotation for name, field in Params.model_fields.items()}
"""Section: its model."""


def read_params(path: Path = Path("params.yaml")) -> Params:
    """Read params.yaml once and check it whole, so that no stage starts with a fault of a later one.

    Raises:
        SettingsError: naming every setting that is missing, unknown or has an unusable value.
    """
    content = read(path)
    try:
        params = validate(content, Params, where=f"{path}:")
    except SettingsError as error:  # what is between sections has no name
        raise SettingsError(str(error).replace(f"{path}: : ", f"{path}: ")) from None
    params._content = content
    return params


def faults(content: Mapping[str, Any], sections: Iterable[str], *, where: str) -> list[str]:
    """What the owners of the sections refuse, one line a setting; ``where`` names the file."""
    lines: list[str] = []
    for section in sections:
        if section not in content:
            lines.append(f"{where}: section '{section}' is missing")
            continue
        try:
            validate(content[section], OWNERS[section], where=f"{where}: {section}")
        except SettingsError as error:
            lines += str(error).splitlines()
    return lines
