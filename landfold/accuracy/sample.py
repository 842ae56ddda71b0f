"""A stratified random sample of the cells of a class map, for somebody to interpret."""

from collections.abc import Mapping
from pathlib import Path

import geopandas
import numpy as np
import pandas
import shapely
from rasterio.windows import Window

from landfold.accuracy.points import MAP_DIGEST, REFERENCE
from landfold.core.errors import LandfoldError, first_ten
from landfold.geo.grid import Grid
from landfold.geo.vector import write_geopackage
from landfold.maps.classmap import ClassMap

EXPECTED = 0.8
"""User's accuracy that is expected of a class unless said otherwise."""


class SampleError(LandfoldError):
    """A sample that cannot be drawn."""


def points_needed(map_path: Path, standard_error: float, expected: Mapping[str, float]) -> int:
    """`sample_size` for a map; ``expected`` is class to user's accuracy, EXPECTED for the others.

    Raises:
        SampleError: the map does not have a class.
        ClassMapError, RasterError, GridError: the map cannot be used.
    """
    with ClassMap.open(map_path) as classes:
        unknown = [name for name in expected if name not in classes.names]
        if unknown:
            raise SampleError(
                f"{map_path}: no class '{unknown[0]}' (--expect); its classes are {first_ten(classes.names)}"
            )
        cells = classes.look_up().cells
        return sample_size(cells, np.array([expected.get(name, EXPECTED) for name in classes.names]), standard_error)


def sample_size(mapped: np.ndarray, users: np.ndarray, standard_error: float) -> int:
    """Points for a standard error of the overall accuracy: Olofsson et al. 2014, equation 13, for a large map.

    Args:
        mapped: (class,) area in any unit.
        users: (class,) user's accuracy that is expected.
        standard_error: of the overall accuracy.

    Raises:
        SampleError: a number is no share.
    """
    if not 0 < standard_error < 1 or not ((users >= 0) & (users <= 1)).all():
        raise SampleError("--standard-error and --expect are shares between 0 and 1, such as 0.01 and water=0.9")
    deviations = np.sqrt(users * (1 - users))
    return int(np.ceil(((mapped / mapped.sum() * deviations).sum() / standard_error) ** 2))


def allocate(cells: np.ndarray, points: int, minimum: int) -> np.ndarray:
    """Points for each class: in proportion to its cells, but at least ``minimum``, or all cells of a smaller class.

    A class without cells gets none. The sum is ``points``.

    Raises:
        SampleError: ``points`` are too few for the minimum, or more than there are cells.
    """
    floor = np.minimum(cells, minimum)
    if not floor.sum() <= points <= cells.sum():
        raise SampleError(
            f"{points} points in {cells.sum()} cells of {(cells > 0).sum()} classes, at least {minimum} in each; "
            f"expected {floor.sum()} to {cells.sum()} points: change -n or --minimum"
        )
    allocated, above = floor.copy(), cells > 0  # above: the classes whose part is larger than the minimum
    while True:
        left = points - allocated[~above].sum()
        shares = np.where(above, left * cells / max(1, cells[above].sum()), 0.0)
        small = above & (shares < floor)
        if not small.any():
            break
        above &= ~small
    allocated[above] = np.floor(shares[above])
    rest = np.where(above, shares - np.floor(shares), -1.0)
    allocated[np.argsort(-rest, kind="stable")[: points - allocated.sum()]] += 1
    return allocated


