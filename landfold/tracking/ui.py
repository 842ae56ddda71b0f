"""MLflow's web page of the store that results go to: ``python -m landfold.tracking.ui PORT``."""

import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from landfold.core import settings
from landfold.core.errors import LandfoldError
from landfold.tracking.database import create_database, read_only
from landfold.tracking.library import ENVIRONMENT, sqlite_file
from landfold.tracking.redaction import redact_uri
from landfold.tracking.store import store_uri
from landfold.tracking.view import VIEW, VIEW_KEY


def main(port: str, root: Path) -> None:
    """Become MLflow's web server on 127.0.0.1; where MLFLOW_TRACKING_URI names a server, print its address instead."""
    uri = store_uri(root)
    if urlsplit(uri).scheme in ("http", "https"):
        print(f"MLFLOW_TRACKING_URI names a server, which has its own page: {redact_uri(uri)}")
        return
    if file := sqlite_file(uri):
        create_database(file)
    # in the environment: a command line is seen by all users of the machine, and the URI may hold a password
    os.environ.update(ENVIRONMENT, MLFLOW_BACKEND_STORE_URI=uri)
    print(f"MLflow: http://127.0.0.1:{port}/#/{page_path(file, root)}", flush=True)
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", port]
    os.execv(command[0], command)  # noqa: S606 - as meant: no shell, and this process itself


def page_path(file: Path | None, root: Path) -> str:
    """The address within MLflow's page: the project's runs in the saved view, else the list of experiments."""
    query = "workflowType=machine_learning"  # without it the page opens in its mode for language models
    try:
        name = settings.value(root / "params.yaml", "project.name")
        experiment, views = _experiment(file, name) if file else ("", 0)
    except (LandfoldError, sqlite3.Error):
        experiment, views = "", 0
    if not experiment:
        return f"experiments?{query}"
    return f"experiments/{experiment}/runs?{query}" + (f"&viewStateShareKey={VIEW_KEY}" if views else "")


def _experiment(file: Path, name: str) -> tuple[str, int]:
    """The id of an experiment, "" if there is none, and the number of its saved views: 0 or 1."""
    statement = """
        SELECT e.experiment_id, count(t.key) FROM experiments e
        LEFT JOIN experiment_tags t ON t.experiment_id = e.experiment_id AND t.key = ?
        WHERE e.name = ? AND e.lifecycle_stage = 'active' GROUP BY e.experiment_id"""
    with closing(read_only(file)) as connection:
        return connection.execute(statement, (VIEW, name)).fetchone() or ("", 0)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:] or ["5000"], root=Path.cwd())
    except LandfoldError as error:
        sys.exit(f"ui: {error}")
