"""A scene as delivered becomes one raster on one grid, in reflectance, with a mask of valid data."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from math import ceil, floor, isclose, isfinite
from pathlib import Path
from typing import Any, Literal

import numpy as np
from affine import Affine
from pyproj import Proj
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform as transform_points
from rasterio.windows import Window

from landfold.core.digests import file_sha256
from landfold.geo import raster
from landfold.geo.bands import Radiometry
from landfold.geo.grid import ALIGNMENT_TOLERANCE_PX, Grid, GridError, describe_crs
from landfold.scenes.sensors import BandFile, SceneFiles
from landfold.scenes.sensors.scenes import MaskFile, SceneError
from landfold.scenes.settings import IngestSettings

# Landsat 8-9 Collection 2 Level 2 Data Format Control Book (USGS LSDS-1328); bits 8 to 15 are confidences.
# Landsat 4 to 7 have the same but for cirrus, which they leave unset.
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

OWN_GRID_TOLERANCE = 0.01
"""Pixels within 1 % of the wanted size are kept as they are under crs_policy keep."""

WARP_TOLERANCE_PX = 0.01
"""Error allowed to GDAL where it interpolates between exactly transformed points; its default is 0.125."""

WGS84 = CRS.from_epsg(4326)

MAX_AREAL_SCALE = 1.25
"""UTM has 1.03 in the middle of a neighbouring zone, 1.07 two zones off; Web Mercator has 2 at 45 degrees."""

MAX_SIDE_PX = 200_000
"""A larger grid is a mistake in the CRS or the resolution; a Sentinel-2 tile at 10 m has 10980."""


@dataclass(frozen=True)
class _Source:
    """A band of an open file, and how its numbers become reflectance and nodata.

    ``nodata`` is None where the file has a mask of its own, or no number means nodata.
    """

    file: BandFile
    dataset: Any
    grid: Grid
    radiometry: Radiometry
    radiometry_from: str
    nodata: float | None
    nodata_is_assumed: bool

    @property
    def dtype(self) -> str:
        """The type of the stored numbers."""
        return self.dataset.dtypes[self.file.index - 1]

    def readers(self, delivery: "_Delivery", grid: Grid, resampling: str) -> tuple[Any, Any]:
        """Readers of numbers and of validity on the common grid, mostly one and the same."""
        numbers = delivery.on_grid(self.dataset, grid, resampling, nodata=self.nodata)
        if numbers is self.dataset or self.dataset.count == 1:
            return numbers, numbers
        # Of several bands GDAL fills half a pixel of a hole from its rim, unless all bands have the hole.
        return numbers, delivery.on_grid(self.dataset, grid, "nearest", nodata=self.nodata)

    def read(self, readers: tuple[Any, Any], window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Stored numbers and which of them are data, both (y, x), on the common grid."""
        numbers, validity = readers

        def read() -> tuple[np.ndarray, np.ndarray]:
            band = numbers.read(self.file.index, window=window)
            if self.nodata is None:
                return band, _unmasked(validity, self.file.index, window) & np.isfinite(band)
            near = band if validity is numbers else validity.read(self.file.index, window=window)
            return band, (near != self.nodata) & np.isfinite(near) & np.isfinite(band)  # NaN differs from itself

        return raster.persistently(_opened_as(self.file), read)


@dataclass(frozen=True)
class _Mask:
    """An open mask file, and the classes or bits of it that make a pixel invalid."""

    file: MaskFile
    dataset: Any
    grid: Grid
    invalid: tuple[Any, ...]

    def clear(self, reader: Any, window: Window) -> np.ndarray:
        """Which pixels the mask lets through, (y, x) bool; outside the mask file none."""

        def read() -> tuple[np.ndarray, np.ndarray | bool]:
            inside = _unmasked(reader, self.file.index, window) if reader is not self.dataset else True
            return reader.read(self.file.index, window=window), inside

        classes, inside = raster.persistently(_opened_as(self.file), read)
        if self.file.kind == "qa_pixel":
            bits = sum(1 << QA_PIXEL_BITS[name] for name in self.invalid)
            return inside & (classes & bits == 0)
        return inside & ~np.isin(classes, self.invalid)


