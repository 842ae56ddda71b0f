"""No secret is printed or kept."""

import pytest
import yaml

from landfold import tracking
from landfold.tracking.completion import complete
from landfold.tracking.redaction import error_summary, redact_secrets
from tests.tracking.results import DEAD_SERVER, PASSWORD, TOKEN, artifacts, rich


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("http://anna:gehe!m@host:5000/path", "http://host:5000/path"),
        ("postgresql://u:p@db/x?password=secret", "postgresql://db/x"),
        ("http://host", "http://host"),
        ("http://u:p@[broken", "the tracking server"),
    ],
)
def test_is_shown_without_secrets(uri, expected):
    assert tracking.redact_uri(uri) == expected


def test_errors_lose_their_secrets(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0ken")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://anna:ge%21m@host")
    text = "GET http://anna:ge%21m@host/x failed for anna:ge!m with t0ken, see http://bob:pw@other"
    summary = error_summary(RuntimeError(text))
    assert not any(secret in summary for secret in ("ge%21m", "ge!m", "t0ken", "pw"))
    assert summary.startswith("GET http://host/x failed")


def test_no_secret_is_kept(recorded, parent):
    uploaded = [path for path in (recorded / "mlruns").rglob("*") if path.is_file()]
    assert len(uploaded) > 10
    for path in [*uploaded, *recorded.glob("mlflow.db*")]:
        for secret in (PASSWORD, TOKEN, "0123abc"):
            assert secret.encode() not in path.read_bytes(), path
    assert parent.data.params["ingest.source"] == "https://***@data.example/scenes?band=B02&X-Amz-Signature=***"
    kept = yaml.safe_load((artifacts(recorded, parent) / "params.yaml").read_text())
    assert kept["ingest"]["source"] == parent.data.params["ingest.source"]
    assert (artifacts(recorded, parent) / "metrics/report.html").read_text() == "<p>https://***@data.example ***</p>"


@pytest.mark.parametrize(
    "text", ["https://data.example/a@b?band=B02", "mail anna@example.org", "src: git@host:path", "a //@ comment", ""]
)
def test_ordinary_text_is_left_alone(text):
    assert redact_secrets(text) == text


@pytest.mark.parametrize("secret", ["p@ss:w0rd", "pa%2Fss"])
def test_password_in_the_tracking_uri_is_redacted_wherever_it_stands(monkeypatch, secret):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://anna:{secret}@host:5000/x?token=abcd")
    text = f"at http://anna:{secret}@host:5000/x?token=abcd, password {secret}"
    assert redact_secrets(text) == "at http://host:5000/x, password ***"


def test_error_of_a_dead_server_names_no_user(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD_SERVER)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "bert-the-user")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(tracking.UnreachableStoreError, match=r"^http://127\.0\.0\.1:9: ") as caught:
        complete(rich(tmp_path))
    assert not [word for word in ("anna", "gehe", "bert-the-user") if word in str(caught.value)]
