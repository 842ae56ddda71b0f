"""Whether `landfold next` finds better places to label than chance: ``python -m benchmarks.next``, after `dvc repro`.

Of each fold's training patches 70 % of the labels are hidden: patch by patch, or by whole blocks of 640 m. A random
forest on band statistics learns from the others. 100 of the hidden labels are then added, by the score of
`landfold next` or at random, and the forest that learns from all of them is scored on the fold's held-out zones. All
is repeated 20 times with other labels hidden. Differences are paired, their intervals over zones.
"""

from pathlib import Path

import numpy as np
import pandas
from joblib import Parallel, delayed
from scipy.spatial import cKDTree
from sklearn.ensemble import RandomForestClassifier

from landfold.accuracy.next_labels import choose, measure_ranks, scores
from landfold.folds.lists import read_assignment, read_fold
from landfold.maps.applicability import Applicability
from landfold.params import read_params
from landfold.patches.features import patch_features
from landfold.scores.intervals import compare
from landfold.scores.metrics import confusions

REPEATS, HIDDEN_SHARE, ADDED, SPACING_M, COMMITTEE, TREES = 20, 0.7, 100, 300.0, 5, 100

BLOCK_M = {"patches": 1.0, "blocks of 640 m": 640.0}
"""Labels that lie in one square of such a side are hidden together."""

WAYS = ("none", "random", "next")


def forest(seed: int, features: np.ndarray, labels: np.ndarray) -> RandomForestClassifier:
    """A fitted classifier of band statistics."""
    return RandomForestClassifier(TREES, random_state=seed).fit(features, labels)


def hide(table: pandas.DataFrame, block_m: float, random: np.random.Generator) -> np.ndarray:
    """Which training patches keep their label, (patch,) bool: whole blocks until there are enough."""
    corners = (table[["x", "y"]].to_numpy() // block_m).astype(np.int64)
    block = np.unique(corners, axis=0, return_inverse=True)[1].ravel()
    order = random.permutation(block.max() + 1)
    filled = np.cumsum(np.bincount(block)[order])
    return np.isin(block, order[: np.searchsorted(filled, (1 - HIDDEN_SHARE) * len(table)) + 1])


def squares(labelled: pandas.DataFrame, hidden: pandas.DataFrame, names: list[str], seed: int) -> pandas.DataFrame:
    """The measures of `landfold next` for the hidden patches: from forests that each leave out a part of the zones."""
    zones = np.unique(labelled["zone"])
    part = dict(zip(zones, np.random.default_rng(seed).permutation(len(zones)) % COMMITTEE, strict=True))
    parts = labelled["zone"].map(part).to_numpy()
    values, others = labelled[names].to_numpy(), hidden[names].to_numpy()
    probabilities = np.zeros((COMMITTEE, len(hidden), labelled["number"].max() + 1))
    for member, own in enumerate(probabilities):
        used = parts != member
        fitted = forest(seed, values[used], labelled["number"].to_numpy()[used])
        own[:, fitted.classes_] = fitted.predict_proba(others)
    mean = probabilities.mean(axis=0)
    differs, largest = probabilities.argmax(axis=2) != mean.argmax(axis=1), np.sort(mean, axis=1)[:, -2:]
    sides = [pandas.Series(np.where(parts == i, "validation", "train"), index=labelled.index) for i in range(COMMITTEE)]
    area = Applicability.of(labelled[names], labelled["label"].to_numpy(), sides, size_px=1)
    near = cKDTree(labelled[["x", "y"]]).query(hidden[["x", "y"]])[0]
    return pandas.DataFrame(
        {
            "dissimilarity": area.dissimilarity(others),
            "disagreement": differs.mean(axis=0),
            "distance_m": near,
            "margin": largest[:, 1] - largest[:, 0],
        }
    )


def trial(table: pandas.DataFrame, names: list[str], sides: np.ndarray, block_m: float, seed: int) -> list[np.ndarray]:
    """Predicted numbers of the held-out patches of one fold, for each of `WAYS`."""
    random = np.random.default_rng(seed)
    train, held_out = table[sides == "train"], table[sides == "validation"]
    kept = hide(train, block_m, random)
    labelled, hidden = train[kept], train[~kept]
    score = scores(measure_ranks(squares(labelled, hidden, names, seed)))
    places = hidden["x"].to_numpy(), hidden["y"].to_numpy()
    by_score = choose(score, *places, points=ADDED, spacing_m=SPACING_M)
    chosen = {"none": [], "random": random.choice(len(hidden), len(by_score), replace=False), "next": by_score}
    known = [pandas.concat([labelled, hidden.iloc[chosen[way]]]) for way in WAYS]
    fitted = [forest(seed, part[names].to_numpy(), part["number"].to_numpy()) for part in known]
    return [classifier.predict(held_out[names].to_numpy()) for classifier in fitted]


def main() -> None:
    """Print the table."""
    k = read_params().zones.k
    patches, folds = Path("data/patches.parquet"), Path(f"data/folds/k{k}")
    columns = ["patch", "scene", "row", "column", "size_px", "label", "x", "y"]
    table = pandas.read_parquet(patches, columns=columns)
    features = patch_features(table, Path("data/normalized"))
    names = list(features.columns)
    table = table.assign(**features.reset_index(drop=True), number=np.unique(table["label"], return_inverse=True)[1])
    table["zone"] = table["patch"].map(read_assignment(folds).set_index("patch")["zone"])
    table = table.set_index("patch", drop=False)
    sides = [read_fold(patches, folds / f"fold_{fold}.parquet")["side"].to_numpy() for fold in range(k)]
    print("| hidden by | score | none added | at random | by `next` | by `next` less at random |")
    print("|---|---|---|---|---|---|")
    for hidden, block_m in BLOCK_M.items():
        jobs = [(r, fold) for r in range(REPEATS) for fold in range(k)]
        found = Parallel(-1)(delayed(trial)(table, names, sides[fold], block_m, r * k + fold) for r, fold in jobs)
        print_rows(hidden, table, sides, [found[repeat * k : (repeat + 1) * k] for repeat in range(REPEATS)])


def print_rows(
    hidden: str, table: pandas.DataFrame, sides: list[np.ndarray], repeats: list[list[list[np.ndarray]]]
) -> None:
    """The rows of one way of hiding; ``repeats`` has the predictions by repeat, fold and way."""
    held_out = pandas.concat([table[side == "validation"] for side in sides])
    truth, zones, classes = held_out["number"].to_numpy(), held_out["zone"].to_numpy(str), table["number"].max() + 1
    counts = {
        way: np.stack(
            [confusions(truth, np.concatenate([f[i] for f in folds]), zones, classes) for folds in repeats], axis=1
        )
        for i, way in enumerate(WAYS)
    }
    before = compare(counts["none"], counts["random"])[0]
    at_random, by_next, differences = compare(counts["random"], counts["next"])
    for score in ("accuracy", "macro_f1"):
        values = " | ".join(f"{part[score]['pooled']:.3f}" for part in (before, at_random, by_next))
        d = differences[score]
        print(
            f"| {hidden} | {score} | {values} | {d['pooled']:+.3f} ({d['low']:+.3f} to {d['high']:+.3f}) |", flush=True
        )


if __name__ == "__main__":
    main()
