"""Classifiers that need no network, and what they say of patches that they were not trained on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from landfold.audit.settings import AuditSettings
from landfold.classical.selection import fit_best
from landfold.folds.split import Split

NEIGHBOURS = 5
"""Training patches that vote on a class from the coordinates alone, the nearer the weightier.

Neighbours, not a forest: a forest cuts along the axes, as square zones do, and its score would change if the
map were turned. Neighbours see distance alone.
"""

TREE_PATCHES = 5000
"""Patches that a tree is grown on, at most: with 20,000 all would take 2.5 times as long for half a point more."""

Fit = Callable[[Any, np.ndarray, np.ndarray], ClassifierMixin]
"""Features (row, feature), classes (row,) and zones (row,) of the training rows to a trained classifier."""


NAMES = {"best": "best_classical_model"}
"""Of baselines whose name in the settings does not say enough."""


@dataclass(frozen=True)
class Baseline:
    """A kind of classifier: its name, and what trains one."""

    name: str
    fit: Fit


def band_statistics_baseline(settings: AuditSettings) -> Baseline:
    """The classifier of band statistics that ``audit.baseline`` names."""

    def fit(features: np.ndarray, labels: np.ndarray, zones: np.ndarray) -> ClassifierMixin:
        if settings.baseline == "best":
            return fit_best(features, labels, zones, seed=settings.seed).model
        if settings.baseline == "random_forest":
            most = min(len(labels), TREE_PATCHES)
            forest = RandomForestClassifier(settings.trees, max_samples=most, random_state=settings.seed, n_jobs=-1)
            return forest.fit(features, labels)
        return make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(features, labels)

    return Baseline(NAMES.get(settings.baseline, settings.baseline), fit)


def coordinate_baseline() -> Baseline:
    """A classifier that knows nothing but where a patch lies: the nearest training patches vote."""

    def fit(points: np.ndarray, labels: np.ndarray, _: np.ndarray) -> ClassifierMixin:
        return KNeighborsClassifier(min(len(labels), NEIGHBOURS), weights="distance").fit(points, labels)

    return Baseline("coordinates", fit)


def held_out_probabilities(
    baseline: Baseline, features: Any, truth: np.ndarray, zones: np.ndarray, splits: Sequence[Split]
) -> np.ndarray:
    """Class probabilities of every patch from the fold that held it out.

    Args:
        baseline: the kind of classifier. One without ``predict_proba`` gives its class a probability of 1.
        features: (patch, feature), an array or a table.
        truth: (patch,) numbers of classes.
        zones: (patch,) names of their zones.
        splits: the folds.

    Returns:
        (patch, class) float64: NaN for a patch that no fold holds out, 0 for a class that the training patches of
        its fold do not have.
    """
    probabilities = np.full((len(truth), truth.max() + 1), np.nan)
    for split in splits:
        held_out = np.zeros((int(split.validation.sum()), probabilities.shape[1]))
        known = np.unique(truth[split.train])
        if len(known) > 1:
            fitted = baseline.fit(_rows(features, split.train), truth[split.train], zones[split.train])
            if isinstance(fitted, RandomForestClassifier):
                fitted.set_params(n_jobs=1)  # threads add up the trees in any order, which shows in the last digits
            validation = _rows(features, split.validation)
            if hasattr(fitted, "predict_proba"):
                held_out[:, known] = fitted.predict_proba(validation)
            else:
                held_out[np.arange(len(held_out)), fitted.predict(validation)] = 1
        else:
            held_out[:, known] = 1
        probabilities[split.validation] = held_out
    return probabilities


def _rows(features: Any, chosen: np.ndarray) -> Any:
    return features.iloc[np.flatnonzero(chosen)] if hasattr(features, "iloc") else features[chosen]
