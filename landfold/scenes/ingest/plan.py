"""A scene opened for ingest: everything that is known, checked and refused before a pixel is read."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from rasterio.crs import CRS
from rasterio.windows import Window

from landfold.core.digests import digest, file_sha256
from landfold.geo.crs import describe_crs
from landfold.geo.grid import Grid
from landfold.scenes.ingest.common_grid import area_window, common_grid
from landfold.scenes.ingest.masks import MaskSource, open_masks
from landfold.scenes.ingest.open_files import OpenFiles
from landfold.scenes.ingest.screen import L1cScreen
from landfold.scenes.ingest.sources import BandSource
from landfold.scenes.sensors import SceneFiles
from landfold.scenes.sensors.scene_files import BandFile, MaskFile, SceneError
from landfold.scenes.settings import IngestSettings


@dataclass(frozen=True)
class ScenePlan:
    """An open scene and its common grid.

    Attributes:
        files: of the scene, open.
        bands: in the order of ``ingest.bands``.
        masks: those that are switched on.
        screen: for cloud of Sentinel-2 level 1C; None where there is none.
        whole: the grid of the whole scene, on which everything is read.
        part: the window of ``whole`` to write.
    """

    files: OpenFiles
    bands: list[BandSource]
    masks: list[MaskSource]
    screen: L1cScreen | None
    whole: Grid
    part: Window

    @property
    def delivered(self) -> list[BandFile | MaskFile]:
        """The files that are read."""
        return [item.file for item in (*self.bands, *self.masks)] + (self.screen.files if self.screen else [])

    @property
    def scene(self) -> SceneFiles:
        """The scene as delivered."""
        return self.files.scene

    @property
    def grid(self) -> Grid:
        """The grid of what is written."""
        return self.whole.part(self.part)

    def windows(self) -> Iterator[tuple[Window, Window]]:
        """Each window to write, on `grid`, and the same pixels on ``whole``."""
        for window in self.grid.blocks():
            column, row = self.part.col_off + window.col_off, self.part.row_off + window.row_off
            yield window, Window(column, row, window.width, window.height)

    def report(self, *, with_digests: bool = False) -> dict[str, Any]:
        """The scene's entry of report.json without the fractions of pixels.

        Args:
            with_digests: add the SHA-256 of each file of a band or a mask.
        """
        scene, grid = self.scene, self.grid
        items = [*self.bands, *self.masks]
        entries = [item.report() for item in items]
        if with_digests:
            digests = {path: file_sha256(path) for path in {item.file.path for item in items}}
            for entry, item in zip(entries, items, strict=True):
                entry["sha256"] = digests[item.file.path]
        if self.screen:
            paths = dict.fromkeys(file.path for file in self.screen.files)
            entries.append(self.screen.report() | ({"sha256": digest(*paths)} if with_digests else {}))
        return {
            "scene": scene.name,
            "sensor": scene.sensor,
            "acquired": scene.acquired,
            "processing": scene.processing,
            "crs": describe_crs(grid.crs),
            "delivered_crs": describe_crs(self.bands[0].grid.crs),
            "grid": {"width": grid.width, "height": grid.height, "transform": list(grid.transform)[:6]},
            "resolution_m": list(grid.resolution),
            "bands": entries[: len(self.bands)],
            "masks": entries[len(self.bands) :],
            "warnings": [*scene.warnings, *self._warnings()],
        }

    def _warnings(self) -> list[str]:
        assumed = [band for band in self.bands if band.nodata_is_assumed]
        if not assumed:
            return []
        return [
            f"no nodata value is declared in {len(assumed)} of {len(self.bands)} band files; "
            f"DN {assumed[0].nodata:g} is taken as nodata from ingest.nodata"
        ]


@contextmanager
def plan_scene(
    scene: SceneFiles, settings: IngestSettings, project_crs: CRS, origin: tuple[float, float] = (0.0, 0.0)
) -> Iterator[ScenePlan]:
    """Open the files of a scene, settle its grid, and refuse what can be refused without pixels.

    Raises:
        SceneError, GridError, RasterError: see `landfold.scenes.ingest.ingest_scene`.
    """
    if scene.fault:
        raise SceneError(scene.fault)
    missing = [band for band in settings.bands if band not in scene.bands]
    if missing:
        raise SceneError(
            f"scene {scene.name}: no file for band {', '.join(missing)} in {scene.folder}; "
            f"found {', '.join(scene.bands)}; add the file or take the band out of ingest.bands"
        )
    with ExitStack() as stack:
        files = OpenFiles(scene, stack)
        bands = [BandSource.open(files, scene.bands[band], settings) for band in settings.bands]
        masks, screen = open_masks(files, bands[0], settings), L1cScreen.open(files, settings)
        grid = common_grid(scene, bands, settings, project_crs, origin)
        yield ScenePlan(files, bands, masks, screen, grid, area_window(scene, grid, settings.area, project_crs))
