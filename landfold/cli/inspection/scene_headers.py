"""The headers of a scene's files, whether or not the scene can be used."""

from dataclasses import dataclass, replace
from functools import cached_property
from math import isclose
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags

from landfold.core.errors import LandfoldError
from landfold.geo.bands import Radiometry, standard_name
from landfold.geo.crs import WGS84, describe_crs
from landfold.geo.dataset import is_own, open_dataset
from landfold.geo.grid import Grid, GridError
from landfold.geo.lattice import bounds_in
from landfold.scenes.ingest.common_grid import OWN_GRID_TOLERANCE
from landfold.scenes.sensors.evidence import DEGREE_M
from landfold.scenes.sensors.multiband import MASKS
from landfold.scenes.sensors.scene_files import RASTER_SUFFIXES, BandFile, SceneFiles


@dataclass(frozen=True)
class _Header:
    """The header of one band in one file; ``grid`` is None where it has no CRS or no usable transform."""

    grid: Grid | None
    crs: CRS | None
    width: int
    height: int
    dtype: str
    radiometry: Radiometry
    nodata: float | None
    masked: bool
    alpha: bool
    own: bool
    descriptions: tuple[str | None, ...]

    @property
    def scaled(self) -> bool:
        """Whether the file's tags say how numbers become reflectance."""
        return self.radiometry != Radiometry(1.0, 0.0)

    @property
    def declares_nodata(self) -> bool:
        """Whether the file's tags or mask say what is no data."""
        return self.masked or self.nodata is not None


@dataclass(frozen=True)
class SceneView:
    """A scene and the headers of its files.

    Attributes:
        scene: the files of the scene.
        headers: by standard name of the band; a scene with a fault has one under "" if its file can be opened.
    """

    scene: SceneFiles
    headers: dict[str, _Header]

    @cached_property
    def finest(self) -> _Header | None:
        """The header of the band with the smallest pixels."""
        return min(self.headers.values(), key=lambda h: h.grid.resolution if h.grid else (np.inf,), default=None)

    @property
    def grid(self) -> Grid | None:
        """The finest grid of the scene."""
        return self.finest.grid if self.finest else None

    @property
    def crs(self) -> CRS | None:
        """The CRS of the scene's files."""
        return self.finest.crs if self.finest else None

    @cached_property
    def crs_name(self) -> str | None:
        """A code where the CRS has one, else the name that it gives itself."""
        return None if self.crs is None else crs_name(self.crs)

    @property
    def size_px(self) -> tuple[int, int] | None:
        """(width, height) of the finest grid."""
        return (self.finest.width, self.finest.height) if self.finest else None

    @property
    def resolutions(self) -> tuple[float, ...]:
        """The distinct pixel widths of the bands in units of the CRS, ascending."""
        return tuple(sorted({round(h.grid.resolution[0], 6) for h in self.headers.values() if h.grid}))

    @property
    def unit(self) -> str | None:
        """The unit of the CRS: m, degree, or its own name."""
        if self.crs is None:
            return None
        if self.crs.is_geographic:
            return "degree"
        name, factor = self.crs.linear_units_factor
        return "m" if factor == 1.0 else name

    @property
    def orientation(self) -> str | None:
        """north-up, south-up or rotated."""
        if self.grid is None:
            return None
        t = self.grid.transform
        if self.grid.is_north_up:
            return "north-up"
        return "south-up" if t.b == 0 and t.d == 0 and t.a > 0 else "rotated"

    @property
    def bands(self) -> list[str]:
        """Standard names in the order of the scene."""
        return list(self.scene.bands)

    @cached_property
    def nameless(self) -> tuple[str | None, ...]:
        """The descriptions of the bands of a file that names none of its bands; () for every other scene."""
        header = self.finest
        if header is None or len(header.descriptions) < 2 or any(map(_is_name, header.descriptions)):
            return ()
        return header.descriptions

    @property
    def dtype(self) -> str | None:
        """The type of the stored numbers."""
        return self.finest.dtype if self.finest else None

    @property
    def lacks_radiometry(self) -> bool:
        """Whether neither product nor tags say how integers become reflectance."""
        return any(
            np.issubdtype(np.dtype(h.dtype), np.integer) and not h.scaled and not self._has_radiometry(name)
            for name, h in self.headers.items()
        )

    @property
    def lacks_nodata(self) -> bool:
        """Whether neither product, tags nor a mask say which numbers are no data."""
        return any(
            not h.declares_nodata and (name not in self.scene.bands or self.scene.bands[name].nodata is None)
            for name, h in self.headers.items()
        )

    def equivalence_key(self, kept_m: float | None) -> tuple[Any, ...] | None:
        """Equal for scenes that ingest accepts or refuses alike, so that of thousands of equal tiles one is checked.

        None for a scene of several files, which has to be checked itself. Pixel sizes near ``kept_m`` (metres), which
        ingest keeps as they are, count as equal.
        """
        if self.scene.fault or self.scene.masks or len({f.source or f.path for f in self.scene.bands.values()}) != 1:
            return None
        bands = tuple((f.name, f.index, f.radiometry, f.nodata, f.path.suffix) for f in self.scene.bands.values())
        headers = tuple((name, replace(h, grid=None, crs=None)) for name, h in self.headers.items())
        sizes = {h.grid.resolution for h in self.headers.values() if h.grid}
        if kept_m and all(isclose(side, kept_m, rel_tol=OWN_GRID_TOLERANCE) for size in sizes for side in size):
            sizes = set()
        return bands, headers, self.crs_name, frozenset(sizes), self.orientation, self.grid is None

    def _has_radiometry(self, band: str) -> bool:
        return band in self.scene.bands and self.scene.bands[band].radiometry is not None

    def pixel_m(self, bands: list[str]) -> float | None:
        """The smallest pixel width of these bands in metres, of all bands where it has none of them."""
        grids = [h.grid for name, h in self.headers.items() if h.grid and (name in bands or not name)]
        grids = grids or [h.grid for h in self.headers.values() if h.grid]
        if not grids or self.crs is None:
            return None
        width = min(grid.resolution[0] for grid in grids)
        return width * (DEGREE_M if self.crs.is_geographic else self.crs.linear_units_factor[1])

    def degrees(self) -> tuple[float, float, float, float] | None:
        """West, south, east and north of the scene in degrees; None where its CRS cannot be transformed."""
        if self.grid is None:
            return None
        bounds = bounds_in(WGS84, self.grid)
        return bounds if np.isfinite(bounds).all() else None


