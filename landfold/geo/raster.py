"""The only pixel input and output: windows of scenes read, rasters written whole or not at all.

A scene raster of Landfold is a tiled GeoTIFF with a name for each band, a per-dataset mask
(255 valid, 0 nodata), and, for reflectance stored as integers, GDAL's scale and offset tags.
"""

import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.enums import MaskFlags, Resampling
from rasterio.errors import RasterioError, RasterioIOError
from rasterio.windows import Window

from landfold.core.errors import LandfoldError
from landfold.core.files import writing
from landfold.geo.bands import Radiometry
from landfold.geo.grid import Grid

TILE_PX = 256
GDAL_OPTIONS = {
    "GDAL_TIFF_INTERNAL_MASK": True,
    "GDAL_CACHEMAX": 512 * 2**20,
    "GDAL_DISABLE_READDIR_ON_OPEN": "FALSE",
}
"""The mask inside the file, at most 512 MB of decoded blocks in memory (rasterio counts in bytes), and sidecars of a
file read even while a remote one is open."""

REMOTE = "/vsicurl/"
"""What a remote file's URL has before it, as GDAL wants it."""

REMOTE_OPTIONS = {
    "GDAL_HTTP_CONNECTTIMEOUT": "10",  # seconds
    "GDAL_HTTP_TIMEOUT": "120",  # seconds, of one request
    "GDAL_HTTP_LOW_SPEED_TIME": "20",  # seconds below LOW_SPEED_LIMIT bytes a second end a request
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1000",
    "GDAL_HTTP_MAX_RETRY": "3",
    "GDAL_HTTP_RETRY_DELAY": "1",  # seconds, doubled from one to the next
}
"""How GDAL reads over the network; a variable of the environment of the same name goes before each of these."""

REMOTE_ATTEMPTS = 3
"""How often Landfold reads what breaks off: GDAL itself tries again after an HTTP error or a timeout alone."""

_NO_RANGES = "Range downloading not supported"

_TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

OWN_TAGS = {"LANDFOLD": "output"}
"""In every raster that Landfold writes, by which ingest knows that it is no delivery."""


class RasterError(LandfoldError):
    """A raster file that cannot be read or lacks what Landfold needs of it."""


class RasterWriteError(LandfoldError):
    """A raster file that cannot be written: no fault of what was read."""


def is_remote(path: Path | str) -> bool:
    """Whether GDAL reads this over the network."""
    return str(path).startswith(REMOTE)


def without_secrets(text: str) -> str:
    """A path, or a text with URLs in it, without GDAL's prefix, user, password, query and fragment of any URL."""
    return re.sub(rf"(?:{REMOTE})?([A-Za-z][\w+.-]*://)(?:[^/\s]*@)?([^\s?#'\"]*)(?:[?#][^\s'\"]*)?", r"\1\2", text)


@contextmanager
def reading(path: Path | str) -> Iterator[None]:
    """Name the file in the error of a read that fails in the block; wrap each read of a file in it.

    Raises:
        RasterError: if GDAL cannot read.
    """
    try:
        yield
    except RasterioError as error:
        if is_remote(path):
            # The cause would show the URL whole, which may hold a password or a signature.
            raise RasterError(
                f"{without_secrets(str(path))}: cannot be read ({_stripped(_reason(error), path)}), in several "
                "attempts; is the address right, access granted and not expired, and the network up? Run again, or "
                "fetch the file"
            ) from None
        raise RasterError(
            f"{path}: cannot be read ({_reason(error)}); the file is truncated, corrupt or no raster: fetch it again"
        ) from error


def _reason(error: BaseException) -> str:
    """What GDAL said, the network's word where there is one."""
    said = []
    cause: BaseException | None = error
    while cause is not None:
        said.append(str(getattr(cause, "errmsg", cause)))
        cause = cause.__cause__
    network = [text for text in said if "HTTP" in text or "CURL" in text]
    return (network or said[1:] or said)[0]