def _opened_as(file: BandFile | MaskFile) -> Path | str:
    return file.source or file.path


def _alpha(dataset: Any) -> int | None:
    """The number of the alpha band, None if there is none."""
    return dataset.colorinterp.index(ColorInterp.alpha) + 1 if ColorInterp.alpha in dataset.colorinterp else None


def _unmasked(reader: Any, index: int, window: Window) -> np.ndarray:
    """Where neither an alpha band nor the file's mask hides a band, (y, x) bool."""
    alpha = _alpha(reader)  # which GDAL takes for the mask in files of two or four bands only
    return (reader.read(alpha, window=window) if alpha else reader.read_masks(index, window=window)) > 0


@dataclass
class _Coverage:
    """Counted pixels of a scene: all, those that hold data, and those that no mask hides either."""

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


@dataclass
class _Delivery:
    """The files of a scene, each opened once, and their views on the common grid."""

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
        name = _opened_as(file)
        if name not in self.datasets:
            self.datasets[name] = self.stack.enter_context(raster.opened(name))
        dataset = self.datasets[name]
        if not 1 <= file.index <= dataset.count:
            raise SceneError(
                f"scene {self.scene.name}: {file.shown} has {dataset.count} bands, but band {file.index} is asked "
                "for; does ingest.band_order belong to another file?"
            )
        if _alpha(dataset) == file.index:
            raise SceneError(
                f"scene {self.scene.name}: band {file.index} of {file.shown} is marked as alpha (transparency), but "
                "stands for a band of the scene; mend the mark (for example: rio edit-info --colorinterp) or the order"
            )
        if raster.OWN_TAGS.items() <= dataset.tags().items():
            raise SceneError(
                f"scene {self.scene.name}: {file.shown} was written by Landfold itself; scale and offset "
                "are applied once, to scenes as delivered: put the delivery into data/raw instead"
            )
        return dataset

    def on_grid(self, dataset: Any, grid: Grid, resampling: str, *, nodata: float | None = None) -> Any:
        """A reader on the common grid: the dataset itself where its grid is that one.

        Without a nodata value the reader's mask tells what lies outside the file or under its mask.
        """
        if Grid.of(dataset).difference(grid) is None:
            return dataset
        key = (dataset.name, resampling, str(nodata))
        if key not in self.views:
            # A mask of the file would hide pixels from the resampling and then be forgotten, but for an alpha band.
            alpha = nodata is None and _alpha(dataset) is None
            options = _warp_scale(Grid.of(dataset), grid)
            if dataset.crs != grid.crs:
                options["tolerance"] = WARP_TOLERANCE_PX
            view = WarpedVRT(
                dataset,
                crs=grid.crs,
                transform=grid.transform,
                height=grid.height,
                width=grid.width,
                resampling=Resampling[resampling],
                src_nodata=nodata,
                nodata=nodata,
                add_alpha=alpha,
                UNIFIED_SRC_NODATA="NO",  # each band's nodata by itself
                **options,
            )
            self.views[key] = self.stack.enter_context(view)
        return self.views[key]


