"""A raster file that holds all bands of a scene; the scene has the name of the file.

The file's band descriptions name its bands (standard or Sentinel-2 names, or words such as "red" and "nir"; see
`landfold.geo.bands.standard_name`), else ``band_order`` does: a name for each band of the file, null or "-" for one to
leave out, and SCL, QA_PIXEL or FMASK for a mask. The order is never guessed: EuroSAT, for example, has B8A last. An
alpha band is the file's own mask and is not counted.
"""

import re
from collections.abc import Callable
from pathlib import Path

from rasterio.enums import ColorInterp

from landfold.geo.bands import SENTINEL2, STANDARD_NAMES, standard_name
from landfold.geo.dataset import RasterError, open_dataset
from landfold.scenes.sensors.band_files import sidecar_masks, with_masks
from landfold.scenes.sensors.evidence import contradiction, pixel_size_m
from landfold.scenes.sensors.scene_files import RASTER_SUFFIXES, BandFile, MaskFile, SceneError, SceneFiles, date_in

MASKS = {"SCL": "scl", "QA_PIXEL": "qa_pixel", "FMASK": "fmask"}
"""Names of mask bands: their kinds."""


def find(
    files: list[Path],
    taken: set[Path],
    band_order: list[str | None] | None,
    source: Callable[[Path], Path | str] = lambda path: path,
) -> tuple[list[SceneFiles], list[Path]]:
    """Scenes among ``files``, and the files that are none.

    A file is a scene with a fault if its bands have no names, or one twice, or ``band_order`` does not fit them.

    Args:
        files: those that no other reader took.
        taken: folders with scenes of other readers. A raster there, such as a picture or a mask beside band files, is
            a scene only if it names its own bands.
        band_order: ``ingest.band_order``.
        source: what GDAL opens for a file.

    Raises:
        SceneError: if an entry of ``band_order`` names no band.
    """
    order = None if band_order is None else [_checked(entry) for entry in band_order]
    stems = {(path.parent, path.stem) for path in files if _is_raster(path)}
    masks, rest = sidecar_masks(files, stems)
    scenes, left = [], []
    for path in rest:
        if not _is_raster(path):
            left.append(path)
            continue
        try:
            scene = _scene(path, source(path), order, beside_others=path.parent in taken)
        except SceneError as error:
            scene = SceneFiles.faulty(path.stem, "unknown", path, error)
        if scene is None:
            left.append(path)
        else:
            scenes.append(with_masks(scene, masks.pop((path.parent, path.stem), ())))
    return scenes, left + [mask.path for own in masks.values() for mask in own]


def _is_raster(path: Path) -> bool:
    return path.suffix.lower() in RASTER_SUFFIXES


def _checked(entry: str | None) -> str | None:
    """An entry of ``band_order`` as it was given, or None for a band to leave out."""
    if entry is None or entry == "-":
        return None
    if entry.upper() not in MASKS and standard_name(entry) is None:
        raise SceneError(
            f"ingest.band_order: '{entry}' names no band; known are {', '.join(STANDARD_NAMES)}, the Sentinel-2 names "
            f"{', '.join(SENTINEL2)}, the masks {', '.join(MASKS)}, and '-' for a band to leave out"
        )
    return entry


def _scene(path: Path, source: Path | str, order: list[str | None] | None, *, beside_others: bool) -> SceneFiles | None:
    """The scene in a file; None if it is no scene: one band without a name, or another raster."""
    try:
        with open_dataset(source) as dataset:
            counted = [i for i, c in enumerate(dataset.colorinterp, start=1) if c is not ColorInterp.alpha]
            described = [dataset.descriptions[i - 1] for i in counted]
            colours = _colours([dataset.colorinterp[i - 1] for i in counted])
            size = pixel_size_m(dataset)
    except RasterError as error:
        return None if beside_others else SceneFiles.faulty(path.stem, "unknown", path, str(error))
    own = _described(described)
    if not any(own) and (beside_others or (len(own) == 1 and len(order or ()) != 1)):
        return None
    names = _names(path, described, own, colours, order)
    called = [name.upper() for name in own if name and name.upper() in SENTINEL2]
    if names is own and called and (message := contradiction(path.stem, called, [size])):
        raise SceneError(message)
    bands, masks = _assign(path, dict(zip(counted, names, strict=True)))
    unnamed = [f"{i} ({text})" if text else str(i) for i, text in zip(counted, described, strict=True)]
    lost = [text for text, name in zip(unnamed, names, strict=True) if name is None]
    warnings = []
    if lost and names is own:
        warnings = [f"{path.name}: bands whose description names none, ignored: {', '.join(lost)}"]
    sensor = "sentinel2" if bands and all(band.native_name in SENTINEL2 for band in bands.values()) else "unknown"
    return SceneFiles(path.stem, sensor, path.parent, bands, date_in(path.stem), masks, warnings)


