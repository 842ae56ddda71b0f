"""Vector files for a GIS, with bytes that depend on their content alone."""

from pathlib import Path
from typing import Any

import geopandas
import pyogrio

from landfold.core.files import writing

_TIMESTAMP = "2000-01-01T00:00:00.000Z"
"""GeoPackage stores when a layer last changed; DVC would see every run as new."""


def write_geopackage(
    path: Path, layers: dict[str, geopandas.GeoDataFrame], *, geometry_type: str | None = None
) -> None:
    """Write one GeoPackage with a layer for each entry; ``path`` appears only when it is whole.

    ``geometry_type`` is that of all layers; by default it is found in each, which an empty one cannot tell.
    """
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": _TIMESTAMP})
    try:
        with writing(path) as temporary:
            for name, table in layers.items():
                _write(temporary, name, table, "GPKG", geometry_type=geometry_type)
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})


def write_flatgeobuf(path: Path, layer: str, table: geopandas.GeoDataFrame, *, geometry_type: str) -> None:
    """Write one layer as FlatGeobuf, with its spatial index."""
    with writing(path) as temporary:
        _write(temporary, layer, table, "FlatGeobuf", geometry_type=geometry_type)


def write_geojson(path: Path, layer: str, table: geopandas.GeoDataFrame) -> None:
    """Write one layer as GeoJSON (RFC 7946).

    In longitude and latitude of WGS 84 to seven decimals, which is 1 cm; outer rings run counterclockwise, and what
    crosses the antimeridian is cut there.
    """
    with writing(path) as temporary:
        _write(temporary, layer, table, "GeoJSON", layer_options={"RFC7946": "YES"})


def _write(path: Path, layer: str, table: geopandas.GeoDataFrame, driver: str, **options: Any) -> None:
    table.to_file(path, layer=layer, driver=driver, engine="pyogrio", **options)
