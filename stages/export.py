"""Map every scene: each zone by the fold that never saw it, and the ensemble of all folds beside it.

Reads: data/normalized, data/patches.parquet, data/folds/kK, models/kK; sections ``project``, ``zones``,
``train`` (the device), ``export`` and ``colours`` of params.yaml.
Writes: data/maps/SCENE_class.tif, SCENE_confidence.tif, SCENE_ensemble_class.tif,
SCENE_ensemble_confidence.tif, SCENE.gpkg; with ``export.applicability`` SCENE_applicability.tif,
SCENE_ensemble_applicability.tif and applicability.json; metrics/plots/map.png of the first scene.
Refuses: a stride that does not centre windows on cells, models that do not fit the scene, a stale fold.
"""

from pathlib import Path

import geopandas
import pandas

from landfold import settings
from landfold.applicability import Applicability, survey
from landfold.colours import ColourSettings
from landfold.export import (
    ExportSettings,
    fold_of_cells,
    load_folds,
    picture,
    predict_scene,
    write_applicability,
    write_map,
)
from landfold.features import patch_features
from landfold.files import write_json, writing_folder
from landfold.folds import fold_of_zone
from landfold.inference import map_grid
from landfold.model import pick_device
from landfold.project import ProjectSettings
from landfold.raster import Raster
from landfold.zones import ZoneSettings, written_zones
from stages import PARAMS, bar, run


def main() -> str:
    """Map scene by scene."""
    export = settings.load(PARAMS, "export", ExportSettings)
    zones = settings.load(PARAMS, "zones", ZoneSettings)
    crs = settings.load(PARAMS, "project", ProjectSettings).metric_crs
    device = pick_device(settings.value(PARAMS, "train.device"))
    folds = Path(f"data/folds/k{zones.k}")
    models = load_folds(Path(f"models/k{zones.k}"), folds, device)
    colours = settings.load(PARAMS, "colours", ColourSettings).rgb(models[0].card.classes)
    assigned = pandas.read_parquet(folds / "patches.parquet")
    areas = geopandas.read_file(folds / "zones.gpkg", layer="zones")
    zone_of = written_zones(zones, pandas.read_parquet("data/patches.parquet"), assigned["zone"], areas).at
    scenes = sorted(Path("data/normalized").glob("*.tif"))
    area = _area(folds, len(models)) if export.applicability else None
    first, surveys = None, []
    with writing_folder(Path("data/maps")) as folder:
        for scene in scenes:
            with Raster.open(scene) as raster, bar(f"export {scene.stem}") as progress:
                held_out = fold_of_cells(map_grid(raster.grid, export.stride_px), crs, zone_of, fold_of_zone(assigned))
                product = predict_scene(raster, models, held_out, export, progress=progress)
                write_map(folder, scene.stem, product, colours)
                first = first or product
                if area:
                    size, has_class = models[0].card.size_px, product.honest > 0
                    found = survey(raster, area, held_out, has_class, size_px=size, stride_px=export.stride_px)
                    write_applicability(folder, scene.stem, product.grid, found)
                    surveys.append(found)
        if area:
            told = {scene.stem: found.summary() for scene, found in zip(scenes, surveys, strict=True)}
            write_json(folder / "applicability.json", area.summary() | {"scenes": told})
    with Raster.open(scenes[0]) as raster:
        picture(Path("metrics/plots/map.png"), raster, first, colours, surveys[0].outside if area else None)
    line = f"{len(scenes)} scenes mapped in cells of {export.stride_px * models[0].card.resolution_m:g} m"
    if not area:
        return line
    share = sum(found.outside.sum() for found in surveys) / sum(part["cells"] for part in told.values())
    return f"{line}; {100 * share:.1f} % of the ground is outside the area of applicability"


def _area(folds: Path, k: int) -> Applicability:
    """The area of applicability of the folds' models, from the statistics of their training patches."""
    patches = pandas.read_parquet("data/patches.parquet")
    sides = [pandas.read_parquet(folds / f"fold_{fold}.parquet").set_index("patch")["side"] for fold in range(k)]
    return Applicability.of(patch_features(patches, Path("data/normalized")), patches["label"].to_numpy(), sides)


if __name__ == "__main__":
    run(main)
