"""Charts of numbers: training, calibration, zones, and spatial beside random cross-validation."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from landfold.report.figures import HELD_OUT, INK, PIXEL_SPLITS, SPLITS, TRAINING, chart, styled

BINS = 8
"""Of distance in `accuracy_by_distance`, at quantiles."""

LEAST_PATCHES = 10
"""A bin of distance with fewer patches is not drawn."""


@styled
def training_curves(history: pandas.DataFrame, score: str) -> Figure:
    """Every fold's curve of ``train_<score>`` and ``validation_<score>`` over the epochs, and their means.

    ``history`` is history.csv: ``fold``, ``epoch`` and the numbers.
    """
    figure, (axes,) = chart()
    for role, label, colour, style in (
        ("train", "training", TRAINING, "--"),
        ("validation", "held out", HELD_OUT, "-"),
    ):
        by_fold = history.pivot_table(index="epoch", columns="fold", values=f"{role}_{score}")
        axes.plot(by_fold.index, by_fold.to_numpy(), color=colour, alpha=0.45, linewidth=0.8)
        axes.plot(by_fold.index, by_fold.mean(axis=1), style, color=colour, linewidth=2.2, label=label)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="epoch", ylabel=score)
    axes.legend()
    return figure


@styled
def reliability_diagram(bins: Sequence[Mapping[str, Any]]) -> Figure:
    """Accuracy of patches or pixels by the confidence of their predictions, before and after calibration.

    ``bins`` are rows of a ``calibration.reliability`` of metrics/scores.json. Areas are numbers of patches or pixels.
    """
    figure, (axes,) = chart(height=4.4)
    axes.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle=":", label="perfect calibration")
    table = pandas.DataFrame(bins)
    states = [(False, "uncalibrated", TRAINING, "s", "--"), (True, "calibrated", HELD_OUT, "o", "-")]
    for scaled, label, colour, marker, style in states:
        rows = table[table["scaled"].astype(bool) == scaled]
        axes.plot(rows["confidence"], rows["accuracy"], style, color=colour, linewidth=1.2)
        _bubbles(axes, rows["confidence"], rows["accuracy"], rows["count"], rows["count"].sum(), color=colour,
                 marker=marker, label=label)  # fmt: skip
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="confidence", ylabel="accuracy")
    _legend(axes, loc="upper left")
    return figure


@styled
def zone_accuracies(rows: Sequence[Mapping[str, Any]], *, median: float, pooled: float, of: str = "patches") -> Figure:
    """Accuracy of every zone, from the worst to the best.

    ``rows`` are a ``per_zone`` of metrics/scores.json; ``of`` is what they count, patches or pixels.
    """
    figure, (axes,) = chart(width=6.4)
    zones = pandas.DataFrame(rows).sort_values(["accuracy", "zone"])
    axes.axhline(pooled, color=HELD_OUT, linewidth=1.4, label=f"all {of}: {pooled:.2f}")
    axes.axhline(median, color=INK, linewidth=1, linestyle=":", label=f"median zone: {median:.2f}")
    count = zones[of]
    _bubbles(axes, np.arange(1, len(zones) + 1), zones["accuracy"], count, count.max(), color=HELD_OUT, alpha=0.7,
             clip_on=False)  # fmt: skip
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(
        xlim=(0.2, len(zones) + 0.8),
        ylim=(0, 1),
        xlabel=f"zones, from the worst to the best; areas are {of}, {count.min()} to {count.max()}",
        ylabel="accuracy",
    )
    axes.legend(loc="lower right")
    return figure


@styled
def gap_bars(
    comparisons: Mapping[str, Mapping[str, Any]], pixels: Mapping[str, Mapping[str, Any]] | None = None
) -> Figure:
    """Scores under random and under spatial CV with their intervals, and the difference in words.

    Args:
        comparisons: results of `landfold.scores.intervals.compare_splits`, by the name of what was scored.
        pixels: ``splits`` of the pixels of metrics/scores.json, and the ``gap`` of random pixels; drawn first.
    """
    panels = [(title, SPLITS, scores) for title, scores in comparisons.items()]
    if pixels:
        panels.insert(0, ("network, labelled pixels", PIXEL_SPLITS, pixels))
    figure, places = chart(width=5 * len(panels), height=4.2, columns=len(panels))
    explained = None
    for axes, (title, splits, scores) in zip(places, panels, strict=True):
        _split_bars(axes, splits, scores)
        axes.set(ylim=(0, 1.15 if pixels else 1), title=title)  # room for a legend in one line
        if splits is not explained:
            axes.legend(loc="upper right", ncols=len(splits) if pixels else 1)
        explained = splits
    places[0].set_ylabel("score, and its 95 % interval over zones")
    difference = "random less spatial CV (pixels: random pixels less zones)" if pixels else "random less spatial CV"
    figure.suptitle(f"Optimistic bias of random CV: {difference}, below each score")
    return figure


def _split_bars(axes: Axes, splits: Mapping[str, tuple[str, str, str]], scores: Mapping[str, Any]) -> None:
    """A group of bars for each score, one bar a split."""
    names, width = list(scores["gap"]), 0.8 / len(splits)
    place = np.arange(len(names))
    for i, (split, (label, colour, _)) in enumerate(splits.items()):
        value, low, high = (np.array([scores[split][name][key] for name in names]) for key in ("pooled", "low", "high"))
        around = np.stack([np.maximum(value - low, 0), np.maximum(high - value, 0)])
        shift = (i - (len(splits) - 1) / 2) * width
        axes.bar(place + shift, value, 0.9 * width, yerr=around, capsize=4, color=colour, label=label)
    axes.set_xticks(place, [_gap_label(name, scores["gap"][name]) for name in names])
    axes.grid(visible=False, axis="x")


def _gap_label(score: str, gap: Mapping[str, float]) -> str:
    name = score.replace("_", " ").replace("f1", "F1")
    return f"{name}\n{gap['pooled']:+.3f}\n({gap['low']:+.3f} to {gap['high']:+.3f})"


@styled
def distance_distributions(distances: pandas.DataFrame, wasserstein_m: Mapping[str, float]) -> Figure:
    """Cumulative distances from held-out to training patches, beside those from the map to the patches.

    Args:
        distances: data/audit/distances.parquet: ``kind`` and ``distance_m``.
        wasserstein_m: by kind of folds, how far their distances are from those of the map, as whole distributions.
    """
    lines = {
        "sample_to_sample": ("patch to the nearest other patch", "#8c8c8c", ":"),
        "prediction_to_sample": ("map to the nearest patch", "black", "--"),
    }
    for split, (label, colour, _) in SPLITS.items():
        lines[split] = (f"held out to training, {label}: W = {wasserstein_m[split]:.0f} m", colour, "-")
    positive = distances["distance_m"][distances["distance_m"] > 0]
    least, most = (positive.min(), positive.max()) if len(positive) else (1.0, 1.0)
    floor = 0.7 * least
    figure, (axes,) = chart(width=8, height=4.5)
    for kind, (label, colour, style) in lines.items():
        values = np.sort(distances["distance_m"][distances["kind"] == kind].clip(lower=floor))  # a log axis has no 0
        share = np.arange(1, len(values) + 1) / len(values)
        axes.step(values, share, where="post", color=colour, linestyle=style, linewidth=1.8, label=label)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set(
        xlim=(floor, 1.1 * most),
        ylim=(0, 1.02),
        xlabel="distance, m (those of 0 at the left edge)",
        ylabel="cumulative share",
        title="Distances to the nearest training patch, and from the map to the nearest patch",
    )
    figure.legend(loc="outside lower center", ncols=2, fontsize=9)
    return figure


@styled
def accuracy_by_distance(table: pandas.DataFrame) -> Figure:
    """Accuracy of held-out patches by their distance to the nearest training patch, under both kinds of folds.

    ``table`` is data/audit/baseline.parquet: ``label``, and for zoned and random ``predicted_<split>`` and
    ``<split>_m``, metres. Areas of the markers are numbers of patches, which are written beside them.
    """
    edges = np.unique(np.quantile(table[["zoned_m", "random_m"]], np.linspace(0, 1, BINS + 1)))
    figure, (axes,) = chart(width=8, height=4.2)
    for split, (label, colour, marker) in SPLITS.items():
        distance, correct = table[f"{split}_m"], table["label"] == table[f"predicted_{split}"]
        number = np.searchsorted(edges, distance, side="right").clip(1, max(1, len(edges) - 1))
        groups = pandas.DataFrame({"x": distance, "y": correct, "patches": 1}).groupby(number)
        bins = groups.agg({"x": "mean", "y": "mean", "patches": "sum"})
        bins = bins[bins["patches"] >= LEAST_PATCHES]
        axes.plot(bins["x"], bins["y"], color=colour, linewidth=1.2)
        label = f"{label}: {correct.mean():.3f} over all"
        areas = _bubbles(
            axes, bins["x"], bins["y"], bins["patches"], len(table), color=colour, marker=marker, label=label
        )
        for x, y, patches, area in zip(*bins.to_numpy().T, areas, strict=True):
            place = {"xytext": (0, 4 + np.sqrt(area) / 2), "textcoords": "offset points", "ha": "center"}
            axes.annotate(f"{patches:.0f}", (x, y), fontsize=8, **place)
    axes.set(
        ylim=(0, 1),
        xlabel="mean distance to the nearest training patch, m",
        ylabel="accuracy",
        title=f"Accuracy of band statistics by distance; numbers are patches, {LEAST_PATCHES} or more",
    )
    _legend(axes, loc="lower right")
    return figure


def _bubbles(axes: Axes, x: np.ndarray, y: np.ndarray, count: np.ndarray, whole: int, **options: Any) -> np.ndarray:
    """Markers whose areas, in square points, tell their count of the whole; gives the areas."""
    areas = np.asarray(12 + 260 * count / whole)
    axes.scatter(x, y, s=areas, edgecolors="white", zorder=3, **options)
    return areas


def _legend(axes: Axes, **options: Any) -> None:
    """A legend with markers of one size."""
    for handle in axes.legend(**options).legend_handles:
        if hasattr(handle, "set_sizes"):
            handle.set_sizes([40])
