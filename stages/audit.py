"""Measure the optimistic bias of random cross-validation, with a classifier that takes seconds.

Reads: data/normalized, data/patches.parquet, data/folds/kK; section ``audit`` of params.yaml, and
``zones.k``, ``patches.stride_px`` and ``patches.max_invalid``.
Writes: metrics/audit.json; data/audit/baseline.parquet, the held-out predictions from band statistics under both
splits, and data/audit/distances.parquet, the distances that the audit compares.
Refuses: folds without their random counterpart, or that are not of these patches.
"""

from pathlib import Path

import geopandas

from landfold.audit.audit import audit, read_splits, zone_size_m
from landfold.audit.baseline import band_statistics_baseline
from landfold.audit.distances import prediction_locations
from landfold.core.files import write_json, writing_folder
from landfold.patches.features import patch_features
from landfold.scores.settings import EvaluateSettings
from stages import Params, run

NORMALIZED = Path("data/normalized")


def main(params: Params) -> str:
    """Read, compare, write."""
    chosen = params.audit
    folds = Path(f"data/folds/k{params.zones.k}")
    table = geopandas.read_parquet("data/patches.parquet")
    result = audit(
        table,
        patch_features(table, NORMALIZED).to_numpy(),
        read_splits(folds, table),
        band_statistics_baseline(chosen),
        locations=prediction_locations(
            NORMALIZED,
            table,
            stride_px=params.patches.stride_px,
            max_invalid=params.patches.max_invalid,
            count=chosen.prediction_points,
            seed=chosen.seed,
        ),
        zone_size_m=zone_size_m(geopandas.read_file(folds / "zones.gpkg", layer="zones")),
        resampling=EvaluateSettings(bootstrap=chosen.bootstrap, seed=chosen.seed),
    )
    with writing_folder(Path("data/audit")) as folder:
        result.predictions.to_parquet(folder / "baseline.parquet", index=False)
        result.distance_table().to_parquet(folder / "distances.parquet", index=False)
    write_json(Path("metrics/audit.json"), result.summary())
    for warning in result.warnings():
        print(f"audit: warning: {warning}")
    return result.sentence()


if __name__ == "__main__":
    run(main)
