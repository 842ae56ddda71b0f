"""Coordinate reference systems: their names, whether they measure the ground, and points from one to another."""

from collections.abc import Iterable
from functools import lru_cache

import numpy as np
import pyproj
from rasterio.crs import CRS

WGS84 = CRS.from_epsg(4326)

MAX_AREAL_SCALE = 1.25
"""UTM has 1.03 in the middle of a neighbouring zone, 1.07 two zones off; Web Mercator has 2 at 45 degrees."""


def describe_crs(crs: CRS) -> str:
    """A short name of a CRS: its authority code where it has one."""
    authority = crs.to_authority()
    return ":".join(authority) if authority else crs.to_wkt()[:60] + "..."


def is_metric(crs: CRS) -> bool:
    """Whether a CRS is projected and in metres."""
    return crs.is_projected and crs.linear_units_factor[1] == 1.0


def is_mercator(crs: CRS) -> bool:
    """Whether a CRS is a Mercator projection; its areas grow with 1/cos2 of the latitude, 2.6 times at 52 degrees."""
    return crs.to_dict().get("proj") in ("merc", "webmerc")


def is_true_to_scale(crs: CRS) -> bool:
    """Whether lengths and areas in a CRS are near those of the ground: in metres, and not Mercator."""
    return is_metric(crs) and not is_mercator(crs)


def areal_scale(crs: CRS, longitude: float, latitude: float) -> float:
    """How many times as large as on the ground areas are in a CRS, at a place in degrees of WGS 84."""
    return pyproj.Proj(crs.to_wkt()).get_factors(longitude, latitude).areal_scale


def wrong_areal_scale(crs: CRS, longitudes: Iterable[float], latitudes: Iterable[float]) -> float | None:
    """The largest areal scale at places in degrees of WGS 84, if one of them is so far from 1 that metres are not true.

    None if all are true; places at which the CRS is not defined do not count.
    """
    scales = [areal_scale(crs, *place) for place in zip(longitudes, latitudes, strict=True)]
    return max((s for s in scales if np.isfinite(s) and not 1 / MAX_AREAL_SCALE < s < MAX_AREAL_SCALE), default=None)


def transform_points(source: CRS, target: CRS, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """X and y of points in another CRS (longitude and latitude in a geographic one); infinite where it has no place."""
    if source == target:
        return np.asarray(x), np.asarray(y)
    return _transformer(source.to_wkt(), target.to_wkt()).transform(x, y)


@lru_cache(maxsize=64)
def _transformer(source: str, target: str) -> pyproj.Transformer:
    return pyproj.Transformer.from_crs(source, target, always_xy=True)
