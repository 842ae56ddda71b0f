"""The mask files of a scene, and what they hide on its common grid."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from rasterio.windows import Window

from landfold.geo.crs import describe_crs
from landfold.geo.dataset import not_hidden
from landfold.geo.grid import Grid
from landfold.scenes.ingest.open_files import OpenFiles, read_file
from landfold.scenes.ingest.sources import BandSource
from landfold.scenes.sensors.scene_files import MaskFile, SceneError
from landfold.scenes.settings import IngestSettings

# Landsat 8-9 Collection 2 Level 2 Data Format Control Book (USGS LSDS-1328); bits 8 to 15 are confidences.
# Landsat 4 to 7 have the same except cirrus, which they leave unset.
QA_PIXEL_BITS = {
    "fill": 0,
    "dilated_cloud": 1,
    "cirrus": 2,
    "cloud": 3,
    "cloud_shadow": 4,
    "snow": 5,
    "clear": 6,
    "water": 7,
}


@dataclass(frozen=True)
class MaskSource:
    """An open mask file, and the classes or bits of it that make a pixel invalid."""

    file: MaskFile
    dataset: Any
    invalid: tuple[Any, ...]

    def reader(self, files: OpenFiles, grid: Grid) -> Callable[[Window], np.ndarray]:
        """A function of a window of the common grid: which pixels the mask leaves valid, (y, x) bool.

        Pixels outside of the mask file are invalid.
        """
        index, view = self.file.index, files.on_grid(self.dataset, grid, "nearest")
        bits = sum(1 << QA_PIXEL_BITS[name] for name in self.invalid) if self.file.kind == "qa_pixel" else None

        def read(window: Window) -> np.ndarray:
            inside = not_hidden(view, index, window) if view is not self.dataset else True
            classes = view.read(index, window=window)
            return inside & (~np.isin(classes, self.invalid) if bits is None else classes & bits == 0)

        return lambda window: read_file(self.file, lambda: read(window))

    def report(self) -> dict[str, Any]:
        """The mask's entry of report.json."""
        return {"kind": self.file.kind, "file": self.file.shown, "invalid": list(self.invalid)}


def open_masks(files: OpenFiles, band: BandSource, settings: IngestSettings) -> list[MaskSource]:
    """The scene's masks that are switched on; they must cover the ground of its bands.

    Raises:
        RasterError: if one cannot be read.
        SceneError: if ``ingest.mask_file`` names one that is not there, or one is unusable.
    """
    masks, scene = [], files.scene
    if settings.mask_file is not None and not any(file.kind == "file" for file in scene.masks):
        raise SceneError(
            f"scene {scene.name}: no mask file {settings.mask_file.replace('{scene}', scene.name)} in {scene.folder}, "
            "as ingest.mask_file asks for; add it, or set ingest.mask_file: null"
        )
    for file in scene.masks:
        invalid = tuple(getattr(settings.masks, file.kind))
        if not invalid:
            continue
        dataset = files.open(file)
        dtype, grid = dataset.dtypes[file.index - 1], Grid.of(dataset)
        if file.kind == "qa_pixel" and not np.issubdtype(np.dtype(dtype), np.integer):
            raise SceneError(
                f"scene {scene.name}: {file.shown} holds {dtype} numbers, which "
                "have no bits; deliver the original file or set ingest.masks.qa_pixel: []"
            )
        if grid.crs != band.grid.crs or not grid.same_ground(band.grid, max(grid.resolution)):
            raise SceneError(
                f"scene {scene.name}: the mask {file.shown} covers {grid.bounds} in "
                f"{describe_crs(grid.crs)}, but {band.file.shown} covers {band.grid.bounds} in "
                f"{describe_crs(band.grid.crs)}; deliver the scene's own mask or set ingest.masks.{file.kind}: []"
            )
        masks.append(MaskSource(file, dataset, invalid))
    return masks
