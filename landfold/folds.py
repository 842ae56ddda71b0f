"""Folds: whole zones to folds, a buffer between training and validation, and the proof that it holds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import shapely
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

from landfold.errors import LandfoldError
from landfold.files import digest, write_json
from landfold.vector import write_geopackage
from landfold.zones import ZoneSettings

SHARED_AREA_TOLERANCE = 1e-9
"""Of a footprint's area: rounding of corners, ten orders below one pixel of a 32 x 32 px patch."""


class FoldError(LandfoldError):
    """Folds that cannot be made, or that break a promise."""


@dataclass(frozen=True)
class Split:
    """One fold as boolean masks over the patches: each patch is in exactly one of the three."""

    train: np.ndarray
    validation: np.ndarray
    buffer: np.ndarray


def assign_folds(zones: np.ndarray, labels: np.ndarray, settings: ZoneSettings) -> np.ndarray:
    """The fold of every patch, int64; patches of one zone are in one fold.

    Raises:
        FoldError: fewer zones than folds, every class with fewer patches than folds, or a fold that would be empty.
    """
    count = len(np.unique(zones.astype(str)))
    if count < settings.k:
        raise FoldError(
            f"{count} zones cannot make {settings.k} folds; lower zones.k (and zones.folds) or zones.block_size_m"
        )
    if settings.assignment == "stratified":
        largest = int(np.unique(labels.astype(str), return_counts=True)[1].max())
        if largest < settings.k:
            raise FoldError(
                f"the largest class has {largest} patches, too few to be in each of {settings.k} folds; "
                "lower zones.k (and zones.folds) or set zones.assignment: group"
            )
        splitter = StratifiedGroupKFold(settings.k, shuffle=True, random_state=settings.seed)
    else:
        splitter = GroupKFold(settings.k)
    folds = np.full(len(zones), -1, dtype=np.int64)
    for fold, (_, validation) in enumerate(splitter.split(np.zeros(len(zones)), labels, zones)):
        folds[validation] = fold
    empty = sorted(set(range(settings.k)) - set(folds.tolist()))
    if empty:
        raise FoldError(
            f"fold {empty[0]} has no patch: {count} zones of very unequal size; lower zones.k (and zones.folds), "
            "lower zones.block_size_m, or set zones.assignment: group"
        )
    return folds


def split_fold(footprints: np.ndarray, folds: np.ndarray, fold: int, buffer_m: float) -> Split:
    """Train, validation and buffer of one fold.

    A training patch is dropped into the buffer when its footprint shares area with a validation
    footprint or, for ``buffer_m`` above 0, lies at most ``buffer_m`` from one, edge to edge.

    Raises:
        FoldError: if the buffer leaves no training patch.
    """
    validation = folds == fold
    buffer = np.zeros(len(folds), dtype=bool)
    others = np.flatnonzero(~validation)
    near, _ = _conflicts(footprints[others], footprints[validation], buffer_m)
    buffer[others[near]] = True
    train = ~validation & ~buffer
    if not train.any():
        raise FoldError(
            f"fold {fold}: all {len(others)} training patches lie within zones.buffer_m = {buffer_m:g} m of a "
            "validation patch; lower it or zones.k, or raise zones.block_size_m"
        )
    return Split(train, validation, buffer)


def _conflicts(first: np.ndarray, second: np.ndarray, buffer_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Index pairs of footprints too close to be on two sides of a split."""
    tree = shapely.STRtree(second)
    if buffer_m > 0:
        return tree.query(first, predicate="dwithin", distance=buffer_m)
    a, b = tree.query(first, predicate="intersects")
    shared = shapely.area(shapely.intersection(first[a], second[b]))
    overlap = shared > SHARED_AREA_TOLERANCE * shapely.area(first[a])
    return a[overlap], b[overlap]


def check_folds(table: geopandas.GeoDataFrame, splits: list[Split], buffer_m: float) -> None:
    """Prove on the footprints, afresh, what the folds promise.

    ``table`` has ``zone``, ``fold`` and ``geometry`` of every patch, in the order of the masks.

    Raises:
        FoldError: a zone in two folds, a patch not validated exactly once or by another fold than its
            own, a patch on no side or two of a split, or training and validation that share ground or are
            within the buffer.
    """
    folds_of_zone = table.groupby("zone")["fold"].nunique()
    if (folds_of_zone > 1).any():
        raise FoldError(f"zone {folds_of_zone.idxmax()} is in {folds_of_zone.max()} folds; this is a fault of Landfold")
    validated = np.sum([split.validation for split in splits], axis=0)
    if (validated != 1).any():
        raise FoldError(
            f"{int((validated != 1).sum())} patches are not validated exactly once; this is a fault of Landfold"
        )
    footprints = table.geometry.to_numpy()
    for fold, split in enumerate(splits):
        if (split.validation != (table["fold"] == fold)).any():
            raise FoldError(f"fold {fold}: it validates patches of another fold; this is a fault of Landfold")
        sides = split.train.astype(int) + split.validation + split.buffer
        if (sides != 1).any():
            raise FoldError(
                f"fold {fold}: {int((sides != 1).sum())} patches are on no side or two; this is a fault of Landfold"
            )
        pairs, _ = _conflicts(footprints[split.train], footprints[split.validation], buffer_m)
        if len(pairs):
            raise FoldError(
                f"fold {fold}: {len(pairs)} pairs of training and validation footprints share ground or lie within "
                f"zones.buffer_m = {buffer_m:g} m; this is a fault of Landfold"
            )


def write_folds(
    folder: Path, table: geopandas.GeoDataFrame, splits: list[Split], zones: geopandas.GeoDataFrame
) -> None:
    """Write what training and evaluation read, and the fold map for a GIS, into an empty folder.

    ``index.json`` lists the folds and holds a digest of every fold's file, by which evaluation
    knows a model that was trained on other folds.
    """
    table[["patch", "zone", "fold"]].to_parquet(folder / "patches.parquet", index=False)
    digests = {}
    for fold, split in enumerate(splits):
        side = np.select([split.train, split.validation], ["train", "validation"], "buffer")
        path = folder / f"fold_{fold}.parquet"
        table[["patch", "zone"]].assign(side=side).to_parquet(path, index=False)
        digests[str(fold)] = digest(path)
    write_geopackage(folder / "zones.gpkg", {"zones": zones})
    write_json(folder / "index.json", {"k": len(splits), "folds": list(range(len(splits))), "digests": digests})


def summarize(table: geopandas.GeoDataFrame, splits: list[Split]) -> dict[str, Any]:
    """Counts for metrics/folds.json: patches on each side of every fold, zones, and classes validated."""
    folds = {}
    names = sorted(table["label"].unique())
    for fold, split in enumerate(splits):
        held_out = table[split.validation]
        folds[str(fold)] = {
            "zones": int(held_out["zone"].nunique()),
            "train": int(split.train.sum()),
            "validation": int(split.validation.sum()),
            "buffer": int(split.buffer.sum()),
            "classes": {name: int((held_out["label"] == name).sum()) for name in names},
        }
    return {"k": len(splits), "zones": int(table["zone"].nunique()), "folds": folds}
