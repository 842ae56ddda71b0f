from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from landfold.core.settings import SettingsError, validate
from landfold.network.recipe import Average, batch_count, class_weights, epoch_order, rate_at
from landfold.network.settings import TrainSettings
from tests.network.test_training import SETTINGS, recipe

KINDS = ("one-cycle", "cosine", "constant")


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 10, 11, 100])
def test_one_cycle_is_that_of_torch(steps):
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=0.003)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.003, total_steps=steps)
    for step in range(steps):
        assert rate_at(recipe(), step, steps) == pytest.approx(schedule.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        if step + 1 < steps:
            schedule.step()


@pytest.mark.parametrize("steps", [1, 2, 50])
def test_cosine_is_that_of_torch(steps):
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=0.003)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    for step in range(steps):
        assert rate_at(recipe(schedule="cosine"), step, steps) == pytest.approx(schedule.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        schedule.step()


def test_where_the_schedules_begin_peak_and_end():
    rates = {kind: [rate_at(recipe(schedule=kind), step, 100) for step in range(100)] for kind in KINDS}
    assert rates["constant"] == [0.003] * 100
    assert rates["cosine"][0] == 0.003
    assert rates["cosine"] == sorted(rates["cosine"], reverse=True)
    assert rates["cosine"][50] == pytest.approx(0.0015)
    assert rates["one-cycle"][0] == pytest.approx(0.003 / 25)
    assert np.argmax(rates["one-cycle"]) == 29
    assert rates["one-cycle"][29] == pytest.approx(0.003)
    assert rates["one-cycle"][99] == pytest.approx(0.003 / 250_000)


def test_class_weights():
    labels = np.array([0] * 9 + [1] * 1)
    assert class_weights(labels, 2, "none").tolist() == [1, 1]
    assert class_weights(labels, 2, "balanced") == pytest.approx([10 / 18, 10 / 2])
    assert class_weights(labels, 2, "sqrt") == pytest.approx([10 / 4 / 3, 10 / 4])


@pytest.mark.parametrize("kind", ["none", "sqrt", "balanced"])
def test_class_weights_have_mean_1_over_the_patches_and_bear_an_absent_class(kind):
    labels = np.array([0, 0, 0, 2, 2, 3] * 5)
    weights = class_weights(labels, 5, kind)
    assert weights.dtype == np.float32
    assert weights[labels].mean() == pytest.approx(1)
    assert (weights[1], weights[4]) == (1, 1)


@pytest.mark.parametrize("kind", ["cosine", "constant"])
def test_the_warm_up_rises_in_a_line_to_the_top_and_the_rest_goes_on_from_there(kind):
    settings = recipe(schedule=kind, epochs=10, warmup_epochs=2)
    rates = [rate_at(settings, step, 100) for step in range(100)]
    assert rates[:20] == pytest.approx([0.003 * (step + 1) / 20 for step in range(20)])
    plain = recipe(schedule=kind)
    assert rates[20:] == [rate_at(plain, step, 80) for step in range(80)]
    assert rate_at(recipe(schedule=kind, epochs=10, warmup_epochs=0.5), 4, 100) == pytest.approx(0.003)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"warmup_epochs": 1}, "one-cycle warms up by itself: set train.warmup_epochs to 0"),
        ({"schedule": "cosine", "warmup_epochs": 2}, r"train.warmup_epochs must be below train.epochs \(2\)"),
        ({"average": "last", "early_stopping": 1}, "train.average: last has no last epochs when train.early_stopping"),
        ({"average": "last", "average_epochs": 3}, r"train.average_epochs must be at most train.epochs \(2\)"),
        ({"devices": 0}, "train.devices"),
    ],
)
def test_settings_that_do_not_agree_are_refused(changes: dict[str, Any], message):
    with pytest.raises(SettingsError, match=message):
        validate(SETTINGS | changes, TrainSettings, where="params.yaml: train")


def test_an_epoch_has_equal_batches_and_a_patch_for_each_process():
    assert [batch_count(n, 16) for n in (2, 3, 16, 17, 32, 33)] == [1, 1, 1, 2, 2, 3]
    assert batch_count(9, 4, processes=4) == 2
    assert batch_count(3, 2, processes=2) == 1


def test_a_shuffled_epoch_is_a_permutation():
    labels = torch.tensor([0, 1, 1, 2] * 5)
    random = torch.Generator().manual_seed(1)
    first, second = (epoch_order(labels, "shuffled", random) for _ in range(2))
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(20))
    assert first.tolist() != second.tolist()


def test_a_balanced_epoch_shows_every_present_class_as_often_and_its_patches_alike():
    labels = torch.tensor([3] * 1000 + [1] * 90 + [0] * 10)[torch.randperm(1100, generator=torch.Generator())]
    random = torch.Generator().manual_seed(1)
    order = torch.cat([epoch_order(labels, "balanced", random) for _ in range(20)])
    assert len(order) == 20 * 1100
    shown = torch.bincount(labels[order], minlength=4)
    assert shown[2] == 0
    assert shown[[0, 1, 3]].tolist() == pytest.approx([22000 / 3] * 3, rel=0.03)
    rare = torch.bincount(order[labels[order] == 0], minlength=1100)[labels == 0]
    assert rare.tolist() == pytest.approx([22000 / 30] * 10, rel=0.15)


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
    average = Average(network, recipe(average="ema", ema_decay=0.3))
    expected = None
    for step, value in enumerate([1.0, 4.0, 2.0, 8.0, 6.0], start=1):
        set_to(network, value)
        average.after_step()
        decay = min(0.3, (1 + step) / (10 + step))
        expected = value if expected is None else decay * expected + (1 - decay) * value
    with average.applied():
        assert network[0].weight.item() == pytest.approx(expected)
        assert network[1].running_mean.item() == pytest.approx(10 * expected)
        assert network[1].num_batches_tracked.item() == 6
    assert network[0].weight.item() == 6


def test_the_average_of_the_last_epochs_is_their_mean():
    network = line(1.0)
    average = Average(network, recipe(average="last", epochs=5, average_epochs=3))
    for epoch, value in enumerate([9.0, 7.0, 1.0, 2.0, 6.0], start=1):
        set_to(network, value)
        average.after_step()
        average.after_epoch(epoch)
        with average.applied():
            assert network[0].weight.item() == pytest.approx({1: 9, 2: 7, 3: 1, 4: 1.5, 5: 3}[epoch])
    assert network[0].weight.item() == 6


def test_without_averaging_nothing_is_held():
    network = line(1.0)
    average = Average(network, recipe())
    average.after_step()
    average.after_epoch(2)
    assert average.state == {}
    with average.applied():
        assert network[0].weight.item() == 1
