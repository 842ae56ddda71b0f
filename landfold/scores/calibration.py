"""Scores and the calibration of probabilities: whether a confidence of 0.8 is right 8 times in 10.

Probabilities are (patch, class) or (pixel, class), rows that sum to 1; truth is the number of each row's class. The
predicted class is the one of the highest probability, the first of equals. A class that never occurs in the truth is no
special case: a probability given to it counts as error in every score.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas
from scipy.optimize import minimize

from landfold.pixels.calibration import CLIP, SCALING, TEMPERATURES, Calibration, Calibrations, scale
from landfold.scores.intervals import headline_scores
from landfold.scores.metrics import confusions, rounded

BINS = 15
"""Bins of equal width of the confidence, as in Guo et al. (2017), https://arxiv.org/abs/1706.04599."""

MOST_OTHER = 0.9
"""Bound of the shares of the uniform distribution and of the unscaled probabilities."""

STARTS = ((0.0, 0.01, 0.0), (-0.7, 0.01, 0.5))
"""Where the search begins: logarithm of the temperature and both shares. Half of each is often best."""

FIT_ROWS = 20_000
"""Rows that are fitted on, at most."""

DIGITS = 6
"""Of what is fitted."""


@dataclass(frozen=True)
class HeldOutProbabilities:
    """What networks say of the patches or pixels that they held out.

    Attributes:
        probabilities: (n, class).
        truth: (n,) the number of each one's class.
        folds: (n,) the fold that held it out.
        repeats: (n,) the repeat of that fold.
        zones: (n,) the name of its zone.
    """

    probabilities: np.ndarray
    truth: np.ndarray
    folds: np.ndarray
    repeats: np.ndarray
    zones: np.ndarray


