"""What all folds predict of the patches that they never saw, proved to fit together, and its summary."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas

from landfold.errors import LandfoldError
from landfold.files import read_json
from landfold.folds import TEST, FoldIndex, column, read_index
from landfold.metrics import (
    HEADLINE,
    EvaluateSettings,
    compare,
    compare_splits,
    confusions,
    f1,
    rounded,
    weighted_f1,
    zone_bootstrap,
)


class EvaluationError(LandfoldError):
    """Folds that are missing, stale, or do not fit together."""


@dataclass(frozen=True)
class OutOfFold:
    """The predictions of all folds, each patch once in every repeat.

    ``table`` has ``patch``, ``x``, ``y``, ``geometry``, ``zone`` (of the first repeat), ``repeat``, ``fold``,
    ``label`` and ``predicted``, repeat by repeat in the order of data/patches.parquet; and
    ``predicted_baseline``, the audit's classifier of band statistics under the same folds; and
    ``predicted_random``, where the network was trained under the random folds, too. ``history`` has the curves
    of all folds, with a column ``fold``. ``test`` has the same columns as far as they apply, of the patches
    of the test region, predicted by the mean of all folds; it is empty where there is no such region.
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

    def zone_confusions(self, predicted: str = "predicted") -> np.ndarray:
        """Counts for each zone of the first repeat, sorted, and each repeat: (zone, repeat, class, class) int64."""
        repeats = [part for _, part in self.table.groupby("repeat")]
        return np.stack([_counts(p, predicted, p["zone"].to_numpy(str), self.classes) for p in repeats], axis=1)


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
        """Columns patch, repeat and predicted of all folds; ``held_out`` gives the validation patches of one."""
        parts = []
        for fold in self.index.folds:
            path = self.required(fold, "predictions.parquet")
            found = pandas.read_parquet(path, columns=["patch", "label", "predicted"])
            self._check(path, fold, found, held_out(fold), classes)
            parts.append(found[["patch", "predicted"]].assign(repeat=fold // self.index.k))
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
            total += found.set_index("patch").loc[patches["patch"], [f"p_{name}" for name in classes]].to_numpy()
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
            validation patches, or has other classes than the first fold; an audit of other folds.
        FoldError: no index, or a fold that was trained on another split.
    """
    index = read_index(folds)
    table, test = _patches(patches, folds / "patches.parquet", index)
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
    """Columns patch, repeat and predicted_baseline, for every row of the table."""
    found = pandas.read_parquet(path)
    rows = ["patch", "repeat", "fold", "label"]
    mine, other = (set(part[rows].itertuples(index=False, name=None)) for part in (table, found))
    if mine != other or len(found) != len(table):
        raise EvaluationError(
            f"{path}: its {len(found)} predictions and the network's {len(table)} differ in {len(mine ^ other)} "
            "patches, folds or labels; run `dvc repro audit`"
        )
    return found[["patch", "repeat", "predicted_zoned"]].rename(columns={"predicted_zoned": "predicted_baseline"})


def _random_predictions(
    folder: Path, index: FoldIndex, table: pandas.DataFrame, classes: list[str]
) -> pandas.DataFrame:
    """Columns patch, repeat and predicted_random."""
    trained = _Trained(folder, index, "random")
    own = trained.classes()
    if own != classes:
        raise EvaluationError(
            f"{folder}: has the classes {', '.join(own)}, but the zoned folds have {', '.join(classes)}; "
            "run `dvc repro`"
        )

    def held_out(fold: int) -> pandas.DataFrame:
        sides = pandas.read_parquet(index.path.with_name(f"random_{fold}.parquet"))
        chosen = sides["patch"][sides["side"] == "validation"]
        return table[(table["repeat"] == fold // index.k) & table["patch"].isin(chosen)]

    return trained.predictions(held_out, classes).rename(columns={"predicted": "predicted_random"})


def _patches(patches: Path, assigned: Path, index: FoldIndex) -> tuple[geopandas.GeoDataFrame, pandas.DataFrame]:
    """Every patch with its label, place and zone, once with its fold in each repeat; and those of the test region."""
    table = geopandas.read_parquet(patches, columns=["patch", "label", "x", "y", "geometry"])
    zones = pandas.read_parquet(assigned)
    different = set(table["patch"]) ^ set(zones["patch"])
    if different or len(zones) != len(table):
        raise EvaluationError(
            f"{assigned}: {len(zones)} patches, but {patches} has {len(table)}, and {len(different)} are in one of "
            "them only; run `dvc repro zones`, then train again"
        )
    table = table.merge(zones, on="patch", validate="one_to_one")
    columns = ["patch", "label", "x", "y", "geometry", "zone"]
    repeats = [
        table[columns].assign(repeat=repeat, fold=table[column("fold", repeat)]) for repeat in range(index.repeats)
    ]
    whole = pandas.concat(repeats, ignore_index=True)
    return whole[whole["fold"] != TEST].reset_index(drop=True), table.loc[table["fold"] == TEST, columns]


def summarize(found: OutOfFold, settings: EvaluateSettings) -> dict[str, Any]:
    """What metrics/summary.json holds, rounded to 4 digits.

    A headline score under ``zoned`` has ``pooled`` (over the out-of-fold predictions of a repeat, averaged over
    repeats), ``low`` and ``high`` (its zone-bootstrap 95 % interval), ``mean`` and ``std`` over folds (the
    population's standard deviation: these are all the folds there are). ``over_baseline`` is what the network has
    over band statistics on the same patches, paired (their scores are in metrics/audit.json). ``random`` and
    ``gap`` (random less zoned, paired) are there where the network was trained under the random folds, too;
    ``test`` where there is a test region. Precision and recall by class are in metrics/plots/per_class.csv:
    `dvc exp show` gives a column to every number here.
    """
    zones = found.zone_confusions()
    pooled = zones.sum(axis=0)
    folds = found.confusion_by(found.table["fold"].to_numpy())
    scores: dict[str, Any] = _scores(zones, settings)
    for name, score in HEADLINE.items():
        by_fold = score(folds)
        scores[name] |= {"mean": rounded(by_fold.mean()), "std": rounded(by_fold.std())}
    scores["weighted_f1"] = rounded(weighted_f1(pooled).mean())
    scores["f1"] = dict(zip(found.classes, map(rounded, f1(pooled).mean(axis=0)), strict=True))
    patches = len(found.table) // pooled.shape[0]
    _, _, over = compare(found.zone_confusions("predicted_baseline"), zones, settings)
    summary = {"zoned": scores, "over_baseline": over, "patches": patches, "zones": len(zones)}
    if "predicted_random" in found.table:
        compared = compare_splits(zones, found.zone_confusions("predicted_random"), settings)
        summary |= {part: compared[part] for part in ("random", "gap")}
    if len(found.test):
        groups = found.test["zone"].to_numpy(str)
        counts = _counts(found.test, "predicted", groups, found.classes)
        summary["test"] = _scores(counts, settings) | {"patches": len(found.test), "zones": len(counts)}
    return summary


def _scores(zones: np.ndarray, settings: EvaluateSettings) -> dict[str, dict[str, float]]:
    """Pooled, low and high of every headline score, of counts by zone and, if there are several, by repeat."""
    intervals = zone_bootstrap(zones, settings)
    return {
        name: dict(
            zip(
                ("pooled", "low", "high"),
                map(rounded, (np.mean(score(zones.sum(axis=0))), *intervals[name])),
                strict=True,
            )
        )
        for name, score in HEADLINE.items()
    }
