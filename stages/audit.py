"""Measure the optimistic bias of random cross-validation, with a classifier that takes seconds.

Reads: data/normalized, data/labels, data/patches.parquet, data/folds/kK; sections ``audit`` and ``zones`` of
params.yaml, ``project.crs``, ``labels.unit``, ``labels.classes`` and of ``patches`` stride_px, core_px and max_invalid.
Writes: metrics/audit.json; in data/audit baseline.parquet, the held-out predictions from band statistics under both
splits, distances.parquet, the distances that the audit compares, spread.json, the standard deviations of scores over
partitions and deals, and in unit pixel the predictions of the baseline of pixels, pixel_baseline_patches.parquet and
pixel_baseline_pixels.parquet.
Refuses: folds without their random counterpart, or that are not of these patches.
"""

from pathlib import Path

import geopandas

from landfold.audit.audit import audit, read_splits, zone_size_m
from landfold.audit.baseline import band_statistics_baseline
from landfold.audit.pixels import pixel_baseline
from landfold.audit.spread import sample_of_pixels, spread
from landfold.core.files import write_json, writing_folder
from landfold.folds.distances import prediction_locations
from landfold.patches.features import patch_features
from landfold.pixels.folds import FoldFiles, FoldPixels
from landfold.pixels.rows import LabelledScenes
from stages import Params, run

NORMALIZED = Path("data/normalized")


def main(params: Params) -> str:
    """Read, compare, write."""
    chosen = params.audit
    folds = Path(f"data/folds/k{params.zones.k}")
    table = geopandas.read_parquet("data/patches.parquet")
    features, splits = patch_features(table, NORMALIZED).to_numpy(), read_splits(folds, table)
    result = audit(
        table,
        features,
        splits,
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
        seed=chosen.seed,
    )
    own, k = splits.held_out, params.zones.k
    draws = {"patches": spread(features[own], table["label"].to_numpy()[own], splits.zone[own], k=k, seed=chosen.seed)}
    if params.labels.unit == "pixel":
        fold_pixels = _fold_pixels(params)
        rows = sample_of_pixels(fold_pixels[0], seed=chosen.seed)
        draws["pixels"] = spread(rows.features, rows.labels, rows.zones, k=k, seed=chosen.seed)
    summary = result.summary() | {"spread": draws}
    with writing_folder(Path("data/audit")) as folder:
        if params.labels.unit == "pixel" and chosen.pixels:
            pixels = pixel_baseline(fold_pixels, params.labels.names, pixels=chosen.pixels, seed=chosen.seed)
            pixels.patches.to_parquet(folder / "pixel_baseline_patches.parquet", index=False)
            pixels.pixels.to_parquet(folder / "pixel_baseline_pixels.parquet", index=False)
            summary["pixel_baseline"] = pixels.summary()
        write_json(folder / "spread.json", draws)
        result.predictions.to_parquet(folder / "baseline.parquet", index=False)
        result.distance_table().to_parquet(folder / "distances.parquet", index=False)
    write_json(Path("metrics/audit.json"), summary)
    for warning in result.warnings():
        print(f"audit: warning: {warning}")
    return result.sentence()


def _fold_pixels(params: Params) -> list[FoldPixels]:
    """The labelled pixels of every fold."""
    zones, core_px = params.zones, params.patches.core_px
    folds = [FoldFiles(Path("data"), i, "fold", core_px, zones, params.project.metric_crs) for i in zones.folds]
    scenes = LabelledScenes.of(NORMALIZED, Path("data/labels"))
    return [part.pixels(part.table(), scenes) for part in folds]


if __name__ == "__main__":
    run(main)
