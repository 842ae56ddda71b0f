"""Files read over HTTP: their URLs without secrets, GDAL's options for the network, and reads that are repeated."""

import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rasterio
from rasterio.errors import RasterioError, RasterioIOError

REMOTE = "/vsicurl/"
"""Prefix of the URL of a remote file, as GDAL wants it."""

OPTIONS = {
    "GDAL_HTTP_CONNECTTIMEOUT": "10",  # seconds
    "GDAL_HTTP_TIMEOUT": "120",  # seconds, of one request
    "GDAL_HTTP_LOW_SPEED_TIME": "20",  # seconds below LOW_SPEED_LIMIT bytes a second end a request
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1000",
    "GDAL_HTTP_MAX_RETRY": "3",
    "GDAL_HTTP_RETRY_DELAY": "1",  # seconds, doubled from one to the next
}
"""How GDAL reads over the network, unless an environment variable of the same name says otherwise."""

ATTEMPTS = 3
"""How often Landfold reads what breaks off: GDAL itself repeats a request only after an HTTP error or a timeout."""

_DAMAGE = r"IO error|JPEGLib:(Corrupt|Premature)|[A-Z]+Decode:|OpenJPEG|opj_"
"""Messages by which GDAL tells of damaged pixels and goes on."""

_BROKEN = rf"{_DAMAGE}|TIFF\w+:"
"""The same over the network, where tags may be cut off, too; of a local file these tell of odd tags at most."""

_NO_RANGES = "Range downloading not supported"


def is_remote(path: Path | str) -> bool:
    """Whether GDAL reads this over the network."""
    return str(path).startswith(REMOTE)


def redact_url(text: str) -> str:
    """A path, or a text with URLs in it, without GDAL's prefix, user, password, query and fragment of any URL."""
    return re.sub(rf"(?:{REMOTE})?([A-Za-z][\w+.-]*://)(?:[^/\s]*@)?([^\s?#'\"]*)(?:[?#][^\s'\"]*)?", r"\1\2", text)


def redact(text: str, path: Path | str) -> str:
    """A text without secrets, also where it holds only the query of the URL ``path``."""
    query = str(path).partition("?")[2]
    return redact_url(text.replace(f"?{query}", "") if query else text)


def open_remote(path: str) -> Any:
    """The rasterio dataset behind a URL, by one of two drivers: a VRT, say, could lead on to files of this machine."""
    is_jp2 = redact_url(path).lower().endswith(".jp2")
    return rasterio.open(path, driver="JP2OpenJPEG" if is_jp2 else "GTiff")


def options() -> dict[str, str]:
    """GDAL's options for a remote file."""
    own = {name: os.environ.get(name, value) for name, value in OPTIONS.items()}
    return own | {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}  # no requests for sidecars that are not there


def reason(error: BaseException) -> str:
    """What GDAL said of an error; of several messages that about the network."""
    said = []
    cause: BaseException | None = error
    while cause is not None:
        said.append(str(getattr(cause, "errmsg", cause)))
        cause = cause.__cause__
    network = [text for text in said if "HTTP" in text or "CURL" in text]
    return (network or said[1:] or said)[0]


def with_retries(path: Path | str, read: Callable[[], Any]) -> Any:
    """The result of ``read``, which is repeated where it reads the remote file ``path`` and breaks off.

    Raises:
        RasterioError: if GDAL cannot read in the last attempt either, or complains of damage in its log.
    """
    if not is_remote(path):
        return _read_once(read, _DAMAGE)
    for _ in range(ATTEMPTS - 1):
        try:
            return _read_once(read, _BROKEN)
        except RasterioError as error:
            if _is_final(error):
                raise
        _drop_cached(str(path))
    return _read_once(read, _BROKEN)


def _read_once(read: Callable[[], Any], complaints: str) -> Any:
    """The result of ``read``; an error where GDAL logs what fits the pattern ``complaints`` and goes on."""
    with _capture_gdal_log() as messages:
        try:
            result = read()
        except RasterioError:
            if any(_NO_RANGES in text for text in messages):
                raise RasterioIOError(f"{_NO_RANGES} by this server: fetch the file") from None
            raise
    broken = [text for text in messages if re.search(complaints, text)]
    if broken:
        raise RasterioIOError(broken[0])
    return result


@contextmanager
def _capture_gdal_log() -> Iterator[list[str]]:
    """Messages of GDAL in the block that raise no exception; rasterio logs them."""
    messages: list[str] = []
    handler = logging.Handler(logging.INFO)  # the level of errors that GDAL overcomes
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = logging.getLogger("rasterio")
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield messages
    finally:
        logger.setLevel(level)
        logger.propagate = propagate
        logger.removeHandler(handler)


def _drop_cached(path: str) -> None:
    """Make GDAL drop what it holds of a remote file: it takes a broken answer for the file's end."""
    time.sleep(float(options()["GDAL_HTTP_RETRY_DELAY"]))
    try:
        with rasterio.Env(**options(), CPL_VSIL_CURL_NON_CACHED=path), open_remote(path):
            pass  # GDAL drops it when such a file is closed
    except RasterioError as error:
        if _is_final(error):
            raise  # it names the cause, which a failed read of pixels does not


def _is_final(error: BaseException) -> bool:
    """Whether GDAL has repeated the request itself, or repeating it cannot help."""
    return any(text in reason(error) for text in ("HTTP response code", "timed out", _NO_RANGES))


def _redact_log(record: logging.LogRecord) -> bool:
    """Remove secrets from what rasterio logs."""
    record.msg, record.args = re.sub(r"\?\S+", "", redact_url(record.getMessage())), ()
    return True


for _name in ("rasterio._env", "rasterio._err"):
    logging.getLogger(_name).addFilter(_redact_log)
