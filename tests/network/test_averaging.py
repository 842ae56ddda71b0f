import pytest
import torch
from torch import nn

from landfold.network.averaging import averaged_model
from tests.network.tiny import train_settings


def line(*values: float) -> nn.Module:
    """A network of one weight and batch normalization; its weight takes the given values, one a step."""
    network = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    set_to(network, values[0])
    return network


def set_to(network, value):
    with torch.no_grad():
        network[0].weight.fill_(value)
        network[1].running_mean.fill_(10 * value)
    network[1].num_batches_tracked.fill_(int(value))


def test_the_moving_average_follows_its_recursion_and_the_statistics_of_batch_normalization_with_it():
    network = line(1.0)
    averaged = averaged_model(network, train_settings(average="ema", ema_decay=0.3))
    expected = None
    for step, value in enumerate([1.0, 4.0, 2.0, 8.0, 6.0], start=1):
        set_to(network, value)
        averaged.update_parameters(network)
        decay = min(0.3, (1 + step) / (10 + step))
        expected = value if expected is None else decay * expected + (1 - decay) * value
    assert averaged.module[0].weight.item() == pytest.approx(expected)
    assert averaged.module[1].running_mean.item() == pytest.approx(10 * expected)
    assert network[0].weight.item() == 6


def test_the_mean_is_that_of_all_weights_and_statistics():
    network = line(1.0)
    averaged = averaged_model(network, train_settings(average="last"))
    for value, expected in [(1.0, 1), (2.0, 1.5), (6.0, 3)]:
        set_to(network, value)
        averaged.update_parameters(network)
        assert averaged.module[0].weight.item() == pytest.approx(expected)
        assert averaged.module[1].running_mean.item() == pytest.approx(10 * expected)
    assert network[0].weight.item() == 6
