"""Section ``evaluate`` of params.yaml."""

from pydantic import Field

from landfold.core.settings import Settings


class EvaluateSettings(Settings):
    """Section ``evaluate`` of params.yaml."""

    bootstrap: int = Field(ge=1, le=1_000_000)
    """number of resamples of the zones behind each 95 % interval"""
    seed: int = Field(ge=0, le=2**31 - 1)
    """seed of the resamples"""
