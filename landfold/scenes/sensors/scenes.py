"""What was delivered: scenes, and the file and band index of each of their bands."""

import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import unquote

from landfold.core.errors import LandfoldError
from landfold.geo import raster
from landfold.geo.bands import Radiometry


class SceneError(LandfoldError):
    """A scene that is not usable as it was delivered."""


@dataclass(frozen=True)
class BandFile:
    """One band of a scene: its standard name, the sensor's own name, and where it is stored.

    ``source`` is what GDAL opens when it is not ``path`` itself: a member of the zip archive, or a URL of the list,
    that ``path`` then is.
    ``radiometry`` and ``nodata`` are what the product's metadata says; None where it says nothing, and the
    file's own tags or the settings decide.
    """

    name: str
    native_name: str
    path: Path
    index: int = 1
    source: str | None = None
    radiometry: Radiometry | None = None
    nodata: float | None = None

    @property
    def shown(self) -> str:
        """The name of the file, or of the member of an archive, for messages and reports."""
        return _file_name(self.source or self.path)


@dataclass(frozen=True)
class MaskFile:
    """A raster that tells which pixels not to use: its kind decides what its numbers mean."""

    kind: Literal["scl", "qa_pixel", "fmask", "file"]
    path: Path
    index: int = 1
    source: str | None = None

    @property
    def shown(self) -> str:
        """The name of the file, or of the member of an archive, for messages and reports."""
        return _file_name(self.source or self.path)


@dataclass(frozen=True)
class SceneFiles:
    """One acquisition as delivered. ``acquired`` is an ISO date, where the names or the metadata tell it.

    ``folder`` is where it lies: a folder, or the one file that holds or names all of it (an archive, a list of URLs).
    ``processing`` is what the product says of its own making (level, baseline). A scene with a ``fault`` was found
    but cannot be used: it has no bands, and the fault is the message to refuse it with.
    """

    name: str
    sensor: str
    folder: Path
    bands: dict[str, BandFile]
    acquired: str | None = None
    masks: tuple[MaskFile, ...] = ()
    warnings: list[str] = field(default_factory=list)
    processing: dict[str, str] = field(default_factory=dict)
    fault: str | None = None

    @classmethod
    def faulty(cls, name: str, sensor: str, folder: Path, fault: SceneError | str) -> "SceneFiles":
        """A scene that was found but cannot be used."""
        return cls(name, sensor, folder, {}, date_in(name), fault=str(fault))


RASTER_SUFFIXES = (".tif", ".tiff", ".gtif", ".jp2")
"""Names of files that may hold bands, in lower case."""


def _file_name(path: Path | str) -> str:
    name = PurePosixPath(raster.without_secrets(str(path))).name
    return unquote(name) if raster.is_remote(path) else name


_CALENDAR = re.compile(r"(?<!\d)(\d{8})(?:T\d{6})?(?!\d)")
_LANDSAT_ID = re.compile(r"L[COTEM]\d{7}(\d{7})[A-Z]{3}\d\d")  # before the collections: path, row, year and day


def date_in(name: str) -> str | None:
    """The first date that a file or scene name holds (20170216, or a Landsat scene ID's), in ISO form."""
    landsat = _LANDSAT_ID.match(name)
    candidates = [(landsat[1], "%Y%j")] if landsat else []
    candidates += [(match[1], "%Y%m%d") for match in _CALENDAR.finditer(name)]
    for text, form in candidates:
        try:
            return datetime.strptime(text, form).date().isoformat()
        except ValueError:
            continue
    return None
