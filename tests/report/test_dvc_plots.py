"""The charts of `dvc plots`: dvc.yaml says what is drawn, .dvc/plots how."""

import json

import pytest
import yaml
from dvc_render.vega import VegaRenderer

from tests.imports import ROOT

PLOTS = [
    definition
    for plot in yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["plots"]
    for definition in plot.values()
]

ROWS = {
    "history": {
        "fold": "0", "epoch": "1", "train_loss": "1.5", "validation_loss": "1.6", "train_accuracy": "0.5",
        "validation_accuracy": "0.4",
    },
    "confusion": {"actual": "farm", "predicted": "water", "count": "3", "share": "0.25"},
    "per_class": {"class": "farm", "support": "4", "score": "f1", "value": "0.5", "low": "0.4", "high": "0.6"},
    "comparisons": {
        "comparison": "gap", "of": "random", "against": "zoned", "score": "accuracy", "of_value": "0.8",
        "against_value": "0.7", "difference": "0.1", "low": "0.05", "high": "0.15",
    },
    "reliability": {
        "scaled": "True", "bin": "7", "low": "0.4667", "high": "0.5333", "count": "4", "confidence": "0.5",
        "accuracy": "0.25",
    },
    "zones": {"zone": "E1N2", "fold": "0", "patches": "4", "accuracy": "0.25", "distance_m": "812.5"},
}  # fmt: skip
"""A row of each file of metrics/plots, as DVC reads it."""


def columns_of(plot):
    """The file of a plot, and the columns along its y axis."""
    ((path, columns),) = plot["y"].items()
    return path.removeprefix("metrics/plots/").removesuffix(".csv"), [columns] if isinstance(columns, str) else columns


def filled(plot, revisions):
    """The Vega specification that `dvc plots diff` makes of a plot."""
    name, ys = columns_of(plot)
    y = "dvc_inferred_y_value" if len(ys) > 1 else ys[0]
    points = [
        {**ROWS[name], y: ROWS[name][field], "rev": revision, "filename": f"{name}.csv", "field": field}
        for revision in revisions
        for field in ys
    ]
    definitions = [{"filename": f"{name}.csv", "field": field} for field in ys]
    return VegaRenderer(
        points,
        "plot",
        template=plot["template"],
        template_dir=str(ROOT / ".dvc/plots"),
        x=plot["x"],
        y=y,
        anchors_y_definitions=definitions,
        title=plot["title"],
        x_label="across",
        y_label="up",
    ).get_filled_template()


def named(part, key):
    """Every text that a specification has under a key, at any depth."""
    if isinstance(part, list):
        return {text for entry in part for text in named(entry, key)}
    if not isinstance(part, dict):
        return set()
    here = {part[key]} if isinstance(part.get(key), str) else set()
    return here | {text for value in part.values() for text in named(value, key)}


@pytest.mark.parametrize("plot", PLOTS, ids=lambda plot: plot["title"])
def test_dvc_fills_the_templates_and_they_tell_revisions_apart(plot):
    specification = filled(plot, ["main", "workspace"])
    data = specification.pop("data")
    assert "<DVC_METRIC" not in json.dumps([specification, data])
    assert specification["title"]["text"] == plot["title"]
    assert {point["rev"] for point in data["values"]} == {"main", "workspace"}
    used = named(specification, "field")
    assert "rev" in used
    files = {columns_of(other)[0] for other in PLOTS if other["template"] == plot["template"]}
    known = set(data["values"][0]).union(*(ROWS[name] for name in files))
    assert used <= known | named(specification, "as")


def test_every_template_is_used():
    assert {path.stem for path in (ROOT / ".dvc/plots").glob("*.json")} == {plot["template"] for plot in PLOTS}
