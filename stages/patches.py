"""Cut labelled patches out of the scenes, and write the class of each pixel where pixels have labels.

Reads: data/scenes (grids and masks), data/raw/labels, and for labels of whole scenes the names in
data/raw/scenes; sections ``project``, ``labels`` and ``patches``, ``ingest.band_order`` and ``ingest.mask_file``.
Writes: data/patches.parquet (GeoParquet), metrics/patches.json (what was kept, dropped and why), and data/labels:
index.json, and with ``labels.unit: pixel`` SCENE.tif.
Refuses: labels that meet no scene or miss one they should name, an unknown class, a class with no patch or, with
``labels.unit: pixel``, with no pixel.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

from landfold.core.digests import code_digest
from landfold.core.files import write_json, writing, writing_folder
from landfold.geo.raster import Raster
from landfold.patches.cut import check_classes, concat_patches, cut_patches, patch_summary
from landfold.patches.labels import check_ground, read_labels
from landfold.patches.pixels import check_pixels, pixel_counts, pixel_summary, pixel_warnings, write_label_raster
from landfold.scenes.cache import Progress, SceneTask, run_cached
from landfold.scenes.sensors import find_scenes
from stages import Params, bar, run

CODE = code_digest("core", "geo", "scenes", "patches", scripts=[Path(__file__)])


def main(params: Params) -> str:
    """Cut scene by scene, count, write one table; what is unchanged is kept."""
    patches = params.patches
    classes = params.labels
    by_pixel = classes.unit == "pixel"
    crs = params.project.metric_crs
    delivered = partial(find_scenes, band_order=params.ingest.band_order, mask_file=params.ingest.mask_file)
    labels = read_labels(Path("data/raw/labels"), classes, scenes=Path("data/raw/scenes"), find=delivered)
    grids = {}
    with writing_folder(Path("data/labels")) as folder:

        def scene(file: Path) -> SceneTask:
            target = folder / file.name

            def cut(progress: Progress) -> bytes:
                with Raster.open(file) as raster:
                    found = cut_patches(file.stem, raster, labels, patches, crs, progress=progress)
                    if by_pixel:
                        found = replace(found, pixels=write_label_raster(target, file.stem, raster, labels))
                    return found.to_arrow()

            with Raster.open(file) as raster:
                grids[file.stem] = raster.grid
            fingerprint = labels.fingerprint_for_scene(file.stem, grids[file.stem])
            reads = [file, Path("data/raw/labels")] if fingerprint is None else [file]
            return SceneTask(file.stem, reads, [target] if by_pixel else [], cut, fingerprint)

        of_scenes = {"patches": patches, "labels": classes}
        read = {name: section.model_dump(mode="json") for name, section in of_scenes.items()} | {"crs": crs.to_wkt()}
        outcome = run_cached("patches", map(scene, sorted(Path("data/scenes").glob("*.tif"))), read, code=CODE, bar=bar)
        check_ground(labels, grids, crs)
        whole, small = concat_patches(outcome.results, crs)
        summary = patch_summary(whole, classes.names) | labels.summary(crs)
        index = {"unit": classes.unit, "classes": classes.names}
        warnings = list(labels.warnings)
        if by_pixel:
            index["scenes"] = pixel_counts(outcome.results)
            pixels = pixel_summary(index["scenes"])
            check_pixels(pixels, classes.names)
            warnings += [*pixel_warnings(pixels, whole.table), *labels.pixel_warnings(grids)]
            summary |= pixels
        else:
            check_classes(whole.table, classes.names)
        write_json(folder / "index.json", index)
    with writing(Path("data/patches.parquet")) as temporary:
        whole.table.to_parquet(temporary, index=False)
    write_json(Path("metrics/patches.json"), summary)
    if small:
        print(f"patches: warning: smaller than patches.size_px, without a patch: {', '.join(small)}")
    for warning in warnings:
        print(f"patches: warning: {warning}")
    dropped = ", ".join(f"{reason} {count}" for reason, count in summary["dropped"].items())
    counts = f"{summary['kept']} of {summary['windows']} windows kept, dropped: {dropped}"
    if by_pixel:
        counts += f"; {summary['labelled_px']['valid']} labelled pixels"
    return f"{counts}; scenes: {outcome.tally}"


if __name__ == "__main__":
    run(main)