@dataclass(frozen=True)
class _Plan:
    """A scene that was found usable as far as that needs no pixel, its files open, and its grid to be.

    ``whole`` is the grid of the whole scene, on which all is read, and ``part`` the window of it to write.
    """

    delivery: _Delivery
    sources: Sequence[_Source]
    masks: Sequence[_Mask]
    whole: Grid
    part: Window

    @property
    def grid(self) -> Grid:
        """The grid of what is written."""
        return self.whole.part(self.part)

    def windows(self) -> Iterator[tuple[Window, Window]]:
        """Each window to write, on `grid`, and the same pixels on ``whole``."""
        for window in self.grid.blocks():
            column, row = self.part.col_off + window.col_off, self.part.row_off + window.row_off
            yield window, Window(column, row, window.width, window.height)

    def entry(self) -> dict[str, Any]:
        """What report.json tells of the scene, but for what only reading its files tells."""
        scene, grid = self.delivery.scene, self.grid
        return {
            "scene": scene.name,
            "sensor": scene.sensor,
            "acquired": scene.acquired,
            "processing": scene.processing,
            "crs": describe_crs(grid.crs),
            "delivered_crs": describe_crs(self.sources[0].grid.crs),
            "grid": {"width": grid.width, "height": grid.height, "transform": list(grid.transform)[:6]},
            "resolution_m": list(grid.resolution),
            "bands": [
                {
                    "name": source.file.name,
                    "native_name": source.file.native_name,
                    "file": source.file.shown,
                    "index": source.file.index,
                    "resolution_m": source.grid.resolution[0],
                    "scale": source.radiometry.scale,
                    "offset": source.radiometry.offset,
                    "radiometry_from": source.radiometry_from,
                }
                for source in self.sources
            ],
            "masks": [
                {"kind": mask.file.kind, "file": mask.file.shown, "invalid": list(mask.invalid)} for mask in self.masks
            ],
            "warnings": [*scene.warnings, *self._guesses()],
        }

    def _guesses(self) -> list[str]:
        assumed = [source for source in self.sources if source.nodata_is_assumed]
        if not assumed:
            return []
        return [
            f"no nodata value is declared in {len(assumed)} of {len(self.sources)} band files; "
            f"DN {assumed[0].nodata:g} is taken as nodata from ingest.nodata"
        ]


def ingest_scene(
    scene: SceneFiles,
    settings: IngestSettings,
    project_crs: CRS,
    target: Path,
    *,
    progress: Callable[[float], None] = lambda fraction: None,
) -> dict[str, Any]:
    """Put the chosen bands of a scene on one grid and write them to ``target``.

    Numbers stay as delivered (resampled where a band is on another grid); scale and offset are recorded in
    the file's tags and applied by `landfold.geo.raster.Raster.read` alone. They come from the product's metadata,
    else the file's tags, else, for integers, the settings. A pixel is valid when every chosen band has data
    there and none of the product's masks hides it.

    The grid follows ``settings.crs_policy``: the scene's own ground in pixels of ``resolution_m`` (error, keep);
    its own pixels where those are within 1 % of ``resolution_m`` (keep); or the cells of the lattice of
    ``resolution_m`` from the origin of ``project_crs``, the same for all scenes (reproject). Of a turned scene
    that is the rectangle around it; what lies outside the scene counts as nodata. With ``settings.area`` the
    grid is cut to the pixels that meet it, each as it is without the cut.

    Returns:
        The scene's entry of report.json.

    Raises:
        SceneError: the scene has a fault, a band is absent, too little of the scene is valid, band files differ
            in data type or ground, a file was written by Landfold, or the scene does not meet ``settings.area``.
        GridError: no CRS, or a CRS or grid that the policy refuses.
        RasterError: a file cannot be read.
    """
    with _planned(scene, settings, project_crs) as plan:
        coverage = _write(target, plan, settings, progress)
        return _with_digests(plan.entry(), plan) | coverage.fractions()


def check_scene(scene: SceneFiles, settings: IngestSettings, project_crs: CRS) -> dict[str, Any]:
    """Everything that `ingest_scene` finds out and refuses before it reads a pixel.

    Returns:
        The scene's entry of report.json without digests and fractions.

    Raises:
        SceneError, GridError, RasterError: as `ingest_scene`, but for what only pixels tell.
    """
    with _planned(scene, settings, project_crs) as plan:
        return plan.entry()


@contextmanager
def _planned(scene: SceneFiles, settings: IngestSettings, project_crs: CRS) -> Iterator[_Plan]:
    """Open the files of a scene, refuse what needs no pixel to be refused, and settle its grid."""
    if scene.fault:
        raise SceneError(scene.fault)
    missing = [band for band in settings.bands if band not in scene.bands]
    if missing:
        raise SceneError(
            f"scene {scene.name}: no file for band {', '.join(missing)} in {scene.folder}; "
            f"found {', '.join(scene.bands)}; add the file or take the band out of ingest.bands"
        )
    with ExitStack() as stack:
        delivery = _Delivery(scene, stack)
        sources = [_source(delivery, scene.bands[band], settings) for band in settings.bands]
        masks = _masks(delivery, sources[0], settings)
        grid = _common_grid(scene, sources, settings, project_crs)
        yield _Plan(delivery, sources, masks, grid, _part(scene, grid, settings.area, project_crs))


