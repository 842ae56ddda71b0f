from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn import metrics as sklearn_metrics

from landfold.pixels.calibration import CLIP, TEMPERATURES, prediction_sets, scale
from landfold.scores import calibration
from landfold.scores.calibration import HeldOutProbabilities, calibrate, calibration_scores, cross_fit, fit

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


@given(predictions(), st.floats(*TEMPERATURES), st.floats(0, 0.9), st.floats(0, 0.9))
@EXAMPLES
def test_shares_keep_the_class_and_bound_every_probability(found, temperature, share, unscaled):
    probabilities, _ = found
    scaled = scale(probabilities, temperature, share, unscaled)
    np.testing.assert_array_equal(scaled.argmax(axis=1), probabilities.argmax(axis=1))
    np.testing.assert_allclose(scaled.sum(axis=1), 1)
    assert (scaled >= share / probabilities.shape[1] - 1e-9).all()


@given(predictions())
@EXAMPLES
def test_what_is_fitted_is_no_worse_than_nothing_on_what_it_was_fitted_on(found):
    probabilities, truth = found
    temperature, *shares = fit(probabilities, truth)
    assert TEMPERATURES[0] <= temperature <= TEMPERATURES[1]
    assert all(0 <= share <= calibration.MOST_OTHER for share in shares)
    after = calibration.log_loss(scale(probabilities, temperature, *shares), truth)
    assert after <= calibration.log_loss(scale(probabilities, 1.0), truth) + 1e-4  # rounded to 6 digits


@pytest.mark.parametrize(
    "scaling", [(0.5, 0.0, 0.0), (1.0, 0.0, 0.0), (2.5, 0.0, 0.0), (0.5, 0.1, 0.0), (1.5, 0.3, 0.0), (0.3, 0.05, 0.5)]
)
def test_what_spoiled_the_probabilities_is_undone(scaling):
    """Truth is drawn from the scaled probabilities, which are then taken for unknown."""
    generator = np.random.default_rng(1)
    given = softmax(2 * generator.normal(size=(20_000, 5)), axis=1)
    below = np.cumsum(scale(given, *scaling), axis=1) < generator.random((len(given), 1))
    found = fit(given, below.sum(axis=1))  # the three numbers make up for each other
    np.testing.assert_allclose(scale(given, *found), scale(given, *scaling), atol=0.03)


def test_nothing_to_fit_leaves_the_probabilities():
    probabilities, truth = drawn(0)
    assert fit(probabilities[:0], truth[:0]) == (1, 0, 0)
    np.testing.assert_allclose(scale(probabilities, 1.0), probabilities, atol=1e-6)
    assert calibrate(probabilities[:0], truth[:0], 0.9).least_probability == 0, "every class is in the set"


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_prediction_sets_hold_the_truth_of_new_ground_as_often_as_they_say(coverage):
    """Of probabilities that are sure beyond measure, too: the threshold is that of what was held out."""
    probabilities, truth = drawn(3, 40_000)
    sure = scale(probabilities, 0.4)
    fitted = calibrate(sure[::2], truth[::2], coverage)
    sets = prediction_sets(scale(sure[1::2], *fitted.scaling), fitted.least_probability)
    assert sets[np.arange(20_000), truth[1::2]].mean() == pytest.approx(coverage, abs=0.015)
    assert sets.any(axis=1).all()


def test_the_threshold_is_the_conformal_one():
    """Of 9 held-out rows at a coverage of 0.8, floor(0.2 * 10) = 2: the second smallest probability of the truth."""
    own = np.arange(1, 10) / 10
    fitted = calibrate(np.column_stack([own, 1 - own]), np.zeros(9, dtype=int), 0.8)
    scaled = scale(np.array([[0.2, 0.8]]), *fitted.scaling)
    assert fitted.least_probability == pytest.approx(scaled[0, 0], abs=1e-6)


def overconfident(seed=0, count=3000, folds=4):
    """Folds 0 to 3 of repeat 0 are twice too sure, 4 to 7 of repeat 1 three times; ten zones."""
    probabilities, truth = drawn(seed, count, spread=1.0)
    fold = np.arange(count) % folds
    first, second = scale(probabilities, 1 / 2), scale(probabilities, 1 / 3)
    return HeldOutProbabilities(
        np.concatenate([first, second]).astype(np.float32),
        np.concatenate([truth, truth]),
        np.concatenate([fold, fold + folds]),
        np.repeat([0, 1], count),
        np.char.add("z", (np.arange(2 * count) % 10).astype(str)),
    )


def test_cross_fitting_mends_each_repeat_by_its_own_folds():
    held_out = overconfident()
    fitted = cross_fit(held_out, 0.9)
    for fold, expected in zip(fitted.folds, [2] * 4 + [3] * 4, strict=True):
        alike = scale(held_out.probabilities, *fold.scaling) - scale(held_out.probabilities, expected)
        assert np.abs(alike).mean() < 0.02
    scaled = fitted.scale(held_out.probabilities, held_out.folds)
    for repeat in (0, 1):
        own = held_out.repeats == repeat
        before, after = (
            calibration.calibration_error(part[own], held_out.truth[own]) for part in (held_out.probabilities, scaled)
        )
        assert after < 0.03 < before


def test_no_patch_of_a_fold_takes_part_in_its_calibration():
    held_out = overconfident()
    changed = replace(held_out, truth=np.where(held_out.folds == 2, (held_out.truth + 1) % 5, held_out.truth))
    before, after = (cross_fit(each, 0.9).folds for each in (held_out, changed))
    same = [one == other for one, other in zip(before, after, strict=True)]
    assert same == [False, False, True, False, True, True, True, True]


def test_the_order_of_patches_does_not_matter():
    held_out = overconfident(count=400)
    order = np.random.default_rng(0).permutation(len(held_out.truth))
    turned = HeldOutProbabilities(*(values[order] for values in vars(held_out).values()))
    plain, other = cross_fit(held_out, 0.9), cross_fit(turned, 0.9)
    np.testing.assert_allclose(
        other.scale(turned.probabilities, turned.folds),
        plain.scale(held_out.probabilities, held_out.folds)[order],
        rtol=1e-3,
    )


def test_the_scores_of_calibration_are_those_of_what_the_other_folds_give():
    held_out = overconfident()
    found = calibration_scores(held_out, 0.9)
    fitted = cross_fit(held_out, 0.9)
    assert found["fitted"] == fitted.model_dump()
    scaled = fitted.scale(held_out.probabilities, held_out.folds)
    first = held_out.repeats == 0
    errors = [calibration.calibration_error(scaled[own], held_out.truth[own]) for own in (first, ~first)]
    assert found["after"]["ece"] == pytest.approx(np.mean(errors), abs=5e-5)
    assert found["after"]["log_loss"] < found["before"]["log_loss"]
    assert found["after"]["brier"] < found["before"]["brier"]
    sets = fitted.sets(scaled, held_out.folds)[first]
    right = sets[np.arange(3000), held_out.truth[first]]
    covered = found["sets"]["covered"]
    assert covered["pooled"] == pytest.approx(right.mean(), abs=5e-5)
    assert covered["low"] < 0.9 < covered["high"]
    assert found["sets"]["classes"] == pytest.approx(sets.sum(axis=1).mean(), abs=5e-5)
    states = {row["scaled"]: 0 for row in found["reliability"]}
    for row in found["reliability"]:
        states[row["scaled"]] += row["count"]
    assert states == {False: 6000, True: 6000}
