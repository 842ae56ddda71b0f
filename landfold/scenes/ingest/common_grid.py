"""The one grid on which all bands of a scene are written, by ``ingest.crs_policy``, and the part of it over an area."""

from collections.abc import Iterable, Sequence
from math import isclose

import numpy as np
from affine import Affine
from rasterio.crs import CRS
from rasterio.windows import Window

from landfold.core.errors import LandfoldError
from landfold.geo.crs import WGS84, describe_crs, is_metric, transform_points, wrong_areal_scale
from landfold.geo.dataset import open_dataset
from landfold.geo.grid import ALIGNMENT_TOLERANCE_PX, Grid, GridError
from landfold.geo.lattice import Bounds, bounds_in, lattice_over, window_over
from landfold.scenes.ingest.sources import BandSource
from landfold.scenes.sensors.scene_files import SceneError, SceneFiles
from landfold.scenes.settings import IngestSettings

OWN_GRID_TOLERANCE = 0.01
"""Pixels within 1 % of the wanted size are kept as they are under crs_policy keep."""

MAX_SIDE_PX = 200_000
"""A larger grid is a mistake in the CRS or the resolution; a Sentinel-2 tile at 10 m has 10980."""


def lattice_origin(scenes: Iterable[SceneFiles], settings: IngestSettings, project_crs: CRS) -> tuple[float, float]:
    """The corner, x and y in metres, of the lattice onto which ``crs_policy: reproject`` puts all scenes.

    It is that of the scenes which are in ``project_crs`` with pixels of ``resolution_m`` already, if they agree, so
    that their pixels stay as they are: Landsat's lie at 15 m of multiples of 30. Else it is (0, 0). A scene that cannot
    be read has no say.
    """
    size = settings.resolution_m
    corners: list[tuple[float, float]] = []
    for scene in scenes if settings.crs_policy == "reproject" else ():
        for file in (scene.bands[name] for name in settings.bands if name in scene.bands):
            try:
                with open_dataset(file.location) as dataset:
                    grid = Grid.of(dataset)
            except LandfoldError:
                continue
            same = grid.crs == project_crs and grid.is_north_up
            if same and all(isclose(own, size, rel_tol=1e-9) for own in grid.resolution):
                corners.append((grid.transform.c % size, grid.transform.f % size))
                break
    for x, y in corners:
        apart = [abs(a - b) for a, b in zip((x, y), corners[0], strict=True)]
        if max(min(d, size - d) for d in apart) > ALIGNMENT_TOLERANCE_PX * size:
            return 0.0, 0.0
    return corners[0] if corners else (0.0, 0.0)


def common_grid(
    scene: SceneFiles,
    bands: Sequence[BandSource],
    settings: IngestSettings,
    project_crs: CRS,
    origin: tuple[float, float] = (0.0, 0.0),
) -> Grid:
    """The grid of a scene's raster, over the ground that all bands share; ``origin`` is that of `lattice_origin`.

    Raises:
        GridError: for a CRS or grid that ``crs_policy`` refuses.
        SceneError: for bands that differ in ground or data type.
    """
    first, policy, resolution_m = bands[0], settings.crs_policy, settings.resolution_m
    for band in bands:
        _check_grid(scene, band, policy, project_crs)
        _check_like_first(scene, band, first, tolerance_px=1 if policy == "reproject" else ALIGNMENT_TOLERANCE_PX)
    _check_areal_scale(scene, first.grid, policy, project_crs)
    if policy == "reproject":
        return _project_lattice(scene, [band.grid for band in bands], resolution_m, project_crs, origin)
    if policy == "keep":
        for band in bands:
            if all(isclose(size, resolution_m, rel_tol=OWN_GRID_TOLERANCE) for size in band.grid.resolution):
                return band.grid
    return _whole_pixels(scene, first.grid, resolution_m)


def area_window(scene: SceneFiles, grid: Grid, area: Bounds | None, project_crs: CRS) -> Window:
    """The window of the pixels of a north-up grid that meet the rectangle around an area of ``project_crs``.

    Raises:
        SceneError: if there are none.
    """
    if area is None:
        return grid.whole
    x_min, y_min, x_max, y_max = area
    window = window_over(grid, Grid(project_crs, Affine(x_max - x_min, 0.0, x_min, 0.0, y_min - y_max, y_max), 1, 1))
    if window is None:
        raise SceneError(
            f"scene {scene.name}: covers {grid.bounds} in {describe_crs(grid.crs)}, which does not meet ingest.area "
            f"{area} in {describe_crs(project_crs)}; correct the area, drop the scene, or set ingest.on_refusal: skip"
        )
    return window


