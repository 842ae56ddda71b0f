"""An inner split of the training zones, for early stopping: the validation fold never chooses an epoch."""

import warnings

import numpy as np
import pandas
import shapely
from sklearn.model_selection import StratifiedGroupKFold

from landfold.folds.split import split_fold
from landfold.network.errors import TrainingError


def inner_split(table: pandas.DataFrame, train: np.ndarray, *, parts: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split the training patches into those to learn from and those to choose the epoch by.

    The latter are whole zones, one of ``parts`` folds with classes as even as zones allow. Other training patches that
    overlap them are in neither.

    Args:
        table: patches with ``label``, ``zone`` and ``geometry`` (WKB).
        train: (patch,) bool, the training patches. The others have no influence.
        parts: number of inner folds.
        seed: of their assignment.

    Returns:
        (patch,) bool each: to learn from, and to choose by.

    Raises:
        TrainingError: fewer training zones than parts, or an inner part without patches.
        FoldError: every other training patch overlaps the inner part.
    """
    own = table[train]
    zones = own["zone"].to_numpy(str)
    count = len(set(zones))
    if count < parts:
        raise TrainingError(
            f"train.early_stopping: {count} training zones cannot make {parts} inner folds; lower train.inner_folds "
            "or zones.block_size_m, or set train.early_stopping to null"
        )
    labels = own["label"].to_numpy(str)
    parts = min(parts, int(np.unique(labels, return_counts=True)[1].max()))
    splitter = StratifiedGroupKFold(max(parts, 2), shuffle=True, random_state=seed)
    folds = np.full(len(own), 1, dtype=np.int64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # the zones stage has told
        folds[next(splitter.split(zones, labels, zones))[1]] = 0
    if not (folds == 0).any():
        raise TrainingError(
            f"train.early_stopping: {count} training zones of very unequal size leave the inner part empty; "
            "lower train.inner_folds, or set train.early_stopping to null"
        )
    split = split_fold(shapely.from_wkb(own["geometry"].to_numpy(object)), folds, 0, 0)
    learn, choose = np.zeros_like(train), np.zeros_like(train)
    positions = np.flatnonzero(train)
    learn[positions[split.train]] = True
    choose[positions[split.validation]] = True
    return learn, choose
