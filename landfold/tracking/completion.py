"""Every result ends with exactly one complete parent run, however its stages were run.

A fold's live run has no parent while it trains and ends with a digest of the fold's outputs. A stage that DVC restores
runs no code and leaves no run. `complete` creates the parent of a result, attaches the live runs that made its folds,
and creates the runs of the other folds from their files.
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
from landfold.tracking.artifacts import collect_artifacts
from landfold.tracking.database import is_complete, unattached_runs
from landfold.tracking.library import LOCK_WAIT_S, TrackingError, explained_errors, sqlite_file
from landfold.tracking.origin import origin
from landfold.tracking.result import TrackedResult
from landfold.tracking.runs import ATTACHED, COMPLETE, FOLD, FOLD_DIGEST, HEARTBEAT, KEY, PARENT, STATE, Run, is_stale
from landfold.tracking.store import Store, flatten, store_uri
from landfold.tracking.view import add_view

SOURCE = "stages/track.py"


@dataclass(frozen=True)
class Completion:
    """What `complete` did: folds whose live run was attached or that were restored from files, and runs deleted."""

    changed: bool = False
    live: int = 0
    restored: int = 0
    deleted: int = 0

    def __str__(self) -> str:
        """One line for the terminal."""
        if not self.changed:
            return "nothing to do, the result is in MLflow"
        text = "the result was in MLflow already"
        if self.live or self.restored:
            text = f"result recorded: {self.live} folds live, {self.restored} from files"
        return text + (f"; {self.deleted} runs without a result deleted" if self.deleted else "")


def complete(result: TrackedResult) -> Completion:
    """Leave the store with exactly one complete parent run for ``result``, with one child for each fold.

    Calling it again changes nothing; what an earlier call did not finish is finished. Live runs that belong to no
    result are deleted, except those whose training may still go on.

    Raises:
        UnreachableStoreError: the tracking server does not answer or refuses.
        TrackingError: a fold is missing, or the local database is unusable.
    """
    uri = store_uri(result.workspace)
    database = sqlite_file(uri)
    if database and is_complete(database, result.key, len(result.folds)):
        unattached = unattached_runs(database, result.experiment)
        if not any(is_stale(run, result.workspace) for run in unattached):
            return Completion()
    lock = database or main_checkout(result.workspace) / "mlflow.db"
    with explained_errors(uri):
        store = Store.open(uri, result.experiment, result.workspace)
        # two queued experiments that complete at once could attach the same run
        with FileLock(f"{lock}.complete.lock", timeout=LOCK_WAIT_S):
            return _complete(store, result)


def _complete(store: Store, result: TrackedResult) -> Completion:
    parent, duplicates = _parent(store, result)
    for run in duplicates:
        store.delete(run.id)
    children, surplus = _children(store, parent, result) if parent else ({}, [])
    whole = parent is not None and parent.status == "FINISHED" and parent.tags.get(COMPLETE) == "true"
    missing = [fold for fold in range(len(result.folds)) if fold not in children]
    unattached, orphaned = _without_parent(store)
    done = Completion(changed=not whole or bool(missing or surplus or duplicates))
    if parent is None:
        parent = store.create(result.name, {KEY: result.key} | origin(result.workspace, SOURCE))
    for run in surplus:
        store.delete(run.id)
    for fold in missing:
        match = _match(unattached + orphaned, result.digests[fold], result.workspace)
        if match:
            _attach(store, match, parent, result, fold)
            unattached, orphaned = ([run for run in runs if run.id != match.id] for runs in (unattached, orphaned))
            done = replace(done, live=done.live + 1)
        else:
            _restore(store, parent, result, fold)
            done = replace(done, restored=done.restored + 1)
    if not whole:
        _fill(store, parent, result)
    add_view(store, pixels="pixels" in result.summary)
    useless = [run for run in unattached if is_stale(run, result.workspace)] + orphaned
    for run in useless:
        store.delete(run.id)
    deleted = len(useless) + len(surplus) + len(duplicates)
    return replace(done, changed=done.changed or bool(useless), deleted=deleted)


def _has(tag: str, value: str) -> str:
    return f"tags.`{tag}` = '{value}'"


def _parent(store: Store, result: TrackedResult) -> tuple[Run | None, list[Run]]:
    """The parent run of a result, a complete one if there is one, and duplicates of the same key."""
    runs = sorted(store.runs(_has(KEY, result.key)), key=lambda run: run.tags.get(COMPLETE) != "true")
    return (runs[0], runs[1:]) if runs else (None, [])


def _children(store: Store, parent: Run, result: TrackedResult) -> tuple[dict[int, Run], list[Run]]:
    """The finished child of each fold, and the surplus: unfinished after a crash, of another result, or a second one.

    Runs that the user has nested there have no STATE and are left alone.
    """
    good: dict[int, Run] = {}
    surplus = []
    for run in store.runs(_has(PARENT, parent.id)):
        if STATE not in run.tags:
            continue
        number = run.tags.get(FOLD, "")
        fold = int(number) if number.isdecimal() else -1
        digest_fits = 0 <= fold < len(result.folds) and run.tags.get(FOLD_DIGEST) == result.digests[fold]
        if run.status == "FINISHED" and digest_fits and fold not in good:
            good[fold] = run
        else:
            surplus.append(run)
    return good, surplus


def _without_parent(store: Store) -> tuple[list[Run], list[Run]]:
    """Live runs that have no parent yet, and runs whose parent was deleted."""
    orphaned = []
    for parent in store.runs(f"tags.`{KEY}` LIKE '%'", deleted=True):
        orphaned += [run for run in store.runs(_has(PARENT, parent.id)) if STATE in run.tags]
    return [run for run in store.runs(_has(ATTACHED, "false")) if PARENT not in run.tags], orphaned


def _match(runs: list[Run], fold_digest: str, workspace: Path) -> Run | None:
    """A finished run that made this fold; a live one of this workspace comes first."""
    fitting = [run for run in runs if run.status == "FINISHED" and run.tags.get(FOLD_DIGEST) == fold_digest]
    fitting.sort(key=lambda run: (run.tags[STATE] != "live", run.heartbeat.get("workspace") != str(workspace)))
    return fitting[0] if fitting else None


def _attach(store: Store, run: Run, parent: Run, result: TrackedResult, fold: int) -> None:
    """Make a live run the child of a parent; PARENT is written last, when the run has all that a child has."""
    _describe_fold(store, run, result, fold)
    store.write(run.id, tags={PARENT: parent.id})
    for tag in {ATTACHED, HEARTBEAT} & run.tags.keys():
        store.delete_tag(run.id, tag)


def _restore(store: Store, parent: Run, result: TrackedResult, fold: int) -> None:
    """Create the child of a fold from its files, with the names and steps of a live run."""
    folder, card = result.folds[fold], result.cards[fold]
    rows = _history(folder / "history.csv")
    tags = {PARENT: parent.id, STATE: "restored", FOLD: str(fold)}
    run = store.create(f"fold_{fold}", tags | origin(result.workspace, SOURCE))
    params = flatten({name: card[name] for name in ("model", "train") if name in card})
    store.write(run.id, params=params, curve=rows, time_ms=run.start_ms)
    _describe_fold(store, run, result, fold)
    store.write(run.id, tags={FOLD_DIGEST: result.digests[fold]})
    store.end(run.id, "FINISHED")


def _describe_fold(store: Store, run: Run, result: TrackedResult, fold: int) -> None:
    scores, tags = describe.fold_metrics(result, fold), describe.fold_tags(result, fold)
    store.write(run.id, metrics=scores, time_ms=run.start_ms, tags=tags)
    store.log_dataset(run.id, describe.dataset(result), "training")


def _history(path: Path) -> list[dict[str, float]]:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = [{name: float(text) for name, text in row.items() if text} for row in csv.DictReader(stream)]
        if all(math.isfinite(row["epoch"]) for row in rows):
            return rows
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    raise TrackingError(f"{path}: expected a column epoch and numbers in each row; run `dvc repro` to train the fold")


def _fill(store: Store, parent: Run, result: TrackedResult) -> None:
    """Write everything into the parent; the tag COMPLETE is written last."""
    with tempfile.TemporaryDirectory() as folder:
        files = collect_artifacts(result, Path(folder))
        store.upload(parent.id, Path(folder))
    tags: dict[str, Any] = describe.tags(result)
    tags[describe.NOTE] = describe.note(result, parent.tags, files.kept, files.left_out)
    metrics, params = describe.metrics(result), flatten(result.params)
    store.write(parent.id, metrics=metrics, time_ms=parent.start_ms, params=params, tags=tags)
    store.log_dataset(parent.id, describe.dataset(result), "evaluation")
    store.end(parent.id, "FINISHED")
    store.write(parent.id, tags={COMPLETE: "true"})
