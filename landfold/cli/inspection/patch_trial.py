"""Patches and folds that a delivery would give: cut from the grids of the scenes and the labels, without any band.

Pixels count as if all held data, since nodata and clouds are known only when the bands are read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas
import shapely
from rasterio.crs import CRS
from rasterio.windows import Window

from landfold.cli.inspection.scene_headers import SceneView
from landfold.core.errors import LandfoldError
from landfold.folds.assignment import fold_patches
from landfold.folds.lists import CrossValidationFolds
from landfold.folds.settings import ZoneSettings
from landfold.folds.zones import in_test_region, read_polygon_zones
from landfold.geo.grid import Grid
from landfold.patches.cut import ScenePatches, concat_patches, cut_patches
from landfold.patches.labels import Labels
from landfold.patches.labels.vectors import LabelPolygons
from landfold.patches.settings import UNLABELLED, PatchSettings
from landfold.scenes.ingest import lattice_origin
from landfold.scenes.ingest.plan import plan_scene
from landfold.scenes.settings import IngestSettings

MAX_SCENES, MAX_PIXELS = 200, 150_000_000
"""Of a larger delivery every second, third, ... scene is cut; 150 million pixels are one Sentinel-2 tile at 10 m."""
STRIP_PX = 256


@dataclass(frozen=True)
class UnmaskedRaster:
    """What `cut_patches` reads of a raster: a grid, and a mask in which every pixel holds data."""

    grid: Grid

    def read_mask(self, window: Window) -> np.ndarray:
        """(y, x) bool, all true."""
        return np.ones((int(window.height), int(window.width)), dtype=bool)


@dataclass(frozen=True)
class LabelledGrids:
    """The grids that ingest would give the scenes, and the labels on them.

    Attributes:
        grids: by the name of the scene; of a large delivery a part.
        scenes: how many scenes there are.
        labels: of all of them.
        crs: ``project.crs``.
    """

    grids: dict[str, Grid]
    scenes: int
    labels: Labels
    crs: CRS

    @property
    def complete(self) -> bool:
        """Whether all scenes are here."""
        return len(self.grids) == self.scenes

    def cut(self, settings: PatchSettings) -> ScenePatches:
        """The patches of all grids.

        Raises:
            LandfoldError: labels that a scene refuses.
        """
        parts = {
            scene: cut_patches(scene, UnmaskedRaster(grid), self.labels, settings, self.crs).to_arrow()
            for scene, grid in self.grids.items()
        }
        return concat_patches(parts, self.crs)[0]

    def class_px(self) -> dict[str, int]:
        """Labelled pixels of each class.

        Raises:
            LandfoldError: labels that a scene refuses.
        """
        counts = np.zeros(len(self.labels.names) + 1, dtype=np.int64)
        for scene, grid in self.grids.items():
            with self.labels.on(scene, grid) as here:
                for row in range(0, grid.height, STRIP_PX):
                    numbers = here.classes(Window(0, row, grid.width, min(STRIP_PX, grid.height - row)))
                    counts += np.bincount(numbers.ravel(), minlength=len(counts))
        return dict(zip(self.labels.names, counts[UNLABELLED + 1 :].tolist(), strict=True))

    def polygon_px(self) -> dict[str, np.ndarray] | None:
        """Areas of the polygons of each class that meet a scene, in pixels; None where labels are no polygons."""
        if not isinstance(self.labels, LabelPolygons):
            return None
        polygons = self.labels.polygons
        area = np.zeros(len(polygons))
        for grid in self.grids.values():
            there = polygons.geometry.to_crs(grid.crs)
            near = np.flatnonzero(there.intersects(grid.footprint(grid.whole)))
            area[near] = np.maximum(area[near], shapely.area(there.iloc[near]) / prod(grid.resolution))
        numbers = polygons["label"].to_numpy()
        return {
            name: area[(numbers == number) & (area > 0)]
            for number, name in enumerate(self.labels.names, UNLABELLED + 1)
        }


def labelled_grids(
    views: Sequence[SceneView], ingest: IngestSettings, labels: Labels, crs: CRS
) -> LabelledGrids | None:
    """The grids of the scenes that ingest accepts; None if there are none."""
    usable = [view for view in views if view.grid is not None and not view.scene.fault]
    pixels = sum(prod(view.grid.shape) for view in usable)
    step = max(1, ceil(len(usable) / MAX_SCENES), ceil(pixels / MAX_PIXELS))
    origin = lattice_origin([view.scene for view in usable], ingest, crs)
    grids = {}
    for view in usable[::step]:
        try:
            with plan_scene(view.scene, ingest, crs, origin) as plan:
                grids[view.scene.name] = plan.grid
        except LandfoldError:
            continue  # the check of the scene reports it
    return LabelledGrids(grids, len(grids) if step == 1 else len(usable), labels, crs) if grids else None


def fold_trial(patches: geopandas.GeoDataFrame, settings: ZoneSettings, raw: Path) -> CrossValidationFolds:
    """The folds of patches; ``assignment: knndm``, which needs the pixels of scenes, as ``group``.

    Raises:
        FoldError, ZoneError: as `landfold.folds.assignment.fold_patches`.
    """
    if settings.assignment == "knndm":
        settings = settings.model_copy(update={"assignment": "group"})
    test = in_test_region(patches, settings, raw, patches.crs)
    return fold_patches(patches, settings, test, read_polygon_zones(settings, raw, patches.crs))


@dataclass(frozen=True)
class PatchTrial:
    """What a delivery would give under some settings.

    Attributes:
        settings: section ``patches``.
        ground: the grids and labels.
        patches: what was cut.
        pixels: labelled pixels by class; None with ``labels.unit: patch``.
        folds: None where they cannot be made.
    """

    settings: PatchSettings
    ground: LabelledGrids
    patches: ScenePatches
    pixels: dict[str, int] | None
    folds: CrossValidationFolds | None

    @property
    def needed_px(self) -> int:
        """Pixels of one class that a core needs."""
        return ceil(self.settings.min_purity * self.settings.core_px**2)

    def classes(self) -> list[dict[str, Any]]:
        """Counts of each class: patches, zones, and labelled pixels and polygons where there are such."""
        table = self.patches.table if self.folds is None else self.folds.table
        kept = table.groupby("label")
        zones = kept["zone"].nunique() if self.folds else pandas.Series(dtype=int)
        sizes, areas = kept.size(), self.ground.polygon_px()
        rows = []
        for name in self.ground.labels.names:
            row: dict[str, Any] = {"class": name}
            if areas is not None:
                row |= {"polygons": len(areas[name]), "large_enough": int((areas[name] >= self.needed_px).sum())}
                row["largest_px"] = round(float(areas[name].max(initial=0)))
            if self.pixels is not None:
                row["pixels"] = self.pixels[name]
            rows.append(row | {"patches": int(sizes.get(name, 0)), "zones": int(zones.get(name, 0))})
        return rows

    def absent(self) -> list[str]:
        """Why classes have no patch, a sentence each."""
        core = f"{self.settings.core_px} x {self.settings.core_px} px"
        messages = []
        for row in self.classes():
            if row["patches"]:
                continue
            name, mend = row["class"], "merge the class with another, or move its values to labels.exclude"
            if row.get("polygons") == 0:
                reason = "none of its polygons lies in a scene"
            elif "polygons" in row and not row["large_enough"]:
                reason = (
                    f"the largest of its polygons in the scenes has {row['largest_px']} px, and a core of {core} needs "
                    f"{self.needed_px} px of one class (patches.core_px, patches.min_purity)"
                )
                mend = f"lower patches.core_px, {mend}"
            elif row.get("pixels") == 0:
                reason = "none of its labels lies in a scene"
            else:
                reason = f"no core of {core} has a share of {self.settings.min_purity:g} of it (patches.min_purity)"
                mend = f"lower patches.core_px and patches.stride_px, {mend}"
            messages.append(f"no patch of class {name}: {reason}; {mend}")
        return messages
