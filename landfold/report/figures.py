"""Pictures for `dvc plots` and the README: PNG files whose bytes depend on their content alone."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import geopandas
import matplotlib
import numpy as np
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullFormatter
from PIL import Image

from landfold.core.files import writing
from landfold.folds.split import Split

matplotlib.use("Agg")

FOLD_COLOURS = matplotlib.colormaps["tab20"].colors[::2] + matplotlib.colormaps["tab20"].colors[1::2]

RIGHT_COLOUR = "#cbd5cb"

SPLIT_COLOURS = {"zoned": "#0072b2", "random": "#d55e00"}
"""Of Okabe and Ito's palette (https://jfly.uni-koeln.de/color/), told apart by every kind of colour vision."""


@contextmanager
def figure(path: Path, *, width: float, height: float) -> Iterator[Figure]:
    """A figure of at most the given size in inches, saved as PNG when the block succeeds.

    The picture is cropped to what is drawn and kept to 256 colours: plots are in git, and imagery
    would be four times as large.
    """
    drawing = Figure(figsize=(width, height), layout="compressed")
    yield drawing
    pixels = BytesIO()
    drawing.savefig(pixels, dpi=110, bbox_inches="tight", pad_inches=0.1)
    with writing(path) as temporary:
        Image.open(pixels).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE).save(temporary, optimize=True)


@dataclass(frozen=True)
class Picture:
    """A scene as a backdrop: red, green and blue, (3, y, x), all 0 without data, over x_min, y_min, x_max, y_max."""

    values: np.ndarray
    bounds: tuple[float, float, float, float]


def fold_map(
    path: Path,
    zones: geopandas.GeoDataFrame,
    patches: geopandas.GeoDataFrame,
    splits: Sequence[Split],
    *,
    pictures: Sequence[Picture] = (),
) -> None:
    """Zones and patches of one repeat in the colours of their folds, over the scenes.

    Outlined patches are a buffer's cost in some fold, black ones are the test region.
    """
    west, south, east, north = zones.total_bounds
    height = float(np.clip(1.2 + 6.5 * (north - south) / (east - west), 4, 12))
    with figure(path, width=9, height=height) as drawing:
        axes = drawing.subplots()
        for picture in pictures:
            x_min, y_min, x_max, y_max = picture.bounds
            extent = (x_min, x_max, y_min, y_max)
            axes.imshow(_backdrop(picture.values), extent=extent, interpolation="antialiased", zorder=0)
        fills = [_fold_colour(fold) for fold in zones["fold"]]
        zones.plot(ax=axes, color=fills, alpha=0.25, edgecolor="black", linewidth=0.6, zorder=1)
        lost = sum(split.buffer for split in splits) > 0
        axes.scatter(
            patches["x"],
            patches["y"],
            c=[_fold_colour(fold) for fold in patches["fold"]],
            s=8,
            marker="s",
            edgecolors=["black" if out else "none" for out in lost],
            linewidths=0.4,
            zorder=2,
        )
        handles: list[Any] = [
            Patch(color=_fold_colour(fold), label=f"fold {fold}: {int(split.validation.sum())} patches")
            for fold, split in enumerate(splits)
        ]
        handles.append(Patch(facecolor="white", edgecolor="black", label=f"in a buffer: {int(lost.sum())}"))
        test = int((patches["fold"] < 0).sum())
        if test:
            handles.append(Patch(color=_fold_colour(-1), label=f"test region: {test}"))
        axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
        axes.set_title(f"{len(zones)} zones in {len(splits)} folds")
        axes.set_aspect("equal")
        axes.set_xlim(west, east)
        axes.set_ylim(south, north)
        _label_metres(axes)


def _fold_colour(fold: int) -> tuple[float, float, float]:
    """The colour of a fold; black for the test region, which is in none."""
    return FOLD_COLOURS[fold % len(FOLD_COLOURS)] if fold >= 0 else (0.0, 0.0, 0.0)


def _backdrop(values: np.ndarray) -> np.ndarray:
    """A pale picture (y, x, 3) in 0..1, white without data, so that the folds' colours stand out."""
    data = (values != 0).any(axis=0)
    shown = np.ones((*values.shape[1:], 3))
    if data.any():
        low, high = np.percentile(values[:, data], (2, 98), axis=1)
        stretched = (np.moveaxis(values, 0, -1) - low) / np.maximum(high - low, 1e-9)
        shown[data] = 0.6 + 0.4 * stretched.clip(0, 1)[data]
    return shown


