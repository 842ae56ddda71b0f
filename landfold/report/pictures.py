"""Which figure is drawn from which files: the pictures of metrics/plots, and the charts of the page."""

from collections.abc import Callable
from functools import partial
from typing import Any

import geopandas
import numpy as np
import pandas
from matplotlib.figure import Figure
from rasterio.crs import CRS

from landfold.core.files import read_json
from landfold.folds.lists import read_assignment, read_index, read_split
from landfold.geo.raster import Raster
from landfold.maps.colours import ColourSettings
from landfold.report.charts import (
    accuracy_by_distance,
    distance_distributions,
    gap_bars,
    reliability_diagram,
    training_curves,
    zone_accuracies,
)
from landfold.report.figures import png, svg
from landfold.report.maps import Imagery, class_map, error_map, fold_map
from landfold.report.result import ReportError, Sources

MOST_BACKDROPS = 8
"""Scenes on the map of folds: a data set of thousands of tiles shows a few."""


def draw(name: str, sources: Sources, colours: ColourSettings) -> bytes:
    """A picture of `PICTURES` as PNG, or a chart of `CHARTS` as SVG.

    Raises:
        ReportError: naming a file that is not there.
    """
    try:
        return png(PICTURES[name](sources, colours)) if name in PICTURES else svg(CHARTS[name](sources))
    except FileNotFoundError as error:
        raise ReportError(f"picture {name}: {error}; run `dvc repro`, so that its stage writes it") from None


def _folds(sources: Sources, _: ColourSettings) -> Figure:
    index = read_index(sources.folds)
    table = pandas.read_parquet(sources.patches, columns=["patch", "x", "y"])
    splits = [read_split(index.list_of("fold", fold), table["patch"]) for fold in index.folds[: index.k]]
    table["fold"] = read_assignment(sources.folds)["fold"]
    table["buffer"] = np.any([split.buffer for split in splits], axis=0)
    zones = geopandas.read_file(sources.folds / "zones.gpkg", layer="zones")
    backdrops = []
    for path in sorted(sources.scenes.glob("*.tif"))[:MOST_BACKDROPS]:
        with Raster.open(path) as scene:
            if scene.grid.crs == CRS.from_user_input(zones.crs):
                backdrops.append(Imagery.of(scene, longest_px=900))
    return fold_map(zones, table, backdrops=backdrops)


def _errors(sources: Sources, colours: ColourSettings) -> Figure:
    predictions = pandas.read_parquet(sources.predictions, columns=["x", "y", "repeat", "label", "predicted"])
    classes = read_json(sources.card)["classes"]
    zones = geopandas.read_file(sources.folds / "zones.gpkg", layer="zones")
    first = predictions[predictions["repeat"] == 0]
    return error_map(zones, first, dict(zip(classes, colours.rgb(classes), strict=True)))


def _map(sources: Sources, colours: ColourSettings) -> Figure:
    """Of the first scene."""
    path, applicability = min(sources.normalized.glob("*.tif")), sources.applicability()
    outside = applicability and applicability["scenes"][path.stem]["outside"]
    with Raster.open(path) as scene:
        palette = colours.rgb(read_json(sources.card)["classes"])
        return class_map(scene, sources.maps, path.stem, palette, outside=outside)


def _gap(sources: Sources, _: ColourSettings) -> Figure:
    """Of what was scored under both kinds of folds: the network, if it was, and the audit's two classifiers.

    Pixels take the place of the bare coordinates, which the page tells in words.
    """
    summary, audit = (_metrics(sources, name) for name in ("summary", "audit"))
    baseline = {f"band statistics ({audit['baseline'].replace('_', ' ')})": audit}
    if "gap" in summary.get("pixels", {}):
        splits = _metrics(sources, "scores")["pixels"]["splits"]
        return gap_bars({"network, patches": summary} | baseline, splits | {"gap": summary["pixels"]["gap"]})
    network = {"network": summary} if "gap" in summary else {}
    return gap_bars(network | baseline | {"coordinates alone": audit["coordinates"]})


def _audit_distances(sources: Sources, _: ColourSettings) -> Figure:
    held_out = _metrics(sources, "audit")["distances"]["held_out_to_train"]
    wasserstein_m = {split: quantiles["wasserstein_m"] for split, quantiles in held_out.items()}
    return distance_distributions(pandas.read_parquet(sources.audit / "distances.parquet"), wasserstein_m)


def _accuracy_by_distance(sources: Sources, _: ColourSettings) -> Figure:
    return accuracy_by_distance(pandas.read_parquet(sources.audit / "baseline.parquet"))


PICTURES: dict[str, Callable[[Sources, ColourSettings], Figure]] = {
    "map": _map,
    "errors": _errors,
    "folds": _folds,
    "gap": _gap,
    "audit_distances": _audit_distances,
    "accuracy_by_distance": _accuracy_by_distance,
}
"""Of metrics/plots, by the name of the file."""


def _curves(sources: Sources, *, score: str) -> Figure:
    return training_curves(pandas.read_csv(sources.history), score)


def _reliability(sources: Sources) -> Figure:
    scores = _metrics(sources, "scores")
    return reliability_diagram(scores.get("pixels", scores)["calibration"]["reliability"])


def _zones(sources: Sources) -> Figure:
    scores = _metrics(sources, "scores")
    of = "pixels" if "pixels" in scores else "patches"
    scores = scores.get("pixels", scores)
    median, pooled = scores["zone_summary"]["median_accuracy"], scores["headline"]["accuracy"]["pooled"]
    return zone_accuracies(scores["per_zone"], of=of, median=median, pooled=pooled)


def _metrics(sources: Sources, name: str) -> dict[str, Any]:
    return read_json(sources.metrics / f"{name}.json")


CHARTS: dict[str, Callable[[Sources], Figure]] = {
    "loss": partial(_curves, score="loss"),
    "accuracy": partial(_curves, score="accuracy"),
    "reliability": _reliability,
    "zones": _zones,
}
"""Of the page alone: `dvc plots` draws these numbers itself."""
