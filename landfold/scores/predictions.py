"""Out-of-fold predictions: each patch predicted by the fold that did not train on its zone, read and checked."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import geopandas
import numpy as np
import pandas

from landfold.core.errors import LandfoldError
from landfold.core.files import read_json
from landfold.folds.lists import FoldIndex, column, read_assignment, read_index, read_split
from landfold.folds.split import TEST
from landfold.scores.calibration import HeldOutProbabilities
from landfold.scores.metrics import confusions
from landfold.scores.sentences import BAND_STATISTICS, PIXEL_BASELINE

SUM_TOLERANCE = 0.01
"""How far the probabilities of a patch may add up to other than 1: as much as half precision rounds."""


class EvaluationError(LandfoldError):
    """Folds that are missing, stale, or do not fit together."""


OF_PIXELS = "pixel_baseline_patches.parquet"
"""In data/audit: what the baseline of pixels says of patches."""


@dataclass(frozen=True)
class OutOfFoldPredictions:
    """The predictions of all folds, each patch once in every repeat.

    Attributes:
        classes: their names, in the order of the model cards.
        table: ``patch``, ``x``, ``y``, ``geometry``, ``zone`` (of the first repeat), ``repeat``, ``fold``, ``label``,
            ``predicted`` and ``p_CLASS`` for every class, repeat by repeat in the order of data/patches.parquet;
            ``predicted_baseline``, the audit's classifier under the same folds; ``distance_m``,
            metres to the nearest training patch; and ``predicted_random``, where the network was trained under the
            random folds, too.
        history: the training curves of all folds, with a column ``fold``.
        test: the same columns as far as they apply, of the patches of the test region, predicted by the mean of all
            folds; empty where there is no such region.
        baseline: what the baseline is.
    """

    classes: list[str]
    table: geopandas.GeoDataFrame
    history: pandas.DataFrame
    test: pandas.DataFrame
    baseline: str = BAND_STATISTICS

    def confusion(self) -> np.ndarray:
        """Counts over all patches and repeats, (class, class) int64."""
        return self.confusion_by(np.zeros(len(self.table)))[0]

    def confusion_by(self, groups: np.ndarray) -> np.ndarray:
        """Counts for each distinct value of ``groups`` (one a row), sorted: (group, class, class) int64."""
        return _counts(self.table, "predicted", groups, self.classes)

    @property
    def truth(self) -> np.ndarray:
        """The number of each row's class, (row,) int64."""
        return class_numbers(self.table["label"], self.classes)

    @property
    def probabilities(self) -> np.ndarray:
        """Of every row and class, (row, class) float32."""
        return self.table[probability_columns(self.classes)].to_numpy()

    @property
    def held_out(self) -> HeldOutProbabilities:
        """The probabilities of every row, to be calibrated."""
        columns = (self.table[name].to_numpy() for name in ("fold", "repeat", "zone"))
        return HeldOutProbabilities(self.probabilities, self.truth, *columns)

    def confusions_of_test(self) -> np.ndarray:
        """Counts for each zone of the test region, (zone, class, class) int64."""
        return _counts(self.test, "predicted", self.test["zone"].to_numpy(str), self.classes)

    def zone_confusions(self, predicted: str = "predicted") -> np.ndarray:
        """Counts for each zone of the first repeat, sorted, and each repeat: (zone, repeat, class, class) int64."""
        repeats = [part for _, part in self.table.groupby("repeat")]
        return np.stack([_counts(p, predicted, p["zone"].to_numpy(str), self.classes) for p in repeats], axis=1)


def probability_columns(classes: list[str]) -> list[str]:
    """The columns of the classes' probabilities."""
    return [f"p_{name}" for name in classes]


def class_numbers(names: pandas.Series, classes: list[str]) -> np.ndarray:
    """The number of each class, by its name."""
    return names.map({name: i for i, name in enumerate(classes)}).to_numpy()


def _counts(table: pandas.DataFrame, predicted: str, groups: np.ndarray, classes: list[str]) -> np.ndarray:
    truth, found = (class_numbers(table[name], classes) for name in ("label", predicted))
    return confusions(truth, found, groups, len(classes))


