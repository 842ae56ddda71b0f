"""MLflow, imported late and kept quiet, and what it raises in words.

Importing mlflow takes seconds, so nothing imports it but `load_mlflow`, inside functions.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import Timeout as LockTimeout

from landfold.core.errors import LandfoldError
from landfold.tracking.redaction import reason, shown

LOCK_WAIT_S = 120
"""Creating the database takes 5 to 10 s, completing a result about as long, on a slow disk several times that."""

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # the URL may hold credentials
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
_PATIENCE = {  # mlflow's own retries keep a training waiting for minutes when a server is down
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
}
_LOG_LEVELS = {
    "mlflow": "ERROR",
    "mlflow.store.db.utils": "CRITICAL",
    "mlflow.system_metrics": "CRITICAL",
    "alembic": "WARNING",
    "urllib3": "ERROR",
}


class TrackingError(LandfoldError):
    """A result that cannot be tracked, or a local store that cannot be used."""


class UnreachableStoreError(TrackingError):
    """A tracking server that does not answer or refuses: no fault of the result, which stays whole."""


def load_mlflow() -> Any:
    """Import mlflow without telemetry and without its remarks on the user's terminal."""
    os.environ.update(ENVIRONMENT)
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    import mlflow

    for logger, level in _LOG_LEVELS.items():
        logging.getLogger(logger).setLevel(level)
    return mlflow


def sqlite_file(uri: str) -> Path | None:
    """The file of a sqlite URI; None for every other store."""
    name = uri.removeprefix("sqlite:///").partition("?")[0]
    return Path(name) if uri.startswith("sqlite:///") and name not in ("", ":memory:") else None


def unusable(file: Path, why: str) -> TrackingError:
    """The error for a database that MLflow cannot use, with the mend."""
    if "out-of-date" in why:
        mend = f"it was made by an older MLflow: run `mlflow db upgrade sqlite:///{file}`"
    elif "locked" in why:
        mend = "another program holds it: close that and run `dvc repro` again"
    else:
        mend = f"move it away (mv {file} {file}.broken) and run `dvc repro`: track rebuilds it"
    return TrackingError(f"{file}: not usable as MLflow's database ({why}); {mend}")


@contextmanager
def faults_explained(uri: str) -> Iterator[None]:
    """Turn what MLflow and its libraries raise into one clear error without credentials."""
    load_mlflow()
    from alembic.util import CommandError
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except LockTimeout as error:
        raise TrackingError(f"{error.lock_file}: another process has held it for {LOCK_WAIT_S} s; run again") from None
    except (MlflowException, SQLAlchemyError, RequestException, CommandError) as error:
        if file := sqlite_file(uri):
            raise unusable(file, reason(error)) from None
        if urlsplit(uri).scheme in ("", "file"):
            raise TrackingError(_file_store(uri, error)) from None
        raise UnreachableStoreError(f"{shown(uri)}: {reason(error)}") from None


def _file_store(uri: str, error: Exception) -> str:
    if "MLFLOW_ALLOW_FILE_STORE" not in str(error):
        return f"MLFLOW_TRACKING_URI {shown(uri)}: {reason(error)}"
    return (
        f"MLFLOW_TRACKING_URI {shown(uri)}: this MLflow no longer keeps runs in plain files; "
        "name a database such as sqlite:///mlflow.db, or set MLFLOW_ALLOW_FILE_STORE=true"
    )