def error_map(
    path: Path,
    zones: geopandas.GeoDataFrame,
    patches: geopandas.GeoDataFrame,
    colours: dict[str, tuple[int, int, int]],
) -> None:
    """Where the out-of-fold predictions are wrong: dots in the colour of the true class among the pale right ones.

    ``patches`` has ``x``, ``y``, ``label`` and ``predicted``; ``colours`` has red, green and blue
    (0 to 255) of every class.
    """
    wrong = (patches["label"] != patches["predicted"]).to_numpy()
    fills = {name: tuple(part / 255 for part in colour) for name, colour in colours.items()}
    west, south, east, north = zones.total_bounds
    height = float(np.clip(1.2 + 6.5 * (north - south) / (east - west), 4, 12))
    with figure(path, width=9, height=height) as drawing:
        axes = drawing.subplots()
        zones.boundary.plot(ax=axes, color="grey", linewidth=0.6)
        right = patches[~wrong]
        axes.scatter(right["x"], right["y"], c=RIGHT_COLOUR, s=8, marker="s", linewidths=0)
        missed = patches[wrong]
        true = [fills[label] for label in missed["label"]]
        axes.scatter(missed["x"], missed["y"], c=true, s=26, edgecolors="black", linewidths=0.6)
        axes.set_aspect("equal")
        handles: list[Any] = [
            _marker("s", RIGHT_COLOUR, "none", f"right: {len(right)}"),
            _marker("o", "white", "black", f"wrong: {len(missed)}, in truth"),
        ]
        counts = missed["label"].value_counts()
        handles += [_marker("o", fills[name], "black", f"  {name}: {counts.get(name, 0)}") for name in fills]
        axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
        axes.set_title("Out-of-fold predictions: right and wrong")
        _label_metres(axes)


def _marker(shape: str, fill: Any, edge: str, label: str) -> Line2D:
    """An entry of a legend."""
    return Line2D(
        [], [], linestyle="none", marker=shape, markersize=6, markerfacecolor=fill, markeredgecolor=edge, label=label
    )


def _label_metres(axes: Axes) -> None:
    axes.set_xlabel("easting, m")
    axes.set_ylabel("northing, m")
    axes.ticklabel_format(useOffset=False, style="plain")


def distance_distributions(path: Path, distances: dict[str, np.ndarray], wasserstein_m: dict[str, float]) -> None:
    """How far held-out patches are from training patches, beside how far the map is from the patches.

    ``distances`` are metres, by name: sample_to_sample, prediction_to_sample, zoned and random.
    ``wasserstein_m`` is how far zoned and random are from prediction_to_sample, as whole distributions.
    """
    lines = {
        "sample_to_sample": ("patch to its nearest patch", "#8c8c8c", ":"),
        "prediction_to_sample": ("map to the nearest patch", "black", "--"),
        "random": (f"held out to training, random folds: W = {wasserstein_m['random']:.0f} m", None, "-"),
        "zoned": (f"held out to training, zoned folds: W = {wasserstein_m['zoned']:.0f} m", None, "-"),
    }
    positive = np.concatenate([part[part > 0] for part in distances.values()])
    least, most = (positive.min(), positive.max()) if len(positive) else (1.0, 1.0)
    floor = 0.7 * least
    with figure(path, width=8, height=4.5) as drawing:
        axes = drawing.subplots()
        for name, (label, colour, style) in lines.items():
            values = np.sort(np.maximum(distances[name], floor))  # 0 has no place on a logarithmic axis
            share = np.arange(1, len(values) + 1) / len(values)
            colour = colour or SPLIT_COLOURS[name]
            axes.step(values, share, where="post", color=colour, linestyle=style, linewidth=1.8, label=label)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.set_xlim(floor, 1.1 * most)
        axes.set_ylim(0, 1.02)
        axes.xaxis.set_major_formatter(_metres)
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("distance, m (those of 0 at the left edge)")
        axes.set_ylabel("share that is no farther")
        axes.grid(alpha=0.3)
        axes.legend(loc="upper left", bbox_to_anchor=(0, -0.16), ncols=2, frameon=False, fontsize=9)
        axes.set_title("Distances to the nearest training patch, and from the map to the nearest patch")


