"""The recipe of a training: its settings, learning rate, order of patches, weights of classes, averaged weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil, cos, pi

import numpy as np
import torch
from torch import nn

from landfold.core.errors import LandfoldError
from landfold.network.settings import TrainSettings


class TrainingError(LandfoldError):
    """A training that cannot start or has gone astray."""


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
