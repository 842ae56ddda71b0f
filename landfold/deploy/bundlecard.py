"""The card of a model folder: what the model is, how scenes must be read for it, and what its maps are worth.

A card may come from a stranger: its size, its numbers and its names are checked here, before anything is made of them.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator
from rasterio.crs import CRS
from rasterio.errors import CRSError

from landfold.core.digests import file_sha256
from landfold.core.settings import Settings, SettingsError, used_or_null, validate
from landfold.geo.settings import ProjectSettings
from landfold.maps.settings import ExportSettings
from landfold.network.card import ModelCard, window_px
from landfold.network.errors import ModelError
from landfold.network.settings import ModelSettings
from landfold.pixels.calibration import Calibrations
from landfold.scenes.normalize import SceneStatistics
from landfold.scenes.settings import IndexSettings, IngestSettings, NormalizeSettings

FORMAT = 4
"""Raised when the folder changes so that an older Landfold would misread it."""

CARD = "model.json"

MAX_CARD_BYTES = 4 * 2**20
"""The card of 5 folds, 16 channels and 8 classes is 9 kB."""

MAX_CHANNELS, MAX_CLASSES, MAX_FOLDS, MAX_SIZE_PX = 256, 65_534, 200, 2048

MAX_FEATURES, MAX_CODED, MAX_HIDDEN = 4096, 2**16, 64
"""Of a network of kind surroundings: features of a pixel, which a map holds for 128 x 2048 px at once, the numbers that
they are coded by, and hidden layers; 16 channels, boxes of three sizes and 6 bins are 112 and 672."""

Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Colour = Annotated[str, StringConstraints(pattern=r"^#[0-9a-f]{6}$")]
Finite = Annotated[float, Field(allow_inf_nan=False)]


def _is_day(text: str) -> str:
    date.fromisoformat(text)  # a ValueError, which pydantic takes for a refusal
    return text


Day = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d{2}-\d{2}$"), AfterValidator(_is_day)]


class BundleError(ModelError):
    """A model folder that is not whole, is not what its card says, or goes beyond a limit."""


class NativeBand(Settings):
    """How a band was delivered in the scenes that the model was trained on."""

    name: Name
    """standard name"""
    native_names: list[Name] = Field(max_length=100)
    """what the sensors call it"""
    resolution_m: list[Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(max_length=1000)
    """pixel sizes of the delivered files, metres; [] where none was in a metric CRS"""
    scale: list[Finite] = Field(max_length=1000)
    """reflectance = DN * scale + offset, each pair once"""
    offset: list[Finite] = Field(max_length=1000)
    """offsets beside ``scale``"""
    radiometry_from: list[Literal["product", "file", "settings", "float"]]
    """where the radiometry is from"""
    low: Finite
    """reflectance at normalize.low_percentile, the least of the scenes"""
    high: Finite
    """reflectance at normalize.high_percentile, the largest of the scenes"""


class Origin(Settings):
    """The scenes that the model was trained on."""

    scenes: int = Field(ge=1)
    """their number"""
    acquired: list[Day]
    """their dates, ISO, each once"""
    sensors: list[Name]
    """their sensors"""
    processing: list[dict[Name, Name]]
    """processing levels and baselines, where products name them"""
    clouds_unknown: int = Field(ge=0)
    """how many of them have neither a mask nor a screen that tells of clouds"""
    bands: list[NativeBand]
    """how their bands were delivered"""


class Score(Settings):
    """A score with its 95 % interval over zones."""

    pooled: Finite
    """over all that is held out"""
    low: Finite
    """lower end of the interval"""
    high: Finite
    """upper end of the interval"""


class BundleCard(Settings):
    """All that is needed to read a scene as in training, to map it, and to judge the map."""

    format: Literal[4]
    """version of the folder's layout"""
    name: Name
    """name of the project"""
    crs: str
    """the project's metric CRS"""
    model: ModelSettings
    """settings of the network"""
    channels: list[Name] = Field(min_length=1, max_length=MAX_CHANNELS)
    """names of the input channels, in order: bands, then indices"""
    bands: list[Name] = Field(min_length=1, max_length=MAX_CHANNELS)
    """standard names of the bands"""
    indices: list[Name] = Field(max_length=MAX_CHANNELS)
    """names of the spectral indices"""
    classes: list[Name] = Field(min_length=1, max_length=MAX_CLASSES)
    """class names, in the order of the outputs"""
    colours: list[Colour] = Field(min_length=1, max_length=MAX_CLASSES)
    """colour of each class, "#rrggbb\""""
    size_px: int = Field(ge=1, le=MAX_SIZE_PX)
    """side of the input window in pixels"""
    core_px: int = Field(ge=1, le=MAX_SIZE_PX)
    """side of the core in pixels: what a class describes, or whose pixels have a class each"""
    patch_px: int = Field(ge=1, le=MAX_SIZE_PX)
    """side of the labelled patches in pixels, of which the area of applicability and ``zoned`` are"""
    resolution_m: float = Field(gt=0, allow_inf_nan=False)
    """pixel size in metres"""
    k: int = Field(ge=1, le=MAX_FOLDS)
    """number of folds in a repeat"""
    fold_digests: list[Sha256] = Field(min_length=1, max_length=MAX_FOLDS)
    """digest of the patches of each fold; one network each"""
    patches_digest: Sha256
    """digest of the table of patches"""
    statistics_digest: Sha256
    """digest of the statistics of the scenes trained on"""
    data_digest: Sha256
    """digest of patches, statistics and folds together (`landfold.core.digests.data_digest`)"""
    params_digest: Sha256
    """digest of the settings that the model was made with"""
    train: dict[str, Any]
    """settings of the training"""
    ingest: IngestSettings
    """how a scene is read"""
    normalize: NormalizeSettings
    """how its channels are scaled"""
    export: ExportSettings
    """how its map is made"""
    origin: Origin
    """the scenes trained on"""
    calibration: Calibrations | None
    """what the mean of the networks is scaled by, without that of single folds; null: it is not scaled"""
    zoned: dict[Name, Score]
    """scores of patches in zones that the network never saw"""
    zoned_pixels: dict[Name, Score] | None
    """the same of their labelled pixels; null for a model of patches"""
    applicability: Sha256 | None
    """digest of applicability.safetensors; null: there is none"""
    weights: list[Sha256] = Field(min_length=1, max_length=MAX_FOLDS)
    """digest of the weights of each fold"""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        """Fields with the same content must agree; sections are those of params.yaml, with their own checks."""
        if self.channels != [*self.bands, *self.indices]:
            raise ValueError("channels: expected the bands, then the indices")
        if self.bands != self.ingest.bands or self.bands != [band.name for band in self.origin.bands]:
            raise ValueError("bands: differ from ingest.bands or origin.bands")
        for field in ("channels", "classes"):
            if len(set(getattr(self, field))) < len(getattr(self, field)):
                raise ValueError(f"{field}: a name is there twice")
        if len(self.colours) != len(self.classes):
            raise ValueError(f"colours: {len(self.colours)} for {len(self.classes)} classes")
        if len(self.weights) != len(self.fold_digests):
            raise ValueError(f"weights: {len(self.weights)} for {len(self.fold_digests)} folds")
        if (self.calibration is not None) != self.export.calibrated:
            raise ValueError("calibration: expected one where export.calibrated is true, else null")
        IndexSettings(names=self.indices)
        ProjectSettings(name=self.name, crs=self.crs)
        return self

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        """Sizes are those of the kind of network, whose work for a pixel is bounded."""
        model, sizes = self.model, (self.size_px, self.core_px)
        if model.kind == "classifier" and (self.core_px > self.size_px or self.patch_px != self.size_px):
            raise ValueError(f"size_px {self.size_px}: expected patch_px, {self.patch_px}, and core_px in it")
        if sizes != (expected := window_px(model, self)):
            raise ValueError(f"size_px and core_px are {sizes}; kind {model.kind} has {expected}")
        used_or_null(f"model.kind: {model.kind}", "export.stride_px", self.export.stride_px, not model.of_pixels)
        features = len(self.channels) * (1 + 2 * len(model.boxes_px or []))
        coded, hidden = features * (model.bins or 1), len(model.hidden or [])
        if features > MAX_FEATURES or coded > MAX_CODED or hidden > MAX_HIDDEN:
            raise ValueError(
                f"model: {features} features of a pixel, coded by {coded} numbers, and {hidden} hidden layers; at most "
                f"{MAX_FEATURES}, {MAX_CODED} and {MAX_HIDDEN}"
            )
        return self

    @property
    def unit(self) -> Literal["patch", "pixel"]:
        """What gets a class: a patch, and the map's cell at its centre, or each pixel."""
        return "pixel" if self.model.of_pixels else "patch"

    @property
    def rgb(self) -> list[tuple[int, int, int]]:
        """Colours of the classes, red, green and blue in 0..255 each."""
        return [tuple(bytes.fromhex(colour[1:])) for colour in self.colours]

    def of_fold(self, fold: int) -> ModelCard:
        """The card of one fold's network, as its training wrote it except for the weights that it started from."""
        common = {name: getattr(self, name) for name in ModelCard.model_fields if name in BundleCard.model_fields}
        plain = self.model.model_copy(update={"weights": self.model.weights and "none"})
        return ModelCard.model_construct(**common | {"model": plain}, fold=fold, fold_digest=self.fold_digests[fold])


