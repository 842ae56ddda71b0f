"""Tables of patches whose folds are known or easy to check."""

import shutil

import geopandas
import numpy as np
import shapely

from landfold.core.settings import validate
from landfold.folds.assignment import assign_folds, fold_patches
from landfold.folds.check import check_folds
from landfold.folds.lists import write_folds
from landfold.folds.settings import ZoneSettings
from landfold.folds.split import split_fold
from landfold.folds.zones import Blocks
from tests.factories import CRS_UTM33, footprint_table, params

CRS_UTM34 = "EPSG:32634"


KINDS = {
    "grid": {},
    "hexagon": {},
    "scene": {"block_size_m": None, "origin_m": None},
    "label": {"block_size_m": None, "origin_m": None},
    "kmeans": {"block_size_m": None, "origin_m": None, "clusters": 9},
}


def zone_settings(k=2, **changes):
    return validate(params()["zones"] | {"k": k, "folds": list(range(k))} | changes, ZoneSettings, where="zones")


def layout(seed, *, count=120, side=400.0, size=12.0, classes=3):
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, side, (2, count)) + np.array([[4e5], [58e5]])
    labels = np.array(["a", "b", "c"], dtype=object)[rng.integers(0, classes, count)]
    return x, y, labels, size


def folded(seed, settings, **options):
    x, y, labels, size = layout(seed, **options)
    zone = Blocks(settings.block_size_m, settings.origin_m).at(x, y)
    return footprint_table(x, y, zone, assign_folds(zone, labels, settings), size_m=size, labels=labels)


def splits_of(table, settings):
    footprints, folds = table.geometry.to_numpy(), table["fold"].to_numpy()
    return [split_fold(footprints, folds, fold, settings.buffer_m) for fold in settings.folds]


def ground(seed, *, count=90, side=400.0, size=12.0, scenes=6, aligned=False):
    """Patches of several scenes in two UTM zones, all in the first one's CRS, as the patches stage leaves them."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, side, (2, count)) + np.array([[7e5], [58e5]])
    if aligned:
        x, y = x // size * size, y // size * size
    scene = rng.integers(0, scenes, count)
    boxes = geopandas.GeoSeries(shapely.box(x - size / 2, y - size / 2, x + size / 2, y + size / 2), crs=CRS_UTM33)
    there = boxes.to_crs(CRS_UTM34)
    centre = shapely.centroid(there.to_numpy())
    squares = shapely.box(
        *(c + h for h in (-size / 2, size / 2) for c in (shapely.get_x(centre), shapely.get_y(centre)))
    )
    turned = geopandas.GeoSeries(squares, crs=CRS_UTM34).to_crs(CRS_UTM33)  # a scene of the next zone: not upright
    shapes = np.where(scene % 2 == 1, turned.to_numpy(), boxes.to_numpy())
    return geopandas.GeoDataFrame(
        {
            "patch": [f"s{s}/{i}" for i, s in enumerate(scene)],
            "scene": [f"s{s}" for s in scene],
            "label": np.array(["a", "b", "c"], dtype=object)[rng.integers(0, 3, count)],
            "zone_value": [f"v{int(part)}" for part in (x - 7e5) // (side / 5)],
            "x": x,
            "y": y,
        },
        geometry=shapes,
        crs=CRS_UTM33,
    )


def patches_at(x, **columns):
    x = np.asarray(x, dtype=float)
    table = footprint_table(x, x * 0, "", 0, size_m=10, labels=columns.pop("labels", "a")).drop(
        columns=["zone", "fold"]
    )
    return table.assign(**{"scene": "s", "x": x, "y": 0.0} | columns)


def write_and_check(folder, patches, settings, test, **options):
    folding = fold_patches(patches, settings, test, **options)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_folds(folder, folding)
    check_folds(folder, patches, settings, test)
    return folding
