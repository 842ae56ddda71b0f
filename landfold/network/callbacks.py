"""Callbacks by which a training reports its progress."""

from collections.abc import Callable
from dataclasses import dataclass

Row = dict[str, float]
"""One epoch of the history, by column."""


@dataclass(frozen=True)
class Step:
    """State of a training after a step."""

    fraction: float
    """share of all epochs that is done, 0 to 1"""
    epoch: int
    epochs: int
    batch: int
    batches: int
    loss: float
    """mean over the batch"""
    rate: float
    """patches a second in this epoch"""


@dataclass(frozen=True)
class TrainingCallbacks:
    """What a training calls after each step, with each epoch's row of the history, and with notices in words."""

    on_step: Callable[[Step], None] = lambda step: None
    on_epoch: Callable[[Row], None] = lambda row: None
    on_notice: Callable[[str], None] = lambda text: None
