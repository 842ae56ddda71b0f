"""The recipe of a training: its settings, learning rate, order of patches, weights of classes, averaged weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil, cos, pi
from typing import Annotated, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import nn

from landfold.errors import LandfoldError
from landfold.settings import Settings


class TrainingError(LandfoldError):
    """A training that cannot start or has gone astray."""


class TrainSettings(Settings):
    """Section ``train`` of params.yaml."""

    epochs: int = Field(ge=1)
    """passes over the training patches"""
    batch_size: int = Field(ge=2)
    """patches in one step, over all processes; lower it when memory runs out"""
    learning_rate: float = Field(gt=0)
    """highest learning rate of AdamW"""
    weight_decay: float = Field(ge=0)
    """decoupled weight decay of AdamW"""
    schedule: Literal["one-cycle", "cosine", "constant"]
    """learning rate over the steps: up for 30 % then down, from the top down, or constant"""
    warmup_epochs: float = Field(ge=0)
    """cosine, constant: epochs in which the learning rate first rises in a line from 0; one-cycle has its own"""
    clip_norm: float = Field(ge=0)
    """longest gradient, over all weights, that a step follows; longer ones are shortened to it; 0: no limit"""
    label_smoothing: float = Field(ge=0, lt=1)
    """share of the target spread over all classes"""
    class_weights: Literal["none", "sqrt", "balanced"]
    """weight of a class in the loss: 1, or one over the (square root of the) number of its patches"""
    sampling: Literal["shuffled", "balanced"]
    """an epoch shows each patch once, or as many draws with replacement in which every class is as likely"""
    average: Literal["none", "ema", "last"]
    """weights that are used: those of the last step, their exponential moving average over the steps, or the mean of
    those at the end of the last epochs"""
    ema_decay: float = Field(gt=0, lt=1)
    """ema: share of the average that a step keeps"""
    average_epochs: int = Field(ge=1)
    """last: how many epochs"""
    early_stopping: int | None = Field(ge=1)
    """end after so many epochs without a lower loss on an inner part of the training zones, and use the weights of the
    best epoch; null: all epochs, and all training patches to learn from"""
    inner_folds: int = Field(ge=2)
    """early stopping: the inner part is one of so many folds of the training zones"""
    flips_and_turns: bool
    """show each patch in one of its eight flips and quarter turns, at random"""
    spectral_jitter: float = Field(ge=0, lt=1)
    """standard deviation of a random gain about 1 and offset about 0, per channel and patch; 0: none"""
    band_dropout: float = Field(ge=0, lt=1)
    """share of the channels of each patch that are set to 0, at random"""
    cache_gb: float = Field(ge=0)
    """patches of up to so many GB are held in memory, more in a temporary file that is memory-mapped"""
    device: Literal["auto", "cpu", "cuda"]
    """auto: a GPU if there is one; cuda: a GPU or an error"""
    devices: Annotated[int, Field(ge=1)] | Literal["auto"]
    """processes on this machine, one a GPU; auto: as many as GPUs, one without"""
    nodes: int = Field(ge=1)
    """machines that train together"""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"]
    """number format of the network's arithmetic; the mixed ones are for GPUs"""
    compile: bool
    """compile the network with torch.compile: minutes at first, then faster on a GPU; needs a C++ compiler"""
    deterministic: bool
    """only algorithms that give equal bytes on every run, on a GPU too (slower there)"""
    seed: int = Field(ge=0)
    """seed of initial weights, order and augmentation; each fold adds its number"""

    @model_validator(mode="after")
    def _settings_agree(self) -> Self:
        if self.warmup_epochs and self.schedule == "one-cycle":
            raise ValueError(
                "one-cycle warms up by itself: set train.warmup_epochs to 0 or train.schedule to cosine or constant"
            )
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"train.warmup_epochs must be below train.epochs ({self.epochs})")
        if self.average == "last" and self.early_stopping is not None:
            raise ValueError(
                "train.average: last has no last epochs when train.early_stopping picks the best one: "
                "set the one to ema or none, or the other to null"
            )
        if self.average == "last" and self.average_epochs > self.epochs:
            raise ValueError(f"train.average_epochs must be at most train.epochs ({self.epochs})")
        return self


