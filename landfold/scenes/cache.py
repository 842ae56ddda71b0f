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
import sqlite3
import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from landfold.core.digests import file_sha256, library_versions
from landfold.core.files import MAX_AGE_S, cache_dir

FRESH_NS = 2 * 10**9
"""The digest of a file that changed a moment ago is not stored: within one tick of its clock it may change again."""

DATABASE = "store.sqlite"

_TABLES = """
CREATE TABLE IF NOT EXISTS digests (file TEXT PRIMARY KEY, sha256 TEXT, used REAL);
CREATE TABLE IF NOT EXISTS scenes (stage TEXT, key TEXT, files TEXT, result, used REAL, PRIMARY KEY (stage, key));
"""

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
    with _open_cache(stage, settings, code) as cache:
        for task in tasks:
            key = cache.key(task)
            result = cache.restore(key, task.outputs)
            if result is not _ABSENT:
                results[task.name], unchanged = result, unchanged + 1
                continue
            try:
                with bar(f"{stage} {task.name}") as progress:
                    results[task.name] = task.make(progress)
            except refusals as error:
                refused[task.name] = str(error)
                continue
            cache.save(key, task.outputs, results[task.name])
        cache.prune()
    return SceneResults(results, refused, unchanged)


@dataclass
class _SceneCache:
    """The cache of one stage. After an error it warns once, and every further scene is made anew."""

    stage: str
    folder: Path | None = None
    database: sqlite3.Connection | None = None
    basis: dict[str, Any] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    digests: dict[str, str] = field(default_factory=dict)
    names_in: dict[Path, list[str]] = field(default_factory=dict)

    def key(self, task: SceneTask) -> str | None:
        """SHA-256 of everything that the outputs are made from; None where an input cannot be read."""
        if self.database is None:
            return None
        try:
            inputs = [[path.as_posix(), self._digest(path)] for path in self._files(task.inputs)]
        except OSError:  # the task reports it
            return None
        own = {"scene": task.name, "facts": task.facts, "makes": [path.name for path in task.outputs]}
        text = json.dumps(self.basis | own | {"reads": inputs}, sort_keys=True, default=_as_json)
        return hashlib.sha256(text.encode()).hexdigest()

    def restore(self, key: str | None, outputs: Sequence[Path]) -> Any:
        """Link the files of an entry to the outputs and return its result; `_ABSENT` if it is absent or was changed."""
        with self._disable_on_error() as database:
            if database is None or key is None:
                return _ABSENT
            query = "SELECT files, result FROM scenes WHERE stage = ? AND key = ?"
            row = database.execute(query, (self.stage, key)).fetchone()
            if row is None:
                return _ABSENT
            for file, output in zip(json.loads(row[0]), outputs, strict=True):
                cached = self.folder / self.stage / key / file["name"]
                if not cached.is_file() or _size_and_time(cached) != file["mark"]:
                    return _ABSENT
                _link(cached, output)
            self.used.add(key)
            return row[1] if isinstance(row[1], bytes) else json.loads(row[1])
        return _ABSENT

    def save(self, key: str | None, outputs: Sequence[Path], result: Any) -> None:
        """Keep outputs and result under a key: first the files, then the entry."""
        with self._disable_on_error() as database:
            if database is None or key is None:
                return
            files = []
            for output in outputs:
                cached = self.folder / self.stage / key / output.name
                cached.parent.mkdir(parents=True, exist_ok=True)
                _link(output, cached)
                files.append({"name": output.name, "mark": _size_and_time(cached)})
            content = result if isinstance(result, bytes) else json.dumps(result)
            entry = (self.stage, key, json.dumps(files), content, time.time())
            database.execute("INSERT OR REPLACE INTO scenes VALUES (?, ?, ?, ?, ?)", entry)

    def prune(self) -> None:
        """Store what this run has used; remove what no run has used for `MAX_AGE_S`."""
        with self._disable_on_error() as database:
            if database is None:
                return
            now, oldest = time.time(), time.time() - MAX_AGE_S
            database.execute("BEGIN IMMEDIATE")
            used = [(now, self.stage, key) for key in self.used]
            database.executemany("UPDATE scenes SET used = ? WHERE stage = ? AND key = ?", used)
            digests = [(file, sha256, now) for file, sha256 in self.digests.items()]
            database.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?, ?)", digests)
            for table in ("scenes", "digests"):
                database.execute(f"DELETE FROM {table} WHERE used < ?", (oldest,))  # noqa: S608 - two fixed names
            database.execute("COMMIT")
            known = {key for (key,) in database.execute("SELECT key FROM scenes WHERE stage = ?", (self.stage,))}
            for entry in (self.folder / self.stage).glob("*"):
                if entry.name not in known and entry.stat().st_mtime < oldest:
                    shutil.rmtree(entry, ignore_errors=True)

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

    def _digest(self, path: Path) -> str:
        """SHA-256 of a file, which is read again only when its inode, size or time differ, as git does.

        The inode stands for the path, so that hard links in another workspace of DVC need no reading.
        """
        status = path.stat()
        file = f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"
        if file in self.digests:
            return self.digests[file]
        row = None
        with self._disable_on_error() as database:
            row = database and database.execute("SELECT sha256 FROM digests WHERE file = ?", (file,)).fetchone()
        sha256 = row[0] if row else file_sha256(path)
        if time.time_ns() - status.st_mtime_ns > FRESH_NS:
            self.digests[file] = sha256
        return sha256

    @contextmanager
    def _disable_on_error(self) -> Iterator[sqlite3.Connection | None]:
        try:
            yield self.database
        except (OSError, sqlite3.Error) as error:
            self.disable(error)

    def disable(self, error: Exception) -> None:
        """Go on without the cache; a file that is no database is removed."""
        if self.database:
            self.database.close()
        self.database = None
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
            with suppress(OSError):
                (self.folder / DATABASE).unlink()
        print(f"{self.stage}: warning: the scene cache is not used: {error}", file=sys.stderr)


@contextmanager
def _open_cache(stage: str, settings: Mapping[str, Any], code: str) -> Iterator[_SceneCache]:
    """The cache of a stage; one that does nothing where the main checkout has no ``.dvc``."""
    cache = _SceneCache(stage, cache_dir(Path.cwd()))
    if cache.folder:
        cache.basis = {"stage": stage, "settings": settings, "code": code, "libraries": library_versions()}
        try:
            cache.database = _connect(cache.folder / DATABASE)
        except (OSError, sqlite3.Error) as error:
            cache.disable(error)
    try:
        yield cache
    finally:
        if cache.database:
            cache.database.close()


def _connect(path: Path) -> sqlite3.Connection:
    """The database, made anew where the file is damaged: everything in it can be made again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return _open_database(path)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):  # locked, or the disk
            raise
        path.unlink()
        return _open_database(path)


def _open_database(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=60, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = TRUNCATE")
        connection.execute("PRAGMA synchronous = OFF")  # survives a kill; a power cut at worst costs the cache
        connection.executescript(_TABLES)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


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
