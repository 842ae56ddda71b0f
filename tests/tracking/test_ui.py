"""The address of MLflow's page."""

import os

import pytest
import yaml

from landfold.tracking import ui, view
from tests.tracking.results import DEAD_SERVER, PARAMS, client, make_root


def test_page_opens_at_the_runs_as_the_view_shows_them(recorded):
    experiment = client(recorded).get_experiment_by_name("meadows").experiment_id
    (recorded / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    query = "workflowType=machine_learning"
    assert ui.page_path(recorded / "mlflow.db", recorded) == (
        f"experiments/{experiment}/runs?{query}&viewStateShareKey={view.VIEW_KEY}"
    )
    for file, folder in (
        (None, recorded),
        (recorded / "mlflow.db", recorded / "metrics"),
        (recorded / "dvc.yaml", recorded),
    ):
        assert ui.page_path(file, folder) == f"experiments?{query}"


def test_page_of_a_server_is_named_without_the_password(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD_SERVER)
    ui.main("5000", tmp_path)
    assert capsys.readouterr().out.endswith("its own page: http://127.0.0.1:9\n")


@pytest.mark.parametrize("name", ["mlflow.db", "other.db"])
def test_page_of_a_database_has_its_uri_from_the_environment(tmp_path, monkeypatch, name):
    folder = make_root(tmp_path / "project")
    (folder / "mlflow.db").rename(folder / name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "" if name == "mlflow.db" else f"sqlite:///{name}")
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", "")  # so that it is forgotten after the test
    began = []
    monkeypatch.setattr(ui.os, "execv", lambda _, command: began.append(command))
    ui.main("5071", folder)
    assert began[0][1:] == ["-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", "5071"]
    assert os.environ["MLFLOW_BACKEND_STORE_URI"] == f"sqlite:///{folder}/{name}"
