"""MLflow in step with DVC: live runs while a fold trains, and one complete parent run for every result.

Importing mlflow takes seconds, so it happens inside functions only, and a call that finds nothing to
do asks sqlite directly.

A fold's live run has no parent while it trains and ends with a digest of the fold's outputs. A stage
that DVC restores runs no code and leaves no run. `complete` evens that out: it makes the parent of a
result, adopts the live runs that made its folds, and copies the other folds from their files.
"""

import csv
import hashlib
import json
import logging
import math
import os
import re
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from filelock import FileLock
from filelock import Timeout as LockTimeout

from landfold.errors import LandfoldError
from landfold.files import digest, main_checkout, read_json
from landfold.settings import Settings

PARENT = "mlflow.parentRunId"
FOLD_DIGEST = "dvc.fold_digest"
KEY, COMPLETE = "landfold.key", "landfold.complete"
STATE, ADOPTED, HEARTBEAT = "landfold.state", "landfold.adopted", "landfold.heartbeat"
HOST, PROCESS, WORKSPACE = "landfold.host", "landfold.process", "landfold.workspace"

ABANDONED_AFTER_S = 7 * 24 * 3600
"""A live run whose process cannot be asked is given up after this long without a sign of life."""

LOCK_WAIT_S = 120
"""Creating the database takes 5 to 10 s, completing a result about as long, on a slow disk several times that."""

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # the URL may hold credentials
}
_PATIENCE = {  # mlflow's own retries keep a training waiting for minutes when a server is down
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
}
_LOG_LEVELS = {"mlflow": "ERROR", "mlflow.store.db.utils": "CRITICAL", "alembic": "WARNING", "urllib3": "ERROR"}


class TrackingError(LandfoldError):
    """A result that cannot be tracked, or a local store that cannot be used."""


class UnreachableStoreError(TrackingError):
    """A tracking server that does not answer or refuses: no fault of the result, which stays whole."""


class TrackSettings(Settings):
    """Section ``track`` of params.yaml."""

    enabled: bool
    """record results in MLflow; false: neither train nor track touches it"""


def store_uri(root: Path) -> str:
    """MLFLOW_TRACKING_URI if set, else the sqlite database mlflow.db of the checkout that owns ``root``.

    A relative sqlite path is taken from that checkout, since DVC's temporary workspaces vanish.
    """
    checkout = main_checkout(root)
    uri = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    file = sqlite_file(uri)
    return f"sqlite:///{checkout / file}" if file and not file.is_absolute() else uri


def sqlite_file(uri: str) -> Path | None:
    """The file of a sqlite URI; None for every other store."""
    name = uri.removeprefix("sqlite:///").partition("?")[0]
    return Path(name) if uri.startswith("sqlite:///") and name not in ("", ":memory:") else None


def shown(uri: str) -> str:
    """A store's URI without what may be secret: user, password and query."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return "the tracking server"
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _redacted(text: str, uri: str) -> str:
    text = text.replace(uri, shown(uri))
    try:
        password = urlsplit(uri).password
    except ValueError:
        password = None
    environment = (os.environ.get(f"MLFLOW_TRACKING_{name}") for name in ("PASSWORD", "TOKEN"))
    for secret in filter(None, (password, unquote(password or ""), *environment)):
        text = text.replace(secret, "***")
    return re.sub(r"//[^/\s@]+@", "//", text)


def _reason(error: BaseException, uri: str) -> str:
    """The gist of an error in one line, without credentials."""
    lines = _redacted(str(error), uri).strip().splitlines()
    gist = lines[0] if lines else type(error).__name__
    return gist if len(gist) <= 200 else gist[:197] + "..."


def _mlflow() -> Any:
    """Import mlflow without telemetry and without its remarks on the user's terminal."""
    os.environ.update(_ENVIRONMENT)
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    import mlflow

    for logger, level in _LOG_LEVELS.items():
        logging.getLogger(logger).setLevel(level)
    return mlflow


