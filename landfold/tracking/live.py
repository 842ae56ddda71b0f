"""The run of a fold while it trains: curves as they come, and no harm to the training."""

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from landfold.core.errors import LandfoldError
from landfold.tracking.library import faults_explained, load_mlflow
from landfold.tracking.origin import environment, origin
from landfold.tracking.redaction import reason, shown
from landfold.tracking.runs import ADOPTED, FOLD, FOLD_DIGEST, LIFE, STATE, K, signs_of_life
from landfold.tracking.settings import TrackSettings
from landfold.tracking.store import Store, store_uri


@dataclass
class LiveRun:
    """The run of a fold in training; without a store all its methods do nothing.

    A fault of the store never stops the training: it is told once, and `complete` mends it later.
    """

    uri: str = ""
    store: Store | None = None
    run_id: str = ""
    workspace: Path = Path()
    finished: bool = False
    monitor: Any = None

    def log(self, row: Mapping[str, float]) -> None:
        """Log one epoch: a row of history.csv, its ``epoch`` being the step."""
        metrics = {name: value for name, value in row.items() if name != "epoch"}
        with self._forgiving() as store:
            if store:
                life = json.dumps(signs_of_life(self.workspace))
                store.write(self.run_id, metrics=metrics, step=int(row["epoch"]), tags={LIFE: life})

    def finish(self, fold_digest: str) -> None:
        """Tell what the training has made: the digest of the fold's folder, all files written."""
        self.finished = True
        with self._forgiving() as store:
            if store:
                store.write(self.run_id, tags={FOLD_DIGEST: fold_digest})

    def watch(self) -> None:
        """Note from now on, in a thread, how busy the machine is."""
        load_mlflow()
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        with self._forgiving() as store:
            if store:
                self.monitor = SystemMetricsMonitor(self.run_id, tracking_uri=self.uri)
                self.monitor.start()

    def end(self, status: str) -> None:
        """Close the run as FINISHED, FAILED or KILLED."""
        self._stop_watching()
        with self._forgiving() as store:
            if store:
                store.end(self.run_id, status)

    def _stop_watching(self) -> None:
        if self.monitor is not None:
            self.monitor.finish()  # tells of no fault, and the monitor ends by itself when the server is gone
            self.monitor = None

    @contextmanager
    def _forgiving(self) -> Iterator[Store | None]:
        try:
            yield self.store
        except Exception as error:
            self.store = None
            _warn(self.uri, error)


def _warn(uri: str, error: Exception) -> None:
    why = str(error) if isinstance(error, LandfoldError) else f"{shown(uri)}: {reason(error)}"
    print(f"tracking: training goes on without MLflow; track will record it later: {why}", file=sys.stderr)


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
    if run.store and settings.system_metrics:
        run.watch()
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
        with faults_explained(uri):
            store = Store.open(uri, experiment, workspace)
            tags = {STATE: "live", ADOPTED: "false", FOLD: str(fold), K: str(k)}
            tags[LIFE] = json.dumps(signs_of_life(workspace))
            run = store.create(name, tags | origin(workspace, "stages/train.py"))
            store.write(run.id, params=params)
            with tempfile.TemporaryDirectory() as folder:
                Path(folder, "environment.txt").write_text(environment(workspace), encoding="utf-8")
                store.upload(run.id, Path(folder))
    except Exception as error:
        _warn(uri, error)
        return LiveRun()
    return LiveRun(uri, store, run.id, workspace)
