"""Rasters written by windows, whole or not at all."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.errors import RasterioError
from rasterio.windows import Window

from landfold.core.errors import LandfoldError
from landfold.core.files import writing
from landfold.geo.bands import Radiometry
from landfold.geo.dataset import GDAL_OPTIONS, OWN_TAGS
from landfold.geo.grid import Grid

TILE_PX = 256
"""Side of the tiles of a file."""


class RasterWriteError(LandfoldError):
    """A raster file that cannot be written, whatever was read."""


class RasterWriter:
    """Writes windows into a raster; made by `create`."""

    def __init__(self, dataset: Any) -> None:
        """Wrap an open rasterio dataset in write mode."""
        self.dataset = dataset

    def write(self, window: Window, values: np.ndarray, valid: np.ndarray | None = None) -> None:
        """Write (channel, y, x) values and, for a masked raster, the (y, x) mask of the window."""
        self.dataset.write(values, window=window)
        if valid is not None:
            self.dataset.write_mask(valid, window=window)

    def describe_classes(self, names: dict[int, str], colours: dict[int, tuple[int, int, int]] | None = None) -> None:
        """Name the classes in the tags CLASS_1, ...; call it before `write`.

        With ``colours`` a raster of bytes gets a colour table too. Wider numbers get none: many viewers read no table
        of 65,536 colours.
        """
        if colours is not None and self.dataset.dtypes[0] == "uint8":
            self.dataset.write_colormap(1, {number: (*colour, 255) for number, colour in colours.items()})
        self.dataset.update_tags(1, **{f"CLASS_{number}": name for number, name in names.items()})


@contextmanager
def create(
    path: Path,
    grid: Grid,
    names: Sequence[str],
    *,
    dtype: str,
    radiometry: Sequence[Radiometry] | None = None,
    nodata: float | None = None,
    tags: Mapping[str, str] | None = None,
) -> Iterator[RasterWriter]:
    """Write a tiled, compressed GeoTIFF; ``path`` appears only when the block succeeds.

    Args:
        path: the file.
        grid: where its pixels lie.
        names: of its channels, in their order.
        dtype: of its numbers, such as ``uint16``.
        radiometry: how the numbers of each channel become reflectance; None where they are no reflectance or floats.
        nodata: the number that means no data; None for a raster with a mask, or one without gaps.
        tags: of the file, beside Landfold's own.

    Raises:
        RasterWriteError: if GDAL cannot write, as on a full disk.
    """
    with (
        _named_write_errors(path),
        writing(path) as temporary,
        rasterio.Env(**GDAL_OPTIONS),
        rasterio.open(temporary, "w+", **_profile(grid, len(names), dtype), nodata=nodata) as dataset,
    ):
        dataset.descriptions = tuple(names)
        if radiometry:
            dataset.scales = [r.scale for r in radiometry]
            dataset.offsets = [r.offset for r in radiometry]
        dataset.update_tags(**OWN_TAGS, **(tags or {}))
        yield RasterWriter(dataset)


def _profile(grid: Grid, count: int, dtype: str) -> dict[str, Any]:
    """Options of the file: deflate, which every GIS reads; Zstandard for floats, where it is several times faster."""
    floating = np.issubdtype(np.dtype(dtype), np.floating)
    return {
        "driver": "GTiff",
        "dtype": dtype,
        "count": count,
        "height": grid.height,
        "width": grid.width,
        "crs": grid.crs,
        "transform": grid.transform,
        "tiled": True,
        "blockxsize": TILE_PX,
        "blockysize": TILE_PX,
        "interleave": "band",
        "bigtiff": "if_safer",
    } | (
        {"compress": "zstd", "predictor": 3, "zstd_level": 1}
        if floating
        else {"compress": "deflate", "predictor": 2, "zlevel": 6}
    )


@contextmanager
def _named_write_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except RasterioError as error:
        raise RasterWriteError(
            f"{path}: cannot be written ({error.__cause__ or error}); is the disk full or read-only? Nothing is "
            "half-written"
        ) from error


@contextmanager
def create_cog(
    path: Path, grid: Grid, names: Sequence[str], *, overview_resampling: str, **options: Any
) -> Iterator[RasterWriter]:
    """Write a Cloud-Optimized GeoTIFF with overviews by windows in any order; ``options`` are those of `create`.

    The windows go into a plain GeoTIFF beside it first: a COG begins with what is known last.

    Raises:
        RasterWriteError: if GDAL cannot write, as on a full disk.
    """
    plain = path.with_name(f".partial-{path.stem}-plain.tif")
    try:
        with create(plain, grid, names, **options) as writer:
            yield writer
        to_cog(plain, path, overview_resampling=overview_resampling)
    finally:
        plain.unlink(missing_ok=True)


def to_cog(source: Path, target: Path, *, overview_resampling: str) -> None:
    """Copy a GeoTIFF into a Cloud-Optimized GeoTIFF with overviews (Open Geospatial Consortium 21-026)."""
    with _named_write_errors(target), writing(target) as temporary, rasterio.Env(**GDAL_OPTIONS):
        rasterio.shutil.copy(
            source,
            temporary,
            driver="COG",
            compress="deflate",
            predictor="yes",
            blocksize=TILE_PX,
            bigtiff="if_safer",
            overview_resampling=overview_resampling,
            resampling=overview_resampling,
        )
