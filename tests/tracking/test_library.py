"""MLflow is quiet, and its errors are plain."""

import pytest

from landfold import tracking
from landfold.tracking import TrackingError, UnreachableStoreError
from landfold.tracking.completion import complete
from landfold.tracking.library import explained_errors
from tests.tracking.results import K, rich, train


def test_what_a_server_answers_is_reported_without_secrets(monkeypatch):
    from mlflow.exceptions import MlflowException

    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "abcd-efgh")
    answer = "no access by abcd-efgh to https://store/x?sig=12345&v=1\nand more"
    with pytest.raises(UnreachableStoreError) as caught, explained_errors("https://me:mine@host/"):
        raise MlflowException(answer)
    assert str(caught.value) == "https://host/: no access by *** to https://store/x?sig=***&v=1"


def test_a_request_that_a_database_refuses_does_not_condemn_the_database(root):
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

    uri = tracking.store_uri(root)
    with pytest.raises(TrackingError, match=r"mlflow\.db: no such alias$"), explained_errors(uri):
        raise MlflowException("no such alias", INVALID_PARAMETER_VALUE)


def test_file_store_is_refused_in_one_sentence_or_used_where_allowed(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "runs")
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    train(tmp_path, 0, k=K)
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert "no longer keeps runs in plain files; name a database such as sqlite:///mlflow.db" in said
    with pytest.raises(TrackingError, match=r"MLFLOW_TRACKING_URI .*/runs: this MLflow no longer keeps runs in plain"):
        complete(rich(tmp_path))
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    assert complete(rich(tmp_path)).restored == K
    assert not complete(rich(tmp_path)).changed
    assert list((tmp_path / "runs").rglob("artifacts/tables/per_class.csv"))
