"""Folds whose held-out patches are as far from training as the map is from the patches: kNNDM on whole zones.

Linnenbrink et al. (2024), kNNDM CV, Geosci. Model Dev. 17, 5897, https://doi.org/10.5194/gmd-17-5897-2024, as in the R
package CAST (Meyer et al.), function knndm with hierarchical clustering. CAST clusters points; here zones are clustered
and stay whole, and the distances are those of the folds in use, without the patches in the buffer.
"""

import geopandas
import numpy as np
from scipy.cluster.hierarchy import cut_tree, linkage

from landfold.folds.distances import held_out_to_train_m, nearest_m, wasserstein_m
from landfold.folds.settings import ZoneSettings
from landfold.folds.split import TEST, FoldError, split_fold

CANDIDATES = 100
"""Numbers of clusters that are tried, at most, as in CAST (nk_len)."""

MOST_ZONES = 10_000
"""Clustering holds a distance for each pair of zones: 0.4 GB for so many."""


def match_folds(
    zones: np.ndarray,
    patches: geopandas.GeoDataFrame,
    test: np.ndarray,
    settings: ZoneSettings,
    locations: np.ndarray,
) -> np.ndarray:
    """The fold of every patch, 0 to k - 1 or TEST, (patch,) int64, with the smallest W of the folds that are tried.

    W is the Wasserstein distance between two distributions: the distances of held-out patches to the nearest training
    patch, and those of the map's locations to the nearest patch. Zones are joined into c clusters (Ward's method on the
    means of their patches' centres) for up to `CANDIDATES` numbers c from k to the number of zones. A cluster with at
    least 1 / k of the patches is a fold by itself; the others, in their order along the first principal component of
    the patches' centres, go to the remaining folds in turn. No fold may have more than half of the patches, or three
    quarters where k is 2. Of equal W the fewest clusters are taken.

    Args:
        zones: (patch,) names of zones, at least k.
        patches: columns ``x`` and ``y``, centres in metres, and ``geometry``.
        test: (patch,) bool, those in the test region.
        settings: section ``zones``.
        locations: where the map is, (location, 2) x and y, metres.

    Raises:
        FoldError: more than `MOST_ZONES` zones, or none of the folds that are tried is possible.
    """
    k, names, number = settings.k, *np.unique(zones[~test].astype(str), return_inverse=True)
    if len(names) > MOST_ZONES:
        raise FoldError(
            f"zones.assignment: knndm compares all pairs of zones, and {len(names)} zones are more than {MOST_ZONES}; "
            "make fewer and larger ones, or choose another assignment"
        )
    footprints, centres = patches.geometry.to_numpy(), patches[["x", "y"]].to_numpy()
    points = centres[~test] - centres[~test].mean(axis=0)
    sizes = np.bincount(number)
    means = np.stack([np.bincount(number, axis) for axis in points.T], axis=1) / sizes[:, None]
    along = means @ _first_component(points)
    to_sample = nearest_m(locations, centres[~test])
    best, least, largest = None, np.inf, max(0.5, 1.5 / k)
    counts = np.unique(np.geomspace(k, len(names), CANDIDATES).round().astype(int))
    # SciPy gives every zone a cluster of its own in the first column alone, so the numbers fall
    for clusters in cut_tree(linkage(means, "ward"), counts[::-1]).T[::-1]:
        folds = np.full(len(zones), TEST)
        folds[~test] = _deal(clusters, sizes, along, k)[number]
        if np.bincount(folds[~test]).max() > largest * len(number):
            continue
        try:
            splits = [split_fold(footprints, folds, fold, settings.buffer_m) for fold in range(k)]
        except FoldError:  # the buffer leaves no training
            continue
        w = wasserstein_m(held_out_to_train_m(centres, splits)[~test], to_sample)
        if w < least:
            best, least = folds, w
    if best is None:
        raise FoldError(
            f"zones.assignment: knndm finds no {k} folds of {len(names)} zones with at most {largest:.0%} of the "
            "patches in each and training outside of the buffer; lower zones.buffer_m or zones.k (and zones.folds), "
            "or make smaller zones"
        )
    return best


def _first_component(points: np.ndarray) -> np.ndarray:
    """Direction of the largest variance of centred points, (2,), its larger part above 0."""
    direction = np.linalg.eigh(points.T @ points)[1][:, -1]
    return direction * np.sign(direction[np.abs(direction).argmax()])


def _deal(clusters: np.ndarray, patches: np.ndarray, along: np.ndarray, k: int) -> np.ndarray:
    """Clusters to folds, as `match_folds` describes it: the fold of each zone, (zone,) int64.

    Args:
        clusters: (zone,) numbers from 0.
        patches: (zone,) how many each has.
        along: (zone,) place along the first principal component.
        k: number of folds.
    """
    sizes = np.bincount(clusters, patches)
    order = np.argsort(np.bincount(clusters, patches * along) / sizes, kind="stable")
    large = sizes[order] >= patches.sum() / k
    fold = np.empty(len(sizes), dtype=np.int64)
    fold[order[large]] = np.arange(large.sum())
    small = order[~large]
    fold[small] = large.sum() + np.arange(len(small)) % max(1, k - large.sum())
    return fold[clusters]
