"""Scenes that stay where they are: lists of URLs, and STAC items; their windows are read over HTTP when asked for.

``NAME.urls`` is a text file with one URL a line (blank lines and ``#`` comments aside). Each URL is taken as though
the file of its name lay in a folder: SCENE_B02.tif-like names make scenes of band files, others are files of many
bands (see `landfold.scenes.sensors.band_files` and `landfold.scenes.sensors.multiband`).

A ``.json`` or ``.geojson`` file that holds a STAC Item or ItemCollection (https://github.com/radiantearth/stac-spec)
has a scene in each item. Its bands are the assets of which the eo extension tells one band (``eo:bands`` in STAC 1.0,
``bands`` in 1.1); scale, offset and nodata are those of the raster extension.

The list or the item file stands for its files in hashes and reports: a remote file that changes under its URL is not
seen.
"""

import json
import os
import re
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from landfold.geo.bands import (
    COMMON_NAMES,
    LANDSAT_OLI,
    LANDSAT_TM,
    SENTINEL2,
    STANDARD_NAMES,
    Radiometry,
    standard_name,
)
from landfold.geo.remote import REMOTE, redact_url
from landfold.scenes.sensors import band_files, landsat, metadata, multiband
from landfold.scenes.sensors.scene_files import RASTER_SUFFIXES, BandFile, MaskFile, SceneError, SceneFiles, date_in

_MASKS = {"scl": "scl", "qa_pixel": "qa_pixel"}
_PICTURES = {"thumbnail", "overview", "visual", "metadata"}
_MEDIA = ("image/tiff", "image/vnd.stac.geotiff", "image/jp2")
"""Media types of assets that may be bands, the preferred ones first."""

_MEND = "give an http or https URL (s3://BUCKET/KEY is mostly also https://BUCKET.s3.amazonaws.com/KEY)"

Json = dict[str, Any]


def find(
    files: list[Path], root: Path, delivered: list[Path], band_order: list[str | None] | None
) -> tuple[list[SceneFiles], list[Path]]:
    """Scenes of the lists of URLs and STAC files among ``files``, and the files that belong to none.

    ``delivered`` are all files below ``root``, the only ones that an item may name beside URLs. What is wrong with
    a list, or with an item, is the fault of a scene.

    Raises:
        SceneError: if an entry of ``band_order`` names no band.
    """
    scenes, owned = [], set()
    local = set(delivered)
    for path in files:
        if path.suffix.lower() == ".urls":
            found, others = _of_list(path, band_order)
            scenes += found
            owned.add(path)
            files = files + others  # names that exist in the list alone, for the warning
        elif path.suffix.lower() in (".json", ".geojson"):
            found = _of_stac(path, root, local)
            scenes += found
            owned.update([path] if found else [])
    owned |= {file.path for scene in scenes for file in (*scene.bands.values(), *scene.masks)}
    return scenes, [path for path in files if path not in owned]


def _of_list(path: Path, band_order: list[str | None] | None) -> tuple[list[SceneFiles], list[Path]]:
    """Scenes of a list of URLs, and its entries that belong to none."""
    try:
        sources = _urls(path)
    except SceneError as error:
        return [SceneFiles.faulty(path.stem, "unknown", path, error)], []
    mend = "that file is not read over the network: put the files here, or a STAC item file of the product"
    faults, left = landsat.without_metadata(list(sources), mend=mend)
    scenes, left = band_files.find(left, sources.__getitem__)
    taken = {path} if scenes or faults else set()
    found, left = multiband.find(left, taken, band_order, sources.__getitem__)
    return [_listed(scene, path, sources) for scene in (*faults, *scenes, *found)], left


def _urls(path: Path) -> dict[Path, str]:
    """What GDAL opens, by the name that an entry of a list would have if the list were a folder."""
    sources: dict[Path, str] = {}
    for number, text in enumerate(metadata.read_text(path).splitlines(), start=1):
        line = text.strip()
        if not line or line.startswith("#"):
            continue
        where = f"{path}: line {number}"
        source = _remote(line, where)
        name = path / _name(line)
        if name in sources:
            raise SceneError(
                f"{where}: a second URL of a file {name.name}; a list is like a folder: put it into another list"
            )
        sources[name] = source
    if not sources:
        raise SceneError(f"{path}: holds no URL; write one a line, or remove the file")
    return sources


