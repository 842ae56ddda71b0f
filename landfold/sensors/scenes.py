"""What was delivered: scenes, and the file and band index of each of their bands."""

from dataclasses import dataclass, field
from pathlib import Path

from landfold.errors import LandfoldError


class SceneError(LandfoldError):
    """A scene that is not usable as it was delivered."""


@dataclass(frozen=True)
class BandFile:
    """One band of a scene: its standard name, the sensor's own name, and where it is stored."""

    name: str
    native_name: str
    path: Path
    index: int = 1


@dataclass(frozen=True)
class SceneFiles:
    """One acquisition as delivered. ``acquired`` is an ISO date, where the names tell it."""

    name: str
    sensor: str
    folder: Path
    bands: dict[str, BandFile]
    acquired: str | None = None
    warnings: list[str] = field(default_factory=list)
