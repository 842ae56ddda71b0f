"""What needs several real processes is in tests/stages/test_train_processes.py."""

import pytest
import torch
from torch import nn

from landfold.network import engine
from landfold.network.engine import launch, memory_explained, shared_batch_norm
from landfold.network.recipe import TrainingError
from tests.network.test_training import recipe


@pytest.fixture(autouse=True)
def _restore_torch():
    yield
    torch.use_deterministic_algorithms(False)


def test_auto_is_one_process_without_a_gpu_and_one_for_each_of_several():
    assert engine._devices(recipe(devices="auto"), "cpu") == 1
    assert engine._devices(recipe(devices=3), "cpu") == 3
    fabric = launch(recipe(devices="auto"), fold=0)
    assert (fabric.world_size, fabric.device.type) == (1, "cpu")


def test_gpus_are_counted(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert engine._devices(recipe(devices="auto"), "cuda") == 2
    with pytest.raises(TrainingError, match=r"train.devices is 4, but torch finds 2 GPUs here; lower it or use auto"):
        engine._devices(recipe(devices=4), "cuda")


@pytest.mark.parametrize("changes", [{"devices": 3}, {"nodes": 3}])
def test_each_process_needs_a_patch_of_every_batch(changes):
    with pytest.raises(TrainingError, match=r"train.batch_size is 2, fewer than the 3 processes that share a batch"):
        launch(recipe(batch_size=2, **changes), fold=0)


def test_nodes_and_processes_are_told_to_fabric(monkeypatch):
    told = {}

    class Fabric:
        def __init__(self, **options):
            told.update(options)

        def launch(self):
            told["launched"] = True

    monkeypatch.setattr(engine, "Fabric", Fabric)
    launch(recipe(devices=2, nodes=4, precision="bf16-mixed"), fold=0)
    assert isinstance(told.pop("strategy"), engine.DDPStrategy)
    expected = {"accelerator": "cpu", "devices": 2, "num_nodes": 4, "precision": "bf16-mixed", "launched": True}
    assert told == expected
    launch(recipe(), fold=0)
    assert told["strategy"] == "auto"


def test_shared_batch_norm_is_torch_s_where_all_of_the_batch_is_here(monkeypatch):
    """Its sums over processes are over one here; that of two is in the test of two processes."""
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor: None)
    batch = torch.randn(6, 3, 5, 4, dtype=torch.float64).float() + 2
    found = []
    for processes in (1, 2):
        layer = nn.BatchNorm2d(3)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
        network = nn.Sequential(layer)
        inputs = batch.clone().requires_grad_()
        with shared_batch_norm(network, processes):
            outputs = network(inputs)
            outputs.square().mul(torch.arange(4)).sum().backward()
        assert type(layer) is nn.BatchNorm2d
        found.append([outputs, inputs.grad, layer.weight.grad, layer.running_mean, layer.running_var])
        assert layer.num_batches_tracked == 1
    for mine, torchs in zip(*found, strict=True):
        assert torch.allclose(mine, torchs, rtol=1e-4, atol=1e-4)


def test_batch_norm_that_cannot_be_shared_is_refused():
    with (
        pytest.raises(TrainingError, match=r"BatchNorm1d: cannot be shared by processes; set train.devices to 1"),
        shared_batch_norm(nn.Sequential(nn.BatchNorm1d(2)), 2),
    ):
        pass


class Gpu:
    device = torch.device("cuda")


@pytest.mark.parametrize(
    ("precision", "mend"),
    [("32-true", r"\(16\), or set train.precision to bf16-mixed$"), ("bf16-mixed", r"\(16\)$")],
)
def test_a_full_gpu_names_batch_size_and_precision(precision, mend):
    with (
        pytest.raises(TrainingError, match=f"fold 3: the memory of the GPU ran out; lower train.batch_size {mend}"),
        memory_explained(recipe(precision=precision), Gpu, "fold 3"),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="shape"), memory_explained(recipe(), Gpu, "fold 3"):
        raise RuntimeError("shape")
