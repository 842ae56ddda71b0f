import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn import metrics as sklearn_metrics

from landfold.scores import calibration
from landfold.scores.calibration import CLIP, TEMPERATURES, cross_fit, fit_temperature, scale

EXAMPLES = hypothesis_settings(max_examples=60, deadline=None)


def drawn(seed, count=200, classes=5, *, spread=2.0):
    """Probabilities, and truth drawn from them: calibrated but for chance."""
    generator = np.random.default_rng(seed)
    probabilities = softmax(spread * generator.normal(size=(count, classes)), axis=1).astype(np.float32)
    below = np.cumsum(probabilities.astype(float), axis=1) < generator.random((count, 1))
    return probabilities, np.minimum(below.sum(axis=1), classes - 1)


@st.composite
def predictions(draw):
    """Float32 probabilities of a few classes, some exactly 0, and any truth."""
    count, classes = draw(st.integers(1, 12)), draw(st.integers(2, 5))
    number = st.one_of(st.just(0.0), st.floats(1e-6, 1.0))
    rows = draw(
        st.lists(st.lists(number, min_size=classes, max_size=classes).filter(sum), min_size=count, max_size=count)
    )
    weights = np.array(rows)
    probabilities = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return probabilities, np.array(draw(st.lists(st.integers(0, classes - 1), min_size=count, max_size=count)))


@pytest.mark.parametrize("seed", range(10))
def test_scores_are_those_of_scikit_learn(seed):
    probabilities, truth = drawn(seed)
    truth[truth == 4] = 0  # a class that has probabilities and never occurs
    labels = np.arange(5)
    assert calibration.log_loss(probabilities, truth) == pytest.approx(
        sklearn_metrics.log_loss(truth, probabilities, labels=labels), rel=1e-6
    )
    brier = sklearn_metrics.brier_score_loss(truth, probabilities, labels=labels, scale_by_half=False)
    assert calibration.brier(probabilities, truth) == pytest.approx(brier, rel=1e-6)
    by_class = sum(sklearn_metrics.brier_score_loss(truth == i, probabilities[:, i], pos_label=1) for i in range(5))
    assert calibration.brier(probabilities, truth) == pytest.approx(by_class, rel=1e-6)
    for k in (1, 2, 3):
        expected = sklearn_metrics.top_k_accuracy_score(truth, probabilities, k=k, labels=labels)
        assert calibration.top_accuracy(probabilities, truth, k) == pytest.approx(expected, abs=1e-12)


def test_a_probability_of_0_for_the_truth_is_clipped_at_the_least_of_float32():
    probabilities = np.array([[1, 0], [1, 0]], dtype=np.float32)
    assert CLIP == 2.0**-23
    assert calibration.log_loss(probabilities, np.array([0, 1])) == pytest.approx(23 * np.log(2) / 2)


def test_brier_is_the_sum_over_classes():
    assert calibration.brier(np.array([[0.5, 0.5, 0]]), np.array([2])) == 1.5
    assert calibration.brier(np.array([[1, 0.0]]), np.array([1])) == 2


def test_of_equal_probabilities_the_first_counts_as_the_higher():
    probabilities = np.array([[0.25, 0.25, 0.25, 0.25]] * 4)
    for k in (1, 2, 3, 4):
        assert calibration.top_accuracy(probabilities, np.arange(4), k) == k / 4


def test_reliability_by_hand():
    probabilities = np.array([[0.8, 0.2], [0.18, 0.82], [0.55, 0.45], [1, 0]])
    bins = calibration.reliability(probabilities, np.array([0, 0, 0, 0]))
    assert list(bins["bin"]) == [8, 11, 12, 14]  # (8/15, 9/15]; 0.8 is the upper end of (11/15, 12/15]
    assert list(bins["count"]) == [1, 1, 1, 1]
    assert list(bins["confidence"]) == [0.55, 0.8, 0.82, 1]
    assert list(bins["accuracy"]) == [1, 1, 0, 1]
    assert list(bins["low"]) == pytest.approx([8 / 15, 11 / 15, 12 / 15, 14 / 15])
    assert calibration.calibration_error(probabilities, np.array([0, 0, 0, 0])) == pytest.approx(
        (0.45 + 0.2 + 0.82 + 0) / 4
    )


@given(predictions())
@EXAMPLES
def test_bins_hold_every_patch_and_their_accuracy_adds_up_to_that_of_all(found):
    probabilities, truth = found
    bins = calibration.reliability(probabilities, truth)
    assert bins["count"].sum() == len(truth)
    assert (bins["count"] > 0).all()
    right = (probabilities.argmax(axis=1) == truth).mean()
    assert np.average(bins["accuracy"], weights=bins["count"]) == pytest.approx(right)
    assert ((bins["confidence"] > bins["low"] - 1e-6) & (bins["confidence"] < bins["high"] + 1e-6)).all()
    confident = np.average(bins["confidence"], weights=bins["count"])
    assert abs(right - confident) - 1e-9 <= calibration.calibration_error(probabilities, truth) <= 1


