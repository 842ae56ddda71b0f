"""Every result ends with exactly one complete parent run, however its stages came about.

A fold's live run has no parent while it trains and ends with a digest of the fold's outputs. A stage
that DVC restores runs no code and leaves no run. `complete` evens that out: it makes the parent of a
result, adopts the live runs that made its folds, and copies the other folds from their files.
"""

import csv
import math
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from landfold.core.files import main_checkout
from landfold.tracking import describe
from landfold.tracking.artifacts import gather
from landfold.tracking.database import is_complete, loose_runs
from landfold.tracking.library import LOCK_WAIT_S, TrackingError, faults_explained, sqlite_file
from landfold.tracking.origin import origin
from landfold.tracking.result import Result
from landfold.tracking.runs import ADOPTED, COMPLETE, FOLD, FOLD_DIGEST, KEY, LIFE, PARENT, STATE, Run, is_orphan
from landfold.tracking.store import Store, flatten, store_uri
from landfold.tracking.view import present

SOURCE = "stages/track.py"


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
    if database and is_complete(database, result.key, len(result.folds)):
        loose = loose_runs(database, result.experiment)
        if not any(is_orphan(run, result.workspace) for run in loose):
            return Completion()
    lock = database or main_checkout(result.workspace) / "mlflow.db"
    with faults_explained(uri):
        store = Store.open(uri, result.experiment, result.workspace)
        # two that complete at once, from queued experiments, could adopt the same run
        with FileLock(f"{lock}.complete.lock", timeout=LOCK_WAIT_S):
            return _complete(store, result)


def _complete(store: Store, result: Result) -> Completion:
    parent, doubles = _parent(store, result)
    for double in doubles:
        store.delete(double.id)
    children, spare = _sort_children(store.runs(_has(PARENT, parent.id)) if parent else [], result)
    whole = parent is not None and parent.status == "FINISHED" and parent.tags.get(COMPLETE) == "true"
    missing = [fold for fold in range(len(result.folds)) if fold not in children]
    loose, waifs = _loose(store)
    done = Completion(changed=not whole or bool(missing or spare or doubles))
    if parent is None:
        parent = store.create(result.name, {KEY: result.key} | origin(result.workspace, SOURCE))
    for run in spare:
        store.delete(run.id)
    for fold in missing:
        match = _match(loose + waifs, result.digests[fold], result.workspace)
        if match:
            _adopt(store, match, parent, result, fold)
            loose, waifs = ([run for run in runs if run.id != match.id] for runs in (loose, waifs))
            done = replace(done, live=done.live + 1)
        else:
            _restore(store, parent, result, fold)
            done = replace(done, restored=done.restored + 1)
    if not whole:
        _fill(store, parent, result)
    present(store)
    orphans = [run for run in loose if is_orphan(run, result.workspace)] + waifs
    for run in orphans:
        store.delete(run.id)
    deleted = len(orphans) + len(spare) + len(doubles)
    return replace(done, changed=done.changed or bool(orphans), deleted=deleted)


def _has(tag: str, value: str) -> str:
    return f"tags.`{tag}` = '{value}'"


def _parent(store: Store, result: Result) -> tuple[Run | None, list[Run]]:
    """The parent run of a result, a complete one first, and others of the same key."""
    found = sorted(store.runs(_has(KEY, result.key)), key=lambda run: run.tags.get(COMPLETE) != "true")
    return (found[0], found[1:]) if found else (None, [])


def _sort_children(children: list[Run], result: Result) -> tuple[dict[int, Run], list[Run]]:
    """The good child of each fold, and those that a crash left half-made or double."""
    good: dict[int, Run] = {}
    spare = []
    for run in children:
        if STATE not in run.tags:  # a run that the user has nested there
            continue
        number = run.tags.get(FOLD, "")
        fold = int(number) if number.isdecimal() else -1
        digest_fits = 0 <= fold < len(result.folds) and run.tags.get(FOLD_DIGEST) == result.digests[fold]
        if run.status == "FINISHED" and digest_fits and fold not in good:
            good[fold] = run
        else:
            spare.append(run)
    return good, spare


def _loose(store: Store) -> tuple[list[Run], list[Run]]:
    """Live runs without a parent, and children of parents that were deleted."""
    waifs = []
    for parent in store.runs(f"tags.`{KEY}` LIKE '%'", deleted=True):
        waifs += [run for run in store.runs(_has(PARENT, parent.id)) if STATE in run.tags]
    return [run for run in store.runs(_has(ADOPTED, "false")) if PARENT not in run.tags], waifs


def _match(runs: list[Run], fold_digest: str, workspace: Path) -> Run | None:
    """A finished run that made this fold, one of this workspace first."""
    fitting = [run for run in runs if run.status == "FINISHED" and run.tags.get(FOLD_DIGEST) == fold_digest]
    fitting.sort(key=lambda run: (run.tags[STATE] != "live", run.life.get("workspace") != str(workspace)))
    return fitting[0] if fitting else None


def _adopt(store: Store, run: Run, parent: Run, result: Result, fold: int) -> None:
    """Make a run the child of a parent; that it has one is said last, when it says all that a child does."""
    _describe_fold(store, run, result, fold)
    store.write(run.id, tags={PARENT: parent.id})
    for tag in {ADOPTED, LIFE} & run.tags.keys():
        store.forget(run.id, tag)


def _restore(store: Store, parent: Run, result: Result, fold: int) -> None:
    """Write a child from the fold's files, with the names and steps of a live one."""
    folder, card = result.folds[fold], result.cards[fold]
    rows = _history(folder / "history.csv")
    tags = {PARENT: parent.id, STATE: "restored", FOLD: str(fold)}
    run = store.create(f"fold_{fold}", tags | origin(result.workspace, SOURCE))
    params = flatten({name: card[name] for name in ("model", "train") if name in card})
    store.write(run.id, params=params, curve=rows, time_ms=run.start_ms)
    _describe_fold(store, run, result, fold)
    store.write(run.id, tags={FOLD_DIGEST: result.digests[fold]})
    store.end(run.id, "FINISHED")


def _describe_fold(store: Store, run: Run, result: Result, fold: int) -> None:
    scores, tags = describe.fold_metrics(result, fold), describe.fold_tags(result, fold)
    store.write(run.id, metrics=scores, time_ms=run.start_ms, tags=tags)
    store.use(run.id, describe.dataset(result), "training")


def _history(path: Path) -> list[dict[str, float]]:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = [{name: float(text) for name, text in row.items() if text} for row in csv.DictReader(stream)]
        if all(math.isfinite(row["epoch"]) for row in rows):
            return rows
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    raise TrackingError(f"{path}: expected a column epoch and numbers in each row; run `dvc repro` to train the fold")


def _fill(store: Store, parent: Run, result: Result) -> None:
    """Fill the parent; the tag that calls it complete comes last."""
    with tempfile.TemporaryDirectory() as folder:
        files = gather(result, Path(folder))
        store.upload(parent.id, Path(folder))
    tags: dict[str, Any] = describe.tags(result)
    tags[describe.NOTE] = describe.note(result, parent.tags, files.kept, files.left_out)
    metrics, params = describe.metrics(result), flatten(result.params)
    store.write(parent.id, metrics=metrics, time_ms=parent.start_ms, params=params, tags=tags)
    store.use(parent.id, describe.dataset(result), "evaluation")
    store.end(parent.id, "FINISHED")
    store.write(parent.id, tags={COMPLETE: "true"})
