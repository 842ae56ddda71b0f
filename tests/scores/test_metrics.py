import warnings

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    cohen_kappa_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
)

from landfold.scores import metrics


@pytest.mark.parametrize("seed", range(20))
def test_scores_are_those_of_scikit_learn(seed):
    generator = np.random.default_rng(seed)
    names = np.array(["c", "a", "e", "b", "d"])
    occur = generator.integers(2, 6)  # the last classes never occur in truth, but are predicted
    truth = names[generator.integers(0, occur, 60)]
    predicted = np.where(generator.random(60) < 0.5, truth, names[generator.integers(0, 5, 60)])
    number = {name: i for i, name in enumerate(names)}
    numbers = (np.array([number[name] for name in part]) for part in (truth, predicted))
    (confusion,) = metrics.confusions(*numbers, np.zeros(60), len(names))
    present = [name for name in names if name in truth]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="y_pred contains classes not in y_true")
        balanced = balanced_accuracy_score(truth, predicted)
    assert np.array_equal(confusion, confusion_matrix(truth, predicted, labels=names))
    assert metrics.accuracy(confusion) == pytest.approx(accuracy_score(truth, predicted), abs=1e-12)
    assert metrics.balanced_accuracy(confusion) == pytest.approx(balanced, abs=1e-12)
    macro = f1_score(truth, predicted, labels=present, average="macro", zero_division=0)
    assert metrics.macro_f1(confusion) == pytest.approx(macro, abs=1e-12)
    weighted = f1_score(truth, predicted, labels=names, average="weighted", zero_division=0)
    assert metrics.weighted_f1(confusion) == pytest.approx(weighted, abs=1e-12)
    assert metrics.kappa(confusion) == pytest.approx(cohen_kappa_score(truth, predicted), abs=1e-12)
    by_class = precision_recall_fscore_support(truth, predicted, labels=names, zero_division=0)
    for score, expected in zip((metrics.precision, metrics.recall, metrics.f1, metrics.support), by_class, strict=True):
        np.testing.assert_allclose(score(confusion), expected, atol=1e-12)


def test_known_truth_by_hand():
    confusion = np.array([[6, 2, 0], [1, 3, 0], [0, 0, 0]])  # the third class never occurs nor is predicted
    assert metrics.accuracy(confusion) == 9 / 12
    assert metrics.balanced_accuracy(confusion) == (6 / 8 + 3 / 4) / 2
    np.testing.assert_allclose(metrics.precision(confusion), [6 / 7, 3 / 5, 0])
    np.testing.assert_allclose(metrics.recall(confusion), [6 / 8, 3 / 4, 0])
    np.testing.assert_allclose(metrics.f1(confusion), [12 / 15, 6 / 9, 0])
    assert metrics.macro_f1(confusion) == pytest.approx((12 / 15 + 6 / 9) / 2)
    assert metrics.weighted_f1(confusion) == pytest.approx((8 * 12 / 15 + 4 * 6 / 9) / 12)


def test_a_class_only_predicted_costs_the_others_and_is_not_averaged_in():
    confusion = np.array([[3, 1], [0, 0]])
    assert metrics.balanced_accuracy(confusion) == 3 / 4
    assert metrics.macro_f1(confusion) == pytest.approx(6 / 7)


def test_disagreement_by_hand():
    # Called: 7, 5, 0; in truth: 8, 4, 0. Of 3 errors 1 is of quantity, and 2 are a swap of places.
    confusion = np.array([[6, 2, 0], [1, 3, 0], [0, 0, 0]])
    assert metrics.quantity_disagreement(confusion) == 1 / 12
    assert metrics.allocation_disagreement(confusion) == 2 / 12


@pytest.mark.parametrize(
    ("confusion", "quantity", "allocation"),
    [
        ([[0, 4], [4, 0]], 0, 1),  # the numbers are right, the places all wrong
        ([[0, 4], [0, 4]], 0.5, 0),  # one class everywhere
        ([[5, 0], [0, 3]], 0, 0),
        ([[10, 4, 0], [2, 7, 3], [2, 0, 2]], 1 / 30, 10 / 30),
    ],
)
def test_disagreement_of_known_matrices(confusion, quantity, allocation):
    confusion = np.array(confusion)
    assert metrics.quantity_disagreement(confusion) == pytest.approx(quantity)
    assert metrics.allocation_disagreement(confusion) == pytest.approx(allocation)


def test_kappa_is_undefined_where_chance_is_never_wrong():
    assert np.isnan(metrics.kappa(np.array([[4, 0], [0, 0]])))
