"""A model folder over HTTP, and as an MLflow model."""

from typing import Literal

from pydantic import Field

from landfold.core.settings import Settings


class ServingLimits(Settings):
    """The largest request, and the device; kept in the MLflow model's ``model_config``."""

    max_windows: int = Field(ge=1)
    """windows, or scenes, in one request"""
    max_pixels: int = Field(ge=1)
    """pixels of all scenes, or of all cores whose pixels are predicted, in one request"""
    device: Literal["auto", "cpu", "cuda"]
    """auto: a GPU if there is one"""


LIMITS = ServingLimits(max_windows=4096, max_pixels=2**20, device="auto")
"""1024 x 1024 px of 13 bands are 54 MB in memory and some 130 MB of JSON; larger scenes are for `landfold predict`."""
