"""Tracking with a real MLflow server on this machine: over HTTP, with credentials, and when it dies on the way."""

import multiprocessing
import os
import socket
import time
from pathlib import Path

import pytest
import requests

from landfold import tracking
from landfold.core.digests import file_sha256
from landfold.tracking.completion import complete
from landfold.tracking.library import load_mlflow
from tests.tracking.results import ON, K, history, make_root, rich, train, write_fold

SECRETS = ("ge%21heim-pw", "ge!heim-pw", "t0ken-of-anna")


class Server:
    """`mlflow server` with a database and a folder for artifacts of its own, which it hands on (--serve-artifacts)."""

    def __init__(self, folder: Path) -> None:
        self.folder = make_root(folder)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.process: multiprocessing.Process | None = None

    @property
    def uri(self) -> str:
        """As a user writes it who puts the password into the URL."""
        return f"http://anna:{SECRETS[0]}@{self.address}"

    def start(self) -> None:
        load_mlflow()
        self.process = multiprocessing.get_context("fork").Process(target=self.serve)
        self.process.start()
        end = time.monotonic() + 120
        while True:
            try:
                if requests.get(f"http://{self.address}/health", timeout=1).ok:
                    return
            except requests.RequestException:
                pass
            assert time.monotonic() < end, (self.folder / "server.log").read_text()
            time.sleep(0.1)

    def serve(self) -> None:
        """The command of MLflow, without the process that it would begin: its imports take seconds."""
        import mlflow.cli
        import mlflow.server
        import uvicorn

        def run_here(command: list[str], *, extra_env: dict[str, str], **_: object) -> None:
            os.environ.update(extra_env)
            uvicorn.main(command[command.index("uvicorn") + 1 :])

        mlflow.server._exec_cmd = run_here
        os.chdir(self.folder)
        os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
        log = os.open("server.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(log, stream)
        options = f"server --workers 1 --host 127.0.0.1 --port {self.address.partition(':')[2]}"
        places = ["--backend-store-uri", "sqlite:///mlflow.db", "--artifacts-destination", str(self.folder / "bucket")]
        mlflow.cli.cli([*options.split(), *places])

    def kill(self) -> None:
        """At once, as when the power goes."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.process = None


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for name in ("no_proxy", "NO_PROXY"):
            patch.setenv(name, "127.0.0.1")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        server = Server(tmp_path_factory.mktemp("server") / "store")
        server.start()
        yield server
        server.kill()


@pytest.fixture
def workspace(server, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", SECRETS[2])
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    return tmp_path


def asked_back(server: Server, experiment: str):
    """A client, and the runs of an experiment: the parent, and its children by fold."""
    found = load_mlflow().MlflowClient(tracking_uri=server.uri)
    runs = found.search_runs([found.get_experiment_by_name(experiment).experiment_id])
    (parent,) = [run for run in runs if "landfold.key" in run.data.tags]
    children = {run.info.run_name: run for run in runs if run is not parent}
    assert {run.data.tags["mlflow.parentRunId"] for run in children.values()} == {parent.info.run_id}
    return found, parent, children


def test_a_result_by_http(server, workspace, capfd):
    train(workspace, 0, k=K)
    result = rich(workspace)
    assert str(complete(result)) == "result recorded: 1 folds live, 1 from files"
    assert not complete(result).changed
    client, parent, children = asked_back(server, "meadows")
    assert parent.data.metrics["zoned.accuracy.pooled"] == 0.71
    assert parent.data.tags["landfold.complete"] == "true"
    states = {name: run.data.tags["landfold.state"] for name, run in children.items()}
    assert states == {"fold_0": "live", "fold_1": "restored"}
    for fold, run in ((fold, children[f"fold_{fold}"]) for fold in range(K)):
        points = client.get_metric_history(run.info.run_id, "train_loss")
        assert [(p.step, p.value) for p in points] == [(row["epoch"], row["train_loss"]) for row in history(fold)]
        assert run.inputs.dataset_inputs[0].dataset.digest == result.data_digest[:36]
    assert parent.inputs.dataset_inputs[0].tags[0].value == "evaluation"
    assert {item.path for item in client.list_artifacts(parent.info.run_id)} == {
        "data", "dvc.lock", "dvc.yaml", "environment.txt", "metrics", "tables"
    }  # fmt: skip
    assert parent.info.artifact_uri.startswith("mlflow-artifacts:/")
    copy = client.download_artifacts(parent.info.run_id, "data/maps/a_class.tif", str(workspace))
    assert file_sha256(Path(copy)) == file_sha256(workspace / "data/maps/a_class.tif")
    assert not (workspace / "mlruns").exists()
    assert not list(workspace.glob("mlflow.db"))
    assert capfd.readouterr().err == ""
    for path in server.folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not [secret for secret in SECRETS if secret.encode() in content], path


def train_while_the_server_dies(workspace: Path, halfway, dead) -> None:
    with tracking.live_run(ON, "forests", name="fold_0", fold=0, k=K, params={}, workspace=workspace) as run:
        for row in history(0):
            run.log(row)
            if row["epoch"] == 1:
                halfway.set()
                dead.wait(120)
        run.finish(write_fold(workspace / f"models/k{K}/fold_0", 0, K))


def test_a_server_that_dies_in_a_training_gets_the_result_when_it_is_back(server, workspace, capfd):
    load_mlflow()
    fork = multiprocessing.get_context("fork")
    halfway, dead = fork.Event(), fork.Event()
    training = fork.Process(target=train_while_the_server_dies, args=(workspace, halfway, dead))
    training.start()
    assert halfway.wait(120)
    server.kill()
    dead.set()
    training.join(120)
    assert training.exitcode == 0
    result = rich(workspace, experiment="forests")
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith(
        f"tracking: training goes on without MLflow; track will record it later: http://{server.address}"
    )
    with pytest.raises(tracking.UnreachableStoreError, match=rf"^http://{server.address}: ") as caught:
        complete(result)
    server.start()
    assert str(complete(result)) == ("result recorded: 0 folds live, 2 from files; 1 runs without a result deleted")
    client, _, children = asked_back(server, "forests")
    points = client.get_metric_history(children["fold_0"].info.run_id, "train_loss")
    assert [point.step for point in points] == [1, 2, 3]
    assert not complete(result).changed
    said += str(caught.value) + capfd.readouterr().err
    assert not [secret for secret in (*SECRETS, "anna") if secret in said]
