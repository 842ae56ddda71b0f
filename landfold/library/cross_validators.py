"""Folds over the rows of a table, as scikit-learn takes them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import geopandas
import numpy as np
import pandas

from landfold.folds.check import check_splits
from landfold.folds.lists import CrossValidationFolds
from landfold.folds.settings import ZoneSettings
from landfold.folds.split import FoldError, Split
from landfold.folds.summary import fold_summary, fold_warnings

ROLE_NAMES = {"validation": "test", "test": "test region"}
"""What scikit-learn calls validation, and what then is left for the test region."""


@dataclass(frozen=True, repr=False, eq=False)
class CrossValidator:
    """Folds that scikit-learn takes as ``cv=``: it yields pairs of row numbers, to train on and to test on.

    ``index`` is that of the table, ``masks`` are the folds over its rows.
    """

    index: pandas.Index
    masks: Sequence[Split]

    def split(
        self,
        X: Any = None,  # noqa: N803 - scikit-learn's name
        y: Any = None,
        groups: Any = None,
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Numbers of the rows to train on and to test on, (row,) int64 each, for every fold.

        Args:
            X: the rows that are to be split, if any: as many as the table has, in its order.
            y: not used.
            groups: not used: the zones are the groups.

        Raises:
            FoldError: another number of rows.
        """
        rows = len(self.index) if X is None else X.shape[0] if hasattr(X, "shape") else len(X)
        if rows != len(self.index):
            raise FoldError(
                f"X has {rows} rows, but the folds were made of {len(self.index)}; pass the same rows in the same "
                "order, or make folds of these"
            )
        for mask in self.masks:
            yield np.flatnonzero(mask.train), np.flatnonzero(mask.validation)

    def get_n_splits(
        self,
        X: Any = None,  # noqa: N803 - scikit-learn's name
        y: Any = None,
        groups: Any = None,
    ) -> int:
        """Number of folds."""
        return len(self.masks)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        return self.split()

    def __len__(self) -> int:
        return len(self.masks)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.masks)} folds of {len(self.index)} rows)"


@dataclass(frozen=True, repr=False, eq=False)
class RandomFolds(CrossValidator):
    """Folds drawn at random, whatever the ground, with as much training as the spatial ones; see `random_folds`."""


@dataclass(frozen=True, repr=False, eq=False)
class SpatialFolds(CrossValidator):
    """Folds of whole zones, proved to share no ground; see `spatial_folds`.

    ``folds`` and ``settings`` are those of the pipeline.
    """

    folds: CrossValidationFolds
    settings: ZoneSettings

    @cached_property
    def fold(self) -> pandas.Series:
        """The fold that tests each row, int64; -1 in the test region."""
        return pandas.Series(self.folds.table["fold"].to_numpy(), self.index, name="fold")

    @cached_property
    def zone(self) -> pandas.Series:
        """The name of each row's zone."""
        return pandas.Series(self.folds.table["zone"].to_numpy(object), self.index, name="zone")

    @cached_property
    def buffer(self) -> pandas.Series:
        """The number of rows that each fold drops from training because they are too close to its test rows."""
        counts = [int(mask.buffer.sum()) for mask in self.masks]
        return pandas.Series(counts, pandas.RangeIndex(len(counts), name="fold"), name="buffer")

    @cached_property
    def zones(self) -> geopandas.GeoDataFrame:
        """One row a zone: ``zone``, ``fold`` (-1: in the test region alone), ``rows`` and its ground, to plot."""
        return self.folds.zones[0].rename(columns={"patches": "rows"})

    def role(self, fold: int) -> pandas.Series:
        """What each row does in a fold: ``train``, ``test``, ``buffer`` or ``test region``; to plot."""
        roles = pandas.Series(self.masks[fold].roles.astype(object), self.index, name="role")
        return roles.replace(ROLE_NAMES)

    def summary(self) -> pandas.DataFrame:
        """One row a fold: its zones, its rows in each role, its test rows of each class, and flags.

        Flags are those of blockCV: ``single_class_test``, ``class_missing_train``, ``tiny_test`` (fewer than 5 rows)
        and ``imbalance`` (a class with less than a quarter of its even part).
        """
        table = pandas.DataFrame.from_dict(fold_summary(self.folds)["folds"], orient="index")
        classes = pandas.DataFrame(table.pop("classes").tolist(), index=table.index).add_prefix("test_")
        table = table.rename(columns={"validation": "test"})
        if len(classes.columns) > 1:
            table[classes.columns] = classes
        table["flags"] = table.pop("flags").map(", ".join)
        return table.set_axis(pandas.RangeIndex(len(table), name="fold"))

    @property
    def warnings(self) -> list[str]:
        """What to know of folds that are sound but poor: classes in few zones, and flags."""
        flagged = [f"fold {fold}: {flags}" for fold, flags in self.summary()["flags"].items() if flags]
        return [as_arguments(message) for message in fold_warnings(self.folds, self.settings)] + flagged

    def check(self) -> None:
        """Prove by another way than that by which the folds were made that they keep their promises.

        Every row outside the test region is tested once, a zone is in one fold, and training shares no ground with
        test rows or the test region, nor lies within the buffer. `spatial_folds` has called this.

        Raises:
            FoldError: a broken promise, which is a fault of Landfold.
        """
        table = self.folds.table
        zone, fold = table["zone"].to_numpy(), table["fold"].to_numpy()
        check_splits(self.masks, zone, fold, table.geometry.to_numpy(), self.settings.buffer_m)

    def __repr__(self) -> str:
        return (
            f"SpatialFolds(k={len(self)}, rows={len(self.index)}, zones={len(self.zones)}, "
            f"kind={self.settings.kind!r}, buffer_m={self.settings.buffer_m:g})"
        )


def as_arguments(message: str) -> str:
    """A message of the pipeline in the words of `spatial_folds`: settings as arguments, patches as rows."""
    for pipeline, library in _AS_ARGUMENTS:
        message = message.replace(pipeline, library)
    return message


_AS_ARGUMENTS = (
    (" (and zones.folds)", ""),
    ("set patches.stride_px to patches.size_px or more, ", ""),
    ("zones.file", "zones"),
    ("zones.", ""),
    ("patches", "rows"),
    ("patch", "row"),
)
