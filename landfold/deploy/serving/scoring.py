"""A request's arrays and parameters, checked, and their answer: the same over HTTP and through MLflow."""

import tempfile
from collections.abc import Mapping, Sequence
from math import ceil, prod
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from rasterio.crs import CRS

from landfold.core.errors import LandfoldError, first_ten
from landfold.deploy.bundle import Bundle
from landfold.deploy.bundlecard import BundleCard
from landfold.deploy.serving import ServingLimits
from landfold.geo.grid import Grid
from landfold.geo.raster import Raster
from landfold.geo.writer import create
from landfold.maps.inference import map_grid, predict_scene
from landfold.scenes.normalize import ChannelStatistics, SceneStatistics

MODES = ("windows", "scene")

FAR_BEYOND = 10
"""A median so many times the high reflectance of training (at least 1) is of other units: DN are in thousands."""

NUMBERS_PER_PIXEL = 16
"""An answer has at most so many numbers for each pixel of the limit: by default 16 million, 0.4 GB of JSON."""


class RequestError(LandfoldError):
    """A request that cannot be answered; its message is one sentence for the client."""


def answer(bundle: Bundle, reflectance: Any, params: Mapping[str, Any], limits: ServingLimits) -> np.ndarray:
    """Class probabilities for windows, or for all of whole scenes: of patches and cells, or of pixels.

    Args:
        bundle: the model.
        reflectance: (n, band, y, x) float32, NaN where there is no data; bands in the order of the model's card.
        params: ``mode``: windows or scene; ``low`` and ``high``: the scene's percentiles of each channel, as in
            data/statistics. Windows need them. Of a scene without them they are computed. ``sets``: true for
            prediction sets in the place of probabilities, 1 for a class that is in the set and 0 for the others.
        limits: the largest request.

    Returns:
        (n, class) float32 for windows of a model of patches; (n, row, column, class) for windows of a model of pixels,
        the pixels of their cores, and for scenes, the cells or pixels of their maps: 0 for all classes where there is
        too little data to be mapped.

    Raises:
        RequestError: with what was sent and what is expected.
    """
    wanted, calibration = params.get("sets", False), bundle.card.calibration
    if not isinstance(wanted, bool | np.bool):
        raise RequestError(f"sets is {str(wanted)[:40]!r}; expected true or false")
    if wanted and calibration is None:
        raise RequestError("the model has no prediction sets, since export.calibrated was false; ask without sets")
    found = _probabilities(bundle, reflectance, params, limits)
    if not wanted:
        return found
    return (calibration.sets(found) & found.any(axis=-1, keepdims=True)).astype(np.float32)


def _probabilities(bundle: Bundle, reflectance: Any, params: Mapping[str, Any], limits: ServingLimits) -> np.ndarray:
    """Probabilities, as `answer` gives them."""
    mode = params.get("mode") or "windows"
    if mode not in MODES:
        raise RequestError(f"mode is {str(mode)[:40]!r}; expected {' or '.join(MODES)}")
    _check_values(reflectance, bundle.card)
    statistics = _statistics(bundle.card, params)
    _check_size(reflectance, bundle.card, mode, limits)
    if mode == "windows":
        if statistics is None:
            raise RequestError(
                "mode windows needs the params low and high, the statistics of the scene that the windows are from; "
                "send a whole scene with mode scene, or its statistics"
            )
        return _windows(bundle, reflectance, statistics)
    return np.stack([_scene(bundle, scene, statistics) for scene in reflectance])


def _check_values(reflectance: Any, card: BundleCard) -> None:
    expected = f"expected numbers of shape (n, {len(card.bands)}, y, x), bands {', '.join(card.bands)}"
    if not isinstance(reflectance, np.ndarray):
        raise RequestError(f"reflectance is no array; {expected}")
    shape = reflectance.shape
    if reflectance.dtype.kind != "f" or len(shape) != 4 or shape[1] != len(card.bands) or 0 in shape:
        raise RequestError(f"reflectance has shape {shape}, {reflectance.dtype}; {expected}, and none of them empty")
    if np.isinf(reflectance).any():
        raise RequestError("reflectance has infinite values; send NaN, or null in JSON, where there is no data")
    for index, band in enumerate(card.origin.bands):
        values = reflectance[:, index]
        values = values[~np.isnan(values)]
        if values.size and np.median(values) > FAR_BEYOND * max(1, band.high):
            raise RequestError(
                f"band {band.name} has a median of {np.median(values):g}; expected reflectance, in training mostly "
                f"{band.low:.3g} to {band.high:.3g}: apply the product's scale and offset first"
            )


def answer_shape(card: BundleCard, mode: str, shape: Sequence[Any]) -> tuple[Any, ...]:
    """The shape of an answer; ``shape`` is (n, y, x) of the windows or scenes, whose numbers may be words.

    Words stand for sizes that depend on the request, as in the description of a model.
    """
    n, *sides = shape
    if mode == "scene":
        stride = card.export.stride_px or 1
        return (n, *(side if isinstance(side, str) else ceil(side / stride) for side in sides), len(card.classes))
    return (n, *[card.core_px] * 2 * (card.unit == "pixel"), len(card.classes))


