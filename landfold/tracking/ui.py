"""MLflow's page for the store that results go to: ``python -m landfold.tracking.ui PORT``."""

import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

from landfold.errors import LandfoldError
from landfold.tracking.database import create_database
from landfold.tracking.library import ENVIRONMENT, sqlite_file
from landfold.tracking.redaction import shown
from landfold.tracking.store import store_uri


def main(port: str, root: Path) -> None:
    """Become MLflow's web server on 127.0.0.1; say where the page is if a tracking server has one already."""
    uri = store_uri(root)
    if urlsplit(uri).scheme in ("http", "https"):
        print(f"MLFLOW_TRACKING_URI names a server, which has a page of its own: {shown(uri)}")
        return
    if file := sqlite_file(uri):
        create_database(file)
    # by the environment: everybody on the machine sees a command line, and the URI may hold a password
    os.environ.update(ENVIRONMENT, MLFLOW_BACKEND_STORE_URI=uri)
    page = f"http://127.0.0.1:{port}/#/experiments?workflowType=machine_learning"  # else it opens for language models
    print(f"MLflow: {page}", flush=True)
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", port]
    os.execv(command[0], command)  # noqa: S606 - as meant: no shell, and this process itself


if __name__ == "__main__":
    try:
        main(*sys.argv[1:] or ["5000"], root=Path.cwd())
    except LandfoldError as error:
        sys.exit(f"ui: {error}")