def persistently(path: Path | str, read: Callable[[], Any]) -> Any:
    """What ``read`` gives; where that is of a remote file and breaks off, it is tried again, with nothing kept.

    Raises:
        RasterError: if GDAL cannot read, at last.
    """
    with reading(path):
        for _ in range(REMOTE_ATTEMPTS - 1 if is_remote(path) else 0):
            try:
                return _unbroken(read)
            except RasterioError as error:
                if _is_final(error):
                    raise
            _forget(str(path))
        return _unbroken(read) if is_remote(path) else read()


def _unbroken(read: Callable[[], Any]) -> Any:
    """What ``read`` gives. GDAL may take a broken answer for the end of a file, and pass over tags with a warning."""
    with _listening() as said:
        try:
            result = read()
        except RasterioError:
            if any(_NO_RANGES in text for text in said):
                raise RasterioIOError(f"{_NO_RANGES} by this server: fetch the file") from None
            raise
    broken = [text for text in said if re.search(r"IO error|TIFF\w+:", text)]
    if broken:
        raise RasterioIOError(broken[0])
    return result


@contextmanager
def _listening() -> Iterator[list[str]]:
    """What GDAL says in the block, through rasterio's log, and does not raise."""
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    logger, listener = logging.getLogger("rasterio"), Listener(logging.INFO)  # where errors that GDAL overcomes are
    before = logger.level, logger.propagate
    logger.addHandler(listener)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield said
    finally:
        logger.setLevel(before[0])
        logger.propagate = before[1]
        logger.removeHandler(listener)


def _keep_secrets(record: logging.LogRecord) -> bool:
    """Strip the URLs that rasterio logs."""
    record.msg, record.args = re.sub(r"\?\S+", "", without_secrets(record.getMessage())), ()
    return True


for _name in ("rasterio._env", "rasterio._err"):
    logging.getLogger(_name).addFilter(_keep_secrets)


def _forget(path: str) -> None:
    """Make GDAL drop what it holds of a remote file: it takes what came of a broken answer for the file's end."""
    time.sleep(float(_remote_option("GDAL_HTTP_RETRY_DELAY")))
    try:
        with rasterio.Env(CPL_VSIL_CURL_NON_CACHED=path), _open_remote(path):
            pass  # it drops it when such a file is closed
    except RasterioError as error:
        if _is_final(error):
            raise  # it tells the cause, which a failed read of pixels does not


def _is_final(error: BaseException) -> bool:
    """Whether GDAL has tried again itself, or that is of no use."""
    return any(text in _reason(error) for text in ("HTTP response code", "timed out", _NO_RANGES))


def _open_remote(path: str) -> Any:
    """The dataset behind a URL, of one of two kinds: a VRT, say, could lead on to files of this machine."""
    dataset = rasterio.open(path, driver=_driver(path) or "GTiff")
    _check_overviews(dataset)
    _ = dataset.mask_flag_enums  # a mask is looked for at first use, when a broken answer would go unnoticed
    return dataset


def _driver(path: Path | str) -> str | None:
    """The one driver of GDAL for a file of this name; None where its content decides, as of labels.

    By its content a file called .tif may be a VRT or a web service, which lead to any other file or host.
    """
    suffix = PurePosixPath(without_secrets(str(path))).suffix.lower()
    return {".jp2": "JP2OpenJPEG", ".tif": "GTiff", ".tiff": "GTiff", ".gtif": "GTiff"}.get(suffix)