def _check_size(sent: np.ndarray, card: BundleCard, mode: str, limits: ServingLimits) -> None:
    """Refuse windows of another size, empty ones, and what is too large to be answered."""
    n, _, height, width = sent.shape
    if mode == "windows":
        if (height, width) != (card.size_px, card.size_px):
            raise RequestError(
                f"windows of {height} x {width} px; the model expects {card.size_px} x {card.size_px}"
                + (f", of which it tells the central {card.core_px} x {card.core_px}" * (card.unit == "pixel"))
            )
        empty = np.flatnonzero(_invalid(sent).all(axis=(1, 2)))
        if len(empty):
            raise RequestError(f"no valid pixel in window {first_ten(empty.tolist())} (counted from 0)")
    what, remedy = (
        ("scenes", "run `landfold predict` on larger scenes") if mode == "scene" else (mode, "send several requests")
    )
    if n > limits.max_windows:  # each scene has files of its own, however small it is
        raise RequestError(f"{n} {what}; a request may have {limits.max_windows}: send several requests")
    shape = answer_shape(card, mode, (n, height, width))
    pixels = n * height * width if mode == "scene" else prod(shape[:-1])
    if pixels > limits.max_pixels and (mode == "scene" or card.unit == "pixel"):
        raise RequestError(f"{pixels} pixels; a request may have {limits.max_pixels}: {remedy}")
    most = NUMBERS_PER_PIXEL * max(limits.max_pixels, limits.max_windows)
    if prod(shape) > most:
        raise RequestError(f"an answer of shape {shape} has {prod(shape)} numbers; at most {most}: {remedy}")


def _invalid(windows: np.ndarray) -> np.ndarray:
    """(n, y, x) bool: a pixel is valid when every band has data, as in ingest."""
    return np.isnan(windows).any(axis=1)


def _statistics(card: BundleCard, params: Mapping[str, Any]) -> SceneStatistics | None:
    """The statistics in a request, if any."""
    low, high = (_percentiles(name, params.get(name), card.channels) for name in ("low", "high"))
    if low is None or high is None:
        if low is high:
            return None
        raise RequestError(f"there is no {'high' if high is None else 'low'}; send low and high, or neither")
    channels = {}
    for name, least, most in zip(card.channels, low, high, strict=True):
        if least > most:
            raise RequestError(f"channel {name}: low is {least:g}, above high, which is {most:g}")
        channels[name] = ChannelStatistics(least, most, 0)
    return SceneStatistics("request", card.normalize.low_percentile, card.normalize.high_percentile, channels)


def _percentiles(name: str, sent: Any, channels: list[str]) -> list[float] | None:
    """One end of the statistics; None where the request has none."""
    if sent is None or (isinstance(sent, list | np.ndarray) and not len(sent)):
        return None
    try:
        values = np.asarray(sent)
    except ValueError:  # lists of unequal lengths
        values = np.empty(0, dtype=object)
    if values.ndim != 1 or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise RequestError(f"{name} is no list of finite numbers")
    if len(values) != len(channels):
        raise RequestError(f"{name} has {len(values)} values; expected one for each channel: {', '.join(channels)}")
    return values.astype(float).tolist()


def _normalized(bundle: Bundle, windows: np.ndarray, statistics: SceneStatistics) -> np.ndarray:
    """(n, band, y, x) reflectance to (n, channel, y, x) in [0, 1]."""
    masked = np.where(_invalid(windows)[:, None], np.float32(np.nan), windows)
    bands = {band: masked[:, index] for index, band in enumerate(bundle.card.bands)}
    return np.moveaxis(bundle.channels_of(bands, statistics), 0, 1)


def _windows(bundle: Bundle, windows: np.ndarray, statistics: SceneStatistics) -> np.ndarray:
    """Probabilities of windows of reflectance, as `answer` gives them."""
    card, found = bundle.card, bundle.probabilities(_normalized(bundle, windows, statistics))
    if card.unit == "patch":
        return found
    start = (card.size_px - card.core_px) // 2
    core = slice(start, start + card.core_px)
    return np.where(_invalid(windows)[:, core, core, None], np.float32(0), np.moveaxis(found, 1, -1))


def _scene(bundle: Bundle, scene: np.ndarray, statistics: SceneStatistics | None) -> np.ndarray:
    """(band, y, x) reflectance to (row, column, class), by the function that maps scenes in files.

    A row and column are those of the map: of cells, or of the scene's own pixels.
    """
    card, export = bundle.card, bundle.card.export
    invalid = _invalid(scene[None])[0]
    if statistics is None:
        masked = np.where(invalid, np.float32(np.nan), scene)
        statistics = bundle.statistics_of(dict(zip(card.bands, masked, strict=True)))
    channels = _normalized(bundle, scene[None], statistics)[0]
    grid = Grid(CRS.from_epsg(3857), Affine.scale(card.resolution_m, -card.resolution_m), *invalid.shape)
    cells = np.zeros((*map_grid(grid, export.stride_px).shape, len(card.classes)), dtype=np.float32)
    with tempfile.TemporaryDirectory(prefix="landfold-") as folder:
        path = Path(folder) / "scene.tif"
        with create(path, grid, card.channels, dtype="float32") as writer:
            writer.write(grid.whole, channels, ~invalid)
        with Raster.open(path) as raster:
            for strip in predict_scene(raster, bundle.models, export):
                mapped = strip.valid >= max(export.min_valid, np.finfo(float).tiny)
                mean = bundle.scaled(strip.probabilities.mean(axis=0))
                cells[strip.window.toslices()] = np.where(mapped[..., None], mean, np.float32(0))
    return cells
