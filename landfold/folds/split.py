"""The sides of one fold: which patches it trains on, which it validates on, and which lie in the buffer between."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely

from landfold.core.errors import LandfoldError

SHARED_AREA_TOLERANCE = 1e-9
"""Of a footprint's area: rounding of corners, ten orders below one pixel of a 32 x 32 px patch."""

TEST = -1
"""The fold of patches in the test region, in every repeat."""

SIDES = ("train", "validation", "buffer", "test")


class FoldError(LandfoldError):
    """Folds that cannot be made, or that break a promise."""


@dataclass(frozen=True)
class Split:
    """One fold as boolean masks over the patches; those in none of the three are in the test region."""

    train: np.ndarray
    validation: np.ndarray
    buffer: np.ndarray

    @property
    def sides(self) -> np.ndarray:
        """The side of every patch, (patch,) text: one of SIDES."""
        return np.select([self.train, self.validation, self.buffer], SIDES[:3], SIDES[3])


def split_fold(footprints: np.ndarray, folds: np.ndarray, fold: int, buffer_m: float) -> Split:
    """Train, validation and buffer of one fold; patches of fold TEST are in none of them.

    A training patch is dropped into the buffer when its footprint shares area with a validation or test
    footprint or, for ``buffer_m`` above 0, lies at most ``buffer_m`` from one, edge to edge.

    Raises:
        FoldError: if the buffer leaves no training patch.
    """
    validation, test = folds == fold, folds == TEST
    buffer = np.zeros(len(folds), dtype=bool)
    others = np.flatnonzero(~validation & ~test)
    near, _ = _conflicts(footprints[others], footprints[validation | test], buffer_m)
    buffer[others[near]] = True
    train = ~validation & ~test & ~buffer
    if not train.any():
        raise FoldError(
            f"fold {fold}: all {len(others)} training patches lie within zones.buffer_m = {buffer_m:g} m of a "
            f"validation {'or test ' if test.any() else ''}patch; lower it or zones.k, or raise zones.block_size_m"
        )
    return Split(train, validation, buffer)


def _conflicts(first: np.ndarray, second: np.ndarray, buffer_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Index pairs of footprints too close to be on two sides of a split."""
    tree = shapely.STRtree(second)
    if buffer_m > 0:
        return tree.query(first, predicate="dwithin", distance=buffer_m)
    a, b = tree.query(first, predicate="intersects")
    overlap = share_ground(first[a], second[b])
    return a[overlap], b[overlap]


def share_ground(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Whether the footprints of each pair share area, and not a border alone."""
    return shapely.area(shapely.intersection(first, second)) > SHARED_AREA_TOLERANCE * shapely.area(first)


def deal(labels: np.ndarray, test: np.ndarray, k: int, *, seed: Sequence[int]) -> np.ndarray:
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
    """A fold of `deal` with ``train`` training patches drawn at random from the other folds, or all of them.

    The rest is in ``buffer``: not used, so that a zoned fold is compared with training of its own size.
    """
    validation = folds == fold
    others = np.flatnonzero(~validation & (folds != TEST))
    chosen = np.random.default_rng(seed).permutation(others)[:train]
    taken = np.zeros(len(folds), dtype=bool)
    taken[chosen] = True
    return Split(taken, validation, ~validation & (folds != TEST) & ~taken)
