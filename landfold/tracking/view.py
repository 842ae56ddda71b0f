"""A saved view of MLflow's page of the experiment: the columns and charts for a review.

MLflow keeps a saved view as a tag of the experiment (as its page 3.17 writes it): JSON with a name and a state, which
is JSON again, deflated and in base64. Without a view the page shows no score and dozens of charts.
"""

import base64
import json
import zlib
from collections.abc import Mapping
from typing import Any

from landfold.tracking.store import Store

VIEW_KEY = "landfold-review"
"""The page opens the view by ``viewStateShareKey=landfold-review`` in its address."""

VIEW = f"mlflow.sharedViewState.{VIEW_KEY}"

COLUMNS = {
    "metrics.`zoned.accuracy.pooled`": 165,
    "metrics.`zoned.accuracy.low`": 145,
    "metrics.`zoned.accuracy.high`": 150,
    "metrics.`zoned.accuracy`": 120,  # of a fold
    "metrics.`zoned.macro_f1.pooled`": 167,
    "metrics.`gap.accuracy.pooled`": 152,
    "tags.`landfold.dirty`": 105,
    "tags.`landfold.data_digest`": 165,
}
"""Columns beside a run's name, from left to right, and their widths in pixels."""

OF_PIXELS = {
    "metrics.`pixels.accuracy.pooled`": 165,
    "metrics.`pixels.macro_f1.pooled`": 167,
    "metrics.`pixels.gap.accuracy.pooled`": 180,
    "metrics.`pixels.accuracy`": 120,  # of a fold
}
"""Columns before these where the network is one of pixels."""

CURVES = "Folds by epoch"

CHARTS = {
    "Results": (
        *("zoned.accuracy.pooled", "zoned.accuracy.low", "zoned.accuracy.high"),
        *("zoned.macro_f1.pooled", "gap.accuracy.pooled", "over_baseline.accuracy.pooled"),
    ),
    CURVES: ("validation_loss", "validation_accuracy", "train_loss", "train_accuracy", "learning_rate"),
    "Folds, each on its own zones": ("zoned.accuracy", "zoned.macro_f1", "temperature"),
}
"""Sections of charts and their metrics; the page puts all other metrics into a section below."""

PIXEL_CHARTS = {
    "Results by pixel": ("pixels.accuracy.pooled", "pixels.macro_f1.pooled", "pixels.gap.accuracy.pooled"),
    "Folds by pixel": ("pixels.accuracy", "pixels.macro_f1"),
}
"""Those before them where the network is one of pixels."""


def add_view(store: Store, *, pixels: bool) -> None:
    """Save the view in the experiment, unless it is there: the user may have changed it.

    Args:
        store: of the experiment.
        pixels: whether the results are of networks of pixels.
    """
    if VIEW not in store.client.get_experiment(store.experiment_id).tags:
        store.client.set_experiment_tag(store.experiment_id, VIEW, _view("Review", state(pixels=pixels)))


def _view(name: str, state: Mapping[str, Any]) -> str:
    packed = base64.b64encode(zlib.compress(json.dumps(state, separators=(",", ":")).encode(), 9)).decode()
    return json.dumps({"name": name, "createdAt": 0, "updatedAt": 0, "state": f"deflate;{packed}"})


def state(*, pixels: bool) -> dict[str, Any]:
    """The state in the page's own names; everything else is as by default."""
    columns, charts = (OF_PIXELS | COLUMNS, PIXEL_CHARTS | CHARTS) if pixels else (COLUMNS, CHARTS)
    order = ["attributes.`Run Name`", "runDateAndNestInfo", *columns, "duration"]
    return {
        "orderByKey": "attributes.start_time",  # in another order the page does not nest folds below their result
        "orderByAsc": False,
        "selectedColumns": list(columns),
        "columnOrder": order,
        "columnWidths": {"attributes.`Run Name`": 150, "runDateAndNestInfo": 130} | columns,
        "compareRunSections": [_section(name) for name in charts],
        "compareRunCharts": [_chart(section, metric) for section, metrics in charts.items() for metric in metrics],
        "isAccordionReordered": True,
        "runsHiddenMode": "FIRST_20_RUNS",
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    }


def _section(name: str) -> dict[str, Any]:
    return {"uuid": name, "name": name, "display": True, "isReordered": True, "deleted": False, "isGenerated": False}


def _chart(section: str, metric: str) -> dict[str, Any]:
    chart = {
        "uuid": f"{section}: {metric}",
        "type": "LINE" if section == CURVES else "BAR",
        "runsCountToCompare": 20,
        "metricSectionId": section,
        "metricKey": metric,
        "displayName": metric,
        "deleted": False,
        "isGenerated": True,
    }
    line = {
        "xAxisKey": "step",
        "selectedXAxisMetricKey": "",
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "lineSmoothness": 0,
        "range": {},
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "ignoreOutliers": False,
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
    }
    return chart | line if section == CURVES else chart
