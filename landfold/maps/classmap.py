"""A class raster as the export stage writes it, read by windows: how much ground each class has, and where."""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.crs import CRS
from rasterio.windows import Window

from landfold.core.errors import LandfoldError, first_ten
from landfold.geo.crs import describe_crs, is_metric, is_true_to_scale
from landfold.geo.dataset import open_dataset
from landfold.geo.grid import Grid

NO_CLASS = 0
"""In a class raster: a cell without a class, and in `ClassMap.scan` and `Regions` too; classes count from 1."""

_TAG = "CLASS_"


class ClassMapError(LandfoldError):
    """A raster that is no class map, or one whose areas cannot be computed."""


@dataclass(frozen=True)
class ClassMap:
    """An open class raster: whole numbers from 1, 0 where there is no data, names in the tags CLASS_1, ... of band 1.

    ``numbers`` and ``names`` are those of all classes that have a name, in the order of the numbers. The rank of a
    class is its place among them, from 1. The CRS is projected and in metres, unless opened without ``for_areas``.
    """

    path: Path
    dataset: Any
    grid: Grid
    numbers: np.ndarray
    names: list[str]

    @classmethod
    @contextmanager
    def open(cls, path: Path, *, for_areas: bool = True) -> Iterator["ClassMap"]:
        """Open a class map; without ``for_areas`` in any CRS.

        Raises:
            RasterError: if it cannot be read.
            GridError: without a CRS or a transform.
            ClassMapError: if it is no class map, has no names, or areas cannot be computed in its CRS.
        """
        with open_dataset(path) as dataset:
            if dataset.count != 1 or not np.issubdtype(np.dtype(dataset.dtypes[0]), np.integer):
                raise ClassMapError(
                    f"{path}: {dataset.count} band(s) of {dataset.dtypes[0]}; expected a class map, one band of whole "
                    "numbers, such as data/maps/SCENE_class.tif"
                )
            grid = Grid.of(dataset)
            if for_areas:
                _check_areas(path, grid.crs)
            named = _names(path, dataset.tags() | dataset.tags(1))
            yield cls(path, dataset, grid, np.array(list(named)), list(named.values()))

    @property
    def cell_m2(self) -> float:
        """Ground of one cell in m2."""
        return abs(self.grid.transform.determinant)

    def scan(self, windows: Iterable[Window] | None = None) -> Iterator[tuple[Window, np.ndarray]]:
        """Windows, by default all, with the rank of each cell's class, or NO_CLASS: (y, x) int64.

        Raises:
            ClassMapError: for a number without a name.
        """
        for window in self.grid.blocks() if windows is None else windows:
            values = self.dataset.read(1, window=window)
            empty = (self.dataset.read_masks(1, window=window) == 0) | (values == NO_CLASS)
            places = np.searchsorted(self.numbers, values).clip(max=len(self.numbers) - 1)
            unnamed = ~empty & (self.numbers[places] != values)
            if unnamed.any():
                raise ClassMapError(
                    f"{self.path}: no name for class {first_ten(np.unique(values[unnamed]).tolist())}; there are names "
                    f"for {first_ten(self.numbers.tolist())}: add the tag {_TAG}{values[unnamed][0]}"
                )
            yield window, np.where(empty, NO_CLASS, places + 1)

    def look_up(self, x: np.ndarray | None = None, y: np.ndarray | None = None) -> "MapLookup":
        """Count the cells of each class, and look up the classes at points, in one pass over the map.

        Args:
            x: (point,) in the map's CRS; a point on the border of two cells is in the right or lower one.
            y: (point,).
        """
        x, y = (np.empty(0) if values is None else values for values in (x, y))
        finite = np.isfinite(x) & np.isfinite(y)  # outside of the CRS's area of use
        columns, rows = np.full((2, len(x)), -1.0)
        if finite.any():
            columns[finite], rows[finite] = np.floor(~self.grid.transform @ (x[finite], y[finite]))
        inside = (columns >= 0) & (columns < self.grid.width) & (rows >= 0) & (rows < self.grid.height)
        classes = np.full(len(x), NO_CLASS)
        cells = np.zeros(len(self.names), dtype=np.int64)
        digest = hashlib.sha256(repr((self.grid.shape, tuple(self.grid.transform), self.names)).encode())
        for window, ranks in self.scan():
            cells += np.bincount(ranks.ravel(), minlength=len(cells) + 1)[1:]
            digest.update((ranks - 1).astype("<i4").tobytes())  # from 0, as in samples that were drawn earlier
            row, column = rows - window.row_off, columns - window.col_off
            here = inside & (row >= 0) & (row < window.height) & (column >= 0) & (column < window.width)
            classes[here] = ranks[row[here].astype(int), column[here].astype(int)]
        return MapLookup(cells, classes, inside, digest.hexdigest()[:16])


@dataclass(frozen=True)
class MapLookup:
    """The result of one pass over a class map.

    Attributes:
        cells: (class,) int64, the number of cells of each class.
        classes: (point,) rank of the class at each point, or NO_CLASS.
        inside: (point,) bool, whether it lies on the raster at all.
        digest: identifies the map by its cells, grid and names, not by the file.
    """

    cells: np.ndarray
    classes: np.ndarray
    inside: np.ndarray
    digest: str


def _check_areas(path: Path, crs: CRS) -> None:
    if is_true_to_scale(crs):
        return
    kind = "geographic" if crs.is_geographic else f"in units of {crs.linear_units}"
    if is_metric(crs):
        kind = "Mercator, which is not true to areas"
    raise ClassMapError(
        f"{path}: the CRS, {describe_crs(crs)}, is {kind}; areas need a projected one in metres: make the map on a "
        "scene in UTM or an equal-area CRS (ingest.crs_policy: reproject); warping a finished map changes its areas"
    )


def _names(path: Path, tags: dict[str, str]) -> dict[int, str]:
    """Number to name, sorted by number."""
    tagged = {int(n): name for tag, name in tags.items() if (n := tag.removeprefix(_TAG)) != tag and n.isdecimal()}
    names = {number: tagged[number] for number in sorted(tagged) if number > NO_CLASS}
    if not names:
        raise ClassMapError(
            f"{path}: no names of classes; the maps of Landfold have them in the tags CLASS_1, CLASS_2, ... of band 1; "
            f"for another map: rio edit-info --tag CLASS_1=NAME --tag CLASS_2=NAME {path}"
        )
    twice = [name for name in names.values() if list(names.values()).count(name) > 1]
    if twice:
        raise ClassMapError(f"{path}: several classes are named '{twice[0]}'; name or number them as one class")
    return names
