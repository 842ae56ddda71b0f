"""Connected regions of a class raster, from runs of equal cells, and the smallest mapping unit among them.

Cells are neighbours by their sides (4-connectivity): regions that touch at a corner are two, so that each is a valid
polygon. What is held grows with the runs, not with the cells.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from landfold.maps.classmap import NO_CLASS


@dataclass(frozen=True)
class Runs:
    """A class raster as runs: cells side by side in one row that have one number. They cover the raster.

    Attributes:
        height: rows of the raster.
        width: columns of the raster.
        starts: (run,) the position of a run's first cell, counted along the rows; int32 where that is enough.
        numbers: (run,) the class of its cells, or NO_CLASS.
    """

    height: int
    width: int
    starts: np.ndarray
    numbers: np.ndarray

    @classmethod
    def of(cls, strips: Iterable[np.ndarray], height: int, width: int) -> "Runs":
        """The runs of a raster that comes in strips of whole rows, (y, x) whole numbers each."""
        starts, numbers, position = [], [], 0
        whole = np.int32 if height * width <= np.iinfo(np.int32).max else np.int64
        for strip in strips:
            first = np.ones(strip.shape, dtype=bool)
            first[:, 1:] = strip[:, 1:] != strip[:, :-1]
            starts.append((np.flatnonzero(first) + position).astype(whole))
            numbers.append(strip[first])
            position += strip.size
        return cls(height, width, np.concatenate(starts), np.concatenate(numbers))

    @property
    def lengths(self) -> np.ndarray:
        """Cells of each run."""
        return np.diff(self.starts, append=self.height * self.width)

    def of_rows(self, first: int, last: int) -> slice:
        """The runs in the rows from ``first`` to before ``last``."""
        return slice(*np.searchsorted(self.starts, [first * self.width, last * self.width]))

    def side_by_side(self) -> tuple[np.ndarray, np.ndarray]:
        """All pairs of runs that follow each other in a row: left and right, (pair) each."""
        right = np.flatnonzero(self.starts % self.width).astype(self.starts.dtype)
        return right - 1, right

    def one_above_other(self) -> tuple[np.ndarray, np.ndarray]:
        """All pairs of runs in successive rows that share a column: upper and lower, (pair) each."""
        # Two runs first meet where one of them begins: the lower one, or the upper one, seen a row further down.
        upper_begins = self.starts[self.starts < (self.height - 1) * self.width] + self.width
        meet = _sorted_unique(np.concatenate([self.starts[self.starts >= self.width], upper_begins]))
        return self._at(meet - self.width), self._at(meet)

    def _at(self, cells: np.ndarray) -> np.ndarray:
        """The run of each cell, cells by their position."""
        return (np.searchsorted(self.starts, cells, side="right") - 1).astype(self.starts.dtype)


@dataclass(frozen=True)
class Regions:
    """Connected regions of one class, counted from 1.

    Attributes:
        of_run: (run,) int32, the region of each run, or NO_CLASS.
        numbers: (region,) the class of each.
        cells: (region,) int64, its size.
    """

    of_run: np.ndarray
    numbers: np.ndarray
    cells: np.ndarray


def find_regions(runs: Runs, least_cells: int = 1) -> Regions:
    """The regions of a class raster after those of fewer than ``least_cells`` cells are merged into others.

    The smallest are merged first, those of equal size at once, each into its largest neighbour; regions of one class
    that come to touch are one. Of neighbours of equal size the first in the raster counts as the larger; a chain of
    regions of equal size takes the class of the largest in it. A region without neighbours, surrounded by no data,
    stays.
    """
    upper, lower = runs.one_above_other()
    equal = runs.numbers[upper] == runs.numbers[lower]
    region = _connected(len(runs.starts), upper[equal], lower[equal])
    numbers, cells = runs.numbers[_first_members(region)], np.bincount(region, weights=runs.lengths).astype(np.int64)
    if least_cells > 1:
        beside = zip((upper[~equal], lower[~equal]), runs.side_by_side(), strict=True)
        pairs = _distinct(*(region[np.concatenate(sides)] for sides in beside), numbers)
        del upper, lower, equal
        merged_into, numbers, cells = _merge(numbers, cells, pairs, least_cells)
        region = merged_into[region]
    named = numbers != NO_CLASS
    return Regions(np.where(named, np.cumsum(named), NO_CLASS).astype(np.int32)[region], numbers[named], cells[named])


def _merge(
    numbers: np.ndarray, cells: np.ndarray, pairs: tuple[np.ndarray, np.ndarray], least_cells: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Merge small regions into their neighbours; ``pairs`` are all of neighbours, each once.

    Returns:
        For each region which of the remaining ones it is part of; numbers and cells of the remaining ones.
    """
    merged_into = np.arange(len(numbers))
    while True:
        one, other = np.concatenate(pairs), np.concatenate(pairs[::-1])
        small = cells[one] < least_cells
        if not small.any():
            return merged_into, numbers, cells
        smallest = cells[one] == cells[one[small]].min()
        one, other = one[smallest], other[smallest]
        rank = cells * len(cells) + np.arange(len(cells))[::-1]  # by size, the first in the raster before its equals
        largest = np.zeros(len(cells), dtype=np.int64)
        np.maximum.at(largest, one, rank[other])
        moving = np.flatnonzero(largest)
        chain = _connected(len(cells), moving, len(cells) - 1 - largest[moving] % len(cells))
        largest_in_chain = np.zeros(chain.max() + 1, dtype=np.int64)
        np.maximum.at(largest_in_chain, chain, rank)
        numbers = numbers[(len(cells) - 1 - largest_in_chain % len(cells))[chain]]
        # The chains, and regions that have come to be of one class, are one from now on.
        equal = numbers[pairs[0]] == numbers[pairs[1]]
        part = _connected(len(cells), pairs[0][equal], pairs[1][equal])
        numbers, cells = numbers[_first_members(part)], np.bincount(part, weights=cells).astype(np.int64)
        merged_into = part[merged_into]
        pairs = _distinct(part[pairs[0][~equal]], part[pairs[1][~equal]], numbers)


def _distinct(one: np.ndarray, other: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each pair of two regions with a class once."""
    named = (numbers[one] != NO_CLASS) & (numbers[other] != NO_CLASS)
    low, high = np.minimum(one, other)[named].astype(np.int64), np.maximum(one, other)[named]
    low *= len(numbers)
    low += high
    low, high = np.divmod(_sorted_unique(low), len(numbers))
    return low.astype(one.dtype), high.astype(one.dtype)


def _sorted_unique(values: np.ndarray) -> np.ndarray:
    """The result of numpy.unique, whose hashing takes five times as long on millions of numbers; sorts in place."""
    values.sort(kind="stable")
    first = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=first[1:])
    return values[first]


def _connected(count: int, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The connected component of each of ``count`` nodes, numbered by first occurrence; ``one``, ``other``: edges."""
    links = coo_array((np.ones(len(one), dtype=bool), (one, other)), shape=(count, count))
    _, component = connected_components(links, directed=False)
    return component


def _first_members(component: np.ndarray) -> np.ndarray:
    """The first node of each component, of components numbered by first occurrence."""
    return np.flatnonzero(np.diff(np.maximum.accumulate(component), prepend=-1))