def _warp_scale(source: Grid, target: Grid) -> dict[str, float]:
    """Options of the warp: target pixels in a pixel of the source, along its rows and columns.

    GDAL guesses them for each block by itself, from the rectangle around the block in the source: those of a
    turned scene are too large, so that it blurs, and differently from block to block.
    """
    columns, rows = source.width / 2 + np.array([0, 1, 0]), source.height / 2 + np.array([0, 0, 1])
    x, y = source.transform @ (columns, rows)
    if source.crs != target.crs:
        x, y = np.array(transform_points(source.crs, target.crs, x, y))
    columns, rows = ~target.transform @ (x, y)
    return {
        name: float(np.hypot(columns[at] - columns[0], rows[at] - rows[0]))
        for name, at in (("XSCALE", 1), ("YSCALE", 2))
    }


def _source(delivery: _Delivery, file: BandFile, settings: IngestSettings) -> _Source:
    dataset = delivery.open(file)
    radiometry, origin = _radiometry(delivery.scene, file, dataset, settings)
    nodata, assumed = _nodata(file, dataset, settings.nodata)
    return _Source(file, dataset, Grid.of(dataset), radiometry, origin, nodata, assumed)


def _radiometry(
    scene: SceneFiles, file: BandFile, dataset: Any, settings: IngestSettings
) -> tuple[Radiometry, Literal["product", "file", "settings", "float"]]:
    """How a band's numbers become reflectance, and who says so: one of them, never two in a row."""
    tags = Radiometry(dataset.scales[file.index - 1], dataset.offsets[file.index - 1])
    plain = Radiometry(1.0, 0.0)
    floating = np.issubdtype(np.dtype(dataset.dtypes[file.index - 1]), np.floating)
    if file.radiometry is not None:
        if floating and file.radiometry != plain:
            raise SceneError(
                f"scene {scene.name}: {file.shown} holds {dataset.dtypes[file.index - 1]} numbers, but the "
                "product's metadata gives scale and offset for integers; they seem to be applied already: "
                "deliver the original files, or these without the metadata"
            )
        found, origin = file.radiometry, "product"
    elif tags != plain:
        found, origin = tags, "file"
    elif floating:
        return plain, "float"
    else:
        return Radiometry(settings.scale, settings.offset), "settings"
    if not (isfinite(found.scale) and isfinite(found.offset) and found.scale != 0):
        raise SceneError(
            f"scene {scene.name}: {file.shown} declares scale {found.scale} and offset {found.offset}, "
            "which is no reflectance; mend the tags (for example: rio edit-info) or drop the scene"
        )
    return found, origin


def _nodata(file: BandFile, dataset: Any, assumed: int | None) -> tuple[float | None, bool]:
    """The number that means nodata in a band, and whether it is a guess: no one declares it."""
    dtype = np.dtype(dataset.dtypes[file.index - 1])
    for declared in (file.nodata, dataset.nodatavals[file.index - 1]):
        if declared is not None and _holds(dtype, declared):
            return declared, False
    if _alpha(dataset) or MaskFlags.per_dataset in dataset.mask_flag_enums[file.index - 1]:
        return None, False
    if np.issubdtype(dtype, np.floating):
        return np.nan, False
    usable = assumed is not None and _holds(dtype, assumed)
    return (assumed, True) if usable else (None, False)


def _holds(dtype: np.dtype, number: float) -> bool:
    """Whether a pixel of the type can have this value: -9999 declared on unsigned numbers says nothing."""
    if np.issubdtype(dtype, np.floating):
        return True
    return isfinite(number) and number == int(number) and np.iinfo(dtype).min <= number <= np.iinfo(dtype).max


