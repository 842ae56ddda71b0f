import dataclasses

import numpy as np
import pandas
import pytest
from sklearn.linear_model import RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier

from landfold.audit.baseline import Baseline, band_statistics_baseline, held_out_probabilities
from landfold.audit.settings import AuditSettings
from landfold.folds.split import Split

SETTINGS = AuditSettings(baseline="random_forest", pixels=0, trees=8, prediction_points=50, seed=0, network=False)


def splits_of(folds, k=None):
    """A split for each fold, without a buffer."""
    return [
        Split(train=folds != fold, validation=folds == fold, buffer=np.zeros(len(folds), dtype=bool))
        for fold in range(k or folds.max() + 1)
    ]


ONE_EACH = np.arange(60).astype(str)
"""Zones, one for each patch."""

NEAREST_NEIGHBOUR = Baseline("1-NN", lambda rows, labels, zones: KNeighborsClassifier(1).fit(rows, labels))


def test_a_patch_is_judged_by_the_fold_that_did_not_see_it():
    features = np.array([[0.0], [0.1], [5.0], [5.1]])
    truth = np.array([0, 1, 1, 0])  # the nearest other patch is always of the other class
    found = held_out_probabilities(NEAREST_NEIGHBOUR, features, truth, ONE_EACH[:4], splits_of(np.array([0, 1, 0, 1])))
    np.testing.assert_array_equal(found.argmax(axis=1), [1, 0, 0, 1])
    whole = [Split(train=np.full(4, True), validation=np.full(4, True), buffer=np.full(4, False))]
    seen = held_out_probabilities(NEAREST_NEIGHBOUR, features, truth, ONE_EACH[:4], whole)
    np.testing.assert_array_equal(seen.argmax(axis=1), truth, "a nearest neighbour recalls what it has seen")


@pytest.mark.parametrize("kind", ["random_forest", "logistic_regression", "best"])
def test_a_class_that_training_lacks_has_no_probability(kind):
    model = band_statistics_baseline(SETTINGS.model_copy(update={"baseline": kind}))
    features, truth = np.random.default_rng(0).random((12, 3)), np.array([0, 1, 2, 2] * 3)
    train = np.isin(np.arange(12), [0, 2, 4, 6])
    split = Split(train=train, validation=np.arange(12) >= 10, buffer=np.zeros(12, dtype=bool))
    found = held_out_probabilities(model, features, truth, ONE_EACH[:12], [split])
    assert np.isnan(found[:10]).all()
    assert (found[10:, 1] == 0).all()
    np.testing.assert_allclose(found[10:].sum(axis=1), 1)
    alone = dataclasses.replace(split, train=np.arange(12) == 2)
    found = held_out_probabilities(model, features, truth, ONE_EACH[:12], [alone])
    np.testing.assert_array_equal(found[10:], [[0, 0, 1]] * 2)


def test_any_classifier_and_a_table_of_features_will_do():
    """One without probabilities gives its class all of it."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 60)
    features = pandas.DataFrame({"a": truth + rng.normal(0, 0.1, 60), "b": rng.random(60)})
    folds = splits_of(np.arange(60) % 2)
    names = []

    class Seen(RidgeClassifier):
        def fit(self, x, y):
            names.extend(x.columns)
            return super().fit(x, y)

    ridge = Baseline("ridge", lambda rows, labels, zones: Seen().fit(rows, labels))
    found = held_out_probabilities(ridge, features, truth, ONE_EACH, folds)
    assert names == ["a", "b"] * 2
    assert set(found.ravel()) == {0, 1}
    np.testing.assert_array_equal(found.sum(axis=1), 1)
    assert (found.argmax(axis=1) == truth).mean() > 0.6
