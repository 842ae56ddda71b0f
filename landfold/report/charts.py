"""Small charts for the report: SVG text whose bytes depend on its content alone."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

matplotlib.use("Agg")

SEEN, UNSEEN = "#8c8c8c", "#0b5c8a"
"""Of ground that was trained on, and of ground that was held out."""

STYLE = {
    "svg.hashsalt": "landfold",  # ids are random without it
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a949e",
    "axes.labelcolor": "#333b43",
    "xtick.color": "#333b43",
    "ytick.color": "#333b43",
    "axes.grid": True,
    "grid.color": "#e3e7ea",
    "axes.axisbelow": True,
    "legend.frameon": False,
}


class Chart:
    """What a block draws on: ``axes``, and ``svg``, the text of the picture once the block is left."""

    axes: Axes
    svg: str


@contextmanager
def _drawing(*, width: float = 5.4, height: float = 3.6) -> Iterator[Chart]:
    """A chart of the given size in inches, small enough to be read on a phone."""
    chart, text = Chart(), StringIO()
    with matplotlib.rc_context(STYLE):
        drawing = Figure(figsize=(width, height), layout="constrained")
        chart.axes = drawing.subplots()
        yield chart
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        drawing.savefig(text, format="svg", metadata=nothing)
    whole = text.getvalue()
    chart.svg = whole[whole.index("<svg") :]  # without the document type, which names an address


def curves(history: Sequence[dict[str, float]], name: str, label: str) -> str:
    """Every fold's curve of ``train_<name>`` and ``validation_<name>`` over the epochs, and their means.

    ``history`` are the rows of history.csv: ``fold``, ``epoch`` and the numbers.
    """
    with _drawing() as chart:
        axes = chart.axes
        sides = (("train", "ground learned from", SEEN, "--"), ("validation", "ground held out", UNSEEN, "-"))
        for side, words, colour, style in sides:
            lines: dict[float, list[tuple[float, float]]] = {}
            for row in history:
                lines.setdefault(row["fold"], []).append((row["epoch"], row[f"{side}_{name}"]))
            for line in lines.values():
                axes.plot(*zip(*line, strict=True), color=colour, alpha=0.45, linewidth=0.8)
            epochs = sorted({epoch for line in lines.values() for epoch, _ in line})
            means = [np.mean([value for line in lines.values() for e, value in line if e == epoch]) for epoch in epochs]
            axes.plot(epochs, means, style, color=colour, linewidth=2.2, label=words)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.legend()
    return chart.svg


def reliability(bins: Sequence[dict[str, Any]]) -> str:
    """Accuracy of the patches by the confidence of their predictions, before and after scaling.

    ``bins`` are rows of ``calibration.reliability`` (see `landfold.scores`); areas are numbers of patches.
    """
    with _drawing(height=4.4) as chart:
        axes = chart.axes
        axes.plot([0, 1], [0, 1], color="#333b43", linewidth=1, linestyle=":", label="as sure as right")
        sides = ((False, "as the network says it", SEEN, "s", "--"), (True, "temperature scaled", UNSEEN, "o", "-"))
        for scaled, words, colour, marker, style in sides:
            rows = [row for row in bins if bool(row["scaled"]) == scaled]
            if not rows:
                continue
            x, y, count = (np.array([row[key] for row in rows]) for key in ("confidence", "accuracy", "count"))
            axes.plot(x, y, style, color=colour, linewidth=1.2)
            areas = 12 + 260 * count / count.sum()
            axes.scatter(x, y, s=areas, color=colour, marker=marker, edgecolors="white", label=words, zorder=3)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_aspect("equal")
        axes.set_xlabel("confidence of the prediction")
        axes.set_ylabel("share that is right")
        legend = axes.legend(loc="upper left")
        for handle in legend.legend_handles[1:]:
            handle.set_sizes([40])
    return chart.svg


def zones(rows: Sequence[dict[str, Any]], *, median: float, pooled: float) -> str:
    """Accuracy of every zone, from the worst to the best; areas of the dots are numbers of patches."""
    ordered = sorted(rows, key=lambda row: (row["accuracy"], row["zone"]))
    with _drawing(width=6.4, height=3.6) as chart:
        axes = chart.axes
        count = np.array([row["patches"] for row in ordered])
        areas = 10 + 200 * count / count.max()
        axes.axhline(pooled, color=UNSEEN, linewidth=1.4, label=f"all patches: {pooled:.2f}")
        axes.axhline(median, color="#333b43", linewidth=1, linestyle=":", label=f"median zone: {median:.2f}")
        axes.scatter(range(1, len(ordered) + 1), [row["accuracy"] for row in ordered], s=areas, color=UNSEEN, alpha=0.7,
                     edgecolors="white", zorder=3, clip_on=False)  # fmt: skip
        axes.set_ylim(0, 1)
        axes.set_xlim(0.2, len(ordered) + 0.8)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlabel(f"zones, from the worst to the best; areas are patches, {count.min()} to {count.max()}")
        axes.set_ylabel("accuracy")
        axes.legend(loc="lower right")
    return chart.svg
