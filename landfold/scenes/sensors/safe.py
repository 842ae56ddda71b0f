"""Sentinel-2 products as ESA delivers them: NAME.SAFE of level 1C or 2A, as a folder or zipped.

A product is a folder with MTD_MSIL1C.xml or MTD_MSIL2A.xml. Each band is taken once, at its finest resolution
that is there. Numbers become reflectance with the product's own values: (DN + add offset) / quantification
value (Sentinel-2 Products Specification Document, S2-PDGS-TAS-DI-PSD, since issue 14.9: the offset is -1000
from processing baseline 04.00 on, and 0 before). Archives are read in place, without unpacking.
"""

import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element

from landfold.geo.bands import SENTINEL2, Radiometry
from landfold.scenes.sensors.metadata import ARCHIVE_ERRORS, MAX_BYTES, decode, number, parse_xml, read_text
from landfold.scenes.sensors.scene_files import BandFile, MaskFile, SceneError, SceneFiles, date_in

LEVELS = {"MTD_MSIL1C.xml": "L1C", "MTD_MSIL2A.xml": "L2A"}

_QUANTIFICATION = {
    "L1C": ("QUANTIFICATION_VALUE",),
    "L2A": ("BOA_QUANTIFICATION_VALUE", "L2A_BOA_QUANTIFICATION_VALUE"),  # the second before baseline 02.07
}
_OFFSET = {"L1C": "RADIO_ADD_OFFSET", "L2A": "BOA_ADD_OFFSET"}
_ALGORITHMS = {"MD5": "md5", "SHA3-256": "sha3_256"}
"""Checksums of manifest.safe: their names in hashlib. SHA3-256 since baseline 04.00."""
_IMAGE = re.compile(
    r"GRANULE/(?P<granule>[^/]+)/IMG_DATA/(?:.+/)?[^/]+_(?P<what>B\d\d|B8A|SCL)(?:_(?P<metres>\d+)m)?\.jp2"
)


@dataclass(frozen=True)
class _Product:
    """A product in a folder or an archive: its members by their path below the product's own folder."""

    name: str
    metadata: str
    place: Path
    members: list[str]
    text: Callable[[str], str]  # of a member of metadata
    locate: Callable[[str], tuple[Path, str | None]]  # a member's file, and what GDAL opens if not that


def find(files: list[Path]) -> tuple[list[SceneFiles], list[Path]]:
    """Products among ``files``, and the files that belong to none.

    A folder called .SAFE without metadata, an archive that cannot be read, and a product whose metadata lack
    something or contradict are scenes with a fault.
    """
    roots: dict[Path, list[Path]] = {path.parent: [] for path in files if path.name in LEVELS}
    left = []
    for path in files:
        root = next((parent for parent in path.parents if parent in roots), None)
        (left if root is None else roots[root]).append(path)
    scenes = [_scene_or_fault(_in_folder(root, members)) for root, members in roots.items()]
    faults, left = _without_metadata(left)
    scenes += faults
    owned = set()
    for path in left:
        if path.suffix.lower() == ".zip":
            try:
                archived = [_scene_or_fault(product) for product in _in_archive(path)]
            except SceneError as error:
                archived = [SceneFiles.faulty(_name(path.stem), "unknown", path, error)]
            scenes += archived
            owned.update([path] if archived else [])
    return scenes, [path for path in left if path not in owned]


def _without_metadata(files: list[Path]) -> tuple[list[SceneFiles], list[Path]]:
    """Folders called .SAFE that are no product, and the files outside them."""
    folders: set[Path] = set()
    left = []
    for path in files:
        folder = next((parent for parent in path.parents if parent.suffix.upper() == ".SAFE"), None)
        if folder is None:
            left.append(path)
        else:
            folders.add(folder)
    message = "holds neither MTD_MSIL1C.xml nor MTD_MSIL2A.xml, so its radiometry is unknown; fetch the product whole"
    return [
        SceneFiles.faulty(_name(folder.name), "sentinel2", folder, f"{folder}: {message}") for folder in sorted(folders)
    ], left


def _name(name: str) -> str:
    """What a product is called whose folder or archive has this name."""
    return re.sub(r"\.SAFE$", "", name, flags=re.IGNORECASE)


def _in_folder(root: Path, files: list[Path]) -> _Product:
    metadata = next(path for path in files if path.parent == root and path.name in LEVELS)
    return _Product(
        name=_name(root.name),
        metadata=metadata.name,
        place=root,
        members=[path.relative_to(root).as_posix() for path in files],
        text=lambda member: read_text(root / member),
        locate=lambda member: (root / member, None),
    )


