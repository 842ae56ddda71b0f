"""A stratified random sample of the cells of a class map, for somebody to interpret."""

from collections.abc import Mapping
from pathlib import Path

import geopandas
import numpy as np
import pandas
import shapely
from rasterio.windows import Window

from landfold.accuracy.estimate import MAP_DIGEST, REFERENCE
from landfold.core.errors import LandfoldError, first_ten
from landfold.geo.vector import write_geopackage
from landfold.maps.classmap import NODATA, ClassMap


class SampleError(LandfoldError):
    """A sample that cannot be drawn."""


EXPECTED = 0.8
"""User's accuracy of a class of which nothing else is expected."""


def points_needed(map_path: Path, standard_error: float, expected: Mapping[str, float]) -> int:
    """`sample_size` for a map; ``expected`` is class to user's accuracy, EXPECTED of the others.

    Raises:
        SampleError: for a class that the map does not have.
        ClassMapError, RasterError, GridError: for the map.
    """
    with ClassMap.open(map_path) as classes:
        unknown = [name for name in expected if name not in classes.names]
        if unknown:
            raise SampleError(
                f"{map_path}: no class '{unknown[0]}' (--expect); its classes are {first_ten(classes.names)}"
            )
        cells = classes.at(np.empty(0), np.empty(0)).cells
        return sample_size(cells, np.array([expected.get(name, EXPECTED) for name in classes.names]), standard_error)


def sample_size(mapped: np.ndarray, users: np.ndarray, standard_error: float) -> int:
    """Points for a standard error of the overall accuracy: Olofsson et al. 2014, equation 13, for a large map.

    ``mapped`` is the area of each class in any unit, ``users`` the user's accuracy that is expected of it.

    Raises:
        SampleError: for numbers that are no shares.
    """
    if not 0 < standard_error < 1 or not ((users >= 0) & (users <= 1)).all():
        raise SampleError("--standard-error and --expect are shares between 0 and 1, such as 0.01 and water=0.9")
    deviations = np.sqrt(users * (1 - users))
    return int(np.ceil(((mapped / mapped.sum() * deviations).sum() / standard_error) ** 2))


def allocate(cells: np.ndarray, points: int, minimum: int) -> np.ndarray:
    """Points for each class: in proportion to its cells, but at least ``minimum``, or all cells of a smaller class.

    A class without cells gets none. The sum is ``points``.

    Raises:
        SampleError: if ``points`` are too few for the minimum, or more than there are cells.
    """
    floor = np.minimum(cells, minimum)
    if not floor.sum() <= points <= cells.sum():
        raise SampleError(
            f"{points} points in {cells.sum()} cells of {(cells > 0).sum()} classes, at least {minimum} in each; "
            f"expected {floor.sum()} to {cells.sum()} points: change -n or --minimum"
        )
    given, open_ = floor.copy(), cells > 0
    while True:
        left = points - given[~open_].sum()
        shares = np.where(open_, left * cells / max(1, cells[open_].sum()), 0.0)
        small = open_ & (shares < floor)
        if not small.any():
            break
        open_ &= ~small
    given[open_] = np.floor(shares[open_])
    rest = np.where(open_, shares - np.floor(shares), -1.0)
    most = np.argsort(-rest, kind="stable")[: points - given.sum()]
    given[most] += 1
    return given


def draw(
    map_path: Path, target: Path, *, points: int, minimum: int, seed: int, with_map_class: bool = False
) -> dict[str, int]:
    """Write the centres of cells drawn at random within each class, for `landfold.accuracy`; class to points.

    The layer "points" has the columns id, reference (empty, to be filled in), map_digest, and, if asked for,
    map_class, which whoever interprets must not see. Their order tells nothing of the class. The layer
    "cells" shows the ground that each point stands for.

    Raises:
        SampleError: if the file is there already, a class has a single cell, or the numbers do not fit.
        ClassMapError, RasterError, GridError: for the map.
    """
    if target.exists():
        raise SampleError(f"{target}: exists, and may hold what somebody has interpreted; choose another name")
    if target.suffix.lower() != ".gpkg":
        raise SampleError(f"{target}: samples are GeoPackages; choose a name that ends in .gpkg")
    generator = np.random.default_rng(seed)
    with ClassMap.open(map_path) as classes:
        survey = classes.at(np.empty(0), np.empty(0))
        _check(map_path, classes.names, survey.cells, minimum)
        given = allocate(survey.cells, points, minimum)
        ranks = [np.sort(generator.choice(n, size=k, replace=False)) for n, k in zip(survey.cells, given, strict=True)]
        rows, columns, places = _cells(classes, ranks)
        order = generator.permutation(points)
        x, y = classes.grid.transform @ (columns[order] + 0.5, rows[order] + 0.5)
        table = pandas.DataFrame(
            {
                "id": np.arange(1, points + 1),
                REFERENCE: pandas.array([None] * points, dtype="string"),
                MAP_DIGEST: survey.digest,
            }
        )
        if with_map_class:
            table["map_class"] = [classes.names[place] for place in places[order]]
        crs = classes.grid.crs
        cells = [classes.grid.footprint(Window(c, r, 1, 1)) for c, r in zip(columns[order], rows[order], strict=True)]
        layers = {
            "points": geopandas.GeoDataFrame(table, geometry=shapely.points(x, y), crs=crs),
            "cells": geopandas.GeoDataFrame(table[["id"]], geometry=cells, crs=crs),
        }
        write_geopackage(target, layers)
        return {name: int(k) for name, k in zip(classes.names, given, strict=True) if k}


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


def _cells(classes: ClassMap, ranks: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, columns and classes of the cells that are the ``ranks``-th of their class, in the order of the scan."""
    seen = np.zeros(len(ranks), dtype=np.int64)
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for window, places in classes.scan():
        following = seen + np.bincount(places[places != NODATA], minlength=len(ranks))
        for place, wanted in enumerate(ranks):
            here = wanted[(wanted >= seen[place]) & (wanted < following[place])] - seen[place]
            if not len(here):
                continue
            rows, columns = np.nonzero(places == place)
            found.append((rows[here] + window.row_off, columns[here] + window.col_off, np.full(len(here), place)))
        seen = following
    rows, columns, places = (np.concatenate(part) for part in zip(*found, strict=True))
    return rows, columns, places