def gap_bars(path: Path, comparisons: dict[str, dict[str, Any]]) -> None:
    """Scores under random and under zoned folds with their intervals, and the gap in words.

    ``comparisons`` are results of `landfold.scores.metrics.compare_splits`, by the name of what was scored.
    """
    with figure(path, width=5 * len(comparisons), height=4.2) as drawing:
        panels = drawing.subplots(1, len(comparisons), sharey=True, squeeze=False)[0]
        for axes, (title, found) in zip(panels, comparisons.items(), strict=True):
            names = list(found["gap"])
            for shift, split in ((-0.2, "random"), (0.2, "zoned")):
                value, low, high = (
                    np.array([found[split][name][key] for name in names]) for key in ("pooled", "low", "high")
                )
                around = np.stack([np.maximum(value - low, 0), np.maximum(high - value, 0)])
                axes.bar(
                    np.arange(len(names)) + shift, value, 0.36, yerr=around, capsize=4, color=SPLIT_COLOURS[split],
                    label=f"{split} folds", error_kw={"elinewidth": 1.2},
                )  # fmt: skip
            axes.set_xticks(np.arange(len(names)), [_gap_label(name, found["gap"][name]) for name in names])
            axes.set_ylim(0, 1)
            axes.grid(axis="y", alpha=0.3)
            axes.set_axisbelow(True)
            axes.set_title(title)
        panels[0].set_ylabel("score, and its 95 % interval over zones")
        panels[0].legend(loc="upper right", frameon=False)
        drawing.suptitle("What random folds flatter: random less zoned, below each score")


def _gap_label(score: str, gap: dict[str, float]) -> str:
    name = score.replace("_", " ").replace("f1", "F1")
    return f"{name}\n{gap['pooled']:+.3f}\n({gap['low']:+.3f} to {gap['high']:+.3f})"


def accuracy_by_distance(path: Path, table: pandas.DataFrame, *, bins: int = 8, least: int = 10) -> None:
    """Accuracy of held-out patches by their distance to the nearest training patch, under both splits.

    ``table`` has ``label``, and for zoned and random ``predicted_<split>`` and ``<split>_m``, metres. Areas
    of the markers are numbers of patches, which are written beside them; of fewer than ``least`` nothing is drawn.
    """
    reach = table[["zoned_m", "random_m"]].to_numpy().ravel()
    edges = np.unique(np.quantile(reach, np.linspace(0, 1, bins + 1)))
    with figure(path, width=8, height=4.2) as drawing:
        axes = drawing.subplots()
        for split, marker in (("random", "s"), ("zoned", "o")):
            distance = table[f"{split}_m"].to_numpy()
            right = (table["label"] == table[f"predicted_{split}"]).to_numpy()
            part = np.clip(np.searchsorted(edges, distance, side="right") - 1, 0, max(0, len(edges) - 2))
            count = np.bincount(part)
            there = count >= least
            x = np.bincount(part, distance)[there] / count[there]
            y = np.bincount(part, right)[there] / count[there]
            count = count[there]
            axes.plot(x, y, color=SPLIT_COLOURS[split], linewidth=1.2, zorder=2)
            areas = 20 + 300 * count / len(table)
            axes.scatter(
                x, y, s=areas, color=SPLIT_COLOURS[split], marker=marker, edgecolors="white", zorder=3,
                label=f"{split} folds: {right.mean():.3f} over all",
            )  # fmt: skip
            for place, number, above in zip(zip(x, y, strict=True), count, 4 + np.sqrt(areas) / 2, strict=True):
                axes.annotate(
                    f"{number}", place, xytext=(0, above), textcoords="offset points", ha="center", fontsize=8
                )
        axes.set_ylim(0, 1)
        axes.set_xlabel("mean distance to the nearest training patch, m")
        axes.set_ylabel("accuracy")
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)
        legend = axes.legend(loc="lower right", frameon=False)
        for handle in legend.legend_handles:
            handle.set_sizes([60])
        axes.set_title(f"Accuracy from band statistics by distance; numbers are patches, {least} or more")


def _metres(value: float, _: int) -> str:
    """A tick of a logarithmic axis."""
    return f"{value:g}"
