"""Map every scene: each zone by the fold that never saw it, and the ensemble of all folds beside it.

Reads: data/normalized, data/labels, data/statistics, data/scenes/report.json (dates, cloud), data/patches.parquet,
data/folds/kK, models/kK, data/calibration.json; sections ``project``, ``zones``, ``machine``, ``export`` and
``colours`` of params.yaml.
Writes: data/maps/SCENE_class.tif, SCENE_confidence.tif, SCENE_ensemble_class.tif, SCENE_ensemble_confidence.tif,
their styles, SCENE_stac.json where the date is known, and by settings of ``export`` SCENE.gpkg and other polygons,
SCENE_probabilities.tif, SCENE_applicability.tif with applicability.json, of each raster the ensemble's, and of several
scenes mosaic_class.tif and mosaic_confidence.tif with style and item.
Refuses: a stride that does not centre windows on cells, models that do not fit the scene, a stale fold.
"""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import geopandas
import numpy as np
from rasterio.crs import CRS

from landfold.core.digests import file_sha256, model_digest
from landfold.core.files import read_json, write_json, writing_folder
from landfold.folds.lists import fold_of_zone, read_assignment
from landfold.folds.merging import written_zones
from landfold.folds.settings import ZoneSettings
from landfold.folds.split import TEST
from landfold.geo.grid import Grid
from landfold.geo.raster import Raster
from landfold.maps.applicability import Applicability
from landfold.maps.export import MapModels, NormalizedScene, lineage_tags, write_scene_map
from landfold.maps.foldmodels import fold_of_cells, load_fold_models, zone_of_learned_ground
from landfold.maps.mosaic import write_mosaic
from landfold.network.card import ModelCard
from landfold.network.model import pick_device
from landfold.pixels.calibration import read_calibrations
from stages import Params, bar, run


def main(params: Params) -> str:
    """Map scene by scene."""
    export = params.export
    zones = params.zones
    crs = params.project.metric_crs
    device = pick_device(params.machine.device)
    folds, fitted = Path(f"data/folds/k{zones.k}"), Path(f"models/k{zones.k}")
    classifiers = load_fold_models(fitted, folds, device)
    card = classifiers[0].card
    colours = params.colours.rgb(card.classes)
    data = {"patches": Path("data/patches.parquet"), "normalized": Path("data/normalized")}
    area = Applicability.of_folds(folds, len(classifiers), **data) if export.applicability else None
    weights = [file_sha256(fitted / f"fold_{fold}/model.safetensors") for fold in range(len(classifiers))]
    calibrations = read_calibrations(Path("data/calibration.json")) if export.calibrated else None
    held_out = _held_out(zones, folds, crs, card)
    models = MapModels(classifiers, colours, model_digest(weights), held_out, area, calibrations)
    reports = {report["scene"]: report for report in read_json(Path("data/scenes/report.json"))["scenes"]}
    cell_m = (export.stride_px or 1) * card.resolution_m
    scenes, maps = sorted(Path("data/normalized").glob("*.tif")), {}
    with writing_folder(Path("data/maps")) as folder:
        for scene in scenes:
            with Raster.open(scene) as raster, bar(f"export {scene.stem}") as progress:
                statistics = file_sha256(Path(f"data/statistics/{scene.stem}.json"))
                told = {name: reports.get(scene.stem, {}).get(name) for name in ("acquired", "cloud_fraction")}
                mapped = NormalizedScene(scene.stem, raster, statistics, labels=_labels(scene.stem), **told)
                maps[scene.stem] = write_scene_map(folder, mapped, models, export, progress=progress)
        if area:
            shares = {name: {k: v for k, v in asdict(part).items() if k != "files"} for name, part in maps.items()}
            write_json(folder / "applicability.json", area.summary() | {"scenes": shares})
        if export.mosaic != "none" and len(maps) > 1:
            acquired = {name: reports.get(name, {}).get("acquired") for name in maps}
            tags = lineage_tags(models.tags, export, card)
            write_mosaic(folder, acquired, export.mosaic, models.legend, crs=crs, cell_m=cell_m, tags=tags)
    line = f"{len(scenes)} scenes mapped in cells of {cell_m:g} m"
    if not area:
        return line
    share = sum(part.outside * part.cells for part in maps.values()) / max(1, sum(p.cells for p in maps.values()))
    return f"{line}; {100 * share:.1f} % of the ground is outside the area of applicability"


def _labels(scene: str) -> Path | None:
    """The raster of a scene's labels, which there is in unit pixel."""
    path = Path(f"data/labels/{scene}.tif")
    return path if path.is_file() else None


def _held_out(zones: ZoneSettings, folds: Path, crs: CRS, card: ModelCard) -> Callable[[Grid], np.ndarray]:
    """Tells of the cells of a grid which fold held out their ground."""
    assigned, patches = read_assignment(folds), geopandas.read_parquet("data/patches.parquet")
    areas = geopandas.read_file(folds / "zones.gpkg", layer="zones")
    zone_of = written_zones(zones, patches, assigned["zone"], areas).at
    if not card.model.of_pixels:
        folded = (assigned["fold"] != TEST).to_numpy()
        footprints, names = patches.geometry.to_numpy(), assigned["zone"].to_numpy(object)
        zone_of = zone_of_learned_ground(zone_of, footprints[folded], names[folded])
    return partial(fold_of_cells, crs=crs, zone_of=zone_of, fold_of_zone=fold_of_zone(assigned))


if __name__ == "__main__":
    run(main)
