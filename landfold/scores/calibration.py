"""Scores of probabilities, and temperature scaling: whether a confidence of 0.8 is right 8 times in 10.

Probabilities are (patch, class), rows that sum to 1; truth is the number of each patch's class. The class that a
patch is called is the one of the highest probability, the first of equals. A class that never occurs in the truth is
no special case here: a probability given to it counts as error in every score.
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
    """Mean over patches of the squared error summed over classes, 0 to 2 (Brier 1950); not halved."""
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
    right = probabilities.argmax(axis=1) == truth
    part = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    count = np.bincount(part, minlength=BINS)
    there = np.flatnonzero(count)
    return pandas.DataFrame(
        {
            "bin": there,
            "low": there / BINS,
            "high": (there + 1) / BINS,
            "count": count[there],
            "confidence": np.bincount(part, confidence)[there] / count[there],
            "accuracy": np.bincount(part, right)[there] / count[there],
        }
    )


def calibration_error(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """Expected calibration error: mean over patches of |accuracy - confidence| of their bin, 0 to 1.

    It depends on the number of bins, and is above 0 by chance alone where a bin has few patches.
    """
    bins = reliability(probabilities, truth)
    return float(np.average((bins["accuracy"] - bins["confidence"]).abs(), weights=bins["count"]))


def scale(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Softmax of the logits divided by the temperature: above 1 less confident, below 1 more.

    The logarithm of a probability is its logit but for a constant a patch, which the softmax does not see. The
    order of the classes stays, but that those under `CLIP` become equal, so that one patch that is surely wrong
    weighs no more in a fit than in `log_loss`.
    """
    return softmax(_logits(probabilities) / temperature, axis=1)


def fit_temperature(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """The temperature of the least log loss within `TEMPERATURES`; 1 where none is better, or without patches.

    The loss is convex in 1 / temperature, so that the bounded search finds the least of all.
    """
    if not len(truth):
        return 1.0
    logits = _logits(probabilities)
    own = _of_truth(logits, truth)

    def loss(logarithm: float) -> float:
        inverse = np.exp(-logarithm)
        return float((logsumexp(logits * inverse, axis=1) - own * inverse).mean())

    found = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x)) if found.fun < loss(0.0) else 1.0


def cross_fit(probabilities: np.ndarray, truth: np.ndarray, folds: np.ndarray, repeats: np.ndarray) -> Scaling:
    """Scale each fold by the temperature fitted on the other folds of its repeat.

    No patch of a fold takes part in its own temperature. (The networks of the other folds did see those patches:
    what they predict of their own held-out zones is all that the fit looks at.)
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