def log_loss(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Mean negative natural logarithm of the true class's probability, clipped at `CLIP`."""
    return float(-np.log(np.maximum(_of_truth(probabilities, truth), CLIP)).mean())


def brier(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Mean over patches of the squared error summed over classes, 0 to 2; not halved.

    Brier (1950), https://doi.org/10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2.
    """
    error = probabilities.astype(np.float64)
    error[np.arange(len(truth)), truth] -= 1
    return float((error**2).sum(axis=1).mean())


def top_accuracy(probabilities: np.ndarray, truth: np.ndarray, k: int) -> float:
    """Share of patches whose class is among the ``k`` of the highest probability; of equal ones the first count."""
    own = _of_truth(probabilities, truth)[:, None]
    earlier = np.arange(probabilities.shape[1]) < truth[:, None]
    ahead = (probabilities > own) | ((probabilities == own) & earlier)
    return float((ahead.sum(axis=1) < k).mean())


def reliability(probabilities: np.ndarray, truth: np.ndarray) -> pandas.DataFrame:
    """Accuracy by confidence: ``bin``, its ends ``low`` and ``high``, ``count``, mean ``confidence``, ``accuracy``.

    Bins are (low, high]; the confidence is the highest probability of a patch. Bins without a patch are left out.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = probabilities.argmax(axis=1) == truth
    number = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    count = np.bincount(number, minlength=BINS)
    occupied = np.flatnonzero(count)
    return pandas.DataFrame(
        {
            "bin": occupied,
            "low": occupied / BINS,
            "high": (occupied + 1) / BINS,
            "count": count[occupied],
            "confidence": np.bincount(number, confidence)[occupied] / count[occupied],
            "accuracy": np.bincount(number, correct)[occupied] / count[occupied],
        }
    )


def calibration_error(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Expected calibration error: mean over patches of abs(accuracy - confidence) of their bin, 0 to 1.

    Naeini et al. (2015), https://doi.org/10.1609/aaai.v29i1.9602. It depends on the number of bins, and is above 0 by
    chance alone where a bin has few patches.
    """
    bins = reliability(probabilities, truth)
    return float(np.average((bins["accuracy"] - bins["confidence"]).abs(), weights=bins["count"]))


def fit(probabilities: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    """Temperature, uniform and unscaled share of the least log loss, see `landfold.pixels.calibration.scale`.

    They are 1, 0 and 0 where nothing is better, or where there is nothing to fit. Of more than `FIT_ROWS` rows, every
    second, third or later one is taken.
    """
    if not len(truth):
        return 1.0, 0.0, 0.0
    rows = slice(None, None, -(-len(truth) // FIT_ROWS))

    def loss(point: np.ndarray) -> float:
        return log_loss(scale(probabilities[rows], np.exp(point[0]), *point[1:]), truth[rows])

    bounds = [tuple(np.log(TEMPERATURES)), (0, MOST_OTHER), (0, MOST_OTHER)]
    found = [minimize(loss, np.array(start), method="L-BFGS-B", bounds=bounds) for start in STARTS]
    best = min(found, key=lambda each: each.fun)
    if best.fun >= loss(np.zeros(3)):
        return 1.0, 0.0, 0.0
    temperature, *shares = best.x
    return (
        float(np.exp(temperature).clip(*TEMPERATURES).round(DIGITS)),
        *(float(share.round(DIGITS)) for share in shares),
    )


def calibrate(probabilities: np.ndarray, truth: np.ndarray, coverage: float) -> Calibration:
    """Scaling and prediction sets fitted on held-out predictions.

    The threshold of the sets is the split conformal one (Sadinle et al. 2019): with predictions that are exchangeable
    with these, sets hold the true class at least as often as ``coverage`` says.
    """
    scaling = fit(probabilities, truth)
    own = np.sort(_of_truth(scale(probabilities, *scaling), truth))
    below = int(round((1 - coverage) * (len(own) + 1), 6))
    return Calibration(
        **dict(zip(SCALING, scaling, strict=True)),
        least_probability=round(float(own[below - 1]), DIGITS) if below else 0.0,
    )


def cross_fit(held_out: HeldOutProbabilities, coverage: float) -> Calibrations:
    """The calibration of each fold, fitted on the other folds of its repeat, and that of all.

    No patch or pixel of a fold takes part in its own. The networks of the other folds did train on them, but the fit
    uses only what they predict of their own held-out zones.
    """

    def fitted(rows: np.ndarray) -> Calibration:
        return calibrate(held_out.probabilities[rows], held_out.truth[rows], coverage)

    folds = []
    for fold in np.unique(held_out.folds):
        own = held_out.folds == fold
        folds.append(fitted(~own & (held_out.repeats == held_out.repeats[own][0])))
    return Calibrations(coverage=coverage, folds=folds, ensemble=fitted(np.ones(len(held_out.truth), dtype=bool)))


def calibration_scores(held_out: HeldOutProbabilities, coverage: float) -> dict[str, Any]:
    """Section ``calibration`` of metrics/scores.json, see `landfold.scores.summary`."""
    fitted = cross_fit(held_out, coverage)
    scaled = fitted.scale(held_out.probabilities, held_out.folds)
    states = {False: held_out.probabilities, True: scaled}
    bins = pandas.concat([reliability(each, held_out.truth).assign(scaled=state) for state, each in states.items()])
    return {
        "bins": BINS,
        "clip": CLIP,
        "before": probability_scores(held_out, held_out.probabilities),
        "after": probability_scores(held_out, scaled),
        "fitted": fitted.model_dump(),
        "reliability": bins[["scaled", *bins.columns.drop("scaled")]].round(4).to_dict("records"),
        "sets": _set_scores(held_out, fitted.sets(scaled, held_out.folds)),
    }


def probability_scores(held_out: HeldOutProbabilities, probabilities: np.ndarray) -> dict[str, float]:
    """Log loss, Brier score and expected calibration error, each the mean over repeats."""
    parts = [held_out.repeats == repeat for repeat in np.unique(held_out.repeats)]
    scores = {"log_loss": log_loss, "brier": brier, "ece": calibration_error}
    return {
        name: rounded(np.mean([score(probabilities[part], held_out.truth[part]) for part in parts]))
        for name, score in scores.items()
    }


def _set_scores(held_out: HeldOutProbabilities, sets: np.ndarray) -> dict[str, Any]:
    """Coverage of the first repeat with its interval over zones, and the mean number of classes in a set."""
    first = held_out.repeats == held_out.repeats.min()
    covered = _of_truth(sets, held_out.truth)[first].astype(int)
    # two classes, right and wrong, make the coverage of a zone an accuracy
    counts = confusions(np.ones_like(covered), covered, held_out.zones[first], 2)
    return {
        "covered": headline_scores(counts)["accuracy"],
        "classes": rounded(sets[first].sum(axis=1).mean()),
    }


def _of_truth(values: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return values[np.arange(len(truth)), truth]
