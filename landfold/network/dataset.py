"""Patches as arrays, in memory or memory-mapped from one temporary file, each scene decoded once."""

import os
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import inf, prod
from pathlib import Path

import numpy as np
import pandas
import torch
from rasterio.windows import Window

from landfold.core.errors import LandfoldError
from landfold.folds.lists import read_fold_list
from landfold.geo.windows import scenes_of


class DatasetError(LandfoldError):
    """Patches that do not fit the normalized scenes."""


def read_fold(patches: Path, sides: Path) -> pandas.DataFrame:
    """The table of patches with the ``zone`` and ``side`` (train, validation, buffer or test) of one fold.

    Raises:
        FoldError: if the fold's list is absent or not of these patches.
    """
    table = pandas.read_parquet(patches)
    fold = read_fold_list(sides, table["patch"])
    return table.assign(zone=fold["zone"], side=fold["side"])


def load_windows(
    patches: pandas.DataFrame,
    normalized: Path,
    *,
    cache_gb: float = inf,
    scratch: Path | None = None,
    file: Path | None = None,
) -> tuple[np.ndarray, list[str]]:
    """The windows of all patches and the names of their channels.

    Args:
        patches: columns ``scene``, ``row``, ``column`` and ``size_px``.
        normalized: folder of the normalized scenes.
        cache_gb: windows of more GB (10^9 bytes) are written to a file and memory-mapped. It has no name, so it is
            gone with the process however that ends.
        scratch: folder for that file; the system's own for temporary files by default.
        file: write them to this file in any case, for other processes to map.

    Returns:
        (patch, channel, size_px, size_px) float32 in [0, 1], in the order of the table.

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
            windows = _room((len(places), len(channels), size, size), cache_gb, scratch, file)
        for place in part.sort_values(["row", "column"]).itertuples():
            window = Window(place.column, place.row, place.size_px, place.size_px)
            windows[place.Index] = raster.stored(window)
    if isinstance(windows, np.memmap):
        windows.flush()
    return windows, channels


def _room(shape: tuple[int, ...], cache_gb: float, scratch: Path | None, file: Path | None) -> np.ndarray:
    """An array to fill, in memory or in a file."""
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
            f"the patches take {size_gb:.1f} GB, more than there is memory; lower train.cache_gb ({cache_gb:g}) "
            "so that they are memory-mapped"
        ) from None


def map_windows(file: Path, shape: Sequence[int]) -> np.ndarray:
    """The windows that `load_windows` wrote to a file in another process."""
    return np.memmap(file, np.float32, "r+", shape=tuple(shape))


@dataclass(frozen=True)
class Examples:
    """Some of the windows with their class numbers; no window is copied before its batch.

    ``windows`` (patch, channel, y, x) float32 and ``labels`` (patch,) int64 of all patches, ``chosen`` (n,) int64 the
    positions of these in them.
    """

    windows: np.ndarray
    labels: np.ndarray
    chosen: np.ndarray

    @classmethod
    def of(cls, windows: np.ndarray, labels: np.ndarray, mask: np.ndarray | None = None) -> "Examples":
        """Those where ``mask`` (patch,) is true, or all."""
        return cls(windows, labels, np.arange(len(labels)) if mask is None else np.flatnonzero(mask))

    def __len__(self) -> int:
        """How many."""
        return len(self.chosen)

    @property
    def targets(self) -> np.ndarray:
        """Their class numbers, (n,) int64."""
        return self.labels[self.chosen]

    def batches(
        self, parts: Sequence[torch.Tensor], device: torch.device
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Windows and class numbers of parts, which are positions within these examples, on the device.

        A thread gathers the next part while the network is at work on this one: of memory-mapped windows, it is the
        one that waits for the disk.
        """
        pin = device.type == "cuda"
        windows = torch.from_numpy(self.windows)
        chosen, targets = torch.from_numpy(self.chosen), torch.from_numpy(self.targets)

        def gather(part: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            batch, target = windows[chosen[part]], targets[part]
            return (batch.pin_memory(), target.pin_memory()) if pin else (batch, target)

        with ThreadPoolExecutor(1) as thread:
            ahead = deque(thread.submit(gather, part) for part in parts[:1])
            for number in range(len(parts)):
                batch, target = ahead.popleft().result()
                ahead.extend(thread.submit(gather, part) for part in parts[number + 1 : number + 2])
                yield batch.to(device, non_blocking=True), target.to(device, non_blocking=True)
