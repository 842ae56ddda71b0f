"""Zones and audit on 27,225 patches in 500 zones with 32 features: ``python -m benchmarks.audit``.

Both stages run as processes of their own, on files, as `dvc repro` starts them. The goal is 60 s together
and at most 2 GB, on 2 cores.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import geopandas
import numpy as np
import shapely
import yaml
from rasterio.crs import CRS
from scipy.ndimage import gaussian_filter

from landfold.geo.grid import Grid
from landfold.geo.writer import create
from tests.factories import make_grid

ROOT = Path(__file__).parents[1]
SIDE, SIZE_PX, CHANNELS, CLASSES = 165, 16, 16, 10
ZONES = 500


def fields(count: int, smooth: float, generator: np.random.Generator) -> np.ndarray:
    """Random fields, (count, SIDE, SIDE), whose neighbours resemble each other over about ``smooth`` patches."""
    found = np.stack([gaussian_filter(generator.standard_normal((SIDE, SIDE)), smooth) for _ in range(count)])
    return found / found.std(axis=(1, 2), keepdims=True)


def write_project(folder: Path) -> None:
    """Patches edge to edge whose class and colour drift over the ground, the normalized scene, and params.yaml."""
    generator = np.random.default_rng(0)
    classes = fields(CLASSES, 2, generator).argmax(axis=0)
    means = 0.5 + 0.04 * generator.standard_normal((CLASSES, CHANNELS))[classes].transpose(2, 0, 1)
    means = (means + 0.06 * fields(CHANNELS, 4, generator)).astype(np.float32)
    grid = make_grid(SIDE * SIZE_PX, SIDE * SIZE_PX)
    write_scene(folder / "data/normalized/scene.tif", grid, means, generator)
    write_patches(folder / "data/patches.parquet", grid, classes)
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    block_m = SIDE * SIZE_PX * 10 / np.sqrt(ZONES)
    params["zones"] |= {
        "k": 5, "folds": [0, 1, 2, 3, 4], "repeats": 1, "kind": "grid", "block_size_m": float(block_m),
        "origin_m": list(grid.bounds[:2]), "clusters": None, "file": None, "attribute": None, "overlaps": "buffer",
        "assignment": "stratified", "tries": None, "test_region": None, "buffer_m": 100,
    }  # fmt: skip
    params["patches"] |= {"size_px": SIZE_PX, "core_px": SIZE_PX, "stride_px": SIZE_PX}
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")


def write_scene(path: Path, grid: Grid, means: np.ndarray, generator: np.random.Generator) -> None:
    """16 channels around the mean of each patch, and a patch row at a time."""
    with create(path, grid, [f"C{i}" for i in range(CHANNELS)], dtype="float32") as writer:
        for window in grid.blocks(256):
            rows, columns = window.toslices()
            part = means[
                :,
                np.arange(rows.start, rows.stop)[:, None] // SIZE_PX,
                np.arange(columns.start, columns.stop) // SIZE_PX,
            ]
            noise = generator.standard_normal(part.shape, dtype=np.float32) * np.float32(0.05)
            writer.write(window, (part + noise).clip(0, 1), np.ones(part.shape[1:], dtype=bool))


def write_patches(path: Path, grid: Grid, classes: np.ndarray) -> None:
    row, column = (axis.ravel() * SIZE_PX for axis in np.mgrid[:SIDE, :SIDE])
    left, top = grid.transform @ (column, row)
    geopandas.GeoDataFrame(
        {
            "patch": [f"scene/{r}/{c}" for r, c in zip(row, column, strict=True)],
            "scene": "scene",
            "row": row,
            "column": column,
            "size_px": SIZE_PX,
            "label": [f"class {number}" for number in classes.ravel()],
            "x": left + SIZE_PX * 5,
            "y": top - SIZE_PX * 5,
        },
        geometry=shapely.box(left, top - SIZE_PX * 10, left + SIZE_PX * 10, top),
        crs=CRS.from_epsg(32633),
    ).to_parquet(path)


def measured(stage: str, folder: Path) -> tuple[float, float, float]:
    """Wall seconds, processor seconds, and peak memory, MB, of a stage."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", f"stages.{stage}"], cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"stage {stage} failed")
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "data").mkdir()
        write_project(folder)
        found = {stage: measured(stage, folder) for stage in ("zones", "audit")}
    seconds, work, memory = zip(*found.values(), strict=True)
    found["both"] = sum(seconds), sum(work), max(memory)
    for stage, (wall, processor, peak) in found.items():
        print(f"{stage:6} {wall:6.1f} s, processor {processor:6.1f} s, {peak:5.0f} MB")
    print("goal    60.0 s,                     2048 MB")


if __name__ == "__main__":
    main()
