"""The pixels of an open scene, read window by window on its common grid and written."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from landfold.geo.writer import create
from landfold.scenes.ingest.plan import ScenePlan
from landfold.scenes.sensors import SceneFiles
from landfold.scenes.sensors.scene_files import SceneError
from landfold.scenes.settings import IngestSettings


@dataclass
class Coverage:
    """Numbers of pixels of a scene: all, those that hold data, and those of them that no mask hides."""

    total: int
    data: int = 0
    valid: int = 0

    def fractions(self) -> dict[str, float]:
        """Shares of the scene, which add up to 1."""
        return {
            "valid_fraction": round(self.valid / self.total, 6),
            "nodata_fraction": round(1 - self.data / self.total, 6),
            "cloud_fraction": round((self.data - self.valid) / self.total, 6),
        }


def write_scene(plan: ScenePlan, settings: IngestSettings, target: Path, progress: Callable[[float], None]) -> Coverage:
    """Write all windows of a scene and count their pixels; a refusal leaves no file.

    Raises:
        SceneError: if fewer pixels are valid than ``ingest.min_valid`` asks for, or none.
        RasterError: if a file cannot be read.
        RasterWriteError: if ``target`` cannot be written.
    """
    scene, grid = plan.scene, plan.grid
    bands = [band.reader(plan.files, plan.whole, settings.resampling) for band in plan.bands]
    masks = [mask.reader(plan.files, plan.whole) for mask in plan.masks]
    names = [band.file.name for band in plan.bands]
    radiometry = [band.radiometry for band in plan.bands]
    tags = {"SCENE": scene.name, "SENSOR": scene.sensor, "ACQUIRED": scene.acquired or "unknown"}
    coverage, done = Coverage(grid.height * grid.width), 0
    with create(target, grid, names, dtype=plan.bands[0].dtype, radiometry=radiometry, tags=tags) as writer:
        for window, on_whole in plan.windows():
            numbers, has_data = zip(*(read(on_whole) for read in bands), strict=True)
            values, valid = np.stack(numbers), np.logical_and.reduce(has_data)
            coverage.data += int(valid.sum())
            for read in masks:
                valid &= read(on_whole)
            coverage.valid += int(valid.sum())
            values[:, ~valid] = 0
            writer.write(window, values, valid)
            done += valid.size
            progress(done / coverage.total)
        _check_coverage(scene, coverage, settings.min_valid)
    return coverage


def _check_coverage(scene: SceneFiles, coverage: Coverage, min_valid: float) -> None:
    share = coverage.valid / coverage.total
    if coverage.valid == 0 or share < min_valid:
        fractions = coverage.fractions()
        remedy = "lower it, take classes out of ingest.masks" if coverage.valid < coverage.data else "lower it"
        raise SceneError(
            f"scene {scene.name}: {share:.1%} of the pixels are valid, "
            f"ingest.min_valid asks for {min_valid:.1%} ({fractions['nodata_fraction']:.1%} hold no data, "
            f"{fractions['cloud_fraction']:.1%} are hidden by ingest.masks); {remedy} or drop the scene"
        )
