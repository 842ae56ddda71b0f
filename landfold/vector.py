"""Vector files for a GIS, with bytes that depend on their content alone."""

from pathlib import Path

import geopandas
import pyogrio

from landfold.files import writing

_TIMESTAMP = "2000-01-01T00:00:00.000Z"
"""GeoPackage stores when a layer last changed; DVC would see every run as new."""


def write_geopackage(path: Path, layers: dict[str, geopandas.GeoDataFrame]) -> None:
    """Write one GeoPackage with a layer for each entry; ``path`` appears only when it is whole."""
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": _TIMESTAMP})
    try:
        with writing(path) as temporary:
            for name, table in layers.items():
                table.to_file(temporary, layer=name, driver="GPKG", engine="pyogrio")
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})
