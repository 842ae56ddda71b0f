"""The audit: the optimism of random cross-validation, measured without training a network.

A classifier of band statistics, and one that knows nothing but where a patch lies, are scored under
the spatial folds and under random folds of equal training size. Distances from held-out patches to
training patches are set beside those from the map to the patches, and the range over which the
classifier's errors resemble each other beside the size of the zones.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas

from landfold.audit.baseline import Baseline, coordinate_baseline, held_out_probabilities
from landfold.audit.variogram import Variogram, variogram
from landfold.core.errors import LandfoldError
from landfold.folds.distances import held_out_to_train_m, nearest_m, nearest_other_m, wasserstein_m
from landfold.folds.lists import KINDS, read_assignment, read_index, read_split
from landfold.folds.split import Split
from landfold.scores.intervals import compare_splits
from landfold.scores.metrics import confusions, rounded
from landfold.scores.sentences import optimism_sentence


class AuditError(LandfoldError):
    """Splits that cannot be compared."""


@dataclass(frozen=True)
class Splits:
    """Spatial and random folds of the same patches: a list of folds for each repeat.

    ``zone`` is every patch's zone in the first repeat: the unit of the intervals.
    """

    zone: np.ndarray
    spatial: list[list[Split]]
    random: list[list[Split]]

    @property
    def held_out(self) -> np.ndarray:
        """Patches that are validated at all, (patch,) bool: not those of a test region."""
        return np.any([split.validation for split in self.spatial[0]], axis=0)

    def by_name(self) -> list[tuple[str, list[list[Split]]]]:
        """Both with the names that they have in files."""
        return [("zoned", self.spatial), ("random", self.random)]


@dataclass(frozen=True, repr=False)
class Audit:
    """The result of `audit`; `summary` is what metrics/audit.json holds.

    ``statistics`` and ``coordinates`` are `landfold.scores.intervals.compare_splits` of the two classifiers: scores
    under spatial folds (key ``zoned``) and random ones, and random less spatial (``gap``), the optimism of random
    cross-validation. ``distances`` are metres, by name: sample_to_sample; zoned and random, from every held-out
    patch to the nearest training patch; and prediction_to_sample, where locations were given. ``predictions`` has
    one row for each held-out patch and repeat: patch, repeat, fold, label, predicted_zoned, predicted_random, and
    zoned_m and random_m, the distances to the nearest training patch. ``train_patches`` is their mean number in a
    fold, ``zone_size_m`` the typical width of a zone, None where zones have no area.
    """

    baseline: str
    patches: int
    zones: int
    repeats: int
    train_patches: dict[str, float]
    zone_size_m: float | None
    statistics: dict[str, Any]
    coordinates: dict[str, Any]
    distances: dict[str, np.ndarray]
    variogram: Variogram
    predictions: pandas.DataFrame

    def summary(self) -> dict[str, Any]:
        """What metrics/audit.json holds: small, rounded to 4 digits."""
        to_locations = ["prediction_to_sample"] if "prediction_to_sample" in self.distances else []
        return {
            "baseline": self.baseline,
            "patches": self.patches,
            "zones": self.zones,
            "repeats": self.repeats,
            "train_patches": {split: round(number, 1) for split, number in self.train_patches.items()},
            **self.statistics,
            "coordinates": self.coordinates,
            "distances": {
                **{name: _quantiles(self.distances[name]) for name in ["sample_to_sample", *to_locations]},
                "held_out_to_train": {split: self._held_out(split) for split in ("zoned", "random")},
            },
            "autocorrelation": {
                "range_m": None if self.variogram.range_m is None else round(self.variogram.range_m, 1),
                "levels_off": self.variogram.levels_off,
                "nugget": rounded(self.variogram.nugget),
                "sill": rounded(self.variogram.sill),
                "zone_size_m": None if self.zone_size_m is None else round(self.zone_size_m, 1),
            },
            "warnings": self.warnings(),
        }

    def distance_table(self) -> pandas.DataFrame:
        """``distances`` in long form: ``kind``, one of their names, and ``distance_m``."""
        kinds = [np.repeat(kind, len(values)) for kind, values in self.distances.items()]
        values = {"kind": np.concatenate(kinds), "distance_m": np.concatenate(list(self.distances.values()))}
        return pandas.DataFrame(values)

    def wasserstein_m(self) -> dict[str, float]:
        """`landfold.folds.distances.wasserstein_m` of each split; empty where no locations were given."""
        if "prediction_to_sample" not in self.distances:
            return {}
        locations = self.distances["prediction_to_sample"]
        return {split: wasserstein_m(self.distances[split], locations) for split in ("zoned", "random")}

    def warnings(self) -> list[str]:
        """What speaks against the zones as they are."""
        range_m, size_m = self.variogram.range_m, self.zone_size_m
        if range_m is None or size_m is None:
            return []
        if not self.variogram.levels_off:
            return [
                f"errors still grow less alike at the longest distance measured, {range_m:.0f} m, and zones are about "
                f"{size_m:.0f} m wide: raise zones.block_size_m, or make larger zones, as far as their number allows"
            ]
        if size_m < range_m:
            return [
                f"zones are about {size_m:.0f} m wide, but errors resemble each other over {range_m:.0f} m: raise "
                f"zones.block_size_m to {range_m:.0f} or more, or make larger zones, as long as there are several "
                "for each fold"
            ]
        return []

    def sentence(self, subject: str = "band statistics alone") -> str:
        """The optimistic bias of random cross-validation, and the range of the errors, in words."""
        range_m = self.variogram.range_m
        alike = "no range of alike errors" if range_m is None else f"errors resemble each other over {range_m:.0f} m"
        return f"{optimism_sentence(self.statistics, subject)}; {alike}"

    def _held_out(self, split: str) -> dict[str, float]:
        """Quantiles, W, and the share that is no farther from training than half of the map is from a patch."""
        distances = self.distances[split]
        if "prediction_to_sample" not in self.distances:
            return _quantiles(distances)
        return _quantiles(distances) | {
            "wasserstein_m": rounded(self.wasserstein_m()[split]),
            "no_farther_than_prediction": rounded(
                (distances <= np.median(self.distances["prediction_to_sample"])).mean()
            ),
        }


def read_splits(folder: Path, patches: pandas.DataFrame) -> Splits:
    """The spatial and the random split of every fold that ``folder``/index.json lists.

    Raises:
        FoldError: no index; a list that is absent or not of these patches.
        AuditError: a patch is not held out as often by the random folds as by the spatial ones.
    """
    index = read_index(folder)
    spatial, random = (
        [
            [read_split(index.list_of(kind, index.k * repeat + i), patches["patch"]) for i in range(index.k)]
            for repeat in range(index.repeats)
        ]
        for kind in KINDS
    )
    splits = Splits(read_assignment(folder)["zone"].to_numpy(), spatial, random)
    for kind, repeats in zip(KINDS, (spatial, random), strict=True):
        for folds in repeats:
            times = np.sum([split.validation for split in folds], axis=0)
            wrong = int((times != splits.held_out).sum())
            if wrong:
                raise AuditError(
                    f"{folder}/{kind}_*.parquet: {wrong} patches are held out never or twice; run dvc repro zones"
                )
    return splits


def zone_size_m(zones: geopandas.GeoDataFrame) -> float | None:
    """The typical width of a zone, metres: the square root of the median area of those that are in a fold.

    None where zones are points or lines.
    """
    area = zones.geometry[zones["fold"] >= 0].area.median()
    return float(np.sqrt(area)) if area > 0 else None


def audit(
    table: pandas.DataFrame,
    features: Any,
    splits: Splits,
    baseline: Baseline,
    *,
    locations: np.ndarray | None,
    zone_size_m: float | None,
    seed: int,
) -> Audit:
    """Score a classifier under both kinds of folds, measure distances, and compare.

    Args:
        table: ``patch``, ``label``, ``x`` and ``y`` of every patch, metres.
        features: (patch, feature), an array or a table, such as their band statistics.
        splits: spatial and random, masks over the table.
        baseline: the kind of classifier.
        locations: (location, 2) metres, centres of what is mapped; None: unknown.
        zone_size_m: typical width of a zone.
        seed: of the sample of patches whose errors the variogram compares, where there are very many.
    """
    classes, truth = np.unique(table["label"].to_numpy().astype(str), return_inverse=True)
    points, held_out = table[["x", "y"]].to_numpy(), splits.held_out
    statistics, probabilities = _compare(baseline, features, truth, splits)
    coordinates, _ = _compare(coordinate_baseline(), points, truth, splits)
    predicted = {name: [classes[p.argmax(axis=1)] for p in repeats] for name, repeats in probabilities.items()}
    predictions = _predictions(table, splits, points, predicted)
    certainty = np.mean(probabilities["zoned"], axis=0)[np.arange(len(truth)), truth]
    to_sample = {} if locations is None else {"prediction_to_sample": nearest_m(locations, points[held_out])}
    return Audit(
        baseline=baseline.name,
        patches=int(held_out.sum()),
        zones=len(np.unique(splits.zone[held_out].astype(str))),
        repeats=len(splits.spatial),
        train_patches={
            name: float(np.mean([split.train.sum() for folds in repeats for split in folds]))
            for name, repeats in splits.by_name()
        },
        zone_size_m=zone_size_m,
        statistics=statistics,
        coordinates=coordinates,
        distances={
            "sample_to_sample": nearest_other_m(points[held_out]),
            **to_sample,
            "zoned": predictions["zoned_m"].to_numpy(),
            "random": predictions["random_m"].to_numpy(),
        },
        variogram=variogram(points[held_out], 1 - certainty[held_out], seed=seed),
        predictions=predictions,
    )


def _predictions(
    table: pandas.DataFrame, splits: Splits, points: np.ndarray, predicted: dict[str, list[np.ndarray]]
) -> pandas.DataFrame:
    """One row for each held-out patch and repeat; see `Audit`."""
    parts = []
    for repeat, (spatial, random) in enumerate(zip(splits.spatial, splits.random, strict=True)):
        numbers = np.arange(len(spatial)) + repeat * len(spatial)
        columns = {
            "patch": table["patch"].to_numpy(),
            "repeat": repeat,
            "fold": np.select([split.validation for split in spatial], numbers),
            "label": table["label"].to_numpy(),
            "predicted_zoned": predicted["zoned"][repeat],
            "predicted_random": predicted["random"][repeat],
            "zoned_m": held_out_to_train_m(points, spatial),
            "random_m": held_out_to_train_m(points, random),
        }
        parts.append(pandas.DataFrame(columns)[splits.held_out])
    return pandas.concat(parts, ignore_index=True)


def _compare(
    baseline: Baseline, features: Any, truth: np.ndarray, splits: Splits
) -> tuple[dict[str, Any], dict[str, list[np.ndarray]]]:
    """Scores of a classifier under both splits, and its (patch, class) probabilities in each repeat of each."""
    held_out, zones = splits.held_out, splits.zone[splits.held_out].astype(str)
    probabilities = {
        name: [held_out_probabilities(baseline, features, truth, splits.zone.astype(str), folds) for folds in repeats]
        for name, repeats in splits.by_name()
    }
    counts = {
        name: np.stack(
            [confusions(truth[held_out], p[held_out].argmax(axis=1), zones, p.shape[1]) for p in repeats], axis=1
        )
        for name, repeats in probabilities.items()
    }
    return compare_splits(counts["zoned"], counts["random"]), probabilities


def _quantiles(distances: np.ndarray) -> dict[str, float]:
    return {name: rounded(np.quantile(distances, q)) for name, q in (("q05", 0.05), ("median", 0.5), ("q95", 0.95))}
