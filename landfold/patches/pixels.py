"""Labels for each pixel of a scene: a raster of class numbers, and counts of its pixels.

The raster lies on the scene's own grid. Labels under nodata or cloud stay in it as they are: who uses it takes the
pixels that are valid in the scene.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
from rasterio.windows import Window

from landfold.core.errors import first_ten
from landfold.geo.raster import Raster
from landfold.geo.writer import create_cog
from landfold.patches.cut import classes_without_patch, read_counts
from landfold.patches.labels.classes import Labels
from landfold.patches.settings import UNLABELLED, LabelError

STRIP_PX = 256
"""Rows of pixels that are in memory at once, those of a row of tiles: 3 MB a byte of a scene of 10980 px."""

BAND = "class"
"""Name of the band; that of a map's class raster, too."""

PixelCounts = dict[str, Any]
"""Counts of pixels, as JSON, of one scene or of several.

``class_px``: labelled pixels with data, by the name of their class; ``valid_px``: pixels with data, labelled or not;
``labelled_without_data_px``: labelled pixels under nodata or cloud; and the labels' own
`landfold.patches.labels.classes.SceneLabels.conflicts`.
"""


def write_label_raster(
    path: Path,
    scene: str,
    raster: Raster,
    labels: Labels,
    *,
    strip_px: int = STRIP_PX,
) -> PixelCounts:
    """Write the labels of a scene as a Cloud-Optimized GeoTIFF, strip by strip, whole or not at all.

    Pixels are bytes: class i of the labels is i + 1, UNLABELLED (0) is nodata. The band's tags CLASS_1, ... name the
    classes. There are no colours in it: another colour is no reason to train anew.

    Args:
        path: the file.
        scene: name of the scene.
        raster: its reflectance, for its grid and its valid pixels.
        labels: the labels of all scenes.
        strip_px: rows of pixels in memory at once; the file is the same whatever it is.

    Raises:
        LabelError: the labels of this scene cannot be read.
        RasterError: the scene or a raster of labels cannot be read.
        RasterWriteError: GDAL cannot write.
    """
    grid, counts = raster.grid, Counter(dict.fromkeys(("valid_px", "labelled_without_data_px"), 0))
    class_px = np.zeros(len(labels.names) + 1, dtype=np.int64)
    with (
        labels.on(scene, grid) as there,
        create_cog(path, grid, [BAND], dtype="uint8", nodata=UNLABELLED, overview_resampling="mode") as writer,
    ):
        writer.describe_classes(dict(enumerate(labels.names, 1)))
        for row in range(0, grid.height, strip_px):
            strip = Window(0, row, grid.width, min(strip_px, grid.height - row))
            numbers, valid = there.classes(strip), raster.read_mask(strip)
            writer.write(strip, numbers[None])
            counts.update({"valid_px": int(valid.sum()), **there.conflicts(strip)})
            counts["labelled_without_data_px"] += int((numbers[~valid] != UNLABELLED).sum())
            class_px += np.bincount(numbers[valid], minlength=len(class_px))
    return {"class_px": dict(zip(labels.names, class_px[1:].tolist(), strict=True)), **counts}


def pixel_counts(streams: Mapping[str, bytes]) -> dict[str, PixelCounts]:
    """The counts of each scene.

    Args:
        streams: `landfold.patches.cut.ScenePatches.to_arrow` of each scene by its name.
    """
    return {scene: read_counts(stream)["pixels"] for scene, stream in streams.items()}


def pixel_summary(scenes: Mapping[str, PixelCounts]) -> PixelCounts:
    """The counts of all scenes for metrics/patches.json: their sums, and ``labelled_px``.

    ``labelled_px`` has the number of labelled pixels with data (``valid``) and of all of them (``total``). What lies
    in several scenes counts in each.
    """
    counts, class_px = Counter(), Counter()
    for of_scene in scenes.values():
        class_px.update(of_scene["class_px"])
        counts.update({name: count for name, count in of_scene.items() if name != "class_px"})
    valid = class_px.total()
    labelled = {"valid": valid, "total": valid + counts["labelled_without_data_px"]}
    return {"class_px": dict(class_px), "labelled_px": labelled, **counts}


def check_pixels(summary: PixelCounts, names: Sequence[str]) -> None:
    """Refuse labels in which a class has no pixel with data.

    Args:
        summary: from `pixel_summary`.
        names: of all classes.

    Raises:
        LabelError: naming the classes.
    """
    absent = [name for name in names if not summary["class_px"][name]]
    if absent:
        raise LabelError(
            f"no labelled pixel of class {', '.join(absent)} has data in any scene: bring labels of it on ground that "
            "the scenes show without clouds, merge the class with another, or move its values to labels.exclude"
        )


def pixel_warnings(summary: PixelCounts, patches: geopandas.GeoDataFrame) -> list[str]:
    """What the user should know: classes without a patch, and points that gave their pixel no label.

    Args:
        summary: from `pixel_summary`, of labels that `check_pixels` took.
        patches: column ``label``.

    Raises:
        PatchError: there is no patch at all.
    """
    warnings = []
    absent = classes_without_patch(patches, list(summary["class_px"]))
    if absent:
        warnings.append(
            f"no patch of class {first_ten(absent)}: its pixels are labelled, but zones and the scores of patches do "
            "not know of it; a lower patches.min_purity or a smaller patches.core_px may give it some"
        )
    if lost := summary.get("points_in_conflict"):
        warnings.append(f"{lost} points share a pixel with as many points of another class; these pixels have no label")
    return warnings
