"""Scenes described by STAC items: the assets that are bands or masks, and how their numbers become reflectance.

A ``.json`` or ``.geojson`` file that holds a STAC Item or ItemCollection (https://github.com/radiantearth/stac-spec)
has a scene in each item. Its bands are the assets that the eo extension describes as one band (``eo:bands`` in STAC
1.0, ``bands`` in 1.1); scale, offset and nodata are those of the raster extension. Assets with a URL stay on their
server; their windows are read over HTTP.

In hashes and reports the item's file stands for its remote assets: one that changes under its URL is not noticed.
"""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from landfold.geo.bands import (
    COMMON_NAMES,
    LANDSAT_OLI,
    LANDSAT_TM,
    SENTINEL2,
    STANDARD_NAMES,
    THERMAL,
    Radiometry,
    standard_name,
)
from landfold.geo.remote import redact_url
from landfold.scenes.sensors import metadata
from landfold.scenes.sensors.scene_files import RASTER_SUFFIXES, BandFile, MaskFile, SceneError, SceneFiles, date_in
from landfold.scenes.sensors.url_lists import USE_HTTP, file_name, quoted, remote_file

_MASKS = {"scl": "scl", "qa_pixel": "qa_pixel"}
"""Keys of assets that are masks: the kind of the mask."""

_NO_BANDS = {"thumbnail", "overview", "visual", "metadata"}
"""Roles of assets that are no bands."""

_MEDIA = ("image/tiff", "image/vnd.stac.geotiff", "image/jp2")
"""Media types of assets that may be bands, the preferred ones first."""

_PROCESSING = {
    "baseline": "s2:processing_baseline",
    "boa_offset_applied": "earthsearch:boa_offset_applied",
    "level": "landsat:correction",
}
"""What the report says of the processing: property of the item."""

Json = dict[str, Any]


def find(files: list[Path], root: Path, delivered: list[Path]) -> tuple[list[SceneFiles], list[Path]]:
    """Scenes of the STAC files among ``files``, and the files that belong to none.

    ``delivered`` are all files below ``root``, the only ones that an item may name beside URLs. What is wrong with
    an item is the fault of a scene.
    """
    local = {Path(os.path.normpath(path)): path for path in delivered}
    scenes, owned = [], set()
    for path in files:
        if path.suffix.lower() in (".json", ".geojson"):
            items = _of_file(path, root, local)
            scenes += items
            owned.update([path] if items else [])
    owned |= {file.path for scene in scenes for file in (*scene.bands.values(), *scene.masks)}
    return scenes, [path for path in files if path not in owned]


def _of_file(path: Path, root: Path, local: dict[Path, Path]) -> list[SceneFiles]:
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
    kind = content.get("type") if isinstance(content, dict) else type(content).__name__
    if kind == "Feature":
        return [content]
    features = content.get("features") if kind == "FeatureCollection" else None
    if not isinstance(features, list) or not features:
        raise SceneError(
            f"{path}: STAC, but no items in it ({kind}); expected an Item or an ItemCollection, such as a search gives"
        )
    if not all(isinstance(feature, dict) for feature in features):
        raise SceneError(f"{path}: features that are no STAC items; save the search's result again")
    return features


def _object(owner: Any, key: str) -> Json:
    """An object of the JSON; {} if it is absent or something else."""
    value = owner.get(key) if isinstance(owner, dict) else None
    return value if isinstance(value, dict) else {}


def _only(owner: Json, key: str) -> Json | None:
    """The one entry of a list of the JSON; None if there are none or several."""
    value = owner.get(key)
    return value[0] if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict) else None


@dataclass(frozen=True)
class _BandAsset:
    """An asset that is a band; of several for one band the one with the lowest ``rank`` is used."""

    rank: tuple[float, ...]
    key: str
    asset: Json
    band: Json
    name: str
    native_name: str


