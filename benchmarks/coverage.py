"""How often 95 % intervals hold on simulated errors: ``python -m benchmarks.coverage``, after ``dvc repro``.

Places, zones and classes are those of the labelled patches, and stay as they are. Drawn anew is which class each patch
is predicted as: a Gaussian field of variance 1, correlated in space, is cut at the quantiles of the observed confusion
of the patch's class, the right class first. Its correlation is the one that gives the errors the variogram which
`landfold.audit.variogram` finds in the network's own. Network, baseline and network under random folds are drawn
together; their fields are correlated as much as their errors are (tetrachoric correlation).

The true score is the mean over all draws. Prints two tables in Markdown: the share of the draws whose interval holds
the true score, and the mean width of the intervals; in each cell first that of the percentile bootstrap over zones
(2,000 resamples), then that of `landfold.scores.intervals`.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas
from scipy.optimize import brentq
from scipy.stats import multivariate_normal, norm

from landfold.audit.variogram import variogram
from landfold.scores.intervals import ScoreWithInterval, compare, effective_zones
from landfold.scores.metrics import HEADLINE

Scores = dict[str, dict[str, ScoreWithInterval]]
"""By network, random, over_baseline (network less baseline) and gap (random less network), then by name of a score."""

SHOWN = {
    ("network", "accuracy"): "accuracy",
    ("network", "balanced_accuracy"): "balanced accuracy",
    ("network", "macro_f1"): "macro F1",
    ("random", "accuracy"): "random folds: accuracy",
    ("random", "macro_f1"): "macro F1",
    ("over_baseline", "accuracy"): "over the baseline: accuracy",
    ("over_baseline", "macro_f1"): "macro F1",
    ("gap", "accuracy"): "random less spatial: accuracy",
    ("gap", "macro_f1"): "macro F1",
}
"""Columns of the tables and their heads."""


@dataclass(frozen=True)
class Ground:
    """Labelled patches: places (patch, 2) in metres, numbers of zones and classes (patch,), and what each method
    predicts, numbers of classes (patch,) by name."""

    points: np.ndarray
    zone: np.ndarray
    truth: np.ndarray
    predicted: dict[str, np.ndarray]

    @property
    def distance_m(self) -> np.ndarray:
        """Between all patches, (patch, patch)."""
        return np.hypot(*(self.points[:, None] - self.points).transpose(2, 0, 1))

    def rates(self, method: str) -> np.ndarray:
        """Share of the patches of each class that are predicted as each: (class, class)."""
        classes = self.truth.max() + 1
        counts = np.zeros((classes, classes))
        np.add.at(counts, (self.truth, self.predicted[method]), 1)
        return counts / counts.sum(axis=1, keepdims=True)


def spherical(distance_m: np.ndarray, range_m: float) -> np.ndarray:
    """Correlation of the spherical model, 1 at 0 m and 0 from the range on."""
    part = np.minimum(distance_m / range_m, 1)
    return 1 - 1.5 * part + 0.5 * part**3


def latent_correlation(ground: Ground, method: str) -> np.ndarray:
    """Correlation of the Gaussian field whose errors have the variogram of a method's own, (patch, patch)."""
    wrong = ground.predicted[method] != ground.truth
    model = variogram(ground.points, wrong.astype(float), seed=0)
    range_m = model.range_m or 1.0  # without a range every patch is on its own
    covariance = (model.sill - model.nugget) * spherical(ground.distance_m, range_m)
    return with_ones(np.interp(covariance, *_covariances(wrong.mean())))


def with_ones(correlation: np.ndarray) -> np.ndarray:
    """The same with 1 on the diagonal."""
    return correlation + np.diag(1 - np.diagonal(correlation))


def _covariances(share: float) -> tuple[np.ndarray, np.ndarray]:
    """Covariance of two errors, each with that share, and the correlation of two normal variables that gives it."""
    cut, correlations = norm.ppf(share), np.linspace(0, 0.99, 60)
    both = [multivariate_normal.cdf([cut, cut], cov=[[1, r], [r, 1]]) for r in correlations]
    return np.array(both) - share**2, correlations


