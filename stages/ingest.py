"""Put every delivered scene on one grid, in reflectance, with its mask.

Reads: data/raw/scenes; sections ``project`` and ``ingest`` of params.yaml.
Writes: data/scenes/SCENE.tif and data/scenes/report.json.
Refuses: no CRS, a CRS or grid that ingest.crs_policy does not allow, unreadable, damaged or missing bands, grids
that do not fit each other, a raster of ingest's own, fill that is not declared, too few valid pixels.
"""

from dataclasses import replace
from pathlib import Path

from landfold.core.digests import code_digest
from landfold.core.errors import LandfoldError, first_ten
from landfold.core.files import write_json, writing_folder
from landfold.geo.dataset import RasterError
from landfold.geo.grid import GridError
from landfold.scenes.cache import SceneTask, run_cached
from landfold.scenes.ingest import ingest_scene, lattice_origin
from landfold.scenes.sensors import SceneFiles, find_scenes
from landfold.scenes.sensors.scene_files import SceneError
from stages import Params, bar, run

CODE = code_digest("core", "geo", "scenes", scripts=[Path(__file__)])


def main(params: Params) -> str:
    """Ingest scene by scene; what is unchanged is kept."""
    ingest = params.ingest
    project = params.project
    found = find_scenes(Path("data/raw/scenes"), band_order=ingest.band_order, mask_file=ingest.mask_file)
    crs = project.metric_crs
    origin = lattice_origin(found, ingest, crs)
    read = ingest.model_dump(mode="json", exclude={"on_refusal", "band_order"}) | {"crs": project.crs, "origin": origin}
    with writing_folder(Path("data/scenes")) as folder:

        def scene(delivered: SceneFiles) -> SceneTask:
            files = replace(delivered, warnings=[])  # which tell of the files of no scene beside it
            paths = sorted({file.path for file in (*files.bands.values(), *files.masks)})
            target = folder / f"{files.name}.tif"
            return SceneTask(
                files.name,
                paths,
                [target],
                lambda progress: ingest_scene(files, ingest, crs, target, origin=origin, progress=progress),
                files,
            )

        outcome = run_cached(
            "ingest", map(scene, found), read, code=CODE, bar=bar, refusals=(SceneError, GridError, RasterError)
        )
        reports = [
            report | {"warnings": [*files.warnings, *report["warnings"]]}
            for files in found
            if (report := outcome.results.get(files.name))
        ]
        if outcome.refusals and (ingest.on_refusal == "error" or not reports):
            raise LandfoldError("\n".join(outcome.refusals.values()))
        write_json(folder / "report.json", {"scenes": reports, "refusals": outcome.refusals})
    for name, reason in outcome.refusals.items():
        print(f"ingest: left out {name}: {reason}")
    warned: dict[str, list[str]] = {}
    for report in reports:
        for warning in report["warnings"]:
            warned.setdefault(warning, []).append(report["scene"])
    for warning, names in warned.items():
        print(f"ingest: warning: {first_ten(names)}: {warning}")
    return f"{len(reports)} of {len(found)} scenes, bands {' '.join(ingest.bands)}, {outcome.tally}"


if __name__ == "__main__":
    run(main)
