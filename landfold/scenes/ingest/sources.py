"""The band and mask files of a scene: opened once each, with their radiometry and nodata, read on the common grid."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.windows import Window

from landfold.geo.bands import Radiometry
from landfold.geo.crs import describe_crs
from landfold.geo.dataset import is_own, open_dataset, reading, warped
from landfold.geo.grid import Grid
from landfold.geo.lattice import pixels_across
from landfold.geo.remote import with_retries
from landfold.scenes.sensors.scene_files import BandFile, MaskFile, SceneError, SceneFiles
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
        if _alpha(dataset) == file.index:
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
                add_alpha=nodata is None and _alpha(dataset) is None,
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


def _alpha(dataset: Any) -> int | None:
    """The number of the alpha band, None if there is none."""
    return dataset.colorinterp.index(ColorInterp.alpha) + 1 if ColorInterp.alpha in dataset.colorinterp else None


def _unmasked(reader: Any, index: int, window: Window) -> np.ndarray:
    """Where neither an alpha band nor the file's mask hides a band, (y, x) bool."""
    alpha = _alpha(reader)  # GDAL takes it for the mask only in files of two or four bands
    return (reader.read(alpha, window=window) if alpha else reader.read_masks(index, window=window)) > 0


@dataclass(frozen=True)
class BandSource:
    """A band of an open file, and how its numbers become reflectance and nodata.

    Attributes:
        file: what was delivered.
        dataset: the open file.
        grid: its grid.
        radiometry: scale and offset to reflectance.
        radiometry_from: where they come from: product, file, settings, or float for reflectance as it is.
        nodata: the number that means nodata; None where the file has a mask of its own, or no number does.
        nodata_is_assumed: whether it comes from ``ingest.nodata`` because the file declares none.
    """

    file: BandFile
    dataset: Any
    grid: Grid
    radiometry: Radiometry
    radiometry_from: str
    nodata: float | None
    nodata_is_assumed: bool

    @classmethod
    def open(cls, files: OpenFiles, file: BandFile, settings: IngestSettings) -> "BandSource":
        """Open a band of a scene.

        Raises:
            RasterError, SceneError: see `OpenFiles.open`; for scale and offset that cannot be, too.
            GridError: if the file has no CRS or no usable transform.
        """
        dataset = files.open(file)
        radiometry = _radiometry(files.scene, file, dataset, settings)
        return cls(file, dataset, Grid.of(dataset), *radiometry, *_nodata(file, dataset, settings.nodata))

    @property
    def dtype(self) -> str:
        """The type of the stored numbers."""
        return self.dataset.dtypes[self.file.index - 1]

    def reader(
        self, files: OpenFiles, grid: Grid, resampling: str
    ) -> Callable[[Window], tuple[np.ndarray, np.ndarray]]:
        """A function of a window of the common grid: stored numbers, and which of them are data, both (y, x)."""
        index = self.file.index
        numbers = validity = files.on_grid(self.dataset, grid, resampling, nodata=self.nodata)
        if numbers is not self.dataset and self.dataset.count > 1:
            # Of several bands GDAL fills half a pixel of a hole from its rim, unless all bands have the hole.
            validity = files.on_grid(self.dataset, grid, "nearest", nodata=self.nodata)

        def read(window: Window) -> tuple[np.ndarray, np.ndarray]:
            band = numbers.read(index, window=window)
            if self.nodata is None:
                return band, _unmasked(validity, index, window) & np.isfinite(band)
            nearest = band if validity is numbers else validity.read(index, window=window)
            # NaN differs from itself
            return band, (nearest != self.nodata) & np.isfinite(nearest) & np.isfinite(band)

        return lambda window: _read(self.file, lambda: read(window))

    def report(self) -> dict[str, Any]:
        """The band's entry of report.json."""
        return {
            "name": self.file.name,
            "native_name": self.file.native_name,
            "file": self.file.shown,
            "index": self.file.index,
            "resolution_m": self.grid.resolution[0],
            "scale": self.radiometry.scale,
            "offset": self.radiometry.offset,
            "radiometry_from": self.radiometry_from,
        }


def _read(file: BandFile | MaskFile, read: Callable[[], Any]) -> Any:
    with reading(file.location):
        return with_retries(file.location, read)


def _radiometry(scene: SceneFiles, file: BandFile, dataset: Any, settings: IngestSettings) -> tuple[Radiometry, str]:
    """How a band's numbers become reflectance, and who says so: one of product, file and settings, never two."""
    i = file.index - 1
    tags, none = Radiometry(dataset.scales[i], dataset.offsets[i]), Radiometry(1.0, 0.0)
    floating = np.issubdtype(np.dtype(dataset.dtypes[i]), np.floating)
    if file.radiometry is not None:
        if floating and file.radiometry != none:
            raise SceneError(
                f"scene {scene.name}: {file.shown} holds {dataset.dtypes[i]} numbers, but the "
                "product's metadata gives scale and offset for integers; they seem to be applied already: "
                "deliver the original files, or these without the metadata"
            )
        radiometry, origin = file.radiometry, "product"
    elif tags != none:
        radiometry, origin = tags, "file"
    elif floating:
        return none, "float"
    else:
        return Radiometry(settings.scale, settings.offset), "settings"
    if not (isfinite(radiometry.scale) and isfinite(radiometry.offset) and radiometry.scale != 0):
        raise SceneError(
            f"scene {scene.name}: {file.shown} declares scale {radiometry.scale} and offset {radiometry.offset}, "
            "which is no reflectance; correct the tags (for example: rio edit-info) or drop the scene"
        )
    return radiometry, origin


def _nodata(file: BandFile, dataset: Any, assumed: int | None) -> tuple[float | None, bool]:
    """The number that means nodata in a band, and whether it is assumed because nothing declares it."""
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
    """Whether a pixel of the type can have this value: -9999 declared on unsigned numbers has no meaning."""
    if np.issubdtype(dtype, np.floating):
        return True
    return isfinite(number) and number == int(number) and np.iinfo(dtype).min <= number <= np.iinfo(dtype).max


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
            inside = _unmasked(view, index, window) if view is not self.dataset else True
            classes = view.read(index, window=window)
            return inside & (~np.isin(classes, self.invalid) if bits is None else classes & bits == 0)

        return lambda window: _read(self.file, lambda: read(window))

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
