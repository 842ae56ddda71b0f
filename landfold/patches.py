"""Patches: windows of a scene with the label of their core, and what was dropped and why.

A patch is ``size_px`` square. Its label is that of its central core, ``core_px`` square; the
network sees the whole window. What decides leakage is the footprint of the whole window.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import geopandas
import numpy as np
import shapely
from pydantic import Field, model_validator
from rasterio.crs import CRS
from rasterio.windows import Window

from landfold.errors import LandfoldError
from landfold.grid import Grid
from landfold.labels import LabelPolygons, class_raster
from landfold.raster import Raster
from landfold.settings import Settings

DROP_REASONS = ("invalid", "unlabelled", "impure")
"""In this order: too much nodata or cloud; no label in the core; no class pure enough."""


class PatchError(LandfoldError):
    """Patches that cannot be cut or serve no purpose."""


class PatchSettings(Settings):
    """Section ``patches`` of params.yaml."""

    size_px: int = Field(ge=1)
    """side of a patch in pixels: what the network sees"""
    core_px: int = Field(ge=1)
    """side of the central core in pixels: what the label speaks of"""
    stride_px: int = Field(ge=1)
    """distance between neighbouring patches in pixels"""
    min_purity: float = Field(gt=0, le=1)
    """least share of the core's pixels that its majority class must cover"""
    max_invalid: float = Field(ge=0, lt=1)
    """a patch with a larger share of nodata or cloud is dropped"""

    @model_validator(mode="after")
    def _core_is_central(self) -> Self:
        if self.core_px > self.size_px or (self.size_px - self.core_px) % 2:
            raise ValueError("core_px must be at most size_px and differ from it by an even number, to be central")
        return self

    @property
    def margin_px(self) -> int:
        """Pixels between the edge of a patch and its core."""
        return (self.size_px - self.core_px) // 2


@dataclass(frozen=True)
class ScenePatches:
    """Patches of one scene, and how many windows there were and were dropped for each reason."""

    table: geopandas.GeoDataFrame
    windows: int
    dropped: dict[str, int]


def cut_patches(
    scene: str,
    raster: Raster,
    labels: LabelPolygons,
    settings: PatchSettings,
    project_crs: CRS,
    *,
    progress: Callable[[float], None] = lambda fraction: None,
) -> ScenePatches:
    """All windows of a scene on the stride's grid that lie inside it, labelled, filtered and counted.

    The table has one row a patch: ``patch`` (id), ``scene``, ``row``, ``column`` (offset of the
    window in pixels), ``size_px``, ``label`` (class name), ``purity`` and ``valid`` (fractions),
    ``x`` and ``y`` (centre of the core) and ``geometry`` (footprint), both in the project's CRS.
    """
    grid, size = raster.grid, settings.size_px
    polygons = labels.on(grid)
    columns = np.arange(0, grid.width - size + 1, settings.stride_px)
    rows = np.arange(0, grid.height - size + 1, settings.stride_px)
    found: list[tuple[np.ndarray, ...]] = []
    dropped = dict.fromkeys(DROP_REASONS, 0)
    for row in rows:
        strip = Window(0, int(row), grid.width, size)
        valid_px = _sums(raster.valid(strip), columns, size)
        core = class_raster(polygons, grid, Window(0, int(row) + settings.margin_px, grid.width, settings.core_px))
        counts = np.stack(
            [
                _sums(core == number, columns + settings.margin_px, settings.core_px)
                for number in range(1, len(labels.names) + 1)
            ]
        )
        majority = counts.argmax(axis=0)  # a tie goes to the class listed first
        purity = counts.max(axis=0) / settings.core_px**2
        fates = {
            "invalid": (size**2 - valid_px) / size**2 > settings.max_invalid,
            "unlabelled": purity == 0,
            "impure": purity < settings.min_purity,
        }
        keep = np.ones(len(columns), dtype=bool)
        for reason, fate in fates.items():
            dropped[reason] += int((keep & fate).sum())
            keep &= ~fate
        found.append((np.full(keep.sum(), row), columns[keep], majority[keep], purity[keep], valid_px[keep] / size**2))
        progress((row + settings.stride_px) / (rows[-1] + settings.stride_px))
    table = _table(scene, grid, labels.names, settings, project_crs, found)
    return ScenePatches(table, len(rows) * len(columns), dropped)


def _sums(mask: np.ndarray, starts: np.ndarray, width: int) -> np.ndarray:
    """Number of True pixels in each window of full height and ``width`` columns from each start."""
    cumulative = np.concatenate([[0], np.cumsum(mask.sum(axis=0, dtype=np.int64))])
    return cumulative[starts + width] - cumulative[starts]


def _table(
    scene: str,
    grid: Grid,
    names: list[str],
    settings: PatchSettings,
    project_crs: CRS,
    found: list[tuple[np.ndarray, ...]],
) -> geopandas.GeoDataFrame:
    parts = zip(*found, strict=True) if found else [[]] * 5
    row, column, label, purity, valid = (np.concatenate([*p, []]) for p in parts)
    row, column, label = row.astype(np.int64), column.astype(np.int64), label.astype(np.int64)
    size = settings.size_px
    windows = [Window(int(c), int(r), size, size) for r, c in zip(row, column, strict=True)]
    table = geopandas.GeoDataFrame(
        {
            "patch": [f"{scene}/{r}/{c}" for r, c in zip(row, column, strict=True)],
            "scene": scene,
            "row": row,
            "column": column,
            "size_px": size,
            "label": np.array(names, dtype=object)[label],
            "purity": purity,
            "valid": valid,
        },
        geometry=[grid.footprint(window) for window in windows],
        crs=grid.crs,
    ).to_crs(project_crs)
    centre = shapely.centroid(table.geometry.values)
    table.insert(8, "x", shapely.get_x(centre))
    table.insert(9, "y", shapely.get_y(centre))
    return table


def check_classes(table: geopandas.GeoDataFrame, names: list[str]) -> None:
    """Refuse a table in which a class has no patch.

    Raises:
        PatchError: naming the classes.
    """
    counts = table["label"].value_counts()
    absent = [name for name in names if name not in counts]
    if len(table) == 0:
        raise PatchError(
            "no patch is left: the labels meet no scene, or patches.min_purity or patches.max_invalid is too strict"
        )
    if absent:
        raise PatchError(
            f"no patch of class {', '.join(absent)}: lower patches.min_purity, merge the class with another, "
            "or move its values to labels.exclude"
        )


def summarize(scenes: list[ScenePatches], names: list[str]) -> dict[str, Any]:
    """Counts for metrics/patches.json: windows, kept, dropped by reason, kept by class."""
    labels = [label for part in scenes for label in part.table["label"]]
    return {
        "windows": sum(part.windows for part in scenes),
        "kept": len(labels),
        "dropped": {reason: sum(part.dropped[reason] for part in scenes) for reason in DROP_REASONS},
        "classes": {name: labels.count(name) for name in names},
    }
