"""MLflow, imported late and kept quiet, and its errors in plain sentences.

Importing mlflow takes seconds: `load_mlflow` does it, inside functions, and no module imports it at its top.
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
from landfold.tracking.redaction import error_summary, redact_uri

LOCK_WAIT_S = 120
"""Creating the database takes 5 to 10 s, completing a result about as long, on a slow disk several times that."""

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # the URL may hold credentials
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
_HTTP_LIMITS = {  # by default MLflow retries for minutes when a server is down, and a training waits
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
_LOG_LEVELS = {
    "mlflow": "ERROR",
    "mlflow.store.db.utils": "CRITICAL",
    "mlflow.system_metrics": "CRITICAL",
    "alembic": "ERROR",
    "urllib3": "ERROR",
}

_START = "start it, or correct MLFLOW_TRACKING_URI"
_HINTS = {
    "NameResolutionError": f"no such server; {_START}",
    "Connection refused": f"no server listens there; {_START}",
    "Max retries exceeded": f"the server does not answer; {_START}",
    "unsupported URI": "MLflow has no such store; set MLFLOW_TRACKING_URI to http(s)://HOST:PORT or sqlite:///FILE",
    "failed with error code 404": f"there is a server, but it is not MLflow's; {_START}",
    "MLFLOW_ALLOW_FILE_STORE": "this MLflow no longer keeps runs in plain files; "
    "name a database such as sqlite:///mlflow.db, or set MLFLOW_ALLOW_FILE_STORE=true",
}
"""Part of an error of MLflow or urllib3, and the sentence that replaces the error's page of text."""

_DATABASE_CODES = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "BAD_REQUEST"}
"""Error codes under which MLflow passes on what its database raises; others are about one request."""


class TrackingError(LandfoldError):
    """A result that cannot be recorded, or a local store that cannot be used."""


class UnreachableStoreError(TrackingError):
    """A tracking server that does not answer or refuses; the result itself is whole."""


def load_mlflow() -> Any:
    """Import mlflow without telemetry, without its messages on the terminal and with short timeouts."""
    os.environ.update(ENVIRONMENT)
    for name, value in _HTTP_LIMITS.items():
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
    """The error for a database that MLflow cannot use, and how to fix it."""
    if "out-of-date" in why:
        fix = f"it was made by an older MLflow: run `mlflow db upgrade sqlite:///{file}`"
    elif "locked" in why:
        fix = "another program holds it: close that and run `dvc repro` again"
    else:
        fix = f"move it away (mv {file} {file}.broken) and run `dvc repro`: track rebuilds it"
    return TrackingError(f"{file}: not usable as MLflow's database ({why}); {fix}")


@contextmanager
def explained_errors(uri: str) -> Iterator[None]:
    """Turn what MLflow and its libraries raise into one clear error without credentials.

    Raises:
        UnreachableStoreError: a server does not answer or refuses.
        TrackingError: a local store cannot be used, or a lock is held for too long.
    """
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
        raise _explained(uri, error) from None


def _explained(uri: str, error: Exception) -> TrackingError:
    file = sqlite_file(uri)
    if file and getattr(error, "error_code", "INTERNAL_ERROR") in _DATABASE_CODES:
        return unusable(file, error_summary(error))
    why = next((hint for part, hint in _HINTS.items() if part in str(error)), error_summary(error))
    if file:
        return TrackingError(f"{file}: {why}")
    if urlsplit(uri).scheme in ("", "file"):
        return TrackingError(f"MLFLOW_TRACKING_URI {redact_uri(uri)}: {why}")
    return UnreachableStoreError(f"{redact_uri(uri)}: {why}")
