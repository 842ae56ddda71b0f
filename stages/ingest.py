"""Put every delivered scene on one grid, in reflectance, with its mask.

Reads: data/raw/scenes; sections ``project`` and ``ingest`` of params.yaml.
Writes: data/scenes/SCENE.tif and data/scenes/report.json.
Refuses: no CRS, a CRS or grid that ingest.crs_policy does not allow, unreadable or missing bands, grids
that do not fit each other, a raster of ingest's own, too few valid pixels.
"""

from pathlib import Path

from landfold import settings
from landfold.errors import LandfoldError
from landfold.files import write_json, writing_folder
from landfold.grid import GridError
from landfold.ingest import IngestSettings, ingest_scene
from landfold.project import ProjectSettings
from landfold.raster import RasterError
from landfold.sensors import find_scenes
from landfold.sensors.scenes import SceneError
from stages import PARAMS, bar, run


def main() -> str:
    """Ingest scene by scene."""
    ingest = settings.load(PARAMS, "ingest", IngestSettings)
    project = settings.load(PARAMS, "project", ProjectSettings)
    found = find_scenes(Path("data/raw/scenes"), band_order=ingest.band_order)
    reports, refusals = [], {}
    with writing_folder(Path("data/scenes")) as folder:
        for scene in found:
            try:
                with bar(f"ingest {scene.name}") as progress:
                    target = folder / f"{scene.name}.tif"
                    reports.append(ingest_scene(scene, ingest, project.metric_crs, target, progress=progress))
            except (SceneError, GridError, RasterError) as error:
                refusals[scene.name] = str(error)
        if refusals and (ingest.on_refusal == "error" or not reports):
            raise LandfoldError("\n".join(refusals.values()))
        write_json(folder / "report.json", {"scenes": reports, "refusals": refusals})
    for name, reason in refusals.items():
        print(f"ingest: left out {name}: {reason}")
    for report in reports:
        for warning in report["warnings"]:
            print(f"ingest: {report['scene']}: warning: {warning}")
    return f"{len(reports)} of {len(found)} scenes, bands {' '.join(ingest.bands)}"


if __name__ == "__main__":
    run(main)
