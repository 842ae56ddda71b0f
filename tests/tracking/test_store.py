"""The store that results go to."""

import pytest
from mlflow.exceptions import MlflowException

from landfold import tracking
from landfold.core.files import main_checkout
from landfold.tracking.completion import complete
from landfold.tracking.store import Store
from tests.tracking.results import client, make_root, rich


def test_is_in_the_checkout(tmp_path):
    assert tracking.store_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"


@pytest.mark.parametrize("below", ["", "tmp1a2b", "tmp1a2b/deep/er"])
def test_of_a_temporary_workspace_is_in_the_main_checkout(tmp_path, below):
    workspace = tmp_path / ".dvc/tmp/exps" / below
    workspace.mkdir(parents=True)
    assert main_checkout(workspace) == tmp_path


def test_of_another_folder_below_dvc_is_its_own(tmp_path):
    assert main_checkout(tmp_path / ".dvc/tmp/other") == tmp_path / ".dvc/tmp/other"


def test_environment_wins(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    assert tracking.store_uri(tmp_path) == "http://server:5000"


def test_relative_sqlite_is_taken_from_the_main_checkout(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///runs/all.db")
    assert tracking.store_uri(tmp_path / ".dvc/tmp/exps/tmp1") == f"sqlite:///{tmp_path}/runs/all.db"


def test_dots_text_and_json():
    values = {"train": {"lr": 1e-05, "name": "x", "on": True, "none": None}, "zones": {"folds": [0, 1]}}
    assert tracking.flatten(values) == {
        "train.lr": "1e-05",
        "train.name": "x",
        "train.on": "true",
        "train.none": "null",
        "zones.folds": "[0, 1]",
    }


def test_names_that_mlflow_refuses():
    assert tracking.flatten({"classes": {"Äcker (öko)/1": "x" * 7000}}) == {"classes.Äcker _öko__1": "x" * 6000}


def test_experiment_says_what_to_look_at(recorded):
    tags = client(recorded).get_experiment_by_name("meadows").tags
    assert "`zoned.accuracy.pooled`" in tags["mlflow.note.content"]


def test_the_store_of_artifacts_fails_in_one_line_without_secrets(recorded, tmp_path, monkeypatch):
    workspace = make_root(tmp_path / "project")
    monkeypatch.chdir(workspace)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret-key")
    result = rich(workspace)

    def refuse(*_):
        raise ValueError("denied for s3cret-key at https://bob:hunter22@bucket")

    with monkeypatch.context() as patch:
        patch.setattr(type(client(workspace)), "log_artifacts", refuse)
        with pytest.raises(
            tracking.UnreachableStoreError, match=r"artifact store: denied for \*\*\* at https://\*\*\*@b"
        ):
            complete(result)
    assert complete(result).changed


def test_a_database_that_stays_locked_for_a_while_is_waited_for(recorded, monkeypatch):
    mlflow = client(recorded)
    store = Store(mlflow, "1")
    refusals = iter(2 * [MlflowException("(sqlite3.OperationalError) database is locked")])
    written = []

    def log_batch(*values: object) -> None:
        if refusal := next(refusals, None):
            raise refusal
        written.append(values)

    monkeypatch.setattr(mlflow, "log_batch", log_batch)
    store.write("run", metrics={"loss": 1.0}, time_ms=1)
    assert len(written) == 1
    monkeypatch.setattr(mlflow, "log_batch", lambda *_: (_ for _ in ()).throw(MlflowException("no such run")))
    with pytest.raises(MlflowException, match="no such run"):
        store.write("run", metrics={"loss": 1.0}, time_ms=1)
