"""MLflow's local sqlite database: creating it, checking it, and queries without mlflow, whose import takes seconds."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from filelock import FileLock

from landfold.tracking.library import LOCK_WAIT_S, TrackingError, load_mlflow, unusable
from landfold.tracking.runs import ATTACHED, COMPLETE, FOLD_DIGEST, KEY, PARENT, Run


def create_database(file: Path) -> None:
    """Create MLflow's sqlite database unless it exists.

    One process does it, under a lock, since several that migrate at once corrupt the database. It is written under a
    temporary name and renamed, so a process that is killed leaves no partial database.

    Raises:
        TrackingError: MLflow cannot use the path, or the file there is no sqlite database.
    """
    if set("%?") & set(str(file)):
        raise TrackingError(
            f"{file}: MLflow cannot use a database in a path with % or ?; rename the folder or set MLFLOW_TRACKING_URI"
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock", timeout=LOCK_WAIT_S):
        if file.exists() and file.stat().st_size:
            _check(file)
            return
        load_mlflow()
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        temporary = file.with_name(f"{file.name}.partial")
        temporary.unlink(missing_ok=True)
        SqlAlchemyStore(f"sqlite:///{temporary}", (file.parent / "mlruns").as_uri()).engine.dispose()
        os.replace(temporary, file)


def _check(file: Path) -> None:
    """Refuse at once what sqlite cannot read; mlflow would retry for minutes."""
    try:
        with closing(read_only(file)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError as error:
        if "locked" not in str(error):  # mlflow waits for the lock
            raise unusable(file, str(error)) from None


def read_only(file: Path) -> sqlite3.Connection:
    """Open a database without the right to write."""
    return sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True, timeout=20)


def is_complete(database: Path, key: str, folds: int) -> bool:
    """Whether exactly one parent run has this key, is finished and complete, and has a child for each fold.

    False where there is no database, or none of MLflow's yet.

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
    return _query(database, statement, (FOLD_DIGEST, PARENT, KEY, key, COMPLETE)) == [("FINISHED", "true", folds)]


def unattached_runs(database: Path, experiment: str) -> list[Run]:
    """Live runs without a parent, such as those of `dvc repro --force`."""
    statement = """
        SELECT r.run_uuid, r.status, r.start_time, t.key, t.value FROM runs r
        JOIN experiments e ON e.experiment_id = r.experiment_id AND e.name = ?
        JOIN tags attached ON attached.run_uuid = r.run_uuid AND attached.key = ? AND attached.value = 'false'
        JOIN tags t ON t.run_uuid = r.run_uuid
        WHERE r.lifecycle_stage = 'active'"""
    runs: dict[str, Run] = {}
    for run_id, status, start_ms, key, value in _query(database, statement, (experiment, ATTACHED)):
        runs.setdefault(run_id, Run(run_id, status, start_ms, {})).tags[key] = value
    return [run for run in runs.values() if PARENT not in run.tags]


def _query(database: Path, statement: str, values: tuple[str, ...]) -> list[tuple[Any, ...]]:
    if not database.is_file():
        return []
    try:
        with closing(read_only(database)) as connection:
            return connection.execute(statement, values).fetchall()
    except sqlite3.OperationalError:
        return []  # no table yet, or locked for long: mlflow's client then says so
    except sqlite3.DatabaseError as error:
        raise unusable(database, str(error)) from None
