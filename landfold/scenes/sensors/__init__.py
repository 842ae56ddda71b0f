"""The scenes of a folder as they were delivered, and what each of their files is.

Each reader takes the files it understands and leaves the rest to the next, so that no file is taken twice: products
first (they own everything in their folder or with their name), then STAC items and lists of URLs, then files of one
band, then files of many.
"""

import re
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

from landfold.core.errors import first_ten
from landfold.scenes.sensors import band_files, landsat, multiband, safe, stac_items, url_lists
from landfold.scenes.sensors.scene_files import RASTER_SUFFIXES, BandFile, MaskFile, SceneError, SceneFiles

__all__ = ["BandFile", "MaskFile", "SceneError", "SceneFiles", "find_scenes"]

SIDECARS = (".aux.xml", ".ovr", ".msk", ".tfw", ".tifw", ".j2w", ".wld", ".dvc")
"""Ends of names of files that GDAL or DVC keeps beside a file; they are ignored without a warning."""

_LONGEST_NAME = 200
"""Bytes of a scene's name; with the suffixes of its outputs a file system takes 255."""


def find_scenes(
    folder: Path, *, band_order: list[str | None] | None = None, mask_file: str | None = None
) -> list[SceneFiles]:
    """Every scene below ``folder``, sorted by name.

    Scenes are Sentinel-2 products (folders and zip archives), Landsat Collection 2 products, remote scenes (lists of
    URLs, STAC items), files of one band each, and files of many bands, each a scene of its own. A file that is not
    understood is a warning of the scene beside it; hidden files and sidecars of GDAL are ignored. What is wrong with
    one scene is its fault (`SceneFiles.fault`) and hides no other.

    Args:
        folder: where the scenes lie, at any depth.
        band_order: names the bands of those files of many bands whose descriptions do not (see
            `landfold.scenes.sensors.multiband`).
        mask_file: name of a mask beside a scene, with {scene} for the scene's name.

    Raises:
        SceneError: if there is no scene, two have one name, a folder of rasters is not understood, a link leads to a
            folder or nowhere, or a setting is wrong.
    """
    delivered = _delivered(folder)
    masks = _mask_pattern(mask_file)
    files = [path for path in delivered if not (masks and masks.fullmatch(path.name))]
    readers = (
        safe.find,
        landsat.find,
        partial(stac_items.find, root=folder, delivered=delivered),
        partial(url_lists.find, band_order=band_order),
        band_files.find,
        lambda left: multiband.find(left, {scene.folder for scene in scenes}, band_order),
    )
    scenes, left = [], files
    for reader in readers:
        own, left = reader(left)
        scenes += own
    scenes = [_usable_name(scene) for scene in scenes]
    if masks:
        scenes, unclaimed = _with_mask_files(scenes, [path for path in delivered if masks.fullmatch(path.name)], masks)
        left += unclaimed
    if not scenes:
        raise SceneError(
            f"{folder}: no scene found{_among(left, folder)}; expected Sentinel-2 .SAFE folders or their zip archives, "
            "Landsat products with their MTL, GeoTIFFs of many bands, or folders that hold one raster file for each "
            "band, such as T33UUU_20170216T102101_B02.jp2"
        )
    _refuse_same_names(scenes)
    return _with_warnings(folder, sorted(scenes, key=lambda scene: scene.name), left)


