"""A folder that holds one raster file for each band: SCENE_BAND.jp2 or .tif.

BAND is a Sentinel-2 name (B02, B8A), optionally followed by its resolution (_10m), or a standard
name (R, N, S1). Files of several scenes may lie in one folder: the part before BAND is the scene.
SCENE_SCL, SCENE_QA_PIXEL and SCENE_FMASK are the scene's masks.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from landfold import raster
from landfold.bands import SENTINEL2, STANDARD_NAMES
from landfold.sensors.scenes import RASTER_SUFFIXES, BandFile, MaskFile, SceneError, SceneFiles, date_in

_SUFFIX = rf"(?:_\d+m)?(?:{'|'.join(map(re.escape, RASTER_SUFFIXES))})"
_FILE = re.compile(rf"(?P<scene>.+)_(?P<band>[A-Z]+\d*|B\d\d|B8A){_SUFFIX}", re.IGNORECASE)
_MASK = re.compile(rf"(?P<scene>.+)_(?P<kind>SCL|QA_PIXEL|FMASK){_SUFFIX}", re.IGNORECASE)


def find(files: list[Path]) -> tuple[list[SceneFiles], list[Path]]:
    """Scenes among ``files``, and the files that belong to none.

    Raises:
        SceneError: if two files claim one band or one mask of a scene.
    """
    found: dict[tuple[Path, str], list[BandFile]] = {}
    left = []
    for path in files:
        match = _FILE.fullmatch(path.name)
        band = match and _band(match["band"])
        if not match or not band or _is_multiband(path):
            left.append(path)
            continue
        native, name = band
        found.setdefault((path.parent, match["scene"]), []).append(BandFile(name, native, path))
    masks, left = sidecar_masks(left, found)
    return [_scene(*key, files, masks.get(key, ())) for key, files in found.items()], left


def sidecar_masks(
    files: list[Path], scenes: Iterable[tuple[Path, str]]
) -> tuple[dict[tuple[Path, str], tuple[MaskFile, ...]], list[Path]]:
    """Mask files that lie beside their scene, by (folder, scene name), and the files that are none.

    Raises:
        SceneError: if a scene has two masks of one kind.
    """
    known = set(scenes)
    masks: dict[tuple[Path, str], dict[str, MaskFile]] = {}
    left = []
    for path in files:
        match = _MASK.fullmatch(path.name)
        if not match or (path.parent, match["scene"]) not in known:
            left.append(path)
            continue
        kind = match["kind"].lower()
        own = masks.setdefault((path.parent, match["scene"]), {})
        if kind in own:
            raise SceneError(
                f"scene {match['scene']}: mask {match['kind']} is in {own[kind].path} and in {path}; keep one of them"
            )
        own[kind] = MaskFile(kind, path)
    return {key: tuple(own.values()) for key, own in masks.items()}, left


def _band(text: str) -> tuple[str, str] | None:
    if text.upper() in SENTINEL2:
        return text.upper(), SENTINEL2[text.upper()]
    if text in STANDARD_NAMES:
        return text, text
    return None


def _is_multiband(path: Path) -> bool:
    """Whether there is more in a file than the band of its name; one that cannot be read tells it at ingest."""
    try:
        with raster.opened(path) as dataset:
            return dataset.count > 1
    except raster.RasterError:
        return False


def _scene(folder: Path, name: str, files: list[BandFile], masks: tuple[MaskFile, ...]) -> SceneFiles:
    bands: dict[str, BandFile] = {}
    for file in files:
        if file.name in bands:
            raise SceneError(
                f"scene {name}: band {file.name} is in {bands[file.name].path} and in {file.path}; keep one of them"
            )
        bands[file.name] = file
    sensor = "sentinel2" if all(f.native_name in SENTINEL2 for f in files) else "unknown"
    return SceneFiles(name, sensor, folder, bands, date_in(name), masks)