def tetrachoric(first: np.ndarray, second: np.ndarray) -> float:
    """Correlation of two normal variables that gives two errors, (patch,) bool, their joint frequency."""
    cuts, both = norm.ppf([first.mean(), second.mean()]), (first & second).mean()
    return brentq(lambda r: multivariate_normal.cdf(cuts, cov=[[1, r], [r, 1]]) - both, -0.999, 0.999)


def root_of(correlation: np.ndarray) -> np.ndarray:
    """A matrix (patch, patch) that turns independent normal variables into ones of nearly this correlation."""
    values, vectors = np.linalg.eigh(correlation)
    root = vectors * np.sqrt(values.clip(0))
    return root / np.linalg.norm(root, axis=1, keepdims=True)


def confusions(ground: Ground, rates: np.ndarray, field: np.ndarray) -> np.ndarray:
    """Counts of what the fields make of the confusion ``rates``: (draw, zone, class, class)."""
    classes, zones, level = len(rates), ground.zone.max() + 1, norm.cdf(field)
    predicted = np.empty(field.shape, dtype=np.int64)
    for name, row in enumerate(rates):
        order = np.argsort(-(row + (np.arange(classes) == name)), kind="stable")
        own = ground.truth == name
        predicted[:, own] = order[np.searchsorted(row[order].cumsum()[:-1], level[:, own], side="right")]
    cell = (ground.zone * classes + ground.truth) * classes + predicted
    cell += np.arange(len(field))[:, None] * zones * classes**2
    counts = np.bincount(cell.ravel(), minlength=len(field) * zones * classes**2)
    return counts.reshape(len(field), zones, classes, classes)


def simulate(
    ground: Ground, correlation: np.ndarray, draws: int, seed: int, *, alike: bool = False
) -> dict[str, np.ndarray]:
    """(draw, zone, class, class) counts of each method, the first of ``ground.predicted`` and others along with it.

    ``alike`` gives every class the same accuracy.
    """
    generator, root = np.random.default_rng(seed), root_of(correlation)
    wrong = {method: predicted != ground.truth for method, predicted in ground.predicted.items()}
    first, *_ = wrong
    shared, found = generator.standard_normal((draws, len(root))), {}
    for method, errors in wrong.items():
        part = 1.0 if method == first else tetrachoric(wrong[first], errors)
        field = (part * shared + np.sqrt(1 - part**2) * generator.standard_normal(shared.shape)) @ root.T
        rates = ground.rates(method)
        found[method] = confusions(ground, equally_accurate(rates, 1 - errors.mean()) if alike else rates, field)
    return found


def equally_accurate(rates: np.ndarray, accuracy: float) -> np.ndarray:
    """The confusion rates, with the same accuracy for every class; errors keep their proportions."""
    diagonal = np.eye(len(rates), dtype=bool)
    errors = np.where(diagonal, 0, rates)
    return np.where(diagonal, accuracy, (1 - accuracy) * errors / errors.sum(axis=1, keepdims=True))


def jackknife(network: np.ndarray, baseline: np.ndarray, random: np.ndarray) -> Scores:
    """The intervals of `landfold.scores.intervals` for one draw: (zone, class, class) counts of each method."""
    _, network_scores, over_baseline = compare(baseline, network)
    _, random_scores, gap = compare(network, random)
    return {"network": network_scores, "random": random_scores, "over_baseline": over_baseline, "gap": gap}


def percentile_bootstrap(network: np.ndarray, baseline: np.ndarray, random: np.ndarray) -> Scores:
    """The same as quantiles of 2,000 resamples of the zones."""
    counts = np.stack([network, baseline, random], axis=1)
    times = np.random.default_rng(0).multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=2000)
    resampled, pooled = np.tensordot(times.astype(float), counts, axes=1), counts.sum(axis=0)
    found: Scores = {what: {} for what in ("network", "random", "over_baseline", "gap")}
    for name, score in HEADLINE.items():
        samples, point = score(resampled), score(pooled)
        for what, own, value in (
            ("network", samples[:, 0], point[0]),
            ("random", samples[:, 2], point[2]),
            ("over_baseline", samples[:, 0] - samples[:, 1], point[0] - point[1]),
            ("gap", samples[:, 2] - samples[:, 0], point[2] - point[0]),
        ):
            low, high = np.quantile(own, [0.025, 0.975])
            found[what][name] = {"pooled": value, "low": low, "high": high}
    return found


