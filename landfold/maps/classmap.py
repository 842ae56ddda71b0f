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

NODATA = -1
"""Place of a cell without a class; places of classes count from 0 in the order of their numbers."""

_TAG = "CLASS_"


class ClassMapError(LandfoldError):
    """A raster that is no class map, or one whose areas cannot be told."""


@dataclass(frozen=True)
class ClassMap:
    """An open class raster: whole numbers from 1, 0 where there is no data, names in the tags CLASS_1, ... of band 1.

    ``numbers`` and ``names`` are of all classes that have a name, in the order of the numbers. The CRS is a
    projected one in metres, unless it was opened without regard to areas.
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
        """Windows, by default all, with the place of each cell's class in ``names``, or NODATA: (y, x) int64.

        Raises:
            ClassMapError: for a number without a name.
        """
        for window in self.grid.blocks() if windows is None else windows:
            values = self.dataset.read(1, window=window)
            void = (self.dataset.read_masks(1, window=window) == 0) | (values == 0)
            places = np.searchsorted(self.numbers, values).clip(max=len(self.numbers) - 1)
            unnamed = ~void & (self.numbers[places] != values)
            if unnamed.any():
                raise ClassMapError(
                    f"{self.path}: no name for class {first_ten(np.unique(values[unnamed]).tolist())}; there are names "
                    f"for {first_ten(self.numbers.tolist())}: add the tag {_TAG}{values[unnamed][0]}"
                )
            yield window, np.where(void, NODATA, places)

    def at(self, x: np.ndarray, y: np.ndarray) -> "Survey":
        """Count the cells of each class, and look up the cells in which points lie.

        ``x`` and ``y`` are in the map's CRS; a point on the border of two cells is in the right or lower one.
        """
        finite = np.isfinite(x) & np.isfinite(y)  # a point outside the CRS's own area has no place in it
        columns, rows = np.full((2, len(x)), -1.0)
        if finite.any():
            columns[finite], rows[finite] = np.floor(~self.grid.transform @ (x[finite], y[finite]))
        inside = (columns >= 0) & (columns < self.grid.width) & (rows >= 0) & (rows < self.grid.height)
        found = np.full(len(x), NODATA)
        cells = np.zeros(len(self.names), dtype=np.int64)
        digest = hashlib.sha256(repr((self.grid.shape, tuple(self.grid.transform), self.names)).encode())
        for window, places in self.scan():
            cells += np.bincount(places[places != NODATA], minlength=len(cells))
            digest.update(places.astype("<i4").tobytes())
            row, column = rows - window.row_off, columns - window.col_off
            here = inside & (row >= 0) & (row < window.height) & (column >= 0) & (column < window.width)
            found[here] = places[row[here].astype(int), column[here].astype(int)]
        return Survey(cells, found, inside, digest.hexdigest()[:16])


@dataclass(frozen=True)
class Survey:
    """What one pass over a class map found.

    ``cells`` (class) counts cells; ``places`` (point) is the class under each point, or NODATA; ``inside`` (point)
    whether it lies on the raster at all; ``digest`` tells this map from others: it is of the cells, not of the file.
    """

    cells: np.ndarray
    places: np.ndarray
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
    found = {int(n): name for tag, name in tags.items() if (n := tag.removeprefix(_TAG)) != tag and n.isdecimal()}
    names = {number: found[number] for number in sorted(found) if number > 0}
    if not names:
        raise ClassMapError(
            f"{path}: no names of classes; the maps of Landfold have them in the tags CLASS_1, CLASS_2, ... of band 1; "
            f"for another map: rio edit-info --tag CLASS_1=NAME --tag CLASS_2=NAME {path}"
        )
    twice = [name for name in names.values() if list(names.values()).count(name) > 1]
    if twice:
        raise ClassMapError(f"{path}: several classes are named '{twice[0]}'; name or number them as one class")
    return names
