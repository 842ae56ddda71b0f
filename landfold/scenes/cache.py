"""The scene cache: what stages have made of each scene, so that one more scene costs the time of one scene.

DVC removes a stage's outputs before it runs the stage. What was made of each scene is therefore kept below
``.dvc/tmp/landfold`` of the main checkout under a key of everything that it was made from: the scene's inputs and
their content, the settings that the stage reads, the code, and the libraries. Files are hard links. With the
``cache.type`` of this repository DVC's cache links to them too, so that they take no space. The folder may be
deleted at any time; without ``.dvc`` there is none.

Of a remote scene the key holds the content of the file that lists its URLs, not of what they lead to: a remote file
that changes under its URL is not noticed, and one more URL in a list makes all scenes of that list anew.
"""

import hashlib
import json
import os
import shutil
import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from landfold.core.digests import file_sha256, library_versions
from landfold.core.files import MAX_AGE_S, cache_dir, read_json, write_json

FRESH_NS = 2 * 10**9
"""The digest of a file that changed a moment ago is not stored: within one tick of its clock it may change again."""

DIGESTS = "digests.json"
"""Digests of input files by device, inode, size and time, with the time of their last use."""

RESULT = "result"
"""File of an entry: a line of JSON about it, and the result."""

_ABSENT = object()

Progress = Callable[[float], None]
"""Called with the fraction of the work that is done."""


@dataclass(frozen=True)
class SceneTask:
    """What a stage makes of one scene, and everything that it makes it from.

    Attributes:
        name: of the scene.
        inputs: files and folders, whose content counts.
        outputs: files that ``make`` writes, each under a temporary name first.
        make: writes the outputs and returns a result: JSON, or bytes.
        facts: what else the result depends on: JSON, or dataclasses of it.
    """

    name: str
    inputs: Sequence[Path]
    outputs: Sequence[Path]
    make: Callable[[Progress], Any]
    facts: Any = None


@dataclass(frozen=True)
class SceneResults:
    """What a stage has made of its scenes.

    Attributes:
        results: by name of the scene, in their order.
        refusals: messages, by name of the scene.
        unchanged: how many results come from the cache.
    """

    results: dict[str, Any]
    refusals: dict[str, str]
    unchanged: int

    @property
    def tally(self) -> str:
        """The count for a stage's last line."""
        return f"{len(self.results) - self.unchanged} computed, {self.unchanged} unchanged"


def run_cached(
    stage: str,
    tasks: Iterable[SceneTask],
    settings: Mapping[str, Any],
    *,
    code: str,
    bar: Callable[[str], AbstractContextManager[Progress]],
    refusals: tuple[type[Exception], ...] = (),
) -> SceneResults:
    """Restore each scene's outputs from the cache or make them; they are the same bytes either way.

    Args:
        stage: its name.
        tasks: one for each scene.
        settings: what the stage reads of params.yaml, as JSON.
        code: digest of the code that makes the outputs, from `landfold.core.digests.code_digest`.
        bar: a progress bar of a description, as a context.
        refusals: exceptions that refuse their scene alone, and are never cached. Any other ends the run; what was
            made until then stays cached.
    """
    results, refused, unchanged = {}, {}, 0
    cache = _SceneCache(stage, settings=settings, code=code)
    for task in tasks:
        entry = cache.entry(task)
        result = cache.restore(entry, task.outputs)
        if result is not _ABSENT:
            results[task.name], unchanged = result, unchanged + 1
            continue
        try:
            with bar(f"{stage} {task.name}") as progress:
                results[task.name] = task.make(progress)
        except refusals as error:
            refused[task.name] = str(error)
            continue
        cache.save(entry, task.outputs, results[task.name])
    cache.prune()
    return SceneResults(results, refused, unchanged)


