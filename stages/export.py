"""Map every scene: each zone by the fold that never saw it, and the ensemble of all folds beside it.

Reads: data/normalized, data/folds/kK, models/kK; sections ``project``, ``zones``, ``train`` (the device),
``export`` and ``colours`` of params.yaml.
Writes: data/maps/SCENE_class.tif, SCENE_confidence.tif, SCENE_ensemble_class.tif,
SCENE_ensemble_confidence.tif, SCENE.gpkg; metrics/plots/map.png of the first scene.
Refuses: a stride that does not centre windows on cells, models that do not fit the scene, a stale fold.
"""

from functools import partial
from pathlib import Path

import pandas

from landfold import settings
from landfold.colours import ColourSettings
from landfold.export import ExportSettings, fold_of_cells, load_folds, picture, predict_scene, write_map
from landfold.files import writing_folder
from landfold.inference import map_grid
from landfold.model import pick_device
from landfold.project import ProjectSettings
from landfold.raster import Raster
from landfold.zones import ZoneSettings, grid_zones
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
    patches = pandas.read_parquet(folds / "patches.parquet")
    fold_of_zone = dict(zip(patches["zone"], patches["fold"], strict=True))
    zone_of = partial(grid_zones, block_size_m=zones.block_size_m, origin_m=zones.origin_m)
    scenes = sorted(Path("data/normalized").glob("*.tif"))
    first = None
    with writing_folder(Path("data/maps")) as folder:
        for scene in scenes:
            with Raster.open(scene) as raster, bar(f"export {scene.stem}") as progress:
                held_out = fold_of_cells(map_grid(raster.grid, export.stride_px), crs, zone_of, fold_of_zone)
                product = predict_scene(raster, models, held_out, export, progress=progress)
                write_map(folder, scene.stem, product, colours)
                first = first or product
    with Raster.open(scenes[0]) as raster:
        picture(Path("metrics/plots/map.png"), raster, first, colours)
    return f"{len(scenes)} scenes mapped in cells of {export.stride_px * models[0].card.resolution_m:g} m"


if __name__ == "__main__":
    run(main)
