"""The files of a scene: opened once each, and read on any grid."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from landfold.geo.dataset import alpha_band, is_own, open_dataset, reading, warped
from landfold.geo.grid import Grid
from landfold.geo.lattice import pixels_across
from landfold.geo.remote import with_retries
from landfold.scenes.sensors.scene_files import BandFile, MaskFile, SceneError, SceneFiles

WARP_TOLERANCE_PX = 0.01
"""Error allowed to GDAL where it interpolates between exactly transformed points; its default is 0.125."""


@dataclass
class OpenFiles:
    """The open files of a scene, and readers of them on the common grid, all closed with ``stack``."""

    scene: SceneFiles
    stack: ExitStack
    datasets: dict[Path | str, Any] = field(default_factory=dict)
    views: dict[tuple[Any, ...], Any] = field(default_factory=dict)

    def open(self, file: BandFile | MaskFile) -> Any:
        """The dataset of a band or mask.

        Raises:
            RasterError: if it cannot be read.
            SceneError: if it has no such band, or Landfold has written it.
        """
        if file.location not in self.datasets:
            self.datasets[file.location] = self.stack.enter_context(open_dataset(file.location))
        dataset = self.datasets[file.location]
        if not 1 <= file.index <= dataset.count:
            raise SceneError(
                f"scene {self.scene.name}: {file.shown} has {dataset.count} bands, but band {file.index} is asked "
                "for; does ingest.band_order belong to another file?"
            )
        if alpha_band(dataset) == file.index:
            raise SceneError(
                f"scene {self.scene.name}: band {file.index} of {file.shown} is marked as alpha (transparency), but "
                "stands for a band of the scene; correct the mark (for example: rio edit-info --colorinterp) or the "
                "order"
            )
        if is_own(dataset):
            raise SceneError(
                f"scene {self.scene.name}: {file.shown} was written by Landfold itself; scale and offset "
                "are applied once, to scenes as delivered: put the delivery into data/raw instead"
            )
        return dataset

    def on_grid(self, dataset: Any, grid: Grid, resampling: str, *, nodata: float | None = None) -> Any:
        """A reader on the common grid: the dataset itself where its grid is that one.

        Without a nodata value the reader's mask hides what lies outside the file or under its mask.
        """
        own = Grid.of(dataset)
        if own.difference(grid) is None:
            return dataset
        key = (dataset.name, resampling, str(nodata))
        if key not in self.views:
            view = warped(
                dataset,
                grid,
                resampling,
                nodata=nodata,
                # A mask of the file would hide pixels from the resampling and then be forgotten, unless it is an alpha.
                add_alpha=nodata is None and alpha_band(dataset) is None,
                UNIFIED_SRC_NODATA="NO",  # each band's nodata by itself
                **_warp_scale(own, grid),
                **({} if dataset.crs == grid.crs else {"tolerance": WARP_TOLERANCE_PX}),
            )
            self.views[key] = self.stack.enter_context(view)
        return self.views[key]


def _warp_scale(source: Grid, target: Grid) -> dict[str, float]:
    """Options of the warp: target pixels in a pixel of the source, along its columns and rows.

    GDAL guesses them for each block by itself, from the rectangle around the block in the source: those of a
    turned scene are too large, so that it blurs, and differently from block to block.
    """
    return dict(zip(("XSCALE", "YSCALE"), pixels_across(source, target), strict=True))


def read_file(file: BandFile | MaskFile, read: Callable[[], Any]) -> Any:
    """The result of ``read``, again where the network breaks off.

    Raises:
        RasterError: if GDAL cannot read, or complains of damaged pixels.
    """
    with reading(file.location):
        return with_retries(file.location, read)
