"""Landsat Collection 2 products of level 1 and 2, as USGS delivers them: band files beside PRODUCT_MTL.txt.

The MTL (.txt, .json or .xml: one content) names the files and how their numbers become reflectance:

- level 2: surface reflectance = number * REFLECTANCE_MULT + REFLECTANCE_ADD (2.75e-5 and -0.2);
- level 1: top-of-atmosphere reflectance = (number * REFLECTANCE_MULT + REFLECTANCE_ADD) / sin(SUN_ELEVATION)
  (Landsat 8 Data Users Handbook, LSDS-1574, section 5.2).

Thermal bands of level 1 are radiance, W/(m2 sr um). The surface temperature of level 2 (ST_B10, ST_B6) is
kelvin and no band here; nor are the panchromatic band 8 and the high-gain copy of ETM+'s thermal band.
"""

import json
import math
import re
from pathlib import Path
from typing import Any

from landfold.geo.bands import LANDSAT_OLI, LANDSAT_TM, THERMAL, Radiometry
from landfold.scenes.sensors.metadata import number, parse_xml, read_text
from landfold.scenes.sensors.scene_files import RASTER_SUFFIXES, BandFile, MaskFile, SceneError, SceneFiles

FILL = 0.0
"""No data in all reflectance and thermal bands of Collection 2 (LSDS-1822, section 3)."""

LEVELS = ("L1TP", "L1GT", "L1GS", "L2SP", "L2SR")
"""Values of PROCESSING_LEVEL in Collection 2 (LSDS-1822 for level 1, LSDS-1328 for level 2)."""

_MTL = re.compile(r"(?P<product>.+)_MTL\.(?P<form>txt|json|xml)", re.IGNORECASE)
_FORMS = ("txt", "json", "xml")
_PRODUCT_FILE = re.compile(r"(L[COTEM]\d\d_L[12]\w\w_\d{6}_\d{8}_\d{8}_\d\d_\w\w)_.+", re.IGNORECASE)
_PUT_IT = "put that file there, it is part of the product"

Groups = dict[str, dict[str, str]]


def find(files: list[Path]) -> tuple[list[SceneFiles], list[Path]]:
    """Products among ``files``, and the files that belong to none.

    A product whose MTL lacks something is a scene with a fault, and so are band files without one.
    """
    metadata: dict[tuple[Path, str], dict[str, Path]] = {}
    for path in files:
        if match := _MTL.fullmatch(path.name):
            metadata.setdefault((path.parent, match["product"]), {})[match["form"].lower()] = path
    by_folder: dict[Path, list[Path]] = {}
    for path in files:
        by_folder.setdefault(path.parent, []).append(path)
    scenes, owned = [], set()
    for (folder, product), forms in metadata.items():
        own = [p for p in by_folder[folder] if p.name.startswith((f"{product}_", f"{product}."))]
        try:
            scenes.append(_scene(next(forms[form] for form in _FORMS if form in forms), own))
        except SceneError as error:
            scenes.append(SceneFiles.faulty(product, "unknown", folder, error))
        owned.update(own)
    faults, left = without_metadata([path for path in files if path not in owned])
    return scenes + faults, left


def without_metadata(files: list[Path], *, remedy: str = _PUT_IT) -> tuple[list[SceneFiles], list[Path]]:
    """Products that have band files but no MTL, as scenes with a fault, and the files that belong to none."""
    products: dict[tuple[Path, str], list[Path]] = {}
    for path in files:
        if match := _PRODUCT_FILE.fullmatch(path.name):
            products.setdefault((path.parent, match[1]), []).append(path)
    faults, owned = [], set()
    for (folder, product), own in products.items():
        bands = [path for path in own if path.suffix.lower() in RASTER_SUFFIXES]
        if bands:
            message = (
                f"{bands[0]}: a Landsat product without {product}_MTL.txt (or .json, .xml) beside it, so its "
                f"radiometry is unknown; {remedy}"
            )
            faults.append(SceneFiles.faulty(product, "unknown", folder, message))
            owned.update(own)
    return faults, [path for path in files if path not in owned]


def _scene(path: Path, files: list[Path]) -> SceneFiles:
    groups = _read(path)
    contents, image = _group(groups, "PRODUCT_CONTENTS", path), _group(groups, "IMAGE_ATTRIBUTES", path)
    sensor, table = _sensor(image, path)
    level = _field(contents, "PROCESSING_LEVEL", path)
    if level not in LEVELS:
        raise SceneError(f"{path}: PROCESSING_LEVEL is '{level}'; expected {', '.join(LEVELS)}; fetch it again")
    by_name = {file.name.lower(): file for file in files}
    bands = {}
    for native, name in table.items():
        file = by_name.get(_file_name(contents, native).lower())
        if file is None or (level.startswith("L2") and name in THERMAL):
            continue
        radiometry = _radiometry(groups, native, name, level, path)
        bands[name] = BandFile(name, native, file, radiometry=radiometry, nodata=FILL)
    quality = by_name.get(contents.get("FILE_NAME_QUALITY_L1_PIXEL", "").lower())
    return SceneFiles(
        name=_field(contents, "LANDSAT_PRODUCT_ID", path),
        sensor=sensor,
        folder=path.parent,
        bands=bands,
        acquired=_field(image, "DATE_ACQUIRED", path),
        masks=(MaskFile("qa_pixel", quality),) if quality else (),
        processing={"level": level, "collection": "02"},
    )