def _check_grid(scene: SceneFiles, band: BandSource, policy: str, project_crs: CRS) -> None:
    grid, file = band.grid, band.file.shown
    if min(grid.shape) < 2:
        raise GridError(
            f"scene {scene.name}: {file} is {grid.width} x {grid.height} px, which is no image; fetch it again"
        )
    if max(grid.shape) > MAX_SIDE_PX:
        raise GridError(
            f"scene {scene.name}: {file} claims {grid.width} x {grid.height} px, more than {MAX_SIDE_PX} a side; it is "
            "damaged, or must be cut"
        )
    if policy == "error" and grid.crs != project_crs:
        keep = "set project.crs to the scene's CRS, or ingest.crs_policy to keep (each scene in its own) or "
        remedy = keep if is_metric(grid.crs) else "set ingest.crs_policy to "
        raise GridError(
            f"scene {scene.name}: {file} is in {describe_crs(grid.crs)}, but project.crs is "
            f"{describe_crs(project_crs)}; {remedy}reproject (all scenes in project.crs)"
        )
    if policy == "keep" and not is_metric(grid.crs):
        raise GridError(
            f"scene {scene.name}: {file} is in {describe_crs(grid.crs)}, which is not in metres; "
            "set ingest.crs_policy: reproject"
        )
    if policy != "reproject" and not grid.is_north_up:
        raise GridError(
            f"scene {scene.name}: the grid of {file} is rotated or south-up "
            f"({tuple(grid.transform)[:6]}); set ingest.crs_policy: reproject, or warp it first (gdalwarp does)"
        )


def _check_like_first(scene: SceneFiles, band: BandSource, first: BandSource, *, tolerance_px: float) -> None:
    """Refuse a band that differs from the scene's first; ``tolerance_px`` is in pixels of the coarser one."""
    if band.grid.crs != first.grid.crs:
        raise GridError(
            f"scene {scene.name}: {band.file.shown} is in {describe_crs(band.grid.crs)}, but "
            f"{first.file.shown} is in {describe_crs(first.grid.crs)}; the files of a scene must have one CRS"
        )
    if not band.grid.same_ground(first.grid, tolerance_px * max(*band.grid.resolution, *first.grid.resolution)):
        raise SceneError(
            f"scene {scene.name}: {band.file.shown} covers {band.grid.bounds}, but "
            f"{first.file.shown} covers {first.grid.bounds}; the files of a scene must cover the same ground"
        )
    if band.dtype != first.dtype:
        raise SceneError(
            f"scene {scene.name}: {band.file.shown} is {band.dtype}, but "
            f"{first.file.shown} is {first.dtype}; the files of a scene must have one data type"
        )


def _check_areal_scale(scene: SceneFiles, grid: Grid, policy: str, project_crs: CRS) -> None:
    """Refuse a CRS in which metres at the scene are not those of the ground: another zone's, Mercator's."""
    x, y = grid.transform @ (grid.width / 2, grid.height / 2)
    longitude, latitude = transform_points(grid.crs, WGS84, x, y)
    of_scene = "set ingest.crs_policy: reproject, and project.crs to a CRS of the area"
    checks = [("project.crs", project_crs, "choose a CRS of the area")]
    if policy == "keep":
        checks.append(("its own CRS", grid.crs, of_scene))
    for what, crs, remedy in checks:
        scale = wrong_areal_scale(crs, [longitude], [latitude])
        if scale is not None:
            raise GridError(
                f"scene {scene.name}: lies at longitude {longitude:.2f}, latitude {latitude:.2f}, where {what} "
                f"{describe_crs(crs)} shows areas {scale:.3g} times as large as they are, so that no distance in "
                f"metres would be true; {remedy}: its UTM zone, or an equal-area one"
            )


def _project_lattice(
    scene: SceneFiles, grids: Sequence[Grid], resolution_m: float, crs: CRS, origin: tuple[float, float]
) -> Grid:
    """The cells of the lattice of ``resolution_m`` in project.crs that meet any of the grids."""
    bounds = bounds_in(crs, *grids)
    if not np.isfinite(bounds).all():
        raise GridError(
            f"scene {scene.name}: its ground, {grids[0].bounds} in {describe_crs(grids[0].crs)}, cannot be put into "
            f"project.crs {describe_crs(crs)}; choose a CRS of the area, or ingest.crs_policy: keep"
        )
    lattice = lattice_over(bounds, crs, resolution_m, origin)
    if max(lattice.shape) > MAX_SIDE_PX:
        raise GridError(
            f"scene {scene.name}: {lattice.width} x {lattice.height} px of {resolution_m} m in {describe_crs(crs)} is "
            f"more than {MAX_SIDE_PX} a side; is ingest.resolution_m right, and project.crs that of the area?"
        )
    return lattice


def _whole_pixels(scene: SceneFiles, ground: Grid, resolution_m: float) -> Grid:
    """The grid of ``resolution_m`` that fills the bounds of another exactly."""
    x_min, y_min, x_max, y_max = ground.bounds
    columns, rows = (x_max - x_min) / resolution_m, (y_max - y_min) / resolution_m
    if round(columns) < 1 or round(rows) < 1 or abs(columns - round(columns)) + abs(rows - round(rows)) > 1e-3:
        raise GridError(
            f"scene {scene.name}: {x_max - x_min} x {y_max - y_min} m is not a whole number of pixels of "
            f"ingest.resolution_m = {resolution_m} m; choose the resolution of one of the bands, or set "
            "ingest.crs_policy to keep, which takes pixels within 1 % of resolution_m as they are, or reproject"
        )
    transform = Affine(resolution_m, 0.0, x_min, 0.0, -resolution_m, y_max)
    return Grid(ground.crs, transform, round(rows), round(columns))
