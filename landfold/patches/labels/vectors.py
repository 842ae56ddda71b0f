"""Labels as polygons and as points, from any vector format that GDAL or GeoParquet's reader knows."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import geopandas
import numpy as np
import shapely
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.windows import Window
from rasterio.windows import transform as window_transform

from landfold.core.errors import first_ten
from landfold.geo.grid import Grid
from landfold.geo.vector import (
    GEOPARQUET,
    POINTS,
    POLYGONS,
    are_polygons,
    check_attribute,
    check_features,
    check_rows,
    read_layer,
)
from landfold.patches.labels.classes import Labels, PixelLabels, SceneLabels
from landfold.patches.labels.files import one_file
from landfold.patches.settings import UNLABELLED, LabelError, LabelSettings, value_text

GDAL_VECTORS = {
    *(".gpkg", ".geojson", ".geojsonl", ".json", ".shp", ".fgb", ".gml", ".kml", ".kmz", ".gpx"),
    *(".tab", ".mif", ".sqlite", ".gdb", ".zip"),
}
"""Suffixes of a file that is opened; companions such as .dbf and .prj are not listed."""


class PolygonsOnGrid(PixelLabels):
    """Polygons burned into the pixels of a scene: a pixel has the class of the polygon at its centre."""

    def __init__(self, polygons: geopandas.GeoDataFrame, grid: Grid, classes: int) -> None:
        """Polygons in the grid's CRS, in the order in which they are burned."""
        super().__init__(classes)
        self.polygons, self.grid = polygons, grid

    def classes(self, window: Window) -> np.ndarray:
        """Class numbers of a window, (y, x) uint8."""
        return self._burned(self._near(window), window, "label", "uint8")

    def conflicts(self, window: Window) -> dict[str, int]:
        """``overlapping_px``: pixels of a window that polygons of several classes are burned into."""
        near = self._near(window).sort_values("label")
        highest, lowest = (self._burned(polygons, window, "label", "uint8") for polygons in (near, near[::-1]))
        return {"overlapping_px": int((highest != lowest).sum())}

    def zone_values(self, window: Window) -> np.ndarray:
        """The zone value of the polygon at each pixel of a window, (y, x) int32, see `SceneLabels.zone_values`."""
        return self._burned(self._near(window), window, "zone_value", "int32")

    def _near(self, window: Window) -> geopandas.GeoDataFrame:
        """The polygons whose bounds meet a window, in their order."""
        return self.polygons.iloc[np.sort(self.polygons.sindex.query(self.grid.footprint(window)))]

    def _burned(self, polygons: geopandas.GeoDataFrame, window: Window, column: str, dtype: str) -> np.ndarray:
        """Numbers of a column at each pixel, (y, x), of the last polygon there; 0 outside all polygons."""
        shape = (int(window.height), int(window.width))
        if polygons.empty:
            return np.full(shape, UNLABELLED, dtype=dtype)
        return rasterize(
            zip(polygons.geometry, polygons[column], strict=True),
            out_shape=shape,
            transform=window_transform(window, self.grid.transform),
            fill=UNLABELLED,
            dtype=dtype,
        )


@dataclass(frozen=True)
class LabelPolygons(Labels):
    """Polygons with class numbers (from 1), in the order in which they are burned.

    Where polygons overlap, the smaller one wins: a pond mapped inside a forest is a pond. They are
    therefore sorted by falling area, ties by their order in the file. With ``zone_values`` the column
    ``zone_value`` has the index of each polygon's value in them, plus 1.
    """

    polygons: geopandas.GeoDataFrame
    names: list[str]
    repaired: int = 0
    warnings: tuple[str, ...] = ()
    zone_values: tuple[str | None, ...] = ()

    @contextmanager
    def on(self, scene: str, grid: Grid) -> Iterator[PolygonsOnGrid]:
        """The polygons in the grid's CRS that touch its ground; none for a scene without labels."""
        there = self.polygons.to_crs(grid.crs)
        yield PolygonsOnGrid(there[there.intersects(grid.footprint(grid.whole))], grid, len(self.names))

    def fingerprint_for_scene(self, scene: str, grid: Grid) -> str:
        """Digest of the polygons that touch the scene, their classes and zone values, in their order."""
        with self.on(scene, grid) as there:
            shapes, numbers = there.polygons.geometry.to_wkb(), there.polygons["label"].to_numpy()
            values = [self.zone_values[i - 1] for i in there.polygons["zone_value"]] if self.zone_values else []
            return hashlib.sha256(b"".join([*shapes, numbers.tobytes(), repr(values).encode()])).hexdigest()

    @property
    def ground(self) -> geopandas.GeoSeries:
        """The polygons."""
        return self.polygons.geometry

    def summary(self, crs: CRS) -> dict[str, int]:
        """Ground that polygons of different classes share, and the number of repaired polygons."""
        return {"label_overlap_m2": round(overlap_area(self.polygons.to_crs(crs))), "labels_mended": self.repaired}


