"""Connected regions of a class raster, from runs of equal cells, and the smallest mapping unit among them.

Cells are neighbours by their sides (4-connectivity): regions that touch at a corner are two, so that each is a valid
polygon. What is held grows with the runs, not with the cells.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

NOTHING = -1
"""The region of cells without a class."""


@dataclass(frozen=True)
class Runs:
    """A class raster as runs: cells side by side in one row that have one number. They cover the raster.

    ``starts`` (run) int64 is the place of a run's first cell, counted along the rows; ``numbers`` (run) its class, 0
    for no data.
    """

    height: int
    width: int
    starts: np.ndarray
    numbers: np.ndarray

    @classmethod
    def of(cls, strips: Iterable[np.ndarray], width: int) -> "Runs":
        """The runs of a raster that comes in strips of whole rows, (y, x) whole numbers each."""
        starts, numbers, place = [np.empty(0, np.int64)], [], 0
        for strip in strips:
            first = np.ones(strip.shape, dtype=bool)
            first[:, 1:] = strip[:, 1:] != strip[:, :-1]
            starts.append(np.flatnonzero(first) + place)
            numbers.append(strip[first])
            place += strip.size
        return cls(place // width, width, np.concatenate(starts), np.concatenate(numbers))

    @property
    def lengths(self) -> np.ndarray:
        """Cells of each run."""
        return np.diff(self.starts, append=self.height * self.width)

    def of_rows(self, first: int, last: int) -> slice:
        """The runs in the rows from ``first`` to before ``last``."""
        return slice(*np.searchsorted(self.starts, [first * self.width, last * self.width]))

    def side_by_side(self) -> tuple[np.ndarray, np.ndarray]:
        """All pairs of runs that follow each other in a row: left and right, (pair) int64 each."""
        right = np.flatnonzero(self.starts % self.width)
        return right - 1, right

    def one_above_other(self) -> tuple[np.ndarray, np.ndarray]:
        """All pairs of runs in successive rows that share a column: upper and lower, (pair) int64 each."""
        # Two runs first meet where one of them begins: the lower one, or the upper one, seen a row further down.
        upper_begins = self.starts[self.starts < (self.height - 1) * self.width] + self.width
        meet = _sorted_once(np.concatenate([self.starts[self.starts >= self.width], upper_begins]))
        return tuple(np.searchsorted(self.starts, place, side="right") - 1 for place in (meet - self.width, meet))


@dataclass(frozen=True)
class Regions:
    """Connected regions of one class.

    ``of_run`` (run) int32 is the region of each run, or NOTHING; ``numbers`` (region) the class of each and ``cells``
    (region) int64 its size.
    """

    of_run: np.ndarray
    numbers: np.ndarray
    cells: np.ndarray


def find_regions(runs: Runs, least_cells: int = 1) -> Regions:
    """The regions of a class raster after those of fewer than ``least_cells`` cells are merged into others.

    The smallest first, those of equal size at once, each into its largest neighbour; where regions of one class come
    to touch they are one. Of neighbours of equal size the first in the raster counts as the larger; a chain of regions
    of equal size takes the class of the largest in it. A region without neighbours, for it is alone amid no data,
    stays.
    """
    upper, lower = runs.one_above_other()
    equal = runs.numbers[upper] == runs.numbers[lower]
    region = _join(len(runs.starts), upper[equal], lower[equal])
    numbers, cells = runs.numbers[_firsts(region)], np.bincount(region, weights=runs.lengths).astype(np.int64)
    if least_cells > 1:
        left, right = runs.side_by_side()
        pairs = region[np.concatenate([upper[~equal], left])], region[np.concatenate([lower[~equal], right])]
        joined, numbers, cells = _merge(numbers, cells, pairs, least_cells)
        region = joined[region]
    named = numbers > 0
    return Regions(
        np.where(named, np.cumsum(named) - 1, NOTHING).astype(np.int32)[region], numbers[named], cells[named]
    )


def _merge(
    numbers: np.ndarray, cells: np.ndarray, pairs: tuple[np.ndarray, np.ndarray], least_cells: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Merge regions; what each becomes part of, and the numbers and cells of those that are left."""
    joined = np.arange(len(numbers))
    pairs = _distinct(*pairs, numbers)
    while True:
        one, other = np.concatenate(pairs), np.concatenate(pairs[::-1])
        small = cells[one] < least_cells
        if not small.any():
            return joined, numbers, cells
        moves = cells[one] == cells[one[small]].min()
        one, other = one[moves], other[moves]
        order = cells * len(cells) + np.arange(len(cells))[::-1]  # by size, the first in the raster before its equals
        largest = np.zeros(len(cells), dtype=np.int64)
        np.maximum.at(largest, one, order[other])
        movers = np.flatnonzero(largest)
        chain = _join(len(cells), movers, len(cells) - 1 - largest[movers] % len(cells))
        winner = np.zeros(chain.max() + 1, dtype=np.int64)
        np.maximum.at(winner, chain, order)
        numbers = numbers[(len(cells) - 1 - winner % len(cells))[chain]]
        # The chains, and regions that have come to be of one class, are one from now on.
        equal = numbers[pairs[0]] == numbers[pairs[1]]
        part = _join(len(cells), pairs[0][equal], pairs[1][equal])
        numbers, cells = numbers[_firsts(part)], np.bincount(part, weights=cells).astype(np.int64)
        joined = part[joined]
        pairs = _distinct(part[pairs[0][~equal]], part[pairs[1][~equal]], numbers)


def _distinct(one: np.ndarray, other: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each pair of two regions with a class once."""
    named = (numbers[one] > 0) & (numbers[other] > 0)
    low, high = np.minimum(one, other)[named].astype(np.int64), np.maximum(one, other)[named]
    return np.divmod(_sorted_once(low * len(numbers) + high), len(numbers))


def _sorted_once(values: np.ndarray) -> np.ndarray:
    """As numpy.unique, whose hashing takes five times as long on millions of different numbers."""
    values = np.sort(values, kind="stable")
    return values[np.diff(values, prepend=-1) > 0]


def _join(count: int, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The group of each of ``count`` things when those of each pair are in one; numbered as they first come."""
    links = coo_array((np.ones(len(one), dtype=bool), (one, other)), shape=(count, count))
    _, group = connected_components(links, directed=False)
    return group


def _firsts(group: np.ndarray) -> np.ndarray:
    """The first thing of each group, of groups numbered as they first come."""
    return np.flatnonzero(np.diff(np.maximum.accumulate(group), prepend=-1))
