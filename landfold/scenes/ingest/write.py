"""The pixels of an open scene, read window by window on its common grid and written."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from landfold.geo.writer import create
from landfold.scenes.ingest.plan import ScenePlan
from landfold.scenes.ingest.sources import CAUSES
from landfold.scenes.ingest.values import SceneValues
from landfold.scenes.sensors import SceneFiles
from landfold.scenes.sensors.scene_files import SceneError
from landfold.scenes.settings import IngestSettings


@dataclass
class Coverage:
    """Numbers of pixels of a scene.

    Attributes:
        total: all.
        masked: whether anything tells of clouds.
        data: those that hold data in all bands.
        valid: those of them that no product's mask hides.
        causes: those without data in any band, by the causes of `landfold.scenes.ingest.sources.CAUSES`; a pixel
            counts for each cause that it has in some band.
    """

    total: int
    masked: bool
    data: int = 0
    valid: int = 0
    causes: Counter[str] = field(default_factory=Counter)

    def fractions(self) -> dict[str, Any]:
        """Shares of the scene, which add up to 1, and counts of the causes; cloud is None where nothing tells of it."""
        return {
            "valid_fraction": round(self.valid / self.total, 6),
            "nodata_fraction": round(1 - self.data / self.total, 6),
            "cloud_fraction": round((self.data - self.valid) / self.total, 6) if self.masked else None,
            "nodata_px": {cause: self.causes[cause] for cause in CAUSES},
        }


def write_scene(
    plan: ScenePlan, settings: IngestSettings, target: Path, progress: Callable[[float], None]
) -> tuple[Coverage, SceneValues]:
    """Write all windows of a scene, and count their pixels and numbers; a refusal leaves no file.

    Raises:
        SceneError: if fewer pixels are valid than ``ingest.min_valid`` asks for, or none, or if a number seems to be
            fill that is not declared.
        RasterError: if a file cannot be read.
        RasterWriteError: if ``target`` cannot be written.
    """
    scene, grid = plan.scene, plan.grid
    bands = [band.reader(plan.files, plan.whole, settings.resampling) for band in plan.bands]
    masks = [mask.reader(plan.files, plan.whole) for mask in plan.masks]
    if plan.screen:
        masks.append(plan.screen.reader(plan.files, plan.whole, plan.part))
    names = [band.file.name for band in plan.bands]
    radiometry = [band.radiometry for band in plan.bands]
    tags = {"SCENE": scene.name, "SENSOR": scene.sensor, "ACQUIRED": scene.acquired or "unknown"}
    coverage, done = Coverage(grid.height * grid.width, masked=bool(masks)), 0
    numbers_held = SceneValues(names, radiometry, coverage.total)
    with create(target, grid, names, dtype=plan.bands[0].dtype, radiometry=radiometry, tags=tags) as writer:
        for window, on_whole in plan.windows():
            numbers, causes = zip(*(read(on_whole) for read in bands), strict=True)
            values, valid = np.stack(numbers), ~np.logical_or.reduce(causes)
            if not valid.all():
                for number, cause in enumerate(CAUSES, start=1):
                    coverage.causes[cause] += int(np.logical_or.reduce([band == number for band in causes]).sum())
            coverage.data += int(valid.sum())
            for read in masks:
                valid &= read(on_whole)
            coverage.valid += int(valid.sum())
            numbers_held.add(values, valid)
            values[:, ~valid] = 0
            writer.write(window, values, valid)
            done += valid.size
            progress(done / coverage.total)
        _check_coverage(scene, coverage, settings.min_valid)
        _check_fill(plan, numbers_held, settings)
    return coverage, numbers_held


def _check_fill(plan: ScenePlan, numbers_held: SceneValues, settings: IngestSettings) -> None:
    """Refuse fill that is not declared, unless ``ingest.nodata: null`` says that all numbers are data."""
    suspected = numbers_held.suspected_fill()
    if suspected is None or settings.nodata is None:
        return
    number, share = suspected
    declared = not any(band.nodata_is_assumed or band.nodata is None for band in plan.bands)
    remedy = "" if declared or number != int(number) else f"set ingest.nodata: {number:.0f}, or "
    raise SceneError(
        f"scene {plan.scene.name}: {share:.1%} of the valid pixels hold {number:g} in all bands, which no other pixel "
        f"is beyond, and no file declares it as nodata; {remedy}declare it in the files (for example: rio edit-info "
        f"--nodata {number:g}); if these pixels are data, set ingest.nodata: null"
    )


def _check_coverage(scene: SceneFiles, coverage: Coverage, min_valid: float) -> None:
    share = coverage.valid / coverage.total
    if coverage.valid == 0 or share < min_valid:
        hidden = (coverage.data - coverage.valid) / coverage.total
        remedy = "lower it, take classes out of ingest.masks" if coverage.valid < coverage.data else "lower it"
        raise SceneError(
            f"scene {scene.name}: {share:.1%} of the pixels are valid, "
            f"ingest.min_valid asks for {min_valid:.1%} ({1 - coverage.data / coverage.total:.1%} hold no data, "
            f"{hidden:.1%} are hidden by ingest.masks); {remedy} or drop the scene"
        )