def _file_name(contents: dict[str, str], native: str) -> str:
    """The name of a band's file; ETM+ has its thermal band twice, of which the low gain never saturates."""
    band = native.removeprefix("B")
    return contents.get(f"FILE_NAME_BAND_{band}") or contents.get(f"FILE_NAME_BAND_{band}_VCID_1") or ""


def _sensor(image: dict[str, str], path: Path) -> tuple[str, dict[str, str]]:
    craft, sensor = _field(image, "SPACECRAFT_ID", path), _field(image, "SENSOR_ID", path)
    match = re.fullmatch(r"LANDSAT_([4-9])", craft)
    table = None
    if match and sensor.startswith("OLI"):
        table = LANDSAT_OLI
    elif match and sensor in ("TM", "ETM"):
        table = LANDSAT_TM
    if not match or table is None:
        raise SceneError(f"{path}: {sensor} of {craft}; Landfold knows OLI (Landsat 8, 9), ETM (7) and TM (4, 5)")
    return f"landsat{match[1]}", table


def _radiometry(groups: Groups, native: str, name: str, level: str, path: Path) -> Radiometry:
    kind, divisor, band = "REFLECTANCE", 1.0, native.removeprefix("B")
    if level.startswith("L2"):
        title = "LEVEL2_SURFACE_REFLECTANCE_PARAMETERS"
    else:
        title = "LEVEL1_RADIOMETRIC_RESCALING"
        if name in THERMAL:
            kind = "RADIANCE"
        else:
            divisor = _sine_of_sun(groups, path)
    group = _group(groups, title, path)
    if f"{kind}_MULT_BAND_{band}" not in group and f"{kind}_MULT_BAND_{band}_VCID_1" in group:
        band = f"{band}_VCID_1"
    fields = [f"{kind}_{part}_BAND_{band}" for part in ("MULT", "ADD")]
    scale, offset = (number(group.get(field), f"{path}: {field} of {title}") for field in fields)
    if not scale > 0:
        raise SceneError(f"{path}: {fields[0]} of {title} is {scale:g}, not positive; fetch the product again")
    return Radiometry(scale / divisor, offset / divisor)


def _sine_of_sun(groups: Groups, path: Path) -> float:
    text = _group(groups, "IMAGE_ATTRIBUTES", path).get("SUN_ELEVATION")
    elevation = number(text, f"{path}: SUN_ELEVATION")
    if not 0 < elevation <= 90:
        raise SceneError(
            f"{path}: SUN_ELEVATION is {elevation:g} degrees; a scene without sun has no reflectance: drop it"
        )
    return math.sin(math.radians(elevation))


def _read(path: Path) -> Groups:
    """The groups of an MTL in any of its three forms, with all values as text."""
    text, form = read_text(path), path.suffix.lower()
    if form == ".txt":
        groups = _odl(text)
    elif form == ".json":
        groups = _json(text, path)
    else:
        groups = {group.tag: {f.tag: (f.text or "").strip() for f in group} for group in parse_xml(text, path)}
    collection = groups.get("PRODUCT_CONTENTS", {}).get("COLLECTION_NUMBER", "")
    if collection not in ("02", "2"):
        version = f"collection {collection}" if collection else "no collection number"
        raise SceneError(f"{path}: {version}, but Landfold reads Collection 2; fetch the product from that collection")
    return groups


def _odl(text: str) -> Groups:
    """``GROUP = X``, ``KEY = value`` and ``END_GROUP = X`` lines, the outermost group left away."""
    groups: Groups = {}
    current: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = (part.strip() for part in line.partition("="))
        if key == "GROUP":
            current = groups.setdefault(value, {})
        elif key and key != "END_GROUP":
            current[key] = value.strip('"')
    return groups


def _json(text: str, path: Path) -> Groups:
    try:
        content: Any = json.loads(text)
        groups = content["LANDSAT_METADATA_FILE"].items()
        return {title: {key: str(value) for key, value in group.items()} for title, group in groups}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SceneError(f"{path}: no MTL in JSON ({error}); fetch the product again") from error


def _group(groups: Groups, title: str, path: Path) -> dict[str, str]:
    if title not in groups:
        raise SceneError(f"{path}: no group {title}; the file is truncated or no Collection 2 MTL: fetch it again")
    return groups[title]


def _field(group: dict[str, str], name: str, path: Path) -> str:
    if not group.get(name):
        raise SceneError(f"{path}: no {name}; the file is truncated or no Collection 2 MTL: fetch it again")
    return group[name]