def rate_at(settings: TrainSettings, step: int, steps: int) -> float:
    """The learning rate of a step, counted from 0, of ``steps``.

    One-cycle is that of Smith and Topin 2018 (arXiv:1708.07120) as torch has it: cosine from 1/25 of
    the top over the first 30 % of the steps, then cosine to almost 0. The warm-up of the others rises in a line and
    reaches the top with its last step.
    """
    top = settings.learning_rate
    warmup = round(settings.warmup_epochs / settings.epochs * steps)
    if step < warmup:
        return top * (step + 1) / warmup
    if settings.schedule == "constant":
        return top
    if settings.schedule == "cosine":
        return top * (1 + cos(pi * (step - warmup) / (steps - warmup))) / 2
    peak = 0.3 * steps - 1
    if step < peak:
        start = top / 25
        return start + (top - start) * (1 - cos(pi * step / peak)) / 2
    end = top / 250_000
    return end + (top - end) * (1 + cos(pi * (step - peak) / (steps - 1 - peak))) / 2


def class_weights(labels: np.ndarray, classes: int, kind: str) -> np.ndarray:
    """Weight of each class in the loss, (class,) float32, mean 1 over the patches.

    A class without a training patch has weight 1: nothing is learned of it, and nothing divided by 0.
    """
    counts = np.bincount(labels, minlength=classes).astype(np.float64)
    if kind == "none":
        return np.ones(classes, dtype=np.float32)
    weights = np.ones(classes)
    seen = counts > 0
    weights[seen] = 1 / (counts[seen] if kind == "balanced" else np.sqrt(counts[seen]))
    weights[seen] *= counts.sum() / (weights * counts).sum()
    return weights.astype(np.float32)


def batch_count(patches: int, batch_size: int, processes: int = 1) -> int:
    """Steps of an epoch.

    Equal parts of two or more rather than a small last one, which batch normalization could not bear; and one for
    each process at least.
    """
    return min(ceil(patches / batch_size), patches // max(2, processes))


def epoch_order(labels: torch.Tensor, sampling: str, random: torch.Generator) -> torch.Tensor:
    """Positions (n,) of the patches that an epoch shows, in order, of patches with these labels (n,)."""
    if sampling == "shuffled":
        return torch.randperm(len(labels), generator=random)
    # not torch.multinomial, which bears 2 ** 24 patches at most
    by_class = torch.argsort(labels, stable=True)
    counts = torch.bincount(labels)
    starts = counts.cumsum(0) - counts
    present = counts.nonzero().ravel()
    drawn = present[torch.randint(len(present), (len(labels),), generator=random)]
    within = (torch.rand(len(labels), generator=random, dtype=torch.float64) * counts[drawn]).long()
    return by_class[starts[drawn] + within]


class Average:
    """Averaged weights beside those that learn.

    Everything in the state of the network that is a float is averaged, and so are the running statistics of batch
    normalization, by the same rule as the weights: no second pass over the patches is needed for them. Counters
    are copied.
    """

    def __init__(self, network: nn.Module, settings: TrainSettings) -> None:
        """Start from the network as it is."""
        self.network = network
        self.settings = settings
        self.count = 0
        self.state: dict[str, torch.Tensor] = {}

    def after_step(self) -> None:
        """Take a step's weights in. Early on the average follows faster, lest it remember the random start."""
        if self.settings.average == "ema":
            self.count += 1
            self._blend(1 - min(self.settings.ema_decay, (1 + self.count) / (10 + self.count)))

    def after_epoch(self, epoch: int) -> None:
        """Take the weights at the end of an epoch in."""
        if self.settings.average == "last" and epoch > self.settings.epochs - self.settings.average_epochs:
            self.count += 1
            self._blend(1 / self.count)

    def _blend(self, share: float) -> None:
        current = self.network.state_dict()
        if not self.state:
            self.state = {name: tensor.detach().clone() for name, tensor in current.items()}
            return
        for name, tensor in current.items():
            if tensor.is_floating_point():
                self.state[name].lerp_(tensor.detach(), share)
            else:
                self.state[name].copy_(tensor)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The network has the averaged weights, where there are any yet, in the block."""
        if not self.state:
            yield
            return
        own = {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}
        self.network.load_state_dict(self.state)
        try:
            yield
        finally:
            self.network.load_state_dict(own)
