"""Zones: pieces of ground that go to one fold as a whole."""

from typing import Literal

import geopandas
import numpy as np
import shapely
from pydantic import Field, model_validator

from landfold.settings import Settings


class ZoneSettings(Settings):
    """Section ``zones`` of params.yaml."""

    k: int = Field(ge=2)
    """number of folds"""
    folds: list[int]
    """0, 1, ..., k - 1: DVC makes one training stage of each entry"""
    kind: Literal["grid"]
    """grid: square blocks"""
    block_size_m: float = Field(gt=0)
    """side of a block in metres; larger than the range over which the ground resembles itself"""
    origin_m: tuple[float, float]
    """x and y in project.crs of a corner where four blocks meet; zones never move when data is added"""
    assignment: Literal["stratified", "group"]
    """how zones go to folds: balancing the classes (stratified) or the number of patches (group)"""
    buffer_m: float = Field(ge=0)
    """training patches at most this far from a validation patch are dropped, edge to edge in metres;
    at 0 those that share ground with one"""
    seed: int = Field(ge=0)
    """seed of the stratified assignment"""

    @model_validator(mode="after")
    def _folds_are_range(self) -> "ZoneSettings":
        if self.folds != list(range(self.k)):
            raise ValueError(f"folds must be {list(range(self.k))} for k: {self.k}, found {self.folds}")
        return self


def grid_zones(x: np.ndarray, y: np.ndarray, *, block_size_m: float, origin_m: tuple[float, float]) -> np.ndarray:
    """Zone names of points, such as ``E128N2271``: the numbers of the block from the origin.

    Blocks are half-open, [x, x + size) and [y, y + size), so every point is in exactly one.
    """
    east = np.floor((np.asarray(x) - origin_m[0]) / block_size_m).astype(np.int64)
    north = np.floor((np.asarray(y) - origin_m[1]) / block_size_m).astype(np.int64)
    return np.array([f"E{e}N{n}" for e, n in zip(east, north, strict=True)], dtype=object)


def zone_polygon(zone: str, *, block_size_m: float, origin_m: tuple[float, float]) -> shapely.Polygon:
    """The ground of a zone named by `grid_zones`, in the project's CRS."""
    east, north = (int(part) for part in zone[1:].split("N"))
    x, y = origin_m[0] + east * block_size_m, origin_m[1] + north * block_size_m
    return shapely.box(x, y, x + block_size_m, y + block_size_m)


def zone_table(zones: np.ndarray, folds: np.ndarray, settings: ZoneSettings, crs: object) -> geopandas.GeoDataFrame:
    """One row a zone: name, fold, number of patches, polygon."""
    names, first, counts = np.unique(zones.astype(str), return_index=True, return_counts=True)
    polygons = [zone_polygon(n, block_size_m=settings.block_size_m, origin_m=settings.origin_m) for n in names]
    return geopandas.GeoDataFrame({"zone": names, "fold": folds[first], "patches": counts}, geometry=polygons, crs=crs)
