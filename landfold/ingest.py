"""A scene as delivered becomes one raster on one grid, in reflectance, with a mask of valid data."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import isclose
from pathlib import Path
from typing import Any, Literal

import numpy as np
from affine import Affine
from pydantic import Field, field_validator
from rasterio.crs import CRS
from rasterio.enums import MaskFlags, Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from landfold import raster
from landfold.bands import STANDARD_NAMES, Radiometry
from landfold.files import file_sha256
from landfold.grid import Grid, GridError, describe_crs
from landfold.sensors import BandFile, SceneFiles
from landfold.sensors.scenes import SceneError
from landfold.settings import Settings


class IngestSettings(Settings):
    """Section ``ingest`` of params.yaml."""

    bands: list[str] = Field(min_length=1)
    """standard names of the bands to use, in the order of the channels"""
    resolution_m: float = Field(gt=0)
    """pixel size of the common grid in metres"""
    resampling: Literal["nearest", "bilinear", "cubic"]
    """how bands of another resolution are put on the common grid"""
    scale: float = Field(gt=0)
    """reflectance = DN * scale + offset, for files that do not carry their own"""
    offset: float
    """reflectance = DN * scale + offset, for files that do not carry their own"""
    nodata: int | None
    """DN that means no data in files that declare none; null if there is no such DN"""
    min_valid: float = Field(ge=0, le=1)
    """a scene with a smaller fraction of valid pixels is refused"""
    on_refusal: Literal["error", "skip"]
    """a scene that is refused ends the run (error), or is left out and listed in the report (skip)"""

    @field_validator("bands")
    @classmethod
    def _known(cls, bands: list[str]) -> list[str]:
        for band in bands:
            if band not in STANDARD_NAMES:
                raise ValueError(f"'{band}' is no standard band name; known are {', '.join(STANDARD_NAMES)}")
        if len(set(bands)) < len(bands):
            raise ValueError("a band is named twice")
        return bands


@dataclass(frozen=True)
class _Source:
    """An open band file, and how its numbers become reflectance and nodata.

    ``nodata`` is None where the file has a mask of its own, or no number means nodata.
    """

    file: BandFile
    dataset: Any
    grid: Grid
    radiometry: Radiometry
    nodata: float | None
    nodata_is_assumed: bool

    @property
    def dtype(self) -> str:
        """The type of the stored numbers."""
        return self.dataset.dtypes[self.file.index - 1]

    @property
    def has_mask(self) -> bool:
        """Whether the file carries a mask or an alpha band."""
        return MaskFlags.per_dataset in self.dataset.mask_flag_enums[self.file.index - 1]

    def read(self, reader: Any, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Stored numbers and which of them are data, both (y, x), through the reader on the common grid."""
        with raster.reading(self.file.path):
            band = reader.read(self.file.index, window=window)
            if self.nodata is None:
                valid = reader.read_masks(self.file.index, window=window) > 0
            else:
                valid = band != self.nodata
        return band, valid & np.isfinite(band)


def ingest_scene(
    scene: SceneFiles,
    settings: IngestSettings,
    project_crs: CRS,
    target: Path,
    *,
    progress: Callable[[float], None] = lambda fraction: None,
) -> dict[str, Any]:
    """Put the chosen bands of a scene on one grid and write them to ``target``.

    Numbers stay as delivered (resampled where a band is coarser than the grid); scale and offset
    are recorded in the file's tags and applied by `landfold.raster.Raster.read` alone. A pixel is valid
    when every chosen band has data there.

    Returns:
        The scene's entry of report.json.

    Raises:
        SceneError: a band is absent, too little of the scene is valid, or band files differ in
            data type or ground.
        GridError: no CRS, another CRS than the project's, or a grid that is not north-up.
        RasterError: a file cannot be read.
    """
    missing = [band for band in settings.bands if band not in scene.bands]
    if missing:
        raise SceneError(
            f"scene {scene.name}: no file for band {', '.join(missing)} in {scene.folder}; "
            f"found {', '.join(scene.bands)}; add the file or take the band out of ingest.bands"
        )
    with ExitStack() as stack:
        sources = [_open(stack, scene.bands[band], settings) for band in settings.bands]
        grid = _common_grid(scene, sources, settings.resolution_m, project_crs)
        readers = [_on_grid(stack, source, grid, settings.resampling) for source in sources]
        valid_fraction = _write(target, scene, grid, sources, readers, settings.min_valid, progress)
        return _report(scene, grid, sources, valid_fraction)


def _open(stack: ExitStack, file: BandFile, settings: IngestSettings) -> _Source:
    dataset = stack.enter_context(raster.opened(file.path))
    scale, offset = dataset.scales[file.index - 1], dataset.offsets[file.index - 1]
    own = (scale, offset) != (1.0, 0.0)
    floating = np.issubdtype(np.dtype(dataset.dtypes[file.index - 1]), np.floating)
    if own:
        radiometry = Radiometry(scale, offset)
    else:
        radiometry = Radiometry(1.0, 0.0) if floating else Radiometry(settings.scale, settings.offset)
    nodata = dataset.nodatavals[file.index - 1]
    source = _Source(file, dataset, Grid.of(dataset), radiometry, nodata, nodata_is_assumed=False)
    if nodata is not None or source.has_mask:
        return source
    if floating:
        return replace(source, nodata=np.nan)
    return replace(source, nodata=settings.nodata, nodata_is_assumed=settings.nodata is not None)


