"""One map of several scenes, written block by block.

Scenes whose maps share a lattice of cells are put together cell for cell. Otherwise the mosaic is in the project's CRS,
its cells at multiples of their size, and each takes the cell of a scene that contains its centre: no class and no
confidence is interpolated.
"""

from collections.abc import Iterator, Mapping, Sequence
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
from landfold.maps.classmap import NO_CLASS
from landfold.maps.files import SIEVE_TAG
from landfold.maps.stac import write_item
from landfold.maps.style import write_class_styles, write_share_style

NAME = "mosaic"
"""Beginning of the names of its files, as those of a scene's map begin with the scene's name."""

PARTS = ("class", "confidence")
"""Rasters of a scene's map that are put together."""

MOST_CELLS = 2**32
"""Scenes that need more are so far apart that their mosaic would be mostly empty."""

Rule = Literal["first", "confidence"]


class MosaicError(LandfoldError):
    """Maps that cannot be put together into one."""


def write_mosaic(
    folder: Path,
    scenes: Mapping[str, str | None],
    rule: Rule,
    legend: Mapping[str, tuple[int, int, int]],
    *,
    crs: CRS,
    cell_m: float,
    tags: Mapping[str, str],
) -> list[Path]:
    """Write mosaic_class.tif and mosaic_confidence.tif with their styles, from the scenes' maps in ``folder``.

    Args:
        folder: holds SCENE_class.tif and SCENE_confidence.tif of every scene.
        scenes: name to date of acquisition, at least two; the mosaic has a STAC item where all dates are known.
        rule: which scene a cell is taken from: ``first`` the first in the order of ``scenes`` that has data there,
            ``confidence`` the one of the highest confidence, the first of equals. A cell without data never wins.
        legend: name to red, green and blue (0 to 255) of every class, in their order.
        crs: the project's, for scenes that do not share a lattice.
        cell_m: side of a cell in it, metres.
        tags: of lineage.

    Returns:
        The files, sorted.

    Raises:
        MosaicError: a scene has the mosaic's name, or scenes are too far apart.
    """
    if NAME in scenes:
        raise MosaicError(f"a scene is named {NAME}, as the mosaic's files are; rename it or set export.mosaic to none")
    tags = {**tags, "MOSAIC_RULE": rule, "SCENES": ", ".join(scenes)}
    rasters = [folder / f"{NAME}_{part}.tif" for part in PARTS]
    with ExitStack() as stack:
        maps = [
            [stack.enter_context(Raster.open(folder / f"{scene}_{part}.tif")) for part in PARTS] for scene in scenes
        ]
        grid, dtype = _mosaic_grid([pair[0].grid for pair in maps], crs, cell_m), maps[0][0].dataset.dtypes[0]
        sieved = {SIEVE_TAG: maps[0][0].dataset.tags()[SIEVE_TAG]}
        classes = stack.enter_context(
            create_cog(rasters[0], grid, ["class"], dtype=dtype, nodata=NO_CLASS, tags=tags | sieved,
                       overview_resampling="mode")
        )  # fmt: skip
        classes.describe_classes(dict(enumerate(legend, 1)), dict(enumerate(legend.values(), 1)))
        confidence = stack.enter_context(
            create_cog(rasters[1], grid, ["confidence"], dtype="float32", nodata=np.nan, tags=tags,
                       overview_resampling="average")
        )  # fmt: skip
        for window, *values in _blocks(grid, maps, rule, dtype):
            classes.write(window, values[0][None])
            confidence.write(window, values[1][None])
    files = [*rasters, *write_class_styles(rasters[0], legend), write_share_style(rasters[1])]
    if None not in scenes.values():
        files.append(write_item(folder, NAME, files, acquired=list(scenes.values()), classes=legend, lineage=tags))
    return sorted(files)


def _mosaic_grid(grids: Sequence[Grid], crs: CRS, cell_m: float) -> Grid:
    grid = shared_lattice(grids) or lattice_over(bounds_in(crs, *grids), crs, cell_m)
    if grid.height * grid.width > MOST_CELLS:
        raise MosaicError(
            f"a mosaic of all scenes has {grid.width} x {grid.height} cells, most of them empty; "
            "set export.mosaic to none"
        )
    return grid


def _blocks(
    grid: Grid, maps: Sequence[Sequence[Raster]], rule: Rule, dtype: str
) -> Iterator[tuple[Window, np.ndarray, np.ndarray]]:
    """Windows of the mosaic, with class and confidence, (y, x) each."""
    extents = [shapely.box(*bounds_in(grid.crs, pair[0].grid)) for pair in maps]
    for window in grid.blocks():
        ground = grid.footprint(window)
        near = [pair for pair, extent in zip(maps, extents, strict=True) if extent.intersects(ground)]
        yield window, *_block(grid.part(window), near, rule, dtype)


def _block(part: Grid, maps: Sequence[Sequence[Raster]], rule: Rule, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Class and confidence of a part of the mosaic, (y, x) each, from the class and confidence raster of each scene."""
    classes = np.full(part.shape, NO_CLASS, dtype=dtype)
    confidence = np.full(part.shape, np.nan, dtype=np.float32)
    for class_raster, confidence_raster in maps:
        scene = class_raster.grid
        rows, columns = cells_under(part, scene)
        inside = (rows >= 0) & (rows < scene.height) & (columns >= 0) & (columns < scene.width)
        if not inside.any():
            continue
        rows, columns = rows[inside], columns[inside]
        top, left = int(rows.min()), int(columns.min())
        source = Window(left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1)
        at = rows - top, columns - left
        scene_classes, scene_confidence = np.zeros_like(classes), np.full_like(confidence, np.nan)
        scene_classes[inside] = class_raster.read_raw(source)[0][at]
        scene_confidence[inside] = confidence_raster.read_raw(source, ["confidence"])[0][at]
        wins = classes == NO_CLASS
        if rule == "confidence":
            wins |= scene_confidence > confidence
        wins &= scene_classes != NO_CLASS
        classes[wins], confidence[wins] = scene_classes[wins], scene_confidence[wins]
    return classes, confidence
