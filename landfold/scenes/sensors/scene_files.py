"""Scenes as delivered: the file and band index of each of their bands and masks."""

import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import unquote

from landfold.core.errors import LandfoldError
from landfold.geo.bands import Radiometry
from landfold.geo.remote import is_remote, redact_url


class SceneError(LandfoldError):
    """A scene that is not usable as it was delivered."""


class _Stored:
    """Where a band or a mask is stored."""

    path: Path
    source: str | None

    @property
    def location(self) -> Path | str:
        """What GDAL opens."""
        return self.source or self.path

    @property
    def shown(self) -> str:
        """The name of the file, or of the member of an archive, for messages and reports."""
        name = PurePosixPath(redact_url(str(self.location))).name
        return unquote(name) if is_remote(self.location) else name


@dataclass(frozen=True)
class BandFile(_Stored):
    """One band of a scene.

    Attributes:
        name: standard name, such as ``R``.
        native_name: the sensor's own name, such as ``B04``.
        path: the file, or the archive or the list of URLs that holds the band.
        index: number of the band in the file, from 1.
        source: what GDAL opens if not ``path``: a member of an archive, or a URL.
        radiometry: as the product's metadata gives it; None where the file's tags or the settings decide.
        nodata: as the product's metadata gives it; None where the file's tags or the settings decide.
        checksum: algorithm of hashlib and hexadecimal digest, as the product gives them; None where it has none.
    """

    name: str
    native_name: str
    path: Path
    index: int = 1
    source: str | None = None
    radiometry: Radiometry | None = None
    nodata: float | None = None
    checksum: tuple[str, str] | None = None


@dataclass(frozen=True)
class MaskFile(_Stored):
    """A raster that says which pixels not to use; its kind decides what its numbers mean."""

    kind: Literal["scl", "qa_pixel", "fmask", "file"]
    path: Path
    index: int = 1
    source: str | None = None
    checksum: tuple[str, str] | None = None


@dataclass(frozen=True)
class SceneFiles:
    """One acquisition as delivered.

    Attributes:
        name: of the scene, unique among all.
        sensor: such as ``sentinel2`` or ``landsat8``; "unknown" where nothing says.
        folder: where it lies: a folder, or the one file that holds or lists all of it (an archive, a list of URLs).
        bands: by standard name.
        acquired: ISO date, from the metadata or the names; None where neither has one.
        masks: at most one of a kind.
        warnings: for the user.
        processing: what the product says of how it was made (level, baseline).
        fault: why the scene cannot be used; it then has no bands. None for a usable scene.
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
