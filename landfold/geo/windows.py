"""The normalized scenes that patches were cut from, opened one after another."""

from collections.abc import Iterator
from pathlib import Path

import pandas

from landfold.core.errors import LandfoldError
from landfold.geo.raster import Raster


class WindowError(LandfoldError):
    """Patches that do not fit the normalized scenes."""


def scenes_of(patches: pandas.DataFrame, normalized: Path) -> Iterator[tuple[Raster, pandas.DataFrame]]:
    """Each scene that the table names, open, with its rows of the table; all scenes have the same channels.

    Args:
        patches: column ``scene``.
        normalized: folder of the normalized scenes.

    Raises:
        WindowError: no patches, a scene is absent, or scenes differ in their channels.
    """
    if patches.empty:
        raise WindowError("no patches; expected a table with one row for each")
    channels: tuple[str, ...] | None = None
    for scene, part in patches.groupby("scene", sort=True):
        path = normalized / f"{scene}.tif"
        if not path.exists():
            raise WindowError(f"{path}: not found, but patches were cut from that scene; run dvc repro normalize")
        with Raster.open(path) as raster:
            channels = channels or tuple(raster.names)
            if tuple(raster.names) != channels:
                raise WindowError(
                    f"{path}: channels {', '.join(raster.names)}, other scenes have {', '.join(channels)}; "
                    "run dvc repro normalize"
                )
            yield raster, part
