"""One fold: the patches that it trains on, those that it validates on, and the buffer that keeps them apart."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely

from landfold.core.errors import LandfoldError

SHARED_AREA_TOLERANCE = 1e-9
"""Of a footprint's area: rounding of corners, ten orders below one pixel of a 32 x 32 px patch."""

TEST = -1
"""The fold of patches in the test region, in every repeat."""

_AT_ONCE = 10_000
"""Footprints that are compared at a time: a wide buffer brings each near to thousands of others."""

ROLES = ("train", "validation", "buffer", "test")
"""What a patch does in one fold. A patch in the buffer is not used: it is too close to a held-out one."""


class FoldError(LandfoldError):
    """Folds that cannot be made, or that break a promise."""


@dataclass(frozen=True)
class Split:
    """One fold as masks over the patches, (patch,) bool each; patches in none of them are in the test region."""

    train: np.ndarray
    validation: np.ndarray
    buffer: np.ndarray

    @classmethod
    def of_roles(cls, roles: np.ndarray) -> "Split":
        """The fold in which every patch has the given role, (patch,) text."""
        return cls(*(roles == role for role in ROLES[:3]))

    @property
    def roles(self) -> np.ndarray:
        """The role of every patch, (patch,) text: one of ROLES."""
        return np.select([self.train, self.validation, self.buffer], ROLES[:3], ROLES[3])


def split_fold(footprints: np.ndarray, folds: np.ndarray, fold: int, buffer_m: float) -> Split:
    """Train, validation and buffer of one fold; patches of fold TEST are in none of them.

    A training patch is dropped into the buffer when its footprint shares ground with a validation or test
    footprint (see `overlaps`) or, for ``buffer_m`` above 0, lies at most ``buffer_m`` from one, edge to edge.

    Args:
        footprints: (patch,) geometries in a metric CRS.
        folds: (patch,) int, the fold that validates each patch, or TEST.
        fold: number of the fold.
        buffer_m: width of the buffer, metres.

    Raises:
        FoldError: if the buffer leaves no training patch.
    """
    validation, test = folds == fold, folds == TEST
    buffer = np.zeros(len(folds), dtype=bool)
    others = np.flatnonzero(~validation & ~test)
    buffer[others] = _too_close(footprints[others], footprints[validation | test], buffer_m)
    train = ~validation & ~test & ~buffer
    if not train.any():
        raise FoldError(
            f"fold {fold}: all {len(others)} training patches lie within zones.buffer_m = {buffer_m:g} m of a "
            f"validation {'or test ' if test.any() else ''}patch; lower it or zones.k, or raise zones.block_size_m"
        )
    return Split(train, validation, buffer)


def _too_close(footprints: np.ndarray, held_out: np.ndarray, buffer_m: float) -> np.ndarray:
    """Which footprints must not be trained on beside those held out, (footprint,) bool."""
    tree, close = shapely.STRtree(held_out), np.zeros(len(footprints), dtype=bool)
    for start in range(0, len(footprints), _AT_ONCE):
        part = footprints[start : start + _AT_ONCE]
        if buffer_m > 0:
            near, _ = tree.query(part, predicate="dwithin", distance=buffer_m)
        else:
            near, other = tree.query(part, predicate="intersects")
            near = near[overlaps(part[near], held_out[other])]
        close[start + near] = True
    return close


def overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Whether the footprints of each pair share ground, (pair,) bool.

    Two areas share ground if they have an area in common, and not a border alone. Where one is a point or a line,
    which have no area, any contact counts: two samples at one point share it.
    """
    least = np.minimum(shapely.area(first), shapely.area(second))
    shared = shapely.area(shapely.intersection(first, second)) > SHARED_AREA_TOLERANCE * least
    flat = least == 0
    shared[flat] = shapely.intersects(first[flat], second[flat])
    return shared


def random_assignment(labels: np.ndarray, test: np.ndarray, k: int, *, seed: Sequence[int]) -> np.ndarray:
    """Patches to ``k`` folds at random, whatever their zones, (patch,) int64, TEST in the test region.

    The sizes of the folds differ by one at most, and so do those of each class in them.
    """
    folds = np.full(len(labels), TEST, dtype=np.int64)
    others = np.flatnonzero(~test)
    shuffled = np.random.default_rng(seed).permutation(others)
    by_class = shuffled[np.argsort(labels[shuffled].astype(str), kind="stable")]
    folds[by_class] = np.arange(len(others)) % k
    return folds


def random_split(folds: np.ndarray, fold: int, train: int, *, seed: Sequence[int]) -> Split:
    """A fold of `random_assignment` with ``train`` training patches drawn at random from the others, or all of them.

    The rest is in ``buffer``, so that a spatial fold is compared with training of its own size.
    """
    validation = folds == fold
    others = np.flatnonzero(~validation & (folds != TEST))
    chosen = np.random.default_rng(seed).permutation(others)[:train]
    drawn = np.zeros(len(folds), dtype=bool)
    drawn[chosen] = True
    return Split(drawn, validation, ~validation & (folds != TEST) & ~drawn)


def random_splits(
    labels: np.ndarray, test: np.ndarray, splits: Sequence[Split], *, seed: Sequence[int], first: int = 0
) -> list[Split]:
    """Random folds with as much training as each of some spatial folds, stratified by class.

    Args:
        labels: (patch,) names of classes.
        test: (patch,) bool, those in the test region.
        splits: the spatial folds.
        seed: of the assignment; of each split with its number.
        first: number of the first fold.
    """
    folds = random_assignment(labels, test, len(splits), seed=seed)
    sizes = [int(split.train.sum()) for split in splits]
    return [random_split(folds, i, size, seed=(*seed, first + i)) for i, size in enumerate(sizes)]
