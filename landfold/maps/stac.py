"""A STAC item beside each map, by which catalogues find it: where, when, of what classes, made from what.

STAC 1.1 with the extensions projection, classification and raster (https://stacspec.org). Paths are relative to the
item, so that a folder of maps may be moved or published as it is. There is no way to say that a time is
unknown: a map of a scene without a date has no item.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyproj
import pystac
import shapely
from pystac.extensions.classification import SCHEMA_URI_PATTERN
from pystac.extensions.projection import SCHEMA_URI as PROJECTION

from landfold.core.files import write_json
from landfold.geo.crs import WGS84
from landfold.geo.grid import Grid
from landfold.geo.lattice import outline
from landfold.geo.raster import Raster
from landfold.maps.classmap import NO_CLASS

EDGES = 20
"""Pieces into which each side of a footprint is cut, as a straight line is none in longitude and latitude."""

CLASSIFICATION = SCHEMA_URI_PATTERN.format(version="2.0.0")

RASTER = "https://stac-extensions.github.io/raster/v2.0.0/schema.json"

_MEDIA = {
    ".tif": pystac.MediaType.COG,
    ".gpkg": pystac.MediaType.GEOPACKAGE,
    ".geojson": pystac.MediaType.GEOJSON,
    ".fgb": pystac.MediaType.FLATGEOBUF,
    ".qml": pystac.MediaType.XML,
    ".sld": pystac.MediaType.XML,
}


def write_item(
    folder: Path,
    name: str,
    files: Iterable[Path],
    *,
    acquired: Sequence[str],
    classes: Mapping[str, tuple[int, int, int]],
    lineage: Mapping[str, str],
) -> Path:
    """Write NAME_stac.json into the folder of a map.

    Args:
        folder: where the map is.
        name: identifier of the item.
        files: the map's, NAME_class.tif among them, whose grid and classes are those of the item.
        acquired: dates (YYYY-MM-DD) or RFC 3339 times of the scenes, at least one; a date is the whole day.
        classes: name to red, green and blue (0 to 255) of every class, in their order.
        lineage: tags of the rasters, which become properties landfold:...

    Returns:
        The item's path.
    """
    files = sorted(path for path in files if path.suffix in _MEDIA)
    with Raster.open(folder / f"{name}_class.tif") as raster:
        grid = raster.grid
    footprint = to_degrees(grid)
    item = pystac.Item(
        id=name,
        geometry=shapely.geometry.mapping(footprint),
        bbox=_bbox(footprint),
        properties=_projection(grid) | {f"landfold:{k.lower()}": v for k, v in lineage.items()},
        **_times(acquired),
        stac_extensions=[PROJECTION, CLASSIFICATION, RASTER],
    )
    for path in files:
        part = path.name.removeprefix(f"{name}_").removeprefix(f"{name}.")
        item.add_asset(part.removesuffix(".tif").replace(".", "_"), _asset(path, classes))
    content = item.to_dict(include_self_link=False, transform_hrefs=False)
    write_json(folder / f"{name}_stac.json", content)
    return folder / f"{name}_stac.json"


def to_degrees(grid: Grid) -> shapely.Geometry:
    """The ground of a grid in longitude and latitude of WGS 84; two polygons where it crosses the antimeridian."""
    x, y = outline(grid, WGS84, pieces=EDGES)
    if max(x) - min(x) <= 180:
        whole = shapely.Polygon(list(zip(x, y, strict=True)))
        return _tidy(whole)
    east = shapely.Polygon([(a if a >= 0 else a + 360, b) for a, b in zip(x, y, strict=True)])
    beyond = shapely.affinity.translate(shapely.intersection(east, shapely.box(180, -90, 360, 90)), xoff=-360)
    return _tidy(shapely.MultiPolygon([shapely.intersection(east, shapely.box(0, -90, 180, 90)), beyond]))


def _tidy(geometry: shapely.Geometry) -> shapely.Geometry:
    """Seven decimals, which is 1 cm; outer rings counterclockwise (RFC 7946)."""
    rounded = shapely.transform(geometry, lambda points: points.round(7))
    return shapely.orient_polygons(rounded)


def _bbox(footprint: shapely.Geometry) -> list[float]:
    """West, south, east, north; across the antimeridian west is the greater (RFC 7946)."""
    west, south, east, north = footprint.bounds
    if isinstance(footprint, shapely.MultiPolygon):
        west, east = footprint.geoms[0].bounds[0], footprint.geoms[1].bounds[2]
    return [west, south, east, north]


def _times(acquired: Sequence[str]) -> dict[str, datetime | None]:
    """From the first to the last moment, or the one there is."""
    moments = [moment for text in acquired for moment in _span(text)]
    start, end = min(moments), max(moments)
    if start == end:
        return {"datetime": start}
    return {"datetime": None, "start_datetime": start, "end_datetime": end}


def _span(text: str) -> tuple[datetime, datetime]:
    """First and last second of a day, or a time twice; in UTC unless the text has another offset."""
    time = datetime.fromisoformat(text)
    time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    is_day = len(text) == len("2017-02-16")
    return time, time + timedelta(days=1, seconds=-1) if is_day else time


def _projection(grid: Grid) -> dict[str, Any]:
    authority = grid.crs.to_authority()
    fields: dict[str, Any] = {"proj:code": ":".join(authority) if authority else None}
    if not authority:
        fields["proj:wkt2"] = pyproj.CRS.from_wkt(grid.crs.to_wkt()).to_wkt()
    return fields | {"proj:shape": list(grid.shape), "proj:transform": list(grid.transform)[:6]}


def _asset(path: Path, classes: Mapping[str, tuple[int, int, int]]) -> pystac.Asset:
    href = f"./{quote(path.name)}"
    if path.suffix != ".tif":
        role = "style" if path.suffix in (".qml", ".sld") else "data"
        return pystac.Asset(href, media_type=_MEDIA[path.suffix], roles=[role])
    with Raster.open(path) as raster:
        kind, nodata, scale = raster.dataset.dtypes[0], raster.dataset.nodata, raster.radiometry[0].scale
        names = raster.names
    common: dict[str, Any] = {"data_type": kind, "nodata": "nan" if np.isnan(nodata) else int(nodata)}
    if scale != 1:
        common["raster:scale"] = scale
    fields: dict[str, Any] = {"bands": [{"name": name} | common for name in names]}
    if names == ("class",):
        fields["classification:classes"] = _classes(classes)
    return pystac.Asset(
        href, media_type=_MEDIA[".tif"], roles=["data" if names == ("class",) else "metadata"], extra_fields=fields
    )


def _classes(classes: Mapping[str, tuple[int, int, int]]) -> list[dict[str, Any]]:
    """Numbers, colours and names; the extension's ``name`` is for machines, ``title`` for people."""
    described: list[dict[str, Any]] = [{"value": NO_CLASS, "name": "nodata", "nodata": True}]
    used = {"nodata"}
    for number, (title, colour) in enumerate(classes.items(), 1):
        name = re.sub(r"[^0-9A-Za-z]+", "_", title).strip("_")
        name = f"class_{number}" if not name or name in used else name
        used.add(name)
        described.append({"value": number, "name": name, "title": title, "color_hint": bytes(colour).hex().upper()})
    return described
