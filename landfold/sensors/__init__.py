"""Finding scenes as they were delivered, and what each of their files is."""

from pathlib import Path

from landfold.sensors import band_files
from landfold.sensors.scenes import BandFile, SceneError, SceneFiles

__all__ = ["BandFile", "SceneError", "SceneFiles", "find_scenes"]


def find_scenes(folder: Path) -> list[SceneFiles]:
    """Every scene below ``folder``, sorted by name.

    Raises:
        SceneError: if there is none, or two have one name.
    """
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