class PointsOnGrid(SceneLabels):
    """Points in the pixels of a scene; a point on the border of two pixels is in the right or lower one."""

    of_points = True

    def __init__(self, points: geopandas.GeoDataFrame, grid: Grid, classes: int) -> None:
        """Points in the grid's CRS; those outside the grid are left out."""
        x, y = points.geometry.x.to_numpy(), points.geometry.y.to_numpy()
        inside = np.isfinite(x) & np.isfinite(y)  # a point outside the area of the CRS has no coordinates in it
        columns, rows = np.floor(~grid.transform @ (x[inside], y[inside]))
        self._classes = classes
        self.columns, self.rows, self.numbers = columns, rows, points["label"].to_numpy()[inside]

    def counts(self, window: Window) -> np.ndarray:
        """Points of each class in each column of a window: (class, x) int64."""
        _, columns, numbers = self._inside(window)
        counts = np.zeros((self._classes, int(window.width)), dtype=np.int64)
        np.add.at(counts, (numbers - 1, columns), 1)
        return counts

    def classes(self, window: Window) -> np.ndarray:
        """The class of most points of each pixel of a window, (y, x) uint8; UNLABELLED for none and for a tie."""
        pixels, numbers, _ = self._majorities(window)
        classes = np.full((int(window.height), int(window.width)), UNLABELLED, dtype=np.uint8)
        classes.flat[pixels] = numbers
        return classes

    def conflicts(self, window: Window) -> dict[str, int]:
        """``points_in_conflict``: points of a window in pixels where another class has as many: they are unlabelled."""
        _, numbers, points = self._majorities(window)
        return {"points_in_conflict": int(points[numbers == UNLABELLED].sum())}

    def _inside(self, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Row and column in a window and class number of each point in it, int64."""
        rows, columns = self.rows - window.row_off, self.columns - window.col_off
        here = (columns >= 0) & (columns < window.width) & (rows >= 0) & (rows < window.height)
        rows, columns, numbers = (part[here].astype(np.int64) for part in (rows, columns, self.numbers))
        return rows, columns, numbers

    def _majorities(self, window: Window) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each pixel with points: place in the window, row by row; class of most of them; number of them. int64.

        The class is UNLABELLED where several classes have as many.
        """
        rows, columns, numbers = self._inside(window)
        pairs, votes = np.unique((rows * int(window.width) + columns) * 256 + numbers, return_counts=True)
        pixels, first = np.unique(pairs // 256, return_index=True)
        if not len(pixels):
            return pixels, pixels, pixels
        pixel = np.repeat(np.arange(len(pixels)), np.diff(first, append=len(pairs)))
        leads = votes == np.maximum.reduceat(votes, first)[pixel]
        leaders = np.add.reduceat(leads.astype(np.int64), first)
        leader = np.maximum.reduceat(np.where(leads, pairs % 256, UNLABELLED), first)
        return pixels, np.where(leaders == 1, leader, UNLABELLED), np.add.reduceat(votes, first)


@dataclass(frozen=True)
class LabelPoints(Labels):
    """Points with class numbers (from 1).

    Windows stay on the grid of the stride: a patch takes the class of the points in its core, and no
    window is put around a point. Core and stride of equal size give each point to one patch at most.
    """

    points: geopandas.GeoDataFrame
    names: list[str]

    @contextmanager
    def on(self, scene: str, grid: Grid) -> Iterator[PointsOnGrid]:
        """The points in the pixels of a scene."""
        yield PointsOnGrid(self.points.to_crs(grid.crs), grid, len(self.names))

    def fingerprint_for_scene(self, scene: str, grid: Grid) -> str:
        """Digest of the pixels that points lie in and of the classes of the points, in their order."""
        with self.on(scene, grid) as there:
            inside = (there.columns >= 0) & (there.columns < grid.width)
            inside &= (there.rows >= 0) & (there.rows < grid.height)
            parts = [np.asarray(part)[inside].astype(np.int64) for part in (there.columns, there.rows, there.numbers)]
            return hashlib.sha256(np.stack(parts).tobytes()).hexdigest()

    @property
    def ground(self) -> geopandas.GeoSeries:
        """The points."""
        return self.points.geometry

    def summary(self, crs: CRS) -> dict[str, int]:
        """The number of points."""
        return {"label_points": len(self.points)}


def read_polygons(folder: Path, settings: LabelSettings) -> LabelPolygons:
    """Read the one vector file in ``folder``.

    Raises:
        LabelError: no file or several, or a value that the settings do not list.
        VectorError: no CRS, no such layer or attribute, a value that is absent, or a geometry that is no valid
            polygon and may not or cannot be repaired (their rows are named).
    """
    path, polygons, values = _read(folder, settings)
    polygons, warnings, repaired = _repair(path, polygons) if settings.invalid == "repair" else (polygons, (), 0)
    check_rows(
        path,
        ~are_polygons(polygons),
        "features are not valid polygons",
        "set labels.invalid: repair, or repair them, for example with 'Fix geometries' in QGIS"
        if settings.invalid == "refuse"
        else "and nothing of them is left when repaired: delete them or digitize them anew",
    )
    area = shapely.area(polygons.geometry.values)
    polygons = polygons.iloc[np.argsort(-area, kind="stable")].astype({"label": "uint8"})
    return LabelPolygons(polygons, settings.names, repaired, warnings, values)


def read_points(folder: Path, settings: LabelSettings) -> LabelPoints:
    """Read the one vector file in ``folder``; a MultiPoint counts as its points.

    Raises:
        LabelError, VectorError: as for `read_polygons`, and for a geometry that is no point.
    """
    path, points, _ = _read(folder, settings)
    shapes = points.geometry
    wrong = ~shapes.geom_type.isin(POINTS) | shapes.is_empty
    check_rows(path, wrong, "features are not points", "delete them, or set labels.kind: polygons")
    return LabelPoints(points.explode(ignore_index=True).astype({"label": "uint8"}), settings.names)


def _repair(path: Path, polygons: geopandas.GeoDataFrame) -> tuple[geopandas.GeoDataFrame, tuple[str, ...], int]:
    """Make polygons valid, keeping their area and no stray lines; a warning that names the rows."""
    shapes = polygons.geometry
    broken = shapes.geom_type.isin(POLYGONS) & ~shapes.is_valid
    if not broken.any():
        return polygons, (), 0
    fixed = shapely.make_valid(shapes[broken].values, method="structure", keep_collapsed=False)
    polygons = polygons.copy()
    polygons.loc[broken, "geometry"] = fixed
    count = int(broken.sum())
    return (
        polygons,
        (f"{path}: {count} invalid polygons were repaired (row {first_ten(polygons.index[broken])})",),
        count,
    )


def _read(folder: Path, settings: LabelSettings) -> tuple[Path, geopandas.GeoDataFrame, tuple[str | None, ...]]:
    """Columns label (class number) and geometry of what is not excluded, indexed by row of the file.

    With ``zone_attribute`` also zone_value, and the values that its numbers mean.
    """
    path = one_file(folder, GDAL_VECTORS | GEOPARQUET, "vector file of labels (GeoPackage, GeoJSON, Shapefile, ...)")
    table = read_layer(path, settings.layer, setting="labels.layer")
    check_features(path, table, settings.kind)
    for setting in ("attribute", "zone_attribute"):
        name = getattr(settings, setting)
        if name is not None:
            check_attribute(path, table, name, f"labels.{setting}")
    fault = f"{settings.kind} have no value of '{settings.attribute}' (labels.attribute)"
    check_rows(path, table[settings.attribute].isna(), fault, "give them one or delete them")
    number_of = settings.numbers(table[settings.attribute].unique(), path)
    columns = {"label": table[settings.attribute].map(number_of)}
    values: tuple[str | None, ...] = ()
    if settings.zone_attribute is not None:
        texts = table[settings.zone_attribute].map(value_text, na_action="ignore")
        values = (*sorted(texts.dropna().unique()), None)
        columns["zone_value"] = texts.map({text: place for place, text in enumerate(values, 1)}).fillna(len(values))
    table = geopandas.GeoDataFrame(columns, geometry=table.geometry.values, crs=table.crs, index=table.index)
    table = table[table["label"] != UNLABELLED]
    if table.empty:
        raise LabelError(f"{path}: no feature is left; the file is empty, or labels.exclude leaves all of them out")
    return path, table, values


def overlap_area(polygons: geopandas.GeoDataFrame) -> float:
    """Ground covered by polygons of different classes, counted once a pair, in square units of the CRS."""
    first, second = polygons.sindex.query(polygons.geometry, predicate="intersects")
    labels, shapes = polygons["label"].to_numpy(), polygons.geometry.to_numpy()
    pairs = (first < second) & (labels[first] != labels[second])
    return float(shapely.area(shapely.intersection(shapes[first[pairs]], shapes[second[pairs]])).sum())
