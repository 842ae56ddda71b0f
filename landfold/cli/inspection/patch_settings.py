"""Sections ``patches`` and ``zones`` under which every class has patches, and the patches make folds."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import shapely

from landfold.cli.inspection.patch_trial import LabelledGrids, PatchTrial, fold_trial
from landfold.core.errors import LandfoldError
from landfold.core.settings import validate
from landfold.folds.lists import CrossValidationFolds
from landfold.folds.settings import ZoneSettings
from landfold.folds.summary import fold_summary
from landfold.folds.zones import Blocks
from landfold.patches.settings import PatchSettings

PATCHES: dict[str, Any] = {"size_px": 16, "core_px": 16, "stride_px": 16, "min_purity": 0.5, "max_invalid": 0.2}
ZONES: dict[str, Any] = dict.fromkeys(ZoneSettings.model_fields) | {
    **{"k": 5, "folds": [0, 1, 2, 3, 4], "repeats": 1, "kind": "grid", "block_size_m": 2560, "origin_m": [0, 0]},
    **{"overlaps": "buffer", "assignment": "stratified", "buffer_m": 100, "seed": 0},
}
"""The settings of the repository's params.yaml that are no matter of its scene; tests compare them."""

CORES_PX = (8, 4, 2)
"""Sides of smaller cores that are tried, for classes without a patch."""

MAX_WINDOWS = 1_000_000
"""Smaller cores are not tried where there would be more of them; a Sentinel-2 tile has 470,000 of 16 px."""

MAX_WHOLE_PX = 64
"""Largest side of a patch of a scene that has one class as a whole: that of EuroSAT's tiles."""

ZONES_OF_FOLD = 5
"""Zones of each fold, at least where the ground allows it: intervals are estimated from the spread over zones."""

BLOCK_SIZES = 25
"""How many sizes of blocks are compared, from half of the ground to one patch, each by the same factor smaller."""


def choose(
    ground: LabelledGrids,
    pixels: dict[str, int] | None,
    patches: PatchSettings | None,
    zones: ZoneSettings | None,
    raw: Path,
) -> tuple[PatchTrial, ZoneSettings]:
    """The user's settings where each class has a patch and the folds can be made, else others that come nearest.

    In this order count: classes with a patch, whether there are folds, and, of zones that are not the user's, classes
    in as many zones as there are folds. Without folds the zones stay the user's.

    Args:
        ground: grids and labels.
        pixels: labelled pixels by class; None with ``labels.unit: patch``.
        patches: the user's section; None where it does not load, or is not to be kept.
        zones: likewise.
        raw: the folder of the delivery, for files that ``zones`` names.

    Raises:
        LandfoldError: labels that a scene refuses.
    """
    own = zones or validate(ZONES, ZoneSettings, where="zones")
    best: tuple[tuple[int, bool, int], PatchTrial, ZoneSettings] | None = None
    names = ground.labels.names
    for settings in _patch_settings(ground, patches, of_pixels=pixels is not None):
        cut = ground.cut(settings)
        folds, settled = None, own
        if len(cut.table):
            folds, settled = _folds(cut.table, zones, raw) or (None, own)
        spread = len(names)
        if folds is not None and settled != zones:
            spread = int((folds.table.groupby("label")["zone"].nunique() >= own.k).sum())
        rank = (cut.table["label"].nunique(), folds is not None, spread)
        if best is None or rank > best[0]:
            best = rank, PatchTrial(settings, ground, cut, pixels, folds), settled
        if rank == (len(names), True, len(names)):
            break
    return best[1], best[2]


