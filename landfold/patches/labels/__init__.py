"""Reference labels of every kind: polygons, points, a raster, a table of files, folders of classes."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import geopandas
from rasterio.crs import CRS

from landfold.geo.crs import describe_crs
from landfold.geo.grid import Grid
from landfold.patches.labels.classes import Labels
from landfold.patches.labels.rasters import read_raster
from landfold.patches.labels.scenes import read_folders, read_table
from landfold.patches.labels.vectors import read_points, read_polygons
from landfold.patches.settings import LabelError, LabelSettings
from landfold.scenes.sensors.scene_files import SceneFiles

__all__ = ["LabelError", "LabelSettings", "Labels", "check_ground", "read_labels"]


def read_labels(
    folder: Path, settings: LabelSettings, *, scenes: Path, find: Callable[[Path], Sequence[SceneFiles]]
) -> Labels:
    """Read labels of any kind from ``folder``.

    ``find`` lists what was delivered below ``scenes``; only labels of whole scenes ask for it.

    Raises:
        LabelError: what the reader of the kind refuses.
    """
    if settings.kind == "table":
        return read_table(folder, settings, find(scenes), scenes)
    if settings.kind == "folder":
        return read_folders(settings, find(scenes))
    return {"polygons": read_polygons, "points": read_points, "raster": read_raster}[settings.kind](folder, settings)


def check_ground(labels: Labels, grids: Mapping[str, Grid], crs: CRS) -> None:
    """Refuse labels none of which lies in any scene.

    Raises:
        LabelError: with the bounds of labels and scenes in ``crs``.
    """
    ground = labels.ground
    if ground is None or any(ground.to_crs(g.crs).intersects(g.footprint(g.whole)).any() for g in grids.values()):
        return
    footprints = [geopandas.GeoSeries([g.footprint(g.whole)], crs=g.crs).to_crs(crs) for g in grids.values()]
    there = [footprint.total_bounds for footprint in footprints]
    union = [f(bounds[i] for bounds in there) for i, f in enumerate((min, min, max, max))]
    raise LabelError(
        f"the labels meet no scene: in {describe_crs(crs)} they lie in {_bounds(ground.to_crs(crs).total_bounds)}, "
        f"the {len(there)} scenes in {_bounds(union)}; check the CRS of both, or bring labels of this ground"
    )


def _bounds(bounds: Sequence[float]) -> str:
    x_min, y_min, x_max, y_max = bounds
    return f"x {x_min:.0f} to {x_max:.0f}, y {y_min:.0f} to {y_max:.0f}"
