"""Numbers and warnings about folds that are sound: metrics/folds.json."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely

from landfold.folds.lists import CrossValidationFolds, column
from landfold.folds.settings import ZoneSettings
from landfold.folds.split import TEST, Split
from landfold.folds.zones import Blocks

TINY_TEST = 5
"""A fold with fewer validation patches is flagged, as in blockCV's cv_summary (min_test)."""

IMBALANCE = 0.25
"""A class in a fold with less than this share of its even part is flagged, as in blockCV's cv_summary."""


def fold_flags(train: np.ndarray, validation: np.ndarray) -> list[list[str]]:
    """What is wrong with each fold of a repeat, from its counts, both (fold, class).

    As blockCV's cv_summary has them: ``single_class_test``: validation patches of one class alone;
    ``class_missing_train``: a class that training lacks; ``tiny_test``: fewer than TINY_TEST validation patches;
    ``imbalance``: a class with less than IMBALANCE of its even part of the validation patches, where that part
    is 2 or more and the class is not absent.
    """
    even = validation.sum(axis=0) / len(validation)
    scarce = (validation > 0) & (validation < IMBALANCE * even) & (even >= 2)
    flags = {
        "single_class_test": ((validation > 0).sum(axis=1) <= 1) & (validation.shape[1] > 1),
        "class_missing_train": (train == 0).any(axis=1),
        "tiny_test": validation.sum(axis=1) < TINY_TEST,
        "imbalance": scarce.any(axis=1),
    }
    return [[name for name, flagged in flags.items() if flagged[fold]] for fold in range(len(validation))]


def fold_summary(folds: CrossValidationFolds) -> dict[str, Any]:
    """Counts for metrics/folds.json: patches in each role of every fold, zones, classes validated, and flags."""
    names, number = np.unique(folds.table["label"].to_numpy(str), return_inverse=True)
    counts: dict[str, dict[str, Any]] = {}
    for repeat in range(len(folds.zones)):
        first, zone = folds.k * repeat, folds.table[column("zone", repeat)]
        splits = folds.spatial[first : first + folds.k]
        train, validation = (
            np.stack([np.bincount(number[getattr(split, role)], minlength=len(names)) for split in splits])
            for role in ("train", "validation")
        )
        flags = fold_flags(train, validation)
        for i, split in enumerate(splits):
            counts[str(first + i)] = {
                "zones": int(zone[split.validation].nunique()),
                "train": int(split.train.sum()),
                "validation": int(split.validation.sum()),
                "buffer": int(split.buffer.sum()),
                "classes": dict(zip(names.tolist(), validation[i].tolist(), strict=True)),
                "flags": flags[i],
            }
    return {
        "k": folds.k,
        "repeats": len(folds.zones),
        "zones": int(folds.table["zone"].nunique()),
        "test": int((folds.table["fold"] == TEST).sum()),
        "folds": counts,
    }


def fold_warnings(folds: CrossValidationFolds, settings: ZoneSettings) -> list[str]:
    """What the user should know of folds that are sound, beside the flags of `fold_summary`."""
    messages = []
    if settings.kind == "kmeans":
        messages.append("zones.kind: kmeans: new patches move every zone, and results before and after do not compare")
    if settings.kind == "grid":
        messages += _border_warnings(folds.table.geometry.to_numpy(), Blocks(settings.block_size_m, settings.origin_m))
    folded = folds.table[folds.table["fold"] != TEST]
    for repeat in range(settings.repeats):
        which = f"repeat {repeat}: " if settings.repeats > 1 else ""
        zones_of_class = folded.groupby("label")[column("zone", repeat)].nunique()
        for name, zones in zones_of_class[zones_of_class < settings.k].items():
            lost = "the fold that validates it has not learned it" if zones == 1 else "not every fold validates it"
            messages.append(f"{which}zones with class {name}: {zones}, fewer than folds: {lost}")
    return messages + random_warnings(folds.spatial, folds.random)


def _border_warnings(footprints: np.ndarray, blocks: Blocks) -> list[str]:
    """A warning where blocks on the corners of the patches would leave half as many patches across borders, or fewer.

    Those blocks have the nearest size that is a whole number of patches, and corners where most patches have theirs.
    """
    bounds = shapely.bounds(footprints)
    side = float(np.median(bounds[:, 2] - bounds[:, 0]).round(3))
    across = _across_borders(bounds, blocks)
    if not across or side == 0:
        return []
    size = max(1, round(blocks.block_size_m / side)) * side
    corners, counts = np.unique(bounds[:, :2].round(3) % side, axis=0, return_counts=True)
    aligned = Blocks(size, tuple(corners[counts.argmax()].tolist()))
    left = _across_borders(bounds, aligned)
    if 2 * left > across:
        return []
    x, y = aligned.origin_m
    return [
        f"{across} of {len(bounds)} patches lie across a border of two blocks; zones.block_size_m: {size:g} and "
        f"zones.origin_m: [{x:g}, {y:g}] leave {left}"
    ]


def _across_borders(bounds: np.ndarray, blocks: Blocks) -> int:
    """How many upright squares, (n, 4) x_min, y_min, x_max, y_max, share ground with more than one block."""
    inset = 1e-3 * (bounds[:, 2] - bounds[:, 0])
    lower, upper = (
        blocks.at(bounds[:, i] + sign * inset, bounds[:, i + 1] + sign * inset) for i, sign in ((0, 1), (2, -1))
    )
    return int((lower != upper).sum())


def random_warnings(spatial: Sequence[Split], random: Sequence[Split]) -> list[str]:
    """Which random folds cannot train on as many patches as the spatial ones; random folds may be absent."""
    pairs = enumerate(zip(spatial, random, strict=False))
    fewer = [str(fold) for fold, (one, other) in pairs if other.train.sum() < one.train.sum()]
    if not fewer:
        return []
    return [
        f"the random splits of fold {', '.join(fewer)} train on all other patches, fewer than the spatial fold does"
    ]
