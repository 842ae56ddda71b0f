"""The files that go with a parent run: those of the repository, without secrets, tables, and a share of the maps."""

import csv
import io
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from landfold.tracking.origin import environment
from landfold.tracking.redaction import redacted
from landfold.tracking.result import Result

TEXT = {".yaml", ".lock", ".json", ".csv", ".html", ".txt", ".md", ".xml"}


@dataclass(frozen=True)
class Gathered:
    """Names of the files that are to be kept, and of the maps for which there is no room."""

    kept: list[str]
    left_out: list[str]


def gather(result: Result, folder: Path) -> Gathered:
    """Put all files that go with a result into an empty folder, from where they are sent in one go."""
    for path in _files(result.artifacts):
        _copy(path, folder / path)
    tables = {f"tables/{name}.csv": text for name, text in _tables(result.scores).items()}
    for name, text in (tables | {"environment.txt": environment(result.workspace)}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    maps, left_out = _share(_files([result.maps] if result.maps else []), result.maps_mb * 1e6)
    for path in maps:
        _copy(path, folder / path)
    kept = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return Gathered(kept, [path.as_posix() for path in left_out])


def _files(paths: Iterable[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        found += sorted(part for part in path.rglob("*") if part.is_file()) if path.is_dir() else [path]
    return [path for path in found if path.is_file()]


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix in TEXT:
        target.write_text(redacted(source.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        shutil.copyfile(source, target)


def _share(files: list[Path], room: float) -> tuple[list[Path], list[Path]]:
    """The smallest files that together fit into so many bytes, and the rest."""
    kept: list[Path] = []
    for path in sorted(files, key=lambda path: (path.stat().st_size, path)):
        room -= path.stat().st_size
        if room < 0:
            break
        kept.append(path)
    return kept, [path for path in files if path not in kept]


def _tables(scores: Mapping[str, Any]) -> dict[str, str]:
    """Tables of metrics/scores.json by name, as CSV, which MLflow's page shows as tables."""
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
    """``{"f1": {"low": 1}}`` as ``{"f1_low": 1}``, and its pooled value as ``f1``; names and classes come first."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            order = ("pooled", "low", "high")
            parts = [part for part in order if part in value] + [part for part in value if part not in order]
            flat |= {name if part == "pooled" else f"{name}_{part}": value[part] for part in parts}
        else:
            flat[name] = value
    first = [name for name in ("class", "zone", "fold", "repeat", "support", "patches") if name in flat]
    return {name: flat[name] for name in [*first, *(name for name in flat if name not in first)]}


def _csv(rows: list[dict[str, Any]]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