def read_card(folder: Path) -> BundleCard:
    """The card of a model folder, without the networks.

    Raises:
        BundleError: no such file, or one that is no card, lacks something, or has an unknown or impossible value.
    """
    path = folder / CARD
    if not folder.is_dir():
        raise BundleError(f"{folder}: no such folder; expected a model folder such as models/landfold")
    text = limited_file(path, MAX_CARD_BYTES).read_bytes()
    try:
        content = json.loads(text.decode("utf-8"), parse_constant=_refuse_constant)
    except RecursionError:
        raise BundleError(f"{path}: nested too deeply to be a model card") from None
    except ValueError as error:  # of JSON or of UTF-8
        raise BundleError(f"{path}: no JSON ({error}); fetch the folder again") from None
    if not isinstance(content, dict):
        raise BundleError(f"{path}: no model card: expected an object with the key format")
    if "format" not in content and "fold" in content:
        raise BundleError(f"{path}: the model of a single fold; give the folder that stage package writes")
    if content.get("format") != FORMAT:
        raise BundleError(
            f"{path}: format {str(content.get('format'))[:20]!r}; this Landfold reads format {FORMAT}: use the "
            "Landfold that wrote it"
        )
    try:
        return validate(content, BundleCard, where=str(path))
    except SettingsError as error:
        raise BundleError("\n".join(_shortened(line) for line in str(error).splitlines()[:10])) from None