def read_headers(scene: SceneFiles) -> SceneView:
    """Read the headers of all files of a scene, each file once; a file that cannot be opened is left out."""
    headers: dict[str, _Header] = {}
    by_source: dict[str, list[BandFile]] = {}
    for file in scene.bands.values():
        by_source.setdefault(str(file.source or file.path), []).append(file)
    if scene.fault and not scene.bands:
        by_source = {str(path): [BandFile("", "", path)] for path in _files_of(scene)}
    for source, files in by_source.items():
        try:
            with open_dataset(source) as dataset:
                headers |= _headers(dataset, files)
        except LandfoldError:
            continue  # the check of the scene reports it
    return SceneView(scene, headers)


def _files_of(scene: SceneFiles) -> list[Path]:
    """The raster that a scene with a fault is."""
    return [scene.folder] if scene.folder.suffix.lower() in RASTER_SUFFIXES else []


def _headers(dataset: Any, files: list[BandFile]) -> dict[str, _Header]:
    """The headers of the bands of one open file; bands that it lacks are left out."""
    try:
        grid = Grid.of(dataset)
    except GridError:
        grid = None
    # Each of these reads all bands through GDAL, so each is read once.
    kinds, flags, nodata = dataset.colorinterp, dataset.mask_flag_enums, dataset.nodatavals
    dtypes, scales, offsets = dataset.dtypes, dataset.scales, dataset.offsets
    names = tuple(text for text, kind in zip(dataset.descriptions, kinds, strict=True) if kind is not ColorInterp.alpha)
    alpha, own = ColorInterp.alpha in kinds, is_own(dataset)
    return {
        file.name: _Header(
            grid=grid,
            crs=dataset.crs,
            width=dataset.width,
            height=dataset.height,
            dtype=dtypes[i],
            radiometry=Radiometry(scales[i], offsets[i]),
            nodata=nodata[i],
            masked=alpha or MaskFlags.per_dataset in flags[i],
            alpha=kinds[i] is ColorInterp.alpha,
            own=own,
            descriptions=names,
        )
        for file in files
        if 0 <= (i := file.index - 1) < len(dtypes)
    }


def _is_name(text: str | None) -> bool:
    return bool(text) and (text.strip().upper() in MASKS or standard_name(text) is not None)


def crs_name(crs: CRS) -> str:
    """A code where the CRS has one, else the name that it gives itself."""
    return describe_crs(crs) if crs.to_authority() else pyproj.CRS.from_wkt(crs.to_wkt()).name
