"""What all folds predict of the patches that they never saw, proved to fit together."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import geopandas
import numpy as np
import pandas

from landfold.core.errors import LandfoldError
from landfold.core.files import read_json
from landfold.folds.lists import FoldIndex, column, read_assignment, read_index, read_split
from landfold.folds.split import TEST
from landfold.scores.calibration import Scaling, cross_fit
from landfold.scores.metrics import confusions

SUM_TOLERANCE = 0.01
"""What the probabilities of a patch may add up to beside 1: as much as half precision rounds."""


class EvaluationError(LandfoldError):
    """Folds that are missing, stale, or do not fit together."""


@dataclass(frozen=True)
class OutOfFold:
    """The predictions of all folds, each patch once in every repeat.

    ``table`` has ``patch``, ``x``, ``y``, ``geometry``, ``zone`` (of the first repeat), ``repeat``, ``fold``,
    ``label``, ``predicted`` and ``p_CLASS`` for every class, repeat by repeat in the order of data/patches.parquet;
    ``predicted_baseline``, the audit's classifier of band statistics under the same folds; ``distance_m``, metres to
    the nearest training patch; and ``predicted_random``, where the network was trained under the random folds, too.
    ``history`` has the curves of all folds, with a column ``fold``. ``test`` has the same columns as far as they
    apply, of the patches of the test region, predicted by the mean of all folds; it is empty where there is no such
    region.
    """

    classes: list[str]
    table: geopandas.GeoDataFrame
    history: pandas.DataFrame
    test: pandas.DataFrame

    def confusion(self) -> np.ndarray:
        """Counts over all patches and repeats, (class, class) int64."""
        return self.confusion_by(np.zeros(len(self.table)))[0]

    def confusion_by(self, groups: np.ndarray) -> np.ndarray:
        """Counts for each distinct value of ``groups`` (one a row), sorted: (group, class, class) int64."""
        return _counts(self.table, "predicted", groups, self.classes)

    @property
    def truth(self) -> np.ndarray:
        """The number of each row's class, (row,) int64."""
        return self.table["label"].map({name: i for i, name in enumerate(self.classes)}).to_numpy()

    @property
    def probabilities(self) -> np.ndarray:
        """Of every row and class, (row, class) float32."""
        return self.table[_columns(self.classes)].to_numpy()

    @cached_property
    def scaling(self) -> Scaling:
        """The probabilities scaled by temperatures that were fitted on other folds."""
        folds, repeats = self.table["fold"].to_numpy(), self.table["repeat"].to_numpy()
        return cross_fit(self.probabilities, self.truth, folds, repeats)

    def confusions_of_test(self) -> np.ndarray:
        """Counts for each zone of the test region, (zone, class, class) int64."""
        return _counts(self.test, "predicted", self.test["zone"].to_numpy(str), self.classes)

    def zone_confusions(self, predicted: str = "predicted") -> np.ndarray:
        """Counts for each zone of the first repeat, sorted, and each repeat: (zone, repeat, class, class) int64."""
        repeats = [part for _, part in self.table.groupby("repeat")]
        return np.stack([_counts(p, predicted, p["zone"].to_numpy(str), self.classes) for p in repeats], axis=1)


def _columns(classes: list[str]) -> list[str]:
    """The columns of the classes' probabilities."""
    return [f"p_{name}" for name in classes]


def _counts(table: pandas.DataFrame, predicted: str, groups: np.ndarray, classes: list[str]) -> np.ndarray:
    number = {name: i for i, name in enumerate(classes)}
    truth, found = table["label"].map(number), table[predicted].map(number)
    return confusions(truth.to_numpy(), found.to_numpy(), groups, len(classes))