def _described(descriptions: list[str | None]) -> list[str | None]:
    """Each band's own name, where its description is one."""
    texts = [(text or "").strip() for text in descriptions]
    if any(text.upper() == "B8A" for text in texts):  # of Sentinel-2 alone, so that B2 is B02
        texts = [re.sub(r"^[Bb](\d)$", r"B0\1", text) for text in texts]
    return [text if text.upper() in MASKS or standard_name(text) else None for text in texts]


def _colours(kinds: list[ColorInterp]) -> list[str | None]:
    """The standard name of each band that is marked as a colour, if red, green and blue all are."""
    colours = {ColorInterp.red: "R", ColorInterp.green: "G", ColorInterp.blue: "B"}
    return [colours.get(kind) for kind in kinds] if colours.keys() <= set(kinds) else [None] * len(kinds)


def _names(
    path: Path,
    described: list[str | None],
    own: list[str | None],
    colours: list[str | None],
    order: list[str | None] | None,
) -> list[str | None]:
    """The name of each band of a file, None for one to leave out."""
    if order is None or (len(order) != len(own) and all(own)):
        if not any(own):
            texts = f" ({', '.join(text or 'nothing' for text in described)})" if any(described) else ""
            if any(colours):
                texts = f" (their colours are marked as {', '.join(colour or 'none' for colour in colours)})"
            raise SceneError(
                f"{path}: its {len(own)} bands carry no names that Landfold knows{texts}; say in ingest.band_order "
                f"what they are, {len(own)} names in the order of the file, '-' for a band to leave out"
            )
        return own
    if len(order) != len(own):
        raise SceneError(
            f"{path}: has {len(own)} bands, but ingest.band_order names {len(order)}; name each band of the file, "
            "'-' for one to leave out"
        )
    for i, (said, colour, asked) in enumerate(zip(own, colours, order, strict=True), start=1):
        if said and asked and _meaning(said) != _meaning(asked):
            raise SceneError(
                f"{path}: band {i} is described as {said}, but ingest.band_order says {asked}; correct the one that "
                "is wrong"
            )
        if colour and asked and not said and _meaning(asked) != colour:
            raise SceneError(
                f"{path}: band {i} is marked as the colour {colour}, but ingest.band_order says {asked}; correct the "
                "order, or the mark, which some programs give to the first bands of any 8-bit file (for example: "
                "gdal_translate -co PHOTOMETRIC=MINISBLACK)"
            )
    return order


def _meaning(name: str) -> str | None:
    return MASKS.get(name.upper()) or standard_name(name)


def _assign(path: Path, names: dict[int, str | None]) -> tuple[dict[str, BandFile], tuple[MaskFile, ...]]:
    bands: dict[str, BandFile] = {}
    masks: dict[str, MaskFile] = {}
    for index, native in names.items():
        if native is None:
            continue
        kind, name = MASKS.get(native.upper()), standard_name(native)
        first = masks.get(kind or "") or bands.get(name or "")
        if first:
            raise SceneError(f"{path}: bands {first.index} and {index} are both {native}; each can be there once")
        if kind:
            masks[kind] = MaskFile(kind, path, index)
        else:
            native = native.upper() if native.upper() in SENTINEL2 else native
            bands[name] = BandFile(name, native, path, index)
    return bands, tuple(masks.values())
