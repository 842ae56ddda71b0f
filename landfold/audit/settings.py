"""Section ``audit`` of params.yaml."""

from typing import Literal

from pydantic import Field

from landfold.core.settings import Settings


class AuditSettings(Settings):
    """Section ``audit`` of params.yaml."""

    baseline: Literal["random_forest", "logistic_regression", "best"]
    """classifier of the band statistics; best: of four classical models, chosen on inner zones of each fold"""
    pixels: int = Field(ge=0, le=10_000_000)
    """labels.unit pixel: labelled pixels of a fold that the baseline of pixels learns from; 0: no such baseline"""
    trees: int = Field(ge=1, le=100_000)
    """number of trees of the random forest"""
    prediction_points: int = Field(ge=1, le=10_000_000)
    """windows of the map, sampled at random, whose distances to the patches are measured; fewer if there are fewer"""
    seed: int = Field(ge=0, le=2**31 - 1)
    """seed of the forest and of all samples"""
    network: bool
    """whether the network is trained under the random folds, too, to measure its own gap; no effect on the audit"""