def _masks(delivery: _Delivery, band: _Source, settings: IngestSettings) -> list[_Mask]:
    """The scene's masks that are switched on; they must cover the ground of its bands."""
    masks, scene = [], delivery.scene
    if settings.mask_file is not None and not any(file.kind == "file" for file in scene.masks):
        raise SceneError(
            f"scene {scene.name}: no mask file {settings.mask_file.replace('{scene}', scene.name)} in {scene.folder}, "
            "as ingest.mask_file asks for; add it, or set ingest.mask_file: null"
        )
    for file in scene.masks:
        invalid = tuple(getattr(settings.masks, file.kind))
        if not invalid:
            continue
        dataset = delivery.open(file)
        if not np.issubdtype(np.dtype(dataset.dtypes[file.index - 1]), np.integer) and file.kind == "qa_pixel":
            raise SceneError(
                f"scene {delivery.scene.name}: {file.shown} holds {dataset.dtypes[file.index - 1]} numbers, which "
                "have no bits; deliver the original file or set ingest.masks.qa_pixel: []"
            )
        grid = Grid.of(dataset)
        if grid.crs != band.grid.crs or not _same_ground(grid, band.grid, max(grid.resolution)):
            raise SceneError(
                f"scene {delivery.scene.name}: the mask {file.shown} covers {grid.bounds} in "
                f"{describe_crs(grid.crs)}, but {band.file.shown} covers {band.grid.bounds} in "
                f"{describe_crs(band.grid.crs)}; deliver the scene's own mask or set ingest.masks.{file.kind}: []"
            )
        masks.append(_Mask(file, dataset, grid, invalid))
    return masks


def _same_ground(one: Grid, other: Grid, tolerance: float) -> bool:
    return all(isclose(a, b, rel_tol=0, abs_tol=tolerance) for a, b in zip(one.bounds, other.bounds, strict=True))


def _common_grid(scene: SceneFiles, sources: Sequence[_Source], settings: IngestSettings, project_crs: CRS) -> Grid:
    """The grid of the output over the ground that all bands share; refuses what does not fit."""
    first = sources[0]
    for source in sources:
        _check_grid(scene, source, settings.crs_policy, project_crs)
        _check_companions(scene, source, first, lenient=settings.crs_policy == "reproject")
    _check_scale(scene, first.grid, project_crs)
    if settings.crs_policy == "reproject":
        return _lattice_grid(scene, [source.grid for source in sources], settings.resolution_m, project_crs)
    if settings.crs_policy == "keep":
        for source in sources:
            if all(isclose(size, settings.resolution_m, rel_tol=OWN_GRID_TOLERANCE) for size in source.grid.resolution):
                return source.grid
    return _whole_pixels(scene, first.grid, settings.resolution_m)


def _check_grid(scene: SceneFiles, source: _Source, policy: str, project_crs: CRS) -> None:
    grid, file = source.grid, source.file.shown
    if min(grid.shape) < 2:
        raise GridError(
            f"scene {scene.name}: {file} is {grid.width} x {grid.height} px, which is no image; fetch it again"
        )
    if max(grid.shape) > MAX_SIDE_PX:
        raise GridError(
            f"scene {scene.name}: {file} claims {grid.width} x {grid.height} px, more than {MAX_SIDE_PX} a side; it is "
            "damaged, or must be cut"
        )
    metric = grid.crs.is_projected and grid.crs.linear_units_factor[1] == 1.0
    if policy == "error" and grid.crs != project_crs:
        keep = "set project.crs to the scene's CRS, or ingest.crs_policy to keep (each scene in its own) or "
        raise GridError(
            f"scene {scene.name}: {file} is in {describe_crs(grid.crs)}, but project.crs is "
            f"{describe_crs(project_crs)}; {keep if metric else 'set ingest.crs_policy to '}reproject (all scenes in "
            "project.crs)"
        )
    if policy == "keep" and not metric:
        raise GridError(
            f"scene {scene.name}: {file} is in {describe_crs(grid.crs)}, which is not in metres; "
            "set ingest.crs_policy: reproject"
        )
    if policy != "reproject" and not grid.is_north_up:
        raise GridError(
            f"scene {scene.name}: the grid of {file} is rotated or south-up "
            f"({tuple(grid.transform)[:6]}); set ingest.crs_policy: reproject, or warp it first (gdalwarp does)"
        )


