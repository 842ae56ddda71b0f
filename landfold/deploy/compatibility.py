"""Whether a scene fits a model: its bands, their pixel sizes and units, and other differences from training."""

from datetime import date
from math import isclose
from statistics import median
from typing import Any

from rasterio.crs import CRS

from landfold.core.errors import LandfoldError
from landfold.deploy.bundlecard import BundleCard
from landfold.geo.bands import STANDARD_NAMES
from landfold.scenes.normalize import SceneStatistics
from landfold.scenes.sensors import SceneFiles

RESOLUTION_TOLERANCE = 0.05
"""Relative: Landsat's 30 m and 29.9 m in a map projection are the same, Sentinel-2's 10 m and 20 m are not."""

UNITS_FACTOR = 30
"""High percentiles of scenes differ by less, snow and deep water included; DN and reflectance by 10,000, per cent and
reflectance by 100, 8 bits and reflectance by 255."""

SEASON_DAYS = 60
"""A scene that is more days of the year than this from every training scene is of another season."""


class PredictError(LandfoldError):
    """A scene that does not fit the model, or a request that cannot be met."""


def check_scene_bands(scene: SceneFiles, card: BundleCard) -> None:
    """Refuse a scene that cannot be used, or lacks a band of the model.

    Raises:
        PredictError: with the bands that are missing and those that are there.
    """
    if scene.fault:
        raise PredictError(scene.fault)
    missing = [band for band in card.bands if band not in scene.bands]
    if missing:
        named = ", ".join(f"{band} ({STANDARD_NAMES[band]})" for band in missing)
        raise PredictError(
            f"scene {scene.name}: the model needs band {named}, which the scene lacks; it has "
            f"{', '.join(scene.bands) or 'none'}"
        )


def check_resolution(entry: dict[str, Any], card: BundleCard, *, allowed: bool) -> list[str]:
    """Refuse bands whose pixel size differs from training: the network has learned textures.

    Args:
        entry: the scene's, from `landfold.scenes.ingest.check_scene`.
        card: the model's.
        allowed: whether to warn instead.

    Returns:
        Warnings, a sentence each.

    Raises:
        PredictError: with the bands and both sizes.
    """
    if not CRS.from_user_input(entry["delivered_crs"]).is_projected:
        return ["its CRS is not in metres, so its pixel size is not compared with that of training"]
    trained = {band.name: band.resolution_m for band in card.origin.bands}
    wrong = [
        f"band {band['name']} has {band['resolution_m']:g} m, trained on {', '.join(f'{m:g}' for m in sizes)} m"
        for band in entry["bands"]
        if (sizes := trained[band["name"]])
        and not any(isclose(band["resolution_m"], size, rel_tol=RESOLUTION_TOLERANCE) for size in sizes)
    ]
    if wrong and not allowed:
        raise PredictError(
            f"scene {entry['scene']}: other pixel sizes than in training: {'; '.join(wrong)}; deliver the "
            "bands as the sensor has them, or give --other-pixels if you know that the network can use them"
        )
    return wrong


def check_units(scene: str, statistics: SceneStatistics, card: BundleCard) -> None:
    """Refuse numbers of another order of magnitude than in training: DN taken for reflectance, or scaled twice.

    Raises:
        PredictError: with the factor.
    """
    ratios = []
    for band in card.origin.bands:
        high = statistics.channels[band.name].high
        if high > 0 and band.high > 0:
            ratios.append(high / band.high)
    ratio = median(ratios) if ratios else 1.0
    if not 1 / UNITS_FACTOR < ratio < UNITS_FACTOR:
        first = card.origin.bands[0]
        raise PredictError(
            f"scene {scene}: its numbers are about {ratio:.2g} times those trained on (band {first.name}: "
            f"{statistics.channels[first.name].high:.3g}, trained on up to {first.high:.3g}), so they are not in the "
            "same unit; the model expects reflectance: deliver the product with its metadata, or give the files scale "
            "and offset (for example: rio edit-info, gdal_translate -a_scale)"
        )


def differences_from_training(entry: dict[str, Any], card: BundleCard) -> list[str]:
    """Differences of a scene from those in training, whose effect on the accuracy is unknown, a sentence each."""
    origin, warnings = card.origin, []
    if entry["sensor"] not in origin.sensors:
        warnings.append(f"sensor {entry['sensor']}, but the model was trained on {', '.join(origin.sensors)}")
    levels = sorted({made["level"] for made in origin.processing if "level" in made})
    level = entry["processing"].get("level")
    if level and levels and level not in levels:
        warnings.append(f"processing level {level}, but the model was trained on {', '.join(levels)}")
    if entry["acquired"] and origin.acquired:
        days = min(_days_apart(entry["acquired"], other) for other in origin.acquired)
        if days > SEASON_DAYS:
            warnings.append(
                f"acquired {entry['acquired']}, {days} days of the year from the nearest of the scenes trained on: "
                "another season"
            )
    return warnings


def _days_apart(one: str, other: str) -> int:
    """Days between two ISO dates within the year, the turn of the year included."""
    first, second = (date.fromisoformat(text).timetuple().tm_yday for text in (one, other))
    apart = abs(first - second)
    return min(apart, 365 - apart)
