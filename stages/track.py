"""Complete the result's record in MLflow, however its stages came about.

Reads: models/kK, metrics/summary.json, scores.json, report.html and plots, data/maps, data/scenes/report.json,
dvc.yaml, dvc.lock; params.yaml.
Writes: nothing that DVC hashes; runs in the MLflow store, mlflow.db unless MLFLOW_TRACKING_URI is set.
Refuses: a fold that is missing, a local database that is broken. A tracking server that is down
is reported, and the next `dvc repro` completes the record.
"""

from pathlib import Path
from typing import Any

from landfold.core.files import read_json
from landfold.tracking.completion import complete
from landfold.tracking.library import TrackingError, UnreachableStoreError
from landfold.tracking.result import TrackedResult
from stages import PARAMS, Params, run

SUMMARY, SCORES, REPORT = Path("metrics/summary.json"), Path("metrics/scores.json"), Path("metrics/report.html")
PIPELINE = [Path("dvc.yaml"), Path("dvc.lock")]


def main(params: Params) -> str:
    """Name the result, complete its record; light imports only, since this runs at every `dvc repro`."""
    track = params.track
    if not track.enabled:
        return "off (track.enabled: false)"
    k, folds = params.zones.k, params.zones.folds
    if not SUMMARY.is_file():
        raise TrackingError(f"{SUMMARY}: not found; run `dvc repro`, so that evaluate writes it")
    result = TrackedResult(
        experiment=params.project.name,
        params={section: values for section, values in params.content.items() if section != "track"},
        summary=_read(SUMMARY),
        scores=_read(SCORES),
        scenes=_read(Path("data/scenes/report.json")),
        folds=[Path(f"models/k{k}/fold_{fold}") for fold in folds],
        artifacts=[SUMMARY, SCORES, REPORT, PARAMS, *PIPELINE, Path("metrics/plots")],
        maps=Path("data/maps"),
        maps_mb=track.maps_mb,
    )
    try:
        return str(complete(result))
    except UnreachableStoreError as error:
        return f"warning: not recorded, run `dvc repro` again to complete it: {error}"


def _read(path: Path) -> Any:
    return read_json(path) if path.is_file() else {}


if __name__ == "__main__":
    run(main)
