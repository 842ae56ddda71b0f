"""What a request asks, checked, and its answer: the same on the wire, in MLflow's Python and in the tests."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from affine import Affine
from pydantic import Field
from rasterio.crs import CRS

from landfold.core.errors import LandfoldError, first_ten
from landfold.core.settings import Settings
from landfold.deploy.bundle import Bundle
from landfold.deploy.bundlecard import BundleCard
from landfold.geo.grid import Grid
from landfold.geo.raster import Raster
from landfold.geo.writer import create
from landfold.maps.inference import map_grid, slide
from landfold.scenes.normalize import ChannelStatistics, SceneStatistics

MODES = ("windows", "scene")

FAR_BEYOND = 10
"""A median so many times what was high in training (at least 1) is of other units: digital numbers are in thousands."""


class RequestError(LandfoldError):
    """A request that cannot be answered; its message is one sentence for whoever asked."""


class ServingLimits(Settings):
    """What a request may ask at most, and where it is worked on; kept in the MLflow model's ``model_config``."""

    max_windows: int = Field(ge=1)
    """windows, or scenes, in one request"""
    max_pixels: int = Field(ge=1)
    """pixels of all scenes in one request"""
    device: Literal["auto", "cpu", "cuda"]
    """auto: a GPU if there is one"""


LIMITS = ServingLimits(max_windows=4096, max_pixels=2**20, device="auto")
"""1024 x 1024 px of 13 bands are 54 MB in memory and some 130 MB of JSON; larger scenes are for `landfold predict`."""


def answer(bundle: Bundle, reflectance: Any, params: Mapping[str, Any], limits: ServingLimits) -> np.ndarray:
    """Class probabilities for windows, or for every cell of whole scenes.

    Args:
        bundle: the model.
        reflectance: (n, band, y, x) float32, NaN where there is no data; bands in the order of the model's card.
        params: ``mode``: windows or scene; ``low`` and ``high``: the scene's percentiles of each channel, as
            `landfold.statistics` writes them. Windows need them. A scene may come without: then they are its own.
        limits: what is refused for its size.

    Returns:
        Windows: (n, class) float32. Scenes: (n, row, column, class) float32, 0 for all classes where a cell has
        too little data to be mapped.

    Raises:
        RequestError: naming what was found and what was expected.
    """
    card = bundle.card
    mode = params.get("mode") or "windows"
    if mode not in MODES:
        raise RequestError(f"mode is {str(mode)[:40]!r}; expected {' or '.join(MODES)}")
    _check_values(reflectance, card)
    statistics = _statistics(bundle, params)
    if mode == "windows":
        _check_windows(reflectance, card.size_px, limits)
        if statistics is None:
            raise RequestError(
                "mode windows needs the params low and high, the statistics of the scene that the windows are from; "
                "send a whole scene with mode scene, or its statistics"
            )
        return bundle.probabilities(_normalized(bundle, reflectance, statistics))
    if len(reflectance) > limits.max_windows:  # each has files of its own, however small it is
        raise RequestError(f"{len(reflectance)} scenes; a request may have {limits.max_windows}: send several requests")
    pixels = reflectance.shape[0] * reflectance.shape[2] * reflectance.shape[3]
    if pixels > limits.max_pixels:
        raise RequestError(
            f"{pixels} pixels; a request may have {limits.max_pixels}: run `landfold predict` on larger scenes"
        )
    return np.stack([_scene(bundle, scene, statistics) for scene in reflectance])


def _check_values(reflectance: Any, card: BundleCard) -> None:
    bands = card.bands
    if not isinstance(reflectance, np.ndarray) or reflectance.ndim != 4 or reflectance.dtype.kind != "f":
        found = f"shape {reflectance.shape}, {reflectance.dtype}" if isinstance(reflectance, np.ndarray) else "no array"
        raise RequestError(f"reflectance has {found}; expected numbers of shape (n, {len(bands)}, y, x)")
    if reflectance.shape[1] != len(bands):
        raise RequestError(
            f"reflectance has {reflectance.shape[1]} bands; the model expects {len(bands)}: {', '.join(bands)}"
        )
    if 0 in reflectance.shape:
        raise RequestError(f"reflectance of shape {reflectance.shape} is empty; send at least one window or scene")
    if np.isinf(reflectance).any():
        raise RequestError("reflectance has infinite values; send NaN, or null in JSON, where there is no data")
    for index, native in enumerate(card.origin.bands):
        values = reflectance[:, index]
        values = values[~np.isnan(values)]
        if values.size and np.median(values) > FAR_BEYOND * max(1, native.high):
            raise RequestError(
                f"band {native.name} has a median of {np.median(values):g}; expected reflectance, in training mostly "
                f"{native.low:.3g} to {native.high:.3g}: apply the product's scale and offset first"
            )


