"""Spectral indices by name, on reflectance, NaN where undefined.

Names, formulae and default constants are those of the Awesome Spectral Indices list
(Montero et al. 2023, doi:10.1038/s41597-023-02096-0), read through spyndex.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import spyndex

from landfold.core.errors import LandfoldError
from landfold.geo.bands import STANDARD_NAMES
from landfold.geo.raster import Raster
from landfold.geo.writer import create
from landfold.scenes.settings import IndexSettings


class MissingBandError(LandfoldError):
    """An index that is unknown or whose bands are absent."""


def required_bands(name: str) -> list[str]:
    """The standard names of the bands that an index is computed from.

    Raises:
        MissingBandError: if the index also needs what is neither a band nor a constant of known value
            (a kernel or a sensor's wavelengths, say).
    """
    parts = [part for part in spyndex.indices[name].bands if part not in _constants(name)]
    foreign = [part for part in parts if part not in STANDARD_NAMES]
    if foreign:
        raise MissingBandError(
            f"index {name}: it needs {', '.join(foreign)}, which no band of a scene provides; choose another"
        )
    return parts


def _constants(name: str) -> dict[str, float]:
    """The default values of an index's constants; wavelengths and irradiance have none."""
    parts = [part for part in spyndex.indices[name].bands if part in spyndex.constants]
    defaults = {part: spyndex.constants[part].default for part in parts}
    return {part: float(default) for part, default in defaults.items() if default is not None}


def check_bands(names: Iterable[str], bands: Sequence[str]) -> None:
    """Refuse indices that the bands at hand do not allow.

    Raises:
        MissingBandError: naming the index and the absent bands.
    """
    for name in names:
        missing = [band for band in required_bands(name) if band not in bands]
        if missing:
            raise MissingBandError(
                f"index {name}: it needs band {', '.join(missing)}, but ingest.bands is {', '.join(bands)}; "
                f"add the band there or take {name} out of indices.names"
            )


def compute(name: str, reflectance: dict[str, np.ndarray]) -> np.ndarray:
    """One index, (y, x) float32; NaN where a band is NaN or the formula has no finite value."""
    parameters = {band: reflectance[band].astype(np.float64) for band in required_bands(name)}
    parameters |= _constants(name)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        values = np.asarray(spyndex.computeIndex(name, params=parameters), dtype=np.float32)
    values[~np.isfinite(values)] = np.nan
    return values


def write_indices(
    scene: Path,
    settings: IndexSettings,
    target: Path,
    *,
    progress: Callable[[float], None] = lambda fraction: None,
) -> None:
    """Compute the indices of a scene by windows into ``target``, float32 with NaN as nodata."""
    with Raster.open(scene) as source:
        check_bands(settings.names, source.names)
        bands = sorted({band for name in settings.names for band in required_bands(name)})
        done = 0
        with create(target, source.grid, settings.names, dtype="float32", nodata=np.nan) as writer:
            for window in source.grid.blocks():
                reflectance = dict(zip(bands, source.read_reflectance(window, bands), strict=True))
                writer.write(window, np.stack([compute(name, reflectance) for name in settings.names]))
                done += int(window.width * window.height)
                progress(done / (source.grid.height * source.grid.width))