def _listed(scene: SceneFiles, path: Path, sources: dict[Path, str]) -> SceneFiles:
    """A scene of a list with the list as its file, and URLs as what GDAL opens."""
    bands = {name: replace(band, path=path, source=sources[band.path]) for name, band in scene.bands.items()}
    masks = tuple(replace(mask, path=path, source=sources[mask.path]) for mask in scene.masks)
    return replace(scene, folder=path, bands=bands, masks=masks)


def _name(url: str) -> str:
    return unquote(PurePosixPath(urlsplit(url).path).name).replace("/", "_")


def _quoted(url: str) -> str:
    return quote(url.strip(), safe="%/:?#[]@!$&()*+,;=~")


def _remote(url: str, where: str) -> str:
    """What GDAL opens for a URL.

    Raises:
        SceneError: if it is not one of http or https that names a file.
    """
    text = _quoted(url).split("#")[0]
    try:
        parts = urlsplit(text)
        usable = parts.scheme.lower() in ("http", "https") and bool(parts.hostname) and _name(text) not in ("", "..")
    except ValueError:
        usable = False
    if not usable:
        raise SceneError(f"{where}: '{redact_url(text)}' cannot be read over the network; {_MEND}")
    return REMOTE + text


def _of_stac(path: Path, root: Path, local: set[Path]) -> list[SceneFiles]:
    """Scenes of the items in a file; [] if it is no STAC."""
    with path.open("rb") as file:
        content = file.read(metadata.MAX_BYTES + 1)
    if b'"stac_version"' not in content:
        return []
    try:
        items = _items(metadata.decode(content, path), path)
    except SceneError as error:
        return [SceneFiles.faulty(path.stem, "unknown", path, error)]
    scenes = []
    for number, item in enumerate(items, start=1):
        name = item.get("id")
        if not isinstance(name, str) or not name:
            name = f"{path.stem}-{number}"
        try:
            scenes.append(_Item(name, item, path, root, local).scene())
        except SceneError as error:
            scenes.append(SceneFiles.faulty(name, "unknown", path, error))
    return scenes


def _items(text: str, path: Path) -> list[Json]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SceneError(f"{path}: no JSON ({error}); the file is truncated or damaged: fetch it again") from error
    if isinstance(content, dict):
        if content.get("type") == "Feature":
            return [content]
        features = content.get("features")
        if content.get("type") == "FeatureCollection" and isinstance(features, list) and features:
            if all(isinstance(feature, dict) for feature in features):
                return features
            raise SceneError(f"{path}: features that are no STAC items; save the search's result again")
    found = content.get("type") if isinstance(content, dict) else type(content).__name__
    raise SceneError(
        f"{path}: STAC, but no items in it ({found}); expected an Item or an ItemCollection, such as a search gives"
    )


def _section(owner: Any, key: str) -> Json:
    """An object of the JSON; {} if it is absent or none."""
    found = owner.get(key) if isinstance(owner, dict) else None
    return found if isinstance(found, dict) else {}


def _first(owner: Json, key: str) -> Json | None:
    """The one entry of a list of the JSON; None if there are none or several."""
    found = owner.get(key)
    return found[0] if isinstance(found, list) and len(found) == 1 and isinstance(found[0], dict) else None