def coverage(scores: list[Scores]) -> pandas.DataFrame:
    """Columns covered, the share of the draws whose interval holds the mean of the pooled scores, and mean width."""
    rows = {}
    for what, score in SHOWN:
        pooled, low, high = (np.array([s[what][score][end] for s in scores]) for end in ("pooled", "low", "high"))
        true = pooled.mean()
        rows[(what, score)] = {"covered": ((low <= true) & (true <= high)).mean(), "width": (high - low).mean()}
    return pandas.DataFrame.from_dict(rows, orient="index")


def variants(ground: Ground, draws: int) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Name of each way in which errors may lie on the ground, and the counts of each method."""
    own = latent_correlation(ground, "network")
    one = np.eye(len(own))
    same = ground.zone[:, None] == ground.zone
    within = own[same & (one == 0)].mean()
    yield "the errors' own variogram", simulate(ground, own, draws, 0)
    yield "the same, all classes equally accurate", simulate(ground, own, draws, 1, alike=True)
    yield "the same, zones drawn anew", drawn_anew(simulate(ground, own, draws, 2))
    for seed, width_m in ((3, 5120), (4, 7680)):
        zone = np.unique(ground.points // width_m, axis=0, return_inverse=True)[1].ravel()
        wide = replace(ground, zone=zone)
        yield f"the same, {_number_of_zones(wide)}", simulate(wide, own, draws, seed)
    yield "alike within a zone alone", simulate(ground, with_ones(within * same), draws, 5)
    yield "not correlated", simulate(ground, one, draws, 6)
    far = with_ones(0.75 * own + 0.25 * spherical(ground.distance_m, 5000))
    yield "own variogram and a component of 5 km", simulate(ground, far, draws, 7)


def drawn_anew(counts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Draws of as many zones with replacement, each of another draw: zones, with their classes, are random, too."""
    draws, zones = next(iter(counts.values())).shape[:2]
    generator = np.random.default_rng(0)
    of, zone = generator.integers(draws, size=(draws, zones)), generator.integers(zones, size=(draws, zones))
    return {method: own[of, zone] for method, own in counts.items()}


def _number_of_zones(ground: Ground) -> str:
    sizes = np.bincount(ground.zone)
    return f"{len(sizes)} zones (effective number {effective_zones(sizes):.1f})"


def read_ground(predictions: Path) -> Ground:
    """The first repeat of data/predictions.parquet."""
    table = pandas.read_parquet(predictions)
    table = table[table["repeat"] == 0]
    classes = np.unique(table["label"])
    columns = {"network": "predicted", "baseline": "predicted_baseline", "random": "predicted_random"}
    return Ground(
        table[["x", "y"]].to_numpy(),
        np.unique(table["zone"], return_inverse=True)[1],
        np.searchsorted(classes, table["label"]),
        {method: np.searchsorted(classes, table[column]) for method, column in columns.items()},
    )


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", "--draws", type=int, default=1000)
    draws = parser.parse_args().draws
    ground = read_ground(Path("data/predictions.parquet"))
    print(f"{len(ground.truth)} patches, {_number_of_zones(ground)}; {draws} draws\n")
    tables: dict[str, list[str]] = {"covered": [], "width": []}
    for name, counts in variants(ground, draws):
        methods = (counts[method] for method in ("network", "baseline", "random"))
        by_draw = list(zip(*methods, strict=True))
        old, new = (coverage([method(*draw) for draw in by_draw]) for method in (percentile_bootstrap, jackknife))
        for column, lines in tables.items():
            cells = (f"{a:.3f}, {b:.3f}".replace("0.", ".") for a, b in zip(old[column], new[column], strict=True))
            lines.append(f"| {name} | {' | '.join(cells)} |")
        print(tables["covered"][-1], file=sys.stderr, flush=True)
    for column, lines in tables.items():
        head = " | ".join([f"{column}: bootstrap, jackknife", *SHOWN.values()])
        print(f"| {head} |", "|---" * (len(SHOWN) + 1) + "|", *lines, "", sep="\n")


if __name__ == "__main__":
    main()
