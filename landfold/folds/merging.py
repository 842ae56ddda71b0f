"""Zones that are made one because their patches share ground, for ``zones.overlaps: merge``."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import geopandas
import numpy as np
import pandas
import shapely
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from landfold.folds.settings import ZoneSettings
from landfold.folds.split import FoldError, overlaps
from landfold.folds.zones import Zones, make_zones


@dataclass(frozen=True)
class MergedZones(Zones):
    """Zones some of which were made one: ``name_of`` has the new name of each."""

    zones: Zones
    name_of: Mapping[str, str]

    def at(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The merged zones at points, (point,) object."""
        return self._renamed(self.zones.at(x, y))

    def of(self, patches: pandas.DataFrame) -> np.ndarray:
        """The merged zones of patches, (patch,) object."""
        return self._renamed(self.zones.of(patches))

    def polygon(self, zone: str) -> shapely.Geometry | None:
        """The union of the zones that are this one."""
        polygons = [self.zones.polygon(member) for member in self._members.get(zone, [zone])]
        return None if any(polygon is None for polygon in polygons) else shapely.union_all(polygons)

    @cached_property
    def _members(self) -> dict[str, list[str]]:
        members: dict[str, list[str]] = {}
        for old, new in sorted(self.name_of.items()):
            members.setdefault(new, []).append(old)
        return members

    def _renamed(self, names: np.ndarray) -> np.ndarray:
        return np.array([self.name_of.get(name, name) for name in names], dtype=object)


def merge_overlapping_zones(zones: np.ndarray, footprints: np.ndarray) -> dict[str, str]:
    """The zone that each zone becomes when zones with patches that share ground are made one.

    Ground counts in any scene and at any date, and through any number of patches in between. A zone made of
    several is called by the first of their names and how many more there are: ``E1N7+2``.
    """
    names, number = np.unique(zones.astype(str), return_inverse=True)
    first, second = shapely.STRtree(footprints).query(footprints, predicate="intersects")
    across = (first < second) & (number[first] != number[second])
    first, second = first[across], second[across]
    shared = overlaps(footprints[first], footprints[second])
    links = (np.ones(int(shared.sum())), (number[first[shared]], number[second[shared]]))
    _, component = connected_components(coo_array(links, shape=(len(names), len(names))), directed=False)
    members = pandas.Series(names).groupby(component).agg(["min", "size"])
    merged = [f"{name}+{size - 1}" if size > 1 else name for name, size in members.to_numpy()]
    return {name: merged[part] for name, part in zip(names.tolist(), component, strict=True)}


def merged_zones(rule: Zones, zones: np.ndarray, footprints: np.ndarray, k: int) -> MergedZones:
    """The rule with those zones made one whose patches share ground.

    Args:
        rule: the rule as it was.
        zones: (patch,) the zones that it gives the patches.
        footprints: (patch,) geometries.
        k: number of folds.

    Raises:
        FoldError: fewer zones are left than folds.
    """
    name_of = merge_overlapping_zones(zones, footprints)
    left = len(set(name_of.values()))
    if left < k:
        raise FoldError(
            f"zones.overlaps: merge leaves {left} of {len(name_of)} zones, too few for {k} folds: patches that share "
            "ground connect the others; set patches.stride_px to patches.size_px or more, raise zones.block_size_m, "
            "lower zones.k, or set zones.overlaps: buffer"
        )
    return MergedZones(rule, name_of)


def written_zones(
    settings: ZoneSettings,
    patches: pandas.DataFrame,
    names: pandas.Series,
    polygons: geopandas.GeoDataFrame | None = None,
    *,
    repeat: int = 0,
) -> Zones:
    """The rule by which the zones stage has named the zones of a repeat, merged ones among them.

    Args:
        settings: section ``zones``.
        patches: data/patches.parquet.
        names: the zone of each patch in that repeat.
        polygons: the repeat's layer of the folds' zones.gpkg, which serves for kind polygons.
        repeat: number of the repeat, from 0.
    """
    zones = make_zones(settings, patches, polygons, repeat=repeat)
    if settings.overlaps == "buffer":
        return zones
    return MergedZones(zones, dict(zip(zones.of(patches), names, strict=True)))