@dataclass(frozen=True)
class FoldModels:
    """The folders fold_I of the networks under one ``kind`` of split: fold (spatial) or random."""

    folder: Path
    index: FoldIndex
    kind: str

    @property
    def trained(self) -> bool:
        """Whether there are networks; random folds have none with ``audit.network: false``."""
        return not (self.folder / f"fold_{self.index.folds[0]}/off.json").is_file()

    def file(self, fold: int, name: str) -> Path:
        """A file of a fold, which must be there."""
        path = self.folder / f"fold_{fold}" / name
        if not path.is_file():
            raise EvaluationError(
                f"{path}: not found, so fold {fold} is missing or incomplete; {self.index.retrain(fold, self.kind)}"
            )
        return path

    def classes(self) -> list[str]:
        """The classes of all folds, which must have been trained on the splits that the index lists."""
        first: list[str] = []
        for fold in self.index.folds:
            path = self.file(fold, "model.json")
            card = read_json(path)
            self.index.check_card(path, fold, card["fold_digest"], self.kind)
            first = first or card["classes"]
            if card["classes"] != first:
                raise EvaluationError(
                    f"{path.parent}: fold {fold} has the classes {', '.join(card['classes'])}, but fold "
                    f"{self.index.folds[0]} has {', '.join(first)}; {self.index.retrain(fold, self.kind)}"
                )
        return first

    def predictions(self, held_out: Callable[[int], pandas.DataFrame], classes: list[str]) -> pandas.DataFrame:
        """Columns patch, repeat, predicted and p_CLASS of all folds; ``held_out`` has the validation patches of one."""
        columns = ["patch", "predicted", *probability_columns(classes)]
        return pandas.concat(
            self._read(fold, "predictions.parquet", held_out(fold), classes)[columns].assign(
                repeat=fold // self.index.k
            )
            for fold in self.index.folds
        )

    def test(self, patches: pandas.DataFrame, classes: list[str]) -> pandas.DataFrame:
        """The patches of the test region with ``predicted``: the best class of the mean of all folds."""
        if not len(patches):
            return patches.assign(predicted=patches["label"])
        total = np.zeros((len(patches), len(classes)))
        for fold in self.index.folds:
            table = self._read(fold, "test.parquet", patches, classes)
            total += table.set_index("patch").loc[patches["patch"], probability_columns(classes)].to_numpy()
        return patches.assign(predicted=np.array(classes, dtype=object)[total.argmax(axis=1)])

    def _read(self, fold: int, name: str, expected: pandas.DataFrame, classes: list[str]) -> pandas.DataFrame:
        """The predictions in a file of a fold, which must be of exactly the expected patches."""
        path = self.file(fold, name)
        table = pandas.read_parquet(path)
        fault = (
            _fault_of_patches(table, expected, fold)
            or _fault_of_labels(table, expected, fold, classes)
            or _fault_of_probabilities(table, classes)
        )
        if fault:
            raise EvaluationError(f"{path}: {fault}; {self.index.retrain(fold, self.kind)}")
        return table


def _fault_of_patches(table: pandas.DataFrame, expected: pandas.DataFrame, fold: int) -> str:
    missing = sorted(set(expected["patch"]) - set(table["patch"]))
    foreign = sorted(set(table["patch"]) - set(expected["patch"]))
    repeated = sorted(table["patch"][table["patch"].duplicated()])
    if not (missing or foreign or repeated):
        return ""
    return (
        f"expected the {len(expected)} held-out patches of fold {fold}, each once, found {len(table)}: "
        f"{len(missing)} missing, {len(foreign)} foreign, {len(repeated)} repeated "
        f"(such as {(missing + foreign + repeated)[0]})"
    )


def _fault_of_labels(table: pandas.DataFrame, expected: pandas.DataFrame, fold: int, classes: list[str]) -> str:
    labels = expected.set_index("patch")["label"].loc[table["patch"]].to_numpy()
    changed = table[table["label"].to_numpy() != labels]
    if len(changed):
        return (
            f"fold {fold} is stale: {len(changed)} patches had another label when it was trained (such as "
            f"{changed['patch'].iloc[0]}, then {changed['label'].iloc[0]})"
        )
    return fault_of_classes(table, fold, classes)


def fault_of_classes(table: pandas.DataFrame, fold: int, classes: list[str]) -> str:
    """What is wrong with the columns ``label`` and ``predicted`` of a fold; "" where all of them are classes."""
    unknown = sorted((set(table["label"]) | set(table["predicted"])) - set(classes))
    if not unknown:
        return ""
    listed = ", ".join(classes)
    return f"fold {fold} has the class {', '.join(unknown)}, which its model.json does not list ({listed})"


def _fault_of_probabilities(table: pandas.DataFrame, classes: list[str]) -> str:
    absent = sorted(set(probability_columns(classes)) - set(table.columns))
    if absent:
        return f"expected a column p_CLASS for each class of model.json, found no {', '.join(absent)}"
    values = table[probability_columns(classes)].to_numpy(np.float64)
    sound = (values >= 0).all(axis=1) & (np.abs(values.sum(axis=1) - 1) <= SUM_TOLERANCE)  # False for NaN
    if sound.all():
        return ""
    return (
        f"expected probabilities of 0 or more that add up to 1, found others in {int((~sound).sum())} patches "
        f"(such as {table['patch'][~sound].iloc[0]})"
    )


