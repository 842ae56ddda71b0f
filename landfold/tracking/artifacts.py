"""The artifacts of a parent run: files of the repository without secrets, tables, and as many maps as allowed."""

import csv
import io
import itertools
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from landfold.tracking.origin import environment
from landfold.tracking.redaction import redact_secrets
from landfold.tracking.result import TrackedResult

TEXT = {".yaml", ".lock", ".json", ".csv", ".html", ".txt", ".md", ".xml"}


@dataclass(frozen=True)
class Artifacts:
    """Names of the files to upload, and of the maps that exceed ``track.maps_mb``."""

    kept: list[str]
    left_out: list[str]


def collect_artifacts(result: TrackedResult, folder: Path) -> Artifacts:
    """Copy all artifacts of a result into an empty folder, for one upload."""
    for path in _files(result.artifacts):
        _copy(path, folder / path)
    tables = {f"tables/{name}.csv": text for name, text in _tables(result.scores).items()}
    for name, text in (tables | {"environment.txt": environment(result.workspace)}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    maps, left_out = _smallest(_files([result.maps] if result.maps else []), result.maps_mb * 1e6)
    for path in maps:
        _copy(path, folder / path)
    kept = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return Artifacts(kept, [path.as_posix() for path in left_out])


def _files(paths: Iterable[Path]) -> list[Path]:
    """The files themselves and all files in the folders, those that exist."""
    return [file for path in paths for file in (path, *sorted(path.rglob("*"))) if file.is_file()]


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix in TEXT:
        target.write_text(redact_secrets(source.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        shutil.copyfile(source, target)


def _smallest(files: list[Path], limit_bytes: float) -> tuple[list[Path], list[Path]]:
    """The smallest files that together have at most ``limit_bytes``, and the rest."""
    ascending = sorted(files, key=lambda path: (path.stat().st_size, path))
    totals = itertools.accumulate(path.stat().st_size for path in ascending)
    kept = [path for path, total in zip(ascending, totals, strict=True) if total <= limit_bytes]
    return kept, [path for path in files if path not in kept]


def _tables(scores: Mapping[str, Any]) -> dict[str, str]:
    """The tables of metrics/scores.json by name, as CSV, which MLflow's page shows as tables; those of pixels apart."""
    return _tables_of(scores) | {
        f"pixels_{name}": text
        for name, text in _tables_of({"classes": scores.get("classes")} | scores.get("pixels", {})).items()
    }


def _tables_of(scores: Mapping[str, Any]) -> dict[str, str]:
    rows = {
        name: [_flat(row) for row in scores[name]] for name in ("per_class", "per_zone", "per_fold") if scores.get(name)
    }
    if scores.get("confusion"):
        names = scores["classes"]
        rows["confusion"] = [
            {"actual": actual} | dict(zip(names, counts, strict=True))
            for actual, counts in zip(names, scores["confusion"], strict=True)
        ]
    return {name: _csv(table) for name, table in rows.items()}


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """``{"f1": {"pooled": 1, "low": 0}}`` as ``{"f1": 1, "f1_low": 0}``, with the names of the row first."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            order = ("pooled", "low", "high")
            parts = [part for part in order if part in value] + [part for part in value if part not in order]
            flat |= {name if part == "pooled" else f"{name}_{part}": value[part] for part in parts}
        else:
            flat[name] = value
    first = [name for name in ("class", "zone", "fold", "repeat", "support", "patches", "pixels") if name in flat]
    return {name: flat[name] for name in [*first, *(name for name in flat if name not in first)]}


def _csv(rows: list[dict[str, Any]]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