def _check_windows(windows: np.ndarray, size_px: int, limits: ServingLimits) -> None:
    if windows.shape[2:] != (size_px, size_px):
        raise RequestError(
            f"windows of {windows.shape[2]} x {windows.shape[3]} px; the model expects {size_px} x {size_px}"
        )
    if len(windows) > limits.max_windows:
        raise RequestError(f"{len(windows)} windows; a request may have {limits.max_windows}: send several requests")
    empty = np.flatnonzero(_invalid(windows).all(axis=(1, 2)))
    if len(empty):
        raise RequestError(f"no valid pixel in window {first_ten([int(i) for i in empty])} (counted from 0)")


def _invalid(windows: np.ndarray) -> np.ndarray:
    """(n, y, x) bool: a pixel is valid when every band has data, as in ingest."""
    return np.isnan(windows).any(axis=1)


def _statistics(bundle: Bundle, params: Mapping[str, Any]) -> SceneStatistics | None:
    """The statistics that came with the request, if any."""
    low, high = (list(params.get(name) if params.get(name) is not None else []) for name in ("low", "high"))
    if not low and not high:
        return None
    channels = bundle.card.channels
    for name, values in (("low", low), ("high", high)):
        if len(values) != len(channels):
            raise RequestError(
                f"{name} has {len(values)} values; expected one for each of the {len(channels)} channels: "
                f"{', '.join(channels)}"
            )
        if not all(isinstance(value, int | float) and np.isfinite(value) for value in values):
            raise RequestError(f"{name} has a value that is no finite number")
    for channel, least, most in zip(channels, low, high, strict=True):
        if least > most:
            raise RequestError(f"channel {channel}: low is {least:g}, above high, which is {most:g}")
    found = zip(channels, low, high, strict=True)
    given = {name: ChannelStatistics(float(least), float(most), 0) for name, least, most in found}
    normalize = bundle.card.normalize
    return SceneStatistics("of the request", normalize.low_percentile, normalize.high_percentile, given)


def _normalized(bundle: Bundle, windows: np.ndarray, statistics: SceneStatistics) -> np.ndarray:
    """(n, band, y, x) reflectance to (n, channel, y, x) in [0, 1]."""
    masked = np.where(_invalid(windows)[:, None], np.float32(np.nan), windows)
    bands = {band: masked[:, index] for index, band in enumerate(bundle.card.bands)}
    return np.moveaxis(bundle.channels_of(bands, statistics), 0, 1)


def _scene(bundle: Bundle, scene: np.ndarray, statistics: SceneStatistics | None) -> np.ndarray:
    """(band, y, x) reflectance to (row, column, class), by the function that maps scenes in files."""
    card, export = bundle.card, bundle.card.export
    invalid = _invalid(scene[None])[0]
    if statistics is None:
        masked = np.where(invalid, np.float32(np.nan), scene)
        statistics = bundle.statistics_of(dict(zip(card.bands, masked, strict=True)))
    channels = _normalized(bundle, scene[None], statistics)[0]
    grid = Grid(CRS.from_epsg(3857), Affine.scale(card.resolution_m, -card.resolution_m), *invalid.shape)
    cells = map_grid(grid, export.stride_px)
    found = np.zeros((*cells.shape, len(card.classes)), dtype=np.float32)
    averaging = {"offsets": export.offsets, "flips_and_rotations": export.flips_and_rotations}
    with tempfile.TemporaryDirectory(prefix="landfold-") as folder:
        path = Path(folder) / "scene.tif"
        with create(path, grid, card.channels, dtype="float32") as writer:
            writer.write(grid.whole, channels, ~invalid)
        with Raster.open(path) as source:
            for strip in slide(source, bundle.models, export.stride_px, **averaging):
                mapped = strip.valid >= max(export.min_valid, np.finfo(float).tiny)
                mean = strip.probabilities.mean(axis=0)
                found[strip.window.toslices()] = np.where(mapped[..., None], mean, np.float32(0))
    return found
