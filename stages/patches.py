"""Cut labelled patches out of the scenes.

Reads: data/scenes (grids and masks), data/raw/labels; sections ``project``, ``labels`` and
``patches`` of params.yaml.
Writes: data/patches.parquet (GeoParquet) and metrics/patches.json (what was kept, dropped and why).
Refuses: labels that meet no scene, a class with no patch, an unknown class.
"""

from pathlib import Path

import geopandas
import pandas

from landfold import settings
from landfold.files import write_json, writing
from landfold.labels import LabelSettings, overlap_area, read_polygons
from landfold.patches import PatchSettings, check_classes, cut_patches, summarize
from landfold.project import ProjectSettings
from landfold.raster import Raster
from stages import PARAMS, bar, run


def main() -> str:
    """Cut scene by scene, count, write one table."""
    patches = settings.load(PARAMS, "patches", PatchSettings)
    classes = settings.load(PARAMS, "labels", LabelSettings)
    crs = settings.load(PARAMS, "project", ProjectSettings).metric_crs
    labels = read_polygons(Path("data/raw/labels"), classes)
    found = []
    for scene in sorted(Path("data/scenes").glob("*.tif")):
        with Raster.open(scene) as raster, bar(f"patches {scene.stem}") as progress:
            found.append(cut_patches(scene.stem, raster, labels, patches, crs, progress=progress))
    table = geopandas.GeoDataFrame(pandas.concat([part.table for part in found], ignore_index=True), crs=crs)
    check_classes(table, classes.names)
    summary = summarize(found, classes.names) | {"label_overlap_m2": round(overlap_area(labels.polygons.to_crs(crs)))}
    with writing(Path("data/patches.parquet")) as temporary:
        table.to_parquet(temporary, index=False)
    write_json(Path("metrics/patches.json"), summary)
    return f"{summary['kept']} of {summary['windows']} windows kept, dropped {summary['dropped']}"


if __name__ == "__main__":
    run(main)