def _check_companions(path: Path) -> None:
    """Refuse a mask or overviews beside a file that may lead elsewhere: GDAL takes them by any of its drivers.

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
    """Refuse a file whose tags, or those of its .aux.xml, name any file as its overviews; they open it when asked for.

    Raises:
        RasterError: if they do.
    """
    if "OVERVIEW_FILE" in dataset.tags(ns="OVERVIEWS"):
        raise RasterError(
            f"{dataset.name}: its tag OVERVIEW_FILE would lead GDAL to another file; expected overviews inside it, or "
            "in an .ovr beside it: copy it without the tag (gdal_translate -nomd), or remove its .aux.xml"
        )


def _remote_option(name: str) -> str:
    return os.environ.get(name, REMOTE_OPTIONS[name])


@contextmanager
def opened(path: Path | str) -> Iterator[Any]:
    """A rasterio dataset, closed at the end; ``path`` is a file or what GDAL opens: REMOTE and a URL, say.

    Raises:
        RasterError: if the file is absent, or GDAL cannot read it, now or later in the block.
    """
    if not is_remote(path):
        driver, inside_archive = _driver(path), str(path).startswith("/vsi")
        options = GDAL_OPTIONS | ({"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"} if inside_archive else {})
        with reading(path), rasterio.Env(**options):
            if driver and not inside_archive:
                _check_companions(Path(path))
            with rasterio.open(path, driver=driver) as dataset:
                if driver:
                    _check_overviews(dataset)
                yield dataset
        return
    options = GDAL_OPTIONS | {name: _remote_option(name) for name in REMOTE_OPTIONS}
    options["GDAL_DISABLE_READDIR_ON_OPEN"] = "EMPTY_DIR"  # no requests for sidecars that are not there
    with (
        _no_secrets(path),
        reading(path),
        rasterio.Env(**options),
        persistently(path, lambda: _open_remote(str(path))) as dataset,
    ):
        yield dataset


def _stripped(text: str, path: Path | str) -> str:
    """A text without secrets, those of ``path`` even where only the end of its URL is told."""
    query = str(path).partition("?")[2]
    return without_secrets(text.replace(f"?{query}", "") if query else text)


@contextmanager
def _no_secrets(path: Path | str) -> Iterator[None]:
    """Strip the errors of the block: a dataset's name, which many tell, is the URL whole."""
    try:
        yield
    except LandfoldError as error:
        text = _stripped(str(error), path)
        if text == str(error):
            raise
        raise type(error)(text) from None


