"""Averaged weights beside those that are trained."""

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from landfold.network.settings import TrainSettings


def averaged_model(network: nn.Module, settings: TrainSettings) -> AveragedModel:
    """A copy of the network that averages its parameters and buffers, by ``train.average``.

    ``ema``: an exponential moving average. In update n its decay is at most (1 + n) / (10 + n), so that it soon forgets
    the random start. ``last``: the mean. The running statistics of batch normalization are averaged like the weights.
    """

    def average(averaged: list[torch.Tensor], current: list[torch.Tensor], count: torch.Tensor) -> None:
        n = int(count) + 1
        decay = min(settings.ema_decay, (1 + n) / (10 + n)) if settings.average == "ema" else (n - 1) / n
        get_ema_multi_avg_fn(decay)(averaged, current, n)

    return AveragedModel(network, multi_avg_fn=average, use_buffers=True)
