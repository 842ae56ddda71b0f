"""Assign zones and folds, keep training and validation apart, and prove it.

Reads: data/patches.parquet; data/raw (zones.file or the file of zones.test_region); sections ``project`` and ``zones``
of params.yaml; with assignment knndm the masks of data/scenes, stride_px and max_invalid of ``patches``, and
prediction_points and seed of ``audit``.
Writes: data/folds/kK/: patches.parquet (zone and fold of every patch), fold_I.parquet (side of every
patch: train, validation, buffer or test), random_I.parquet (the same of a random split of equal size),
zones.gpkg (the fold map), index.json; metrics/folds.json.
Refuses: fewer zones than folds, an empty fold, patches without a zone, footprints shared across folds.
"""

from pathlib import Path

import geopandas
import numpy as np

from landfold.core.files import write_json, writing_folder
from landfold.folds.assignment import fold_patches
from landfold.folds.check import check_folds
from landfold.folds.distances import prediction_locations
from landfold.folds.lists import write_folds
from landfold.folds.summary import fold_summary, fold_warnings
from landfold.folds.zones import in_test_region, read_polygon_zones, test_region
from stages import Params, run

RAW = Path("data/raw")


def main(params: Params) -> str:
    """Zone, assign, split, write, check what is written."""
    zones = params.zones
    crs = params.project.metric_crs
    patches = geopandas.read_parquet("data/patches.parquet")
    test = in_test_region(patches, zones, RAW, crs)
    folds = fold_patches(patches, zones, test, read_polygon_zones(zones, RAW, crs), _locations(params, patches))
    with writing_folder(Path(f"data/folds/k{zones.k}")) as folder:
        write_folds(folder, folds, test_region(zones, RAW, crs))
        check_folds(folder, patches, zones, test)
    warnings, summary = fold_warnings(folds, zones), fold_summary(folds)
    write_json(Path("metrics/folds.json"), summary | {"cautions": warnings})
    flagged = [f"fold {fold}: {', '.join(part['flags'])}" for fold, part in summary["folds"].items() if part["flags"]]
    for warning in (*warnings, *flagged):
        print(f"zones: warning: {warning}")
    dropped = sum(int(split.buffer.sum()) for split in folds.spatial)
    repeated = f", {zones.repeats} times" if zones.repeats > 1 else ""
    held_out = f"; {int(test.sum())} patches in the test region" if test.any() else ""
    return (
        f"{len(folds.zones[0])} zones in {zones.k} folds{repeated}; {dropped} patches in buffers, over all folds"
        f"{held_out}; no shared ground"
    )


def _locations(params: Params, patches: geopandas.GeoDataFrame) -> np.ndarray | None:
    """Where the map is, the same places as in the audit; None where the assignment does not depend on it."""
    if params.zones.assignment != "knndm":
        return None
    return prediction_locations(
        Path("data/scenes"),
        patches,
        stride_px=params.patches.stride_px,
        max_invalid=params.patches.max_invalid,
        count=params.audit.prediction_points,
        seed=params.audit.seed,
    )


if __name__ == "__main__":
    run(main)
