"""The store of MLflow that results go to, and reading and writing its runs through MLflow's client."""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import funcy

from landfold.core.files import main_checkout
from landfold.tracking.database import create_database
from landfold.tracking.library import UnreachableStoreError, load_mlflow, sqlite_file
from landfold.tracking.redaction import error_summary, redact_secrets
from landfold.tracking.runs import Run, now_ms

DATASET_CONTEXT = "mlflow.data.context"

EXPERIMENT_TAGS = {
    "mlflow.note.content": (
        "One run for each result of the pipeline; the runs of its folds are nested below it. What counts is "
        "`pixels.accuracy.pooled` with its interval, `low` to `high` (networks of patches: `zoned.accuracy.pooled`); "
        "compare where `landfold.data_digest` is equal."
    ),
}


def store_uri(root: Path) -> str:
    """MLFLOW_TRACKING_URI if set, else the sqlite database mlflow.db of the checkout that owns ``root``.

    A relative path is taken from that checkout, since DVC's temporary workspaces vanish.
    """
    checkout = main_checkout(root)
    uri = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    file = sqlite_file(uri)
    if file and not file.is_absolute():
        return f"sqlite:///{checkout / file}"
    if ":" not in uri and not Path(uri).is_absolute():
        return str(checkout / uri)
    return uri


def connect(uri: str) -> Any:
    """MLflow's client of a store; a sqlite database is created if there is none."""
    if file := sqlite_file(uri):
        create_database(file)
    return load_mlflow().MlflowClient(tracking_uri=uri)


def experiment_id(client: Any, uri: str, name: str, root: Path) -> str:
    """The id of an experiment, which is created, or restored from MLflow's trash, if need be.

    A server decides where its artifacts go. Those of a database lie in mlruns beside a sqlite file, or in the checkout
    that owns ``root``.
    """
    from mlflow.exceptions import MlflowException

    location = None
    if file := sqlite_file(uri):
        location = (file.parent / "mlruns").as_uri()
    elif urlsplit(uri).scheme not in ("", "file", "http", "https"):
        location = (main_checkout(root) / "mlruns").as_uri()
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return client.create_experiment(name, artifact_location=location, tags=EXPERIMENT_TAGS)
        except MlflowException:  # another process may have created it in between
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    return experiment.experiment_id


_until_unlocked = funcy.retry(4, timeout=1, filter_errors=lambda error: "database is locked" in str(error))
"""MLflow waits 20 s for a lock of sqlite; on a slow disk, beside other writers, that is not always enough."""


@dataclass(frozen=True)
class Store:
    """One experiment of one store, through MLflow's client."""

    client: Any
    experiment_id: str

    @classmethod
    def open(cls, uri: str, experiment: str, root: Path) -> Self:
        """Connect to a store; the database and the experiment are created if need be."""
        client = connect(uri)
        return cls(client, experiment_id(client, uri, experiment, root))

    @_until_unlocked
    def runs(self, condition: str, *, deleted: bool = False) -> list[Run]:
        """The runs that MLflow's filter ``condition`` selects, oldest first."""
        from mlflow.entities import ViewType

        view = ViewType.DELETED_ONLY if deleted else ViewType.ACTIVE_ONLY
        runs, token = [], None
        while True:
            page = self.client.search_runs(
                [self.experiment_id], condition, view, 1000, ["attributes.start_time ASC"], token
            )
            runs += [Run(r.info.run_id, r.info.status, r.info.start_time, r.data.tags) for r in page]
            token = page.token
            if not token:
                return runs

    @_until_unlocked
    def create(self, name: str, tags: Mapping[str, str]) -> Run:
        """Start a run."""
        run = self.client.create_run(self.experiment_id, run_name=name, tags=dict(tags))
        return Run(run.info.run_id, run.info.status, run.info.start_time, run.data.tags)

    @_until_unlocked
    def write(
        self,
        run_id: str,
        *,
        metrics: Mapping[str, float] | None = None,
        step: int = 0,
        time_ms: int | None = None,
        curve: Sequence[Mapping[str, float]] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log metrics, parameters and tags in few requests; the same again with the same ``time_ms`` changes nothing.

        Args:
            run_id: the run.
            metrics: values at ``step``.
            step: step of ``metrics``.
            time_ms: time of ``metrics`` and of the start of ``curve``, milliseconds since 1970; None: now.
            curve: rows of history.csv; the ``epoch`` of each is its step.
            params: text values; secrets in them are replaced by ``***``.
            tags: text values.
        """
        from mlflow.entities import Metric, Param, RunTag

        stamp = now_ms() if time_ms is None else time_ms
        values = [Metric(name, float(value), stamp, step) for name, value in (metrics or {}).items()]
        for row in curve:
            epoch = int(row["epoch"])
            values += [Metric(name, value, stamp + epoch, epoch) for name, value in row.items() if name != "epoch"]
        constants = [Param(name, redact_secrets(value)) for name, value in (params or {}).items()]
        labels = [RunTag(name, value) for name, value in (tags or {}).items()]
        while values or constants or labels:  # MLflow's limits of a request: 100 params, 100 tags, 1000 values in all
            self.client.log_batch(run_id, values[:800], constants[:100], labels[:100])
            values, constants, labels = values[800:], constants[100:], labels[100:]

    @_until_unlocked
    def delete_tag(self, run_id: str, tag: str) -> None:
        """Remove a tag that the run has."""
        self.client.delete_tag(run_id, tag)

    @_until_unlocked
    def log_dataset(self, run_id: str, dataset: Mapping[str, str], context: str) -> None:
        """Log the fields of MLflow's `Dataset` as the input of a run; the same again changes nothing."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        entry = DatasetInput(Dataset(**dataset), [InputTag(DATASET_CONTEXT, context)])
        self.client.log_inputs(run_id, [entry])

    def upload(self, run_id: str, folder: Path) -> None:
        """Upload the content of a folder as the run's artifacts.

        Raises:
            UnreachableStoreError: the artifact store, such as a bucket, does not take them.
        """
        from mlflow.exceptions import MlflowException

        try:
            self.client.log_artifacts(run_id, str(folder))
        except (MlflowException, OSError):
            raise
        except Exception as error:  # each kind of artifact store has a library with errors of its own
            raise UnreachableStoreError(f"MLflow's artifact store: {error_summary(error)}") from None

    @_until_unlocked
    def end(self, run_id: str, status: str) -> None:
        """Close a run as FINISHED, FAILED or KILLED."""
        self.client.set_terminated(run_id, status)

    @_until_unlocked
    def delete(self, run_id: str) -> None:
        """Move a run to MLflow's trash."""
        self.client.delete_run(run_id)


def flatten(values: Mapping[str, Any]) -> dict[str, str]:
    """Nested settings as parameters of MLflow: dotted names, text values, lists as JSON."""
    return {name: _text(value)[:6000] for name, value in leaves(values)}  # 6000: MLflow's limit of a value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """The numbers in nested metrics by dotted names."""
    return {n: v for n, v in leaves(values) if isinstance(v, int | float) and not isinstance(v, bool)}


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names, of characters that MLflow allows, and their values."""
    for key, value in values.items():
        name = prefix + re.sub(r"[^\w. -]", "_", str(key))
        if isinstance(value, Mapping):
            yield from leaves(value, f"{name}.")
        else:
            yield name[:250], value
