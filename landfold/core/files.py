"""Files that are whole or absent: they are written under a temporary name and renamed."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Give a temporary path in the target's folder; rename it to ``path`` when the block succeeds.

    When the block raises, the temporary file is removed and an earlier ``path`` is untouched.
    The temporary name keeps the suffix, by which GDAL and others choose the format.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".partial-{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def writing_folder(path: Path) -> Iterator[Path]:
    """Give an empty temporary folder beside ``path``; it takes the place of ``path`` on success.

    When the block raises, the temporary folder is removed and an earlier ``path`` is untouched. The next call
    removes what a killed process left: DVC makes sure that no two processes write one output at a time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, earlier = path.with_name(f".partial-{path.name}"), path.with_name(f".earlier-{path.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(earlier, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            os.replace(path, earlier)  # not rmtree: a kill in the middle of it would leave half a folder
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if earlier.exists() and not path.exists():
            os.replace(earlier, path)
        shutil.rmtree(earlier, ignore_errors=True)


def write_json(path: Path, content: object) -> None:
    """Write sorted, indented JSON, so that equal content is equal bytes; NaN is refused."""
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    with writing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> object:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def main_checkout(workspace: Path) -> Path:
    """ROOT for a temporary experiment of DVC below ROOT/.dvc/tmp/exps, else the folder itself."""
    workspace = workspace.resolve()
    for folder in reversed(workspace.parents):
        if workspace.is_relative_to(folder / ".dvc/tmp/exps"):
            return folder
    return workspace


def cache_dir(workspace: Path) -> Path | None:
    """The folder of what stages keep between runs, ``.dvc/tmp/landfold`` of the main checkout.

    It may be deleted at any time. None where the main checkout has no ``.dvc``.
    """
    dvc = main_checkout(workspace) / ".dvc"
    return dvc / "tmp/landfold" if dvc.is_dir() else None


MAX_AGE_S = 14 * 24 * 3600
"""Seconds after which what no run has used is removed from `cache_dir`."""
