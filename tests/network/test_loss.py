from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
import torch

from landfold.network.dataset import IGNORED
from landfold.network.loss import ClassLoss, class_weights, count_correct
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
    """What a loss asks of a fabric once; processes are threads here."""

    device = torch.device("cpu")

    def __init__(self, world_size):
        self.world_size = world_size
        self._given, self._all_there = [], Barrier(world_size)

    def all_reduce(self, number, reduce_op):
        assert reduce_op == "sum"
        self._given.append(number)
        self._all_there.wait(timeout=60)
        return sum(self._given)


def sum_of_parts(loss, logits, target, cut):
    """What two processes have of the loss of a batch, added up."""
    parts = [slice(0, cut), slice(cut, len(target))]
    with ThreadPoolExecutor(2) as threads:
        return sum(threads.map(lambda part: loss(logits[part], target[part]).item(), parts))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_parts_of_processes_add_up_to_the_mean_over_the_batch(smoothing):
    labels = np.array([0, 0, 0, 1, 2, 2, 1, 0])
    settings = train_settings(class_weights="balanced", label_smoothing=smoothing)
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    target = torch.from_numpy(labels)[[7, 3, 4, 0, 1]]
    alone, shared = (ClassLoss(labels, 3, settings, Processes(count)) for count in (1, 2))
    assert sum_of_parts(shared, logits, target, 2) == pytest.approx(alone(logits, target).item(), rel=1e-6)


@pytest.mark.parametrize("kind", ["none", "balanced"])
def test_pixels_without_a_class_count_neither_in_the_loss_nor_in_the_score(kind):
    settings = train_settings(class_weights=kind, label_smoothing=0.1)
    logits = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    target = torch.randint(3, (2, 4, 5), generator=torch.Generator().manual_seed(1))
    target[0, :3] = IGNORED
    labels = np.array([0, 0, 1, 2, 2, 2])
    alone, shared = (ClassLoss(labels, 3, settings, Processes(count)) for count in (1, 2))
    seen = target != IGNORED
    rows, classes = logits.permute(0, 2, 3, 1)[seen], target[seen]
    assert alone(logits, target).item() == pytest.approx(alone(rows, classes).item(), rel=1e-6)
    assert sum_of_parts(shared, logits, target, 1) == pytest.approx(alone(logits, target).item(), rel=1e-6)
    assert count_correct(logits, target) == (int((rows.argmax(dim=1) == classes).sum()), 25)


def test_correct_patches_are_counted():
    logits = torch.tensor([[0.1, 0.9], [2.0, -1.0], [0.0, 0.5]])
    assert count_correct(logits, torch.tensor([1, 1, 1])) == (2, 3)
