"""The map of a full Sentinel-2 tile by all folds' networks: ``python -m benchmarks.tile [SIDE_PX [FOLDER]]``.

After ``dvc repro``. The tile is the first normalized scene, repeated to SIDE_PX x SIDE_PX pixels (10980 by default)
with noise, below FOLDER, the temporary folder by default. It is mapped by the networks of models/kK: class, confidence
and polygons, without the area of applicability. Printed are wall time, peak memory, bytes, and the wall time against
that of the bare forward passes: the same networks on tiles in memory, on as many cores, with nothing read or written.
"""

import resource
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from joblib import cpu_count
from rasterio.windows import Window

from landfold.geo.grid import Grid
from landfold.geo.raster import Raster
from landfold.geo.writer import create
from landfold.maps.export import MapModels, NormalizedScene, write_scene_map
from landfold.maps.foldmodels import load_fold_models
from landfold.maps.pixels import MOST_WORKERS, TILE_COLUMNS, TILE_ROWS
from landfold.maps.polygons import write_polygons
from landfold.network.model import Classifier, pixel_probabilities, single_threaded
from landfold.params import read_params
from landfold.pixels.rows import read_padded

FULL_PX = 10_980
NOISE = 0.02
"""Standard deviation of the noise on normalized values, so that no block of the tile is like another."""

SHARE = 0.05
"""Of the tiles, on which the bare forward passes are timed."""


def write_tile(source: Path, target: Path, side_px: int) -> None:
    """The scene, repeated with noise."""
    random = np.random.default_rng(0)
    with Raster.open(source) as raster:
        values, valid = raster.read_raw(raster.grid.whole), raster.read_mask(raster.grid.whole)
        grid, names = Grid(raster.grid.crs, raster.grid.transform, side_px, side_px), raster.names
    height, width = valid.shape
    with create(target, grid, names, dtype="float32") as writer:
        for row in range(0, side_px, height):
            for column in range(0, side_px, width):
                y, x = min(height, side_px - row), min(width, side_px - column)
                part = values[:, :y, :x]
                noisy = part + random.normal(0, NOISE, part.shape).astype(np.float32)
                noisy = np.where(part == 0, 0, noisy.clip(0, 1)).astype(np.float32)
                writer.write(Window(column, row, x, y), noisy, valid[:y, :x])


def forward_seconds(models: list[Classifier], path: Path, side_px: int) -> float:
    """Wall time of the bare forward passes of the whole tile, from a share of its parts."""
    parts = -(-side_px // TILE_ROWS) * -(-side_px // TILE_COLUMNS)
    count = max(4, round(SHARE * parts))
    rows, columns = min(TILE_ROWS, side_px), min(TILE_COLUMNS, side_px)
    with Raster.open(path) as raster:
        places = np.linspace(0, side_px - rows, 4).astype(int)
        values = [read_padded(raster, Window(0, int(row), columns, rows), models[0].card.margin_px) for row in places]
    chosen = np.ones((rows, columns), dtype=bool)
    with single_threaded(), ThreadPoolExecutor(min(cpu_count(), MOST_WORKERS)) as pool:
        start = time.perf_counter()
        list(pool.map(lambda i: pixel_probabilities(models, values[i % 4], chosen).shape, range(count)))
        seconds = time.perf_counter() - start
    return seconds / (count * rows * columns) * side_px**2


def main(side_px: int, folder: Path) -> None:
    """Write the tile, map it, and print."""
    params = read_params()
    k = params.zones.k
    models = load_fold_models(Path(f"models/k{k}"), Path(f"data/folds/k{k}"), "cpu")
    tile = folder / "tile.tif"
    write_tile(sorted(Path("data/normalized").glob("*.tif"))[0], tile, side_px)
    bare = forward_seconds(models, tile, side_px)
    colours = params.colours.rgb(models[0].card.classes)
    maps = folder / "maps"
    maps.mkdir()
    rasters = params.export.model_copy(
        update={"polygons": params.export.polygons.model_copy(update={"formats": []}), "applicability": False}
    )
    start = time.perf_counter()
    with Raster.open(tile) as raster:
        result = write_scene_map(maps, NormalizedScene("tile", raster, ""), MapModels(models, colours, ""), rasters)
    mapped, peak = time.perf_counter() - start, peak_gb()
    size = sum(path.stat().st_size for path in result.files)
    start = time.perf_counter()
    legend = dict(zip(models[0].card.classes, colours, strict=True))
    files = [maps / "tile_class.tif", maps / "tile_confidence.tif"]
    write_polygons(*files, maps / "tile", params.export.polygons, legend)
    polygons = time.perf_counter() - start
    channels = len(models[0].card.channels)
    print(f"{side_px} x {side_px} px, {channels} channels, {len(models)} networks, {cpu_count()} cores")
    print(f"bare forward passes: {bare:.0f} s, {bare / len(models):.0f} s a network")
    print(f"rasters: {mapped:.0f} s, {mapped / bare:.2f} x, peak {peak:.2f} GB, {size / 1e9:.2f} GB written")
    print(f"polygons: {polygons:.0f} s more, peak {peak_gb():.2f} GB")


def peak_gb() -> float:
    """Peak memory of the process so far, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    side = int(sys.argv[1]) if len(sys.argv) > 1 else FULL_PX
    with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as temporary:
        main(side, Path(temporary))
