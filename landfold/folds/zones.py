"""Zones: pieces of ground that go to one fold as a whole.

Every kind is a rule that names the zone of any point in the project's CRS, so that a map asks the same rule
as the patches did. Blocks, hexagons and polygons do not know the patches, and scenes and labels know each
patch by itself: more data never moves a zone. Clusters are made of the patches: more data moves all of them.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import geopandas
import numpy as np
import pandas
import shapely
from rasterio.crs import CRS
from scipy.spatial import KDTree

from landfold.core.errors import LandfoldError, first_ten
from landfold.folds.settings import ZoneSettings
from landfold.geo.vector import are_polygons, check_attribute, check_features, check_rows, read_layer

ROW_HEIGHT = np.sqrt(3) / 2
"""Distance between two rows of hexagons that are 1 wide from flat to flat."""

SHIFTS = (0.7548776662466927, 0.5698402909980532)
"""1/g and 1/g^2 with g^3 = g + 1: the R2 sequence (M. Roberts 2018, The Unreasonable Effectiveness of
Quasirandom Sequences). Its multiples, modulo 1, fill the square evenly however many are taken."""

TOUCH_TOLERANCE = 1e-6
"""Of a footprint's area: what a border may share with a region that was brought from another CRS."""


class ZoneError(LandfoldError):
    """Zones that cannot be made, or that do not cover the patches."""


