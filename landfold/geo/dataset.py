"""Any raster file opened safely: by one driver, without following it to other files, and with its name in errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import rasterio
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from landfold.core.errors import LandfoldError
from landfold.geo import remote
from landfold.geo.grid import Grid

GDAL_OPTIONS = {
    "GDAL_TIFF_INTERNAL_MASK": True,
    "GDAL_CACHEMAX": 512 * 2**20,
    "GDAL_DISABLE_READDIR_ON_OPEN": "FALSE",
}
"""The mask inside the file, at most 512 MB of decoded blocks in memory (rasterio counts in bytes), and sidecars of a
file read even while a remote one is open."""

OWN_TAGS = {"LANDFOLD": "output"}
"""Tags of every raster that Landfold writes."""

_TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class RasterError(LandfoldError):
    """A raster file that cannot be read or lacks what Landfold needs of it."""


@contextmanager
def reading(path: Path | str) -> Iterator[None]:
    """Name the file in the error of a read that fails in the block; wrap each read of a file in it.

    Raises:
        RasterError: if GDAL cannot read.
    """
    try:
        yield
    except RasterioError as error:
        if remote.is_remote(path):
            # The cause would show the whole URL, which may hold a password or a signature.
            raise RasterError(
                f"{remote.redact_url(str(path))}: cannot be read ({remote.redact(remote.reason(error), path)}), in "
                "several attempts; is the address right, access granted and not expired, and the network up? Run "
                "again, or fetch the file"
            ) from None
        raise RasterError(
            f"{path}: cannot be read ({remote.reason(error)}); the file is truncated, corrupt or no raster: fetch it "
            "again"
        ) from error


@contextmanager
def open_dataset(path: Path | str) -> Iterator[Any]:
    """A rasterio dataset, closed at the end.

    Args:
        path: a file, a member of an archive (``/vsizip/...``), or a URL after `remote.REMOTE`.

    Raises:
        RasterError: if the file is absent, or GDAL cannot read it, now or later in the block.
    """
    if remote.is_remote(path):
        with (
            _redacted_errors(path),
            reading(path),
            rasterio.Env(**GDAL_OPTIONS | remote.options()),
            remote.with_retries(path, lambda: _open_remote(str(path))) as dataset,
        ):
            yield dataset
        return
    driver, inside_archive = _driver(path), str(path).startswith("/vsi")
    options = GDAL_OPTIONS | ({"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"} if inside_archive else {})
    with reading(path), rasterio.Env(**options):
        if driver and not inside_archive:
            _check_companions(Path(path))
        with rasterio.open(path, driver=driver) as dataset:
            if driver:
                _check_overviews(dataset)
            yield dataset


def warped(dataset: Any, grid: Grid, resampling: str, *, nodata: float | None, **options: Any) -> WarpedVRT:
    """A reader of an open dataset on another grid; ``options`` are those of rasterio's WarpedVRT."""
    return WarpedVRT(
        dataset,
        crs=grid.crs,
        transform=grid.transform,
        height=grid.height,
        width=grid.width,
        resampling=Resampling[resampling],
        src_nodata=nodata,
        nodata=nodata,
        **options,
    )


def alpha_band(dataset: Any) -> int | None:
    """The number of the alpha band of a dataset, None if there is none."""
    return dataset.colorinterp.index(ColorInterp.alpha) + 1 if ColorInterp.alpha in dataset.colorinterp else None


def has_mask(dataset: Any, index: int) -> bool:
    """Whether a mask in the file or beside it hides pixels of a band; an alpha band and a nodata value are none."""
    return MaskFlags.per_dataset in dataset.mask_flag_enums[index - 1] and alpha_band(dataset) is None


def not_hidden(dataset: Any, index: int, window: Window) -> np.ndarray:
    """Where neither an alpha band nor a mask hides a band, (y, x) bool; where it has neither, nodata is hidden.

    GDAL takes an alpha band for the mask only in files of two or four bands, of few types, and without nodata value.
    """
    alpha = alpha_band(dataset)
    return (dataset.read(alpha, window=window) if alpha else dataset.read_masks(index, window=window)) > 0


def is_own(dataset: Any) -> bool:
    """Whether Landfold has written an open dataset."""
    return OWN_TAGS.items() <= dataset.tags().items()


@contextmanager
def _redacted_errors(path: Path | str) -> Iterator[None]:
    """Remove secrets from errors of the block: many hold a dataset's name, which is the whole URL."""
    try:
        yield
    except LandfoldError as error:
        text = remote.redact(str(error), path)
        if text == str(error):
            raise
        raise type(error)(text) from None


def _open_remote(path: str) -> Any:
    dataset = remote.open_remote(path)
    _check_overviews(dataset)
    _ = dataset.mask_flag_enums  # GDAL looks for a mask at first use, when a broken answer would go unnoticed
    return dataset


def _driver(path: Path | str) -> str | None:
    """The one driver of GDAL for a file of this name; None where its content decides, as of labels.

    By its content a file called .tif may be a VRT or a web service, which lead to any other file or host.
    """
    suffix = PurePosixPath(path).suffix.lower()
    return {".jp2": "JP2OpenJPEG", ".tif": "GTiff", ".tiff": "GTiff", ".gtif": "GTiff"}.get(suffix)


def _check_companions(path: Path) -> None:
    """Refuse a mask or overviews beside a file that may lead elsewhere: GDAL opens them with any of its drivers.

    Raises:
        RasterError: if one is no TIFF, or names overviews in its turn.
    """
    names = {f"{path.name}{suffix}".casefold() for suffix in (".msk", ".ovr")}
    for companion in path.parent.iterdir() if path.is_file() else ():
        if companion.name.casefold() not in names or not companion.is_file():
            continue
        with companion.open("rb") as stream:
            head = stream.read(4)
        if head not in _TIFF_HEADS:
            raise RasterError(
                f"{companion}: no TIFF, as a mask or overviews beside {path.name} must be; GDAL would follow it to "
                "other files: remove it, or fetch it again"
            )
        _check_companions(companion)
        with reading(companion), rasterio.open(companion, driver="GTiff") as dataset:
            _check_overviews(dataset)


def _check_overviews(dataset: Any) -> None:
    """Refuse a file whose tags, or those of its .aux.xml, name another file as its overviews.

    Raises:
        RasterError: if they do.
    """
    if "OVERVIEW_FILE" in dataset.tags(ns="OVERVIEWS"):
        raise RasterError(
            f"{dataset.name}: its tag OVERVIEW_FILE would lead GDAL to another file; expected overviews inside it, or "
            "in an .ovr beside it: copy it without the tag (gdal_translate -nomd), or remove its .aux.xml"
        )