@dataclass(frozen=True)
class Raster:
    """An open raster of Landfold's own: one grid, named channels, and one mask for all of them or a nodata value."""

    dataset: Any
    grid: Grid
    names: tuple[str, ...]
    radiometry: tuple[Radiometry, ...]

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator["Raster"]:
        """Open a raster that Landfold has written.

        Raises:
            RasterError: if it cannot be read, or a band has no name.
        """
        with opened(path) as dataset:
            if any(name is None for name in dataset.descriptions):
                raise RasterError(f"{path}: a band without a name; the file was not written by Landfold")
            radiometry = tuple(Radiometry(s, o) for s, o in zip(dataset.scales, dataset.offsets, strict=True))
            yield cls(dataset, Grid.of(dataset), tuple(dataset.descriptions), radiometry)

    @property
    def is_integer(self) -> bool:
        """Whether numbers are stored as integers."""
        return np.issubdtype(np.dtype(self.dataset.dtypes[0]), np.integer)

    def stored(self, window: Window, names: Sequence[str] | None = None) -> np.ndarray:
        """Numbers as stored, (channel, y, x); what lies under the mask is arbitrary."""
        with reading(self.dataset.name):
            return self.dataset.read(self._indexes(names), window=window)

    def valid(self, window: Window) -> np.ndarray:
        """Which pixels hold data, in any channel if each has its own nodata: (y, x) bool."""
        with reading(self.dataset.name):
            return self.dataset.dataset_mask(window=window) > 0

    def read(self, window: Window, names: Sequence[str] | None = None) -> np.ndarray:
        """Reflectance, or the float channels as they are: (channel, y, x) float32, NaN where not valid."""
        stored = self.stored(window, names)
        wanted = [self.radiometry[i - 1] for i in self._indexes(names)]
        values = np.stack([r.reflectance(a) for r, a in zip(wanted, stored, strict=True)])
        if MaskFlags.per_dataset in self.dataset.mask_flag_enums[0]:
            values[:, ~self.valid(window)] = np.nan
        elif self.dataset.nodata is not None:  # of each channel by itself; NaN is there already
            values[stored == self.dataset.nodata] = np.nan
        return values

    def scan(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """All blocks once, as `stored` numbers and `valid`; the next is decoded while one is worked on.

        Nothing else may be read from this raster meanwhile: GDAL's datasets serve one thread at a time.
        """

        def block(window: Window) -> tuple[np.ndarray, np.ndarray]:
            return self.stored(window), self.valid(window)

        with ThreadPoolExecutor(max_workers=1) as reader:
            following = None
            for window in self.grid.blocks():
                current, following = following, reader.submit(block, window)
                if current:
                    yield current.result()
            yield following.result()

    def thumbnail(
        self, names: Sequence[str], *, longest_px: int, resampling: Resampling = Resampling.average
    ) -> np.ndarray:
        """The whole raster averaged down to at most ``longest_px``, (channel, y, x); for pictures."""
        scale = min(1.0, longest_px / max(self.grid.shape))
        shape = (len(names), max(1, round(self.grid.height * scale)), max(1, round(self.grid.width * scale)))
        return self.dataset.read(self._indexes(names), out_shape=shape, resampling=resampling)

    def _indexes(self, names: Sequence[str] | None) -> list[int]:
        if names is None:
            return list(range(1, len(self.names) + 1))
        missing = [name for name in names if name not in self.names]
        if missing:
            raise RasterError(f"{self.dataset.name}: no channel {', '.join(missing)}; it has {', '.join(self.names)}")
        return [self.names.index(name) + 1 for name in names]


class RasterWriter:
    """Writes windows into a raster under its temporary name; made by `create`."""

    def __init__(self, dataset: Any) -> None:
        """Wrap an open rasterio dataset in write mode."""
        self.dataset = dataset

    def write(self, window: Window, values: np.ndarray, valid: np.ndarray | None = None) -> None:
        """Write (channel, y, x) values and, for a masked raster, the (y, x) mask of the window."""
        self.dataset.write(values, window=window)
        if valid is not None:
            self.dataset.write_mask(valid, window=window)

    def describe_classes(self, names: dict[int, str], colours: dict[int, tuple[int, int, int]]) -> None:
        """Name the classes in the tags CLASS_1, ... and give bytes a colour table, before anything is written.

        Other numbers than bytes get none: tables of 65536 colours are beyond what many viewers read.
        """
        if self.dataset.dtypes[0] == "uint8":
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
    tags: dict[str, str] | None = None,
) -> Iterator[RasterWriter]:
    """Write a tiled, compressed GeoTIFF; ``path`` appears only when the block succeeds.

    Integers are packed with deflate, which every GIS reads; float channels with Zstandard, which
    is several times faster on them. Both are lossless.

    Raises:
        RasterWriteError: if GDAL cannot write, on a full disk say.
    """
    floating = np.issubdtype(np.dtype(dtype), np.floating)
    profile = {
        "driver": "GTiff",
        "dtype": dtype,
        "count": len(names),
        "height": grid.height,
        "width": grid.width,
        "crs": grid.crs,
        "transform": grid.transform,
        "nodata": nodata,
        "tiled": True,
        "blockxsize": TILE_PX,
        "blockysize": TILE_PX,
        "interleave": "band",
        "compress": "zstd" if floating else "deflate",
        "predictor": 3 if floating else 2,
        "bigtiff": "if_safer",
    }
    profile |= {"zstd_level": 1} if floating else {"zlevel": 6}
    with (
        _write_faults(path),
        writing(path) as temporary,
        rasterio.Env(**GDAL_OPTIONS),
        rasterio.open(temporary, "w", **profile) as dataset,
    ):
        dataset.descriptions = tuple(names)
        if radiometry:
            dataset.scales = [r.scale for r in radiometry]
            dataset.offsets = [r.offset for r in radiometry]
        dataset.update_tags(**OWN_TAGS, **(tags or {}))
        yield RasterWriter(dataset)


@contextmanager
def _write_faults(path: Path) -> Iterator[None]:
    try:
        yield
    except RasterioError as error:
        reason = str(error.__cause__ or error)
        raise RasterWriteError(
            f"{path}: cannot be written ({reason}); is the disk full or read-only? Nothing is half-written"
        ) from error


@contextmanager
def create_cog(
    path: Path, grid: Grid, names: Sequence[str], *, overview_resampling: str, **options: Any
) -> Iterator[RasterWriter]:
    """Write a Cloud-Optimized GeoTIFF with overviews by windows in any order; options as for `create`.

    The windows go into a plain GeoTIFF beside it first: a COG begins with what is known last.

    Raises:
        RasterWriteError: if GDAL cannot write, on a full disk say.
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
    with _write_faults(target), writing(target) as temporary, rasterio.Env(**GDAL_OPTIONS):
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
