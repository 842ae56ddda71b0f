"""Maps for a GIS: class and confidence rasters, class polygons, and a picture beside the imagery."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import geopandas
import numpy as np
import pandas
import shapely
from matplotlib.patches import Patch
from pydantic import Field
from rasterio.crs import CRS
from rasterio.features import shapes
from scipy import ndimage

from landfold.applicability import METHOD, Survey
from landfold.errors import LandfoldError
from landfold.folds import read_index
from landfold.grid import Grid
from landfold.inference import map_grid, slide
from landfold.model import Classifier
from landfold.plots import figure
from landfold.raster import Raster, create, to_cog
from landfold.settings import Settings
from landfold.vector import write_geopackage

NO_CLASS = 0
"""Value of a class map where there is no data; class i of the model is i + 1."""

OUTSIDE = (110, 110, 110)
"""Grey of ground outside the area of applicability in the picture; its class shines through."""


class ExportError(LandfoldError):
    """A map that cannot be made."""


class ExportSettings(Settings):
    """Section ``export`` of params.yaml."""

    stride_px: int = Field(ge=1)
    """side of a map cell in pixels of the scene; even when patches.size_px is"""
    min_valid: float = Field(ge=0, le=1)
    """a cell with a smaller share of valid pixels is nodata"""
    applicability: bool
    """whether to map how far the ground is like the training patches, and where it is not"""


@dataclass(frozen=True)
class SceneMap:
    """The map of a scene, all arrays (row, column) on ``grid``.

    ``honest`` is the class number (1 is the first class, 0 nodata) from the fold that never saw the
    cell's zone, ``confidence`` its probability; ``ensemble`` and ``ensemble_confidence`` are those of the
    mean over all folds, ``disagreement`` the share of the folds whose own class is another, and
    ``padded`` the share of the cell's window without data. Floats are NaN where there is no data.
    """

    grid: Grid
    classes: list[str]
    honest: np.ndarray
    confidence: np.ndarray
    ensemble: np.ndarray
    ensemble_confidence: np.ndarray
    disagreement: np.ndarray
    padded: np.ndarray


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


def predict_scene(
    raster: Raster,
    models: Sequence[Classifier],
    folds: np.ndarray,
    settings: ExportSettings,
    *,
    progress: Callable[[float], None] = lambda fraction: None,
) -> SceneMap:
    """Predict a normalized scene with the models of all folds.

    Args:
        raster: the normalized scene.
        models: one of each fold, in the order of the folds.
        folds: of every cell, as `fold_of_cells` gives it; where -1, no model has seen the zone and
            the honest class is the ensemble's.
        settings: stride and the least share of valid pixels.
        progress: is told the fraction that is done.

    Raises:
        ExportError: if the models are not one of each fold, in order: the map would not be honest.
        InferenceError: see `landfold.inference.slide`.
    """
    present = [model.card.fold for model in models]
    if present != list(range(len(models))):
        raise ExportError(f"models of the folds {present}; expected {list(range(len(models)))}; run dvc repro")
    grid = map_grid(raster.grid, settings.stride_px)
    layers = {name: np.full(grid.shape, np.nan, dtype=np.float32) for name in ("own", "mean", "votes", "padded")}
    honest, ensemble = (np.full(grid.shape, NO_CLASS, dtype=np.uint8) for _ in range(2))
    for strip in slide(raster, models, settings.stride_px):
        place = strip.window.toslices()
        data = strip.valid >= max(settings.min_valid, np.finfo(float).tiny)
        mean = strip.probabilities.mean(axis=0)
        fold = folds[place][None, :, :, None]
        own = np.where(fold[0] < 0, mean, np.take_along_axis(strip.probabilities, np.maximum(fold, 0), axis=0)[0])
        votes = strip.probabilities.argmax(axis=3) != mean.argmax(axis=2)
        honest[place] = np.where(data, own.argmax(axis=2) + 1, NO_CLASS)
        ensemble[place] = np.where(data, mean.argmax(axis=2) + 1, NO_CLASS)
        found = {"own": own.max(axis=2), "mean": mean.max(axis=2), "votes": votes.mean(axis=0), "padded": strip.padded}
        for name, values in found.items():
            layers[name][place] = np.where(data, values, np.nan)
        progress((strip.window.row_off + strip.window.height) / grid.height)
    classes = models[0].card.classes
    return SceneMap(grid, classes, honest, layers["own"], ensemble, layers["mean"], layers["votes"], layers["padded"])


def write_map(folder: Path, scene: str, product: SceneMap, colours: list[tuple[int, int, int]]) -> None:
    """Write SCENE_class.tif, SCENE_confidence.tif, the same of the ensemble, and SCENE.gpkg into ``folder``."""
    _write_classes(folder / f"{scene}_class.tif", product.honest, product, colours)
    _write_classes(folder / f"{scene}_ensemble_class.tif", product.ensemble, product, colours)
    confidence = {"confidence": product.confidence, "padded": product.padded}
    _write_floats(folder / f"{scene}_confidence.tif", product.grid, confidence)
    ensemble = {"confidence": product.ensemble_confidence, "disagreement": product.disagreement}
    _write_floats(folder / f"{scene}_ensemble_confidence.tif", product.grid, ensemble)
    write_geopackage(folder / f"{scene}.gpkg", {"classes": class_polygons(product)})


def _write_classes(path: Path, values: np.ndarray, product: SceneMap, colours: list[tuple[int, int, int]]) -> None:
    plain = path.with_suffix(".plain.tif")
    with create(plain, product.grid, ["class"], dtype="uint8", nodata=NO_CLASS) as writer:
        writer.write_classes(values, dict(enumerate(product.classes, 1)), dict(enumerate(colours, 1)))
    to_cog(plain, path, overview_resampling="mode")
    plain.unlink()
    names = "".join(f"<Category>{escape(name)}</Category>" for name in ("nodata", *product.classes))
    sidecar = (
        f'<PAMDataset><PAMRasterBand band="1"><CategoryNames>{names}</CategoryNames></PAMRasterBand></PAMDataset>\n'
    )
    path.with_name(path.name + ".aux.xml").write_text(sidecar, encoding="utf-8")  # where GDAL and QGIS look for names


def write_applicability(folder: Path, scene: str, grid: Grid, found: Survey) -> None:
    """Write SCENE_applicability.tif, which speaks of the class map, and the same of the ensemble's.

    Both bands in one float file: in a GIS the first can be cut at another threshold than that of the
    tags, and overviews of the second are the share of the ground inside.
    """
    tags = {"METHOD": METHOD, "THRESHOLD": f"{found.threshold:.9g}"}
    layers = {"applicability": found.own, "ensemble_applicability": found.ensemble}
    for name, values in layers.items():
        bands = {"dissimilarity": values, "applicable": found.applicable(values)}
        _write_floats(folder / f"{scene}_{name}.tif", grid, bands, tags)


def _write_floats(path: Path, grid: Grid, bands: dict[str, np.ndarray], tags: dict[str, str] | None = None) -> None:
    plain = path.with_suffix(".plain.tif")
    with create(plain, grid, list(bands), dtype="float32", nodata=np.nan, tags=tags) as writer:
        writer.write(grid.whole, np.stack(list(bands.values())))
    to_cog(plain, path, overview_resampling="average")
    plain.unlink()


def class_polygons(product: SceneMap) -> geopandas.GeoDataFrame:
    """Connected cells of one class as polygons: class, area in m2, mean confidence; largest first.

    Cells that touch at a corner only are two polygons, so that each is a valid one.
    """
    pieces = np.zeros(product.grid.shape, dtype=np.int32)
    count = 0
    for number in range(1, len(product.classes) + 1):
        found, several = ndimage.label(product.honest == number)
        pieces[found > 0] = found[found > 0] + count
        count += several
    if count == 0:
        raise ExportError("the map has no cell with data; lower export.min_valid")
    inside = pieces > 0
    sizes = np.bincount(pieces[inside], minlength=count + 1)
    sums = np.bincount(pieces[inside], weights=product.confidence[inside], minlength=count + 1)
    rows: list[dict[str, Any]] = []
    first = dict(zip(*np.unique(pieces, return_index=True), strict=True))
    for geometry, value in shapes(pieces, mask=inside, transform=product.grid.transform):
        piece = int(value)
        polygon = shapely.geometry.shape(geometry)
        rows.append(
            {
                "class": product.classes[product.honest.ravel()[first[piece]] - 1],
                "area_m2": polygon.area,
                "confidence": round(sums[piece] / sizes[piece], 4),
                "geometry": polygon,
            }
        )
    table = geopandas.GeoDataFrame(rows, crs=product.grid.crs)
    return table.sort_values("area_m2", ascending=False, kind="stable", ignore_index=True)


def picture(
    path: Path,
    scene: Raster,
    product: SceneMap,
    colours: list[tuple[int, int, int]],
    outside: np.ndarray | None = None,
) -> None:
    """The imagery in natural colours and the map below it, greyed in the cells that are ``outside``."""
    names = [name if name in scene.names else scene.names[0] for name in ("R", "G", "B")]
    imagery = np.moveaxis(scene.thumbnail(names, longest_px=1600), 0, -1)
    painted = np.array([(255, 255, 255), *colours], dtype=np.uint8)[product.honest]
    if outside is not None:
        painted[outside] = np.round(0.35 * painted[outside] + 0.65 * np.array(OUTSIDE))
    left, bottom, right, top = scene.grid.bounds
    aspect = (top - bottom) / (right - left)
    with figure(path, width=9, height=9 * (0.25 + 2.6 * aspect)) as drawing:
        above, below = drawing.subplots(2, 1, sharex=True, sharey=True)
        above.imshow(imagery, extent=(left, right, bottom, top), interpolation="antialiased")
        above.set_title(f"{scene.dataset.tags().get('SCENE') or Path(scene.dataset.name).stem}, natural colours")
        x_min, y_min, x_max, y_max = product.grid.bounds
        below.imshow(painted, extent=(x_min, x_max, y_min, y_max), interpolation="nearest")
        below.set_title("land cover; every zone from the fold that never saw it")
        present = [i for i in range(len(product.classes)) if (product.honest == i + 1).any()]
        handles = [Patch(color=np.array(colours[i]) / 255, label=product.classes[i]) for i in present]
        if outside is not None:
            share = outside.sum() / max(1, (product.honest > 0).sum())
            label = f"greyed: outside the area of applicability, {100 * share:.1f} %"
            handles.append(Patch(color=np.array(OUTSIDE) / 255, label=label))
        below.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.06), ncols=4, frameon=False)
        for axes in (above, below):
            axes.set_xlim(left, right)
            axes.set_ylim(bottom, top)
            axes.ticklabel_format(useOffset=False, style="plain")
            axes.tick_params(labelsize=7)
