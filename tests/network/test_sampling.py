import pytest
import torch

from landfold.network.sampling import batch_count, epoch_order


def test_an_epoch_has_equal_batches_and_a_patch_for_each_process():
    assert [batch_count(n, 16) for n in (2, 3, 16, 17, 32, 33)] == [1, 1, 1, 2, 2, 3]
    assert batch_count(9, 4, processes=4) == 2
    assert batch_count(3, 2, processes=2) == 1


def test_a_shuffled_epoch_is_a_permutation():
    labels = torch.tensor([0, 1, 1, 2] * 5)
    random = torch.Generator().manual_seed(1)
    first, second = (epoch_order(labels, "shuffled", None, random) for _ in range(2))
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(20))
    assert first.tolist() != second.tolist()


def test_a_balanced_epoch_shows_every_present_class_as_often_and_its_patches_alike():
    labels = torch.tensor([3] * 1000 + [1] * 90 + [0] * 10)[torch.randperm(1100, generator=torch.Generator())]
    random = torch.Generator().manual_seed(1)
    order = torch.cat([epoch_order(labels, "balanced", None, random) for _ in range(20)])
    assert len(order) == 20 * 1100
    shown = torch.bincount(labels[order], minlength=4)
    assert shown[2] == 0
    assert shown[[0, 1, 3]].tolist() == pytest.approx([22000 / 3] * 3, rel=0.03)
    rare = torch.bincount(order[labels[order] == 0], minlength=1100)[labels == 0]
    assert rare.tolist() == pytest.approx([22000 / 30] * 10, rel=0.15)


def test_a_shorter_epoch_shows_each_example_once_at_most_and_over_epochs_all_alike():
    labels = torch.zeros(50, dtype=torch.int64)
    random = torch.Generator().manual_seed(1)
    epochs = [epoch_order(labels, "shuffled", 20, random) for _ in range(500)]
    assert all(len(set(epoch.tolist())) == 20 for epoch in epochs)
    assert torch.bincount(torch.cat(epochs), minlength=50).tolist() == pytest.approx([200] * 50, rel=0.25)
    assert sorted(epoch_order(labels, "shuffled", 70, random).tolist()) == list(range(50))


def test_a_shorter_balanced_epoch_shows_every_class_as_often():
    labels = torch.tensor([0] * 900 + [1] * 100)
    order = epoch_order(labels, "balanced", 600, torch.Generator().manual_seed(1))
    assert len(order) == 600
    assert torch.bincount(labels[order]).tolist() == pytest.approx([300, 300], rel=0.15)
    assert len(epoch_order(labels, "balanced", 2000, torch.Generator())) == 1000
