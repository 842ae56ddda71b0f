"""What the scene stages have made before, kept beside DVC's cache: one more scene costs one scene.

DVC removes a stage's outputs before it runs the stage. What was made of each scene is therefore kept below
``.dvc/tmp/landfold`` of the main checkout under a key of all that it was made from: the scene's own inputs and
their content, the settings that the stage reads, the code, and the libraries. Files are hard links; with the
``cache.type`` of this repository DVC's cache links to them too, so that they cost no space. The folder may be
deleted at any time; without ``.dvc`` there is none.

Of a remote scene the file that lists its URLs stands for their content, which is not looked at: what changed under
its URL is not seen, and a URL more in a list makes all scenes of that list anew.
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
from landfold.core.files import KEPT_S, kept_work

FRESH_NS = 2 * 10**9
"""The digest of a file changed a moment ago is not noted: within one tick of its clock it may change again."""


Progress = Callable[[float], None]


@dataclass(frozen=True)
class Scene:
    """What a stage makes of one scene, and all that it makes it from.

    ``reads`` are files and folders, whose content counts; ``facts`` is what else bears on the result, as JSON or
    dataclasses of it. ``make`` writes the files ``makes``, each under a temporary name first, and gives its
    result: JSON, or bytes.
    """

    name: str
    reads: Sequence[Path]
    makes: Sequence[Path]
    make: Callable[[Progress], Any]
    facts: Any = None


@dataclass(frozen=True)
class Outcome:
    """The results of the scenes by name, in their order; why scenes were refused; how many were taken as they were."""

    results: dict[str, Any] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)
    unchanged: int = 0

    @property
    def tally(self) -> str:
        """The count for a stage's closing line."""
        return f"{len(self.results) - self.unchanged} computed, {self.unchanged} unchanged"


def prepare(
    stage: str,
    scenes: Iterable[Scene],
    settings: Mapping[str, Any],
    *,
    code: str,
    bar: Callable[[str], AbstractContextManager[Progress]],
    refusals: tuple[type[Exception], ...] = (),
) -> Outcome:
    """Take each scene from the store or make it; the outputs are the same bytes either way.

    ``settings`` is what the stage reads of params.yaml, as JSON; ``code`` is the digest of the code that makes the
    outputs, from `landfold.core.digests.code_digest`. An exception of the types in ``refusals``
    refuses its scene alone and is never stored; any other ends the run, and what was made so far stays stored.
    """
    results, refused, unchanged = {}, {}, 0
    with _opened(stage, settings, code) as store:
        for scene in scenes:
            key = store.key(scene)
            kept = store.take(key, scene.makes)
            if kept is not None:
                results[scene.name], unchanged = kept.result, unchanged + 1
                continue
            try:
                with bar(f"{stage} {scene.name}") as progress:
                    results[scene.name] = scene.make(progress)
            except refusals as error:
                refused[scene.name] = str(error)
                continue
            store.keep(key, scene.makes, results[scene.name])
        store.prune()
    return Outcome(results, refused, unchanged)


@dataclass(frozen=True)
class _Kept:
    result: Any


_TABLES = """
CREATE TABLE IF NOT EXISTS digests (file TEXT PRIMARY KEY, sha256 TEXT, used REAL);
CREATE TABLE IF NOT EXISTS scenes (stage TEXT, key TEXT, files TEXT, result, used REAL, PRIMARY KEY (stage, key));
"""