def _common_grid(scene: SceneFiles, sources: list[_Source], resolution_m: float, project_crs: CRS) -> Grid:
    """The grid of ``resolution_m`` over the ground that all bands share; refuses what does not fit."""
    first = sources[0]
    for source in sources:
        if source.grid.crs != project_crs:
            raise GridError(
                f"scene {scene.name}: {source.file.path.name} is in {describe_crs(source.grid.crs)}, but project.crs "
                f"is {describe_crs(project_crs)}; set project.crs to the scene's CRS or reproject the scene"
            )
        if not source.grid.is_north_up:
            raise GridError(
                f"scene {scene.name}: the grid of {source.file.path.name} is rotated or south-up "
                f"({tuple(source.grid.transform)[:6]}); warp it to a north-up grid first (gdalwarp does)"
            )
        here, there = first.grid.bounds, source.grid.bounds
        if not all(isclose(a, b, abs_tol=1e-3 * resolution_m) for a, b in zip(here, there, strict=True)):
            raise SceneError(
                f"scene {scene.name}: {source.file.path.name} covers {there}, but "
                f"{first.file.path.name} covers {here}; the files of a scene must cover the same ground"
            )
        if source.dtype != first.dtype:
            raise SceneError(
                f"scene {scene.name}: {source.file.path.name} is {source.dtype}, but "
                f"{first.file.path.name} is {first.dtype}; the files of a scene must have one data type"
            )
    x_min, y_min, x_max, y_max = first.grid.bounds
    columns, rows = (x_max - x_min) / resolution_m, (y_max - y_min) / resolution_m
    if round(columns) < 1 or round(rows) < 1 or abs(columns - round(columns)) + abs(rows - round(rows)) > 1e-3:
        raise GridError(
            f"scene {scene.name}: {x_max - x_min} x {y_max - y_min} m is not a whole number of pixels of "
            f"ingest.resolution_m = {resolution_m} m; choose the resolution of one of the bands"
        )
    transform = Affine(resolution_m, 0.0, x_min, 0.0, -resolution_m, y_max)
    return Grid(first.grid.crs, transform, round(rows), round(columns))


def _on_grid(stack: ExitStack, source: _Source, grid: Grid, resampling: str) -> Any:
    """A reader of the band on the common grid: the file itself where its grid is that one."""
    if source.grid.difference(grid) is None:
        return source.dataset
    return stack.enter_context(
        WarpedVRT(
            source.dataset,
            crs=grid.crs,
            transform=grid.transform,
            height=grid.height,
            width=grid.width,
            resampling=Resampling[resampling],
            src_nodata=source.nodata,
            nodata=source.nodata,
            add_alpha=source.has_mask,  # else a mask would hide pixels from the resampling and then be forgotten
        )
    )


def _write(
    target: Path,
    scene: SceneFiles,
    grid: Grid,
    sources: list[_Source],
    readers: list[Any],
    min_valid: float,
    progress: Callable[[float], None],
) -> float:
    """Write all windows; the fraction of valid pixels. Refusing inside the block leaves no file."""
    names = [source.file.name for source in sources]
    radiometry = [source.radiometry for source in sources]
    tags = {"SCENE": scene.name, "SENSOR": scene.sensor, "ACQUIRED": scene.acquired or "unknown"}
    valid_px = done = 0
    with raster.create(target, grid, names, dtype=sources[0].dtype, radiometry=radiometry, tags=tags) as writer:
        for window in grid.blocks():
            read = [source.read(reader, window) for source, reader in zip(sources, readers, strict=True)]
            values = np.stack([band for band, _ in read])
            valid = np.logical_and.reduce([valid for _, valid in read])
            values[:, ~valid] = 0
            writer.write(window, values, valid)
            valid_px += int(valid.sum())
            done += valid.size
            progress(done / (grid.height * grid.width))
        valid_fraction = valid_px / (grid.height * grid.width)
        if valid_px == 0 or valid_fraction < min_valid:
            raise SceneError(
                f"scene {scene.name}: {valid_fraction:.1%} of the pixels are valid, "
                f"ingest.min_valid asks for {min_valid:.1%}; lower it or drop the scene"
            )
    return valid_fraction


def _report(scene: SceneFiles, grid: Grid, sources: list[_Source], valid_fraction: float) -> dict[str, Any]:
    warnings = list(scene.warnings)
    assumed = [source for source in sources if source.nodata_is_assumed]
    if assumed:
        warnings.append(
            f"no nodata value is declared in {len(assumed)} of {len(sources)} band files; "
            f"DN {assumed[0].nodata:g} is taken as nodata from ingest.nodata"
        )
    return {
        "scene": scene.name,
        "sensor": scene.sensor,
        "acquired": scene.acquired,
        "crs": describe_crs(grid.crs),
        "grid": {"width": grid.width, "height": grid.height, "transform": list(grid.transform)[:6]},
        "bands": [
            {
                "name": source.file.name,
                "native_name": source.file.native_name,
                "file": source.file.path.name,
                "sha256": file_sha256(source.file.path),
                "resolution_m": source.grid.resolution[0],
                "scale": source.radiometry.scale,
                "offset": source.radiometry.offset,
            }
            for source in sources
        ],
        "valid_fraction": round(valid_fraction, 6),
        "warnings": warnings,
    }
