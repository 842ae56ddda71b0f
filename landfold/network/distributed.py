"""Device, precision and processes of a training, through Lightning Fabric."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
import torch.distributed
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import nn

from landfold.network.errors import TrainingError
from landfold.network.model import pick_device
from landfold.network.settings import TrainSettings


def launch(settings: TrainSettings, device: str, *, fold: int) -> Fabric:
    """Choose the device, set all seeds, and start the other processes where there are several.

    Each of them runs the script of this one from its start and returns from its own call of this function.

    Args:
        settings: how to train.
        device: ``auto``, ``cpu`` or ``cuda``.
        fold: number of the fold, which is added to the seed.

    Raises:
        ModelError: a GPU is required and there is none.
        TrainingError: more devices than there are, or a batch that has no patch for each process.
    """
    device = pick_device(device)
    devices = _devices(settings, device)
    if settings.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(settings.deterministic)
    torch.set_num_threads(1)  # more would change the last digits; cores are used by folds side by side
    torch.manual_seed(settings.seed + fold)
    # Buffers are not sent around with every batch: GPUs share the statistics of batch normalization anyway
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
    """Number of processes on this machine."""
    gpus = torch.cuda.device_count() if device == "cuda" else None
    devices = (gpus or 1) if settings.devices == "auto" else settings.devices
    if gpus is not None and devices > gpus:
        raise TrainingError(f"train.devices is {devices}, but torch finds {gpus} GPUs here; lower it or use auto")
    processes = devices * settings.nodes
    if settings.batch_size < processes:
        raise TrainingError(
            f"train.batch_size is {settings.batch_size}, fewer than the {processes} processes that share a batch; "
            "raise it or lower train.devices"
        )
    return devices


@contextmanager
def distributed(settings: TrainSettings, device: str, *, fold: int) -> Iterator[Fabric]:
    """`launch`, and an end of all processes when one fails, with the message of the first failure alone."""
    fabric = launch(settings, device, fold=fold)
    if fabric.world_size == 1:
        yield fabric
        return
    try:
        yield fabric
    except Exception as error:
        # Lightning's watcher, which kills all processes without a message once one has ended, goes by this list
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
                "ran out, lower train.batch_size or train.devices; run again to continue after the last finished epoch"
            ) from error
        raise
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    if not fabric.is_global_zero:
        sys.exit()


def _end(processes: list[subprocess.Popen[bytes]], *, patience_s: float) -> None:
    """End the processes that this one has started, after the time that they may need to report why they fail."""
    deadline = time.monotonic() + patience_s
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0, deadline - time.monotonic()))
        process.terminate()


def _is_first_failure() -> bool:
    """Whether no other process has failed before this one."""
    try:
        return torch.distributed.distributed_c10d._get_default_store().add("landfold/failures", 1) == 1
    except (RuntimeError, ValueError):  # the first process held the store, and has ended
        return False


def _is_lost_process(error: Exception) -> bool:
    return isinstance(error, torch.distributed.DistError) or "Connection" in str(error) or "gloo" in str(error)


def all_gather(fabric: Fabric, value: Any) -> list[Any]:
    """A picklable value of every process, by rank."""
    if fabric.world_size == 1:
        return [value]
    values = [None] * fabric.world_size
    torch.distributed.all_gather_object(values, value)
    return values


def all_reduce_sum(fabric: Fabric, *values: float) -> list[float]:
    """Each number summed over all processes."""
    total = torch.tensor(values, dtype=torch.float64, device=fabric.device)
    return fabric.all_reduce(total, reduce_op="sum").tolist()


def sync_batch_norm(fabric: Fabric, network: nn.Module) -> nn.Module:
    """Batch normalization with the statistics of all processes, where they have GPUs: torch's takes nothing else."""
    if fabric.world_size > 1 and fabric.device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)
    return network


def broadcast_buffers(fabric: Fabric, network: nn.Module) -> None:
    """Give all processes the buffers of the first: on CPUs, each has running statistics of its own part of batches."""
    if fabric.world_size > 1:
        for buffer in network.buffers():
            torch.distributed.broadcast(buffer, 0)
