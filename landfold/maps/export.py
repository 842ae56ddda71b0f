"""All files of a scene's map for a GIS, written strip by strip.

Every raster tells in its tags what it was made from: ``MODEL_SHA256`` and ``STATISTICS_SHA256`` (of the scene's
statistics), which the caller knows, ``PARAMS_SHA256`` of the settings that bear on its numbers, with those of the
network and its training, ``CODE_SHA256`` of the modules that were loaded, and ``LANDFOLD_VERSION``. The git commit is
in no file: DVC hashes the files, and the commit that would have to be named holds those hashes. The digest of the
code stands for it, and dvc.lock ties both together.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas
import shapely
from rasterio.crs import CRS
from rasterio.windows import Window
from scipy.special import entr

from landfold import __version__
from landfold.core.digests import code_digest, params_digest
from landfold.core.errors import LandfoldError
from landfold.folds.assignment import read_index
from landfold.geo.bands import Radiometry
from landfold.geo.grid import Grid
from landfold.geo.raster import Raster
from landfold.geo.writer import RasterWriter, create_cog
from landfold.maps.applicability import METHOD, Applicability, survey
from landfold.maps.inference import map_grid, slide
from landfold.maps.polygons import write_polygons
from landfold.maps.settings import ExportSettings
from landfold.maps.stac import write_item
from landfold.maps.style import NO_CLASS, write_class_styles, write_share_style
from landfold.network.model import Classifier, ModelCard

MOST_BYTES = 254
"""Up to so many classes are bytes; beyond, 255 would be a class, which many tools take for nodata."""

PERCENT = Radiometry(0.01, 0)
"""Probabilities of all classes are stored in whole percents, which GIS multiply by this: a tenth of the space of
float32, and half a percent is less than any calibration is good for."""

NO_PERCENT = 255

ROOMS = ("core", "geo", "patches", "folds", "network", "maps")
"""Folders of code that decide a map: the same as in dvc.yaml."""

NUMBERS = {"stride_px", "offsets", "flips_and_rotations", "min_valid"}
"""Settings that bear on the numbers in a raster; the others say which files there are."""


class ExportError(LandfoldError):
    """A map that cannot be made."""


@dataclass(frozen=True)
class Written:
    """What `write_scene_map` wrote: ``files``, sorted, and how many cells have data.

    With an area of applicability the shares of those outside: ``outside`` of the map under the plain names,
    ``ensemble_outside`` of that of the mean over all models.
    """

    files: list[Path]
    cells: int
    outside: float | None = None
    ensemble_outside: float | None = None


def load_folds(models: Path, folds: Path, device: str) -> list[Classifier]:
    """The classifiers of all folds that ``folds``/index.json lists, in their order.

    Raises:
        FoldError: no index, or a fold was trained on another split than the present one.
        ModelError: a fold is missing or broken.
    """
    index = read_index(folds)
    loaded = [Classifier.load(models / f"fold_{fold}", device) for fold in index.folds]
    for fold, classifier in zip(index.folds, loaded, strict=True):
        index.check_card(models / f"fold_{fold}" / "model.json", fold, classifier.card.fold_digest)
    return loaded


def fold_of_cells(
    grid: Grid, crs: CRS, zone_of: Callable[[np.ndarray, np.ndarray], np.ndarray], fold_of_zone: dict[str, int]
) -> np.ndarray:
    """The fold that held out the zone of each cell's centre, (row, column); -1 where no fold has the zone."""
    columns, rows = np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5)
    t = grid.transform
    x, y = t.a * columns + t.b * rows + t.c, t.d * columns + t.e * rows + t.f
    centres = geopandas.GeoSeries(shapely.points(x.ravel(), y.ravel()), crs=grid.crs).to_crs(crs)
    zones = pandas.Series(zone_of(centres.x.to_numpy(), centres.y.to_numpy()))
    return zones.map(fold_of_zone).fillna(-1).to_numpy(np.int64).reshape(grid.shape)


