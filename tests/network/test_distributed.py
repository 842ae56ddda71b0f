"""What needs several real processes is in tests/stages/test_train_processes.py."""

import pytest
import torch
from torch import nn

from landfold.network import distributed
from landfold.network.distributed import all_gather, all_reduce_sum, launch
from landfold.network.errors import TrainingError
from tests.network.tiny import train_settings


def test_auto_is_one_process_without_a_gpu_and_one_for_each_of_several():
    assert distributed._devices(train_settings(devices="auto"), "cpu") == 1
    assert distributed._devices(train_settings(devices=3), "cpu") == 3
    fabric = launch(train_settings(devices="auto"), "cpu", fold=0)
    assert (fabric.world_size, fabric.device.type) == (1, "cpu")


def test_gpus_are_counted(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert distributed._devices(train_settings(devices="auto"), "cuda") == 2
    with pytest.raises(TrainingError, match=r"train.devices is 4, but torch finds 2 GPUs here; lower it or use auto"):
        distributed._devices(train_settings(devices=4), "cuda")


@pytest.mark.parametrize("changes", [{"devices": 3}, {"nodes": 3}])
def test_each_process_needs_a_patch_of_every_batch(changes):
    with pytest.raises(TrainingError, match=r"train.batch_size is 2, fewer than the 3 processes that share a batch"):
        launch(train_settings(batch_size=2, **changes), "cpu", fold=0)


def test_nodes_and_processes_reach_fabric(monkeypatch):
    options = {}

    class Fabric:
        def __init__(self, **given):
            options.update(given)

        def launch(self):
            options["launched"] = True

    monkeypatch.setattr(distributed, "Fabric", Fabric)
    launch(train_settings(devices=2, nodes=4, precision="bf16-mixed"), "cpu", fold=0)
    assert isinstance(options.pop("strategy"), distributed.DDPStrategy)
    expected = {"accelerator": "cpu", "devices": 2, "num_nodes": 4, "precision": "bf16-mixed", "launched": True}
    assert options == expected
    launch(train_settings(), "cpu", fold=0)
    assert options["strategy"] == "auto"


def test_one_process_gathers_and_sums_its_own():
    fabric = launch(train_settings(), "cpu", fold=0)
    assert all_gather(fabric, "a") == ["a"]
    assert all_reduce_sum(fabric, 0.1, 3) == [0.1, 3]


@pytest.mark.parametrize(("processes", "device", "expected"), [(1, "cuda", 0), (2, "cpu", 0), (2, "cuda", 1)])
def test_several_gpus_share_the_statistics_of_batch_normalization(processes, device, expected):
    class Fabric:
        world_size = processes

    Fabric.device = torch.device(device)
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    names = list(network.state_dict())
    shared = distributed.sync_batch_norm(Fabric, network)
    assert isinstance(shared[1], nn.SyncBatchNorm) == bool(expected)
    assert list(shared.state_dict()) == names
    assert shared is network
