"""MLflow in step with DVC: live runs while a fold trains, and one complete parent run for every result.

Here is what a training needs. What records results (`landfold.tracking.completion`, `landfold.tracking.result`) is
imported by its whole name: a stage depends on the modules that it imports, and a change of how results are described
must not train every fold anew.
"""

from landfold.tracking.database import create_database
from landfold.tracking.library import TrackingError, UnreachableStoreError, sqlite_file
from landfold.tracking.live import LiveRun, live_run
from landfold.tracking.redaction import shown
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
    "shown",
    "sqlite_file",
    "store_uri",
]
