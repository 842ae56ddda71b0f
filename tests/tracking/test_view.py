"""The saved view of the experiment."""

import base64
import json
import zlib

from landfold.tracking import view
from landfold.tracking.completion import complete
from tests.tracking.results import (
    SUMMARY,
    client,
    history,
    make_root,
    rich,
    runs,
)


def test_experiment_has_a_view_of_columns_and_charts_that_the_runs_have(recorded, parent, children):
    tags = client(recorded).get_experiment_by_name("meadows").tags
    saved = json.loads(tags[view.VIEW])
    kind, _, packed = saved["state"].partition(";")
    assert (saved["name"], kind) == ("Review", "deflate")
    state = json.loads(zlib.decompress(base64.b64decode(packed)))
    # MLflow's own conditions for nesting folds below their result, and for keeping widths
    assert state["orderByKey"] == "attributes.start_time"
    assert set(state["selectedColumns"]) <= set(state["columnOrder"])
    assert set(state["columnWidths"]) <= set(state["columnOrder"])
    there = {f"metrics.`{name}`" for run in (parent, *children.values()) for name in run.data.metrics}
    there |= {f"tags.`{name}`" for name in parent.data.tags}
    assert set(state["selectedColumns"]) <= there
    charts = {chart["metricKey"]: chart for chart in state["compareRunCharts"]}
    assert len(charts) == len(state["compareRunCharts"])
    assert {chart["metricSectionId"] for chart in charts.values()} == {s["uuid"] for s in state["compareRunSections"]}
    curves = {name for name in history(0)[0] if name != "epoch"}
    assert {name for name, chart in charts.items() if chart["type"] == "LINE"} >= curves
    assert {charts[name]["xAxisKey"] for name in curves} == {"step"}


def test_a_view_that_somebody_changed_is_left_alone(tmp_path, monkeypatch):
    folder = make_root(tmp_path / "project")
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    complete(rich(folder))
    experiment = client(folder).get_experiment_by_name("meadows").experiment_id
    client(folder).set_experiment_tag(experiment, view.VIEW, "mine")
    complete(rich(folder, summary=SUMMARY | {"patches": 31}))
    assert client(folder).get_experiment(experiment).tags[view.VIEW] == "mine"
    assert len([run for run in runs(folder) if "landfold.key" in run.data.tags]) == 2
