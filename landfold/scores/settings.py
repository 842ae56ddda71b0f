"""Section ``evaluate`` of params.yaml."""

from pydantic import Field

from landfold.core.settings import Settings


class EvaluateSettings(Settings):
    """Section ``evaluate`` of params.yaml."""

    coverage: float = Field(gt=0, lt=1)
    """share of the prediction sets of held-out ground that are to hold the true class"""
