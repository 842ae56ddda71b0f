"""Cut labelled patches out of the scenes.

Reads: data/scenes (grids and masks), data/raw/labels, and for labels of whole scenes the names in
data/raw/scenes; sections ``project``, ``labels`` and ``patches`` and ``ingest.band_order`` of params.yaml.
Writes: data/patches.parquet (GeoParquet) and metrics/patches.json (what was kept, dropped and why).
Refuses: labels that meet no scene or miss one they should name, a class with no patch, an unknown class.
"""

from pathlib import Path

import geopandas
import pandas

from landfold import settings
from landfold.files import write_json, writing
from landfold.labels import LabelSettings, check_ground, read_labels
from landfold.patches import PatchSettings, check_classes, cut_patches, summarize
from landfold.project import ProjectSettings
from landfold.raster import Raster
from landfold.sensors import SceneFiles, find_scenes
from stages import PARAMS, bar, run


def main() -> str:
    """Cut scene by scene, count, write one table."""
    patches = settings.load(PARAMS, "patches", PatchSettings)
    classes = settings.load(PARAMS, "labels", LabelSettings)
    crs = settings.load(PARAMS, "project", ProjectSettings).metric_crs
    labels = read_labels(Path("data/raw/labels"), classes, scenes=Path("data/raw/scenes"), find=_delivered)
    found, grids = {}, {}
    for scene in sorted(Path("data/scenes").glob("*.tif")):
        with Raster.open(scene) as raster, bar(f"patches {scene.stem}") as progress:
            grids[scene.stem] = raster.grid
            found[scene.stem] = cut_patches(scene.stem, raster, labels, patches, crs, progress=progress)
    check_ground(labels, grids, crs)
    parts = list(found.values())
    table = geopandas.GeoDataFrame(pandas.concat([part.table for part in parts], ignore_index=True), crs=crs)
    check_classes(table, classes.names)
    summary = summarize(parts, classes.names) | labels.summary(crs)
    with writing(Path("data/patches.parquet")) as temporary:
        table.to_parquet(temporary, index=False)
    write_json(Path("metrics/patches.json"), summary)
    small = [name for name, part in found.items() if part.dropped["small"]]
    if small:
        print(f"patches: warning: smaller than patches.size_px, without a patch: {', '.join(small)}")
    for warning in labels.warnings:
        print(f"patches: warning: {warning}")
    return f"{summary['kept']} of {summary['windows']} windows kept, dropped {summary['dropped']}"


def _delivered(folder: Path) -> list[SceneFiles]:
    return find_scenes(folder, band_order=settings.value(PARAMS, "ingest.band_order"))


if __name__ == "__main__":
    run(main)
