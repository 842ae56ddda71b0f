"""Counts of held-out labelled pixels: those of each zone by the fold that did not train on it, read and checked."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas

from landfold.folds.lists import FoldIndex, column, read_assignment, read_index
from landfold.pixels.counts import COLUMNS, RANDOM_PATCHES, RANDOM_PIXELS, ZONES
from landfold.scores.calibration import HeldOutProbabilities
from landfold.scores.predictions import (
    EvaluationError,
    FoldModels,
    class_numbers,
    fault_of_classes,
    probability_columns,
)

FILE, SAMPLE = "pixels.parquet", "pixel_sample.parquet"

BASELINE = "baseline"
"""The split of the zones as the audit's baseline of pixels predicts them."""

RANDOM_SPLITS = (RANDOM_PATCHES, RANDOM_PIXELS)
"""Those of the random folds: pixels in patches that are held out at random, and pixels that are set aside at random."""


@dataclass(frozen=True)
class HeldOutPixels:
    """Counts of the labelled pixels that all folds hold out.

    Attributes:
        classes: their names, in the order of the model cards.
        table: ``split`` (`ZONES`, `BASELINE` or of `RANDOM_SPLITS`), ``repeat``, ``fold``, ``zone`` (of that repeat;
            "" where there is none), ``boundary``, ``label`` and ``predicted`` (numbers of the classes), and ``pixels``.
        sample: probabilities of a random sample of the pixels of the spatial folds.
    """

    classes: list[str]
    table: pandas.DataFrame
    sample: HeldOutProbabilities

    @property
    def spatial(self) -> pandas.DataFrame:
        """The rows of the spatial folds: each labelled pixel of a zone once in every repeat."""
        return self.of_split(ZONES)

    def of_split(self, split: str) -> pandas.DataFrame:
        """The rows of one split."""
        return self.table[self.table["split"] == split]

    def comparable(self, split: str) -> pandas.DataFrame:
        """The rows of a split with ``pixels`` weighted so that splits are scored on like pixels.

        Random patches hold fewer pixels of boundaries and small polygons than the zones do, and would score higher for
        that alone: they are given the zones' number of pixels of each class at a boundary and inside. The other splits
        hold pixels of all kinds, and count as they are.
        """
        rows = self.of_split(split)
        if split != RANDOM_PATCHES:
            return rows
        kinds = ["repeat", "label", "boundary"]
        wanted, own = (part.groupby(kinds)["pixels"].sum() for part in (self.spatial, rows))
        weights = (wanted / own).reindex(pandas.MultiIndex.from_frame(rows[kinds])).fillna(0)
        return rows.assign(pixels=rows["pixels"] * weights.to_numpy())

    def splits(self) -> list[str]:
        """Those that there are, the spatial one first."""
        return [split for split in (ZONES, *RANDOM_SPLITS) if len(self.of_split(split))]

    def zone_confusions(self, rows: pandas.DataFrame) -> list[np.ndarray]:
        """Counts for each zone that the spatial folds hold out, by name: (zone, class, class) for each repeat.

        Zones differ between repeats. Pixels in other zones, or none, are left out, so that splits are compared on the
        same ground.

        Args:
            rows: some of the table; their ``pixels`` may be weighted.
        """
        counts = []
        for repeat, spatial in self.spatial.groupby("repeat"):
            zones = np.unique(spatial["zone"].to_numpy(str))
            own = rows[(rows["repeat"] == repeat) & rows["zone"].isin(zones)]
            counts.append(self._counts(own, np.searchsorted(zones, own["zone"].to_numpy(str)), len(zones)))
        return counts

    def fold_confusions(self) -> np.ndarray:
        """Counts for each spatial fold: (fold, class, class)."""
        folds = self.spatial["fold"].to_numpy()
        return self._counts(self.spatial, folds, folds.max() + 1)

    def _counts(self, rows: pandas.DataFrame, groups: np.ndarray, number: int) -> np.ndarray:
        truth, predicted, pixels = (rows[name].to_numpy() for name in ("label", "predicted", "pixels"))
        counts = np.zeros((number, len(self.classes), len(self.classes)), dtype=pixels.dtype)
        np.add.at(counts, (groups, truth, predicted), pixels)
        return counts