@dataclass(frozen=True)
class _Trained:
    """The folders of the folds' models under one kind of split, ``fold`` (zoned) or ``random``."""

    folder: Path
    index: FoldIndex
    kind: str

    def required(self, fold: int, name: str) -> Path:
        """A file of a fold."""
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
            card = self.required(fold, "model.json")
            content = read_json(card)
            self.index.check_card(card, fold, content["fold_digest"], self.kind)
            first = first or content["classes"]
            if content["classes"] != first:
                raise EvaluationError(
                    f"{card.parent}: fold {fold} has the classes {', '.join(content['classes'])}, but fold "
                    f"{self.index.folds[0]} has {', '.join(first)}; {self.index.retrain(fold, self.kind)}"
                )
        return first

    def predictions(self, held_out: Callable[[int], pandas.DataFrame], classes: list[str]) -> pandas.DataFrame:
        """Columns patch, repeat, predicted and p_CLASS of all folds; ``held_out`` has the validation patches of one."""
        parts = []
        for fold in self.index.folds:
            path = self.required(fold, "predictions.parquet")
            found = pandas.read_parquet(path)
            self._check(path, fold, found, held_out(fold), classes)
            self._check_probabilities(path, fold, found, classes)
            columns = ["patch", "predicted", *_columns(classes)]
            parts.append(found[columns].assign(repeat=fold // self.index.k))
        return pandas.concat(parts)

    def test(self, patches: pandas.DataFrame, classes: list[str]) -> pandas.DataFrame:
        """The patches of the test region with ``predicted``: the best class of the mean of all folds."""
        if not len(patches):
            return patches.assign(predicted=patches["label"])
        total = np.zeros((len(patches), len(classes)))
        for fold in self.index.folds:
            path = self.required(fold, "test.parquet")
            found = pandas.read_parquet(path)
            self._check(path, fold, found, patches, classes)
            self._check_probabilities(path, fold, found, classes)
            total += found.set_index("patch").loc[patches["patch"], _columns(classes)].to_numpy()
        return patches.assign(predicted=np.array(classes, dtype=object)[total.argmax(axis=1)])

    def _check(
        self, path: Path, fold: int, found: pandas.DataFrame, expected: pandas.DataFrame, classes: list[str]
    ) -> None:
        """Prove that predictions are of exactly the expected patches, with their labels."""
        mend = self.index.retrain(fold, self.kind)
        missing = sorted(set(expected["patch"]) - set(found["patch"]))
        foreign = sorted(set(found["patch"]) - set(expected["patch"]))
        repeated = sorted(found["patch"][found["patch"].duplicated()])
        if missing or foreign or repeated:
            raise EvaluationError(
                f"{path}: expected the {len(expected)} held-out patches of fold {fold}, each once, found "
                f"{len(found)}: {len(missing)} missing, {len(foreign)} foreign, {len(repeated)} repeated "
                f"(such as {(missing + foreign + repeated)[0]}); {mend}"
            )
        labels = expected.set_index("patch")["label"].loc[found["patch"]].to_numpy()
        changed = found[found["label"].to_numpy() != labels]
        if len(changed):
            raise EvaluationError(
                f"{path}: fold {fold} is stale: {len(changed)} patches had another label when it was trained (such "
                f"as {changed['patch'].iloc[0]}, then {changed['label'].iloc[0]}); {mend}"
            )
        unknown = sorted((set(found["label"]) | set(found["predicted"])) - set(classes))
        if unknown:
            raise EvaluationError(
                f"{path}: fold {fold} has the class {', '.join(unknown)}, which its model.json does not list "
                f"({', '.join(classes)}); {mend}"
            )

    def _check_probabilities(self, path: Path, fold: int, found: pandas.DataFrame, classes: list[str]) -> None:
        """Prove that there are probabilities of all classes, which add up to 1."""
        mend = self.index.retrain(fold, self.kind)
        absent = sorted(set(_columns(classes)) - set(found.columns))
        if absent:
            raise EvaluationError(
                f"{path}: expected a column p_CLASS for each class of model.json, found no {', '.join(absent)}; {mend}"
            )
        values = found[_columns(classes)].to_numpy(np.float64)
        sound = (values >= 0).all(axis=1) & (np.abs(values.sum(axis=1) - 1) <= SUM_TOLERANCE)  # False for NaN
        if not sound.all():
            raise EvaluationError(
                f"{path}: expected probabilities of 0 or more that add up to 1, found others in {int((~sound).sum())} "
                f"patches (such as {found['patch'][~sound].iloc[0]}); {mend}"
            )


def read_folds(models: Path, random: Path, folds: Path, patches: Path, baseline: Path) -> OutOfFold:
    """Read the predictions of every fold that ``folds``/index.json lists.

    Args:
        models: folder of the folds' models under the zoned splits.
        random: the same under the random ones; folders with a file off.json where these were not trained.
        folds: data/folds/kK.
        patches: data/patches.parquet.
        baseline: data/audit/baseline.parquet.

    Raises:
        EvaluationError: a fold that is missing, was trained on other labels, does not predict exactly its
            validation patches, has other classes than the first fold, or probabilities that are none; an audit
            of other folds.
        FoldError: no index, or a fold that was trained on another split.
    """
    index = read_index(folds)
    table, test = _patches(patches, index)
    zoned = _Trained(models, index, "fold")
    classes = zoned.classes()
    found = zoned.predictions(lambda fold: table[table["fold"] == fold], classes)
    table = table.merge(found, on=["patch", "repeat"], how="left", validate="one_to_one")
    unseen = table["predicted"].isna()
    if unseen.any():
        raise EvaluationError(
            f"{index.path}: lists the folds {index.folds}, but {folds / 'patches.parquet'} has "
            f"{int(unseen.sum())} patches in others; run `dvc repro --force zones`"
        )
    table = table.merge(_baseline(baseline, table), on=["patch", "repeat"], validate="one_to_one")
    if not (random / f"fold_{index.folds[0]}/off.json").is_file():
        found = _random_predictions(random, index, table, classes)
        table = table.merge(found, on=["patch", "repeat"], how="left", validate="one_to_one")
    history = pandas.concat(
        [pandas.read_csv(zoned.required(fold, "history.csv")).assign(fold=fold) for fold in index.folds],
        ignore_index=True,
    )
    return OutOfFold(classes, table, history[["fold", *history.columns.drop("fold")]], zoned.test(test, classes))


def _baseline(path: Path, table: pandas.DataFrame) -> pandas.DataFrame:
    """Columns patch, repeat, predicted_baseline and distance_m, for every row of the table."""
    found = pandas.read_parquet(path)
    rows = ["patch", "repeat", "fold", "label"]
    mine, other = (set(part[rows].itertuples(index=False, name=None)) for part in (table, found))
    if mine != other or len(found) != len(table):
        raise EvaluationError(
            f"{path}: its {len(found)} predictions and the network's {len(table)} differ in {len(mine ^ other)} "
            "patches, folds or labels; run `dvc repro audit`"
        )
    names = {"predicted_zoned": "predicted_baseline", "zoned_m": "distance_m"}
    return found[["patch", "repeat", *names]].rename(columns=names)


def _random_predictions(
    folder: Path, index: FoldIndex, table: pandas.DataFrame, classes: list[str]
) -> pandas.DataFrame:
    """Columns patch, repeat and predicted_random."""
    trained, patches = _Trained(folder, index, "random"), read_assignment(index.path.parent)["patch"]
    own = trained.classes()
    if own != classes:
        raise EvaluationError(
            f"{folder}: has the classes {', '.join(own)}, but the zoned folds have {', '.join(classes)}; "
            "run `dvc repro`"
        )

    def held_out(fold: int) -> pandas.DataFrame:
        chosen = patches[read_split(index.list_of("random", fold), patches).validation]
        return table[(table["repeat"] == fold // index.k) & table["patch"].isin(chosen)]

    found = trained.predictions(held_out, classes)[["patch", "repeat", "predicted"]]
    return found.rename(columns={"predicted": "predicted_random"})


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
