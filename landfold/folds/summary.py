"""Numbers and warnings about folds that are sound: metrics/folds.json."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from landfold.folds.lists import CrossValidationFolds, column
from landfold.folds.settings import ZoneSettings
from landfold.folds.split import TEST, Split

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
    folded = folds.table[folds.table["fold"] != TEST]
    for repeat in range(settings.repeats):
        which = f"repeat {repeat}: " if settings.repeats > 1 else ""
        zones_of_class = folded.groupby("label")[column("zone", repeat)].nunique()
        for name, zones in zones_of_class[zones_of_class < settings.k].items():
            lost = "the fold that validates it has not learned it" if zones == 1 else "not every fold validates it"
            messages.append(f"{which}zones with class {name}: {zones}, fewer than folds: {lost}")
    return messages + random_warnings(folds.spatial, folds.random)


def random_warnings(spatial: Sequence[Split], random: Sequence[Split]) -> list[str]:
    """Which random folds cannot train on as many patches as the spatial ones; random folds may be absent."""
    pairs = enumerate(zip(spatial, random, strict=False))
    fewer = [str(fold) for fold, (one, other) in pairs if other.train.sum() < one.train.sum()]
    if not fewer:
        return []
    return [
        f"the random splits of fold {', '.join(fewer)} train on all other patches, fewer than the spatial fold does"
    ]
