import numpy as np
import pytest
import torch
from torch import nn

from landfold.network.schedule import learning_rate
from tests.network.tiny import train_settings

KINDS = ("one-cycle", "cosine", "constant")


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 10, 11, 100])
def test_one_cycle_is_that_of_torch(steps):
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=0.003)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.003, total_steps=steps)
    for step in range(steps):
        assert learning_rate(train_settings(), step, steps) == pytest.approx(schedule.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        if step + 1 < steps:
            schedule.step()


@pytest.mark.parametrize("steps", [1, 2, 50])
def test_cosine_is_that_of_torch(steps):
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=0.003)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    for step in range(steps):
        assert learning_rate(train_settings(schedule="cosine"), step, steps) == pytest.approx(
            schedule.get_last_lr()[0], abs=1e-12
        )
        optimizer.step()
        schedule.step()


def test_where_the_schedules_begin_peak_and_end():
    rates = {kind: [learning_rate(train_settings(schedule=kind), step, 100) for step in range(100)] for kind in KINDS}
    assert rates["constant"] == [0.003] * 100
    assert rates["cosine"][0] == 0.003
    assert rates["cosine"] == sorted(rates["cosine"], reverse=True)
    assert rates["cosine"][50] == pytest.approx(0.0015)
    assert rates["one-cycle"][0] == pytest.approx(0.003 / 25)
    assert np.argmax(rates["one-cycle"]) == 29
    assert rates["one-cycle"][29] == pytest.approx(0.003)
    assert rates["one-cycle"][99] == pytest.approx(0.003 / 250_000)


@pytest.mark.parametrize("kind", ["cosine", "constant"])
def test_the_warm_up_rises_in_a_line_to_the_top_and_the_rest_goes_on_from_there(kind):
    settings = train_settings(schedule=kind, epochs=10, warmup_epochs=2)
    rates = [learning_rate(settings, step, 100) for step in range(100)]
    assert rates[:20] == pytest.approx([0.003 * (step + 1) / 20 for step in range(20)])
    plain = train_settings(schedule=kind)
    assert rates[20:] == [learning_rate(plain, step, 80) for step in range(80)]
    assert learning_rate(train_settings(schedule=kind, epochs=10, warmup_epochs=0.5), 4, 100) == pytest.approx(0.003)
