"""Reading the text that comes with a product: never more than a limit, and XML without a document type.

Products come from anywhere. An entity, which could fetch a file or grow without end, needs a document type
declaration; no product of ESA or USGS has one.
"""

import zipfile
import zlib
from pathlib import Path
from xml.etree import ElementTree

from landfold.scenes.sensors.scene_files import SceneError

ARCHIVE_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, KeyError, OSError, ValueError, RuntimeError)
"""What zipfile raises for a damaged or encrypted archive."""

MAX_BYTES = 16 * 2**20
"""The product metadata of Sentinel-2 is about 60 kB, the MTL of Landsat 20 kB."""


def read_text(path: Path) -> str:
    """A metadata file as text.

    Raises:
        SceneError: if it is too large to be one, or not UTF-8.
    """
    with path.open("rb") as file:
        return decode(file.read(MAX_BYTES + 1), path)


def decode(content: bytes, name: Path | str) -> str:
    """At most MAX_BYTES of metadata as text; read one byte more than that, so that a larger file shows.

    Raises:
        SceneError: if it is larger, or not UTF-8.
    """
    if len(content) > MAX_BYTES:
        raise SceneError(f"{name}: larger than {MAX_BYTES // 2**20} MiB, so it is no product metadata; fetch it again")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SceneError(f"{name}: not UTF-8 text ({error.reason}); fetch the product again") from error


def parse_xml(text: str, name: Path | str) -> ElementTree.Element:
    """The root of an XML text.

    Raises:
        SceneError: if it has a document type declaration, or is not well-formed.
    """
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise SceneError(f"{name}: declares a document type, which no product metadata does; fetch the product again")
    try:
        return ElementTree.fromstring(text)  # noqa: S314 (entities are refused above)
    except ElementTree.ParseError as error:
        raise SceneError(f"{name}: no well-formed XML ({error}); fetch the product again") from error


def number(text: str | None, what: str) -> float:
    """A number of the metadata; ``what`` names file and field in the error.

    Raises:
        SceneError: if it is absent or no number.
    """
    try:
        return float(text or "")
    except ValueError as error:
        fault = "is absent" if text is None else f"is '{text}', no number"
        raise SceneError(f"{what} {fault}; fetch the product again") from error
