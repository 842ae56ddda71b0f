"""Patches as arrays, in memory or memory-mapped from a temporary file, and batches of examples."""

import os
import tempfile
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from math import inf, prod
from pathlib import Path

import numpy as np
import pandas
import torch
from lightning_fabric import Fabric
from rasterio.windows import Window

from landfold.geo.windows import scenes_of
from landfold.network.distributed import all_gather
from landfold.network.errors import DatasetError

IGNORED = -100
"""The class of a pixel that counts neither in the loss nor in a score: torch's own number for that."""


def load_windows(
    patches: pandas.DataFrame,
    normalized: Path,
    *,
    cache_gb: float = inf,
    scratch: Path | None = None,
    file: Path | None = None,
) -> tuple[np.ndarray, list[str]]:
    """The windows of all patches and the names of their channels; each scene is opened once.

    Args:
        patches: columns ``scene``, ``row``, ``column`` and ``size_px``.
        normalized: folder of the normalized scenes.
        cache_gb: windows of more GB (10^9 bytes) are written to a file without a name and memory-mapped. It is gone
            with the process however that ends.
        scratch: folder for that file; the system's folder for temporary files by default.
        file: write them to this file in any case, for other processes to map.

    Returns:
        (patch, channel, size_px, size_px) float32 in [0, 1], in the order of the table; and the channels.

    Raises:
        WindowError: no patches, a scene is absent, or scenes differ in their channels.
        DatasetError: memory runs out.
    """
    windows = np.zeros((0, 0, 0, 0), dtype=np.float32)
    channels: list[str] = []
    places = patches.reset_index(drop=True)
    for raster, part in scenes_of(places, normalized):
        if not channels:
            channels = list(raster.names)
            size = int(places["size_px"].iloc[0])
            windows = allocate((len(places), len(channels), size, size), cache_gb, scratch, file)
        for place in part.sort_values(["row", "column"]).itertuples():
            window = Window(place.column, place.row, place.size_px, place.size_px)
            windows[place.Index] = raster.read_raw(window)
    if isinstance(windows, np.memmap):
        windows.flush()
    return windows, channels


def allocate(
    shape: tuple[int, ...], cache_gb: float, scratch: Path | None, file: Path | None = None, *, what: str = "patches"
) -> np.ndarray:
    """An array of float32 to fill, in memory or in a file; see `load_windows`.

    Args:
        shape: of the array.
        cache_gb: an array of more GB is memory-mapped from a file without a name.
        scratch: folder for that file.
        file: map this file in any case.
        what: what it holds, for the message.

    Raises:
        DatasetError: memory runs out.
    """
    size_gb = 4 * prod(shape) / 1e9
    if file is not None or size_gb > cache_gb:
        if scratch is not None:
            scratch.mkdir(parents=True, exist_ok=True)
        with file.open("w+b") if file else tempfile.TemporaryFile(dir=scratch) as stream:
            os.posix_fallocate(stream.fileno(), 0, 4 * prod(shape))  # a full disk is an error now, not a crash later
            return np.memmap(stream, np.float32, "r+", shape=shape)
    try:
        return np.empty(shape, dtype=np.float32)
    except MemoryError:
        raise DatasetError(
            f"the {what} take {size_gb:.1f} GB, which is more than the free memory; lower machine.cache_gb "
            f"({cache_gb:g}) so that they are memory-mapped"
        ) from None


@contextmanager
def shared_windows(
    fabric: Fabric, patches: pandas.DataFrame, normalized: Path, cache_gb: float, scratch: Path
) -> Iterator[tuple[np.ndarray, list[str]]]:
    """`load_windows`; several processes of one machine map one file that the first of them writes."""
    if fabric.world_size == 1:
        yield load_windows(patches, normalized, cache_gb=cache_gb, scratch=scratch)
        return
    own = None
    if fabric.local_rank == 0:
        scratch.mkdir(parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(prefix="windows-", dir=scratch)
        os.close(number)
        windows, channels = load_windows(patches, normalized, file=Path(name))
        own = (fabric.node_rank, name, windows.shape, channels)
    written = all_gather(fabric, own)
    _, name, shape, channels = next(entry for entry in written if entry and entry[0] == fabric.node_rank)
    windows = np.memmap(name, np.float32, "r+", shape=shape)
    fabric.barrier()
    if fabric.local_rank == 0:
        Path(name).unlink()  # the maps stay valid, and nothing is left behind however this ends
    yield windows, channels


class Examples(ABC):
    """What a network learns from or is scored on, in batches."""

    targets: np.ndarray
    """(n,) int64, the class of each example; of a window of pixels that of the pixel for which it is drawn"""

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.targets)

    def views(self, order: torch.Tensor, random: torch.Generator) -> torch.Tensor:
        """What an epoch gathers of the examples at some positions, (n, ...) int64; by default the positions.

        Args:
            order: (n,) int64, positions.
            random: generator, for examples that are not the same in every epoch.
        """
        del random
        return order

    @abstractmethod
    def gather(self, part: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The input of the network and the classes of some examples.

        Args:
            part: (n,) int64, positions, or some of what `views` gives.

        Returns:
            (n, ...) float32, and (n,) or for windows of pixels (n, y, x) int64, `IGNORED` where there is no class.
        """

    def batches(
        self, parts: Sequence[torch.Tensor], device: torch.device
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Input and classes of each part, on the device.

        A thread gathers the next part while the caller works on this one; with memory-mapped windows it waits for the
        disk.

        Args:
            parts: int64 positions within these examples.
            device: where the batches go.
        """

        def gather(part: torch.Tensor) -> list[torch.Tensor]:
            return [tensor.pin_memory() if device.type == "cuda" else tensor for tensor in self.gather(part)]

        with ThreadPoolExecutor(1) as thread:
            ahead = deque(thread.submit(gather, part) for part in parts[:1])
            for number in range(len(parts)):
                batch, target = ahead.popleft().result()
                ahead.extend(thread.submit(gather, part) for part in parts[number + 1 : number + 2])
                yield batch.to(device, non_blocking=True), target.to(device, non_blocking=True)


class ArrayExamples(Examples):
    """Some rows of an array with a class each; a row is copied only into its batch."""

    def __init__(self, values: np.ndarray, labels: np.ndarray, mask: np.ndarray | None = None) -> None:
        """Those where ``mask`` is true, or all.

        Args:
            values: (n, channel, y, x) windows or (n, feature) float32.
            labels: (n,) or (n, y, x) int64, class numbers.
            mask: (n,) bool.
        """
        self._values = torch.from_numpy(values)
        self._chosen = torch.arange(len(labels)) if mask is None else torch.from_numpy(np.flatnonzero(mask))
        self.targets = labels if mask is None else labels[mask]
        self._targets = torch.from_numpy(self.targets)

    def gather(self, part: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows and class numbers."""
        return self._values[self._chosen[part]], self._targets[part]
