"""Where a training runs: device, precision and processes through Lightning Fabric, and what keeps these in step."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import torch
import torch.distributed
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import nn

from landfold.core.errors import LandfoldError
from landfold.network.dataset import load_windows, map_windows
from landfold.network.model import pick_device
from landfold.network.recipe import TrainingError
from landfold.network.settings import TrainSettings


def launch(settings: TrainSettings, *, fold: int) -> Fabric:
    """The device to train on, with all seeds set; with several processes, the others are started.

    Each of them runs the script of this one from its start and comes back from its own call of this function.

    Raises:
        ModelError: if a GPU is demanded and there is none.
        TrainingError: more devices than there are, or a batch that has no patch for each.
    """
    device = pick_device(settings.device)
    devices = _devices(settings, device)
    if settings.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(settings.deterministic)
    torch.manual_seed(settings.seed + fold)
    # the statistics of batch normalization are those of all processes, so no buffer has to be sent around
    strategy = DDPStrategy(broadcast_buffers=False) if devices * settings.nodes > 1 else "auto"
    fabric = Fabric(
        accelerator=device,
        strategy=strategy,
        devices=devices,
        num_nodes=settings.nodes,
        precision=settings.precision,
    )
    fabric.launch()
    return fabric


def _devices(settings: TrainSettings, device: str) -> int:
    found = torch.cuda.device_count() if device == "cuda" else None
    devices = (found or 1) if settings.devices == "auto" else settings.devices
    if found is not None and devices > found:
        raise TrainingError(f"train.devices is {devices}, but torch finds {found} GPUs here; lower it or use auto")
    processes = devices * settings.nodes
    if settings.batch_size < processes:
        raise TrainingError(
            f"train.batch_size is {settings.batch_size}, fewer than the {processes} processes that share a batch; "
            "raise it or lower train.devices"
        )
    return devices


@contextmanager
def launched(settings: TrainSettings, *, fold: int) -> Iterator[Fabric]:
    """`launch`, and an end for all processes when one fails: with the first failure's message alone."""
    fabric = launch(settings, fold=fold)
    if fabric.world_size == 1:
        yield fabric
        return
    try:
        yield fabric
    except Exception as error:
        # Lightning's watcher, which kills all processes without a word once one has ended, goes by this list
        watched = getattr(fabric.strategy.launcher, "procs", [])
        started = watched.copy()
        watched.clear()
        first = _is_first_failure()
        _end(started, patience_s=0 if first else 10)
        if not first:
            sys.exit(1)
        if _is_lost_process(error):
            raise TrainingError(
                f"fold {fold}: another of the {fabric.world_size} processes of this training was killed; if memory "
                "ran out, lower train.batch_size or train.devices; run again to go on from the last finished epoch"
            ) from error
        raise
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    if not fabric.is_global_zero:
        sys.exit()


def _end(processes: list[subprocess.Popen[bytes]], *, patience_s: float) -> None:
    """End the processes that this one has started, once they have had the time to say why they fail."""
    deadline = time.monotonic() + patience_s
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0, deadline - time.monotonic()))
        process.terminate()


def _is_first_failure() -> bool:
    """Whether no other process has failed before; those that have pulled this one down have."""
    try:
        return torch.distributed.distributed_c10d._get_default_store().add("landfold/failures", 1) == 1
    except (RuntimeError, ValueError):  # the first process held the store, and is gone
        return False


def _is_lost_process(error: Exception) -> bool:
    return isinstance(error, torch.distributed.DistError) or "Connection" in str(error) or "gloo" in str(error)


