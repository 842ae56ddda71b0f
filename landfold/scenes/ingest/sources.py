"""The bands of a scene: their radiometry, and which of their numbers are data, read on the common grid."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite, isnan
from typing import Any

import numpy as np
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from landfold.geo.bands import Radiometry
from landfold.geo.dataset import alpha_band, has_mask, not_hidden
from landfold.geo.grid import Grid
from landfold.scenes.ingest.open_files import OpenFiles, read_file
from landfold.scenes.sensors.scene_files import BandFile, SceneError, SceneFiles
from landfold.scenes.settings import IngestSettings

CAUSES = ("mask", "alpha", "nodata", "not_finite")
"""Why a pixel of a band holds no data: `BandSource.reader` gives the index of the first that holds, plus 1. Ground
outside of a file counts as masked or, where the file has a nodata value and neither mask nor alpha, as nodata."""


@dataclass(frozen=True)
class BandSource:
    """A band of an open file, and how its numbers become reflectance and nodata.

    Attributes:
        file: what was delivered.
        dataset: the open file.
        grid: its grid.
        radiometry: scale and offset to reflectance.
        radiometry_from: where they come from: product, file, settings, or float for reflectance as it is.
        nodata: the number that means nodata; None where a mask or an alpha band alone says it, or nothing does.
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
            RasterError, SceneError: see `OpenFiles.open`; for a palette, and scale and offset that cannot be, too.
            GridError: if the file has no CRS or no usable transform.
        """
        dataset = files.open(file)
        if dataset.colorinterp[file.index - 1] is ColorInterp.palette:
            raise SceneError(
                f"scene {files.scene.name}: band {file.index} of {file.shown} is a palette: its numbers stand for "
                "colours or classes and are no measurements; deliver the band itself, or remove the colour table"
            )
        radiometry = _radiometry(files.scene, file, dataset, settings)
        return cls(file, dataset, Grid.of(dataset), *radiometry, *_nodata(file, dataset, settings.nodata))

    @property
    def dtype(self) -> str:
        """The type of the stored numbers."""
        return self.dataset.dtypes[self.file.index - 1]

    def reader(
        self, files: OpenFiles, grid: Grid, resampling: str
    ) -> Callable[[Window], tuple[np.ndarray, np.ndarray]]:
        """A function of a window of a grid: stored numbers, and why they are no data (see CAUSES), both (y, x).

        Causes are uint8, 0 where the pixel is data: not nodata, not masked, not transparent, and finite.
        """
        index = self.file.index
        numbers = validity = files.on_grid(self.dataset, grid, resampling, nodata=self.nodata)
        if numbers is not self.dataset and self.dataset.count > 1:
            # Of several bands GDAL fills half a pixel of a hole from its rim, unless all bands have the hole.
            validity = files.on_grid(self.dataset, grid, "nearest", nodata=self.nodata)
        hiding = self._hiding()
        hidden = validity
        if hiding and self.nodata is not None:  # with a nodata value GDAL forgets the mask
            hidden = files.on_grid(self.dataset, grid, "nearest")

        def read(window: Window) -> tuple[np.ndarray, np.ndarray]:
            band = numbers.read(index, window=window)
            nearest = band if validity is numbers or self.nodata is None else validity.read(index, window=window)
            causes = np.zeros(band.shape, dtype=np.uint8)
            causes[~(np.isfinite(band) & np.isfinite(nearest))] = CAUSES.index("not_finite") + 1
            if self.nodata is not None:
                causes[np.isnan(nearest) if isnan(self.nodata) else nearest == self.nodata] = CAUSES.index("nodata") + 1
            if hiding or self.nodata is None:
                causes[~not_hidden(hidden, index, window)] = CAUSES.index(hiding or "mask") + 1
            return band, causes

        return lambda window: read_file(self.file, lambda: read(window))

    def _hiding(self) -> str | None:
        """What hides pixels beside a nodata value: mask, alpha or nothing."""
        if alpha_band(self.dataset):
            return "alpha"
        return "mask" if has_mask(self.dataset, self.file.index) else None

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
    if not (isfinite(radiometry.scale) and isfinite(radiometry.offset) and radiometry.scale > 0):
        raise SceneError(
            f"scene {scene.name}: {file.shown} declares scale {radiometry.scale} and offset {radiometry.offset}, "
            "which is no reflectance, since a scale is positive; correct the tags (for example: rio edit-info) or drop "
            "the scene"
        )
    return radiometry, origin


def _nodata(file: BandFile, dataset: Any, assumed: int | None) -> tuple[float | None, bool]:
    """The number that means nodata in a band, and whether it is assumed because nothing declares it."""
    dtype = np.dtype(dataset.dtypes[file.index - 1])
    for declared in (file.nodata, dataset.nodatavals[file.index - 1]):
        if declared is not None and _holds(dtype, declared):
            return declared, False
    if alpha_band(dataset) or has_mask(dataset, file.index):
        return None, False
    if assumed is not None and _holds(dtype, assumed):
        return assumed, True
    return (np.nan, False) if np.issubdtype(dtype, np.floating) else (None, False)


def _holds(dtype: np.dtype, number: float) -> bool:
    """Whether a pixel of the type can have this value: -9999 declared on unsigned numbers has no meaning."""
    if np.issubdtype(dtype, np.floating):
        return True
    return isfinite(number) and number == int(number) and np.iinfo(dtype).min <= number <= np.iinfo(dtype).max