def read_predictions(models: Path, random: Path, folds: Path, patches: Path, baseline: Path) -> OutOfFoldPredictions:
    """Read the predictions of every fold that ``folds``/index.json lists.

    Args:
        models: folder of the networks under the spatial folds.
        random: the same under the random ones; folders with a file off.json where these were not trained.
        folds: data/folds/kK.
        patches: data/patches.parquet.
        baseline: data/audit, with baseline.parquet, and pixel_baseline_patches.parquet where there is a baseline of
            pixels.

    Raises:
        EvaluationError: a fold that is missing, was trained on other labels, does not predict exactly its
            validation patches, has other classes than the first fold, or has values that are no probabilities; an
            audit of other folds.
        FoldError: no index, or a fold that was trained on another split.
    """
    index = read_index(folds)
    table, test = _patches(patches, index)
    spatial = FoldModels(models, index, "fold")
    classes = spatial.classes()
    predictions = spatial.predictions(lambda fold: table[table["fold"] == fold], classes)
    table = table.merge(predictions, on=["patch", "repeat"], how="left", validate="one_to_one")
    without = int(table["predicted"].isna().sum())
    if without:
        raise EvaluationError(
            f"{index.path}: lists the folds {index.folds}, but {folds / 'patches.parquet'} has {without} patches in "
            "others; run `dvc repro --force zones`"
        )
    table = table.merge(_baseline(baseline, table), on=["patch", "repeat"], validate="one_to_one")
    random_models = FoldModels(random, index, "random")
    if random_models.trained:
        predictions = _random_predictions(random_models, table, classes)
        table = table.merge(predictions, on=["patch", "repeat"], how="left", validate="one_to_one")
    history = pandas.concat(
        [pandas.read_csv(spatial.file(fold, "history.csv")).assign(fold=fold) for fold in index.folds],
        ignore_index=True,
    )
    history = history[["fold", *history.columns.drop("fold")]]
    name = PIXEL_BASELINE if (baseline / OF_PIXELS).is_file() else BAND_STATISTICS
    return OutOfFoldPredictions(classes, table, history, spatial.test(test, classes), name)


def _baseline(folder: Path, table: pandas.DataFrame) -> pandas.DataFrame:
    """Columns patch, repeat, predicted_baseline and distance_m, for every row of the table."""
    path = folder / "baseline.parquet"
    baseline = pandas.read_parquet(path)
    rows = ["patch", "repeat", "fold", "label"]
    own, audited = (set(part[rows].itertuples(index=False, name=None)) for part in (table, baseline))
    if own != audited or len(baseline) != len(table):
        raise EvaluationError(
            f"{path}: its {len(baseline)} predictions and the network's {len(table)} differ in {len(own ^ audited)} "
            "patches, folds or labels; run `dvc repro audit`"
        )
    names = {"predicted_zoned": "predicted_baseline", "zoned_m": "distance_m"}
    baseline = baseline[["patch", "repeat", "fold", *names]].rename(columns=names)
    if (folder / OF_PIXELS).is_file():
        of_pixels = pandas.read_parquet(folder / OF_PIXELS)
        baseline = baseline.drop(columns="predicted_baseline").merge(of_pixels, on=["patch", "fold"], how="left")
        baseline = baseline.rename(columns={"predicted": "predicted_baseline"})
        if baseline["predicted_baseline"].isna().any():
            raise EvaluationError(f"{folder / OF_PIXELS}: lacks patches of {path}; run `dvc repro audit`")
    return baseline.drop(columns="fold")


def _random_predictions(models: FoldModels, table: pandas.DataFrame, classes: list[str]) -> pandas.DataFrame:
    """Columns patch, repeat and predicted_random."""
    index, own, patches = models.index, models.classes(), read_assignment(models.index.path.parent)["patch"]
    if own != classes:
        raise EvaluationError(
            f"{models.folder}: has the classes {', '.join(own)}, but the spatial folds have {', '.join(classes)}; "
            "run `dvc repro`"
        )

    def held_out(fold: int) -> pandas.DataFrame:
        chosen = patches[read_split(index.list_of("random", fold), patches).validation]
        return table[(table["repeat"] == fold // index.k) & table["patch"].isin(chosen)]

    predictions = models.predictions(held_out, classes)[["patch", "repeat", "predicted"]]
    return predictions.rename(columns={"predicted": "predicted_random"})


def _patches(patches: Path, index: FoldIndex) -> tuple[geopandas.GeoDataFrame, pandas.DataFrame]:
    """Every patch with its label, place and zone, once with its fold in each repeat; and those of the test region."""
    table = geopandas.read_parquet(patches, columns=["patch", "label", "x", "y", "geometry"])
    zones = read_assignment(index.path.parent)
    different = set(table["patch"]) ^ set(zones["patch"])
    if different or len(zones) != len(table):
        raise EvaluationError(
            f"{index.path.parent}/patches.parquet: {len(zones)} patches, but {patches} has {len(table)}, and "
            f"{len(different)} are in one of them only; run `dvc repro zones`, then train again"
        )
    table = table.merge(zones, on="patch", validate="one_to_one")
    columns = ["patch", "label", "x", "y", "geometry", "zone"]
    repeats = [
        table[columns].assign(repeat=repeat, fold=table[column("fold", repeat)]) for repeat in range(index.repeats)
    ]
    whole = pandas.concat(repeats, ignore_index=True)
    return whole[whole["fold"] != TEST].reset_index(drop=True), table.loc[table["fold"] == TEST, columns]
