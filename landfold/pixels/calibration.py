"""Calibrated probabilities and prediction sets: what stage evaluate fits, and maps, predict and serve apply."""

from pathlib import Path

import numpy as np
from pydantic import Field
from scipy.special import softmax

from landfold.core.files import read_json
from landfold.core.settings import Settings, SettingsError, validate

CLIP = float(np.finfo(np.float32).eps)
"""Least probability in a logarithm. A float32 softmax gives exactly 0, whose loss would be infinite; scikit-learn's
``log_loss`` clips float32 probabilities at the same number."""

TEMPERATURES = (0.05, 20.0)
"""Bounds of the temperature: beyond them a network would have to be wrong about its confidence by a factor of 20."""


SCALING = ("temperature", "uniform_share", "unscaled_share")
"""Fields of `Calibration` that scale probabilities, in the order in which `scale` takes them."""


class Calibration(Settings):
    """How probabilities are scaled, and which classes are in a prediction set."""

    temperature: float = Field(ge=TEMPERATURES[0], le=TEMPERATURES[1])
    """above 1 less confident, below 1 more"""
    uniform_share: float = Field(ge=0, lt=1)
    """weight of the uniform distribution: errors that no confidence foresees"""
    unscaled_share: float = Field(ge=0, lt=1)
    """weight of the probabilities as they are in what is left beside the uniform share"""
    least_probability: float = Field(ge=0, le=1)
    """a class is in a prediction set if its scaled probability is at least this"""

    @property
    def scaling(self) -> tuple[float, ...]:
        """What `scale` takes."""
        return tuple(getattr(self, name) for name in SCALING)


class Calibrations(Settings):
    """Content of data/calibration.json: the calibration of each fold, none of whose pixels or patches took part."""

    coverage: float = Field(gt=0, lt=1)
    """share of prediction sets that are to hold the true class"""
    folds: list[Calibration]
    """by number: each fitted on the held-out predictions of the other folds of its repeat"""
    ensemble: Calibration
    """fitted on all held-out predictions; for the mean of all networks"""

    def scale(self, probabilities: np.ndarray, folds: np.ndarray | int = -1) -> np.ndarray:
        """Scaled probabilities, (..., class) to (..., class) float64.

        Args:
            probabilities: of a fold's network, or the mean of all.
            folds: (...) the fold whose network it is, -1 for the mean.
        """
        return scale(probabilities, *(self._of(name, folds) for name in SCALING))

    def sets(self, scaled: np.ndarray, folds: np.ndarray | int = -1) -> np.ndarray:
        """The classes that are in the prediction sets of scaled probabilities, (..., class) bool; see `scale`."""
        return prediction_sets(scaled, self._of("least_probability", folds))

    def _of(self, name: str, folds: np.ndarray | int) -> np.ndarray:
        values = [getattr(calibration, name) for calibration in (*self.folds, self.ensemble)]
        return np.asarray(values)[folds, None]


def read_calibrations(path: Path) -> Calibrations:
    """What stage evaluate wrote.

    Raises:
        SettingsError: the file is not there, or not a calibration.
    """
    if not path.is_file():
        raise SettingsError(f"{path}: not found; run dvc repro evaluate, or set export.calibrated: false")
    return validate(read_json(path), Calibrations, where=str(path))


def scale(
    probabilities: np.ndarray,
    temperature: float | np.ndarray,
    uniform_share: float | np.ndarray = 0.0,
    unscaled_share: float | np.ndarray = 0.0,
) -> np.ndarray:
    """Ensemble temperature scaling: (..., class) probabilities to (..., class) float64.

    The softmax of the logits divided by the temperature is mixed with the probabilities as they are, and that with
    the uniform distribution (Zhang et al. 2020, Mix-n-Match, https://proceedings.mlr.press/v119/zhang20k.html); with
    shares of 0 it is temperature scaling (Guo et al. 2017, https://arxiv.org/abs/1706.04599). The logarithm of a
    probability is its logit but for a constant, which the softmax cancels. The order of the classes stays, except that
    those under `CLIP` become equal.
    """
    logits = np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), CLIP))
    mixed = (1 - unscaled_share) * softmax(logits / temperature, axis=-1) + unscaled_share * softmax(logits, axis=-1)
    return (1 - uniform_share) * mixed + uniform_share / logits.shape[-1]


def prediction_sets(scaled: np.ndarray, least_probability: float | np.ndarray) -> np.ndarray:
    """The classes of at least this probability, and the most probable one: (..., class) to (..., class) bool.

    With a threshold from held-out predictions these are conformal sets (Sadinle et al. 2019,
    https://doi.org/10.1080/01621459.2017.1395341).
    """
    return scaled >= np.minimum(scaled.max(axis=-1, keepdims=True), least_probability)
