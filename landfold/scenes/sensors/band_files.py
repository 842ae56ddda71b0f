"""A folder that holds one raster file for each band: SCENE_BAND.jp2 or .tif.

BAND is a Sentinel-2 name (B02, B8A), optionally followed by its resolution (_10m), or a standard
name (R, N, S1). Files of several scenes may lie in one folder: the part before BAND is the scene.
SCENE_SCL, SCENE_QA_PIXEL and SCENE_FMASK are the scene's masks.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from landfold.geo.bands import SENTINEL2, STANDARD_NAMES
from landfold.geo.dataset import RasterError, open_dataset
from landfold.scenes.sensors.evidence import contradiction, pixel_size_m
from landfold.scenes.sensors.scene_files import RASTER_SUFFIXES, BandFile, MaskFile, SceneFiles, date_in

_SUFFIX = rf"(?:_\d+m)?(?:{'|'.join(map(re.escape, RASTER_SUFFIXES))})"
_FILE = re.compile(rf"(?P<scene>.+)_(?P<band>[A-Z]+\d*|B\d\d|B8A){_SUFFIX}", re.IGNORECASE)
_MASK = re.compile(rf"(?P<scene>.+)_(?P<kind>SCL|QA_PIXEL|FMASK){_SUFFIX}", re.IGNORECASE)


Key = tuple[Path, str]
"""A folder and the name of a scene in it."""


def find(
    files: list[Path], source: Callable[[Path], Path | str] = lambda path: path
) -> tuple[list[SceneFiles], list[Path]]:
    """Scenes among ``files``, and the files that belong to none; ``source`` gives what GDAL opens for a file.

    A scene has a fault if two of its files are the same band or mask, or if they are called as Sentinel-2's and are not
    (see `landfold.scenes.sensors.evidence`).
    """
    bands_of: dict[Key, list[BandFile]] = {}
    sizes_of: dict[Key, list[float | None]] = {}
    left, unread = [], set()
    for path in files:
        match = _FILE.fullmatch(path.name)
        band = match and _band(match["band"])
        if not match or not band:
            left.append(path)
            continue
        key, size = (path.parent, match["scene"]), None
        if key not in unread:
            count, size = _count(source(path))
            if count == 0:  # ingest reports it; a server that does not answer is not asked for every band
                unread.add(key)
            elif count > 1:
                left.append(path)
                continue
        native, name = band
        bands_of.setdefault(key, []).append(BandFile(name, native, path))
        sizes_of.setdefault(key, []).append(size)
    masks, left = sidecar_masks(left, bands_of)
    return [_scene(*key, files, sizes_of[key], masks.get(key, ())) for key, files in bands_of.items()], left


def sidecar_masks(
    files: list[Path], scenes: Iterable[Key], pattern: re.Pattern[str] = _MASK
) -> tuple[dict[Key, tuple[MaskFile, ...]], list[Path]]:
    """Mask files that lie beside their scene, and the files that are none.

    ``pattern`` has the group ``scene``, and ``kind`` unless the masks are of kind "file".
    """
    known = set(scenes)
    masks: dict[Key, tuple[MaskFile, ...]] = {}
    left = []
    for path in files:
        match = pattern.fullmatch(path.name)
        key = (path.parent, match["scene"]) if match else None
        if match and key in known:
            kind = match.groupdict().get("kind", "file").lower()
            masks[key] = (*masks.get(key, ()), MaskFile(kind, path))
        else:
            left.append(path)
    return masks, left


def with_masks(scene: SceneFiles, masks: tuple[MaskFile, ...]) -> SceneFiles:
    """The scene with more masks; with a fault if it then has two of one kind."""
    if scene.fault:
        return scene
    own = {mask.kind: mask for mask in scene.masks}
    for mask in masks:
        if mask.kind in own:
            return SceneFiles.faulty(
                scene.name,
                scene.sensor,
                scene.folder,
                f"scene {scene.name}: mask {mask.kind.upper()} is in {own[mask.kind].path} and in {mask.path}; "
                "keep one of them",
            )
        own[mask.kind] = mask
    return replace(scene, masks=tuple(own.values()))


def _band(text: str) -> tuple[str, str] | None:
    if text.upper() in SENTINEL2:
        return text.upper(), SENTINEL2[text.upper()]
    if text in STANDARD_NAMES:
        return text, text
    return None


def _count(source: Path | str) -> tuple[int, float | None]:
    """How many bands a file has, 0 if it cannot be read, and the size of its pixels in metres."""
    try:
        with open_dataset(source) as dataset:
            return dataset.count, pixel_size_m(dataset)
    except RasterError:
        return 0, None


def _scene(
    folder: Path, name: str, files: list[BandFile], sizes_m: list[float | None], masks: tuple[MaskFile, ...]
) -> SceneFiles:
    sensor = "sentinel2" if all(f.native_name in SENTINEL2 for f in files) else "unknown"
    own_names = [file.native_name for file in files if file.native_name in SENTINEL2]
    if own_names and (message := contradiction(name, own_names, sizes_m)):
        return SceneFiles.faulty(name, "unknown", folder, message)
    bands: dict[str, BandFile] = {}
    for file in files:
        if file.name in bands:
            message = (
                f"scene {name}: band {file.name} is in {bands[file.name].path} and in {file.path}; keep one of them"
            )
            return SceneFiles.faulty(name, sensor, folder, message)
        bands[file.name] = file
    return with_masks(SceneFiles(name, sensor, folder, bands, date_in(name)), masks)
