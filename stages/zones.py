"""Assign zones and folds, keep training and validation apart, and prove it.

Reads: data/patches.parquet; sections ``project`` and ``zones`` of params.yaml.
Writes: data/folds/kK/: patches.parquet (zone and fold of every patch), fold_I.parquet (side of every
patch: train, validation or buffer), zones.gpkg (the fold map), index.json; metrics/folds.json and
metrics/plots/folds.png.
Refuses: fewer zones than folds, an empty fold, footprints shared across folds.
"""

from pathlib import Path

import geopandas

from landfold import settings
from landfold.files import write_json, writing_folder
from landfold.folds import assign_folds, check_folds, split_fold, summarize, write_folds
from landfold.plots import fold_map
from landfold.project import ProjectSettings
from landfold.zones import ZoneSettings, grid_zones, zone_table
from stages import PARAMS, run


def main() -> str:
    """Zone, assign, split, check, write."""
    zones = settings.load(PARAMS, "zones", ZoneSettings)
    crs = settings.load(PARAMS, "project", ProjectSettings).metric_crs
    table = geopandas.read_parquet("data/patches.parquet")
    zone = grid_zones(
        table["x"].to_numpy(), table["y"].to_numpy(), block_size_m=zones.block_size_m, origin_m=zones.origin_m
    )
    table = table.assign(zone=zone, fold=assign_folds(zone, table["label"].to_numpy(), zones))
    splits = [split_fold(table.geometry.to_numpy(), table["fold"].to_numpy(), i, zones.buffer_m) for i in zones.folds]
    check_folds(table, splits, zones.buffer_m)
    areas = zone_table(table["zone"].to_numpy(), table["fold"].to_numpy(), zones, crs)
    with writing_folder(Path(f"data/folds/k{zones.k}")) as folder:
        write_folds(folder, table, splits, areas)
    write_json(Path("metrics/folds.json"), summarize(table, splits))
    fold_map(Path("metrics/plots/folds.png"), areas, table, splits)
    dropped = sum(int(split.buffer.sum()) for split in splits)
    return f"{len(areas)} zones in {zones.k} folds; {dropped} patches in buffers, over all folds; no shared ground"


if __name__ == "__main__":
    run(main)