def bundle_digest(folder: Path) -> str:
    """SHA-256 of a model folder: of its card, which holds the digests of weights and area; not of README.md."""
    return file_sha256(folder / CARD)


def _shortened(line: str) -> str:
    """A message without most of what it quotes."""
    return line if len(line) <= 400 else f"{line[:200]} ... {line[-200:]}"


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is no number")


def limited_file(path: Path, limit: int) -> Path:
    """The path of a file that exists and has at most ``limit`` bytes. A link to a file is one: DVC may make links.

    Raises:
        BundleError: it is no file, or larger.
    """
    if not path.is_file():
        raise BundleError(f"{path}: not found, or no file; fetch the model folder again")
    size = path.stat().st_size
    if size > limit:
        raise BundleError(f"{path}: {size} bytes; at most {limit} are read of such a file")
    return path


def origin_of(reports: Sequence[Mapping[str, Any]], statistics: Sequence[SceneStatistics]) -> dict[str, Any]:
    """Field ``origin`` of a card, from the scenes' entries in report.json and their statistics."""

    def each(values: Iterable[Any]) -> list[Any]:
        """Each value once, sorted; None left out."""
        return sorted({value for value in values if value is not None})

    bands = []
    for position, name in enumerate(band["name"] for band in reports[0]["bands"]):
        delivered = [report["bands"][position] for report in reports]
        metric = [_is_projected(report["delivered_crs"]) for report in reports]
        radiometry = each((band["scale"], band["offset"]) for band in delivered)
        bands.append(
            {
                "name": name,
                "native_names": each(band["native_name"] for band in delivered),
                "resolution_m": each(b["resolution_m"] for b, known in zip(delivered, metric, strict=True) if known),
                "scale": [scale for scale, _ in radiometry],
                "offset": [offset for _, offset in radiometry],
                "radiometry_from": each(band["radiometry_from"] for band in delivered),
                "low": min(of.channels[name].low for of in statistics),
                "high": max(of.channels[name].high for of in statistics),
            }
        )
    processing = each(tuple(sorted(report["processing"].items())) for report in reports)
    return {
        "scenes": len(reports),
        "acquired": each(report["acquired"] for report in reports),
        "sensors": each(report["sensor"] for report in reports),
        "processing": [dict(made) for made in processing if made],
        "clouds_unknown": sum(report["cloud_fraction"] is None for report in reports),
        "bands": bands,
    }


def _is_projected(text: str) -> bool:
    """Whether the short name of a CRS in a report is that of a projected one; False for one without a code."""
    try:
        return CRS.from_user_input(text).is_projected
    except CRSError:
        return False
