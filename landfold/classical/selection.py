"""The best of a few classical models, chosen and tuned on inner zones of those that it may learn from."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas
from sklearn.base import ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

PARTS = 2
"""Inner folds of zones that candidates are compared on."""

CHOICE_ROWS = 4000
"""Rows that a candidate learns from in an inner fold, and is scored on, at most: all five are compared in seconds."""


@dataclass(frozen=True)
class Candidate:
    """A classical model with its settings: its name in words, and what makes an untrained one from a seed."""

    name: str
    make: Callable[[int], ClassifierMixin]


@dataclass(frozen=True)
class ChosenModel:
    """The best candidate, trained on all rows.

    Attributes:
        name: of the candidate.
        model: of scikit-learn; its ``classes_`` are numbers of classes.
        scores: the mean of accuracy and macro F1 of every candidate on the inner folds, by name; empty where there
            are too few zones to compare.
    """

    name: str
    model: ClassifierMixin
    scores: dict[str, float]

    def table(self) -> pandas.DataFrame:
        """A row for each candidate that was compared, best first: ``model``, ``score`` and ``chosen``."""
        rows = [(name, score, name == self.name) for name, score in self.scores.items()] or [(self.name, np.nan, True)]
        return pandas.DataFrame(rows, columns=["model", "score", "chosen"]).sort_values("score", ascending=False)


def _boosting(seed: int, **settings: float) -> ClassifierMixin:
    return HistGradientBoostingClassifier(random_state=seed, early_stopping=False, max_features=0.3, **settings)


def _logistic(seed: int, strength: float) -> ClassifierMixin:
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=300, tol=1e-3, random_state=seed))


def _trees(seed: int) -> ClassifierMixin:
    return ExtraTreesClassifier(60, min_samples_leaf=3, max_leaf_nodes=2000, max_features=0.2, random_state=seed)


CANDIDATES = (
    Candidate("gradient boosting", partial(_boosting, max_iter=50, learning_rate=0.15)),
    Candidate(
        "gradient boosting of small trees",
        partial(_boosting, max_iter=60, learning_rate=0.2, max_leaf_nodes=8, l2_regularization=10.0),
    ),
    Candidate("extra trees", _trees),
    Candidate("logistic regression", partial(_logistic, strength=0.01)),
)
"""What is compared; the first is taken where there is too little to compare on."""


def fit_best(
    features: np.ndarray,
    labels: np.ndarray,
    zones: np.ndarray,
    *,
    seed: int,
    candidates: Sequence[Candidate] = CANDIDATES,
) -> ChosenModel:
    """Compare the candidates on inner folds of the zones, and train the best on all rows.

    Args:
        features: (row, feature) of what may be learned from.
        labels: (row,) numbers of classes.
        zones: (row,) names of zones.
        seed: of the models, the inner folds and the rows that candidates are compared on.
        candidates: the models to choose from; the first where there are too few zones to compare. Where all rows are
            of one class, none of them: that class is predicted.
    """
    if len(np.unique(labels)) == 1:
        return ChosenModel("the only class", DummyClassifier(strategy="most_frequent").fit(features, labels), {})
    scores = compare(candidates, features, labels, zones, seed=seed)
    best = max(candidates, key=lambda candidate: scores.get(candidate.name, 0.0))
    return ChosenModel(best.name, best.make(seed).fit(features, labels), scores)


def compare(
    candidates: Sequence[Candidate], features: np.ndarray, labels: np.ndarray, zones: np.ndarray, *, seed: int
) -> dict[str, float]:
    """The mean of accuracy and macro F1 of each candidate, pooled over inner folds of the zones: names to scores."""
    folds = _inner_folds(features, labels, zones, seed=seed)
    scores = {}
    for candidate in candidates if folds else ():
        truth, predicted = [], []
        for train, test in folds:
            truth.append(labels[test])
            predicted.append(candidate.make(seed).fit(features[train], labels[train]).predict(features[test]))
        pooled = np.concatenate(truth), np.concatenate(predicted)
        f1 = f1_score(*pooled, labels=np.unique(pooled[0]), average="macro", zero_division=0)
        scores[candidate.name] = round((accuracy_score(*pooled) + f1) / 2, 4)
    return scores


def _inner_folds(
    features: np.ndarray, labels: np.ndarray, zones: np.ndarray, *, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows to learn from and rows to score, for each inner fold; none where zones or classes are too few."""
    largest = int(np.unique(labels, return_counts=True)[1].max())
    parts = min(PARTS, len(set(zones.tolist())), largest)
    if parts < 2:
        return []
    random = np.random.default_rng(seed)
    splitter = StratifiedGroupKFold(parts, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")
        splits = list(splitter.split(features, labels, zones))
    folds = [tuple(_at_most(CHOICE_ROWS, rows, random) for rows in split) for split in splits]
    return folds if all(len(set(labels[train].tolist())) > 1 and len(test) for train, test in folds) else []


def _at_most(count: int, rows: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return np.sort(random.choice(rows, count, replace=False)) if len(rows) > count else rows