def read_pixels(models: Path, random: Path, folds: Path, classes: list[str], audit: Path) -> HeldOutPixels | None:
    """Read pixels.parquet of every fold that ``folds``/index.json lists; None where no network is one of pixels.

    Args:
        models: folder of the networks under the spatial folds.
        random: the same under the random ones; folders with a file off.json where these were not trained.
        folds: data/folds/kK.
        classes: those of the model cards.
        audit: data/audit, with pixel_baseline_pixels.parquet where there is a baseline of pixels.

    Raises:
        EvaluationError: some folds have counts or samples and others none; a fold has other columns, classes or splits
            than expected, counts pixels of zones that it does not hold out, or none at all.
    """
    index = read_index(folds)
    if not any((models / f"fold_{fold}" / FILE).is_file() for fold in index.folds):
        return None
    kinds = [FoldModels(models, index, "fold"), FoldModels(random, index, "random")]
    assigned = read_assignment(folds)
    parts = [
        _read(kind, fold, _zones(assigned, index, fold), classes)
        for kind in kinds
        if kind.trained
        for fold in index.folds
    ]
    baseline = audit / "pixel_baseline_pixels.parquet"
    if baseline.is_file():
        counts = pandas.read_parquet(baseline)
        parts.append(counts.assign(split=BASELINE, repeat=counts["fold"] // index.k))
    table = pandas.concat(parts, ignore_index=True)
    numbers = {name: i for i, name in enumerate(classes)}
    table = table.assign(**{name: table[name].map(numbers) for name in ("label", "predicted")})
    return HeldOutPixels(classes, table, _sample(kinds[0], table, classes))


def _sample(models: FoldModels, table: pandas.DataFrame, classes: list[str]) -> HeldOutProbabilities:
    """The samples of all spatial folds, cut so that each of their pixels is as likely to be in them.

    Raises:
        EvaluationError: a sample lacks a column or has no pixel.
    """
    counts = table[table["split"] == ZONES].groupby("fold")["pixels"].sum()
    samples = {fold: pandas.read_parquet(models.file(fold, SAMPLE)) for fold in models.index.folds}
    expected = ["zone", "label", *probability_columns(classes)]
    for fold, sample in samples.items():
        if list(sample.columns) != expected or not len(sample):
            raise EvaluationError(
                f"{models.file(fold, SAMPLE)}: expected pixels with {', '.join(expected)}, found {len(sample)} with "
                f"{', '.join(sample.columns)}; {models.index.retrain(fold, models.kind)}"
            )
    share = min(len(sample) / counts[fold] for fold, sample in samples.items())
    parts = [
        sample.head(round(share * counts[fold])).assign(fold=fold, repeat=fold // models.index.k)
        for fold, sample in samples.items()
    ]
    whole = pandas.concat(parts, ignore_index=True)
    return HeldOutProbabilities(
        whole[probability_columns(classes)].to_numpy(),
        class_numbers(whole["label"], classes),
        *(whole[name].to_numpy() for name in ("fold", "repeat", "zone")),
    )


def _zones(assigned: pandas.DataFrame, index: FoldIndex, fold: int) -> set[str]:
    """The names of the zones that a spatial fold holds out."""
    repeat = fold // index.k
    return set(assigned[column("zone", repeat)][assigned[column("fold", repeat)] == fold])


def _read(models: FoldModels, fold: int, zones: set[str], classes: list[str]) -> pandas.DataFrame:
    """The counts of one fold, with its number and repeat."""
    path = models.file(fold, FILE)
    table = pandas.read_parquet(path)
    fault = (
        _fault_of_columns(table)
        or _fault_of_counts(table)
        or fault_of_classes(table, fold, classes)
        or _fault_of_splits(table, models.kind)
        or (_fault_of_zones(table, zones, fold) if models.kind == "fold" else "")
    )
    if fault:
        raise EvaluationError(f"{path}: {fault}; {models.index.retrain(fold, models.kind)}")
    return table.assign(fold=fold, repeat=fold // models.index.k)


def _fault_of_columns(table: pandas.DataFrame) -> str:
    expected = [*COLUMNS, "pixels", "split"]
    absent = sorted(set(expected) - set(table.columns))
    if absent:
        return f"expected the columns {', '.join(expected)}, found no {', '.join(absent)}"
    return "" if len(table) else "expected counts of labelled pixels, found none"


def _fault_of_counts(table: pandas.DataFrame) -> str:
    empty = int((table["pixels"] <= 0).sum())
    return f"expected 1 or more pixels in each row, found others in {empty} rows" if empty else ""


def _fault_of_splits(table: pandas.DataFrame, kind: str) -> str:
    expected = (ZONES,) if kind == "fold" else RANDOM_SPLITS
    other = sorted(set(table["split"]) - set(expected))
    return f"expected the split {' or '.join(expected)}, found {', '.join(other)}" if other else ""


def _fault_of_zones(table: pandas.DataFrame, zones: set[str], fold: int) -> str:
    other = table[~table["zone"].isin(zones)]
    if not len(other):
        return ""
    return (
        f"{int(other['pixels'].sum())} pixels lie in zones that fold {fold} does not hold out (such as "
        f"{other['zone'].iloc[0] or 'no zone'})"
    )