@dataclass(frozen=True)
class _Item:
    """A STAC item, the file that holds it, and the files that it may name."""

    name: str
    content: Json
    path: Path
    root: Path
    local: set[Path]

    @property
    def where(self) -> str:
        """Where its faults are."""
        return f"{self.path}: item {self.name}"

    @property
    def properties(self) -> Json:
        """Metadata of the item."""
        return _section(self.content, "properties")

    @property
    def sensor(self) -> str:
        """The sensor by Landfold's name."""
        texts = [str(self.properties.get(key) or "").lower() for key in ("constellation", "platform")]
        craft = re.fullmatch(r"landsat[-_ ]?([4-9])", texts[1])
        if craft:
            return f"landsat{craft[1]}"
        return "sentinel2" if any(text.startswith(("sentinel-2", "sentinel2")) for text in texts) else "unknown"

    def scene(self) -> SceneFiles:
        """The item as a scene.

        Raises:
            SceneError: if no asset tells its band, two tell one, or what an asset tells cannot be.
        """
        chosen: dict[str, tuple[tuple[float, ...], str, str, Json]] = {}
        masks = []
        for key, asset in sorted(_section(self.content, "assets").items()):
            rank = _rank(asset)
            if rank is None:
                continue
            kind = _MASKS.get(key.lower())
            if kind:
                file, source = self._place(asset, key)
                masks.append(MaskFile(kind, file, source=source))
                continue
            band = _first(asset, "eo:bands") or _first(asset, "bands")
            names = band and self._names(band, key)
            if not names:
                continue
            first = chosen.get(names[0])
            if first and first[0] == rank:
                raise SceneError(
                    f"{self.where}: assets {first[1]} and {key} are both band {names[0]}; remove one of them"
                )
            if first is None or rank < first[0]:
                chosen[names[0]] = (rank, key, names[1], band)
        if not chosen:
            raise SceneError(
                f"{self.where}: no asset is a GeoTIFF or JP2 file of one band that eo:bands or bands tells by a common "
                "name (red, nir, rededge071, swir16) or a Sentinel-2 name (B05); add that, or list URLs in a .urls file"
            )
        when = str(self.properties.get("datetime") or self.properties.get("start_datetime") or "")
        date = re.match(r"\d{4}-\d\d-\d\d", when)
        processing = {"source": "STAC"}
        processing |= {title: str(self.properties[key]) for title, key in _TOLD.items() if key in self.properties}
        bands = {
            name: self._band((name, chosen[name][2]), chosen[name][3], chosen[name][1])
            for name in STANDARD_NAMES
            if name in chosen
        }
        return SceneFiles(
            name=self.name,
            sensor=self.sensor,
            folder=self.path,
            bands=bands,
            acquired=date[0] if date else date_in(self.name),
            masks=tuple(masks),
            warnings=self._warnings(list(bands.values())),
            processing=processing,
        )

    def _names(self, band: Json, key: str) -> tuple[str, str] | None:
        """Standard name and own name of a band, None if nothing tells it."""
        own = str(band.get("name") or key)
        common = str(band.get("common_name") or band.get("eo:common_name") or "").lower()
        landsat_name = re.fullmatch(r"(?:(?:OLI|TM|ETM|TIRS|SR)_)*(B\d+)", own, re.IGNORECASE)
        if self.sensor.startswith("landsat"):
            table = LANDSAT_OLI if self.sensor in ("landsat8", "landsat9") else LANDSAT_TM
            by_name = table.get(landsat_name[1].upper()) if landsat_name else None
            by_common = "N" if common == "nir08" else COMMON_NAMES.get(common)
            if by_name in ("T", "T1", "T2"):  # kelvin in level 2, radiance in level 1
                return None
            own = landsat_name[1].upper() if landsat_name else own
        else:
            by_name = standard_name(own)
            special = {"nir08": "N2", "nir09": "WV"} if self.sensor == "sentinel2" else {}
            by_common = special.get(common) or COMMON_NAMES.get(common)
            if by_name is None and own != common:
                by_name = special.get(own.lower()) or COMMON_NAMES.get(own.lower())
            own = own.upper() if own.upper() in SENTINEL2 else own
        if by_name and by_common and by_name != by_common:
            raise SceneError(
                f"{self.where}: asset {key} is called {own}, which is {by_name}, but has the common name {common}, "
                f"which is {by_common}; correct the one that is wrong"
            )
        name = by_common or by_name
        return (name, own) if name else None

    def _band(self, names: tuple[str, str], band: Json, key: str) -> BandFile:
        asset = self.content["assets"][key]
        file, source = self._place(asset, key)
        radiometry, nodata = self._numbers(band, asset, key)
        return BandFile(*names, file, source=source, radiometry=radiometry, nodata=nodata)

    def _place(self, asset: Json, key: str) -> tuple[Path, str | None]:
        """The file that stands for an asset, and what GDAL opens if not that."""
        href = asset.get("href")
        where = f"{self.where}: asset {key}"
        if not isinstance(href, str) or not href.strip():
            raise SceneError(f"{where} has no href; fetch the item again")
        parts = re.match(r"[A-Za-z][A-Za-z0-9+.-]*:|[/\\]", href.strip())
        if parts and not href.strip().startswith(("/", "\\")) and parts[0].lower() not in ("http:", "https:"):
            raise SceneError(f"{where}: '{redact_url(_quoted(href))}' is not read; {_MEND}")
        if parts and parts[0].lower() in ("http:", "https:"):
            return self.path, _remote(href, where)
        file = Path(os.path.normpath(self.path.parent / unquote(href.strip())))
        if parts or not file.is_relative_to(os.path.normpath(self.root)):
            raise SceneError(
                f"{where}: '{href}' leads out of {self.root}; {_MEND}, or a path relative to {self.path.name}"
            )
        known = {Path(os.path.normpath(path)): path for path in self.local}
        if file not in known:
            raise SceneError(f"{where}: '{href}' is no file in {self.path.parent}; put it there, or {_MEND}")
        return known[file], None

    def _numbers(self, band: Json, asset: Json, key: str) -> tuple[Radiometry | None, float | None]:
        """Scale and offset, and the number that means no data, as far as the item tells."""
        old = _first(asset, "raster:bands") or {}

        def told(name: str, *, prefix: str = "raster:") -> float | None:
            for owner, field in ((old, name), (band, prefix + name), (asset, prefix + name)):
                if owner.get(field) is not None:
                    return self._number(owner[field], f"{self.where}: asset {key}: {name}")
            return None

        scale, offset, nodata = told("scale"), told("offset"), told("nodata", prefix="")
        if scale is None and offset is None:
            return None, nodata
        scale, offset = 1.0 if scale is None else scale, offset or 0.0
        if not (isfinite(scale) and isfinite(offset) and scale > 0):
            raise SceneError(f"{self.where}: asset {key}: scale {scale:g} and offset {offset:g} are no reflectance")
        return Radiometry(scale, self._offset(offset, key)), nodata

    def _number(self, value: Any, what: str) -> float:
        try:
            return float(value)  # nodata may be the text "nan"
        except (TypeError, ValueError) as error:
            raise SceneError(f"{what} is {value!r}, no number; fetch the item again") from error

    def _offset(self, offset: float, key: str) -> float:
        """The offset of the stored numbers, where Earth Search may have subtracted it and still tells it.

        Its items have earthsearch:boa_offset_applied; raster:bands repeats ESA's offset whether or not
        (github.com/Element84/earth-search/issues/66, issues/71).
        """
        applied = self.properties.get("earthsearch:boa_offset_applied")
        if applied is None or offset == 0:
            return offset
        if applied is True:
            return 0.0
        baseline = str(self.properties.get("s2:processing_baseline") or "")
        if re.fullmatch(r"0[0-3]\.\d\d", baseline):
            raise SceneError(
                f"{self.where}: asset {key} tells an offset of {offset:g}, but its processing baseline {baseline} has "
                "none before 04.00; compare with ESA's product, and correct the offset in the item"
            )
        return offset

    def _warnings(self, bands: list[BandFile]) -> list[str]:
        applied = self.properties.get("earthsearch:boa_offset_applied")
        offsets = {band.radiometry.offset for band in bands if band.radiometry}
        baseline = str(self.properties.get("s2:processing_baseline") or "")
        warnings = []
        if applied is False and offsets - {0.0}:
            warnings.append(
                f"{self.path.name}: item {self.name} has earthsearch:boa_offset_applied: false, so its offset is "
                "applied; the flag is known to be wrong for some items since 2022: if reflectance comes out 0.1 too "
                "low, set it to true"
            )
        if any(band.radiometry is None for band in bands) and re.match(r"0[4-9]\.", baseline):
            warnings.append(
                f"{self.path.name}: item {self.name} tells no scale and offset for some bands; at processing baseline "
                f"{baseline} ESA's numbers have the offset -0.1: see that ingest.scale and ingest.offset fit"
            )
        return warnings


_TOLD = {
    "baseline": "s2:processing_baseline",
    "boa_offset_applied": "earthsearch:boa_offset_applied",
    "level": "landsat:correction",
}
"""What the report tells of the processing: property of the item."""


def _rank(asset: Any) -> tuple[float, ...] | None:
    """The lower, the better a file for its band: media type, then pixel size; None for what is no band file."""
    if not isinstance(asset, dict):
        return None
    roles = asset.get("roles")
    if isinstance(roles, list) and _PICTURES & {str(role) for role in roles}:
        return None
    media = asset.get("type")
    if isinstance(media, str):
        kinds = [i for i, kind in enumerate(_MEDIA) if media.lower().startswith(kind)]
    else:
        name = _name(str(asset.get("href") or ""))
        kinds = [len(_MEDIA)] if name.lower().endswith(RASTER_SUFFIXES) else []
    if not kinds:
        return None
    old = _first(asset, "raster:bands") or {}
    sizes = [size for size in (asset.get("gsd"), old.get("spatial_resolution")) if isinstance(size, (int, float))]
    return kinds[0], float(sizes[0]) if sizes else 0.0
