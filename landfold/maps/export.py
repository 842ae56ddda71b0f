"""All files of a scene's map for a GIS, written strip by strip in bounded memory.

The tags of every raster say what it was made from: ``MODEL_SHA256`` and ``STATISTICS_SHA256`` (of the scene's
statistics), ``PARAMS_SHA256`` of the settings that decide its numbers, with those of the network and its training,
``CODE_SHA256`` of the code, ``LANDFOLD_VERSION`` and ``ARITHMETIC``, what computed it; a class raster has ``SIEVE_PX``
too. The git commit is in no file: DVC hashes the files, and the commit holds those hashes. The digest of the code
stands for it, and dvc.lock connects both.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rasterio.windows import Window

from landfold import __version__
from landfold.core.digests import code_digest, params_digest
from landfold.core.errors import LandfoldError
from landfold.geo.grid import Grid
from landfold.geo.raster import Raster
from landfold.maps.applicability import METHOD, Applicability, map_dissimilarity
from landfold.maps.classmap import NO_CLASS
from landfold.maps.files import MapFiles, MapWriter, write_labels
from landfold.maps.inference import WindowClassifier, map_grid, predict_scene
from landfold.maps.polygons import write_polygons
from landfold.maps.settings import ExportSettings
from landfold.maps.stac import write_item
from landfold.network.card import ModelCard
from landfold.pixels.calibration import Calibrations

MAP_ROOMS = ("core", "geo", "patches", "folds", "pixels", "classical", "network", "maps")
"""Folders of code that decide a map: the same as in dvc.yaml."""

NUMBERS = {"stride_px", "offsets", "flips_and_rotations", "min_valid", "sieve_px", "calibrated"}
"""Settings that decide the numbers in a raster; the others say which files there are."""


PIXEL_BLOCK_PX = 4
"""Side of the blocks of pixels whose dissimilarity is that of one window around them, in a map of pixels: neighbouring
windows of 16 px have almost the same statistics, and the search takes 16 times less. It is 3 for windows of an odd
side, which then have their centres on those of blocks."""


class ExportError(LandfoldError):
    """A map that cannot be made."""


@dataclass(frozen=True)
class NormalizedScene:
    """A scene to be mapped.

    Attributes:
        name: files begin with it; also the identifier of the STAC item.
        raster: open, channels in the order of the models' cards.
        statistics_sha256: digest of the statistics that normalized it.
        labels: raster of its reference labels; None: there is none, or it is not wanted.
        acquired: date (YYYY-MM-DD) or RFC 3339 time; None if unknown, and then there is no STAC item.
        cloud_fraction: share of the scene that is masked as cloud, for the tag CLOUD_FRACTION; None: unknown.
    """

    name: str
    raster: Raster
    statistics_sha256: str
    acquired: str | None = None
    labels: Path | None = None
    cloud_fraction: float | None = None


@dataclass(frozen=True)
class MapModels:
    """The models that a map is made with.

    Attributes:
        classifiers: one of each fold, in the order of the folds; any number of any folds without ``held_out``.
        colours: red, green and blue (0 to 255) of every class, in the order of the models' outputs.
        sha256: digest of all weights, see `landfold.core.digests.model_digest`.
        held_out: gives for a grid of cells the fold that held out the zone of each, (row, column), -1 for none: no
            model of the first repeat has learned from that zone, and their mean is used. None: the mean of all models
            is used everywhere.
        area: the area of applicability; None: it is not mapped.
        calibrations: what probabilities are scaled by, of each model where there is ``held_out``; None: they are not.

    Raises:
        ExportError: with ``held_out``, if the classifiers are not one of each fold, in order: a cell could then be
            predicted by a model that was trained on it.
    """

    classifiers: Sequence[WindowClassifier]
    colours: Sequence[tuple[int, int, int]]
    sha256: str
    held_out: Callable[[Grid], np.ndarray] | None = None
    area: Applicability | None = None
    calibrations: Calibrations | None = None

    def __post_init__(self) -> None:
        present, expected = [model.card.fold for model in self.classifiers], list(range(len(self.classifiers)))
        if self.held_out and present != expected:
            raise ExportError(f"models of the folds {present}; expected {expected}; run dvc repro")
        if self.held_out and self.calibrations and len(self.calibrations.folds) != len(expected):
            raise ExportError(
                f"calibration of {len(self.calibrations.folds)} folds; expected {len(expected)}; run dvc repro evaluate"
            )

    @property
    def card(self) -> ModelCard:
        """The card of the first model; channels, classes and sizes are those of all."""
        return self.classifiers[0].card

    @property
    def tags(self) -> dict[str, str]:
        """What says of a map by which weights and which arithmetic it was made."""
        from landfold.network.model import arithmetic  # torch takes seconds to import

        return {"MODEL_SHA256": self.sha256, "ARITHMETIC": arithmetic(self.classifiers[0].device)}

    @property
    def legend(self) -> dict[str, tuple[int, int, int]]:
        """Name to colour of every class, in the order of the models' outputs."""
        return dict(zip(self.card.classes, self.colours, strict=True))


