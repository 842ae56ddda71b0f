"""The audit: how much a random split would have pretended, without training a network.

A classifier of band statistics, and one that knows nothing but where a patch lies, are scored under
the zoned folds and under random folds of equal training size. Distances from held-out patches to
training patches are set beside those from the map to the patches, and the range over which the
classifier's errors resemble each other beside the size of the zones.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas
from scipy.optimize import curve_fit
from scipy.spatial import KDTree
from scipy.stats import wasserstein_distance
from sklearn.base import ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from landfold.audit.settings import AuditSettings
from landfold.core.errors import LandfoldError
from landfold.folds.assignment import Split, read_index
from landfold.geo.grid import Grid
from landfold.geo.raster import Raster
from landfold.patches.features import full_windows
from landfold.scores.intervals import compare_splits
from landfold.scores.metrics import confusions
from landfold.scores.sentences import optimism_sentence
from landfold.scores.settings import EvaluateSettings

NEIGHBOURS = 5
"""Training patches that vote on a class from the coordinates alone, the nearer the weightier.

Neighbours, not a forest: a forest cuts along the axes, as square zones do, and its score would change if the
map were turned. Neighbours see distance alone, which is what leaks.
"""

TREE_PATCHES = 5000
"""Patches that a tree is grown on, at most: with 20,000 all would take 2.5 times as long for half a point more."""

VARIOGRAM_POINTS = 4000
"""More patches than these are sampled: 8 million pairs, in about a second."""

LAGS = 15
"""Classes of distance of the variogram, of equal width."""

STRUCTURE = 0.5
"""Share of the variation between lags that a model must explain, beyond a constant, for its range to count."""

LARGEST_NUGGET = 0.9
"""Of the sill: above it neighbours are hardly more alike than strangers, and a range would be chance. Cambardella et
al. (1994, https://doi.org/10.2136/sssaj1994.03615995005800050033x) call a dependence weak from 0.75 on."""


class LeakageError(LandfoldError):
    """Splits that cannot be compared."""


@dataclass(frozen=True)
class Splits:
    """Zoned and random splits of the same patches: a list of folds for each repeat.

    ``zone`` is every patch's zone in the first repeat: the unit that is resampled.
    """

    zone: np.ndarray
    zoned: list[list[Split]]
    random: list[list[Split]]

    @property
    def held_out(self) -> np.ndarray:
        """Patches that are validated at all, bool: not those of a test region."""
        return np.any([split.validation for split in self.zoned[0]], axis=0)


@dataclass(frozen=True)
class Variogram:
    """Half the mean squared difference of pairs by their distance, and the spherical model fitted to it.

    ``lag_m``, ``semivariance`` and ``pairs`` have one entry a lag that has pairs. ``range_m`` is where
    the model reaches its sill; None where errors near each other are no more alike than distant ones,
    and ``levels_off`` is False where they still drift apart at the longest lag, so that the range is
    at least ``range_m``.
    """

    lag_m: np.ndarray
    semivariance: np.ndarray
    pairs: np.ndarray
    range_m: float | None
    nugget: float
    sill: float
    levels_off: bool


@dataclass(frozen=True)
class Audit:
    """Everything that the audit has found; `summary` is what metrics/audit.json holds.

    ``statistics`` and ``coordinates`` are `landfold.scores.intervals.compare_splits` of the two classifiers.
    ``distances`` are metres, by name: sample_to_sample, prediction_to_sample, and zoned and random, from
    every held-out patch to the nearest training patch. ``predictions`` has one row for each held-out
    patch and repeat: patch, repeat, fold, label, predicted_zoned, predicted_random, and zoned_m and
    random_m, the distances to the nearest training patch. ``train_patches`` is their mean number in a fold.
    """

    baseline: str
    patches: int
    zones: int
    repeats: int
    train_patches: dict[str, float]
    zone_size_m: float
    statistics: dict[str, Any]
    coordinates: dict[str, Any]
    distances: dict[str, np.ndarray]
    variogram: Variogram
    predictions: pandas.DataFrame

    def summary(self) -> dict[str, Any]:
        """What metrics/audit.json holds: small, rounded to 4 digits."""
        return {
            "baseline": self.baseline,
            "patches": self.patches,
            "zones": self.zones,
            "repeats": self.repeats,
            "train_patches": {split: round(number, 1) for split, number in self.train_patches.items()},
            **self.statistics,
            "coordinates": self.coordinates,
            "distances": {
                "sample_to_sample": _quantiles(self.distances["sample_to_sample"]),
                "prediction_to_sample": _quantiles(self.distances["prediction_to_sample"]),
                "held_out_to_train": {split: self._held_out(split) for split in ("zoned", "random")},
            },
            "autocorrelation": {
                "range_m": None if self.variogram.range_m is None else round(self.variogram.range_m, 1),
                "levels_off": self.variogram.levels_off,
                "nugget": _round(self.variogram.nugget),
                "sill": _round(self.variogram.sill),
                "zone_size_m": round(self.zone_size_m, 1),
            },
            "warnings": self.warnings(),
        }

    def distance_table(self) -> pandas.DataFrame:
        """``distances`` in long form: ``kind``, one of their names, and ``distance_m``."""
        kinds = [np.repeat(kind, len(values)) for kind, values in self.distances.items()]
        values = {"kind": np.concatenate(kinds), "distance_m": np.concatenate(list(self.distances.values()))}
        return pandas.DataFrame(values)

    def wasserstein_m(self) -> dict[str, float]:
        """How far the distances of each split are from those of the map, as whole distributions, metres.

        The W of kNNDM (Linnenbrink et al. 2024, https://doi.org/10.5194/gmd-17-5897-2024): at 0 the score is
        one for prediction at the distances that the map has.
        """
        of_map = self.distances["prediction_to_sample"]
        return {split: float(wasserstein_distance(self.distances[split], of_map)) for split in ("zoned", "random")}

    def warnings(self) -> list[str]:
        """What speaks against the zones as they are."""
        reach = self.variogram.range_m
        if reach is not None and not self.variogram.levels_off:
            return [
                f"errors still grow less alike at the longest distance measured, {reach:.0f} m, and zones are about "
                f"{self.zone_size_m:.0f} m wide: raise zones.block_size_m, or make larger zones, as far as their "
                "number allows"
            ]
        if reach is not None and self.zone_size_m < reach:
            return [
                f"zones are about {self.zone_size_m:.0f} m wide, but errors resemble each other over {reach:.0f} m: "
                f"raise zones.block_size_m to {reach:.0f} or more, or make larger zones, as long as there are several "
                "for each fold"
            ]
        return []

    def sentence(self) -> str:
        """The optimistic bias of random CV, and the range of the errors, in words."""
        reach = self.variogram.range_m
        alike = "no range of alike errors found" if reach is None else f"errors resemble each other over {reach:.0f} m"
        return f"{optimism_sentence(self.statistics, 'band statistics alone')}; {alike}"

    def _held_out(self, split: str) -> dict[str, float]:
        """Quantiles, W, and the share that is no farther from training than half of the map is from a patch."""
        found, of_map = self.distances[split], self.distances["prediction_to_sample"]
        return _quantiles(found) | {
            "wasserstein_m": _round(self.wasserstein_m()[split]),
            "no_farther_than_prediction": _round((found <= np.median(of_map)).mean()),
        }


def read_splits(folder: Path, patches: pandas.DataFrame) -> Splits:
    """The zoned and the random split of every fold that ``folder``/index.json lists.

    Raises:
        FoldError: no index.
        LeakageError: a list is absent or not of these patches, or a patch is not held out as often
            by the random folds as by the zoned ones.
    """
    index = read_index(folder)
    zone = pandas.read_parquet(folder / "patches.parquet", columns=["zone"])["zone"].to_numpy()
    found = {
        kind: [
            [
                _read_split(folder / f"{kind}_{fold}.parquet", patches)
                for fold in index.folds
                if fold // index.k == repeat
            ]
            for repeat in range(index.repeats)
        ]
        for kind in ("fold", "random")
    }
    splits = Splits(zone, found["fold"], found["random"])
    for kind, repeats in found.items():
        for folds in repeats:
            times = np.sum([split.validation for split in folds], axis=0)
            wrong = int((times != splits.held_out).sum())
            if wrong:
                raise LeakageError(
                    f"{folder}/{kind}_*.parquet: {wrong} patches are held out never or twice; run dvc repro zones"
                )
    return splits


def _read_split(path: Path, patches: pandas.DataFrame) -> Split:
    if not path.is_file():
        raise LeakageError(f"{path}: not found; expected the list of a fold; run dvc repro zones")
    sides = pandas.read_parquet(path)
    if list(sides["patch"]) != list(patches["patch"]):
        raise LeakageError(f"{path}: does not list the patches of data/patches.parquet; run dvc repro zones")
    side = sides["side"].to_numpy(str)
    return Split(train=side == "train", validation=side == "validation", buffer=side == "buffer")


def zone_size_m(zones: geopandas.GeoDataFrame) -> float:
    """The typical width of a zone, metres: the square root of the median area of those that are in a fold."""
    return float(np.sqrt(zones.geometry[zones["fold"] >= 0].area.median()))


def prediction_points(
    normalized: Path, patches: geopandas.GeoDataFrame, *, stride_px: int, max_invalid: float, count: int, seed: int
) -> np.ndarray:
    """Centres of ``count`` windows that are mapped, sampled from all scenes, or of all if there are fewer.

    The windows are those that would be patches if they were labelled: ``stride_px`` apart, at most
    ``max_invalid`` of them without data. Returns (point, 2) metres in the CRS of the patches.
    """
    size_px = int(patches["size_px"].iloc[0])
    windows: list[tuple[Grid, np.ndarray]] = []
    for path in sorted(normalized.glob("*.tif")):
        with Raster.open(path) as raster:
            full = full_windows(raster, size_px=size_px, stride_px=stride_px, max_invalid=max_invalid)
            windows.append((raster.grid, np.flatnonzero(full)))
    ends = np.cumsum([len(places) for _, places in windows])
    chosen = np.sort(np.random.default_rng(seed).permutation(ends[-1])[:count])
    scene = np.searchsorted(ends, chosen, side="right")
    places = np.empty((len(chosen), 2))
    crs = np.empty(len(chosen), dtype=object)
    for number in np.unique(scene):
        grid, full = windows[number]
        here = scene == number
        columns = (grid.width - size_px) // stride_px + 1
        row, column = np.divmod(full[chosen[here] - ends[number] + len(full)], columns)
        x, y = grid.transform @ (column * stride_px + size_px / 2, row * stride_px + size_px / 2)
        places[here], crs[here] = np.stack([x, y], axis=1), grid.crs.to_wkt()
    for found in set(crs):  # once for each, not for each of thousands of tiles
        alike = crs == found
        moved = geopandas.GeoSeries(geopandas.points_from_xy(*places[alike].T), crs=found).to_crs(patches.crs)
        places[alike] = np.stack([moved.x, moved.y], axis=1)
    return places


def audit(
    table: pandas.DataFrame,
    features: np.ndarray,
    splits: Splits,
    predicted_places: np.ndarray,
    *,
    zone_size_m: float,
    settings: AuditSettings,
) -> Audit:
    """Score, measure and compare.

    Args:
        table: ``patch``, ``label``, ``x`` and ``y`` of every patch, metres.
        features: (patch, feature), their band statistics.
        splits: zoned and random, masks over the table.
        predicted_places: (point, 2) metres, centres of what is mapped.
        zone_size_m: typical width of a zone.
        settings: of the section.
    """
    classes, truth = np.unique(table["label"].to_numpy().astype(str), return_inverse=True)
    points, held_out = table[["x", "y"]].to_numpy(), splits.held_out
    statistics, found = _compare(partial(baseline, settings), features, truth, splits, settings)
    coordinates, _ = _compare(neighbours, points, truth, splits, settings)
    parts = []
    for repeat, (zoned, random) in enumerate(zip(splits.zoned, splits.random, strict=True)):
        fold = np.select([split.validation for split in zoned], np.arange(len(zoned)) + repeat * len(zoned))
        columns = {
            "patch": table["patch"].to_numpy(),
            "repeat": repeat,
            "fold": fold,
            "label": table["label"].to_numpy(),
            "predicted_zoned": classes[found["zoned"][repeat].argmax(axis=1)],
            "predicted_random": classes[found["random"][repeat].argmax(axis=1)],
            "zoned_m": held_out_to_train_m(points, zoned),
            "random_m": held_out_to_train_m(points, random),
        }
        parts.append(pandas.DataFrame(columns)[held_out])
    predictions = pandas.concat(parts, ignore_index=True)
    certainty = np.mean(found["zoned"], axis=0)[np.arange(len(truth)), truth]
    return Audit(
        baseline=settings.baseline,
        patches=int(held_out.sum()),
        zones=len(np.unique(splits.zone[held_out].astype(str))),
        repeats=len(splits.zoned),
        train_patches={
            name: float(np.mean([split.train.sum() for folds in repeats for split in folds]))
            for name, repeats in (("zoned", splits.zoned), ("random", splits.random))
        },
        zone_size_m=zone_size_m,
        statistics=statistics,
        coordinates=coordinates,
        distances={
            "sample_to_sample": nearest_other_m(points[held_out]),
            "prediction_to_sample": nearest_m(predicted_places, points[held_out]),
            "zoned": predictions["zoned_m"].to_numpy(),
            "random": predictions["random_m"].to_numpy(),
        },
        variogram=variogram(points[held_out], 1 - certainty[held_out], seed=settings.seed),
        predictions=predictions,
    )


def _compare(
    model: Callable[[int], ClassifierMixin],
    features: np.ndarray,
    truth: np.ndarray,
    splits: Splits,
    settings: AuditSettings,
) -> tuple[dict[str, Any], dict[str, list[np.ndarray]]]:
    """Scores of a classifier under both splits, and its (patch, class) probabilities in each repeat of each."""
    held_out = splits.held_out
    found = {
        name: [held_out_probabilities(model, features, truth, folds) for folds in repeats]
        for name, repeats in (("zoned", splits.zoned), ("random", splits.random))
    }
    counts = {
        name: np.stack(
            [
                confusions(truth[held_out], p[held_out].argmax(axis=1), splits.zone[held_out].astype(str), p.shape[1])
                for p in repeats
            ],
            axis=1,
        )
        for name, repeats in found.items()
    }
    resampling = EvaluateSettings(bootstrap=settings.bootstrap, seed=settings.seed)
    return compare_splits(counts["zoned"], counts["random"], resampling), found


def nearest_m(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Metres from every point to the nearest of the others: (n, 2) and (m, 2) to (n,)."""
    return KDTree(others).query(points)[0]


def nearest_other_m(points: np.ndarray) -> np.ndarray:
    """Metres from every point to the nearest one among the rest: (n, 2) to (n,)."""
    return KDTree(points).query(points, k=2)[0][:, 1]


def held_out_to_train_m(points: np.ndarray, splits: list[Split]) -> np.ndarray:
    """Metres from every held-out patch to the nearest training patch of its fold; NaN where never held out."""
    found = np.full(len(points), np.nan)
    for split in splits:
        found[split.validation] = nearest_m(points[split.validation], points[split.train])
    return found


def held_out_probabilities(
    model: Callable[[int], ClassifierMixin], features: np.ndarray, truth: np.ndarray, splits: list[Split]
) -> np.ndarray:
    """Class probabilities of every patch from the fold that held it out: (patch, class) float64.

    ``model`` makes an untrained classifier for a number of training patches; ``truth`` are the numbers of
    classes. NaN for a patch that no fold holds out, 0 for a class that the training patches of its fold
    do not have.
    """
    found = np.full((len(truth), truth.max() + 1), np.nan)
    for split in splits:
        held_out = np.zeros((int(split.validation.sum()), found.shape[1]))
        known = np.unique(truth[split.train])
        if len(known) > 1:
            fitted = model(int(split.train.sum())).fit(features[split.train], truth[split.train])
            if isinstance(fitted, RandomForestClassifier):
                fitted.set_params(n_jobs=1)  # threads add up the trees in any order, which shows in the last digits
            held_out[:, known] = fitted.predict_proba(features[split.validation])
        else:
            held_out[:, known] = 1
        found[split.validation] = held_out
    return found


def baseline(settings: AuditSettings, patches: int) -> ClassifierMixin:
    """An untrained classifier of band statistics for a number of training patches."""
    if settings.baseline == "random_forest":
        most = min(patches, TREE_PATCHES)
        return RandomForestClassifier(settings.trees, max_samples=most, random_state=settings.seed, n_jobs=-1)
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))


def neighbours(patches: int) -> ClassifierMixin:
    """An untrained classifier of coordinates for a number of training patches."""
    return KNeighborsClassifier(min(patches, NEIGHBOURS), weights="distance")


def variogram(points: np.ndarray, values: np.ndarray, *, seed: int) -> Variogram:
    """The empirical variogram of values at (n, 2) points, in all directions, and its spherical model.

    Lags are of equal width up to a third of the diagonal of the points' extent: pairs farther apart are from
    its corners alone. The model is fitted by least squares weighted with pairs / distance^2, which trusts near
    lags most, as gstat does (Pebesma 2004, https://doi.org/10.1016/j.cageo.2004.03.012).
    """
    if len(points) > VARIOGRAM_POINTS:
        chosen = np.sort(np.random.default_rng(seed).permutation(len(points))[:VARIOGRAM_POINTS])
        points, values = points[chosen], values[chosen]
    longest = float(np.hypot(*np.ptp(points, axis=0))) / 3
    distance, squares, pairs = _lags(points, values, longest)
    there = (pairs > 0) & (distance > 0)
    lag, gamma, number = distance[there] / pairs[there], squares[there] / pairs[there] / 2, pairs[there]
    flat = float(np.average(gamma, weights=number)) if len(lag) else 0.0
    none = Variogram(lag, gamma, number, None, flat, flat, levels_off=True)
    if len(lag) < 4 or not flat > 0:
        return none
    (nugget, partial, reach), rest = _fit(lag, gamma / flat, number, longest)
    if rest > 1 - STRUCTURE or nugget > LARGEST_NUGGET * (nugget + partial):
        return none
    sill = float(nugget + partial) * flat
    return Variogram(lag, gamma, number, float(reach), float(nugget) * flat, sill, bool(reach < 0.99 * longest))


def _lags(points: np.ndarray, values: np.ndarray, longest: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums of distances and of squared differences, and number of pairs, in each of LAGS lags."""
    sums = np.zeros((3, LAGS))
    for start in range(0, len(points) - 1 if longest > 0 else 0, 256):
        rows = np.arange(start, min(start + 256, len(points)))
        rest = points[start:]
        apart = np.hypot(rest[:, 0] - points[rows, :1], rest[:, 1] - points[rows, 1:])
        later = np.arange(len(rest)) > (rows - start)[:, None]
        near = later & (apart < longest)
        lag = (apart[near] * (LAGS / longest)).astype(np.int64)
        squares = (values[start:] - values[rows, None])[near] ** 2
        for total, weights in zip(sums, (apart[near], squares, None), strict=True):
            total += np.bincount(lag.clip(max=LAGS - 1), weights, minlength=LAGS)
    return sums[0], sums[1], sums[2]


def _fit(lag: np.ndarray, gamma: np.ndarray, pairs: np.ndarray, longest: float) -> tuple[np.ndarray, float]:
    """Nugget, partial sill and range of the spherical model, and the share of the variation that it leaves."""

    def spherical(distance: np.ndarray, nugget: float, partial: float, reach: float) -> np.ndarray:
        part = np.minimum(distance / reach, 1)
        return nugget + partial * (1.5 * part - 0.5 * part**3)

    sigma = lag / np.sqrt(pairs)
    least, most = [0, 0, lag[0]], [np.inf, np.inf, longest]
    found, _ = curve_fit(
        spherical, lag, gamma, p0=[0.5, 0.5, (lag[0] + longest) / 2], sigma=sigma, bounds=(least, most)
    )
    weights = sigma**-2
    flat = np.average(gamma, weights=weights)
    total = (weights * (gamma - flat) ** 2).sum()
    return found, float((weights * (gamma - spherical(lag, *found)) ** 2).sum() / total) if total > 0 else 1.0


def _quantiles(distances: np.ndarray) -> dict[str, float]:
    return {name: _round(np.quantile(distances, q)) for name, q in (("q05", 0.05), ("median", 0.5), ("q95", 0.95))}


def _round(value: float) -> float:
    return round(float(value), 4)