def _delivered(folder: Path) -> list[Path]:
    """All files below a folder but hidden ones and sidecars, sorted."""
    seen = [
        path
        for path in folder.rglob("*")
        if not path.name.lower().endswith(SIDECARS)
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    for path in seen:
        if path.is_symlink() and not path.is_file():
            target = "a folder, of which DVC would miss changes" if path.is_dir() else "nothing"
            raise SceneError(f"{path}: a link to {target}; put the folder itself there, or links to its files")
    return sorted(path for path in seen if path.is_file())


def _mask_pattern(mask_file: str | None) -> re.Pattern[str] | None:
    """Names of mask files, the scene's name as group ``scene``."""
    if mask_file is None:
        return None
    if mask_file.count("{scene}") != 1 or mask_file == "{scene}" or "/" in mask_file or "\\" in mask_file:
        raise SceneError(
            f"ingest.mask_file: '{mask_file}' must be the name of a file, without folders, with {{scene}} once in it "
            "for the scene's name: '{scene}_clouds.tif', say"
        )
    return re.compile("(?P<scene>.+)".join(re.escape(part) for part in mask_file.split("{scene}")))


def _with_mask_files(
    scenes: list[SceneFiles], files: list[Path], pattern: re.Pattern[str]
) -> tuple[list[SceneFiles], list[Path]]:
    """Scenes with the mask files that lie beside or in them, and files that are no scene's."""
    places = {}
    for scene in scenes:
        inside = scene.folder.is_dir()
        beside = not inside or scene.folder.suffix.upper() == ".SAFE"
        places[scene.name] = [scene.folder] * inside + [scene.folder.parent] * beside
    keys = [(place, name) for name, folders in places.items() for place in folders]
    masks, left = band_files.sidecar_masks(files, keys, pattern)
    return [
        band_files.with_masks(
            scene, tuple(mask for place in places[scene.name] for mask in masks.get((place, scene.name), ()))
        )
        for scene in scenes
    ], left


def _usable_name(scene: SceneFiles) -> SceneFiles:
    """The scene; with another name and a fault if its own cannot be the name of its outputs."""
    name = re.sub(r"[/\\\x00-\x1f]|^\.{1,2}$", "_", scene.name)
    if len(name.encode()) > _LONGEST_NAME:
        name = name.encode()[:_LONGEST_NAME].decode(errors="ignore")
    if name == scene.name:
        return scene
    message = f"{scene.folder}: the scene calls itself '{scene.name}', which can be no file's name; rename it"
    return SceneFiles.faulty(name, scene.sensor, scene.folder, scene.fault or message)


def _refuse_same_names(scenes: list[SceneFiles]) -> None:
    by_name: dict[str, SceneFiles] = {}
    for scene in scenes:
        # Case-insensitive file systems would write one output over the other.
        first = by_name.setdefault(scene.name.casefold(), scene)
        if first is not scene:
            raise SceneError(
                f"scene {scene.name}: found in {_where(first, scene)} and in {_where(scene, first)}; "
                "a scene's name must be unique: rename or remove one of them"
            )


def _where(scene: SceneFiles, other: SceneFiles) -> str:
    """The folder of a scene, or its first file where both are in one folder."""
    if scene.folder == other.folder and scene.bands:
        return str(next(iter(scene.bands.values())).path)
    return str(scene.folder)


def _with_warnings(folder: Path, scenes: list[SceneFiles], left: list[Path]) -> list[SceneFiles]:
    """Scenes with warnings of files beside them that are not understood; a whole folder of such rasters is refused."""
    first: dict[Path, int] = {}
    for i, scene in enumerate(scenes):
        first.setdefault(scene.folder, i)  # a list of URLs is the folder of its entries
        if not scene.folder.is_dir():
            first.setdefault(scene.folder.parent, i)
    warnings: dict[int, list[str]] = {}
    for parent, paths in _by_folder(left).items():
        owner = _owner(folder, parent, first)
        if owner is None and any(_may_hold_bands(path) for path in paths):
            raise SceneError(
                f"{parent}: no file is understood{_among(paths, parent)}; files of one band are called "
                f"SCENE_BAND.tif, with BAND a standard or Sentinel-2 name; move other files out of {folder}"
            )
        base = parent if parent in first and parent.is_dir() else folder
        warnings.setdefault(owner or 0, []).append(f"not understood, ignored: {_names(paths, base)}")
    return [replace(scene, warnings=[*scene.warnings, *warnings.get(i, [])]) for i, scene in enumerate(scenes)]


def _owner(folder: Path, parent: Path, first: dict[Path, int]) -> int | None:
    """The first scene of a folder, or of the nearest folder around it; the top folder counts for itself alone."""
    while parent not in first:
        if folder in (parent, parent.parent):
            return None
        parent = parent.parent
    return first[parent]


def _by_folder(files: list[Path]) -> dict[Path, list[Path]]:
    folders: dict[Path, list[Path]] = {}
    for path in sorted(files):
        folders.setdefault(path.parent, []).append(path)
    return folders


def _may_hold_bands(path: Path) -> bool:
    return path.suffix.lower() in (*RASTER_SUFFIXES, ".zip")


def _among(files: list[Path], base: Path) -> str:
    """What is there instead, in brackets: names of rasters, or the kinds of other files."""
    if not files:
        return ""
    rasters = [path for path in files if _may_hold_bands(path)]
    if rasters:
        return f" (there is {_names(rasters, base)})"
    kinds = Counter(path.suffix or path.name for path in files)
    return f" (there are only files of the kinds {first_ten(sorted(kinds))})"


def _names(files: list[Path], base: Path) -> str:
    return first_ten([path.relative_to(base).as_posix() for path in files])
