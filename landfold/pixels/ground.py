"""Ground that a fold holds out: which pixels of a scene its training must not see, and which zone each pixel is in."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

import geopandas
import numpy as np
import pandas
import shapely
from rasterio.crs import CRS
from rasterio.features import rasterize
from rasterio.windows import Window
from scipy.ndimage import binary_dilation, distance_transform_edt

from landfold.folds.lists import column, read_assignment, read_fold_list, read_test_region
from landfold.folds.merging import written_zones
from landfold.folds.settings import ZoneSettings
from landfold.folds.split import TEST
from landfold.folds.zones import Zones
from landfold.geo.grid import Grid
from landfold.geo.vector import read_layer


@dataclass(frozen=True)
class HeldOutGround:
    """Ground that a training must not see, not even as surroundings of what it learns.

    It is that of whole zones, of the patches that are held out (which may reach over the border of their zone) and of
    the test region, and what lies at most ``buffer_m`` from any of it, pixel edge to pixel edge; without a buffer the
    held-out pixels alone. A zone that is in no fold must not be seen either, so that the map is right to use any fold
    there.

    Attributes:
        crs: the project's, metric.
        rule: names the zone of any point.
        zones: names of the zones that are held out; none for a random fold.
        footprints: (n,) of the validation patches, in ``crs``.
        test: (n,) of the patches in the test region, and the region.
        buffer_m: width of the buffer, metres.
        folded: names of the zones that are in a fold of the repeat; None: all are.
    """

    crs: CRS
    rule: Zones
    zones: frozenset[str]
    footprints: np.ndarray
    test: np.ndarray
    buffer_m: float
    folded: frozenset[str] | None = None

    @property
    def nothing(self) -> "HeldOutGround":
        """The same zones with nothing held out."""
        none = self.footprints[:0]
        return replace(self, zones=frozenset(), footprints=none, test=none, buffer_m=0.0, folded=None)

    def with_zones(self, names: Iterable[str]) -> "HeldOutGround":
        """The same with more zones held out, as for an inner split."""
        return replace(self, zones=self.zones | frozenset(names))

    def zones_of(self, grid: Grid) -> np.ndarray:
        """The name of the zone at the centre of each pixel, (y, x) object; "" where there is none."""
        return zones_at(grid, self.crs, self.rule.at)

    def in_zones(self, grid: Grid) -> np.ndarray:
        """Which pixels have their centre in a held-out zone: (y, x) bool."""
        return _among(self.zones_of(grid), self.zones)

    def scored(self, grid: Grid) -> np.ndarray:
        """Which pixels the fold is scored on, (y, x) bool.

        They are those of its zones, or of its validation patches where it holds out no zones, and none of the test
        region.
        """
        own = self.in_zones(grid) if self.zones else self._touched(grid, self.footprints)
        return own & ~self._touched(grid, self.test)

    def held_out(self, grid: Grid) -> np.ndarray:
        """Which pixels lie in held-out ground, the buffer left out: (y, x) bool."""
        return self._held_out(grid, self.zones_of(grid))

    def blocked(self, grid: Grid) -> np.ndarray:
        """Which pixels a training must not see: held-out ground, its buffer, and zones in no fold; (y, x) bool."""
        width, height = grid.resolution
        reach = ceil(self.buffer_m / min(width, height)) + 1
        around = grid.part(Window(-reach, -reach, grid.width + 2 * reach, grid.height + 2 * reach))
        zones, inner = self.zones_of(around), (slice(reach, -reach), slice(reach, -reach))
        near = self._held_out(around, zones)
        if self.buffer_m > 0 and near.any():
            # from edge to edge, pixels are as far apart as the centre of one is from that of the other's neighbour
            near = binary_dilation(near, np.ones((3, 3)))
            near = distance_transform_edt(~near, sampling=(height, width)) <= self.buffer_m
        return near[inner] if self.folded is None else near[inner] | ~_among(zones[inner], self.folded)

    def _held_out(self, grid: Grid, zones: np.ndarray) -> np.ndarray:
        """The same as `held_out`, of pixels whose zones are known."""
        touched = self._touched(grid, self.footprints) | self._touched(grid, self.test)
        return _among(zones, self.zones) | touched

    def _touched(self, grid: Grid, shapes: np.ndarray) -> np.ndarray:
        """Which pixels share ground with a shape, (y, x) bool."""
        ground = geopandas.GeoSeries([grid.footprint(grid.whole)], crs=grid.crs).to_crs(self.crs)
        near = shapes[shapely.intersects(shapes, shapely.box(*ground.total_bounds))]
        if not len(near):
            return np.zeros(grid.shape, dtype=bool)
        # a footprint on the pixels' own grid must not touch its neighbours by a rounding error
        shapes = geopandas.GeoSeries(near, crs=self.crs).to_crs(grid.crs).buffer(-0.01 * min(grid.resolution))
        return rasterize(shapes, out_shape=grid.shape, transform=grid.transform, all_touched=True, dtype="uint8") > 0


def _among(zones: np.ndarray, names: frozenset[str]) -> np.ndarray:
    """Which pixels have one of some zones, of (y, x) names: (y, x) bool."""
    return pandas.Series(zones.ravel()).isin(names).to_numpy().reshape(zones.shape)


def zones_at(grid: Grid, crs: CRS, zone_of: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """The zone at the centre of each pixel of a grid, (y, x) object; "" where there is none.

    Args:
        grid: the pixels.
        crs: of the zones.
        zone_of: gives the zone at x and y in that CRS.
    """
    columns, rows = np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5)
    t = grid.transform
    x, y = (t.a * columns + t.b * rows + t.c).ravel(), (t.d * columns + t.e * rows + t.f).ravel()
    if grid.crs != crs:
        centres = geopandas.GeoSeries(shapely.points(x, y), crs=grid.crs).to_crs(crs)
        x, y = centres.x.to_numpy(), centres.y.to_numpy()
    return zone_of(x, y).reshape(grid.shape)


def fold_ground(
    folds: Path, patches: pandas.DataFrame, settings: ZoneSettings, crs: CRS, fold: int, *, kind: str = "fold"
) -> HeldOutGround:
    """The ground that a fold holds out, as the zones stage has made it.

    Args:
        folds: data/folds/kK.
        patches: data/patches.parquet, with ``geometry`` as shapes or WKB.
        settings: section ``zones``.
        crs: of footprints and zones.
        fold: its number.
        kind: ``fold`` for the spatial one; ``random``: of its validation patches alone, without a buffer.

    Raises:
        FoldError: the list of the fold is absent or not of these patches.
    """
    repeat = fold // settings.k
    sides = read_fold_list(folds / f"{kind}_{fold}.parquet", patches["patch"])
    names, own = (read_assignment(folds)[column(name, repeat)] for name in ("zone", "fold"))
    layer = read_layer(folds / "zones.gpkg", column("zones", repeat), setting="layer")
    region = read_test_region(folds)
    shapes = patches["geometry"].to_numpy(object)
    shapes = shapely.from_wkb(shapes) if isinstance(shapes[0], bytes) else shapes
    validation, test = (shapes[sides["side"] == side] for side in ("validation", "test"))
    is_random = kind == "random"
    return HeldOutGround(
        crs=crs,
        rule=written_zones(settings, patches, names, layer, repeat=repeat),
        zones=frozenset() if is_random else frozenset(sides["zone"][sides["side"] == "validation"]),
        footprints=validation,
        test=np.array([*test, *([] if region is None else [region])], dtype=object),
        buffer_m=0.0 if is_random else settings.buffer_m,
        folded=frozenset(names[own != TEST]),
    )
