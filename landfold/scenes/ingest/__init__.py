"""A scene as delivered becomes one raster on one grid, in reflectance, with a mask of valid data."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rasterio.crs import CRS

from landfold.scenes.ingest.common_grid import lattice_origin
from landfold.scenes.ingest.integrity import check_integrity
from landfold.scenes.ingest.plan import plan_scene
from landfold.scenes.ingest.write import write_scene
from landfold.scenes.sensors import SceneFiles
from landfold.scenes.settings import IngestSettings

__all__ = ["check_scene", "ingest_scene", "lattice_origin"]


def ingest_scene(
    scene: SceneFiles,
    settings: IngestSettings,
    project_crs: CRS,
    target: Path,
    *,
    origin: tuple[float, float] = (0.0, 0.0),
    progress: Callable[[float], None] = lambda fraction: None,
) -> dict[str, Any]:
    """Put the chosen bands of a scene on one grid and write them to ``target``.

    Numbers stay as delivered, or are resampled where a band is on another grid. Scale and offset are written to the
    file's tags; `landfold.geo.raster.Raster.read_reflectance` alone applies them. They come from the product's
    metadata, else from the file's tags, else, for integers, from the settings. A pixel is valid when every chosen
    band has data there and none of the product's masks hides it.

    The grid follows ``settings.crs_policy``: the scene's own ground in pixels of ``resolution_m`` (error, keep);
    its own pixels where those are within 1 % of ``resolution_m`` (keep); or the cells of the lattice of
    ``resolution_m`` from ``origin`` in ``project_crs``, the same for all scenes (reproject). Of a turned scene
    that is the rectangle around it; pixels outside of the scene are nodata. With ``settings.area`` the grid is cut to
    the pixels that meet it, each as it is without the cut.

    Args:
        scene: its files.
        settings: section ``ingest``.
        project_crs: ``project.crs``.
        target: the GeoTIFF to write.
        origin: of the lattice under reproject, see `lattice_origin`; x and y in metres.
        progress: called with the fraction that is written.

    Returns:
        The scene's entry of report.json.

    Raises:
        SceneError: the scene has a fault, a band is absent, too little of the scene is valid, band files differ
            in data type or ground, a file was written by Landfold, the scene does not meet ``settings.area``, or a
            number that no file declares as nodata seems to be fill.
        GridError: no CRS, or a CRS or grid that the policy refuses.
        RasterError: a file cannot be read, or is damaged.
        RasterWriteError: ``target`` cannot be written.
    """
    with plan_scene(scene, settings, project_crs, origin) as plan:
        check_integrity(plan.delivered)
        coverage, numbers = write_scene(plan, settings, target, progress)
        report = plan.report(with_digests=True) | coverage.fractions()
        return report | {"values": numbers.report(), "warnings": report["warnings"] + numbers.warnings()}


def check_scene(
    scene: SceneFiles, settings: IngestSettings, project_crs: CRS, *, origin: tuple[float, float] = (0.0, 0.0)
) -> dict[str, Any]:
    """Refuse what `ingest_scene` refuses without reading a pixel.

    Returns:
        The scene's entry of report.json without digests and fractions.

    Raises:
        SceneError, GridError, RasterError: as `ingest_scene`.
    """
    with plan_scene(scene, settings, project_crs, origin) as plan:
        return plan.report()