def _check_scale(scene: SceneFiles, grid: Grid, project_crs: CRS) -> None:
    """Refuse a project.crs in which the metres of a scene are not those of the ground: another zone's, Mercator's."""
    columns, rows = grid.width / 2, grid.height / 2
    x, y = grid.transform @ (columns, rows)
    (longitude,), (latitude,) = transform_points(grid.crs, WGS84, [x], [y])
    scale = Proj(project_crs.to_wkt()).get_factors(longitude, latitude).areal_scale
    if not 1 / MAX_AREAL_SCALE < scale < MAX_AREAL_SCALE:
        raise GridError(
            f"scene {scene.name}: lies at longitude {longitude:.2f}, latitude {latitude:.2f}, where project.crs "
            f"{describe_crs(project_crs)} shows areas {scale:.3g} times as large as they are, so that no distance in "
            "metres would be true; choose a CRS of the area: its UTM zone, or an equal-area one"
        )


def _check_companions(scene: SceneFiles, source: _Source, first: _Source, *, lenient: bool) -> None:
    """Refuse a band that differs from the scene's first; lenient allows the ground one coarse pixel."""
    if source.grid.crs != first.grid.crs:
        raise GridError(
            f"scene {scene.name}: {source.file.shown} is in {describe_crs(source.grid.crs)}, but "
            f"{first.file.shown} is in {describe_crs(first.grid.crs)}; the files of a scene must have one CRS"
        )
    coarse = max(*source.grid.resolution, *first.grid.resolution)
    if not _same_ground(source.grid, first.grid, coarse if lenient else ALIGNMENT_TOLERANCE_PX * coarse):
        raise SceneError(
            f"scene {scene.name}: {source.file.shown} covers {source.grid.bounds}, but "
            f"{first.file.shown} covers {first.grid.bounds}; the files of a scene must cover the same ground"
        )
    if source.dtype != first.dtype:
        raise SceneError(
            f"scene {scene.name}: {source.file.shown} is {source.dtype}, but "
            f"{first.file.shown} is {first.dtype}; the files of a scene must have one data type"
        )


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


def _lattice_grid(scene: SceneFiles, grids: Sequence[Grid], resolution_m: float, crs: CRS) -> Grid:
    """The cells of the lattice of ``resolution_m`` from the origin of ``crs`` that meet any of the grids."""
    x, y = np.concatenate([_outline(grid, crs) for grid in grids], axis=1) / resolution_m
    if not np.isfinite([x, y]).all():
        ground = grids[0]
        raise GridError(
            f"scene {scene.name}: its ground, {ground.bounds} in {describe_crs(ground.crs)}, cannot be put into "
            f"project.crs {describe_crs(crs)}; choose a CRS of the area, or ingest.crs_policy: keep"
        )
    left, right = floor(x.min() + ALIGNMENT_TOLERANCE_PX), ceil(x.max() - ALIGNMENT_TOLERANCE_PX)
    bottom, top = floor(y.min() + ALIGNMENT_TOLERANCE_PX), ceil(y.max() - ALIGNMENT_TOLERANCE_PX)
    if max(right - left, top - bottom) > MAX_SIDE_PX:
        raise GridError(
            f"scene {scene.name}: {right - left} x {top - bottom} px of {resolution_m} m in {describe_crs(crs)} is "
            f"more than {MAX_SIDE_PX} a side; is ingest.resolution_m right, and project.crs that of the area?"
        )
    transform = Affine(resolution_m, 0.0, left * resolution_m, 0.0, -resolution_m, top * resolution_m)
    return Grid(crs, transform, top - bottom, right - left)


def _part(scene: SceneFiles, grid: Grid, area: tuple[float, float, float, float] | None, project_crs: CRS) -> Window:
    """The window of the pixels of a north-up grid that meet the rectangle around an area of ``project_crs``."""
    if area is None:
        return grid.whole
    x_min, y_min, x_max, y_max = area
    ground = Grid(project_crs, Affine(x_max - x_min, 0.0, x_min, 0.0, y_min - y_max, y_max), 1, 1)
    columns, rows = ~grid.transform @ tuple(_outline(ground, grid.crs))
    window = _covering(columns, rows, grid.shape) if np.isfinite(columns).all() else None
    if window is None:
        raise SceneError(
            f"scene {scene.name}: covers {grid.bounds} in {describe_crs(grid.crs)}, which does not meet ingest.area "
            f"{area} in {describe_crs(project_crs)}; correct the area, drop the scene, or set ingest.on_refusal: skip"
        )
    return window