@dataclass(frozen=True)
class SceneMapResult:
    """What `write_scene_map` wrote.

    Attributes:
        files: sorted.
        cells: number of cells with data.
        outside: share of them outside the area of applicability; None without one.
        ensemble_outside: the same share for the map of the mean over all models.
    """

    files: list[Path]
    cells: int
    outside: float | None = None
    ensemble_outside: float | None = None


def write_scene_map(
    folder: Path,
    scene: NormalizedScene,
    models: MapModels,
    settings: ExportSettings,
    *,
    progress: Callable[[float], None] = lambda fraction: None,
) -> SceneMapResult:
    """Predict a normalized scene and write all files of its map into ``folder``, in bounded memory.

    Without ``models.held_out`` (``landfold predict``) the map is that of the mean over all models: SCENE_class.tif,
    SCENE_confidence.tif, ... With it (stage export) these files hold the out-of-fold map, every cell predicted by the
    model that was not trained on its zone, and SCENE_ensemble_class.tif, ... that of the mean beside it. Polygons and
    the STAC item's classes are those of SCENE_class.tif.

    Args:
        folder: exists; files of the same names are replaced.
        scene: what is mapped.
        models: what it is mapped with.
        settings: section ``export``.
        progress: is called with the fraction that is done.

    Raises:
        InferenceError: see `landfold.maps.inference.predict_windows`.
    """
    cloud = "unknown" if scene.cloud_fraction is None else f"{scene.cloud_fraction:g}"
    tags = lineage_tags(models.tags | {"STATISTICS_SHA256": scene.statistics_sha256}, settings, models.card) | {
        "CLOUD_FRACTION": cloud
    }
    grid = map_grid(scene.raster.grid, settings.stride_px)
    main = MapFiles(folder / scene.name, grid, models.legend, settings.layers, settings.sieve_px, tags)
    maps = [main, replace(main, stem=folder / f"{scene.name}_ensemble")] if models.held_out else [main]
    cells = _write_predictions(maps, scene.raster, models, settings, progress)
    outside = _write_applicability(maps, scene.raster, models, settings) if models.area else [None]
    files = [path for part in maps for path in part.write_styles(models.area and models.area.threshold)]
    files += write_polygons(*map(main.path, ("class", "confidence")), main.stem, settings.polygons, models.legend)
    files += [path for part in maps for path in part.rasters(with_applicability=models.area is not None)]
    if scene.labels:
        files += write_labels(folder / f"{scene.name}_labels.tif", scene.labels, models.legend, tags)
    if scene.acquired:
        acquired = [scene.acquired]
        files.append(write_item(folder, scene.name, files, acquired=acquired, classes=models.legend, lineage=tags))
    return SceneMapResult(sorted(files), cells, outside[0], outside[-1])


def lineage_tags(known: Mapping[str, str], settings: ExportSettings, card: ModelCard) -> dict[str, str]:
    """The tags of a raster (see the top of this module): ``known`` ones, and those of settings, code and version."""
    made_with = {"export": settings.model_dump(include=NUMBERS), "model": card.model.model_dump(), "train": card.train}
    return {
        **known,
        "PARAMS_SHA256": params_digest(made_with),
        "CODE_SHA256": code_digest(*MAP_ROOMS),
        "LANDFOLD_VERSION": __version__,
    }