def draw_sample(
    map_path: Path, target: Path, *, points: int, minimum: int, seed: int, with_map_class: bool = False
) -> dict[str, int]:
    """Write the centres of cells drawn at random within each class, for `landfold.accuracy.assessment.assess`.

    The layer "points" has the columns id, reference (empty, to be filled in), map_digest, and, if asked for, map_class,
    which whoever interprets the points must not see. Their order is independent of the class. The layer "cells" has the
    ground of each point's cell.

    Args:
        map_path: a class map.
        target: a new GeoPackage.
        points: number of points in all.
        minimum: least number of points in each class.
        seed: of the random numbers.
        with_map_class: whether to write map_class.

    Returns:
        Class to number of points.

    Raises:
        SampleError: the target exists, a class has a single cell, or the numbers do not fit.
        ClassMapError, RasterError, GridError: the map cannot be used.
    """
    if target.exists():
        raise SampleError(f"{target}: exists, and may hold what somebody has interpreted; choose another name")
    if target.suffix.lower() != ".gpkg":
        raise SampleError(f"{target}: samples are GeoPackages; choose a name that ends in .gpkg")
    generator = np.random.default_rng(seed)
    with ClassMap.open(map_path) as classes:
        lookup = classes.look_up()
        _check(map_path, classes.names, lookup.cells, minimum)
        allocated = allocate(lookup.cells, points, minimum)
        chosen = [
            np.sort(generator.choice(n, size=k, replace=False)) for n, k in zip(lookup.cells, allocated, strict=True)
        ]
        cells = _find_cells(classes, chosen)[generator.permutation(points)]
        names = [classes.names[rank - 1] for rank in cells[:, 2]] if with_map_class else None
        write_geopackage(target, _layers(classes.grid, cells, lookup.digest, names))
        return {name: int(k) for name, k in zip(classes.names, allocated, strict=True) if k}


def _check(path: Path, names: list[str], cells: np.ndarray, minimum: int) -> None:
    if minimum < 2:
        raise SampleError(f"--minimum {minimum}: the variance of a class needs at least 2 points in it; 50 is better")
    if not cells.any():
        raise SampleError(f"{path}: no cell has a class; nothing can be drawn")
    single = [name for name, count in zip(names, cells, strict=True) if count == 1]
    if single:
        raise SampleError(
            f"{path}: a single cell of class {first_ten(single)}; no variance can be estimated there: merge the class "
            "with another in the map"
        )


def _find_cells(classes: ClassMap, chosen: list[np.ndarray]) -> np.ndarray:
    """Row, column and rank of the class of each chosen cell, (point, 3) int64.

    ``chosen`` has for each class which of its cells, counted in the order of the scan from 0, in rising order.
    """
    seen, parts = np.zeros(len(chosen), dtype=np.int64), []
    for window, ranks in classes.scan():
        following = seen + np.bincount(ranks.ravel(), minlength=len(chosen) + 1)[1:]
        for i, wanted in enumerate(chosen):
            here = wanted[(wanted >= seen[i]) & (wanted < following[i])] - seen[i]
            if len(here):
                rows, columns = np.nonzero(ranks == i + 1)
                place = (rows[here] + window.row_off, columns[here] + window.col_off, np.full(len(here), i + 1))
                parts.append(np.stack(place, axis=1))
        seen = following
    return np.concatenate(parts)


def _layers(
    grid: Grid, cells: np.ndarray, map_digest: str, map_classes: list[str] | None
) -> dict[str, geopandas.GeoDataFrame]:
    """The layers points and cells of a sample; ``cells`` is (point, 3) as `_find_cells` gives them."""
    rows, columns = cells[:, 0], cells[:, 1]
    x, y = grid.transform @ (columns + 0.5, rows + 0.5)
    empty = pandas.array([None] * len(cells), dtype="string")
    table = pandas.DataFrame({"id": np.arange(1, len(cells) + 1), REFERENCE: empty, MAP_DIGEST: map_digest})
    if map_classes:
        table["map_class"] = map_classes
    ground = [grid.footprint(Window(column, row, 1, 1)) for row, column in cells[:, :2].tolist()]
    return {
        "points": geopandas.GeoDataFrame(table, geometry=shapely.points(x, y), crs=grid.crs),
        "cells": geopandas.GeoDataFrame(table[["id"]], geometry=ground, crs=grid.crs),
    }
