"""Memory of the scene stages does not grow with the scene: a full-size one is `python -m benchmarks.memory`."""

import tracemalloc

import geopandas
import numpy as np
import pytest

from landfold.geo.raster import Raster
from landfold.params import read_params
from landfold.patches.labels.vectors import LabelPolygons
from landfold.patches.pixels import write_label_raster
from landfold.scenes.indices import write_indices
from landfold.scenes.ingest import ingest_scene
from landfold.scenes.normalize import normalize_scene
from landfold.scenes.sensors import find_scenes
from tests.factories import CRS_UTM33, box, make_grid, write_band, write_params, write_raster

GROWTH_MB = 1.0
"""Far less than one band of the larger scene, 8 MB."""


def deliver(folder, side_px):
    grid = make_grid(side_px, side_px)
    values = np.random.default_rng(0).integers(500, 4000, (512, 512), dtype=np.uint16)
    for band in ("B04", "B08"):
        write_band(folder / f"raw/s/s_{band}.tif", grid, np.tile(values, (side_px // 512, side_px // 512)))
    return find_scenes(folder / "raw")[0]


def peak_mb(work):
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20


def peaks_of(folder, side_px):
    params = write_params(folder, ingest__bands=["R", "N"], indices__names=["NDVI"])
    read = read_params(params)
    ingest, indices, normalize = read.ingest, read.indices, read.normalize
    scene, bands, extra = deliver(folder, side_px), folder / "bands.tif", folder / "indices.tif"
    works = {
        "ingest": lambda: ingest_scene(scene, ingest, CRS_UTM33, bands),
        "indices": lambda: write_indices(bands, indices, extra),
        "normalize": lambda: normalize_scene([bands, extra], normalize, folder / "s.json", folder / "s.tif"),
    }
    return {stage: peak_mb(work) for stage, work in works.items()}


@pytest.fixture(scope="module")
def peaks(tmp_path_factory):
    """Peak traced memory of each stage, numpy's arrays among it, for a scene and for one of four times the area."""
    return {side_px: peaks_of(tmp_path_factory.mktemp("scene"), side_px) for side_px in (1024, 2048)}


@pytest.mark.parametrize("stage", ["ingest", "indices", "normalize"])
def test_four_times_the_area_needs_no_more_memory(peaks, stage):
    assert peaks[2048][stage] > 1, "something is traced"
    assert peaks[2048][stage] - peaks[1024][stage] < GROWTH_MB


def test_labels_of_a_scene_four_times_as_high_need_no_more_memory(tmp_path):
    shapes = [box(0, 0, 9000, 90_000), box(1000, 1000, 5000, 70_000)]
    table = geopandas.GeoDataFrame({"label": np.array([1, 2], np.uint8)}, geometry=shapes, crs=CRS_UTM33)
    labels, peaks = LabelPolygons(table, ["field", "water"]), {}
    for height in (1024, 4096):
        scene = write_raster(tmp_path / f"{height}.tif", {"R": np.ones((height, 1024), np.uint16)})
        with Raster.open(scene) as raster:
            peaks[height] = peak_mb(lambda: write_label_raster(tmp_path / "labels.tif", "s", raster, labels))
    assert peaks[1024] > 0.25, "something is traced"
    assert peaks[4096] - peaks[1024] < GROWTH_MB
