"""Patches as arrays in memory, each scene read once, and their augmentation in batches."""

from pathlib import Path

import numpy as np
import pandas
import torch
from rasterio.windows import Window

from landfold.errors import LandfoldError
from landfold.raster import Raster


class DatasetError(LandfoldError):
    """Patches that do not fit the normalized scenes."""


def read_fold(patches: Path, sides: Path) -> pandas.DataFrame:
    """The table of patches with the ``zone`` and ``side`` (train, validation, buffer or test) of one fold.

    Raises:
        DatasetError: if the fold's list is absent or not of these patches.
    """
    if not sides.is_file():
        raise DatasetError(f"{sides}: not found; expected the list of a fold; run dvc repro zones")
    table, fold = pandas.read_parquet(patches), pandas.read_parquet(sides)
    if list(table["patch"]) != list(fold["patch"]):
        raise DatasetError(f"{sides}: does not list the patches of {patches}; run dvc repro zones")
    return table.assign(zone=fold["zone"], side=fold["side"])


def load_windows(patches: pandas.DataFrame, normalized: Path) -> tuple[np.ndarray, list[str]]:
    """The windows of all patches and the names of their channels.

    Args:
        patches: columns ``scene``, ``row``, ``column`` and ``size_px``.
        normalized: folder of the normalized scenes.

    Returns:
        (patch, channel, size_px, size_px) float32 in [0, 1], in the order of the table.

    Raises:
        DatasetError: a scene is absent, or scenes differ in their channels.
    """
    windows: np.ndarray | None = None
    channels: list[str] = []
    places = patches.reset_index(drop=True)
    for scene, part in places.groupby("scene", sort=True):
        path = normalized / f"{scene}.tif"
        if not path.exists():
            raise DatasetError(f"{path}: not found, but patches were cut from that scene; run dvc repro normalize")
        with Raster.open(path) as raster:
            if windows is None:
                channels = list(raster.names)
                size = int(places["size_px"].iloc[0])
                windows = np.empty((len(places), len(channels), size, size), dtype=np.float32)
            if list(raster.names) != channels:
                raise DatasetError(
                    f"{path}: channels {', '.join(raster.names)}, other scenes have {', '.join(channels)}"
                )
            for place in part.sort_values(["row", "column"]).itertuples():
                window = Window(place.column, place.row, place.size_px, place.size_px)
                windows[place.Index] = raster.stored(window)
    if windows is None:
        raise DatasetError("no patches to load")
    return windows, channels


def turned(windows: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Flip and turn each window of (n, channel, size, size) by its number in 0..7.

    The eight symmetries of the square: number % 4 quarter turns, mirrored first from 4 on. From
    above, ground has no preferred direction, so each is as real as the next.
    """
    result = torch.empty_like(windows)
    for number in range(8):
        chosen = turns == number
        part = windows[chosen]
        if number >= 4:
            part = part.flip(-1)
        result[chosen] = torch.rot90(part, number % 4, dims=(-2, -1))
    return result
