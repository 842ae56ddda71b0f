"""Scores of probabilities, and temperature scaling: whether a confidence of 0.8 is right 8 times in 10.

Probabilities are (patch, class), rows that sum to 1; truth is the number of each patch's class. The predicted class is
the one of the highest probability, the first of equals. A class that never occurs in the truth is no special case: a
probability given to it counts as error in every score.
"""

from dataclasses import dataclass

import numpy as np
import pandas
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp, softmax

BINS = 15
"""Bins of equal width of the confidence, as in Guo et al. (2017), https://arxiv.org/abs/1706.04599."""

CLIP = float(np.finfo(np.float32).eps)
"""Least probability in a logarithm. A float32 softmax gives exactly 0, whose loss would be infinite; scikit-learn's
``log_loss`` clips float32 probabilities at the same number."""

TEMPERATURES = (0.05, 20.0)
"""Bounds of the temperature: beyond them a network would have to be wrong about its confidence by a factor of 20."""


@dataclass(frozen=True)
class Scaling:
    """Temperature scaling, cross-fitted over the folds.

    ``probabilities`` are the scaled ones, in the order of those that were given. ``temperatures`` has a row a fold:
    ``fold``, ``temperature``, ``fitted_on`` (number of patches), ``log_loss_before`` and ``log_loss_after``, of its
    own patches, none of which took part in the fit.
    """

    probabilities: np.ndarray
    temperatures: pandas.DataFrame


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


def scale(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Softmax of the logits divided by the temperature (Guo et al. 2017): above 1 less confident, below 1 more.

    The logarithm of a probability is its logit but for a constant a patch, which the softmax cancels. The order of the
    classes stays, except that those under `CLIP` become equal, so that one patch that is surely wrong has no more
    weight in a fit than in `log_loss`.
    """
    return softmax(_logits(probabilities) / temperature, axis=1)


def fit_temperature(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """The temperature of the least log loss within `TEMPERATURES`; 1 where none is better, or without patches.

    The loss is convex in 1 / temperature, so that the bounded search finds the global minimum.
    """
    if not len(truth):
        return 1.0
    logits = _logits(probabilities)
    own = _of_truth(logits, truth)

    def loss(logarithm: float) -> float:
        inverse = np.exp(-logarithm)
        return float((logsumexp(logits * inverse, axis=1) - own * inverse).mean())

    best = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(best.x)) if best.fun < loss(0.0) else 1.0


def cross_fit(probabilities: np.ndarray, truth: np.ndarray, folds: np.ndarray, repeats: np.ndarray) -> Scaling:
    """Scale each fold by the temperature fitted on the other folds of its repeat.

    No patch of a fold takes part in its own temperature. The networks of the other folds did train on those patches,
    but the fit uses only what they predict of their own held-out zones.
    """
    scaled, rows = np.empty(probabilities.shape), []
    for fold in np.unique(folds):
        own = folds == fold
        others = ~own & (repeats == repeats[own][0])
        temperature = fit_temperature(probabilities[others], truth[others])
        scaled[own] = scale(probabilities[own], temperature)
        rows.append(
            {
                "fold": int(fold),
                "temperature": temperature,
                "fitted_on": int(others.sum()),
                "log_loss_before": log_loss(probabilities[own], truth[own]),
                "log_loss_after": log_loss(scaled[own], truth[own]),
            }
        )
    return Scaling(scaled, pandas.DataFrame(rows))


def _of_truth(values: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return values[np.arange(len(truth)), truth]


def _logits(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probabilities.astype(np.float64), CLIP))