def _check_database(file: Path) -> None:
    """Refuse at once what sqlite cannot read: mlflow would try again for minutes."""
    try:
        with closing(_read_only(file)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError as error:
        if "locked" not in str(error):  # mlflow waits for that
            raise _unusable(file, str(error)) from None


def _read_only(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True, timeout=20)


def _unusable(file: Path, reason: str) -> TrackingError:
    if "out-of-date" in reason:
        mend = f"it was made by an older MLflow: run `mlflow db upgrade sqlite:///{file}`"
    elif "locked" in reason:
        mend = "another program holds it: close that and run `dvc repro` again"
    else:
        mend = f"move it away (mv {file} {file}.broken) and run `dvc repro`: track rebuilds it"
    return TrackingError(f"{file}: not usable as MLflow's database ({reason}); {mend}")


def create_database(file: Path) -> None:
    """Make MLflow's sqlite database unless it is there.

    Only one process does it, under a lock: several that migrate at once corrupt it for good. It is
    made under a temporary name, so that one that was killed half-way leaves nothing behind.
    """
    if set("%?") & set(str(file)):
        raise TrackingError(
            f"{file}: MLflow cannot keep a database in a path with % or ?; rename the folder or set MLFLOW_TRACKING_URI"
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock", timeout=LOCK_WAIT_S):
        if file.exists() and file.stat().st_size:
            _check_database(file)
            return
        _mlflow()
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        temporary = file.with_name(f"{file.name}.partial")
        temporary.unlink(missing_ok=True)
        SqlAlchemyStore(f"sqlite:///{temporary}", (file.parent / "mlruns").as_uri()).engine.dispose()
        os.replace(temporary, file)


@contextmanager
def _faults_explained(uri: str) -> Iterator[None]:
    """Turn what MLflow and its libraries raise into one clear error without credentials."""
    _mlflow()
    from alembic.util import CommandError
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except LockTimeout as error:
        raise TrackingError(f"{error.lock_file}: another process has held it for {LOCK_WAIT_S} s; run again") from None
    except (MlflowException, SQLAlchemyError, RequestException, CommandError) as error:
        reason = _reason(error, uri)
        if file := sqlite_file(uri):
            raise _unusable(file, reason) from None
        if urlsplit(uri).scheme in ("", "file"):
            raise TrackingError(f"MLFLOW_TRACKING_URI {shown(uri)}: {reason}") from None
        raise UnreachableStoreError(f"{shown(uri)}: {reason}") from None


@dataclass(frozen=True)
class _Run:
    """What is asked of a run, wherever it was read."""

    id: str
    status: str
    start_ms: int
    tags: dict[str, str]


@dataclass(frozen=True)
class _Store:
    """One experiment of one store, through MLflow's client."""

    client: Any
    experiment_id: str

    @classmethod
    def open(cls, uri: str, experiment: str) -> Self:
        """Connect; make the database and the experiment if need be."""
        location = None
        if file := sqlite_file(uri):
            create_database(file)
            location = (file.parent / "mlruns").as_uri()
        client = _mlflow().MlflowClient(tracking_uri=uri)
        return cls(client, _experiment_id(client, experiment, location))

    def runs(self, condition: str, *, deleted: bool = False) -> list[_Run]:
        """Runs by MLflow's filter, oldest first."""
        from mlflow.entities import ViewType

        view = ViewType.DELETED_ONLY if deleted else ViewType.ACTIVE_ONLY
        found, token = [], None
        while True:
            page = self.client.search_runs(
                [self.experiment_id], condition, view, 1000, ["attributes.start_time ASC"], token
            )
            found += [_Run(r.info.run_id, r.info.status, r.info.start_time, r.data.tags) for r in page]
            token = page.token
            if not token:
                return found

    def create(self, name: str, tags: Mapping[str, str]) -> _Run:
        """Begin a run."""
        run = self.client.create_run(self.experiment_id, run_name=name, tags=dict(tags))
        return _Run(run.info.run_id, run.info.status, run.info.start_time, run.data.tags)

    def write(
        self,
        run_id: str,
        *,
        metrics: Mapping[str, float] | None = None,
        step: int = 0,
        time_ms: int | None = None,
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log in few requests; writing the same again with the same ``time_ms`` changes nothing."""
        from mlflow.entities import Metric, Param, RunTag

        stamp = _now_ms() if time_ms is None else time_ms
        listed = [Metric(name, float(value), stamp, step) for name, value in (metrics or {}).items()]
        constants = [Param(name, value) for name, value in (params or {}).items()]
        labels = [RunTag(name, value) for name, value in (tags or {}).items()]
        for start in range(0, max(len(listed), len(constants), len(labels)), 100):  # MLflow takes 100 params at once
            part = slice(start, start + 100)
            self.client.log_batch(run_id, listed[part], constants[part], labels[part])

    def end(self, run_id: str, status: str) -> None:
        self.client.set_terminated(run_id, status)

    def delete(self, run_id: str) -> None:
        """Move to MLflow's trash."""
        self.client.delete_run(run_id)


def _experiment_id(client: Any, name: str, location: str | None) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, artifact_location=location)
        except MlflowException:  # another process was first
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return found.experiment_id


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def flatten(values: Mapping[str, Any]) -> dict[str, str]:
    """Nested settings as MLflow's parameters: dotted names, text values, lists as JSON."""
    return {name: _text(value)[:6000] for name, value in _leaves(values)}  # 6000: MLflow's limit of a value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of nested metrics under dotted names."""
    return {n: v for n, v in _leaves(values) if isinstance(v, int | float) and not isinstance(v, bool)}


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        name = prefix + re.sub(r"[^\w. -]", "_", str(key))  # MLflow refuses other characters
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{name}.")
        else:
            yield name[:250], value


@dataclass
class LiveRun:
    """The run of a fold in training; without a store all its methods do nothing.

    A fault of the store never stops the training: it is told once, and `complete` mends it later.
    """

    uri: str = ""
    store: _Store | None = None
    run_id: str = ""
    finished: bool = False

    def log(self, row: Mapping[str, float]) -> None:
        """Log one epoch: a row of history.csv, its ``epoch`` being the step."""
        metrics = {name: value for name, value in row.items() if name != "epoch"}
        with self._forgiving() as store:
            if store:
                store.write(self.run_id, metrics=metrics, step=int(row["epoch"]), tags={HEARTBEAT: str(_now_ms())})

    def finish(self, fold_digest: str) -> None:
        """Tell what the training has made: the digest of the fold's folder, all files written."""
        self.finished = True
        with self._forgiving() as store:
            if store:
                store.write(self.run_id, tags={FOLD_DIGEST: fold_digest})

    def end(self, status: str) -> None:
        """Close the run as FINISHED, FAILED or KILLED."""
        with self._forgiving() as store:
            if store:
                store.end(self.run_id, status)

    @contextmanager
    def _forgiving(self) -> Iterator[_Store | None]:
        try:
            yield self.store
        except Exception as error:
            self.store = None
            _warn(self.uri, error)


def _warn(uri: str, error: Exception) -> None:
    reason = str(error) if isinstance(error, LandfoldError) else f"{shown(uri)}: {_reason(error, uri)}"
    print(f"tracking: training goes on without MLflow; track will record it later: {reason}", file=sys.stderr)


@contextmanager
def live_run(
    settings: TrackSettings,
    experiment: str,
    *,
    name: str,
    fold: int,
    k: int,
    params: Mapping[str, str],
    workspace: Path | None = None,
) -> Iterator[LiveRun]:
    """A run that shows a fold's curves while it trains: log rows, then `LiveRun.finish`.

    It ends as FAILED when the block raises or does not finish. ``workspace`` is the folder that the
    stage runs in, the current one by default. When tracking is off or the store cannot be reached,
    the run that is given does nothing.
    """
    run = LiveRun()
    if settings.enabled:
        run = _start(experiment, name, fold, k, params, (workspace or Path.cwd()).resolve())
    try:
        yield run
    except Exception:
        run.end("FAILED")
        raise
    except BaseException:
        run.end("KILLED")
        raise
    run.end("FINISHED" if run.finished else "FAILED")


def _start(experiment: str, name: str, fold: int, k: int, params: Mapping[str, str], workspace: Path) -> LiveRun:
    uri = store_uri(workspace)
    try:
        with _faults_explained(uri):
            store = _Store.open(uri, experiment)
            tags = {STATE: "live", ADOPTED: "false", "landfold.fold": str(fold), "landfold.k": str(k)}
            run = store.create(name, tags | _signs_of_life(workspace))
            store.write(run.id, params=params)
    except Exception as error:
        _warn(uri, error)
        return LiveRun()
    return LiveRun(uri, store, run.id)


def _signs_of_life(workspace: Path) -> dict[str, str]:
    import psutil

    process = psutil.Process()
    return {
        HOST: socket.gethostname(),
        PROCESS: f"{process.pid} {process.create_time():.2f}",
        WORKSPACE: str(workspace),
        HEARTBEAT: str(_now_ms()),
    }


def _is_orphan(run: _Run, workspace: Path) -> bool:
    """Whether a live run that no result has adopted will never be adopted.

    That of another workspace (a queued experiment, say) is left alone: it may be part of a result
    in the making. So is that of another host, until it has been silent for a week.
    """
    silent = _now_ms() - int(run.tags.get(HEARTBEAT, run.start_ms)) > ABANDONED_AFTER_S * 1000
    if silent or run.tags.get(HOST) != socket.gethostname():
        return silent
    if run.status == "RUNNING":
        return not _is_alive(run.tags.get(PROCESS, ""))
    theirs = Path(run.tags.get(WORKSPACE, ""))
    return theirs == workspace or not theirs.is_dir()


def _is_alive(identity: str) -> bool:
    """Whether a process is the one that was noted as "pid start", not a later one of the same number."""
    import psutil

    pid, _, started = identity.partition(" ")
    try:
        return abs(psutil.Process(int(pid)).create_time() - float(started)) < 2
    except psutil.AccessDenied:
        return True
    except (psutil.NoSuchProcess, ValueError):
        return False


@dataclass(frozen=True)
class Result:
    """One result of the pipeline: what it was asked (params), its folds' folders, and what came out.

    ``folds`` are the folders of fold 0..k-1; ``artifacts`` relative paths of files or folders to keep
    with the parent run under the same names, those that exist; ``workspace`` the folder that the
    pipeline ran in.
    """

    experiment: str
    params: Mapping[str, Any]
    summary: Mapping[str, Any]
    folds: list[Path]
    artifacts: list[Path] = field(default_factory=list)
    workspace: Path = field(default_factory=lambda: Path.cwd().resolve())

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
        values = [sorted(map(repr, _leaves(part))) for part in (self.params, self.summary)]
        return hashlib.sha256(json.dumps([self.experiment, *values, self.digests]).encode()).hexdigest()

    @property
    def name(self) -> str:
        """Name of the parent run: the DVC experiment's, else from the number of folds and the key."""
        return os.environ.get("DVC_EXP_NAME") or f"k{len(self.folds)}-{self.key[:7]}"


@dataclass(frozen=True)
class Completion:
    """What `complete` did: whether it changed anything, folds adopted live or copied, runs deleted."""

    changed: bool = False
    live: int = 0
    restored: int = 0
    deleted: int = 0

    def __str__(self) -> str:
        """In words."""
        if not self.changed:
            return "nothing to do, the result is in MLflow"
        recorded = f"result recorded: {self.live} folds live, {self.restored} from files"
        found = recorded if self.live or self.restored else "the result was in MLflow already"
        return found + (f"; {self.deleted} runs without a result deleted" if self.deleted else "")


def is_complete(database: Path, key: str, k: int) -> bool:
    """Whether a sqlite store has exactly one parent run of this key, finished and complete, with k children.

    Asks sqlite, not mlflow. False when there is no database, or not yet MLflow's.

    Raises:
        TrackingError: the file is no sqlite database.
    """
    statement = """
        SELECT p.status, complete.value, (
            SELECT count(*) FROM runs c JOIN tags t ON t.run_uuid = c.run_uuid
            JOIN tags d ON d.run_uuid = c.run_uuid AND d.key = ?
            WHERE t.key = ? AND t.value = p.run_uuid AND c.lifecycle_stage = 'active' AND c.status = 'FINISHED'
        ) FROM runs p
        JOIN experiments e ON e.experiment_id = p.experiment_id AND e.lifecycle_stage = 'active'
        JOIN tags known ON known.run_uuid = p.run_uuid AND known.key = ? AND known.value = ?
        LEFT JOIN tags complete ON complete.run_uuid = p.run_uuid AND complete.key = ?
        WHERE p.lifecycle_stage = 'active'"""
    return _ask(database, statement, (FOLD_DIGEST, PARENT, KEY, key, COMPLETE)) == [("FINISHED", "true", k)]


def _ask(database: Path, statement: str, values: tuple[str, ...]) -> list[tuple[Any, ...]]:
    if not database.is_file():
        return []
    try:
        with closing(_read_only(database)) as connection:
            return connection.execute(statement, values).fetchall()
    except sqlite3.OperationalError:
        return []  # no table yet, or locked for long: the way through mlflow finds out
    except sqlite3.DatabaseError as error:
        raise _unusable(database, str(error)) from None


def _orphans_in(database: Path, result: Result) -> bool:
    """Whether a sqlite store has live runs to clear away, such as those of `dvc repro --force`."""
    statement = """
        SELECT r.run_uuid, r.status, r.start_time, t.key, t.value FROM runs r
        JOIN experiments e ON e.experiment_id = r.experiment_id AND e.name = ?
        JOIN tags loose ON loose.run_uuid = r.run_uuid AND loose.key = ? AND loose.value = 'false'
        JOIN tags t ON t.run_uuid = r.run_uuid
        WHERE r.lifecycle_stage = 'active'"""
    runs: dict[str, _Run] = {}
    for run_id, status, start_ms, key, value in _ask(database, statement, (result.experiment, ADOPTED)):
        runs.setdefault(run_id, _Run(run_id, status, start_ms, {})).tags[key] = value
    return any(_is_orphan(run, result.workspace) for run in runs.values())


def complete(result: Result) -> Completion:
    """Leave the store with exactly one complete parent run for ``result``, with one child for each fold.

    Calling it again changes nothing; what an earlier call left half-done is finished. Live runs that
    belong to no result are deleted, except those of trainings that may still go on.

    Raises:
        UnreachableStoreError: the tracking server does not answer or refuses.
        TrackingError: a fold is missing, or the local database is unusable.
    """
    uri = store_uri(result.workspace)
    database = sqlite_file(uri)
    if database and is_complete(database, result.key, len(result.folds)) and not _orphans_in(database, result):
        return Completion()
    lock = database or main_checkout(result.workspace) / "mlflow.db"
    with _faults_explained(uri):
        store = _Store.open(uri, result.experiment)
        # two that complete at once, from queued experiments, could adopt the same run
        with FileLock(f"{lock}.complete.lock", timeout=LOCK_WAIT_S):
            return _complete(store, result)


def _complete(store: _Store, result: Result) -> Completion:
    parent, doubles = _parent(store, result)
    for double in doubles:
        store.delete(double.id)
    children, spare = _sort_children(store.runs(_has(PARENT, parent.id)) if parent else [], result)
    whole = parent is not None and parent.status == "FINISHED" and parent.tags.get(COMPLETE) == "true"
    missing = [fold for fold in range(len(result.folds)) if fold not in children]
    loose, waifs = _loose(store)
    done = Completion(changed=not whole or bool(missing or spare or doubles))
    if parent is None:
        parent = store.create(result.name, {KEY: result.key, "landfold.k": str(len(result.folds))} | _origin(result))
    for run in spare:
        store.delete(run.id)
    for fold in missing:
        match = _match(loose + waifs, result.digests[fold], result.workspace)
        if match:
            store.write(match.id, tags={PARENT: parent.id, ADOPTED: "true", "landfold.fold": str(fold)})
            loose, waifs = ([run for run in runs if run.id != match.id] for runs in (loose, waifs))
            done = replace(done, live=done.live + 1)
        else:
            _restore(store, parent, result, fold)
            done = replace(done, restored=done.restored + 1)
    if not whole:
        _describe(store, parent, result)
    orphans = [run for run in loose if _is_orphan(run, result.workspace)] + waifs
    for run in orphans:
        store.delete(run.id)
    deleted = len(orphans) + len(spare) + len(doubles)
    return replace(done, changed=done.changed or bool(orphans), deleted=deleted)


def _has(tag: str, value: str) -> str:
    return f"tags.`{tag}` = '{value}'"


def _parent(store: _Store, result: Result) -> tuple[_Run | None, list[_Run]]:
    """The parent run of a result, a complete one first, and others of the same key."""
    found = sorted(store.runs(_has(KEY, result.key)), key=lambda run: run.tags.get(COMPLETE) != "true")
    return (found[0], found[1:]) if found else (None, [])


def _sort_children(children: list[_Run], result: Result) -> tuple[dict[int, _Run], list[_Run]]:
    """The good child of each fold, and those that a crash left half-made or double."""
    good: dict[int, _Run] = {}
    spare = []
    for run in children:
        if STATE not in run.tags:  # a run that the user has nested there
            continue
        number = run.tags.get("landfold.fold", "")
        fold = int(number) if number.isdecimal() else -1
        digest_fits = 0 <= fold < len(result.folds) and run.tags.get(FOLD_DIGEST) == result.digests[fold]
        if run.status == "FINISHED" and digest_fits and fold not in good:
            good[fold] = run
        else:
            spare.append(run)
    return good, spare


def _loose(store: _Store) -> tuple[list[_Run], list[_Run]]:
    """Live runs without a parent, and children of parents that were deleted."""
    waifs = []
    for parent in store.runs(f"tags.`{KEY}` LIKE '%'", deleted=True):
        waifs += [run for run in store.runs(_has(PARENT, parent.id)) if STATE in run.tags]
    return store.runs(_has(ADOPTED, "false")), waifs


def _match(runs: list[_Run], fold_digest: str, workspace: Path) -> _Run | None:
    """A finished run that made this fold, one of this workspace first."""
    fitting = [run for run in runs if run.status == "FINISHED" and run.tags.get(FOLD_DIGEST) == fold_digest]
    fitting.sort(key=lambda run: (run.tags[STATE] != "live", run.tags.get(WORKSPACE) != str(workspace)))
    return fitting[0] if fitting else None


def _restore(store: _Store, parent: _Run, result: Result, fold: int) -> None:
    """Write a child from the fold's files, with the names and steps of a live one."""
    folder = result.folds[fold]
    rows = _history(folder / "history.csv")
    card: Any = read_json(folder / "model.json")
    tags = {PARENT: parent.id, STATE: "restored", ADOPTED: "true", "landfold.fold": str(fold)}
    run = store.create(f"fold_{fold}", tags | {"landfold.k": str(len(result.folds))})
    store.write(run.id, params=flatten({name: card[name] for name in ("model", "train") if name in card}))
    for row in rows:
        step = int(row.pop("epoch"))
        store.write(run.id, metrics=row, step=step, time_ms=run.start_ms + step)
    store.write(run.id, tags={FOLD_DIGEST: result.digests[fold]})
    store.end(run.id, "FINISHED")


def _history(path: Path) -> list[dict[str, float]]:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = [{name: float(text) for name, text in row.items() if text} for row in csv.DictReader(stream)]
        if all(math.isfinite(row["epoch"]) for row in rows):
            return rows
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    raise TrackingError(f"{path}: expected a column epoch and numbers in each row; run `dvc repro` to train the fold")


def _describe(store: _Store, parent: _Run, result: Result) -> None:
    """Fill the parent; the tag that calls it complete comes last."""
    store.write(parent.id, metrics=_numbers(result.summary), time_ms=parent.start_ms, params=flatten(result.params))
    for path in result.artifacts:
        if path.is_dir():
            store.client.log_artifacts(parent.id, str(path), path.as_posix())
        elif path.is_file():
            folder = path.parent.as_posix()
            store.client.log_artifact(parent.id, str(path), None if folder == "." else folder)
    store.end(parent.id, "FINISHED")
    store.write(parent.id, tags={COMPLETE: "true"})


def _origin(result: Result) -> dict[str, str]:
    """Where a result comes from: the git commit that was checked out, the DVC experiment."""
    git = ["git", "-C", str(result.workspace), "rev-parse", "HEAD"]
    try:
        found = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        found = ""
    tags = {"mlflow.source.git.commit": found, "dvc.exp_name": os.environ.get("DVC_EXP_NAME", "")}
    return {name: value for name, value in tags.items() if value}
