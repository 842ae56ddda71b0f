"""Pictures for `dvc plots` and the README: PNG files whose bytes depend on their content alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import geopandas
import matplotlib
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from landfold.files import writing
from landfold.folds import Split

matplotlib.use("Agg")

FOLD_COLOURS = matplotlib.colormaps["tab20"].colors[::2] + matplotlib.colormaps["tab20"].colors[1::2]


@contextmanager
def figure(path: Path, *, width: float, height: float) -> Iterator[Figure]:
    """A figure of the given size in inches, saved as PNG when the block succeeds."""
    drawing = Figure(figsize=(width, height), layout="constrained")
    yield drawing
    with writing(path) as temporary:
        drawing.savefig(temporary, dpi=120, metadata={"Software": None})


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
        axes.set_xlabel("easting, m")
        axes.set_ylabel("northing, m")
        axes.ticklabel_format(useOffset=False, style="plain")
