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


def find_scenes(folder: Path) -> list[SceneFiles]:
    """Every scene below ``folder``, sorted by name.

    Raises:
        SceneError: if there is none, or two have one name.
    """
    from landfold.sensors import band_files

    scenes = band_files.find(folder) if folder.is_dir() else []
    if not scenes:
        raise SceneError(
            f"{folder}: no scene found; expected folders that hold one raster file for each band, "
            "such as T33UUU_20170216T102101_B02.jp2"
        )
    by_name: dict[str, SceneFiles] = {}
    for scene in scenes:
        if scene.name in by_name:
            raise SceneError(
                f"scene {scene.name}: found in {by_name[scene.name].folder} and in {scene.folder}; "
                "a scene's name must be unique: rename or remove one of them"
            )
        by_name[scene.name] = scene
    return [by_name[name] for name in sorted(by_name)]
