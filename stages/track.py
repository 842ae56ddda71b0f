"""Complete the result's record in MLflow, however its stages came about.

Reads: models/kK, metrics/summary.json, metrics/report.html, metrics/plots, dvc.lock; params.yaml.
Writes: nothing that DVC hashes; runs in the MLflow store, mlflow.db unless MLFLOW_TRACKING_URI is set.
Refuses: a fold that is missing, a local database that is broken. A tracking server that is down
is told of, and the next `dvc repro` completes the record.
"""

from pathlib import Path

from landfold import settings, tracking
from landfold.files import read_json
from stages import PARAMS, run

SUMMARY, REPORT = Path("metrics/summary.json"), Path("metrics/report.html")


def main() -> str:
    """Name the result, complete its record; light imports only, since this runs at every `dvc repro`."""
    if not settings.load(PARAMS, "track", tracking.TrackSettings).enabled:
        return "off (track.enabled: false)"
    params = settings.read(PARAMS)
    k = settings.value(PARAMS, "zones.k")
    if not SUMMARY.is_file():
        raise tracking.TrackingError(f"{SUMMARY}: not found; run `dvc repro`, so that evaluate writes it")
    result = tracking.Result(
        experiment=settings.value(PARAMS, "project.name"),
        params={section: values for section, values in params.items() if section != "track"},
        summary=read_json(SUMMARY),
        folds=[Path(f"models/k{k}/fold_{fold}") for fold in range(k)],
        artifacts=[SUMMARY, REPORT, PARAMS, Path("dvc.lock"), Path("metrics/plots")],
    )
    try:
        return str(tracking.complete(result))
    except tracking.UnreachableStoreError as error:
        return f"warning: not recorded, run `dvc repro` again to complete it: {error}"


if __name__ == "__main__":
    run(main)
