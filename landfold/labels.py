"""Reference labels: polygons of classes become a class raster on a scene's grid, window by window."""

from dataclasses import dataclass
from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import shapely
from pydantic import Field, model_validator
from rasterio.features import rasterize
from rasterio.windows import Window
from rasterio.windows import transform as window_transform

from landfold.errors import LandfoldError
from landfold.grid import Grid, describe_crs
from landfold.settings import Settings

UNLABELLED = 0
"""Value of a class raster where no polygon lies; class i of the settings is i + 1."""


class LabelError(LandfoldError):
    """Labels that cannot be read or do not fit the settings or the scenes."""


class LabelSettings(Settings):
    """Section ``labels`` of params.yaml."""

    attribute: str
    """attribute of the polygons that holds their class"""
    classes: dict[str, list[str]] = Field(min_length=2, max_length=255)
    """class name: the attribute's values that belong to it; the order numbers the classes"""
    exclude: list[str]
    """values of the attribute to leave out, as if those polygons were not there"""

    @model_validator(mode="after")
    def _each_value_once(self) -> "LabelSettings":
        values = [value for merged in self.classes.values() for value in merged] + self.exclude
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise ValueError(f"listed more than once: {', '.join(twice)}")
        return self

    @property
    def names(self) -> list[str]:
        """Class names in the order of their numbers."""
        return list(self.classes)


@dataclass(frozen=True)
class LabelPolygons:
    """Polygons with class numbers (from 1), in the order in which they are burned.

    Where polygons overlap, the smaller one wins: a pond mapped inside a forest is a pond. They are
    therefore sorted by falling area, ties by their order in the file.
    """

    polygons: geopandas.GeoDataFrame
    names: list[str]

    def on(self, grid: Grid) -> geopandas.GeoDataFrame:
        """The polygons in the grid's CRS that touch its ground; none for a scene without labels."""
        there = self.polygons.to_crs(grid.crs)
        return there[there.intersects(grid.footprint(Window(0, 0, grid.width, grid.height)))]


def read_polygons(folder: Path, settings: LabelSettings) -> LabelPolygons:
    """Read the one vector file in ``folder``.

    Raises:
        LabelError: no file or several, no CRS, no such attribute, a value that is absent or that the
            settings do not list, or a geometry that is no valid polygon (their ids are named).
    """
    path = _one_file(folder)
    try:
        polygons = geopandas.read_file(path)
    except pyogrio.errors.DataSourceError as error:
        raise LabelError(f"{path}: not a vector file that GDAL reads ({error})") from None
    if not isinstance(polygons, geopandas.GeoDataFrame):
        raise LabelError(f"{path}: a table without geometry; expected polygons")
    if polygons.crs is None:
        raise LabelError(f"{path}: the file has no CRS, and none is guessed; save it with the CRS it was digitized in")
    if settings.attribute not in polygons:
        columns = ", ".join(c for c in polygons.columns if c != "geometry")
        raise LabelError(f"{path}: no attribute '{settings.attribute}' (labels.attribute); the file has {columns}")
    class_of = {value: number for number, merged in enumerate(settings.classes.values(), 1) for value in merged}
    empty = polygons[settings.attribute].isna()
    if empty.any():
        raise LabelError(
            f"{path}: {int(empty.sum())} polygons have no value of '{settings.attribute}' (labels.attribute), "
            f"row {', '.join(str(i) for i in polygons.index[empty][:10])}; give them one or delete them"
        )
    values = polygons[settings.attribute].astype(str)
    unknown = sorted(set(values) - set(class_of) - set(settings.exclude))
    if unknown:
        raise LabelError(
            f"{path}: class {', '.join(unknown)} is in neither labels.classes nor labels.exclude; add it to one of them"
        )
    polygons = polygons.assign(label=values.map(class_of))[["label", "geometry"]].dropna(subset="label")
    _check_geometries(path, polygons)
    area = shapely.area(polygons.geometry.values)
    polygons = polygons.iloc[np.argsort(-area, kind="stable")].astype({"label": "uint8"})
    return LabelPolygons(polygons, settings.names)


def _one_file(folder: Path) -> Path:
    suffixes = {".gpkg", ".geojson", ".json", ".shp", ".fgb", ".gml", ".kml"}
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in suffixes) if folder.is_dir() else []
    if len(files) != 1:
        found = ", ".join(p.name for p in files) or "none"
        raise LabelError(
            f"{folder}: expected one vector file of labels (GeoPackage, GeoJSON, Shapefile, ...), found {found}"
        )
    return files[0]


def _check_geometries(path: Path, polygons: geopandas.GeoDataFrame) -> None:
    shapes = polygons.geometry
    wrong = ~shapes.geom_type.isin(["Polygon", "MultiPolygon"]) | shapes.is_empty | ~shapes.is_valid
    if wrong.any():
        ids = ", ".join(str(i) for i in polygons.index[wrong][:10])
        raise LabelError(
            f"{path}: {int(wrong.sum())} features are not valid polygons (row {ids}); mend them, "
            "for example with 'Fix geometries' in QGIS"
        )


def class_raster(polygons: geopandas.GeoDataFrame, grid: Grid, window: Window) -> np.ndarray:
    """Class numbers of a window, (y, x) uint8: a pixel has the class of the polygon at its centre."""
    shape = (int(window.height), int(window.width))
    near = polygons.iloc[np.sort(polygons.sindex.query(grid.footprint(window)))]
    if near.empty:
        return np.full(shape, UNLABELLED, dtype=np.uint8)
    return rasterize(
        zip(near.geometry, near["label"], strict=True),
        out_shape=shape,
        transform=window_transform(window, grid.transform),
        fill=UNLABELLED,
        dtype="uint8",
    )


def overlap_area(polygons: geopandas.GeoDataFrame) -> float:
    """Ground covered by polygons of different classes, counted once a pair, in square units of the CRS."""
    first, second = polygons.sindex.query(polygons.geometry, predicate="intersects")
    labels, shapes = polygons["label"].to_numpy(), polygons.geometry.to_numpy()
    pairs = (first < second) & (labels[first] != labels[second])
    return float(shapely.area(shapely.intersection(shapes[first[pairs]], shapes[second[pairs]])).sum())


def describe(polygons: LabelPolygons) -> str:
    """One line for the progress of a stage."""
    return f"{len(polygons.polygons)} polygons in {describe_crs(polygons.polygons.crs)}, {len(polygons.names)} classes"
