"""The proof that folds keep their promises, by another way than the one by which they were made."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import geopandas
import numpy as np
import pandas
import shapely
from scipy.spatial import KDTree

from landfold.core.digests import digest
from landfold.folds.lists import KINDS, FoldIndex, column, read_assignment, read_index
from landfold.folds.settings import ZoneSettings
from landfold.folds.split import ROLES, TEST, FoldError, Split, overlaps


def check_folds(folder: Path, patches: geopandas.GeoDataFrame, settings: ZoneSettings, test: np.ndarray) -> None:
    """Prove on the written files, read back, what the folds promise.

    Args:
        folder: data/folds/kK.
        patches: data/patches.parquet.
        settings: section ``zones``.
        test: (patch,) bool, those in the test region.

    Raises:
        FoldError: other patches or roles than there should be; what `check_splits` refuses; random folds that
            do not validate every patch once or have more training than the spatial ones; a digest that is not that
            of its file.
    """
    index = read_index(folder)
    assigned = read_assignment(folder)
    _require(index.folds == settings.folds and index.k == settings.k, f"{index.path}: folds {index.folds}")
    _require(list(assigned["patch"]) == list(patches["patch"]), "patches.parquet lists other patches")
    footprints = patches.geometry.to_numpy()
    for repeat in range(settings.repeats):
        zone, own = (assigned[column(name, repeat)].to_numpy() for name in ("zone", "fold"))
        _require(((own == TEST) == test).all(), "patches.parquet: its test patches are not those of the region")
        numbers = range(settings.k * repeat, settings.k * (repeat + 1))
        spatial, random = ([_read(index, kind, fold, assigned["patch"], zone) for fold in numbers] for kind in KINDS)
        check_splits(spatial, zone, own, footprints, settings.buffer_m, first=settings.k * repeat)
        for fold, one, other in zip(numbers, spatial, random, strict=True):
            in_test = other.roles == "test"
            _require((in_test == test).all(), f"random_{fold}.parquet: its test patches are not those of the region")
            size = int(other.train.sum())
            _require(0 < size <= one.train.sum(), f"random_{fold}.parquet trains on {size} patches")
        _check_once(random, own, "random")


def check_splits(
    splits: Sequence[Split],
    zones: np.ndarray,
    folds: np.ndarray,
    footprints: np.ndarray,
    buffer_m: float,
    *,
    first: int = 0,
) -> None:
    """Prove that the spatial folds of one repeat keep training and held-out patches apart.

    Distances are taken anew, between footprints whose circles around their bounds come near, and not from
    the index of bounds that has made the splits.

    Args:
        splits: the folds.
        zones: (patch,) name of the zone of each patch.
        folds: (patch,) number of the fold that validates it, or TEST.
        footprints: (patch,) geometries in a metric CRS.
        buffer_m: width of the buffer, metres.
        first: number of the first fold.

    Raises:
        FoldError: a zone in two folds, or both trained on and validated; a patch not validated exactly once or by
            another fold than its own, or test patches in a fold; training that shares ground with validation or
            test patches or is within the buffer.
    """
    test = folds == TEST
    folds_of_zone = pandas.Series(folds).where(~test).groupby(zones).nunique()
    _require(folds_of_zone.max() <= 1, f"zone {folds_of_zone.idxmax()} is in {folds_of_zone.max()} folds")
    for fold, split in enumerate(splits, first):
        roles = np.stack([split.train, split.validation, split.buffer]).sum(axis=0)
        _require((roles <= 1).all(), f"fold {fold}: {int((roles > 1).sum())} patches have two roles")
        _require(((roles == 0) == test).all(), f"fold {fold}: its test patches are not those of the region")
        _require((split.validation == (folds == fold)).all(), f"fold {fold} validates the patches of another")
        shared = set(zones[split.train]) & set(zones[split.validation])
        _require(not shared, f"fold {fold} trains on and validates zone {min(shared, default='')}")
        close = _close_pairs(footprints[split.train], footprints[split.validation | test], buffer_m)
        _require(
            close == 0,
            f"fold {fold}: {close} pairs of training and held-out footprints share ground or lie within "
            f"zones.buffer_m = {buffer_m:g} m",
        )
    _check_once(splits, folds, "fold")


def _read(index: FoldIndex, kind: str, fold: int, patches: pandas.Series, zones: np.ndarray) -> Split:
    """A list as it lies on disk."""
    path = index.list_of(kind, fold)
    _require(index.digest_of(kind, fold) == digest(path), f"{path.name} has another digest than index.json")
    table = pandas.read_parquet(path)
    _require(list(table["patch"]) == list(patches), f"{path.name} lists other patches")
    _require((table["zone"] == zones).all(), f"{path.name} has other zones")
    strange = int((~table["side"].isin(ROLES)).sum())
    _require(strange == 0, f"{path.name}: {strange} patches have no role")
    return Split.of_roles(table["side"].to_numpy(str))


def _check_once(splits: Sequence[Split], folds: np.ndarray, kind: str) -> None:
    times = np.sum([split.validation for split in splits], axis=0)
    wrong = int((times != (folds != TEST)).sum())
    _require(wrong == 0, f"{kind} lists: {wrong} patches are not validated exactly once")


def _close_pairs(train: np.ndarray, held_out: np.ndarray, buffer_m: float) -> int:
    """Pairs of footprints that share ground or, of a buffer above 0, are at most that far apart."""
    close = 0
    for ours, centres, radius in _by_size(train):
        for theirs, other_centres, other_radius in _by_size(held_out):
            reach = (radius + other_radius + buffer_m) * (1 + 1e-9)
            near = KDTree(centres).sparse_distance_matrix(KDTree(other_centres), reach, output_type="ndarray")
            first, second = ours[near["i"]], theirs[near["j"]]
            pairs = shapely.distance(first, second) <= buffer_m if buffer_m > 0 else overlaps(first, second)
            close += int(pairs.sum())
    return close


def _by_size(footprints: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
    """Footprints of like size with the centres of their bounds, (footprint, 2), and a radius that holds each of them.

    Taken together, one large footprint would bring every pair near.
    """
    bounds = shapely.bounds(footprints).reshape(-1, 2, 2)
    centres, radius = bounds.mean(axis=1), np.hypot(*(bounds[:, 1] - bounds[:, 0]).T) / 2
    size = np.frexp(radius)[1]  # the power of two above it; 0 for a point
    for number in np.unique(size):
        alike = size == number
        yield footprints[alike], centres[alike], float(radius[alike].max())


def _require(kept: bool, broken: str) -> None:
    if not kept:
        raise FoldError(f"{broken}; this is a fault of Landfold")