@dataclass
class _Store:
    """The store of one stage. A fault of it is told once, and then every scene is made anew."""

    stage: str
    folder: Path | None = None
    database: sqlite3.Connection | None = None
    basis: dict[str, Any] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    digests: dict[str, str] = field(default_factory=dict)
    beside: dict[Path, list[str]] = field(default_factory=dict)

    def key(self, scene: Scene) -> str | None:
        """SHA-256 of all that the scene's outputs are made from; None where that cannot be told."""
        if self.database is None:
            return None
        try:
            reads = [[path.as_posix(), self._digest(path)] for path in self._files(scene.reads)]
        except OSError:  # for whoever makes the scene to tell
            return None
        own = {"scene": scene.name, "facts": scene.facts, "makes": [path.name for path in scene.makes]}
        text = json.dumps(self.basis | own | {"reads": reads}, sort_keys=True, default=_plain)
        return hashlib.sha256(text.encode()).hexdigest()

    def take(self, key: str | None, targets: Sequence[Path]) -> _Kept | None:
        """Link what is kept under a key to the targets; None where nothing is, or it is no longer what was kept."""
        with self._forgiving() as database:
            if database is None or key is None:
                return None
            row = database.execute("SELECT files, result FROM scenes WHERE stage = ? AND key = ?", (self.stage, key))
            found = row.fetchone()
            if found is None:
                return None
            for file, target in zip(json.loads(found[0]), targets, strict=True):
                kept = self._place(key) / file["name"]
                if not kept.is_file() or _mark(kept) != file["mark"]:
                    return None
                _link(kept, target)
            self.used.add(key)
            return _Kept(found[1] if isinstance(found[1], bytes) else json.loads(found[1]))
        return None

    def keep(self, key: str | None, made: Sequence[Path], result: Any) -> None:
        """Keep what was made under a key: first its files, then its entry."""
        with self._forgiving() as database:
            if database is None or key is None:
                return
            files = []
            for path in made:
                kept = self._place(key) / path.name
                kept.parent.mkdir(parents=True, exist_ok=True)
                _link(path, kept)
                files.append({"name": path.name, "mark": _mark(kept)})
            content = result if isinstance(result, bytes) else json.dumps(result)
            entry = (self.stage, key, json.dumps(files), content, time.time())
            database.execute("INSERT OR REPLACE INTO scenes VALUES (?, ?, ?, ?, ?)", entry)

    def prune(self) -> None:
        """Note what this run has used; remove what none has for `KEPT_S` seconds."""
        with self._forgiving() as database:
            if database is None:
                return
            now, old = time.time(), time.time() - KEPT_S
            database.execute("BEGIN IMMEDIATE")
            marks = [(now, self.stage, key) for key in self.used]
            database.executemany("UPDATE scenes SET used = ? WHERE stage = ? AND key = ?", marks)
            self._note_digests(database)
            database.execute("DELETE FROM scenes WHERE used < ?", (old,))
            database.execute("DELETE FROM digests WHERE used < ?", (old,))
            database.execute("COMMIT")
            known = {key for (key,) in database.execute("SELECT key FROM scenes WHERE stage = ?", (self.stage,))}
            for place in (self.folder / self.stage).glob("*"):
                if place.name not in known and place.stat().st_mtime < old:
                    shutil.rmtree(place, ignore_errors=True)

    def _note_digests(self, database: sqlite3.Connection) -> None:
        now = time.time()
        rows = [(file, sha256, now) for file, sha256 in self.digests.items()]
        database.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?, ?)", rows)

    def _place(self, key: str) -> Path:
        return self.folder / self.stage / key

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
        if folder not in self.beside:
            self.beside[folder] = sorted(os.listdir(folder))
        names = self.beside[folder]
        for i in range(bisect_left(names, prefix), len(names)):
            if not names[i].startswith(prefix):
                return
            if Path(names[i]).suffix.lower() != path.suffix.lower() and (folder / names[i]).is_file():
                yield folder / names[i]

    def _digest(self, path: Path) -> str:
        """SHA-256 of a file, read again only when its inode, size or time differ, as git has it.

        The inode stands for the path, so that hard links in another workspace of DVC need no reading.
        """
        status = path.stat()
        file = f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"
        if file in self.digests:
            return self.digests[file]
        row = None
        with self._forgiving() as database:
            row = database and database.execute("SELECT sha256 FROM digests WHERE file = ?", (file,)).fetchone()
        sha256 = row[0] if row else file_sha256(path)
        if time.time_ns() - status.st_mtime_ns > FRESH_NS:
            self.digests[file] = sha256
        return sha256

    @contextmanager
    def _forgiving(self) -> Iterator[sqlite3.Connection | None]:
        try:
            yield self.database
        except (OSError, sqlite3.Error) as error:
            self.abandon(error)

    def abandon(self, error: Exception) -> None:
        """Go on without the store; a database that is no longer one is removed."""
        if self.database:
            self.database.close()
        self.database = None
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
            with suppress(OSError):
                (self.folder / "store.sqlite").unlink()
        print(f"{self.stage}: without the store of earlier work, which fails: {error}", file=sys.stderr)


@contextmanager
def _opened(stage: str, settings: Mapping[str, Any], code: str) -> Iterator[_Store]:
    """The store of a stage; one that does nothing where the main checkout has no ``.dvc`` to keep it in."""
    store, folder = _Store(stage), kept_work(Path.cwd())
    if folder:
        store.folder = folder
        store.basis = {"stage": stage, "settings": settings, "code": code, "libraries": library_versions()}
        try:
            store.database = _connect(store.folder / "store.sqlite")
        except (OSError, sqlite3.Error) as error:
            store.abandon(error)
    try:
        yield store
    finally:
        if store.database:
            store.database.close()


def _connect(path: Path) -> sqlite3.Connection:
    """The database, made anew where the file is damaged: it holds nothing that cannot be made again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return _tables(path)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):  # locked, or the disk
            raise
        path.unlink()
        return _tables(path)


def _tables(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=60, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = TRUNCATE")
        connection.execute("PRAGMA synchronous = OFF")  # survives a kill; a power cut at worst costs the store
        connection.executescript(_TABLES)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _mark(path: Path) -> list[int]:
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


def _plain(value: Any) -> Any:
    return vars(value) if hasattr(value, "__dataclass_fields__") else str(value)
