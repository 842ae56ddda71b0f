"""One result of the pipeline, and the digests by which it is known."""

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
class Result:
    """What was asked (params), the folds' folders, and what came out.

    ``folds`` are the folders of fold 0, 1, ...; ``artifacts`` relative paths of files or folders to keep with the
    parent run under the same names, those that exist; ``maps`` the folder of the maps, of which files are kept up to
    ``maps_mb`` MB in all; ``scores`` metrics/scores.json; ``scenes`` data/scenes/report.json; ``workspace`` the folder
    that the pipeline ran in.
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
        """SHA-256 by which the result's parent run is known."""
        values = [sorted(map(repr, leaves(part))) for part in (self.params, self.summary)]
        return hashlib.sha256(json.dumps([self.experiment, *values, self.digests]).encode()).hexdigest()

    @cached_property
    def cards(self) -> list[Any]:
        """The content of model.json of every fold."""
        return [read_json(folder / "model.json") for folder in self.folds]

    @cached_property
    def data_digest(self) -> str:
        """SHA-256 of the data that the folds learned from and were scored on.

        Raises:
            TrackingError: a fold whose model.json does not tell.
        """
        try:
            return data_digest(self.cards)
        except KeyError as error:
            names = self.folds[0] / "model.json"
            raise TrackingError(f"{names}: {error} is missing; run `dvc repro` to train the folds again") from None

    @property
    def model_digest(self) -> str | None:
        """What the tag MODEL_SHA256 of the result's maps says; None for folds that kept no weights."""
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