def _in_archive(path: Path) -> list[_Product]:
    """Products of a zip archive; [] if it holds something else."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.startswith("__MACOSX/")]
    except ARCHIVE_ERRORS as error:
        raise SceneError(f"{path}: cannot be read as a zip archive ({error}); fetch it again") from error
    return [_archived(path, PurePosixPath(name), names) for name in names if PurePosixPath(name).name in LEVELS]


def _archived(path: Path, metadata: PurePosixPath, names: list[str]) -> _Product:
    root = metadata.parent
    prefix = "" if root == PurePosixPath() else f"{root}/"

    def text(member: str) -> str:
        try:
            with zipfile.ZipFile(path) as archive, archive.open(f"{prefix}{member}") as file:
                return decode(file.read(MAX_BYTES + 1), f"{path}/{prefix}{member}")
        except ARCHIVE_ERRORS as error:
            raise SceneError(f"{path}: {prefix}{member} in it is damaged ({error}); fetch the archive again") from None

    return _Product(
        name=_name(root.name or path.stem),
        metadata=metadata.name,
        place=path,
        members=[name.removeprefix(prefix) for name in names if name.startswith(prefix)],
        text=text,
        locate=lambda member: (path, f"/vsizip/{{{path}}}/{prefix}{member}"),  # braces: any name of an archive
    )


def _scene_or_fault(product: _Product) -> SceneFiles:
    try:
        return _scene(product)
    except SceneError as error:
        return SceneFiles.faulty(product.name, "sentinel2", product.place, error)


def _scene(product: _Product) -> SceneFiles:
    where = f"{product.place}: {product.metadata}"
    root = parse_xml(product.text(product.metadata), where)
    checksums = _checksums(product)
    level = LEVELS[product.metadata]
    baseline = _text(root, "PROCESSING_BASELINE") or "unknown"
    radiometry = _radiometry(root, level, baseline, where)
    nodata = _nodata(root, where)
    bands, masks = {}, []
    for what, member in _finest(product).items():
        path, source = product.locate(member)
        if what == "SCL":
            masks.append(MaskFile("scl", path, source=source, checksum=checksums.get(member)))
        else:
            own = {"radiometry": radiometry(what), "nodata": nodata, "checksum": checksums.get(member)}
            bands[SENTINEL2[what]] = BandFile(SENTINEL2[what], what, path, source=source, **own)
    started = _text(root, "DATATAKE_SENSING_START") or _text(root, "PRODUCT_START_TIME")
    return SceneFiles(
        name=product.name,
        sensor="sentinel2",
        folder=product.place,
        bands=bands,
        acquired=started[:10] if started else date_in(product.name),
        masks=tuple(masks),
        processing={"level": level, "baseline": baseline},
    )


def _checksums(product: _Product) -> dict[str, tuple[str, str]]:
    """Algorithm and digest of each member that the product's manifest lists; {} where it has none."""
    if "manifest.safe" not in product.members:
        return {}
    root = parse_xml(product.text("manifest.safe"), f"{product.place}: manifest.safe")
    checksums = {}
    for stream in root.iterfind(".//{*}byteStream"):
        location, checksum = stream.find("{*}fileLocation"), stream.find("{*}checksum")
        if location is None or checksum is None or not checksum.text:
            continue
        algorithm = _ALGORITHMS.get(checksum.get("checksumName", ""))
        if algorithm:
            member = location.get("href", "").removeprefix("./")
            checksums[member] = (algorithm, checksum.text.strip().lower())
    return checksums


def _finest(product: _Product) -> dict[str, str]:
    """The member that holds each band, and SCL, at its finest resolution; in the order of the bands."""
    finest: dict[str, tuple[int, str]] = {}
    granules = set()
    for member in sorted(product.members):
        match = _IMAGE.fullmatch(member)
        if not match or match["what"] not in {*SENTINEL2, "SCL"}:
            continue
        granules.add(match["granule"])
        candidate = (int(match["metres"] or 0), member)  # level 1C has one file a band and no number in its name
        finest[match["what"]] = min(candidate, finest.get(match["what"], candidate))
    if len(granules) > 1:
        raise SceneError(
            f"{product.place}: holds {len(granules)} granules ({', '.join(sorted(granules))}); Landfold reads products "
            "of one tile, as they are delivered since 2016-12-06: fetch the tiles one by one"
        )
    return {what: finest[what][1] for what in (*SENTINEL2, "SCL") if what in finest}


def _text(root: Element, tag: str) -> str | None:
    element = root.find(f".//{{*}}{tag}")
    return element.text.strip() if element is not None and element.text else None


def _radiometry(root: Element, level: str, baseline: str, where: str) -> Callable[[str], Radiometry]:
    """How the numbers of a band become reflectance, by the band's own name (B02)."""
    values = [text for tag in _QUANTIFICATION[level] if (text := _text(root, tag))]
    quantification = number(values[0] if values else None, f"{where}: {_QUANTIFICATION[level][0]}")
    if quantification <= 0:
        raise SceneError(f"{where}: {_QUANTIFICATION[level][0]} is {quantification:g}, not positive; fetch it again")
    bands = _band_ids(root)
    tag = _OFFSET[level]
    offsets = {
        bands.get(element.get("band_id", "")): number(element.text, f"{where}: {tag}")
        for element in root.iterfind(f".//{{*}}{tag}")
    }
    if not offsets and _has_offsets(baseline):
        raise SceneError(
            f"{where}: no {tag}, though processing baseline {baseline} has one for each band; "
            "without it reflectance would be wrong by 0.1: fetch the product again"
        )

    def of(band: str) -> Radiometry:
        if offsets and band not in offsets:
            raise SceneError(f"{where}: no {tag} for band {band}, though other bands have one; fetch the product again")
        return Radiometry(1 / quantification, offsets.get(band, 0.0) / quantification)

    return of


def _has_offsets(baseline: str) -> bool:
    """Since 04.00; 99.99 marks a test processor of any age."""
    return re.fullmatch(r"\d\d\.\d\d", baseline) is not None and 4 <= float(baseline) < 99


def _band_ids(root: Element) -> dict[str, str]:
    """Band ids of the metadata to the bands' names; by the order of the bands where the metadata do not say."""
    listed = {
        element.get("bandId", ""): re.sub(r"^B(\d)$", r"B0\1", element.get("physicalBand", ""))
        for element in root.iterfind(".//{*}Spectral_Information")
    }
    return listed or {str(i): band for i, band in enumerate(SENTINEL2)}


def _nodata(root: Element, where: str) -> float | None:
    for special in root.iterfind(".//{*}Special_Values"):
        if special.findtext("{*}SPECIAL_VALUE_TEXT") == "NODATA":
            return number(special.findtext("{*}SPECIAL_VALUE_INDEX"), f"{where}: SPECIAL_VALUE_INDEX of NODATA")
    return None