def _patch_settings(ground: LabelledGrids, own: PatchSettings | None, *, of_pixels: bool) -> Iterator[PatchSettings]:
    """The user's patches, then smaller ones; with labels of pixels patches are their cores and do not overlap."""
    base = dict(PATCHES) if own is None else own.model_dump()
    smallest = min(min(grid.shape) for grid in ground.grids.values())
    if ground.labels.ground is None and own is None:  # one class for each whole scene
        size = max(2, min(MAX_WHOLE_PX, smallest - smallest % 2))
        base |= {"size_px": size, "core_px": size, "stride_px": size}
    yield validate(base, PatchSettings, where="patches")
    for core in CORES_PX:
        windows = sum(grid.height * grid.width for grid in ground.grids.values()) // core**2
        if core < base["core_px"] and windows <= MAX_WINDOWS:
            size = core if of_pixels else max(core, min(base["size_px"], smallest))
            size -= (size - core) % 2
            yield validate(base | {"size_px": size, "core_px": core, "stride_px": core}, PatchSettings, where="patches")


def _folds(
    table: geopandas.GeoDataFrame, own: ZoneSettings | None, raw: Path
) -> tuple[CrossValidationFolds, ZoneSettings] | None:
    """The folds by the user's zones, else by square blocks; None where no blocks give two folds."""
    if own is not None:
        try:
            return fold_trial(table, own, raw), own
        except LandfoldError:
            pass
    base = own.model_dump(mode="json") if own is not None and own.kind == "grid" else ZONES
    best: tuple[int, CrossValidationFolds, ZoneSettings] | None = None
    for settings in _block_settings(table, base):
        try:
            folds = fold_trial(table, settings, raw)
        except LandfoldError:
            continue
        missing = sum("class_missing_train" in fold["flags"] for fold in fold_summary(folds)["folds"].values())
        if best is None or missing < best[0]:
            best = missing, folds, settings
        if missing <= int((folds.table.groupby("label")["zone"].nunique() < 2).sum()):
            break  # a class in one zone is missing where that is held out, whatever the folds
    return best and best[1:]


def _block_settings(table: geopandas.GeoDataFrame, base: dict[str, Any]) -> Iterator[ZoneSettings]:
    """Square blocks for the patches: with the wanted folds, then without a buffer, then with fewer folds.

    There are no more folds than patches of the largest class, which could not be stratified over them.
    """
    largest = int(table["label"].value_counts().max())
    for k in range(min(base["k"], largest), 1, -1):
        size, origin = _blocks(table, k)
        for buffer_m in dict.fromkeys((base["buffer_m"], 0)):
            for assignment in dict.fromkeys((base["assignment"], "group")):
                values = base | {"k": k, "folds": list(range(k * base["repeats"])), "block_size_m": size}
                values |= {"origin_m": origin, "buffer_m": buffer_m, "assignment": assignment}
                values["tries"] = base["tries"] if assignment == "balanced" else None
                yield validate(values, ZoneSettings, where="zones")


def _blocks(table: geopandas.GeoDataFrame, k: int) -> tuple[float, list[float]]:
    """Side and corner, in metres, of the largest blocks of whole patches with most classes in k zones or more.

    There are `ZONES_OF_FOLD` zones for each fold, or as many as the ground gives.
    """
    bounds = shapely.bounds(table.geometry.to_numpy())
    side = max(float(np.median(bounds[:, 2] - bounds[:, 0]).round(3)), 1e-3)
    corners, counts = np.unique(bounds[:, :2].round(3) % side, axis=0, return_counts=True)
    corner = corners[counts.argmax()]
    low, high = bounds[:, :2].min(axis=0), bounds[:, 2:].max(axis=0)
    most = max(1.0, float((high - low).max()) / side / 2)
    best: tuple[tuple[int, int], float, list[float]] | None = None
    for patches in sorted({round(n) for n in np.geomspace(1, most, BLOCK_SIZES)}, reverse=True):
        size = side * patches
        first = corner + side * np.floor((low - corner) / side + 1e-6)  # a corner of patches at the edge of the ground
        origin = (first % size).round(3).tolist()
        zones = table.assign(zone=Blocks(size, tuple(origin)).of(table))
        classes = int((zones.groupby("label")["zone"].nunique() >= k).sum())
        rank = (classes, min(zones["zone"].nunique(), ZONES_OF_FOLD * k))
        if best is None or rank > best[0]:
            best = rank, round(size, 3), origin
    return best[1], best[2]
