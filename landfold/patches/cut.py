"""Patches: windows of a scene with the label of their core, and what was dropped and why.

A patch is ``size_px`` square. Its label is that of its central core, ``core_px`` square; the
network sees the whole window. Whether two patches share ground is decided by the whole window, too.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import geopandas
import numpy as np
import pyarrow
import shapely
from rasterio.crs import CRS
from rasterio.windows import Window

from landfold.core.errors import LandfoldError
from landfold.geo.grid import Grid
from landfold.geo.raster import Raster
from landfold.patches.labels.classes import Labels, SceneLabels
from landfold.patches.settings import PatchSettings

DROP_REASONS = ("small", "invalid", "unlabelled", "impure")
"""In this order: a scene smaller than a window, counted as one; too much nodata or cloud; no label in the
core; no class pure enough, or as many points of one class as of another."""


class PatchError(LandfoldError):
    """Patches that cannot be cut or serve no purpose."""


@dataclass(frozen=True)
class ScenePatches:
    """Patches of one scene, and how many windows there were and were dropped for each reason.

    A scene smaller than a window counts as one window, dropped for being small: it is not padded. ``pixels`` has the
    counts of `landfold.patches.pixels.write_label_raster`, where each pixel of the scene has a label.
    """

    table: geopandas.GeoDataFrame
    windows: int
    dropped: dict[str, int]
    pixels: dict[str, Any] | None = None

    def to_arrow(self) -> bytes:
        """An Arrow stream with the counts in its metadata, see `read_counts` and `concat_patches`."""
        columns = {name: column.to_numpy() for name, column in self.table.items()}
        columns["geometry"] = shapely.to_wkb(columns["geometry"])
        counts = json.dumps({"windows": self.windows, "dropped": self.dropped, "pixels": self.pixels})
        table = pyarrow.table(columns).replace_schema_metadata({"counts": counts})
        stream = pyarrow.BufferOutputStream()
        options = pyarrow.ipc.IpcWriteOptions(compression="zstd")
        with pyarrow.ipc.new_stream(stream, table.schema, options=options) as writer:
            writer.write_table(table)
        return stream.getvalue().to_pybytes()


def cut_patches(
    scene: str,
    raster: Raster,
    labels: Labels,
    settings: PatchSettings,
    project_crs: CRS,
    *,
    progress: Callable[[float], None] = lambda fraction: None,
) -> ScenePatches:
    """All windows of a scene on the stride's grid that lie inside it, labelled, filtered and counted.

    A core takes the class that most of its pixels have, a tie the class listed first. Of points, the
    core takes the class of most of them; a tie between points is impure, whatever ``min_purity`` is.

    The table has one row a patch: ``patch`` (id), ``scene``, ``row``, ``column`` (offset of the
    window in pixels), ``size_px``, ``label`` (class name), ``purity`` and ``valid`` (fractions),
    ``x`` and ``y`` (centre of the core) and ``geometry`` (footprint), both in the project's CRS; and, where the
    labels have zone values, ``zone_value``: the value that most of the core's labelled pixels have, a tie the
    value that sorts first, and absent where those pixels' polygon has none.

    Args:
        scene: name of the scene.
        raster: its reflectance, for its grid and its valid pixels.
        labels: the labels of all scenes.
        settings: section ``patches``.
        project_crs: metric CRS of centres and footprints.
        progress: called with the share that is done, after each row of windows.
    """
    grid, size = raster.grid, settings.size_px
    columns = np.arange(0, grid.width - size + 1, settings.stride_px)
    rows = np.arange(0, grid.height - size + 1, settings.stride_px)
    kept: list[tuple[np.ndarray, ...]] = []
    dropped = dict.fromkeys(DROP_REASONS, 0)
    if not len(rows) or not len(columns):
        dropped["small"] = 1
        return ScenePatches(_table(scene, grid, labels, settings, project_crs, kept), 1, dropped)
    with labels.on(scene, grid) as scene_labels:
        for row in rows:
            part, counts = _cut_row(raster, scene_labels, settings, int(row), columns, zoned=bool(labels.zone_values))
            kept.append(part)
            for reason, count in counts.items():
                dropped[reason] += count
            progress((row + settings.stride_px) / (rows[-1] + settings.stride_px))
    table = _table(scene, grid, labels, settings, project_crs, kept)
    return ScenePatches(table, len(rows) * len(columns), dropped)


def _cut_row(
    raster: Raster, labels: SceneLabels, settings: PatchSettings, row: int, columns: np.ndarray, *, zoned: bool
) -> tuple[tuple[np.ndarray, ...], dict[str, int]]:
    """One row of windows: row, column, class, purity, valid share and zone value of those kept; drops by reason."""
    size, core_px = settings.size_px, settings.core_px
    valid_px = _sums(raster.read_mask(Window(0, row, raster.grid.width, size)).sum(axis=0), columns, size)
    core = Window(0, row + settings.margin_px, raster.grid.width, core_px)
    counts = _sums(labels.counts(core), columns + settings.margin_px, core_px)
    labelled = np.maximum(counts.sum(axis=0), 1) if labels.of_points else core_px**2
    purity = counts.max(axis=0) / labelled
    drop_masks = {
        "invalid": (size**2 - valid_px) / size**2 > settings.max_invalid,
        "unlabelled": purity == 0,
        "impure": (purity < settings.min_purity) | (labels.of_points & _tied(counts)),
    }
    keep, dropped = np.ones(len(columns), dtype=bool), {}
    for reason, mask in drop_masks.items():  # a window counts for the first reason that holds
        dropped[reason] = int((keep & mask).sum())
        keep &= ~mask
    starts = columns[keep] + settings.margin_px
    values = _commonest(labels.zone_values(core), starts, core_px) if zoned else starts
    majority = counts.argmax(axis=0)[keep]
    return (np.full(keep.sum(), row), columns[keep], majority, purity[keep], valid_px[keep] / size**2, values), dropped


def read_counts(stream: bytes) -> dict[str, Any]:
    """The fields of a `ScenePatches` but its table, from its Arrow stream."""
    with pyarrow.ipc.open_stream(stream) as reader:
        return json.loads(reader.schema.metadata[b"counts"])


def concat_patches(streams: Mapping[str, bytes], project_crs: CRS) -> tuple[ScenePatches, list[str]]:
    """The patches of all scenes as if of one, without ``pixels``, and the names of scenes smaller than a window.

    The tables become one before pandas sees them, which for thousands of tiles is far faster.

    Args:
        streams: `ScenePatches.to_arrow` of each scene by its name.
        project_crs: CRS of their footprints.
    """
    tables = [pyarrow.ipc.open_stream(stream).read_all() for stream in streams.values()]
    counts = [read_counts(stream) for stream in streams.values()]
    small = [scene for scene, count in zip(streams, counts, strict=True) if count["dropped"]["small"]]
    whole = pyarrow.concat_tables(
        [table.replace_schema_metadata() for table in tables if len(table)] or tables[:1], promote_options="default"
    ).to_pandas()
    whole["geometry"] = shapely.from_wkb(whole["geometry"])
    dropped = {reason: sum(count["dropped"][reason] for count in counts) for reason in DROP_REASONS}
    table = geopandas.GeoDataFrame(whole, crs=project_crs)
    return ScenePatches(table, sum(count["windows"] for count in counts), dropped), small


def _sums(counts: np.ndarray, starts: np.ndarray, width: int) -> np.ndarray:
    """Sums over windows of ``width`` columns from each start: (..., x) to (..., window) int64."""
    cumulative = np.zeros((*counts.shape[:-1], counts.shape[-1] + 1), dtype=np.int64)
    np.cumsum(counts, axis=-1, out=cumulative[..., 1:])
    return cumulative[..., starts + width] - cumulative[..., starts]


def _commonest(values: np.ndarray, starts: np.ndarray, width: int) -> np.ndarray:
    """The number above 0 that is most often in each window of ``width`` columns: (y, x) int to (window,) int64."""
    windows = [values[:, start : start + width].ravel() for start in starts]
    return np.array([np.bincount(window[window > 0]).argmax() for window in windows], dtype=np.int64)


def _tied(counts: np.ndarray) -> np.ndarray:
    """Whether no class has more than every other, of (class, window) counts: (window,) bool."""
    return (counts == counts.max(axis=0)).sum(axis=0) > 1


def _table(
    scene: str,
    grid: Grid,
    labels: Labels,
    settings: PatchSettings,
    project_crs: CRS,
    rows: list[tuple[np.ndarray, ...]],
) -> geopandas.GeoDataFrame:
    parts = zip(*rows, strict=True) if rows else [[]] * 6
    row, column, label, purity, valid, value = (np.concatenate([*p, []]) for p in parts)
    row, column, label, value = (numbers.astype(np.int64) for numbers in (row, column, label, value))
    size = settings.size_px
    table = geopandas.GeoDataFrame(
        {
            "patch": [f"{scene}/{r}/{c}" for r, c in zip(row, column, strict=True)],
            "scene": scene,
            "row": row,
            "column": column,
            "size_px": size,
            "label": np.array(labels.names, dtype=object)[label],
            "purity": purity,
            "valid": valid,
        },
        geometry=_footprints(grid, row, column, size),
        crs=grid.crs,
    ).to_crs(project_crs)
    centre = shapely.centroid(table.geometry.values)
    table.insert(8, "x", shapely.get_x(centre))
    table.insert(9, "y", shapely.get_y(centre))
    if labels.zone_values:
        table.insert(10, "zone_value", np.array(labels.zone_values, dtype=object)[value - 1])
    return table


def _footprints(grid: Grid, row: np.ndarray, column: np.ndarray, size: int) -> np.ndarray:
    """`Grid.footprint` of many windows at once: a full-size scene has a million."""
    x = np.stack([column, column + size, column + size, column, column], axis=-1)
    y = np.stack([row, row, row + size, row + size, row], axis=-1)
    return shapely.polygons(np.stack(grid.transform @ (x, y), axis=-1))


def classes_without_patch(table: geopandas.GeoDataFrame, names: list[str]) -> list[str]:
    """The classes that no patch has.

    Raises:
        PatchError: there is no patch at all.
    """
    if len(table) == 0:
        raise PatchError(
            "no patch is left: every scene is smaller than patches.size_px, no label lies in a patch's core, "
            "or patches.min_purity or patches.max_invalid is too strict"
        )
    present = set(table["label"])
    return [name for name in names if name not in present]


def check_classes(table: geopandas.GeoDataFrame, names: list[str]) -> None:
    """Refuse a table in which a class has no patch.

    Raises:
        PatchError: naming the classes.
    """
    absent = classes_without_patch(table, names)
    if absent:
        raise PatchError(
            f"no patch of class {', '.join(absent)}: lower patches.min_purity, merge the class with another, "
            "or move its values to labels.exclude"
        )


def patch_summary(patches: ScenePatches, names: list[str]) -> dict[str, Any]:
    """Counts for metrics/patches.json: windows, kept, dropped by reason, kept by class."""
    counts = patches.table["label"].value_counts()
    return {
        "windows": patches.windows,
        "kept": len(patches.table),
        "dropped": patches.dropped,
        "classes": {name: int(counts.get(name, 0)) for name in names},
    }
