"""What the report is made from: the files of the other stages, read together."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas

from landfold.core.digests import file_sha256
from landfold.core.errors import LandfoldError
from landfold.core.files import read_json


class ReportError(LandfoldError):
    """A result that lacks a part."""


@dataclass(frozen=True)
class Sources:
    """Where the other stages have written: each is what has its name in data/, or metrics/.

    ``folds`` is data/folds/kK, ``card`` the model.json of a fold.
    """

    metrics: Path
    scenes: Path
    normalized: Path
    patches: Path
    folds: Path
    card: Path
    maps: Path
    audit: Path
    predictions: Path

    @property
    def history(self) -> Path:
        """The training curves of all folds."""
        return self.metrics / "plots/history.csv"

    def applicability(self) -> dict[str, Any] | None:
        """What maps/applicability.json says; None where it is off."""
        path = self.maps / "applicability.json"
        return read_json(path) if path.is_file() else None


@dataclass(frozen=True)
class ReportData:
    """The numbers of the report, as the stages wrote them.

    ``scores`` is metrics/scores.json (see `landfold.scores.summary`), ``card`` the model.json of the first fold,
    ``applicability`` that of the maps, None where it is off; ``history`` is history.csv, ``params`` the sections in
    force, ``digests`` the SHA-256 of every file.
    """

    summary: dict[str, Any]
    scores: dict[str, Any]
    audit: dict[str, Any]
    patches: dict[str, Any]
    folds: dict[str, Any]
    scenes: dict[str, Any]
    index: dict[str, Any]
    card: dict[str, Any]
    applicability: dict[str, Any] | None
    history: pandas.DataFrame
    params: dict[str, Any]
    digests: dict[str, str]


def read_report_data(sources: Sources, params: dict[str, Any]) -> ReportData:
    """Read what the stages wrote; ``params`` are the sections of params.yaml.

    Raises:
        ReportError: naming a file that is not there.
    """
    json_files = {name: sources.metrics / f"{name}.json" for name in ("summary", "scores", "audit", "patches", "folds")}
    json_files |= {"scenes": sources.scenes / "report.json", "index": sources.folds / "index.json"}
    json_files["card"] = sources.card
    files = [*json_files.values(), sources.history, sources.predictions]
    for path in files:
        if not path.is_file():
            raise ReportError(f"{path}: not found; run `dvc repro`, so that its stage writes it")
    return ReportData(
        **{name: read_json(path) for name, path in json_files.items()},
        applicability=sources.applicability(),
        history=pandas.read_csv(sources.history),
        params=params,
        digests={path.as_posix(): file_sha256(path) for path in files},
    )
