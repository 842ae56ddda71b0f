"""Whole zones to folds, and the folds of all repeats."""

import warnings

import geopandas
import numpy as np
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

from landfold.folds.lists import CrossValidationFolds, column
from landfold.folds.matching import match_folds
from landfold.folds.merging import merged_zones
from landfold.folds.settings import ZoneSettings
from landfold.folds.split import TEST, FoldError, random_splits, split_fold
from landfold.folds.zones import make_zones, zone_table

_BATCH = 256
"""Random assignments at a time: 10,000 tries of 5,000 zones then take 20 MB. The result does not depend on it."""


def fold_patches(
    patches: geopandas.GeoDataFrame,
    settings: ZoneSettings,
    test: np.ndarray,
    polygons: geopandas.GeoDataFrame | None = None,
    locations: np.ndarray | None = None,
) -> CrossValidationFolds:
    """Zones, folds and splits of every repeat.

    Args:
        patches: data/patches.parquet.
        settings: section ``zones``.
        test: (patch,) bool, those in the test region, as `landfold.folds.zones.in_test_region` gives them.
        polygons: of kind polygons, as `landfold.folds.zones.read_polygon_zones` gives them.
        locations: of assignment knndm: where the map is, (location, 2) x and y in the CRS of the patches.

    Raises:
        FoldError: what `assign_folds`, `match_folds` and `split_fold` refuse, or fewer merged zones than folds.
        ZoneError: patches without a zone.
    """
    table, labels = patches.copy(), patches["label"].to_numpy()
    footprints = patches.geometry.to_numpy()
    spatial, random, zones = [], [], []
    for repeat in range(settings.repeats):
        rule = make_zones(settings, patches, polygons, repeat=repeat)
        if settings.overlaps == "merge":
            rule = merged_zones(rule, rule.of(patches)[~test], footprints[~test], settings.k)
        zone, fold = rule.of(patches), np.full(len(patches), TEST)
        if settings.assignment == "knndm":
            _check_count(zone[~test], settings)
            fold = match_folds(zone, patches, test, settings, locations)
        else:
            fold[~test] = assign_folds(zone[~test], labels[~test], settings, repeat=repeat)
        fold[~test] += settings.k * repeat
        numbers = range(settings.k * repeat, settings.k * (repeat + 1))
        table[column("zone", repeat)], table[column("fold", repeat)] = zone, fold
        splits = [split_fold(footprints, fold, i, settings.buffer_m) for i in numbers]
        spatial += splits
        random += random_splits(labels, test, splits, seed=(settings.seed, repeat), first=numbers[0])
        zones.append(zone_table(zone, fold, rule, patches.crs, footprints=footprints))
    return CrossValidationFolds(table, spatial, random, zones)


def assign_folds(zones: np.ndarray, labels: np.ndarray, settings: ZoneSettings, *, repeat: int = 0) -> np.ndarray:
    """The fold of every patch, 0 to k - 1, (patch,) int64; patches of one zone are in one fold. Not by knndm.

    Every repeat assigns anew: stratified and balanced with the seed plus the repeat's number, group at random
    instead of by size where the kind's zones are the same in all repeats.

    Args:
        zones: (patch,) names of zones.
        labels: (patch,) names of classes.
        settings: section ``zones``.
        repeat: number of the repeat, from 0.

    Raises:
        FoldError: fewer zones than folds, every class with fewer patches than folds, or a fold that would be empty.
    """
    count = _check_count(zones, settings)
    if settings.assignment == "balanced":
        return _balanced(zones, labels, settings, repeat)
    splitter = _splitter(labels, settings, repeat)
    folds = np.full(len(zones), -1, dtype=np.int64)
    with warnings.catch_warnings():
        # landfold.folds.summary.fold_warnings names the classes, and what follows from it
        warnings.filterwarnings("ignore", "The least populated class")
        for fold, (_, validation) in enumerate(splitter.split(np.zeros(len(zones)), labels, zones)):
            folds[validation] = fold
    empty = sorted(set(range(settings.k)) - set(folds.tolist()))
    if empty:
        raise FoldError(
            f"fold {empty[0]} has no patch: {count} zones of very unequal size; lower zones.k (and zones.folds), "
            "lower zones.block_size_m, or set zones.assignment: group"
        )
    return folds


def _check_count(zones: np.ndarray, settings: ZoneSettings) -> int:
    """The number of zones, which must not be below that of the folds."""
    count = len(np.unique(zones.astype(str)))
    if count < settings.k:
        more = "make more zones" if settings.block_size_m is None else "zones.block_size_m"
        raise FoldError(f"{count} zones cannot make {settings.k} folds; lower zones.k (and zones.folds) or {more}")
    return count


def _splitter(labels: np.ndarray, settings: ZoneSettings, repeat: int) -> GroupKFold | StratifiedGroupKFold:
    seed = settings.seed + repeat
    if settings.assignment == "stratified":
        largest = int(np.unique(labels.astype(str), return_counts=True)[1].max())
        if largest < settings.k:
            raise FoldError(
                f"the largest class has {largest} patches, too few to be in each of {settings.k} folds; "
                "lower zones.k (and zones.folds) or set zones.assignment: group"
            )
        return StratifiedGroupKFold(settings.k, shuffle=True, random_state=seed)
    if repeat and settings.kind in ("scene", "label", "polygons"):
        return GroupKFold(settings.k, shuffle=True, random_state=seed)
    return GroupKFold(settings.k)


def _balanced(zones: np.ndarray, labels: np.ndarray, settings: ZoneSettings, repeat: int) -> np.ndarray:
    """The best of ``tries`` random assignments, each of which gives every fold as many zones, to one.

    The score, lower is better, is chi-squared: the sum over folds, over the classes and all patches together,
    of (patches in the fold - even part) squared, divided by the even part, which is the class's patches / k.
    Equal scores: the earlier try.
    """
    number = np.unique(zones.astype(str), return_inverse=True)[1]
    kind = np.unique(labels.astype(str), return_inverse=True)[1]
    counts = np.zeros((number.max() + 1, kind.max() + 2))
    np.add.at(counts, (number, kind), 1)
    counts[:, -1] = counts.sum(axis=1)
    even = counts.sum(axis=0) / settings.k
    generator = np.random.default_rng((settings.seed, repeat))
    best, least = np.zeros(len(counts), dtype=np.int64), np.inf
    for start in range(0, settings.tries, _BATCH):
        size = min(_BATCH, settings.tries - start)
        tries = generator.permuted(np.tile(np.arange(len(counts)) % settings.k, (size, 1)), axis=1)
        scores = sum((((tries == fold) @ counts - even) ** 2 / even).sum(axis=1) for fold in range(settings.k))
        winner = int(np.argmin(scores))
        if scores[winner] < least:
            best, least = tries[winner], scores[winner]
    return best[number]
