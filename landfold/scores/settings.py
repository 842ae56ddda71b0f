"""Section ``evaluate`` of params.yaml."""

from pydantic import Field

from landfold.core.settings import Settings


class Resampling(Settings):
    """How intervals are made."""

    bootstrap: int = Field(ge=1, le=1_000_000)
    """number of resamples of the zones behind each 95 % interval"""
    seed: int = Field(ge=0, le=2**31 - 1)
    """seed of the resamples"""


class EvaluateSettings(Resampling):
    """Section ``evaluate`` of params.yaml."""

    coverage: float = Field(gt=0, lt=1)
    """share of the prediction sets of held-out ground that are to hold the true class"""
