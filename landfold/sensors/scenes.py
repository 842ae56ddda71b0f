"""What was delivered: scenes, and the file and band index of each of their bands."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from landfold.bands import Radiometry
from landfold.errors import LandfoldError


class SceneError(LandfoldError):
    """A scene that is not usable as it was delivered."""


@dataclass(frozen=True)
class BandFile:
    """One band of a scene: its standard name, the sensor's own name, and where it is stored.

    ``source`` is what GDAL opens when it is not ``path`` itself (a member of a zip archive, say).
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


@dataclass(frozen=True)
class MaskFile:
    """A raster that tells which pixels not to use: its kind decides what its numbers mean."""

    kind: Literal["scl", "qa_pixel", "fmask"]
    path: Path
    index: int = 1
    source: str | None = None


@dataclass(frozen=True)
class SceneFiles:
    """One acquisition as delivered. ``acquired`` is an ISO date, where the names or the metadata tell it."""

    name: str
    sensor: str
    folder: Path
    bands: dict[str, BandFile]
    acquired: str | None = None
    masks: tuple[MaskFile, ...] = ()
    warnings: list[str] = field(default_factory=list)
