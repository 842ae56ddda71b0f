"""Deliveries for the tests of ingest, and what ingest makes of them."""

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from landfold.core.settings import validate
from landfold.geo.grid import Grid
from landfold.geo.raster import Raster
from landfold.scenes.ingest import ingest_scene
from landfold.scenes.sensors import find_scenes
from landfold.scenes.sensors.scene_files import BandFile, MaskFile, SceneFiles
from landfold.scenes.settings import IngestSettings
from tests.factories import (
    CRS_UTM33,
    ORIGIN_X,
    ORIGIN_Y,
    leftovers,
    make_grid,
    params,
    write_band,
)


def ingest_settings(**changes):
    return validate(params()["ingest"] | changes, IngestSettings, where="ingest")


def ingest(tmp_path, scene=None, **changes):
    """Ingest a scene, or the one below tmp_path/raw; its report, numbers as stored, mask and raster's facts."""
    if scene is None:
        [scene] = find_scenes(tmp_path / "raw")
    report = ingest_scene(scene, ingest_settings(**changes), CRS_UTM33, tmp_path / "out" / "s.tif")
    with Raster.open(tmp_path / "out" / "s.tif") as source:
        window = Window(0, 0, source.grid.width, source.grid.height)
        return report, source.read_raw(window), source.read_mask(window), source


def refused(tmp_path, error, message, scene=None, **changes):
    with pytest.raises(error, match=message):
        ingest(tmp_path, scene, **changes)
    assert not (tmp_path / "out" / "s.tif").exists()
    assert leftovers(tmp_path) == []


def scene_of(*bands, masks=()):
    """A scene of the files of one folder, as a reader of products would describe it."""
    return SceneFiles("S", "unknown", bands[0].path.parent, {band.name: band for band in bands}, masks=tuple(masks))


def reflectance(tmp_path):
    """What every later stage reads of the ingested raster: (channel, y, x), NaN where not valid."""
    with Raster.open(tmp_path / "out" / "s.tif") as source:
        return source.read_reflectance(source.grid.whole)


def ramp(east, south):
    """Whole numbers at the centres of 10, 20 and 60 m pixels, linear in both directions."""
    return 1000 + east / 5 + south * 2 / 5


MIXED = {"B02": (10.0, ramp), "B05": (20.0, ramp), "B01": (60.0, ramp)}


DN = np.full((30, 40), 3000, np.uint16)


def write_stack(path, grid, layers, **options):
    """A multi-band GeoTIFF; an ``alpha`` is the last band."""
    alpha = options.pop("alpha", None)
    layers = [*layers, alpha] if alpha is not None else layers
    path.parent.mkdir(parents=True, exist_ok=True)
    place = {"crs": grid.crs, "transform": grid.transform, "height": grid.height, "width": grid.width}
    kind = {"driver": "GTiff", "dtype": layers[0].dtype, "count": len(layers)} | options
    with rasterio.open(path, "w", **kind, **place) as file:
        if alpha is not None:
            file.colorinterp = [ColorInterp.undefined] * (len(layers) - 1) + [ColorInterp.alpha]
        file.write(np.stack(layers))
    return path


def masked(tmp_path, kind, classes, *, resolution=10.0, grid=None, dtype=np.uint16):
    """A scene of 30 x 40 px of 10 m whose upper left 4 x 6 px hold no data, and a mask file of these classes."""
    values = DN.copy()
    values[:4, :6] = 0
    band = write_band(tmp_path / "raw" / "S_B02.tif", make_grid(30, 40), values, nodata=0)
    grid = grid or make_grid(*classes.shape, resolution)
    mask = write_band(tmp_path / "masks" / "mask.tif", grid, classes.astype(dtype), nodata=1)
    return scene_of(BandFile("B", "B02", band), masks=[MaskFile(kind, mask)])


ELSEWHERE = CRS.from_epsg(32632)


WGS84 = CRS.from_epsg(4326)


PLACES = {
    "aligned": (CRS_UTM33, Affine(10, 0, ORIGIN_X, 0, -10, ORIGIN_Y)),
    "off the lattice": (CRS_UTM33, Affine(10, 0, ORIGIN_X + 3.7, 0, -10, ORIGIN_Y + 8.1)),
    "finer": (CRS_UTM33, Affine(7, 0, ORIGIN_X + 1, 0, -7, ORIGIN_Y)),
    "coarser": (CRS_UTM33, Affine(23, 0, ORIGIN_X + 1, 0, -19, ORIGIN_Y)),
    "south-up": (CRS_UTM33, Affine(10, 0, ORIGIN_X, 0, 10, ORIGIN_Y)),
    "rotated": (CRS_UTM33, Affine.translation(ORIGIN_X, ORIGIN_Y) @ Affine.rotation(30) @ Affine.scale(10, -10)),
    "another zone": (ELSEWHERE, Affine(10, 0, 811_000.0, 0, -10, 5_810_000.0)),
    "geographic": (WGS84, Affine(1.4e-4, 0, 13.55, 0, -9e-5, 52.33)),
    "geographic, south-up": (WGS84, Affine(1.4e-4, 0, 13.55, 0, 9e-5, 52.33)),
}


NOISE = np.random.default_rng(7)


def noise(*_):
    return lambda east, south: NOISE.integers(1, 9000, east.shape)


def delivered_at(tmp_path, place, height=140, width=150):
    """A scene of random numbers with holes, and a mask of half its resolution."""
    crs, transform = PLACES[place]
    numbers = NOISE.integers(1, 9000, (height, width)).astype(np.uint16)
    numbers[NOISE.random((height, width)) < 0.02] = 0
    band = write_band(tmp_path / "raw" / "S_B02.tif", Grid(crs, transform, height, width), numbers, nodata=0)
    coarse = Grid(crs, transform @ Affine.scale(2), height // 2, width // 2)
    classes = NOISE.choice([4, 5, 9], coarse.shape).astype(np.uint8)
    mask = write_band(tmp_path / "raw" / "S_SCL.tif", coarse, classes)
    return scene_of(BandFile("B", "B02", band), masks=[MaskFile("scl", mask)])