class _SceneCache:
    """The cache of one stage: a folder STAGE/KEY for each entry, whose time of change is that of its last use.

    After an error it warns once, and every further scene is made anew. Without a folder it does nothing.
    """

    def __init__(self, stage: str, **basis: Any) -> None:
        """``basis`` is what all keys depend on, as JSON."""
        self.stage, self.basis = stage, basis | {"stage": stage, "libraries": library_versions()}
        self.folder = cache_dir(Path.cwd())
        self.digests: dict[str, tuple[str, float]] = {}  # SHA-256 and time of last use of the files of this run
        self.names_in: dict[Path, list[str]] = {}
        with self._disable_on_error():
            self.stored = self._stored_digests()

    @contextmanager
    def _disable_on_error(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.folder = None
            print(f"{self.stage}: warning: the scene cache is not used: {error}", file=sys.stderr)

    def entry(self, task: SceneTask) -> Path | None:
        """The folder of a scene's entry, named by SHA-256 of everything that its outputs are made from.

        None without a cache, and where an input cannot be read.
        """
        if self.folder is None:
            return None
        try:
            inputs = [[path.as_posix(), self._digest(path)] for path in self._files(task.inputs)]
        except OSError:  # the task reports it
            return None
        own = {"scene": task.name, "facts": task.facts, "outputs": [path.name for path in task.outputs]}
        text = json.dumps(self.basis | own | {"inputs": inputs}, sort_keys=True, default=_as_json)
        return self.folder / self.stage / hashlib.sha256(text.encode()).hexdigest()

    def restore(self, entry: Path | None, outputs: Sequence[Path]) -> Any:
        """Link the files of an entry to the outputs; its result, or `_ABSENT` if it is absent or was changed."""
        with self._disable_on_error(), suppress(FileNotFoundError, ValueError):
            if entry is None:
                return _ABSENT
            header, _, content = (entry / RESULT).read_bytes().partition(b"\n")
            about = json.loads(header)
            if about["files"] != [_size_and_time(entry / output.name) for output in outputs]:
                return _ABSENT
            for output in outputs:
                _link(entry / output.name, output)
            os.utime(entry)
            return content if about["is_bytes"] else json.loads(content)
        return _ABSENT

    def save(self, entry: Path | None, outputs: Sequence[Path], result: Any) -> None:
        """Keep outputs and result as an entry, whole or not at all."""
        with self._disable_on_error():
            if entry is None or self.folder is None:
                return
            temporary = entry.with_name(f".partial-{os.getpid()}-{entry.name}")
            temporary.mkdir(parents=True, exist_ok=True)
            for output in outputs:
                _link(output, temporary / output.name)
            files = [_size_and_time(temporary / output.name) for output in outputs]
            header = json.dumps({"files": files, "is_bytes": isinstance(result, bytes)})
            content = result if isinstance(result, bytes) else json.dumps(result).encode()
            (temporary / RESULT).write_bytes(header.encode() + b"\n" + content)
            shutil.rmtree(entry, ignore_errors=True)  # one that was changed
            os.replace(temporary, entry)

    def prune(self) -> None:
        """Store the digests of this run; remove what no run has used for `MAX_AGE_S`."""
        with self._disable_on_error():
            if self.folder is None:
                return
            oldest = time.time() - MAX_AGE_S
            for entry in (self.folder / self.stage).glob("*"):
                if entry.stat().st_mtime < oldest:
                    shutil.rmtree(entry, ignore_errors=True)
            digests = self._stored_digests() | self.digests  # another process may have stored some
            write_json(self.folder / DIGESTS, {file: note for file, note in digests.items() if note[1] >= oldest})

    def _stored_digests(self) -> dict[str, tuple[str, float]]:
        with suppress(FileNotFoundError, ValueError):
            digests = read_json(self.folder / DIGESTS) if self.folder else {}
            return digests if isinstance(digests, dict) else {}
        return {}

    def _digest(self, path: Path) -> str:
        """SHA-256 of a file, which is read again only when its inode, size or time differ, as git does.

        The inode stands for the path, so that hard links in another workspace of DVC need no reading.
        """
        status = path.stat()
        file = f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"
        note = self.digests.get(file) or self.stored.get(file)
        sha256 = note[0] if note else file_sha256(path)
        if time.time_ns() - status.st_mtime_ns > FRESH_NS:
            self.digests[file] = sha256, time.time()
        return sha256

    def _files(self, paths: Iterable[Path]) -> list[Path]:
        """Files, those in folders, and those beside them in which GDAL looks for a mask, a grid or statistics."""
        files: set[Path] = set()
        for path in paths:
            if path.is_dir():
                files.update(p for p in path.rglob("*") if p.is_file())
            else:
                files.update([path, *self._companions(path)])
        return sorted(files)

    def _companions(self, path: Path) -> Iterator[Path]:
        """Files like SCENE.tfw and SCENE.tif.aux.xml beside SCENE.tif."""
        folder, prefix = path.parent, f"{path.stem}."
        if folder not in self.names_in:
            self.names_in[folder] = sorted(os.listdir(folder))
        names = self.names_in[folder]
        for i in range(bisect_left(names, prefix), len(names)):
            if not names[i].startswith(prefix):
                return
            if Path(names[i]).suffix.lower() != path.suffix.lower() and (folder / names[i]).is_file():
                yield folder / names[i]


def _size_and_time(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _link(source: Path, target: Path) -> None:
    """A hard link, whole or absent; where the file system has none, a copy of the same time."""
    temporary = target.with_name(f".partial-{os.getpid()}-{target.name}")
    temporary.unlink(missing_ok=True)
    try:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copy2(source, temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)  # os.replace leaves it where both are links to one file


def _as_json(value: Any) -> Any:
    return vars(value) if hasattr(value, "__dataclass_fields__") else str(value)
