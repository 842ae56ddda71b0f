"""A folder that holds one raster file for each band: SCENE_BAND.jp2 or .tif.

BAND is a Sentinel-2 name (B02, B8A), optionally followed by its resolution (_10m), or a standard
name (R, N, S1). Files of several scenes may lie in one folder: the part before BAND is the scene.
"""

import re
from datetime import datetime
from pathlib import Path

from landfold.bands import SENTINEL2, STANDARD_NAMES
from landfold.sensors.scenes import BandFile, SceneError, SceneFiles

_FILE = re.compile(
    r"(?P<scene>.+)_(?P<band>[A-Z]+\d*|B\d\d|B8A)(?:_(?P<metres>\d+)m)?\.(?:jp2|tif|tiff)", re.IGNORECASE
)
_TIMESTAMP = re.compile(r"(?<!\d)(\d{8})(?:T\d{6})?(?!\d)")


def find(folder: Path) -> list[SceneFiles]:
    """Scenes below ``folder``; files whose names are not understood become warnings.

    Raises:
        SceneError: if two files claim one band of a scene.
    """
    found: dict[tuple[Path, str], list[BandFile]] = {}
    ignored: dict[Path, list[str]] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")):
        match = _FILE.fullmatch(path.name)
        band = match and _band(match["band"])
        if not match or not band:
            ignored.setdefault(path.parent, []).append(path.name)
            continue
        sensor_name, name = band
        entry = BandFile(name=name, native_name=sensor_name, path=path)
        found.setdefault((path.parent, match["scene"]), []).append(entry)
    return [_scene(parent, name, files, ignored.get(parent, [])) for (parent, name), files in found.items()]


def _band(text: str) -> tuple[str, str] | None:
    if text.upper() in SENTINEL2:
        return text.upper(), SENTINEL2[text.upper()]
    if text in STANDARD_NAMES:
        return text, text
    return None


def _scene(folder: Path, name: str, files: list[BandFile], ignored: list[str]) -> SceneFiles:
    bands: dict[str, BandFile] = {}
    for file in files:
        if file.name in bands:
            raise SceneError(
                f"scene {name}: band {file.name} is in {bands[file.name].path} and in {file.path}; keep one of them"
            )
        bands[file.name] = file
    sensor = "sentinel2" if all(f.native_name in SENTINEL2 for f in files) else "unknown"
    warnings = [f"not a band file, ignored: {', '.join(ignored)}"] if ignored else []
    return SceneFiles(name, sensor, folder, bands, _acquired(name), warnings=warnings)


def _acquired(name: str) -> str | None:
    for match in _TIMESTAMP.finditer(name):
        try:
            return datetime.strptime(match[1], "%Y%m%d").date().isoformat()
        except ValueError:
            continue
    return None