@contextmanager
def shared_windows(
    fabric: Fabric, patches: pandas.DataFrame, normalized: Path, cache_gb: float, scratch: Path
) -> Iterator[tuple[np.ndarray, list[str]]]:
    """`load_windows`; several processes of one machine map one file that the first of them writes."""
    if fabric.world_size == 1:
        yield load_windows(patches, normalized, cache_gb=cache_gb, scratch=scratch)
        return
    mine: tuple[Any, ...] | None = None
    if fabric.local_rank == 0:
        scratch.mkdir(parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(prefix="windows-", dir=scratch)
        os.close(number)
        windows, channels = load_windows(patches, normalized, file=Path(name))
        mine = (fabric.node_rank, name, windows.shape, channels)
    told = gathered(fabric, mine)
    _, name, shape, channels = next(entry for entry in told if entry and entry[0] == fabric.node_rank)
    windows = map_windows(Path(name), shape)
    fabric.barrier()
    if fabric.local_rank == 0:
        Path(name).unlink()  # the maps stay valid, and nothing is left behind however this ends
    yield windows, channels


def gathered(fabric: Fabric, value: Any) -> list[Any]:
    """A picklable value of every process, in their order."""
    if fabric.world_size == 1:
        return [value]
    values = [None] * fabric.world_size
    torch.distributed.all_gather_object(values, value)
    return values


def summed(fabric: Fabric, *values: float) -> list[float]:
    """Each number summed over all processes."""
    if fabric.world_size == 1:
        return list(values)
    total = torch.tensor(values, dtype=torch.float64, device=fabric.device)
    torch.distributed.all_reduce(total)
    return total.tolist()


class _Sum(torch.autograd.Function):
    """Sum over all processes that passes gradients on, which are summed likewise."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor) -> torch.Tensor:
        total = tensor.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        total = gradient.contiguous()
        torch.distributed.all_reduce(total)
        return total


class _SharedBatchNorm(nn.BatchNorm2d):
    """Batch normalization over the batch of all processes; torch's own is for GPUs alone."""

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        if not self.training or self.running_mean is None or self.running_var is None:
            return super().forward(batch)
        own = batch.float()
        count = own.new_tensor([own.numel() / own.shape[1]])
        sums = _Sum.apply(torch.cat([own.sum(dim=(0, 2, 3)), count]))
        total, mean = sums[-1], sums[:-1] / sums[-1]
        centred = own - mean[:, None, None]
        variance = _Sum.apply(centred.square().sum(dim=(0, 2, 3))) / total
        with torch.no_grad():
            self.num_batches_tracked += 1
            momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance * total / (total - 1), momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(batch.dtype)


@contextmanager
def shared_batch_norm(network: nn.Module, processes: int) -> Iterator[None]:
    """In the block, batch normalization of the network takes the statistics of all processes, where there are several.

    The network's tensors and their names stay as they are.

    Raises:
        TrainingError: batch normalization of another kind than that of images.
    """
    if processes == 1:
        yield
        return
    strange = {type(part).__name__ for part in network.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)}
    if strange - {"BatchNorm2d"}:
        raise TrainingError(f"{', '.join(sorted(strange))}: cannot be shared by processes; set train.devices to 1")
    layers = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    for layer in layers:
        layer.__class__ = _SharedBatchNorm
    try:
        yield
    finally:
        for layer in layers:
            layer.__class__ = nn.BatchNorm2d


@contextmanager
def memory_explained(settings: TrainSettings, fabric: Fabric, where: str) -> Iterator[None]:
    """Say which setting to lower when memory runs out in the block.

    Raises:
        TrainingError: if memory ran out, of the GPU or of the machine.
    """
    try:
        yield
    except LandfoldError:
        raise
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError, as is that of the CPU
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        mend = f"lower train.batch_size ({settings.batch_size})"
        if fabric.device.type == "cuda" and settings.precision == "32-true":
            mend += ", or set train.precision to bf16-mixed"
        if fabric.device.type == "cpu":
            mend += f" or train.cache_gb ({settings.cache_gb:g})"
        place = "the GPU" if fabric.device.type == "cuda" else "this machine"
        raise TrainingError(f"{where}: the memory of {place} ran out; {mend}") from None
