"""Peak memory and time of the scene stages and of a map: ``python -m benchmarks.memory [SIDE_PX [FOLDER]]``.

A scene of ten uint16 bands is made below FOLDER, the temporary folder by default: a full Sentinel-2 tile of
10980 x 10980 px, unless SIDE_PX says otherwise, which takes 8 GB of disk and about 15 minutes. Each stage runs as a
process of its own, as DVC runs it; the maps are those of two networks, untrained, without polygons, whose memory goes
with their number: of the default ones at the scene's own pixels, and of the smallest ones of patches in cells of 16 px.
Exits with 1 when one of them needs more than 2 GB.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import geopandas
import numpy as np
import rasterio
import shapely
import yaml
from affine import Affine
from rasterio.windows import Window

ROOT = Path(__file__).resolve().parent.parent
BANDS = {
    "B02": "B", "B03": "G", "B04": "R", "B05": "RE1", "B06": "RE2", "B07": "RE3", "B08": "N", "B8A": "N2",
    "B11": "S1", "B12": "S2",
}  # fmt: skip
STAGES = ("ingest", "indices", "normalize", "patches")
MAP = """
from pathlib import Path
from benchmarks.memory import write_map
write_map(Path("."), pixels=PIXELS)
"""
MAPS = {"pixels": MAP.replace("PIXELS", "True"), "cells": MAP.replace("PIXELS", "False")}
FULL_PX = 10_980
LIMIT_MB = 2048
TRANSFORM = Affine(10, 0, 399_960, 0, -10, 5_800_020)


def deliver(folder: Path, side_px: int) -> None:
    """A scene as delivered, its labels and params.yaml: one noisy block of ground, repeated."""
    random, block = np.random.default_rng(0), 1024
    ramp = np.linspace(0, 6, block)
    scenes = folder / "data/raw/scenes"
    scenes.mkdir(parents=True)
    profile = {"driver": "GTiff", "dtype": "uint16", "count": 1, "height": side_px, "width": side_px, "nodata": 0}
    form = {"tiled": True, "compress": "zstd", "zstd_level": 1, "crs": "EPSG:32633", "transform": TRANSFORM}
    for number, band in enumerate(BANDS):
        ground = 2000 + 800 * np.sin(ramp[:, None] + number) * np.cos(ramp[None, :])
        values = (ground + random.normal(0, 120, ground.shape)).clip(1, 20000).astype("uint16")
        with rasterio.open(scenes / f"T33UUU_20200101T100000_{band}.tif", "w", **profile, **form) as dataset:
            for row in range(0, side_px, block):
                for column in range(0, side_px, block):
                    height, width = min(block, side_px - row), min(block, side_px - column)
                    dataset.write(values[:height, :width], 1, window=Window(column, row, width, height))
    labels(folder / "data/raw/labels/labels.gpkg", side_px)
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["ingest"]["bands"] = list(BANDS.values())
    params["labels"] |= {"attribute": "kind", "classes": {"field": ["crop"], "water": ["lake"]}, "exclude": []}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


def labels(path: Path, side_px: int) -> None:
    """Two thousand polygons of two classes all over the scene."""
    path.parent.mkdir(parents=True)
    step = side_px * 10 / 45
    left, top = TRANSFORM @ (0, 0)
    corners = [(left + i * step, top - j * step) for i in range(45) for j in range(45)]
    shapes = [shapely.box(x, y - 0.9 * step, x + 0.9 * step, y) for x, y in corners]
    kinds = ["crop" if i % 2 else "lake" for i in range(len(shapes))]
    geopandas.GeoDataFrame({"kind": kinds}, geometry=shapes, crs="EPSG:32633").to_file(path)


def write_map(folder: Path, *, pixels: bool) -> None:
    """The map of the normalized scene, every layer of it, by fold and by the mean of both networks."""
    from landfold.geo.raster import Raster
    from landfold.maps.export import MapModels, NormalizedScene, write_scene_map
    from landfold.maps.settings import ExportSettings
    from landfold.network.card import ModelCard, window_px
    from landfold.network.model import Classifier, build
    from landfold.network.settings import ModelSettings
    from landfold.patches.settings import PatchSettings

    content = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    section, settings = content["export"], ModelSettings.model_validate(content["model"])
    if not pixels:
        resnet = {"kernel_px": 3, "stride_px": 2, "pooling": True, "blocks": 1}
        own = {"backbone": "resnet18", "weights": "none", "partial_weights": False, "stem": "averaged"} | resnet
        none = dict.fromkeys(ModelSettings.model_fields)
        settings = ModelSettings.model_validate(none | own | {"kind": "classifier", "dropout": 0.0})
    size_px, core_px = window_px(settings, PatchSettings.model_validate(content["patches"]))
    section |= {"stride_px": None if pixels else 16, "layers": ["margin", "entropy", "probabilities"]}
    section["polygons"]["formats"] = []
    (path,) = (folder / "data/normalized").glob("*.tif")
    with Raster.open(path) as raster:
        models = []
        for fold in range(2):
            card = ModelCard(
                model=settings, channels=list(raster.names), bands=list(raster.names), indices=[],
                classes=list("abcdefgh"), size_px=size_px, core_px=core_px, resolution_m=10, k=2, fold=fold,
                fold_digest="", patches_digest="", statistics_digest="", train={},
            )  # fmt: skip
            models.append(Classifier(build(settings, card.channels, 8), card))
        grey = [(i, i, i) for i in range(8)]
        used = MapModels(models, grey, "", held_out=lambda part: np.indices(part.shape).sum(axis=0) % 2)
        write_scene_map(folder, NormalizedScene("map", raster, ""), used, ExportSettings.model_validate(section))


def measure(stage: str, folder: Path) -> tuple[float, float]:
    """Seconds and peak resident megabytes of a stage's process."""
    start = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", MAPS[stage]] if stage in MAPS else [sys.executable, "-m", f"stages.{stage}"]
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{stage} failed")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def main(side_px: int, parent: Path | None) -> None:
    """Print a line for each stage, and for the maps."""
    with tempfile.TemporaryDirectory(dir=parent) as name:
        folder = Path(name)
        deliver(folder, side_px)
        peaks = {}
        for stage in (*STAGES, *MAPS):
            seconds, peaks[stage] = measure(stage, folder)
            print(
                f"{stage:10} {side_px} px  {seconds:7.1f} s  peak {peaks[stage]:6.0f} MB   goal < {LIMIT_MB} MB",
                flush=True,
            )
    if max(peaks.values()) >= LIMIT_MB:
        sys.exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else FULL_PX, Path(sys.argv[2]) if len(sys.argv) > 2 else None)
