"""Normalization: exact percentiles of each channel of a scene over its valid pixels, and channels scaled by them.

The percentiles are those of ``numpy.percentile`` (method "linear", in double precision) on all valid
values of a channel, in bounded memory: integers by one histogram of their 65,536 values, float32 by two
passes over the halves of their sortable bit pattern (a radix selection), so both are exact.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from landfold.core.errors import LandfoldError
from landfold.core.files import read_json, write_json
from landfold.geo.raster import Raster
from landfold.geo.writer import create
from landfold.scenes.settings import NormalizeSettings


class StatisticsError(LandfoldError):
    """A scene without usable statistics, or statistics of other channels."""


@dataclass(frozen=True)
class ChannelStatistics:
    """The values of a channel at the two percentiles, over ``count`` valid pixels."""

    low: float
    high: float
    count: int


@dataclass(frozen=True)
class SceneStatistics:
    """The statistics of a scene; training, export and serving use the same."""

    scene: str
    low_percentile: float
    high_percentile: float
    channels: dict[str, ChannelStatistics]

    def save(self, path: Path) -> None:
        """Write as JSON, from which `load` gives equal numbers."""
        write_json(path, asdict(self) | {"order": list(self.channels)})

    @classmethod
    def load(cls, path: Path) -> "SceneStatistics":
        """Read what `save` wrote."""
        content: Any = read_json(path)
        channels = {name: ChannelStatistics(**content["channels"][name]) for name in content["order"]}
        return cls(content["scene"], content["low_percentile"], content["high_percentile"], channels)

    def apply(self, channels: dict[str, np.ndarray]) -> np.ndarray:
        """Scale channels to [0, 1].

        Args:
            channels: (y, x) reflectance or index, NaN where not valid, by name.

        Returns:
            (channel, y, x) float32 in the statistics' order, 0 where NaN.

        Raises:
            StatisticsError: if a channel is absent or has no statistics.
        """
        if set(channels) != set(self.channels):
            raise StatisticsError(
                f"scene {self.scene}: statistics are for {', '.join(self.channels)}, got {', '.join(channels)}"
            )
        return np.stack([_scale(channels[name], statistics) for name, statistics in self.channels.items()])


def _scale(values: np.ndarray, statistics: ChannelStatistics) -> np.ndarray:
    low, high = np.float32(statistics.low), np.float32(statistics.high)
    if not high > low:  # constant between the percentiles
        return np.zeros(values.shape, dtype=np.float32)
    scaled = (values.astype(np.float32, copy=False) - low) / (high - low)
    np.clip(scaled, 0.0, 1.0, out=scaled)
    scaled[np.isnan(scaled)] = 0.0
    return scaled


def percentile_of_counts(counts: np.ndarray, percentile: float, *, lowest: int = 0) -> float:
    """The percentile of integers as numpy.percentile gives it; ``counts`` are of each integer from ``lowest`` on."""
    total = int(counts.sum())
    below, above, weight = _ranks(total, percentile)
    cumulative = np.cumsum(counts)
    low = lowest + int(np.searchsorted(cumulative, below, side="right"))
    high = lowest + int(np.searchsorted(cumulative, above, side="right"))
    return _interpolate(float(low), float(high), weight)


def _ranks(total: int, percentile: float) -> tuple[int, int, float]:
    """The two 0-based ranks around a percentile and the weight of the upper one."""
    position = (total - 1) * (percentile / 100)
    below = int(np.floor(position))
    return below, min(below + 1, total - 1), position - below


def _interpolate(low: float, high: float, weight: float) -> float:
    # numpy's own order of operations (numpy.lib._function_base_impl._lerp), for equal last digits
    return high - (high - low) * (1 - weight) if weight >= 0.5 else low + (high - low) * weight


def sortable(values: np.ndarray) -> np.ndarray:
    """Float32 as uint32 whose order is that of the floats (Herf 2001, "Radix tricks")."""
    bits = values.astype(np.float32, copy=False).view(np.uint32)
    return np.where(bits >> 31, ~bits, bits | np.uint32(0x80000000))


def from_sortable(keys: np.ndarray) -> np.ndarray:
    """The float32 values of `sortable` keys."""
    keys = keys.astype(np.uint32, copy=False)
    return np.where(keys >> 31, keys & np.uint32(0x7FFFFFFF), ~keys).astype(np.uint32).view(np.float32)


def float_percentiles(
    blocks: Callable[[], Iterable[np.ndarray]], percentiles: Iterable[float]
) -> tuple[list[float], int]:
    """Exact percentiles of float32 values without NaN, and the number of values.

    The first pass counts the upper 16 bits of each sortable key, the second the lower 16 bits of the keys that share
    the upper bits of a wanted rank.

    Args:
        blocks: gives all values in blocks, each time it is called.
        percentiles: 0 to 100.
    """
    upper = np.zeros(1 << 16, dtype=np.int64)
    for block in blocks():
        keys = sortable(block[~np.isnan(block)])
        upper += np.bincount(keys >> 16, minlength=1 << 16)
    total = int(upper.sum())
    if total == 0:
        return [float("nan") for _ in percentiles], 0
    ranks = [_ranks(total, percentile) for percentile in percentiles]
    wanted = sorted({rank for below, above, _ in ranks for rank in (below, above)})
    cumulative = np.cumsum(upper)
    upper_of = {rank: int(np.searchsorted(cumulative, rank, side="right")) for rank in wanted}
    lower = {bits: np.zeros(1 << 16, dtype=np.int64) for bits in upper_of.values()}
    for block in blocks():
        keys = sortable(block[~np.isnan(block)])
        high = keys >> 16
        for bits, counts in lower.items():
            counts += np.bincount(keys[high == bits] & 0xFFFF, minlength=1 << 16)
    values = {}
    for rank, bits in upper_of.items():
        rest = rank - (int(cumulative[bits - 1]) if bits else 0)
        low = int(np.searchsorted(np.cumsum(lower[bits]), rest, side="right"))
        values[rank] = float(from_sortable(np.array([(bits << 16) | low], dtype=np.uint32))[0])
    return [_interpolate(values[below], values[above], weight) for below, above, weight in ranks], total


def scene_statistics(
    scene: str, reflectance: Raster, indices: Raster | None, settings: NormalizeSettings
) -> SceneStatistics:
    """Percentiles of every channel of a scene: its bands, then its indices.

    Raises:
        StatisticsError: if a channel has fewer than ``min_valid_px`` valid pixels.
    """
    channels = (
        _integer_channels(reflectance, settings) if reflectance.is_integer else _float_channels(reflectance, settings)
    )
    if indices is not None:
        channels |= _float_channels(indices, settings)
    for name, statistics in channels.items():
        if statistics.count < settings.min_valid_px:
            raise StatisticsError(
                f"scene {scene}: channel {name} has {statistics.count} valid pixels, "
                f"normalize.min_valid_px asks for {settings.min_valid_px}; lower it or drop the scene"
            )
    return SceneStatistics(scene, settings.low_percentile, settings.high_percentile, channels)


LOWEST = {"uint8": 0, "uint16": 0, "int16": -(1 << 15)}
"""Integer types with at most 65,536 values, which one histogram can hold: the least value of each."""


def _integer_channels(source: Raster, settings: NormalizeSettings) -> dict[str, ChannelStatistics]:
    kind = source.dataset.dtypes[0]
    if kind not in LOWEST:
        raise StatisticsError(f"{source.dataset.name}: {kind} data; expected {', '.join(LOWEST)} or float32")
    counts = np.zeros((len(source.names), 1 << 16), dtype=np.int64)
    for raw, valid in source.scan():
        whole = bool(valid.all())  # spares a copy of most blocks of most scenes
        for total, band in zip(counts, raw, strict=True):
            numbers = band.ravel() if whole else band[valid]
            if LOWEST[kind]:
                numbers = numbers.astype(np.int64) - LOWEST[kind]
            total += np.bincount(numbers, minlength=1 << 16)
    channels = {}
    for name, radiometry, total in zip(source.names, source.radiometry, counts, strict=True):
        low, high = (
            percentile_of_counts(total, percentile, lowest=LOWEST[kind]) * radiometry.scale + radiometry.offset
            for percentile in (settings.low_percentile, settings.high_percentile)
        )
        channels[name] = ChannelStatistics(low, high, int(total.sum()))
    return channels


def _float_channels(source: Raster, settings: NormalizeSettings) -> dict[str, ChannelStatistics]:
    channels = {}
    for name in source.names:
        blocks = lambda name=name: (source.read_reflectance(window, [name])[0] for window in source.grid.blocks())  # noqa: E731
        (low, high), count = float_percentiles(blocks, (settings.low_percentile, settings.high_percentile))
        channels[name] = ChannelStatistics(low, high, count)
    return channels


def write_normalized(
    reflectance: Raster,
    indices: Raster | None,
    statistics: SceneStatistics,
    target: Path,
    *,
    progress: Callable[[float], None] = lambda fraction: None,
) -> None:
    """Write all channels of a scene scaled to [0, 1], float32; nodata is 0 and masked."""
    done = 0
    with create(target, reflectance.grid, list(statistics.channels), dtype="float32") as writer:
        for window in reflectance.grid.blocks():
            channels = dict(zip(reflectance.names, reflectance.read_reflectance(window), strict=True))
            if indices is not None:
                channels |= dict(zip(indices.names, indices.read_reflectance(window), strict=True))
            writer.write(window, statistics.apply(channels), reflectance.read_mask(window))
            done += int(window.width * window.height)
            progress(done / (reflectance.grid.height * reflectance.grid.width))


def normalize_scene(
    files: Sequence[Path],
    settings: NormalizeSettings,
    statistics: Path,
    target: Path,
    *,
    progress: Callable[[float], None] = lambda fraction: None,
) -> None:
    """Write the statistics and the normalized raster of a scene.

    Args:
        files: its raster of bands and, if there are any, that of indices.
        settings: section ``normalize``.
        statistics: the JSON file to write.
        target: the raster to write; its name is that of the scene.
        progress: called with the fraction that is written.

    Raises:
        StatisticsError: if a channel has fewer than ``min_valid_px`` valid pixels.
    """
    with ExitStack() as stack:
        reflectance, *rest = [stack.enter_context(Raster.open(file)) for file in files]
        indices = rest[0] if rest else None
        scene = scene_statistics(target.stem, reflectance, indices, settings)
        scene.save(statistics)
        write_normalized(reflectance, indices, scene, target, progress=progress)