def _write_predictions(
    maps: Sequence[MapFiles],
    raster: Raster,
    models: MapModels,
    settings: ExportSettings,
    progress: Callable[[float], None],
) -> int:
    """Write class, confidence and probabilities of the map, or of the out-of-fold map and the ensemble's.

    Returns:
        The number of cells with data.
    """
    grid, cells = maps[0].grid, 0
    strips = predict_scene(raster, models.classifiers, settings)
    sets = ["set_size"] if "set_size" in settings.layers else []
    extra = [["padded"], ["disagreement"]] if models.held_out else [["padded", "disagreement"]]
    with ExitStack() as stack:
        writers = [stack.enter_context(part.open(*bands, *sets)) for part, bands in zip(maps, extra, strict=True)]
        for strip in strips:
            data = strip.valid >= max(settings.min_valid, np.finfo(float).tiny)
            mean = strip.probabilities.mean(axis=0)
            disagreement = (strip.probabilities.argmax(axis=3) != mean.argmax(axis=2)).mean(axis=0)
            if models.held_out:
                folds = models.held_out(grid.part(strip.window))
                out_of_fold = _of_fold(strip.probabilities[: models.card.k], folds)
                _write_scaled(writers[0], strip.window, data, models, out_of_fold, [strip.padded], folds)
                _write_scaled(writers[1], strip.window, data, models, mean, [disagreement])
            else:
                _write_scaled(writers[0], strip.window, data, models, mean, [strip.padded, disagreement])
            cells += int(data.sum())
            right = (strip.window.col_off + strip.window.width) / grid.width
            progress((strip.window.row_off + strip.window.height * right) / grid.height)
    return cells


def _write_scaled(
    writer: MapWriter,
    window: Window,
    data: np.ndarray,
    models: MapModels,
    probabilities: np.ndarray,
    layers: list[np.ndarray],
    folds: np.ndarray | int = -1,
) -> None:
    """Write probabilities of the models of these folds, -1 for the mean of all, scaled if there is a calibration."""
    if models.calibrations:
        probabilities = models.calibrations.scale(probabilities, folds)
        if "set_size" in writer.bands:
            layers = [*layers, models.calibrations.sets(probabilities, folds).sum(axis=2)]
    writer.write(window, data, probabilities, *layers)


def _of_fold(probabilities: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Of each cell the probabilities (row, column, class) of the model of its fold, the mean where there is none.

    Args:
        probabilities: (model, row, column, class) by the models of one repeat.
        folds: (row, column), -1 for none.
    """
    fold = folds[None, :, :, None]
    own = np.take_along_axis(probabilities, np.maximum(fold, 0), axis=0)[0]
    return np.where(fold[0] < 0, probabilities.mean(axis=0), own)


def _write_applicability(
    maps: Sequence[MapFiles], raster: Raster, models: MapModels, settings: ExportSettings
) -> list[float]:
    """Write SCENE_applicability.tif, and the ensemble's if there is one, after the class rasters.

    Both bands are in one float file: in a GIS the first can be cut at another threshold than that of the tags, and
    overviews of the second are the share of the ground inside.

    Returns:
        The share of each map's cells that is outside.
    """
    area, tags = models.area, {"METHOD": METHOD, "THRESHOLD": f"{models.area.threshold:.9g}"}
    outside, cells = np.zeros(len(maps), dtype=int), 0

    def folds(window: Window) -> np.ndarray:
        return (
            models.held_out(maps[0].grid.part(window))
            if models.held_out
            else np.full((window.height, window.width), -1)
        )

    with ExitStack() as stack:
        classes = stack.enter_context(Raster.open(maps[0].path("class")))
        bands = ["dissimilarity", "applicable"]
        writers = [stack.enter_context(part.create_float("applicability", bands, **tags)) for part in maps]
        data = lambda window: classes.read_raw(window)[0] != NO_CLASS  # noqa: E731
        block_px = min(PIXEL_BLOCK_PX - area.size_px % 2, area.size_px)
        sizes = {"stride_px": settings.stride_px or block_px, "cell_px": settings.stride_px or 1}
        for strip in map_dissimilarity(raster, area, folds, data, **sizes):
            cells += int(np.isfinite(strip.out_of_fold).sum())
            for i, (writer, values) in enumerate(zip(writers, (strip.out_of_fold, strip.ensemble), strict=False)):
                inside = area.applicable(values)
                outside[i] += int((inside == 0).sum())
                writer.write(strip.window, np.stack([values, inside]))
    return [count / max(1, cells) for count in outside.tolist()]
