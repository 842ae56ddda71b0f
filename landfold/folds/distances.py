"""Distances from held-out patches to training patches, and from the map to the patches."""

from collections.abc import Sequence
from pathlib import Path

import geopandas
import numpy as np
from scipy.spatial import KDTree
from scipy.stats import wasserstein_distance

from landfold.folds.split import Split
from landfold.geo.grid import Grid
from landfold.geo.raster import Raster
from landfold.patches.features import full_windows


def nearest_m(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Metres from every point to the nearest of the others: (n, 2) and (m, 2) to (n,)."""
    return KDTree(others).query(points)[0]


def nearest_other_m(points: np.ndarray) -> np.ndarray:
    """Metres from every point to the nearest one among the rest: (n, 2) to (n,)."""
    return KDTree(points).query(points, k=2)[0][:, 1]


def held_out_to_train_m(points: np.ndarray, splits: Sequence[Split]) -> np.ndarray:
    """Metres from every held-out patch to the nearest training patch of its fold; NaN where never held out."""
    distances = np.full(len(points), np.nan)
    for split in splits:
        distances[split.validation] = nearest_m(points[split.validation], points[split.train])
    return distances


def wasserstein_m(held_out: np.ndarray, prediction: np.ndarray) -> float:
    """How far the distances of held-out patches are from those of the map, as whole distributions, metres.

    The W of kNNDM (Linnenbrink et al. 2024, https://doi.org/10.5194/gmd-17-5897-2024): at 0 the score is
    one for prediction at the distances that the map has.

    Args:
        held_out: from every held-out patch to the nearest training patch.
        prediction: from every prediction location to the nearest patch.
    """
    return float(wasserstein_distance(held_out, prediction))


def prediction_locations(
    scenes: Path, patches: geopandas.GeoDataFrame, *, stride_px: int, max_invalid: float, count: int, seed: int
) -> np.ndarray:
    """Centres of ``count`` windows that are mapped, sampled from the scenes in a folder, or of all if there are fewer.

    The windows are those that would be patches if they were labelled: ``stride_px`` apart, at most
    ``max_invalid`` of them without data.

    Returns:
        (location, 2) metres in the CRS of the patches.
    """
    size_px = int(patches["size_px"].iloc[0])
    windows: list[tuple[Grid, np.ndarray]] = []
    for path in sorted(scenes.glob("*.tif")):
        with Raster.open(path) as raster:
            full = full_windows(raster, size_px=size_px, stride_px=stride_px, max_invalid=max_invalid)
            windows.append((raster.grid, np.flatnonzero(full)))
    ends = np.cumsum([len(places) for _, places in windows])
    chosen = np.sort(np.random.default_rng(seed).permutation(ends[-1])[:count])
    scene = np.searchsorted(ends, chosen, side="right")
    centres = np.empty((len(chosen), 2))
    crs = np.empty(len(chosen), dtype=object)
    for number in np.unique(scene):
        grid, full = windows[number]
        here = scene == number
        columns = (grid.width - size_px) // stride_px + 1
        row, column = np.divmod(full[chosen[here] - ends[number] + len(full)], columns)
        x, y = grid.transform @ (column * stride_px + size_px / 2, row * stride_px + size_px / 2)
        centres[here], crs[here] = np.stack([x, y], axis=1), grid.crs.to_wkt()
    for wkt in set(crs):  # once for each, not for each of thousands of tiles
        here = crs == wkt
        moved = geopandas.GeoSeries(geopandas.points_from_xy(*centres[here].T), crs=wkt).to_crs(patches.crs)
        centres[here] = np.stack([moved.x, moved.y], axis=1)
    return centres
