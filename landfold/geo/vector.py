"""Vector files: features of any format that GDAL knows and of GeoParquet, and files for a GIS.

What is written has bytes that depend on its content alone.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import geopandas
import pandas
import pyogrio
from pyarrow.parquet import read_schema

from landfold.core.errors import LandfoldError, did_you_mean, first_ten
from landfold.core.files import writing

GEOPARQUET = {".parquet", ".geoparquet"}

POINTS = ("Point", "MultiPoint")
POLYGONS = ("Polygon", "MultiPolygon")

_TIMESTAMP = "2000-01-01T00:00:00.000Z"
"""GeoPackage stores when a layer last changed; DVC would see every run as new."""


class VectorError(LandfoldError):
    """A vector file that cannot be read, or whose features are not what is expected."""


def layers(path: Path) -> dict[str, str]:
    """Names and geometry types of the layers with geometry; none of GeoParquet, which has no layers.

    Raises:
        VectorError: if the file cannot be read.
    """
    if path.suffix.lower() in GEOPARQUET:
        return {}
    try:
        return {str(name): kind for name, kind in pyogrio.list_layers(path) if kind is not None}
    except (pyogrio.errors.DataSourceError, ValueError, OSError) as error:
        raise _unreadable(path, error) from None


def read_layer(path: Path, layer: str | None = None, *, setting: str | None, geometry: str = "") -> pandas.DataFrame:
    """The features of one layer; a plain table where the file holds no geometry.

    Args:
        path: the file.
        layer: the name of the layer; None for the only one.
        setting: by which the user chooses the layer, for messages; None if there is no such setting.
        geometry: "Point", for example: of several layers the only one of this geometry is taken.

    Raises:
        VectorError: if the file cannot be read, has no such layer, or several and none is chosen.
    """
    kinds = layers(path)
    if layer is not None and layer not in kinds:
        raise VectorError(f"{path}: no layer '{layer}' ({setting}); the file has {', '.join(kinds) or 'none'}")
    choose = f"choose one with {setting}" if setting else "save one of them to a file of its own"
    fitting = [name for name, kind in kinds.items() if geometry and geometry in kind]
    if layer is None and len(kinds) > 1 and len(fitting) != 1:
        raise VectorError(f"{path}: {len(kinds)} layers ({first_ten(list(kinds))}); {choose}")
    try:
        if path.suffix.lower() in GEOPARQUET:
            has_geometry = b"geo" in (read_schema(path).metadata or {})
            return (geopandas if has_geometry else pandas).read_parquet(path)
        return geopandas.read_file(path, layer=layer or next(iter(fitting or kinds), None))
    except (pyogrio.errors.DataSourceError, ValueError, OSError) as error:
        raise _unreadable(path, error) from None


def check_features(path: Path, table: pandas.DataFrame, expected: str) -> None:
    """Refuse a table without features, geometry or CRS.

    Args:
        path: its file, for the message.
        table: from `read_layer`.
        expected: what its features should be, such as ``points``.

    Raises:
        VectorError: naming what it lacks.
    """
    if not isinstance(table, geopandas.GeoDataFrame):
        raise VectorError(f"{path}: a table without geometry; expected {expected}")
    if table.crs is None:
        raise VectorError(f"{path}: the file has no CRS, and none is guessed; save it with the CRS of its coordinates")
    if table.empty:
        raise VectorError(f"{path}: no features; expected {expected}")


def are_polygons(table: geopandas.GeoDataFrame) -> pandas.Series:
    """Which features are valid polygons that are not empty, (row) bool."""
    shapes = table.geometry
    return shapes.geom_type.isin(POLYGONS) & ~shapes.is_empty & shapes.is_valid


def check_rows(path: Path, wrong: pandas.Series, fault: str, remedy: str) -> None:
    """Refuse a table of which some rows are wrong.

    Args:
        path: its file, for the message.
        wrong: (row) bool, indexed by the row of the file.
        fault: such as ``polygons are not valid``.
        remedy: what to do about it.

    Raises:
        VectorError: with the number of wrong rows and the first of them.
    """
    if wrong.any():
        raise VectorError(f"{path}: {int(wrong.sum())} {fault} (row {first_ten(wrong.index[wrong])}); {remedy}")


def check_attribute(path: Path, table: geopandas.GeoDataFrame, name: str, setting: str) -> None:
    """Refuse a table without an attribute.

    Raises:
        VectorError: with the attributes that it has.
    """
    columns = [str(column) for column in table.columns if column != table.geometry.name]
    if name not in columns:
        raise VectorError(
            f"{path}: no attribute '{name}' ({setting}); the file has {', '.join(columns) or 'none'}"
            f"{did_you_mean(name, columns)}"
        )


def _unreadable(path: Path, error: Exception) -> VectorError:
    return VectorError(f"{path}: not a vector file that can be read ({error})")


def write_geopackage(
    path: Path,
    layers: dict[str, geopandas.GeoDataFrame],
    *,
    geometry_type: str | None = None,
    styles: Mapping[str, str] | None = None,
) -> None:
    """Write one GeoPackage with a layer for each entry; ``path`` appears only when it is whole.

    Args:
        path: the file.
        layers: name to features.
        geometry_type: of all layers. By default each layer's features decide, which an empty layer lacks.
        styles: layer to the QML that QGIS opens it with, in the table ``layer_styles``.
    """
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": _TIMESTAMP})
    try:
        with writing(path) as temporary:
            for name, table in layers.items():
                _write(temporary, name, table, "GPKG", geometry_type=geometry_type)
            if styles:
                pyogrio.write_dataframe(_layer_styles(styles), temporary, layer="layer_styles", driver="GPKG", FID="id")
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})


def _layer_styles(styles: Mapping[str, str]) -> pandas.DataFrame:
    """The table in which QGIS looks for the styles of layers whose geometry column has GDAL's default name."""
    names = list(styles)
    fixed = {"f_table_catalog": "", "f_table_schema": "", "f_table_name": names, "f_geometry_column": "geom"}
    style = {"styleName": names, "styleQML": list(styles.values()), "styleSLD": "", "useAsDefault": True}
    about = {"description": "", "owner": "", "ui": "", "update_time": pandas.Timestamp(_TIMESTAMP)}
    return pandas.DataFrame(fixed | style | about)


def write_flatgeobuf(path: Path, layer: str, table: geopandas.GeoDataFrame, *, geometry_type: str) -> None:
    """Write one layer as FlatGeobuf, with its spatial index."""
    with writing(path) as temporary:
        _write(temporary, layer, table, "FlatGeobuf", geometry_type=geometry_type)


def write_geojson(path: Path, layer: str, table: geopandas.GeoDataFrame) -> None:
    """Write one layer as GeoJSON (RFC 7946).

    Coordinates are longitude and latitude of WGS 84 to seven decimals, which is 1 cm. Outer rings run counterclockwise,
    and shapes that cross the antimeridian are cut there.
    """
    with writing(path) as temporary:
        _write(temporary, layer, table, "GeoJSON", layer_options={"RFC7946": "YES"})


def _write(path: Path, layer: str, table: geopandas.GeoDataFrame, driver: str, **options: Any) -> None:
    table.to_file(path, layer=layer, driver=driver, engine="pyogrio", **options)