def write_scene_map(
    folder: Path,
    scene: str,
    raster: Raster,
    models: Sequence[Classifier],
    settings: ExportSettings,
    colours: Sequence[tuple[int, int, int]],
    *,
    held_out: Callable[[Grid], np.ndarray] | None = None,
    area: Applicability | None = None,
    lineage: Mapping[str, str] | None = None,
    acquired: str | None = None,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Written:
    """Predict a normalized scene and write all files of its map into ``folder``, in bounded memory.

    Without ``held_out`` (``landfold predict``) the map is that of the mean over all models, under the plain
    names: SCENE_class.tif, SCENE_confidence.tif, ... With it (stage export), those names hold the honest map,
    every cell by the fold that never saw its zone, and SCENE_ensemble_class.tif, ... the mean's beside it.
    Polygons and the STAC item's classes are those of SCENE_class.tif.

    Args:
        folder: exists; files of the same names are replaced.
        scene: the name that files begin with; also the identifier of the STAC item.
        raster: the normalized scene, channels in the order of the models' cards.
        models: one of each fold, in the order of the folds; any number of any folds without ``held_out``.
        settings: section ``export``.
        colours: red, green and blue of every class, in the order of the card.
        held_out: gives the fold that held out the zone of each cell of a grid, (row, column), -1 for none, where
            the mean stands in: no model has seen the zone. It is called with the grid of some rows of cells.
        area: for the rasters of dissimilarity; None: none.
        lineage: MODEL_SHA256, STATISTICS_SHA256 and others, for the tags of every raster.
        acquired: date (YYYY-MM-DD) or RFC 3339 time of the scene; without one no STAC item is written, as
            STAC has no way to say "unknown".
        progress: is told the fraction that is done.

    Raises:
        ExportError: with ``held_out``, if the models are not one of each fold, in order: the map would not be honest.
        InferenceError: see `landfold.maps.inference.slide`.
    """
    present = [model.card.fold for model in models]
    if held_out and present != list(range(len(models))):
        raise ExportError(f"models of the folds {present}; expected {list(range(len(models)))}; run dvc repro")
    card, grid = models[0].card, map_grid(raster.grid, settings.stride_px)
    tags = lineage_tags(lineage or {}, settings, card)
    sheet = _Sheet(folder / scene, grid, card.classes, colours, settings.layers, tags)
    beside = _Sheet(folder / f"{scene}_ensemble", grid, card.classes, colours, settings.layers, tags)
    cells = 0
    with ExitStack() as stack:
        if held_out:
            own, mean = stack.enter_context(sheet.open("padded")), stack.enter_context(beside.open("disagreement"))
        else:
            own = stack.enter_context(sheet.open("padded", "disagreement"))
        for strip in slide(
            raster,
            models,
            settings.stride_px,
            offsets=settings.offsets,
            flips_and_rotations=settings.flips_and_rotations,
        ):
            data = strip.valid >= max(settings.min_valid, np.finfo(float).tiny)
            averaged = strip.probabilities.mean(axis=0)
            votes = (strip.probabilities.argmax(axis=3) != averaged.argmax(axis=2)).mean(axis=0)
            if held_out:
                honest = _of_fold(strip.probabilities, averaged, held_out(grid.part(strip.window)))
                own.write(strip.window, data, honest, strip.padded)
                mean.write(strip.window, data, averaged, votes)
            else:
                own.write(strip.window, data, averaged, strip.padded, votes)
            cells += int(data.sum())
            right = (strip.window.col_off + strip.window.width) / grid.width
            progress((strip.window.row_off + strip.window.height * right) / grid.height)
    sheets = [sheet, beside] if held_out else [sheet]
    shares = _map_applicability(sheets, raster, area, settings, card.size_px, held_out) if area else [None, None]
    files = [path for part in sheets for path in part.write_styles()]
    files += write_polygons(sheet.path("class"), sheet.path("confidence"), folder, scene, settings.polygons).files
    files += [path for part in sheets for path in part.rasters(with_area=area is not None)]
    if acquired:
        classes = dict(zip(card.classes, colours, strict=True))
        files.append(write_item(folder, scene, files, acquired=[acquired], classes=classes, lineage=tags))
    return Written(sorted(files), cells, shares[0], shares[-1])


def lineage_tags(known: Mapping[str, str], settings: ExportSettings, card: ModelCard) -> dict[str, str]:
    """The tags of a raster, see above: what the caller knows, settings, code and version."""
    made_with = {"export": settings.model_dump(include=NUMBERS), "model": card.model.model_dump(), "train": card.train}
    own = {
        "PARAMS_SHA256": params_digest(made_with),
        "CODE_SHA256": code_digest(*ROOMS),
        "LANDFOLD_VERSION": __version__,
    }
    return {**known, **own}


def _of_fold(probabilities: np.ndarray, mean: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Of each cell the probabilities (row, column, class) of the model of its fold, the mean where there is none."""
    fold = folds[None, :, :, None]
    return np.where(fold[0] < 0, mean, np.take_along_axis(probabilities, np.maximum(fold, 0), axis=0)[0])


@dataclass(frozen=True)
class _Sheet:
    """The rasters of one map: all names begin with ``stem``, all lie on one grid and have the same tags."""

    stem: Path
    grid: Grid
    classes: list[str]
    colours: Sequence[tuple[int, int, int]]
    layers: Sequence[str]
    tags: dict[str, str]

    def path(self, part: str) -> Path:
        return self.stem.with_name(f"{self.stem.name}_{part}.tif")

    @contextmanager
    def open(self, *extra: str) -> Iterator["_Writers"]:
        """Write class, confidence with the bands ``extra``, and what else the settings want; COGs at the end."""
        dtype = "uint8" if len(self.classes) <= MOST_BYTES else "uint16"
        bands = ["confidence", *extra, *(name for name in ("margin", "entropy") if name in self.layers)]
        with ExitStack() as stack:
            classes = stack.enter_context(
                self.create("class", ["class"], dtype=dtype, nodata=NO_CLASS, overview_resampling="mode")
            )
            classes.describe_classes(dict(enumerate(self.classes, 1)), dict(enumerate(self.colours, 1)))
            sure = stack.enter_context(self.floats("confidence", bands))
            percent = None
            if "probabilities" in self.layers:
                options = {"dtype": "uint8", "nodata": NO_PERCENT, "radiometry": [PERCENT] * len(self.classes)}
                percent = stack.enter_context(
                    self.create("probabilities", self.classes, overview_resampling="average", **options)
                )
            yield _Writers(classes, sure, percent, bands)

    def floats(self, part: str, bands: list[str], **tags: str) -> AbstractContextManager[RasterWriter]:
        """A raster of float32, NaN where there is no data."""
        return self.create(part, bands, tags, dtype="float32", nodata=np.nan, overview_resampling="average")

    def create(
        self, part: str, bands: list[str], tags: Mapping[str, str] | None = None, **options: Any
    ) -> AbstractContextManager[RasterWriter]:
        return create_cog(self.path(part), self.grid, bands, tags={**self.tags, **(tags or {})}, **options)

    def write_styles(self) -> list[Path]:
        styles = write_class_styles(self.path("class"), self.classes, self.colours)
        return [*styles, write_share_style(self.path("confidence"))]

    def rasters(self, *, with_area: bool) -> list[Path]:
        """All that are there when they have been written."""
        optional = {"probabilities": "probabilities" in self.layers, "applicability": with_area}
        return [self.path(part) for part in ("class", "confidence", *(p for p, there in optional.items() if there))]


@dataclass(frozen=True)
class _Writers:
    """The open rasters of one map."""

    classes: RasterWriter
    confidence: RasterWriter
    percent: RasterWriter | None
    bands: list[str]

    def write(self, window: Window, data: np.ndarray, probabilities: np.ndarray, *extra: np.ndarray) -> None:
        """Write cells: (row, column) ``data`` and ``extra``, (row, column, class) probabilities."""
        number = np.where(data, probabilities.argmax(axis=2) + 1, NO_CLASS)
        self.classes.write(window, number[None].astype(self.classes.dataset.dtypes[0]))
        layers = [probabilities.max(axis=2), *extra]
        layers += [_MEASURES[name](probabilities) for name in self.bands[len(layers) :]]
        self.confidence.write(window, np.where(data, np.stack(layers), np.nan).astype(np.float32))
        if self.percent:
            percent = np.where(data[..., None], np.rint(100 * probabilities), NO_PERCENT)
            self.percent.write(window, np.moveaxis(percent, 2, 0).astype(np.uint8))


def margin(probabilities: np.ndarray) -> np.ndarray:
    """How far the most probable class is ahead of the second, 0 to 1."""
    if probabilities.shape[2] == 1:
        return probabilities[..., 0]
    two = np.partition(probabilities, -2, axis=2)[..., -2:]
    return two[..., 1] - two[..., 0]


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """Shannon's entropy as a share of the greatest possible one: 0 one class is certain, 1 all are alike."""
    return entr(probabilities).sum(axis=2) / np.log(max(2, probabilities.shape[2]))


_MEASURES = {"margin": margin, "entropy": entropy}


def _map_applicability(
    sheets: Sequence[_Sheet],
    raster: Raster,
    area: Applicability,
    settings: ExportSettings,
    size_px: int,
    held_out: Callable[[Grid], np.ndarray] | None,
) -> list[float]:
    """Write SCENE_applicability.tif and the ensemble's, and tell what share of each map is outside.

    Both bands in one float file: in a GIS the first can be cut at another threshold than that of the
    tags, and overviews of the second are the share of the ground inside.
    """
    told = {"METHOD": METHOD, "THRESHOLD": f"{area.threshold:.9g}"}
    outside, cells = np.zeros(len(sheets), dtype=int), 0
    grid = sheets[0].grid

    def folds(window: Window) -> np.ndarray:
        return held_out(grid.part(window)) if held_out else np.full((window.height, window.width), -1)

    with ExitStack() as stack:
        classes = stack.enter_context(Raster.open(sheets[0].path("class")))
        bands = ["dissimilarity", "applicable"]
        writers = [stack.enter_context(sheet.floats("applicability", bands, **told)) for sheet in sheets]
        data = lambda window: classes.read_raw(window)[0] != NO_CLASS  # noqa: E731
        for part in survey(raster, area, folds, data, size_px=size_px, stride_px=settings.stride_px):
            cells += int(np.isfinite(part.own).sum())
            for i, (writer, values) in enumerate(zip(writers, (part.own, part.ensemble), strict=False)):
                inside = area.applicable(values)
                outside[i] += int((inside == 0).sum())
                writer.write(part.window, np.stack([values, inside]))
    return [count / max(1, cells) for count in outside.tolist()]
