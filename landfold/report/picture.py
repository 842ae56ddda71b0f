"""The picture of a map below its imagery, for people without a GIS at hand."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.patches import Patch
from rasterio.enums import Resampling

from landfold.geo.raster import Raster
from landfold.report.figures import figure

OUTSIDE = (110, 110, 110)
"""Grey of ground outside the area of applicability in the picture; its class shines through."""


def picture(
    path: Path,
    scene: Raster,
    folder: Path,
    name: str,
    colours: Sequence[tuple[int, int, int]],
    *,
    outside: float | None = None,
) -> None:
    """The imagery in natural colours and the map below it, both averaged down to what a picture can show.

    Args:
        path: of the PNG.
        scene: the imagery.
        folder: where `write_scene_map` has written.
        name: of the scene.
        colours: red, green and blue of every class.
        outside: share of the ground outside the area of applicability, which is greyed; None: not looked at.
    """
    with Raster.open(folder / f"{name}_class.tif") as classes:
        shown = classes.thumbnail(["class"], longest_px=1600, resampling=Resampling.mode)[0]
        titles, extents = classes.dataset.tags(1), [scene.grid.bounds, classes.grid.bounds]
    painted = np.array([(255, 255, 255), *colours], dtype=np.uint8)[shown]
    handles = [
        Patch(color=np.array(colour) / 255, label=titles[f"CLASS_{number}"])
        for number, colour in enumerate(colours, 1)
        if (shown == number).any()
    ]
    if outside is not None:
        with Raster.open(folder / f"{name}_applicability.tif") as applicability:
            greyed = applicability.thumbnail(["applicable"], longest_px=1600)[0] < 0.5
        painted[greyed] = np.round(0.35 * painted[greyed] + 0.65 * np.array(OUTSIDE))
        label = f"greyed: outside the area of applicability, {100 * outside:.1f} %"
        handles.append(Patch(color=np.array(OUTSIDE) / 255, label=label))
    wanted = [band if band in scene.names else scene.names[0] for band in ("R", "G", "B")]
    imagery = np.moveaxis(scene.thumbnail(wanted, longest_px=1600), 0, -1)
    left, bottom, right, top = scene.grid.bounds
    aspect = (top - bottom) / (right - left)
    with figure(path, width=9, height=9 * (0.25 + 2.6 * aspect)) as drawing:
        above, below = drawing.subplots(2, 1, sharex=True, sharey=True)
        for axes, pixels, (x_min, y_min, x_max, y_max), smooth in zip(
            (above, below), (imagery, painted), extents, ("antialiased", "nearest"), strict=True
        ):
            axes.imshow(pixels, extent=(x_min, x_max, y_min, y_max), interpolation=smooth)
        above.set_title(f"{scene.dataset.tags().get('SCENE') or name}, natural colours")
        below.set_title("land cover; every zone from the fold that never saw it")
        below.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.06), ncols=4, frameon=False)
        for axes in (above, below):
            axes.set_xlim(left, right)
            axes.set_ylim(bottom, top)
            axes.ticklabel_format(useOffset=False, style="plain")
            axes.tick_params(labelsize=7)
