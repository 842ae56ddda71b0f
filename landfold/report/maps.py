"""Maps of zones, folds and errors, and the land-cover map beside the imagery, for people without a GIS at hand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from rasterio.enums import Resampling

from landfold.geo.raster import Raster
from landfold.report.figures import styled

FOLD_COLOURS = matplotlib.colormaps["tab20"].colors[::2] + matplotlib.colormaps["tab20"].colors[1::2]

CORRECT = "#cbd5cb"
"""Of correct patches on the map of errors."""

OUTSIDE = (110, 110, 110)
"""Grey of ground outside the area of applicability; its class shines through."""

Rgb = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""


@dataclass(frozen=True)
class Imagery:
    """A scene as a backdrop: red, green and blue, (3, y, x), all 0 without data, over x_min, y_min, x_max, y_max."""

    values: np.ndarray
    bounds: tuple[float, float, float, float]

    @classmethod
    def of(cls, scene: Raster, *, longest_px: int) -> "Imagery":
        """The scene averaged down; its first band stands for red, green or blue where it has none."""
        bands = [band if band in scene.names else scene.names[0] for band in ("R", "G", "B")]
        return cls(scene.thumbnail(bands, longest_px=longest_px), scene.grid.bounds)


@styled
def fold_map(
    zones: geopandas.GeoDataFrame, patches: geopandas.GeoDataFrame, *, backdrops: Sequence[Imagery] = ()
) -> Figure:
    """Zones and patches of one repeat in the colours of their folds, over the scenes.

    ``patches`` has ``x``, ``y``, ``fold`` (below 0: in the test region, black) and ``buffer``, whether some fold drops
    it beside its held-out zones (outlined).
    """
    figure, axes = _ground(zones)
    for imagery in backdrops:
        axes.imshow(_pale(imagery.values), extent=_extent(imagery.bounds), interpolation="antialiased", zorder=0)
    west, south, east, north = zones.total_bounds
    axes.set(xlim=(west, east), ylim=(south, north))
    fills = [_fold_colour(fold) for fold in zones["fold"]]
    zones.plot(ax=axes, color=fills, alpha=0.25, edgecolor="black", linewidth=0.6, zorder=1)
    axes.scatter(
        patches["x"],
        patches["y"],
        c=[_fold_colour(fold) for fold in patches["fold"]],
        s=8,
        marker="s",
        edgecolors=["black" if dropped else "none" for dropped in patches["buffer"]],
        linewidths=0.4,
        zorder=2,
    )
    counts = patches["fold"].value_counts()
    folds = sorted(fold for fold in counts.index if fold >= 0)
    handles: list[Any] = [Patch(color=_fold_colour(i), label=f"fold {i}: {counts[i]} patches") for i in folds]
    handles.append(Patch(facecolor="white", edgecolor="black", label=f"in a buffer: {int(patches['buffer'].sum())}"))
    test = int((patches["fold"] < 0).sum())
    if test:
        handles.append(Patch(color=_fold_colour(-1), label=f"test region: {test}"))
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1, 1))
    axes.set_title(f"{len(zones)} zones in {len(folds)} folds")
    return figure


@styled
def error_map(zones: geopandas.GeoDataFrame, patches: geopandas.GeoDataFrame, colours: Mapping[str, Rgb]) -> Figure:
    """Where the out-of-fold predictions are wrong: dots in the colour of the true class among pale correct patches.

    ``patches`` has ``x``, ``y``, ``label`` and ``predicted``; ``colours`` are those of every class.
    """
    wrong = (patches["label"] != patches["predicted"]).to_numpy()
    correct, missed = patches[~wrong], patches[wrong]
    fills = {name: _unit(colour) for name, colour in colours.items()}
    figure, axes = _ground(zones)
    zones.boundary.plot(ax=axes, color="grey", linewidth=0.6)
    axes.scatter(correct["x"], correct["y"], c=CORRECT, s=8, marker="s", linewidths=0)
    true = [fills[label] for label in missed["label"]]
    axes.scatter(missed["x"], missed["y"], c=true, s=26, edgecolors="black", linewidths=0.6)
    counts = missed["label"].value_counts()
    handles = [
        _marker("s", CORRECT, "none", f"correct: {len(correct)}"),
        _marker("o", "white", "black", f"wrong: {len(missed)}, by true class"),
        *(_marker("o", fills[name], "black", f"  {name}: {counts.get(name, 0)}") for name in fills),
    ]
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1, 1))
    axes.set_title("Out-of-fold predictions: correct and wrong")
    return figure


@styled
def class_map(
    scene: Raster, folder: Path, name: str, colours: Sequence[Rgb], *, outside: float | None = None
) -> Figure:
    """The imagery in natural colours and the land-cover map below it, both averaged down.

    Args:
        scene: the imagery.
        folder: data/maps, as `landfold.maps.export.write_scene_map` fills it.
        name: of the scene.
        colours: of every class.
        outside: share of the ground outside the area of applicability, which is greyed; None where it is not known.
    """
    with Raster.open(folder / f"{name}_class.tif") as classes:
        shown = classes.thumbnail(["class"], longest_px=1600, resampling=Resampling.mode)[0]
        titles, mapped = classes.dataset.tags(1), classes.grid.bounds
    painted = np.array([(255, 255, 255), *colours], dtype=np.uint8)[shown]
    handles = [
        Patch(color=_unit(colour), label=titles[f"CLASS_{number}"])
        for number, colour in enumerate(colours, 1)
        if (shown == number).any()
    ]
    if outside is not None:
        with Raster.open(folder / f"{name}_applicability.tif") as applicability:
            greyed = applicability.thumbnail(["applicable"], longest_px=1600)[0] < 0.5
        painted[greyed] = np.round(0.35 * painted[greyed] + 0.65 * np.array(OUTSIDE))
        label = f"greyed: outside the area of applicability, {100 * outside:.1f} %"
        handles.append(Patch(color=_unit(OUTSIDE), label=label))
    imagery = Imagery.of(scene, longest_px=1600)
    left, bottom, right, top = imagery.bounds
    height = 9 * (0.25 + 2.6 * (top - bottom) / (right - left))
    figure = Figure(figsize=(9, height), layout="compressed")
    above, below = figure.subplots(2, 1, sharex=True, sharey=True)
    above.imshow(np.moveaxis(imagery.values, 0, -1), extent=_extent(imagery.bounds), interpolation="antialiased")
    below.imshow(painted, extent=_extent(mapped), interpolation="nearest")
    above.set_title(f"{scene.dataset.tags().get('SCENE') or name}, natural colours")
    below.set_title("land cover; each zone predicted by the fold that did not train on it")
    below.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.06), ncols=4)
    for axes in (above, below):
        axes.set(xlim=(left, right), ylim=(bottom, top))
        _frame(axes)
        axes.tick_params(labelsize=7)
    return figure


def _ground(zones: geopandas.GeoDataFrame) -> tuple[Figure, Axes]:
    """A figure of the zones' shape, with metres along its axes."""
    west, south, east, north = zones.total_bounds
    height = float(np.clip(1.2 + 6.5 * (north - south) / (east - west), 4, 12))
    figure = Figure(figsize=(9, height), layout="compressed")
    axes = figure.subplots()
    _frame(axes)
    axes.set(aspect="equal", xlabel="easting, m", ylabel="northing, m")
    return figure, axes


