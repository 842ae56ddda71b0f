"""What a user passes to `landfold.library.folds.spatial_folds`, checked and in one form."""

from typing import Any

import geopandas
import numpy as np
import pandas
import shapely
from rasterio.crs import CRS

from landfold.core.errors import did_you_mean, first_ten
from landfold.folds.split import FoldError
from landfold.folds.zones import shares_region
from landfold.geo.crs import WGS84, describe_crs, is_metric, transform_points, wrong_areal_scale
from landfold.geo.vector import are_polygons


def footprints_in_metres(table: Any, crs: Any) -> geopandas.GeoSeries:
    """The footprints of a table, brought into ``crs`` where one is given; ``"utm"``: the UTM zone of the table.

    Raises:
        FoldError: no table of footprints or an empty one, footprints that are missing or invalid, no CRS, or one whose
            units are not the metres of the ground.
    """
    if not isinstance(table, geopandas.GeoDataFrame | geopandas.GeoSeries):
        raise FoldError(
            f"expected a GeoDataFrame or GeoSeries of footprints, found {type(table).__name__}; of coordinates, "
            "geopandas.GeoSeries.from_xy(x, y, crs=...) makes one"
        )
    if table.empty:
        raise FoldError("the table has no rows")
    footprints = table.geometry
    _refuse(table, footprints.isna() | footprints.is_empty, "have no footprint; drop them, or give them one")
    _refuse(table, ~footprints.is_valid, "have an invalid footprint; repair them, with make_valid() say")
    if footprints.crs is None:
        raise FoldError("the table has no CRS, and none is guessed; set the one of its coordinates with set_crs")
    if crs is not None:
        footprints = footprints.to_crs(footprints.estimate_utm_crs() if crs == "utm" else crs)
    _check_crs(footprints)
    return footprints


def _check_crs(footprints: geopandas.GeoSeries) -> None:
    """Refuse a CRS whose units are not the metres of the ground."""
    crs = CRS.from_user_input(footprints.crs)
    name, remedy = describe_crs(crs), "crs='utm' brings them into the UTM zone of the table, or name a CRS of the area"
    if not is_metric(crs):
        raise FoldError(f"the footprints are in {name}, not in metres; {remedy}")
    x_min, y_min, x_max, y_max = footprints.total_bounds
    x, y = [x_min, x_max, x_max, x_min, (x_min + x_max) / 2], [y_min, y_min, y_max, y_max, (y_min + y_max) / 2]
    if not np.isfinite([*x, *y]).all():
        raise FoldError(f"footprints cannot be brought into {name}; name a CRS of the area of the table")
    wrong = wrong_areal_scale(crs, *transform_points(crs, WGS84, x, y))
    if wrong:
        raise FoldError(
            f"{name} shows areas up to {wrong:.3g} times as large as they are where the footprints lie, so that "
            f"its metres are not those of the ground; {remedy}, or an equal-area one"
        )


def row_values(table: Any, values: Any, argument: str) -> np.ndarray:
    """A value for each row, (row,) object.

    Args:
        table: the table.
        values: the name of a column, or a value for each row.
        argument: what the values are called in a message.

    Raises:
        FoldError: no such column, another number of values or another index, or rows without one.
    """
    if isinstance(values, str):
        columns = [str(name) for name in table] if isinstance(table, pandas.DataFrame) else []
        if values not in columns:
            has = f"{', '.join(columns) or 'none'}{did_you_mean(values, columns)}"
            raise FoldError(f"{argument}: no column '{values}'; the table has {has}")
        values = table[values]
    if isinstance(values, pandas.Series) and not values.index.equals(table.index):
        raise FoldError(f"{argument}: its index is not that of the table; reindex it, or pass an array")
    if len(values) != len(table):
        raise FoldError(f"{argument}: {len(values)} values for the {len(table)} rows of the table")
    column = pandas.Series(np.asarray(values), table.index, dtype=object)
    _refuse(table, column.isna(), f"have no {argument}; drop them, or give them one")
    return column.to_numpy()


def read_zones(
    table: Any, zones: Any, kind: str | None, crs: Any
) -> tuple[str, np.ndarray | None, geopandas.GeoDataFrame | None]:
    """The ``zones.kind`` of the pipeline, and the name of each row's zone or the polygons that are zones.

    Args:
        table: the table.
        zones: None, the name of a column, a value for each row, or a table of polygons.
        kind: the kind of zones that are made.
        crs: that of the folds.

    Raises:
        FoldError: both ``zones`` and ``kind``, rows without a zone, or polygons that are invalid or without a CRS.
    """
    if zones is None:
        return kind or "grid", None, None
    if kind is not None:
        raise FoldError(f"zones and kind='{kind}' are two ways to make zones; pass one of them")
    if not isinstance(zones, geopandas.GeoDataFrame | geopandas.GeoSeries):
        return "label", row_values(table, zones, "zones").astype(str).astype(object), None
    shapes = zones.geometry
    _refuse(zones, ~are_polygons(zones), "are not valid polygons; repair them, with make_valid() say", "zones: ")
    if shapes.crs is None:
        raise FoldError("zones: no CRS, and none is guessed; set the one of its coordinates with set_crs")
    names = zones["zone"] if isinstance(zones, geopandas.GeoDataFrame) and "zone" in zones else zones.index
    names = np.asarray(names).astype(str).astype(object)
    return "polygons", None, geopandas.GeoDataFrame({"zone": names}, geometry=shapes.to_crs(crs).to_numpy(), crs=crs)


def rows_in_region(footprints: geopandas.GeoSeries, region: Any) -> np.ndarray:
    """Which rows share ground with the test region, (row,) bool.

    Args:
        footprints: in the CRS of the folds.
        region: None, a table of polygons, or in that CRS a geometry or (x_min, y_min, x_max, y_max).

    Raises:
        FoldError: no row does, or all do.
    """
    if region is None:
        return np.zeros(len(footprints), dtype=bool)
    if isinstance(region, geopandas.GeoDataFrame | geopandas.GeoSeries):
        region = region.to_crs(footprints.crs).union_all()
    region = region if isinstance(region, shapely.Geometry) else shapely.box(*region)
    inside = shares_region(footprints.to_numpy(), region)
    if not inside.any() or inside.all():
        raise FoldError(f"test_region: {'all' if inside.all() else 'no'} rows share ground with it; choose another")
    return inside


def location_points(locations: Any, crs: Any) -> np.ndarray:
    """Centres of prediction locations, (location, 2) metres.

    Args:
        locations: a table of geometries, or (x, y) in the CRS of the folds, (location, 2).
        crs: of the folds.

    Raises:
        FoldError: no locations, coordinates of another shape, or not finite.
    """
    if isinstance(locations, geopandas.GeoDataFrame | geopandas.GeoSeries):
        centres = locations.geometry.to_crs(crs).centroid
        locations = np.column_stack([centres.x, centres.y])
    points = np.asarray(locations, dtype=float)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points):
        raise FoldError(f"prediction_locations: of shape {points.shape}, expected (number of locations, 2)")
    if not np.isfinite(points).all():
        raise FoldError(f"prediction_locations: {int((~np.isfinite(points)).any(axis=1).sum())} have no coordinates")
    return points


def _refuse(table: Any, wrong: pandas.Series, what: str, where: str = "") -> None:
    if wrong.any():
        raise FoldError(f"{where}{int(wrong.sum())} of {len(table)} rows {what} (row {first_ten(table.index[wrong])})")