class Zones(ABC):
    """A rule that names the zone of any point in the project's CRS."""

    @abstractmethod
    def at(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Zone names of points, (point,) object; "" where there is no zone."""

    def of(self, patches: pandas.DataFrame) -> np.ndarray:
        """Zone names of patches, (patch,) object, by the centres ``x`` and ``y`` of their cores."""
        return self.at(patches["x"].to_numpy(), patches["y"].to_numpy())

    def polygon(self, zone: str) -> shapely.Geometry | None:
        """The ground of a zone; None where it is that of its patches."""
        return None


@dataclass(frozen=True)
class Blocks(Zones):
    """Square blocks from an absolute origin, at which four of them meet.

    Blocks are half-open, [x, x + size) and [y, y + size), so every point is in exactly one. A name such as
    ``E128N2271`` has the numbers of the block from the origin, eastwards and northwards.
    """

    block_size_m: float
    origin_m: tuple[float, float]

    def at(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Zone names of points, (point,) object."""
        east = np.floor((np.asarray(x) - self.origin_m[0]) / self.block_size_m).astype(np.int64)
        north = np.floor((np.asarray(y) - self.origin_m[1]) / self.block_size_m).astype(np.int64)
        return _named("E{}N{}", east, north)

    def polygon(self, zone: str) -> shapely.Polygon:
        """The square."""
        east, north = (int(part) for part in zone[1:].split("N"))
        x, y = self.origin_m[0] + east * self.block_size_m, self.origin_m[1] + north * self.block_size_m
        return shapely.box(x, y, x + self.block_size_m, y + self.block_size_m)


@dataclass(frozen=True)
class Hexagons(Zones):
    """Hexagons that stand on a corner, ``block_size_m`` wide from flat to flat; ``origin_m`` is the centre of one.

    A name such as ``Q12R-4`` has the axial numbers of the hexagon with the nearest centre. A point as near to
    several centres is in the one with the largest Q, then the largest R, so every point is in exactly one.
    """

    block_size_m: float
    origin_m: tuple[float, float]

    def at(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Zone names of points, (point,) object."""
        row = (np.asarray(y, dtype=float) - self.origin_m[1]) / (ROW_HEIGHT * self.block_size_m)
        column = (np.asarray(x, dtype=float) - self.origin_m[0]) / self.block_size_m - row / 2
        corner_q, corner_r = np.floor(column), np.floor(row)
        # the nearest centre is a corner of the rhombus around the point, two triangles of equal sides
        corners = [(1, 1), (1, 0), (0, 1), (0, 0)]
        steps = [(column - corner_q - q, row - corner_r - r) for q, r in corners]
        nearest = np.argmin([dq * dq + dq * dr + dr * dr for dq, dr in steps], axis=0)
        q, r = (np.stack([corner_q, corner_r]) + np.array(corners).T[:, nearest]).astype(np.int64)
        return _named("Q{}R{}", q, r)

    def polygon(self, zone: str) -> shapely.Polygon:
        """The hexagon."""
        q, r = (int(part) for part in zone[1:].split("R"))
        x = self.origin_m[0] + (q + r / 2) * self.block_size_m
        y = self.origin_m[1] + r * ROW_HEIGHT * self.block_size_m
        angles, radius = np.deg2rad(30 + 60 * np.arange(6)), self.block_size_m / np.sqrt(3)
        return shapely.Polygon(np.column_stack([x + radius * np.cos(angles), y + radius * np.sin(angles)]))


def _named(pattern: str, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Names with two numbers each, (point,) object; each distinct name is formatted once: a map has 10^8 points."""
    place, pairs = pandas.factorize(first * 2**32 + second)
    names = [pattern.format((pair + 2**31) >> 32, (pair + 2**31) % 2**32 - 2**31) for pair in pairs.tolist()]
    return np.array(names, dtype=object)[place]


@dataclass(frozen=True)
class Nearest(Zones):
    """Zones that each patch has by itself; any other point has that of the nearest patch."""

    x: np.ndarray
    y: np.ndarray
    names: np.ndarray

    def at(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The zone of the patch with the nearest centre."""
        _, nearest = KDTree(np.column_stack([self.x, self.y])).query(np.column_stack([x, y]))
        return self.names[nearest]

    def of(self, patches: pandas.DataFrame) -> np.ndarray:
        """The patches' own names; ``patches`` are those that the rule was made of."""
        return self.names


@dataclass(frozen=True)
class Clusters(Zones):
    """A zone for each of some centres, (cluster, 2): the points that are nearest to it."""

    centres: np.ndarray

    def at(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """``C0``, ``C1``, ...: the number of the nearest centre."""
        _, nearest = KDTree(self.centres).query(np.column_stack([x, y]))
        return np.array([f"C{number}" for number in nearest], dtype=object)


@dataclass(frozen=True)
class PolygonZones(Zones):
    """Polygons with names, several of which may be one zone.

    A point on the border of several zones is in the one whose name sorts first.
    """

    names: np.ndarray
    shapes: np.ndarray

    def at(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The zone around each point, "" where there is none, the first by name where there are several."""
        points = shapely.points(x, y)
        zones = np.full(len(points), "", dtype=object)
        for predicate in ("intersects", "within"):  # a zone around a point replaces one that it is on the border of
            pairs = self._pairs(points, predicate)[::-1]  # the first by name is written last
            zones[[point for point, _ in pairs]] = [name for _, name in pairs]
        return zones

    def of(self, patches: pandas.DataFrame) -> np.ndarray:
        """The zone around the centre of each patch.

        Raises:
            ZoneError: centres that are inside no zone, or inside two; some are named.
        """
        points = shapely.points(patches["x"].to_numpy(), patches["y"].to_numpy())
        inside = pandas.Series([point for point, _ in self._pairs(points, "within")], dtype=np.int64)
        twice = np.sort(inside[inside.duplicated()].unique())
        names = patches["patch"].to_numpy()
        if len(twice):
            raise ZoneError(
                f"zones.file: {len(twice)} patch centres are inside two zones (patch {first_ten(names[twice])}); "
                "correct the polygons so that they do not overlap"
            )
        zones = self.at(patches["x"].to_numpy(), patches["y"].to_numpy())
        outside = np.flatnonzero(zones == "")
        if len(outside):
            raise ZoneError(
                f"zones.file: {len(outside)} of {len(zones)} patch centres are in no zone (patch "
                f"{first_ten(names[outside])}); add polygons for them, or leave their labels out"
            )
        return zones

    def polygon(self, zone: str) -> shapely.Geometry:
        """The union of the polygons with this name."""
        return shapely.union_all(self.shapes[self.names == zone])

    def _pairs(self, points: np.ndarray, predicate: str) -> list[tuple[int, str]]:
        """Each point with each zone that it is in, once, in the order of the names."""
        point, polygon = shapely.STRtree(self.shapes).query(points, predicate=predicate)
        return sorted(set(zip(point.tolist(), self.names[polygon].tolist(), strict=True)))


def make_zones(
    settings: ZoneSettings,
    patches: pandas.DataFrame,
    polygons: geopandas.GeoDataFrame | None = None,
    *,
    repeat: int = 0,
) -> Zones:
    """The rule of the settings' kind.

    Repeat ``r`` of blocks and hexagons moves the origin by the fractions ``r * SHIFTS`` modulo 1 of their
    lattice's two steps; clusters start from another seed; the other kinds stay as they are.

    Args:
        settings: section ``zones``.
        patches: columns ``patch``, ``x``, ``y``, ``scene``, and ``zone_value`` for kind label.
        polygons: of kind polygons: columns ``zone`` and ``geometry``, as `read_polygon_zones` gives them.
        repeat: number of the repeat, from 0.

    Raises:
        ZoneError: patches without a value of the labels' attribute, or fewer places than clusters.
    """
    across, up = (repeat * shift % 1 for shift in SHIFTS)
    size, origin = settings.block_size_m, settings.origin_m
    if settings.kind == "grid":
        return Blocks(size, (origin[0] + across * size, origin[1] + up * size))
    if settings.kind == "hexagon":
        return Hexagons(size, (origin[0] + (across + up / 2) * size, origin[1] + up * ROW_HEIGHT * size))
    x, y = patches["x"].to_numpy(), patches["y"].to_numpy()
    if settings.kind == "kmeans":
        return Clusters(_centres(x, y, settings.clusters, settings.seed + repeat))
    if settings.kind == "scene":
        return Nearest(x, y, patches["scene"].to_numpy(object))
    if settings.kind == "label":
        return Nearest(x, y, _label_values(patches))
    return PolygonZones(polygons["zone"].to_numpy(object), polygons.geometry.to_numpy())


def _centres(x: np.ndarray, y: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """Centres of k-means, (cluster, 2) metres, sorted, to the millimetre: threads add up in any order."""
    from sklearn.cluster import KMeans  # a second to import, which other kinds of zones and the maps do not need

    points = np.column_stack([x, y])
    places = len(np.unique(points, axis=0))
    if places < clusters:
        raise ZoneError(f"zones.clusters is {clusters}, but the patches are at {places} places; lower it")
    middle = points.mean(axis=0)
    centres = KMeans(clusters, n_init=1, random_state=seed).fit(points - middle).cluster_centers_ + middle
    return np.unique(centres.round(3), axis=0)


def _label_values(patches: pandas.DataFrame) -> np.ndarray:
    if "zone_value" not in patches:
        raise ZoneError("zones.kind: label needs labels.zone_attribute, of kind polygons; set it and rerun patches")
    without = patches["patch"][patches["zone_value"].isna()]
    if len(without):
        raise ZoneError(
            f"{len(without)} of {len(patches)} patches lie on label polygons without a value of labels.zone_attribute "
            f"(patch {first_ten(without)}); give the polygons one, or choose another zones.kind"
        )
    return patches["zone_value"].to_numpy(object)


def zone_table(
    zones: np.ndarray, folds: np.ndarray, rule: Zones, crs: object, *, footprints: np.ndarray | None = None
) -> geopandas.GeoDataFrame:
    """One row a zone: name, fold (-1: test region only), number of patches, polygon.

    Where the rule knows no polygon, it is the union of the patches' ``footprints``.
    """
    names, number, counts = np.unique(zones.astype(str), return_inverse=True, return_counts=True)
    fold = np.full(len(names), -1, dtype=np.int64)
    np.maximum.at(fold, number, folds)
    polygons = [rule.polygon(name) for name in names]
    if any(polygon is None for polygon in polygons):
        order = np.argsort(number, kind="stable")
        parts = np.split(footprints[order], np.cumsum(counts)[:-1])
        polygons = [shapely.union_all(part) for part in parts]
    return geopandas.GeoDataFrame({"zone": names, "fold": fold, "patches": counts}, geometry=polygons, crs=crs)


def read_polygon_zones(settings: ZoneSettings, raw: Path, crs: CRS) -> geopandas.GeoDataFrame | None:
    """The polygons of ``zones.file`` in ``crs`` with the column ``zone``; None for another kind.

    Raises:
        ZoneError: a file that is absent or unusable, no such attribute, or polygons without a value of it.
    """
    if settings.kind != "polygons":
        return None
    path, name = raw / settings.file, settings.attribute
    table = _read_polygons(path, "zones.file", crs)
    check_attribute(path, table, name, "zones.attribute")
    check_rows(path, table[name].isna(), f"polygons have no value of '{name}' (zones.attribute)", "give them one")
    values = table[name].map(lambda value: int(value) if isinstance(value, float) and value.is_integer() else value)
    return geopandas.GeoDataFrame({"zone": values.astype(str)}, geometry=table.geometry.to_numpy(), crs=crs)


def test_region(settings: ZoneSettings, raw: Path, crs: CRS) -> shapely.Geometry | None:
    """The ground of ``zones.test_region`` in ``crs``; None where it is null.

    Raises:
        ZoneError: a file that is absent or unusable.
    """
    if settings.test_region is None or isinstance(settings.test_region, tuple):
        return settings.test_region and shapely.box(*settings.test_region)
    table = _read_polygons(raw / settings.test_region, "zones.test_region", crs)
    return shapely.union_all(table.geometry.to_numpy())


def in_test_region(patches: geopandas.GeoDataFrame, settings: ZoneSettings, raw: Path, crs: CRS) -> np.ndarray:
    """Which patches share ground with ``zones.test_region``, (patch,) bool; none where it is null.

    Raises:
        ZoneError: a file that is absent or unusable, a region without a patch, or one with all of them.
    """
    region = test_region(settings, raw, crs)
    if region is None:
        return np.zeros(len(patches), dtype=bool)
    inside = shares_region(patches.geometry.to_numpy(), region)
    if not inside.any() or inside.all():
        bounds, ground = (", ".join(f"{part:.0f}" for part in box) for box in (region.bounds, patches.total_bounds))
        raise ZoneError(
            f"zones.test_region: {'all' if inside.all() else 'no'} patches share ground with it; its x_min, y_min, "
            f"x_max, y_max are {bounds}, those of the patches {ground}; choose another region, or null"
        )
    return inside


def shares_region(footprints: np.ndarray, region: shapely.Geometry) -> np.ndarray:
    """Which footprints share ground with a region, (footprint,) bool.

    A share of an area below `TOUCH_TOLERANCE` is a border; a point or a line shares ground where it touches.
    """
    shapely.prepare(region)
    inside = shapely.intersects(region, footprints)
    area = shapely.area(footprints[inside])
    shared = shapely.area(shapely.intersection(region, footprints[inside]))
    inside[inside] = (shared > TOUCH_TOLERANCE * area) | (area == 0)
    return inside


def _read_polygons(path: Path, setting: str, crs: CRS) -> geopandas.GeoDataFrame:
    """A vector file of valid polygons, in ``crs``."""
    if not path.exists():
        raise ZoneError(f"{path}: not found; {setting} names a vector file below data/raw")
    table = read_layer(path, setting=None)
    check_features(path, table, f"polygons ({setting})")
    check_rows(path, ~are_polygons(table), "features are not valid polygons", f"repair them ({setting})")
    moved = table.to_crs(crs)
    lost = ~np.isfinite(moved.geometry.bounds).all(axis=1)
    check_rows(path, lost, "polygons have no place in project.crs", f"correct their CRS or leave them out ({setting})")
    return moved
