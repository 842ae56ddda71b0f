"""Results of DVC in MLflow: live runs while folds train, and one complete parent run for every result.

`landfold.tracking.completion` and `landfold.tracking.result` record results.
"""

from landfold.tracking.database import create_database
from landfold.tracking.library import TrackingError, UnreachableStoreError, sqlite_file
from landfold.tracking.live import LiveRun, live_run
from landfold.tracking.redaction import redact_uri
from landfold.tracking.settings import TrackSettings
from landfold.tracking.store import flatten, store_uri

__all__ = [
    "LiveRun",
    "TrackSettings",
    "TrackingError",
    "UnreachableStoreError",
    "create_database",
    "flatten",
    "live_run",
    "redact_uri",
    "sqlite_file",
    "store_uri",
]