def _frame(axes: Axes) -> None:
    """A map has a frame, whole numbers of metres, and no grid lines."""
    axes.grid(visible=False)
    axes.spines[:].set_visible(True)
    axes.ticklabel_format(useOffset=False, style="plain")


def _extent(bounds: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    x_min, y_min, x_max, y_max = bounds
    return x_min, x_max, y_min, y_max


def _pale(values: np.ndarray) -> np.ndarray:
    """A pale picture (y, x, 3) in 0..1, white without data, so that the folds' colours stand out."""
    data = (values != 0).any(axis=0)
    shown = np.ones((*values.shape[1:], 3))
    if data.any():
        low, high = np.percentile(values[:, data], (2, 98), axis=1)
        stretched = (np.moveaxis(values, 0, -1) - low) / np.maximum(high - low, 1e-9)
        shown[data] = 0.6 + 0.4 * stretched.clip(0, 1)[data]
    return shown


def _fold_colour(fold: int) -> tuple[float, float, float]:
    """The colour of a fold; black for the test region, which is in none."""
    return FOLD_COLOURS[fold % len(FOLD_COLOURS)] if fold >= 0 else (0.0, 0.0, 0.0)


def _unit(colour: Rgb) -> tuple[float, ...]:
    """0 to 255 as matplotlib's 0 to 1."""
    return tuple(part / 255 for part in colour)


def _marker(shape: str, fill: Any, edge: str, label: str) -> Line2D:
    """An entry of a legend."""
    return Line2D(
        [], [], linestyle="none", marker=shape, markersize=6, markerfacecolor=fill, markeredgecolor=edge, label=label
    )
