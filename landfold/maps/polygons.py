"""Class polygons of a map: GeoPackage and FlatGeobuf in the map's CRS, GeoJSON in WGS 84.

They are made from the class and the confidence raster of a map on disk, read strip by strip. Memory holds the runs of
`landfold.maps.regions`, an int32 and a bool for each cell of the map, and the polygons. A map of 10980 x 10980 cells, a
Sentinel-2 tile at 10 m, with 9 million regions that are merged into 251,000 of 1000 m2 or more, takes one minute of a
core and 2.8 GB; with simplified edges three minutes and 5.1 GB.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from math import ceil
from pathlib import Path

import geopandas
import numpy as np
import pandas
import pyproj
import shapely
from rasterio.features import shapes
from rasterio.windows import Window

from landfold.core.errors import LandfoldError
from landfold.geo.crs import describe_crs, is_true_to_scale
from landfold.geo.grid import Grid
from landfold.geo.raster import Raster
from landfold.geo.vector import write_flatgeobuf, write_geojson, write_geopackage
from landfold.maps.classmap import NO_CLASS, ClassMap
from landfold.maps.regions import Regions, Runs, find_regions
from landfold.maps.settings import PolygonSettings
from landfold.maps.style import write_polygon_style

LAYER = "classes"
"""The layer of class polygons."""

COLUMNS = {
    "class": "object",
    "cells": "int64",
    "area_m2": "float64",
    "perimeter_m": "float64",
    "confidence": "float64",
    "merged_cells": "int64",
}
"""Columns of the layer beside the geometry, and their types."""

_STRIP_PX = 256
_BATCH = 4096


class PolygonError(LandfoldError):
    """Rasters that cannot be made into class polygons."""


def write_polygons(
    class_map: Path,
    confidence: Path,
    target: Path,
    settings: PolygonSettings,
    colours: Mapping[str, tuple[int, int, int]],
) -> list[Path]:
    """Write TARGET.gpkg, .geojson and .fgb, as the settings want, each with the one layer ``classes``, and TARGET.qml.

    The polygons are the connected cells of a class after the merging of small regions
    (`landfold.maps.regions.find_regions`), those of most cells first; docs/gis.md describes their attributes. Areas and
    perimeters are those of the polygons in the map's CRS; on the ellipsoid where that is in degrees, Mercator or not in
    metres. The confidence is the mean over the cells that the class map gives the class, without merged ones. A map
    without any data has an empty layer. In GeoJSON a polygon has a vertex at every corner of a cell on its edge, so
    that neighbours fit without gaps in longitude and latitude too, and is cut at the antimeridian.

    Args:
        class_map: class raster, its names in the tags CLASS_1, ... of band 1.
        confidence: raster on the same grid with a band ``confidence``.
        target: folder and beginning of the names.
        settings: formats, smallest mapping unit and simplification; without formats nothing is read or written.
        colours: name to red, green and blue (0 to 255) of the classes, for QGIS.

    Returns:
        The files.

    Raises:
        RasterError: if a raster cannot be read, or has no band ``confidence``.
        ClassMapError: if the class raster is none, or has a number without a name.
        PolygonError: if the rasters are not on one grid, or their CRS has no ellipsoid.
    """
    if not settings.formats:
        return []
    traced = trace(class_map, confidence, settings.min_area_m2, simplify_m=settings.simplify_m)
    style = write_polygon_style(target.with_name(f"{target.name}.qml"), "class", colours)
    files = {kind: target.with_name(f"{target.name}{_SUFFIXES[kind]}") for kind in settings.formats}
    for kind, path in files.items():
        _write(kind, path, traced, style.read_text(encoding="utf-8"))
    return [*files.values(), style]


@dataclass(frozen=True)
class TracedPolygons:
    """Class polygons in cells of the map.

    Attributes:
        grid: the map's.
        outlines: (polygon,) in cells of the grid, (column, row), so that all corners are whole numbers.
        simplified: whether they are: neighbours then have the same vertices along their border.
        table: their attributes, in the same order.
    """

    grid: Grid
    outlines: np.ndarray
    simplified: bool
    table: pandas.DataFrame

    def placed(self, *, fit_bent: bool = False) -> geopandas.GeoDataFrame:
        """The polygons in the map's CRS; ``fit_bent``: so that neighbours fit in a CRS where lines are bent, too.

        Edges along the cells get a vertex at each corner of a cell for that, simplified ones need none.
        """
        polygons = _place(self.outlines, self.grid, every_corner=fit_bent and not self.simplified)
        return geopandas.GeoDataFrame(self.table, geometry=polygons, crs=self.grid.crs)


def trace(class_map: Path, confidence: Path, min_area_m2: float, *, simplify_m: float = 0) -> TracedPolygons:
    """The polygons that `write_polygons` writes, with all attributes; see there."""
    with ClassMap.open(class_map, for_areas=False) as classes, Raster.open(confidence) as raster:
        grid = classes.grid
        if difference := grid.difference(raster.grid):
            raise PolygonError(f"{confidence}: not on the grid of {class_map}: {difference}; export the map anew")
        whole = np.array([shapely.box(0, 0, grid.width, grid.height).segmentize(max(grid.shape) / 64)])
        cell_m2 = _measure(whole, grid)[0][0] / (grid.width * grid.height)
        runs = Runs.of((ranks.astype(np.uint16) for _, ranks in classes.scan(_strips(grid))), *grid.shape)
        regions = find_regions(runs, least_cells=ceil(min_area_m2 / cell_m2 - 1e-9))
        own_cells, mean = _own(runs, regions, raster)
    names = np.array(classes.names, dtype=object)[regions.numbers.astype(int) - 1]
    outlines = _outlines(runs, regions)
    if simplify_m:
        outlines = _simplify(outlines, simplify_m / cell_m2**0.5)
    area_m2, perimeter_m = _measure(outlines, grid)
    values = (names, regions.cells, area_m2, perimeter_m, mean.round(4), regions.cells - own_cells)
    order = np.argsort(-regions.cells, kind="stable")  # regions are in the order of their first cells
    columns = {name: value[order].astype(kind) for (name, kind), value in zip(COLUMNS.items(), values, strict=True)}
    return TracedPolygons(grid, outlines[order], simplify_m > 0, pandas.DataFrame(columns))


def _strips(grid: Grid) -> Iterator[Window]:
    for row in range(0, grid.height, _STRIP_PX):
        yield Window(0, row, grid.width, min(_STRIP_PX, grid.height - row))


def _own(runs: Runs, regions: Regions, raster: Raster) -> tuple[np.ndarray, np.ndarray]:
    """Cells of each region that are of its class in the raster, and the mean of their confidence."""
    is_own = regions.of_run != NO_CLASS
    is_own[is_own] = regions.numbers[regions.of_run[is_own] - 1] == runs.numbers[is_own]
    cells, known, total = (np.zeros(len(regions.cells)) for _ in range(3))
    for window in _strips(raster.grid):
        part = runs.of_rows(window.row_off, window.row_off + window.height)
        values = raster.read_reflectance(window, ["confidence"]).ravel().astype(np.float64)
        first = runs.starts[part] - window.row_off * runs.width
        own, region = is_own[part], regions.of_run[part][is_own[part]] - 1
        for sums, cell in ((known, np.isfinite(values)), (total, np.nan_to_num(values))):
            sums += np.bincount(region, np.add.reduceat(cell, first, dtype=np.float64)[own], len(sums))
        cells += np.bincount(region, runs.lengths[part][own], len(cells))
    with np.errstate(invalid="ignore"):
        return cells.astype(np.int64), total / known


def _outlines(runs: Runs, regions: Regions) -> np.ndarray:
    """The polygon of each region, in its order; corners in cells, (column, row)."""
    region_of_cell = np.repeat(regions.of_run, runs.lengths).reshape(runs.height, runs.width)
    geometries = shapes(region_of_cell, mask=region_of_cell != NO_CLASS, connectivity=4)
    outlines = np.empty(len(regions.cells), dtype=object)
    while batch := list(
        islice(geometries, _BATCH)
    ):  # GDAL's corners are Python numbers, ten times the size of shapely's
        parts = [geometry["coordinates"] for geometry, _ in batch]
        rings = list(chain.from_iterable(parts))
        corners = np.array(list(chain.from_iterable(rings)))
        closed = shapely.linearrings(corners, indices=np.repeat(np.arange(len(rings)), [len(ring) for ring in rings]))
        polygons = shapely.polygons(closed, indices=np.repeat(np.arange(len(parts)), [len(part) for part in parts]))
        outlines[[int(region) - 1 for _, region in batch]] = polygons
    return outlines


def _simplify(outlines: np.ndarray, tolerance: float) -> np.ndarray:
    """Outlines with fewer corners, by Visvalingam and Whyatt (1993), doi:10.1179/000870493786962263.

    A border of two polygons stays common to both, and one to no data stays as it is, so that no ground is lost, gained
    or covered twice. All corners are corners of before.

    Args:
        outlines: a coverage of polygons, in cells.
        tolerance: in cells; corners go whose triangle with their neighbours is smaller than its square.
    """
    return shapely.coverage_simplify(_noded(outlines), tolerance, simplify_boundary=False)


def _noded(outlines: np.ndarray) -> np.ndarray:
    """Outlines with vertices wherever a neighbour has one, as a coverage needs them; corners in cells."""
    if not len(outlines):
        return outlines
    kind, corners, (rings, polygons) = shapely.to_ragged_array(shapely.segmentize(outlines, 1.0))
    columns, rows = np.rint(corners).astype(np.intp).T
    used = np.zeros((rows.max() + 1, columns.max() + 1), dtype=bool)
    used[tuple(shapely.get_coordinates(outlines)[:, ::-1].astype(np.intp).T)] = True
    kept = used[rows, columns]
    return shapely.from_ragged_array(kind, corners[kept], (np.append(0, np.cumsum(kept))[rings], polygons))


def _place(outlines: np.ndarray, grid: Grid, *, every_corner: bool) -> np.ndarray:
    """Outlines in the CRS of the grid."""
    t = grid.transform
    dense = shapely.segmentize(outlines, 1.0) if every_corner else outlines

    def place(corners: np.ndarray) -> np.ndarray:
        columns, rows = corners.T
        return np.stack([t.a * columns + t.b * rows + t.c, t.d * columns + t.e * rows + t.f], axis=1)

    return shapely.transform(dense, place)


def _measure(outlines: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Area in m2 and perimeter in m of each outline."""
    if is_true_to_scale(grid.crs):
        placed = _place(outlines, grid, every_corner=False)
        return shapely.area(outlines) * abs(grid.transform.determinant), shapely.length(placed)
    crs = pyproj.CRS.from_wkt(grid.crs.to_wkt())
    geod = crs.get_geod()
    if geod is None:
        raise PolygonError(
            f"the CRS of the map, {describe_crs(grid.crs)}, has no ellipsoid: areas are unknown; make the map on a "
            "scene in UTM or an equal-area CRS, or set export.polygons.formats: []"
        )
    placed = geopandas.GeoSeries(_place(outlines, grid, every_corner=True), crs=crs).to_crs(crs.geodetic_crs)
    oriented = shapely.orient_polygons(placed.to_numpy())  # holes are taken off if they run the other way
    area_m2 = np.array([geod.geometry_area_perimeter(polygon)[0] for polygon in oriented])
    return area_m2, np.array([geod.geometry_length(edge) for edge in shapely.boundary(oriented)])


def _write(kind: str, path: Path, traced: TracedPolygons, qml: str) -> None:
    if kind == "geojson":
        write_geojson(path, LAYER, traced.placed(fit_bent=True))
    elif kind == "flatgeobuf":
        write_flatgeobuf(path, LAYER, traced.placed(), geometry_type="Polygon")
    else:
        write_geopackage(path, {LAYER: traced.placed()}, geometry_type="Polygon", styles={LAYER: qml})


_SUFFIXES = {"gpkg": ".gpkg", "flatgeobuf": ".fgb", "geojson": ".geojson"}
