"""The run of a fold while it trains: it shows the curves, and a fault of MLflow does not stop the training."""

import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from landfold.core.errors import LandfoldError
from landfold.tracking.library import explained_errors, load_mlflow
from landfold.tracking.origin import environment, origin
from landfold.tracking.redaction import error_summary, redact_uri
from landfold.tracking.runs import ATTACHED, FOLD, FOLD_DIGEST, HEARTBEAT, STATE, K, heartbeat
from landfold.tracking.settings import TrackSettings
from landfold.tracking.store import Store, store_uri


@dataclass
class LiveRun:
    """The run of a fold in training; without a store its methods do nothing.

    A fault of the store never stops the training: it is reported once, and stage track records the fold later.
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
        with self._disabled_on_error() as store:
            if store:
                tags = {HEARTBEAT: heartbeat(self.workspace)}
                store.write(self.run_id, metrics=metrics, step=int(row["epoch"]), tags=tags)

    def finish(self, fold_digest: str) -> None:
        """Log the digest of the fold's folder, when all its files are written."""
        self.finished = True
        with self._disabled_on_error() as store:
            if store:
                store.write(self.run_id, tags={FOLD_DIGEST: fold_digest})

    def log_system_metrics(self) -> None:
        """Log from now on, in a thread, the load of CPU, memory, disk, network and GPU."""
        load_mlflow()
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        with self._disabled_on_error() as store:
            if store:
                self.monitor = SystemMetricsMonitor(self.run_id, tracking_uri=self.uri)
                self.monitor.start()

    def end(self, status: str) -> None:
        """Close the run as FINISHED, FAILED or KILLED."""
        if self.monitor is not None:
            self.monitor.finish()  # it raises nothing, and it ends by itself when the server is gone
            self.monitor = None
        with self._disabled_on_error() as store:
            if store:
                store.end(self.run_id, status)

    @contextmanager
    def _disabled_on_error(self) -> Iterator[Store | None]:
        try:
            yield self.store
        except Exception as error:
            self.store = None
            _warn(self.uri, error)


def _warn(uri: str, error: Exception) -> None:
    why = str(error) if isinstance(error, LandfoldError) else f"{redact_uri(uri)}: {error_summary(error)}"
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
    """A run that shows a fold's curves while it trains: call `LiveRun.log` for each epoch, then `LiveRun.finish`.

    The run ends as FAILED when the block raises or does not call `finish`. When tracking is off or the store cannot be
    reached, the run does nothing.

    Args:
        settings: section ``track`` of params.yaml.
        experiment: name of the MLflow experiment.
        name: name of the run.
        fold: number of the fold.
        k: number of folds of one repeat.
        params: parameters of the run.
        workspace: the folder in which the stage runs; None: the current one.
    """
    run = LiveRun()
    if settings.enabled:
        run = _start(experiment, name, fold, k, params, (workspace or Path.cwd()).resolve())
    if run.store and settings.system_metrics:
        run.log_system_metrics()
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
        with explained_errors(uri):
            store = Store.open(uri, experiment, workspace)
            tags = {STATE: "live", ATTACHED: "false", FOLD: str(fold), K: str(k), HEARTBEAT: heartbeat(workspace)}
            run = store.create(name, tags | origin(workspace, "stages/train.py"))
            store.write(run.id, params=params)
            with tempfile.TemporaryDirectory() as folder:
                Path(folder, "environment.txt").write_text(environment(workspace), encoding="utf-8")
                store.upload(run.id, Path(folder))
    except Exception as error:
        _warn(uri, error)
        return LiveRun()
    return LiveRun(uri, store, run.id, workspace)
