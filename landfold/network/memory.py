"""Messages for trainings that run out of memory."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from landfold.core.errors import LandfoldError
from landfold.network.errors import TrainingError
from landfold.network.settings import TrainSettings


@contextmanager
def explain_oom(settings: TrainSettings, device: torch.device, where: str) -> Iterator[None]:
    """Say which setting to lower when memory runs out in the block.

    Raises:
        TrainingError: memory ran out, of the GPU or of the machine.
    """
    try:
        yield
    except LandfoldError:
        raise
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError, as is that of the CPU
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        on_gpu = device.type == "cuda"
        advice = f"lower train.batch_size ({settings.batch_size})"
        if on_gpu and settings.precision == "32-true":
            advice += ", or set train.precision to bf16-mixed"
        if not on_gpu:
            advice += " or machine.cache_gb"
        place = "the GPU" if on_gpu else "this machine"
        raise TrainingError(f"{where}: {place} ran out of memory; {advice}") from None