@dataclass(frozen=True)
class _Item:
    """A STAC item, the file that holds it, and the files that it may name, by their normal path."""

    name: str
    content: Json
    path: Path
    root: Path
    local: dict[Path, Path]

    @property
    def where(self) -> str:
        """The beginning of messages about the item."""
        return f"{self.path}: item {self.name}"

    @property
    def properties(self) -> Json:
        """Metadata of the item."""
        return _object(self.content, "properties")

    @property
    def baseline(self) -> str:
        """Processing baseline of Sentinel-2; "" where there is none."""
        return str(self.properties.get("s2:processing_baseline") or "")

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
            SceneError: if no asset is a known band, two are one band, or what an asset says cannot be.
        """
        chosen = self._chosen()
        bands = {name: self._band(chosen[name]) for name in STANDARD_NAMES if name in chosen}
        when = self.properties.get("datetime") or self.properties.get("start_datetime")
        date = re.match(r"\d{4}-\d\d-\d\d", str(when))
        processing = {name: str(self.properties[key]) for name, key in _PROCESSING.items() if key in self.properties}
        return SceneFiles(
            name=self.name,
            sensor=self.sensor,
            folder=self.path,
            bands=bands,
            acquired=date[0] if date else date_in(self.name),
            masks=tuple(self._masks()),
            warnings=self._warnings(list(bands.values())),
            processing={"source": "STAC"} | processing,
        )

    def _assets(self) -> Iterator[tuple[str, Json, tuple[float, ...]]]:
        """Key, content and rank of the assets that may be bands or masks."""
        for key, asset in sorted(_object(self.content, "assets").items()):
            rank = _rank(asset)
            if rank is not None:
                yield key, asset, rank

    def _masks(self) -> Iterator[MaskFile]:
        for key, asset, _ in self._assets():
            if key.lower() in _MASKS:
                path, source = self._place(asset, key)
                yield MaskFile(_MASKS[key.lower()], path, source=source)

    def _chosen(self) -> dict[str, _BandAsset]:
        """The best asset of each band, by standard name."""
        chosen: dict[str, _BandAsset] = {}
        for key, asset, rank in self._assets():
            band = _only(asset, "eo:bands") or _only(asset, "bands")
            names = self._names(band, key) if band and key.lower() not in _MASKS else None
            if not names:
                continue
            first = chosen.get(names[0])
            if first and first.rank == rank:
                raise SceneError(
                    f"{self.where}: assets {first.key} and {key} are both band {names[0]}; remove one of them"
                )
            if first is None or rank < first.rank:
                chosen[names[0]] = _BandAsset(rank, key, asset, band, *names)
        if not chosen:
            raise SceneError(
                f"{self.where}: no asset is a GeoTIFF or JP2 file of one band with a common name (red, nir, "
                "rededge071, swir16) or a Sentinel-2 name (B05) in eo:bands or bands; add that, or list URLs in a "
                ".urls file"
            )
        return chosen

    def _names(self, band: Json, key: str) -> tuple[str, str] | None:
        """Standard name and own name of a band, None if nothing says which band it is."""
        own = str(band.get("name") or key)
        common = str(band.get("common_name") or band.get("eo:common_name") or "").lower()
        landsat_name = re.fullmatch(r"(?:(?:OLI|TM|ETM|TIRS|SR)_)*(B\d+)", own, re.IGNORECASE)
        if self.sensor.startswith("landsat"):
            table = LANDSAT_OLI if self.sensor in ("landsat8", "landsat9") else LANDSAT_TM
            by_name = table.get(landsat_name[1].upper()) if landsat_name else None
            by_common = "N" if common == "nir08" else COMMON_NAMES.get(common)
            if by_name in THERMAL:  # kelvin in level 2, radiance in level 1
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

    def _band(self, chosen: _BandAsset) -> BandFile:
        path, source = self._place(chosen.asset, chosen.key)
        radiometry, nodata = self._numbers(chosen)
        return BandFile(chosen.name, chosen.native_name, path, source=source, radiometry=radiometry, nodata=nodata)

    def _place(self, asset: Json, key: str) -> tuple[Path, str | None]:
        """The file that stands for an asset, and what GDAL opens if not that."""
        href, where = asset.get("href"), f"{self.where}: asset {key}"
        if not isinstance(href, str) or not href.strip():
            raise SceneError(f"{where} has no href; fetch the item again")
        start = re.match(r"[A-Za-z][A-Za-z0-9+.-]*:|[/\\]", href.strip())
        scheme = start[0].lower() if start else ""
        if scheme in ("http:", "https:"):
            return self.path, remote_file(href, where)
        if scheme.endswith(":"):
            raise SceneError(f"{where}: '{redact_url(quoted(href))}' is not read; {USE_HTTP}")
        file = Path(os.path.normpath(self.path.parent / unquote(href.strip())))
        if scheme or not file.is_relative_to(os.path.normpath(self.root)):
            raise SceneError(
                f"{where}: '{href}' leads out of {self.root}; {USE_HTTP}, or a path relative to {self.path.name}"
            )
        if file not in self.local:
            raise SceneError(f"{where}: '{href}' is no file in {self.path.parent}; put it there, or {USE_HTTP}")
        return self.local[file], None

    def _numbers(self, chosen: _BandAsset) -> tuple[Radiometry | None, float | None]:
        """Scale and offset, and the number that means no data, as far as the item gives them."""
        where = f"{self.where}: asset {chosen.key}"
        old = _only(chosen.asset, "raster:bands") or {}  # of STAC 1.0

        def value(name: str, *, prefix: str = "raster:") -> float | None:
            for owner, field in ((old, name), (chosen.band, prefix + name), (chosen.asset, prefix + name)):
                if owner.get(field) is not None:
                    try:
                        return float(owner[field])  # nodata may be the text "nan"
                    except (TypeError, ValueError) as error:
                        message = f"{where}: {name} is {owner[field]!r}, no number; fetch the item again"
                        raise SceneError(message) from error
            return None

        scale, offset, nodata = value("scale"), value("offset"), value("nodata", prefix="")
        if scale is None and offset is None:
            return None, nodata
        scale, offset = 1.0 if scale is None else scale, offset or 0.0
        if not (isfinite(scale) and isfinite(offset) and scale > 0):
            raise SceneError(f"{where}: scale {scale:g} and offset {offset:g} are no reflectance")
        return Radiometry(scale, self._offset(offset, where)), nodata

    def _offset(self, offset: float, where: str) -> float:
        """The offset of the stored numbers; Earth Search may have subtracted it and still give it.

        Its items have earthsearch:boa_offset_applied; raster:bands repeats ESA's offset in either case
        (github.com/Element84/earth-search/issues/66, issues/71).
        """
        applied = self.properties.get("earthsearch:boa_offset_applied")
        if applied is None or offset == 0:
            return offset
        if applied is True:
            return 0.0
        if re.fullmatch(r"0[0-3]\.\d\d", self.baseline):
            raise SceneError(
                f"{where} has an offset of {offset:g}, but its processing baseline {self.baseline} has none before "
                "04.00; compare with ESA's product, and correct the offset in the item"
            )
        return offset

    def _warnings(self, bands: list[BandFile]) -> list[str]:
        applied = self.properties.get("earthsearch:boa_offset_applied")
        warnings = []
        if applied is False and any(band.radiometry and band.radiometry.offset for band in bands):
            warnings.append(
                f"{self.path.name}: item {self.name} has earthsearch:boa_offset_applied: false, so its offset is "
                "applied; the flag is known to be wrong for some items since 2022: if reflectance comes out 0.1 too "
                "low, set it to true"
            )
        if any(band.radiometry is None for band in bands) and re.match(r"0[4-9]\.", self.baseline):
            warnings.append(
                f"{self.path.name}: item {self.name} gives no scale and offset for some bands; at processing baseline "
                f"{self.baseline} ESA's numbers have the offset -0.1: see that ingest.scale and ingest.offset fit"
            )
        return warnings


def _rank(asset: Any) -> tuple[float, ...] | None:
    """The lower, the better a file for its band: media type, then pixel size; None for what is no band file."""
    if not isinstance(asset, dict):
        return None
    roles = asset.get("roles")
    if isinstance(roles, list) and _NO_BANDS & {str(role) for role in roles}:
        return None
    media = asset.get("type")
    if isinstance(media, str):
        kinds = [i for i, kind in enumerate(_MEDIA) if media.lower().startswith(kind)]
    else:
        is_raster = file_name(str(asset.get("href") or "")).lower().endswith(RASTER_SUFFIXES)
        kinds = [len(_MEDIA)] if is_raster else []
    if not kinds:
        return None
    old = _only(asset, "raster:bands") or {}
    sizes = [size for size in (asset.get("gsd"), old.get("spatial_resolution")) if isinstance(size, (int, float))]
    return kinds[0], float(sizes[0]) if sizes else 0.0