def test_sure_and_right_is_calibrated_and_sure_and_wrong_is_not():
    sure = np.eye(3, dtype=np.float32)
    assert calibration.calibration_error(sure, np.arange(3)) == 0
    assert calibration.calibration_error(sure, np.array([1, 2, 0])) == 1


@given(predictions(), st.floats(*TEMPERATURES))
@EXAMPLES
def test_scaling_keeps_the_class_and_moves_the_confidence_one_way(found, temperature):
    probabilities, _ = found
    scaled = scale(probabilities, temperature)
    np.testing.assert_array_equal(scaled.argmax(axis=1), probabilities.argmax(axis=1))
    np.testing.assert_allclose(scaled.sum(axis=1), 1)
    change = scaled.max(axis=1) - probabilities.max(axis=1)
    assert (change <= 1e-5).all() if temperature >= 1 else (change >= -1e-5).all()


@given(predictions())
@EXAMPLES
def test_the_fitted_temperature_is_no_worse_than_none_on_what_it_was_fitted_on(found):
    probabilities, truth = found
    temperature = fit_temperature(probabilities, truth)
    assert TEMPERATURES[0] <= temperature <= TEMPERATURES[1]
    after = calibration.log_loss(scale(probabilities, temperature), truth)
    assert after <= calibration.log_loss(scale(probabilities, 1.0), truth) + 1e-9
    assert after <= calibration.log_loss(probabilities, truth) + 1e-5  # clipped zeros take of the others


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_by_which_confidence_was_raised_is_found_again(temperature):
    probabilities, truth = drawn(1, 20_000)
    assert fit_temperature(scale(probabilities, 1 / temperature), truth) == pytest.approx(temperature, rel=0.05)


def test_nothing_to_fit_leaves_the_probabilities():
    probabilities, truth = drawn(0)
    assert fit_temperature(probabilities[:0], truth[:0]) == 1
    np.testing.assert_allclose(scale(probabilities, 1.0), probabilities, atol=1e-6)


def overconfident(seed=0, count=3000, folds=4):
    """Folds 0 to 3 of repeat 0 are twice too sure, 4 to 7 of repeat 1 three times."""
    probabilities, truth = drawn(seed, count, spread=1.0)
    fold = np.arange(count) % folds
    first, second = scale(probabilities, 1 / 2), scale(probabilities, 1 / 3)
    return (
        np.concatenate([first, second]).astype(np.float32),
        np.concatenate([truth, truth]),
        np.concatenate([fold, fold + folds]),
        np.repeat([0, 1], count),
    )


def test_cross_fitting_mends_each_repeat_by_its_own_folds():
    probabilities, truth, folds, repeats = overconfident()
    found = cross_fit(probabilities, truth, folds, repeats)
    table = found.temperatures.set_index("fold")
    assert list(table.index) == list(range(8))
    assert list(table["temperature"][:4]) == pytest.approx([2] * 4, rel=0.1)
    assert list(table["temperature"][4:]) == pytest.approx([3] * 4, rel=0.1)
    assert (table["fitted_on"] == 2250).all()
    assert (table["log_loss_after"] < table["log_loss_before"]).all()
    for own in (repeats == 0, repeats == 1):
        before, after = (
            calibration.calibration_error(part[own], truth[own]) for part in (probabilities, found.probabilities)
        )
        assert after < 0.03 < before


def test_no_patch_of_a_fold_takes_part_in_its_temperature():
    probabilities, truth, folds, repeats = overconfident()
    before = cross_fit(probabilities, truth, folds, repeats).temperatures.set_index("fold")["temperature"]
    changed = np.where(folds == 2, (truth + 1) % 5, truth)
    after = cross_fit(probabilities, changed, folds, repeats).temperatures.set_index("fold")["temperature"]
    same = before == after
    assert list(same) == [False, False, True, False, True, True, True, True]


def test_the_order_of_patches_does_not_matter():
    probabilities, truth, folds, repeats = overconfident(count=400)
    order = np.random.default_rng(0).permutation(len(truth))
    plain = cross_fit(probabilities, truth, folds, repeats)
    turned = cross_fit(probabilities[order], truth[order], folds[order], repeats[order])
    np.testing.assert_allclose(turned.probabilities, plain.probabilities[order], rtol=1e-4)
