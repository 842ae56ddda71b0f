"""Pictures for `dvc plots` and the README: PNG files whose bytes depend on their content alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import geopandas
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from PIL import Image

from landfold.files import writing
from landfold.folds import Split

matplotlib.use("Agg")

FOLD_COLOURS = matplotlib.colormaps["tab20"].colors[::2] + matplotlib.colormaps["tab20"].colors[1::2]

RIGHT_COLOUR = "#cbd5cb"


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


def fold_map(path: Path, zones: geopandas.GeoDataFrame, patches: geopandas.GeoDataFrame, splits: list[Split]) -> None:
    """Zones and patches in the colours of their folds; outlined patches are a buffer's cost in some fold."""
    with figure(path, width=9, height=5.5) as drawing:
        axes = drawing.subplots()
        colour = [FOLD_COLOURS[fold % len(FOLD_COLOURS)] for fold in zones["fold"]]
        zones.plot(ax=axes, color=colour, alpha=0.25, edgecolor="black", linewidth=0.6)
        colours = [FOLD_COLOURS[fold % len(FOLD_COLOURS)] for fold in patches["fold"]]
        lost = sum(split.buffer for split in splits) > 0
        edges = ["black" if out else "none" for out in lost]
        axes.scatter(patches["x"], patches["y"], c=colours, s=8, marker="s", edgecolors=edges, linewidths=0.4)
        handles: list[Any] = [
            Patch(
                color=FOLD_COLOURS[fold % len(FOLD_COLOURS)],
                label=f"fold {fold}: {int(split.validation.sum())} patches",
            )
            for fold, split in enumerate(splits)
        ]
        handles.append(Patch(facecolor="white", edgecolor="black", label=f"in a buffer: {int(lost.sum())}"))
        axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
        axes.set_title(f"{len(zones)} zones in {len(splits)} folds")
        _label_metres(axes)


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
