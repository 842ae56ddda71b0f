"""One result of the pipeline, and the digests that identify it."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from landfold.core.digests import data_digest, digest, file_sha256, model_digest, params_digest
from landfold.core.files import read_json
from landfold.tracking.library import TrackingError
from landfold.tracking.store import leaves


@dataclass(frozen=True)
class TrackedResult:
    """A result of the pipeline: settings, folders of the folds, scores and maps.

    Attributes:
        experiment: name of the MLflow experiment.
        params: settings, but for those of tracking.
        summary: content of metrics/summary.json.
        folds: folders of fold 0, 1, ...
        artifacts: relative paths of files or folders to upload under the same names; those that exist.
        workspace: the folder in which the pipeline ran.
        scores: content of metrics/scores.json.
        scenes: content of data/scenes/report.json.
        maps: folder of the maps; None: no maps.
        maps_mb: size limit of the maps that are uploaded, MB.
    """

    experiment: str
    params: Mapping[str, Any]
    summary: Mapping[str, Any]
    folds: list[Path]
    artifacts: list[Path] = field(default_factory=list)
    workspace: Path = field(default_factory=lambda: Path.cwd().resolve())
    scores: Mapping[str, Any] = field(default_factory=dict)
    scenes: Mapping[str, Any] = field(default_factory=dict)
    maps: Path | None = None
    maps_mb: float = 0

    @cached_property
    def digests(self) -> list[str]:
        """Digest of every fold's folder.

        Raises:
            TrackingError: a fold that is missing.
        """
        for folder in self.folds:
            for name in ("model.json", "history.csv"):
                if not (folder / name).is_file():
                    raise TrackingError(f"{folder / name}: not found; run `dvc repro` to train that fold")
        return [digest(folder) for folder in self.folds]

    @cached_property
    def key(self) -> str:
        """SHA-256 that identifies the result's parent run."""
        values = [sorted(map(repr, leaves(part))) for part in (self.params, self.summary)]
        return hashlib.sha256(json.dumps([self.experiment, *values, self.digests]).encode()).hexdigest()

    @cached_property
    def cards(self) -> list[Any]:
        """The content of model.json of every fold."""
        return [read_json(folder / "model.json") for folder in self.folds]

    @cached_property
    def data_digest(self) -> str:
        """SHA-256 of the data that the folds were trained and scored on.

        Raises:
            TrackingError: the model.json of a fold lacks it.
        """
        try:
            return data_digest(self.cards)
        except KeyError as error:
            names = self.folds[0] / "model.json"
            raise TrackingError(f"{names}: {error} is missing; run `dvc repro` to train the folds again") from None

    @property
    def model_digest(self) -> str | None:
        """The tag MODEL_SHA256 of the result's maps; None for folds without weights."""
        weights = [folder / "model.safetensors" for folder in self.folds]
        return model_digest(map(file_sha256, weights)) if all(path.is_file() for path in weights) else None

    @property
    def params_digest(self) -> str:
        """SHA-256 of all settings but those of tracking."""
        return params_digest(self.params)

    @property
    def k(self) -> int:
        """Number of folds of one repeat."""
        return int(self.cards[0].get("k", len(self.folds)))

    @property
    def name(self) -> str:
        """Name of the parent run: the DVC experiment's, else from the number of folds and the key."""
        return os.environ.get("DVC_EXP_NAME") or f"k{self.k}-{self.key[:7]}"
