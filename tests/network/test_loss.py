import numpy as np
import pytest
import torch

from landfold.network.loss import PatchLoss, class_weights, count_correct
from tests.network.tiny import train_settings


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


class Processes:
    """What a loss asks of a fabric."""

    device = torch.device("cpu")

    def __init__(self, world_size):
        self.world_size = world_size


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_parts_of_processes_add_up_to_the_mean_over_the_batch(smoothing):
    labels = np.array([0, 0, 0, 1, 2, 2, 1, 0])
    settings = train_settings(class_weights="balanced", label_smoothing=smoothing)
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    batch = torch.tensor([7, 3, 4, 0, 1])
    target = torch.from_numpy(labels)[batch]
    alone, shared = (PatchLoss(labels, 3, settings, Processes(count)) for count in (1, 2))
    parts = [shared(logits[part], target[part], batch) for part in (slice(0, 2), slice(2, 5))]
    assert sum(parts).item() == pytest.approx(alone(logits, target, batch).item(), rel=1e-6)


def test_correct_patches_are_counted():
    logits = torch.tensor([[0.1, 0.9], [2.0, -1.0], [0.0, 0.5]])
    assert count_correct(logits, torch.tensor([1, 1, 1])) == 2