def _covering(columns: np.ndarray, rows: np.ndarray, shape: tuple[int, int]) -> Window | None:
    """The whole pixels of (height, width) that meet the rectangle around points; None if there is none."""
    left, top = (max(0, floor(at.min() + ALIGNMENT_TOLERANCE_PX)) for at in (columns, rows))
    right, bottom = (
        min(size, ceil(at.max() - ALIGNMENT_TOLERANCE_PX))
        for at, size in zip((columns, rows), shape[::-1], strict=True)
    )
    return Window(left, top, right - left, bottom - top) if left < right and top < bottom else None


def _outline(grid: Grid, crs: CRS) -> np.ndarray:
    """Points along the edges of a grid, (2, n) x and y in ``crs``, infinite where it cannot hold them.

    Edges bend, so corners are not enough.
    """
    along = np.linspace(0, 1, 65)
    columns = np.concatenate([along, np.ones(65), along, np.zeros(65)]) * grid.width
    rows = np.concatenate([np.zeros(65), along, np.ones(65), along]) * grid.height
    x, y = grid.transform @ (columns, rows)
    if grid.crs == crs:
        return np.array([x, y])
    try:
        return np.array(transform_points(grid.crs, crs, x, y))
    except RasterioError:
        return np.full((2, x.size), np.inf)


def _write(target: Path, plan: _Plan, settings: IngestSettings, progress: Callable[[float], None]) -> _Coverage:
    """Write all windows and count their pixels. Refusing inside the block leaves no file."""
    delivery, grid, sources, masks = plan.delivery, plan.grid, plan.sources, plan.masks
    scene = delivery.scene
    readers = [source.readers(delivery, plan.whole, settings.resampling) for source in sources]
    mask_readers = [delivery.on_grid(mask.dataset, plan.whole, "nearest") for mask in masks]
    names = [source.file.name for source in sources]
    radiometry = [source.radiometry for source in sources]
    tags = {"SCENE": scene.name, "SENSOR": scene.sensor, "ACQUIRED": scene.acquired or "unknown"}
    coverage, done = _Coverage(grid.height * grid.width), 0
    with raster.create(target, grid, names, dtype=sources[0].dtype, radiometry=radiometry, tags=tags) as writer:
        for window, there in plan.windows():
            read = [source.read(reader, there) for source, reader in zip(sources, readers, strict=True)]
            values = np.stack([band for band, _ in read])
            valid = np.logical_and.reduce([valid for _, valid in read])
            coverage.data += int(valid.sum())
            for mask, reader in zip(masks, mask_readers, strict=True):
                valid &= mask.clear(reader, there)
            coverage.valid += int(valid.sum())
            values[:, ~valid] = 0
            writer.write(window, values, valid)
            done += valid.size
            progress(done / coverage.total)
        _check_coverage(scene, coverage, settings.min_valid)
    return coverage


def _check_coverage(scene: SceneFiles, coverage: _Coverage, min_valid: float) -> None:
    valid_fraction = coverage.valid / coverage.total
    if coverage.valid == 0 or valid_fraction < min_valid:
        fractions = coverage.fractions()
        mend = "lower it, take classes out of ingest.masks" if coverage.valid < coverage.data else "lower it"
        raise SceneError(
            f"scene {scene.name}: {valid_fraction:.1%} of the pixels are valid, "
            f"ingest.min_valid asks for {min_valid:.1%} ({fractions['nodata_fraction']:.1%} hold no data, "
            f"{fractions['cloud_fraction']:.1%} are hidden by ingest.masks); {mend} or drop the scene"
        )


def _with_digests(entry: dict[str, Any], plan: _Plan) -> dict[str, Any]:
    """The entry with the SHA-256 of each file of a band or a mask."""
    digests = {path: file_sha256(path) for path in {item.file.path for item in [*plan.sources, *plan.masks]}}
    for told, items in ((entry["bands"], plan.sources), (entry["masks"], plan.masks)):
        for one, item in zip(told, items, strict=True):
            one["sha256"] = digests[item.file.path]
    return entry
