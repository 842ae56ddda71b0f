"""One map of several scenes: class and confidence where they overlap by a stated rule, written block by block.

Scenes whose maps share a lattice of cells are put together cell for cell. Otherwise the mosaic lies on the
project's CRS, its cells at multiples of their size, and each takes the cell of a scene that its centre lies
in: the nearest one, so that no class and no confidence is made up by interpolation.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

import numpy as np
import shapely
from rasterio.crs import CRS
from rasterio.windows import Window

from landfold.core.errors import LandfoldError
from landfold.geo.grid import Grid
from landfold.geo.lattice import bounds_in, cells_under, lattice_over, shared_lattice
from landfold.geo.raster import Raster
from landfold.geo.writer import create_cog
from landfold.maps.stac import write_item
from landfold.maps.style import NO_CLASS, write_class_styles, write_share_style

NAME = "mosaic"
"""What the files' names begin with, as those of a scene's do."""

MOST_CELLS = 2**32
"""Scenes that lie so far apart are of different projects: their mosaic would be empty ground."""

Rule = Literal["first", "confidence"]


class MosaicError(LandfoldError):
    """Maps that cannot be put together."""


def write_mosaic(
    folder: Path,
    scenes: Sequence[str],
    rule: Rule,
    classes: dict[str, tuple[int, int, int]],
    *,
    crs: CRS,
    cell_m: float,
    tags: dict[str, str],
    acquired: Sequence[str | None] = (),
) -> list[Path]:
    """Write mosaic_class.tif and mosaic_confidence.tif with their styles, from the scenes' maps in ``folder``.

    Args:
        folder: holds SCENE_class.tif and SCENE_confidence.tif of every scene.
        scenes: their names; at least two.
        rule: which scene a cell is taken from: ``first`` the first in the order of ``scenes`` that has data there,
            ``confidence`` the one that is most confident, the first of equals. A cell without data never wins.
        classes: name to red, green and blue (0 to 255) of every class, in their order.
        crs: the project's, for scenes that do not share a lattice.
        cell_m: side of a cell in it.
        tags: of lineage.
        acquired: when each scene was; the mosaic has a STAC item where all are known.

    Returns:
        The files, sorted.

    Raises:
        MosaicError: a scene has the mosaic's name, or scenes are too far apart.
    """
    if NAME in scenes:
        raise MosaicError(f"a scene is named {NAME}, as the mosaic's files are; rename it or set export.mosaic to none")
    names, colours = list(classes), list(classes.values())
    with ExitStack() as stack:
        pairs = [
            [stack.enter_context(Raster.open(folder / f"{scene}_{part}.tif")) for part in ("class", "confidence")]
            for scene in scenes
        ]
        grids = [pair[0].grid for pair in pairs]
        grid = shared_lattice(grids) or lattice_over(bounds_in(crs, *grids), crs, cell_m)
        if grid.height * grid.width > MOST_CELLS:
            raise MosaicError(
                f"a mosaic of all scenes has {grid.width} x {grid.height} cells, most of them empty; "
                "set export.mosaic to none"
            )
        dtype = pairs[0][0].dataset.dtypes[0]
        tags = tags | {"MOSAIC_RULE": rule, "SCENES": ", ".join(scenes)}
        written = stack.enter_context(
            create_cog(folder / f"{NAME}_class.tif", grid, ["class"], dtype=dtype, nodata=NO_CLASS, tags=tags,
                       overview_resampling="mode")
        )  # fmt: skip
        written.describe_classes(dict(enumerate(names, 1)), dict(enumerate(colours, 1)))
        sure = stack.enter_context(
            create_cog(folder / f"{NAME}_confidence.tif", grid, ["confidence"], dtype="float32", nodata=np.nan,
                       tags=tags, overview_resampling="average")
        )  # fmt: skip
        reaches = [shapely.box(*bounds_in(grid.crs, scene)) for scene in grids]
        for window in grid.blocks():
            ground = grid.footprint(window)
            near = [pair for pair, reach in zip(pairs, reaches, strict=True) if reach.intersects(ground)]
            best, confidence = _block(grid, window, near, rule, dtype)
            written.write(window, best[None])
            sure.write(window, confidence[None])
    rasters = [folder / f"{NAME}_{part}.tif" for part in ("class", "confidence")]
    files = [*rasters, *write_class_styles(rasters[0], names, colours), write_share_style(rasters[1])]
    if acquired and None not in acquired:
        files.append(write_item(folder, NAME, files, acquired=list(acquired), classes=classes, lineage=tags))
    return sorted(files)


def _block(
    grid: Grid, window: Window, pairs: list[list[Raster]], rule: Rule, dtype: str
) -> tuple[np.ndarray, np.ndarray]:
    """Class and confidence of a window of the mosaic, (y, x) each."""
    best = np.zeros((window.height, window.width), dtype=dtype)
    confidence = np.full(best.shape, np.nan, dtype=np.float32)
    for classes, sureness in pairs:
        rows, columns = cells_under(grid.part(window), classes.grid)
        inside = (rows >= 0) & (rows < classes.grid.height) & (columns >= 0) & (columns < classes.grid.width)
        if not inside.any():
            continue
        rows, columns = rows[inside], columns[inside]
        top, left = int(rows.min()), int(columns.min())
        source = Window(left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1)
        at = rows - top, columns - left
        found, sure = np.zeros_like(best), np.full_like(confidence, np.nan)
        found[inside] = classes.read_raw(source)[0][at]
        sure[inside] = sureness.read_raw(source, ["confidence"])[0][at]
        wins = (found > 0) & ((best == 0) | (sure > confidence) if rule == "confidence" else best == 0)
        best[wins], confidence[wins] = found[wins], sure[wins]
    return best, confidence
