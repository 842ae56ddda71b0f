"""Tracking against real sqlite databases; each test starts from a copy of one empty database."""

import json
import multiprocessing
import os
import shutil
import socket
import sys
import tempfile
import time
from contextlib import closing
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from landfold import tracking
from landfold.core.digests import digest
from landfold.core.files import main_checkout, write_json
from landfold.tracking import LiveRun, TrackingError, TrackSettings, UnreachableStoreError, completion
from landfold.tracking.completion import Completion, complete
from landfold.tracking.database import is_complete, read_only
from landfold.tracking.library import explained_errors, load_mlflow
from landfold.tracking.redaction import error_summary
from landfold.tracking.result import TrackedResult
from landfold.tracking.runs import Run, heartbeat, is_stale

ON = TrackSettings(enabled=True, maps_mb=1, system_metrics=False)
EPOCHS = 3
DEAD_SERVER = "http://anna:gehe!m@127.0.0.1:9"  # port 9, discard: refused at once
REPOSITORY = Path(__file__).parents[2]


class PowerCutError(BaseException):
    """Ends everything at once."""


@cache
def _empty_database() -> tuple[Path, tempfile.TemporaryDirectory]:
    folder = tempfile.TemporaryDirectory()
    file = Path(folder.name) / "mlflow.db"
    tracking.create_database(file)
    return file, folder


def make_root(folder: Path) -> Path:
    """A checkout with an empty MLflow database."""
    folder.mkdir(parents=True)
    shutil.copy(_empty_database()[0], folder / "mlflow.db")
    return folder


def history(fold: int) -> list[dict[str, float]]:
    return [
        {"epoch": epoch, "learning_rate": 0.01, "train_loss": 1 / (epoch + fold), "validation_accuracy": epoch / 10}
        for epoch in range(1, EPOCHS + 1)
    ]


def write_fold(folder: Path, fold: int, k: int, *, weights: str = "a") -> str:
    """A fold's folder as stage train leaves it; its digest."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(f"{weights} {fold}".encode())
    (folder / "predictions.parquet").write_bytes(b"PAR1")
    card = {"model": {"backbone": "resnet18"}, "train": {"epochs": EPOCHS}, "k": k, "fold": fold}
    data = {"patches_digest": "p", "statistics_digest": "s", "fold_digest": f"f{fold}"}
    write_json(folder / "model.json", card | data | {"channels": ["R", "NDVI"], "classes": ["farm", "Grünland"]})
    rows = history(fold)
    lines = [",".join(rows[0])] + [",".join(str(value) for value in row.values()) for row in rows]
    (folder / "history.csv").write_text("\n".join(lines) + "\n")
    return digest(folder)


def result_in(workspace: Path, k: int = 3, **changes) -> TrackedResult:
    """The result whose folds and metrics lie in a workspace; folds that are missing are written."""
    folds = [workspace / f"models/k{k}/fold_{fold}" for fold in range(k)]
    for fold, folder in enumerate(folds):
        if not folder.exists():
            write_fold(folder, fold, k)
    summary = {"zoned": {"accuracy": {"pooled": 0.7, "mean": 0.69, "std": 0.02}, "f1": {"Grünland": 0.5}}, "zones": 9}
    for name in ("summary.json", "plots/curves.csv"):
        (workspace / "metrics" / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace / "metrics" / name).write_text("{}")
    values = {
        "experiment": "meadows",
        "params": {"project": {"name": "meadows"}, "zones": {"k": k, "folds": list(range(k))}, "train": {"lr": 0.01}},
        "summary": summary,
        "folds": folds,
        "artifacts": [Path("metrics/summary.json"), Path("metrics/plots"), Path("dvc.lock")],
        "workspace": workspace,
    }
    return TrackedResult(**values | changes)


def train(workspace: Path, fold: int, k: int = 3, **options) -> None:
    """What stage train does for one fold, live."""
    params = tracking.flatten({"model": {"backbone": "resnet18"}, "train": {"epochs": EPOCHS}})
    with tracking.live_run(
        ON, "meadows", name=f"fold_{fold}", fold=fold, k=k, params=params, workspace=workspace
    ) as run:
        for row in history(fold):
            run.log(row)
        run.finish(write_fold(workspace / f"models/k{k}/fold_{fold}", fold, k, **options))


def client(root: Path):
    return load_mlflow().MlflowClient(tracking_uri=f"sqlite:///{root}/mlflow.db")


def runs(root: Path) -> list:
    found = client(root)
    return list(found.search_runs([found.get_experiment_by_name("meadows").experiment_id]))


def nested(root: Path) -> dict[str, dict[str, str]]:
    """Key of every complete parent: fold -> state of its child. Anything else in the experiment fails."""
    everything = runs(root)
    parents = {r.info.run_id: r.data.tags["landfold.key"] for r in everything if "landfold.key" in r.data.tags}
    shape: dict[str, dict[str, str]] = {key: {} for key in parents.values()}
    assert len(shape) == len(parents), "two parents of one key"
    for run in everything:
        assert run.info.status == "FINISHED"
        if run.info.run_id in parents:
            assert run.data.tags["landfold.complete"] == "true"
        else:
            children = shape[parents[run.data.tags["mlflow.parentRunId"]]]
            assert run.info.run_name not in children
            children[run.info.run_name] = run.data.tags["landfold.state"]
    return shape


def snapshot(root: Path) -> str:
    return json.dumps(sorted([r.to_dictionary() for r in runs(root)], key=lambda r: r["info"]["run_id"]))


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    folder = make_root(tmp_path / "a b ä#1")
    monkeypatch.chdir(folder)
    return folder


class TestStore:
    def test_is_in_the_checkout(self, tmp_path):
        assert tracking.store_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"

    @pytest.mark.parametrize("below", ["", "tmp1a2b", "tmp1a2b/deep/er"])
    def test_of_a_temporary_workspace_is_in_the_main_checkout(self, tmp_path, below):
        workspace = tmp_path / ".dvc/tmp/exps" / below
        workspace.mkdir(parents=True)
        assert main_checkout(workspace) == tmp_path

    def test_of_another_folder_below_dvc_is_its_own(self, tmp_path):
        assert main_checkout(tmp_path / ".dvc/tmp/other") == tmp_path / ".dvc/tmp/other"

    def test_environment_wins(self, tmp_path, monkeypatch):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
        assert tracking.store_uri(tmp_path) == "http://server:5000"

    def test_relative_sqlite_is_taken_from_the_main_checkout(self, tmp_path, monkeypatch):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///runs/all.db")
        assert tracking.store_uri(tmp_path / ".dvc/tmp/exps/tmp1") == f"sqlite:///{tmp_path}/runs/all.db"

    @pytest.mark.parametrize(
        ("uri", "expected"),
        [
            ("http://anna:gehe!m@host:5000/path", "http://host:5000/path"),
            ("postgresql://u:p@db/x?password=secret", "postgresql://db/x"),
            ("http://host", "http://host"),
            ("http://u:p@[broken", "the tracking server"),
        ],
    )
    def test_is_shown_without_secrets(self, uri, expected):
        assert tracking.redact_uri(uri) == expected

    def test_errors_lose_their_secrets(self, monkeypatch):
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0ken")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://anna:ge%21m@host")
        text = "GET http://anna:ge%21m@host/x failed for anna:ge!m with t0ken, see http://bob:pw@other"
        summary = error_summary(RuntimeError(text))
        assert not any(secret in summary for secret in ("ge%21m", "ge!m", "t0ken", "pw"))
        assert summary.startswith("GET http://host/x failed")

    def test_what_a_server_answers_is_reported_without_secrets(self, monkeypatch):
        from mlflow.exceptions import MlflowException

        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "abcd-efgh")
        answer = "no access by abcd-efgh to https://store/x?sig=12345&v=1\nand more"
        with pytest.raises(UnreachableStoreError) as caught, explained_errors("https://me:mine@host/"):
            raise MlflowException(answer)
        assert str(caught.value) == "https://host/: no access by *** to https://store/x?sig=***&v=1"

    def test_a_request_that_a_database_refuses_does_not_condemn_the_database(self, root):
        from mlflow.exceptions import MlflowException
        from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

        uri = tracking.store_uri(root)
        with pytest.raises(TrackingError, match=r"mlflow\.db: no such alias$"), explained_errors(uri):
            raise MlflowException("no such alias", INVALID_PARAMETER_VALUE)

    def test_four_processes_create_one_sound_database(self, tmp_path, capfd):
        in_processes(4, start_and_finish, tmp_path)
        assert capfd.readouterr() == ("", "")
        assert [run.info.status for run in runs(tmp_path)] == ["FINISHED"] * 4
        with closing(read_only(tmp_path / "mlflow.db")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert not list(tmp_path.glob("*.partial"))

    @pytest.mark.parametrize("character", ["%", "?"])
    def test_path_that_mlflow_misreads_is_refused(self, tmp_path, character):
        with pytest.raises(TrackingError, match=r"cannot use a database in a path with % or \?"):
            tracking.create_database(tmp_path / f"a{character}20b" / "mlflow.db")
        assert list(tmp_path.iterdir()) == []


class TestFlatten:
    def test_dots_text_and_json(self):
        values = {"train": {"lr": 1e-05, "name": "x", "on": True, "none": None}, "zones": {"folds": [0, 1]}}
        assert tracking.flatten(values) == {
            "train.lr": "1e-05",
            "train.name": "x",
            "train.on": "true",
            "train.none": "null",
            "zones.folds": "[0, 1]",
        }

    def test_names_that_mlflow_refuses(self):
        assert tracking.flatten({"classes": {"Äcker (öko)/1": "x" * 7000}}) == {"classes.Äcker _öko__1": "x" * 6000}


class TestLive:
    def test_curves_are_there_while_training_and_without_a_parent(self, root):
        with tracking.live_run(ON, "meadows", name="fold_1", fold=1, k=3, params={"train.lr": "0.1"}) as run:
            run.log({"epoch": 1, "train_loss": 0.5})
            run.log({"epoch": 2, "train_loss": 0.25})
            (seen,) = runs(root)
            assert seen.info.status == "RUNNING"
            points = client(root).get_metric_history(seen.info.run_id, "train_loss")
            assert [(point.step, point.value) for point in points] == [(1, 0.5), (2, 0.25)]
            assert seen.data.params == {"train.lr": "0.1"}
            assert seen.data.tags["landfold.state"] == "live"
            assert "mlflow.parentRunId" not in seen.data.tags
            run.finish("abc")
        (seen,) = runs(root)
        assert (seen.info.status, seen.data.tags["dvc.fold_digest"]) == ("FINISHED", "abc")

    @pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
    def test_an_exception_passes_and_ends_the_run(self, root, error, status):
        with (
            pytest.raises(error, match="diverged"),
            tracking.live_run(ON, "meadows", name="fold_0", fold=0, k=3, params={}),
        ):
            raise error("diverged")
        assert [run.info.status for run in runs(root)] == [status]

    def test_without_finish_it_failed(self, root):
        with tracking.live_run(ON, "meadows", name="fold_0", fold=0, k=3, params={}):
            pass
        assert [run.info.status for run in runs(root)] == ["FAILED"]

    def test_off_touches_nothing(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "mlflow", None)  # an import of it fails
        monkeypatch.chdir(tmp_path)
        off = ON.model_copy(update={"enabled": False})
        with tracking.live_run(off, "meadows", name="fold_0", fold=0, k=3, params={}) as run:
            run.log({"epoch": 1, "train_loss": 0.5})
            run.finish("abc")
        assert list(tmp_path.iterdir()) == []

    def test_server_down_training_goes_on(self, root, monkeypatch, capfd):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD_SERVER)
        start = time.perf_counter()
        train(root, 0)
        assert time.perf_counter() - start < 15
        out, err = capfd.readouterr()
        assert (root / "models/k3/fold_0/history.csv").exists()
        assert out == ""
        assert err.count("\n") == 1
        assert err.startswith("tracking: training goes on without MLflow; track will record it later: http://127.0.0.1")
        assert "anna" not in err
        assert "gehe" not in err

    def test_server_lost_on_the_way_is_told_once(self, root, monkeypatch, capfd):
        with tracking.live_run(ON, "meadows", name="fold_0", fold=0, k=3, params={}) as run:
            run.log({"epoch": 1, "train_loss": 0.5})
            monkeypatch.setattr(run.store.client, "log_batch", lambda *_: (_ for _ in ()).throw(OSError("gone")))
            for epoch in (2, 3):
                run.log({"epoch": epoch, "train_loss": 0.25})
            run.finish("abc")
        assert capfd.readouterr().err.count("gone") == 1
        assert [seen.info.status for seen in runs(root)] == ["RUNNING"]

    def test_broken_database_training_goes_on(self, root, capfd):
        (root / "mlflow.db").write_bytes(b"not a database " * 100)
        train(root, 0)
        assert "move it away" in capfd.readouterr().err


class TestComplete:
    def test_live_runs_become_children_of_one_parent(self, root, monkeypatch, capfd):
        monkeypatch.setenv("DVC_EXP_NAME", "blunt-gnus")
        for fold in range(3):
            train(root, fold)
        result = result_in(root)
        outcome = complete(result)
        assert (outcome.changed, outcome.live, outcome.restored, outcome.deleted) == (True, 3, 0, 0)
        assert nested(root) == {result.key: {"fold_0": "live", "fold_1": "live", "fold_2": "live"}}
        (parent,) = [run for run in runs(root) if "landfold.key" in run.data.tags]
        assert parent.info.run_name == parent.data.tags["dvc.exp_name"] == "blunt-gnus"
        assert parent.data.params == {
            "project.name": "meadows", "zones.k": "3", "zones.folds": "[0, 1, 2]", "train.lr": "0.01"
        }  # fmt: skip
        assert parent.data.metrics == {
            "zoned.accuracy.pooled": 0.7, "zoned.accuracy.mean": 0.69, "zoned.accuracy.std": 0.02,
            "zoned.f1.Grünland": 0.5, "zones": 9,
        }  # fmt: skip
        folder = root / "mlruns" / parent.info.run_id / "artifacts/metrics"
        assert (folder / "summary.json").is_file()
        assert (folder / "plots/curves.csv").is_file()
        assert capfd.readouterr() == ("", "")

    def test_again_changes_nothing_and_imports_nothing(self, root, monkeypatch):
        complete(result_in(root))
        before = snapshot(root)
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "mlflow", None)  # an import of it fails
            assert complete(result_in(root)) == Completion()
        # and so says the way through mlflow, which servers take
        monkeypatch.setattr(completion, "is_complete", lambda *_: False)
        assert complete(result_in(root)) == Completion()
        assert snapshot(root) == before

    def test_folds_without_a_live_run_are_copied_from_files(self, root):
        train(root, 1)
        outcome = complete(result_in(root))
        assert (outcome.live, outcome.restored) == (1, 2)
        (children,) = nested(root).values()
        assert children == {"fold_0": "restored", "fold_1": "live", "fold_2": "restored"}
        by_name = {run.info.run_name: run for run in runs(root)}
        live, restored = by_name["fold_1"], by_name["fold_2"]
        assert restored.data.params == live.data.params == {"model.backbone": "resnet18", "train.epochs": "3"}
        for fold, run in ((1, live), (2, restored)):
            assert run.data.metrics.keys() == {"learning_rate", "train_loss", "validation_accuracy"}
            points = client(root).get_metric_history(run.info.run_id, "train_loss")
            expected = [(row["epoch"], row["train_loss"]) for row in history(fold)]
            assert [(point.step, point.value) for point in points] == expected

    @pytest.mark.parametrize(
        "broken",
        [
            "create_run:3",
            "log_batch:1",
            "log_batch:4",
            "delete_tag:1",
            "log_inputs:2",
            "log_inputs:4",
            "set_terminated:1",
            "set_terminated:3",
            "log_artifacts:1",
        ],
    )
    def test_crash_in_the_middle_is_repaired(self, root, monkeypatch, broken):
        train(root, 0)
        name, _, nth = broken.partition(":")
        original, calls = getattr(load_mlflow().MlflowClient, name), []

        def crash(self, *args, **kwargs):
            calls.append(args)
            if len(calls) == int(nth):
                raise PowerCutError("power cut")
            return original(self, *args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(load_mlflow().MlflowClient, name, crash)
            with pytest.raises(PowerCutError, match="power cut"):
                complete(result_in(root))
        result = result_in(root)
        assert not is_complete(root / "mlflow.db", result.key, 3)
        assert complete(result).changed
        assert nested(root) == {result.key: {"fold_0": "live", "fold_1": "restored", "fold_2": "restored"}}
        assert complete(result_in(root)) == Completion()

    def test_two_results_that_share_folds_have_two_whole_parents(self, root):
        for fold in range(3):
            train(root, fold)
        first = result_in(root)
        complete(first)
        train(root, 2, weights="b")
        second = result_in(root, summary={"zoned": {"accuracy": {"pooled": 0.71}}})
        complete(second)
        assert nested(root) == {
            first.key: {"fold_0": "live", "fold_1": "live", "fold_2": "live"},
            second.key: {"fold_0": "restored", "fold_1": "restored", "fold_2": "live"},
        }

    @pytest.mark.parametrize(
        "change", [{"params": {"train": {"lr": 0.02}}}, {"summary": {"zones": 8}}, {"experiment": "forests"}]
    )
    def test_key_depends_on_everything(self, tmp_path, change):
        assert result_in(tmp_path).key == result_in(tmp_path).key
        assert result_in(tmp_path, **change).key != result_in(tmp_path).key

    def test_key_depends_on_the_folds(self, tmp_path):
        before = result_in(tmp_path).key
        write_fold(tmp_path / "models/k3/fold_1", 1, 3, weights="b")
        assert result_in(tmp_path).key != before

    def test_deleted_runs_come_back(self, root):
        train(root, 0)
        result = result_in(root)
        complete(result)
        expected = nested(root)
        by_name = {run.info.run_name: run.info.run_id for run in runs(root)}
        client(root).delete_run(by_name["fold_2"])
        assert complete(result_in(root)).restored == 1
        assert nested(root) == expected
        client(root).delete_run(by_name[result.name])
        outcome = complete(result_in(root))
        assert (outcome.live, outcome.restored) == (3, 0)  # the children of the deleted parent are adopted
        assert nested(root) == expected

    def test_deleted_experiment_comes_back(self, root):
        expected = result_in(root)
        complete(expected)
        client(root).delete_experiment(client(root).get_experiment_by_name("meadows").experiment_id)
        complete(result_in(root))
        assert list(nested(root)) == [expected.key]

    def test_forced_second_training_leaves_no_orphans(self, root):
        for _ in range(2):
            for fold in range(3):
                train(root, fold)
            outcome = complete(result_in(root))
        assert (outcome.live, outcome.deleted) == (0, 3)
        assert list(nested(root).values()) == [{"fold_0": "live", "fold_1": "live", "fold_2": "live"}]

    def test_crashed_trainings_are_cleared_and_running_ones_left(self, root):
        with pytest.raises(ValueError, match="diverged"):
            train_and_fail(root)
        in_processes(1, run_until_killed, root)
        assert sorted(run.info.status for run in runs(root)) == ["FAILED", "RUNNING"]
        with tracking.live_run(ON, "meadows", name="fold_1", fold=1, k=3, params={}) as training:
            outcome = complete(result_in(root))
            assert outcome.deleted == 2
            assert [r.info.run_id for r in runs(root) if r.info.status == "RUNNING"] == [training.run_id]
            training.finish("other")

    def test_temporary_experiment_is_recorded_in_the_main_checkout(self, root, monkeypatch):
        workspace = root / ".dvc/tmp/exps/tmpq1"
        workspace.mkdir(parents=True)
        monkeypatch.chdir(workspace)
        train(workspace, 0)
        result = result_in(workspace)
        complete(result)
        assert nested(root) == {result.key: {"fold_0": "live", "fold_1": "restored", "fold_2": "restored"}}
        assert not (workspace / "mlflow.db").exists()
        assert (root / "mlruns").is_dir()

    def test_fold_of_an_experiment_in_the_making_is_left(self, root):
        workspace = root / ".dvc/tmp/exps/tmpq1"
        workspace.mkdir(parents=True)
        train(workspace, 0, weights="b")
        assert complete(result_in(root)).deleted == 0
        complete(result_in(workspace))
        assert [c["fold_0"] for c in nested(root).values()].count("live") == 1

    def test_server_down(self, root, monkeypatch):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD_SERVER)
        with pytest.raises(UnreachableStoreError, match=r"^http://127\.0\.0\.1:9: ") as caught:
            complete(result_in(root))
        assert "gehe" not in str(caught.value)

    def test_broken_database(self, root):
        (root / "mlflow.db").write_bytes(b"not a database " * 100)
        with pytest.raises(TrackingError, match=r"mlflow\.db: not usable .*move it away") as caught:
            complete(result_in(root))
        assert not isinstance(caught.value, UnreachableStoreError)

    def test_half_a_database(self, root):
        content = (root / "mlflow.db").read_bytes()
        (root / "mlflow.db").write_bytes(content[: len(content) // 2])
        with pytest.raises(TrackingError, match=r"mlflow\.db: not usable .*move it away"):
            complete(result_in(root))

    def test_missing_fold(self, root):
        result = result_in(root)
        shutil.rmtree(root / "models/k3/fold_2")
        with pytest.raises(TrackingError, match=r"fold_2/model\.json: not found; run `dvc repro`"):
            complete(result)

    def test_broken_history(self, root):
        result = result_in(root)
        (root / "models/k3/fold_0/history.csv").write_text("epoch,train_loss\n1,high\n")
        with pytest.raises(TrackingError, match=r"history\.csv: expected a column epoch and numbers"):
            complete(result)


def in_processes(count: int, function, root: Path) -> None:
    """Run at once in processes of their own; forked, since each would import mlflow for seconds."""
    import_module("mlflow.store.tracking.sqlalchemy_store")
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=function, args=(root,)) for _ in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)


def start_and_finish(root: Path) -> None:
    with tracking.live_run(ON, "meadows", name="fold_0", fold=0, k=3, params={}, workspace=root) as run:
        run.finish("x")


def train_and_fail(root: Path) -> None:
    with tracking.live_run(ON, "meadows", name="fold_0", fold=0, k=3, params={}, workspace=root):
        raise ValueError("diverged")


def run_until_killed(root: Path) -> None:
    with tracking.live_run(ON, "meadows", name="fold_2", fold=2, k=3, params={}, workspace=root) as run:
        run.log({"epoch": 1, "train_loss": 0.5})
        os._exit(9)


class TestStaleRuns:
    @pytest.mark.parametrize(
        ("status", "changes", "stale"),
        [
            ("FINISHED", {}, True),
            ("FAILED", {}, True),
            ("FINISHED", {"workspace": "/"}, False),
            ("FINISHED", {"workspace": "/gone"}, True),
            ("FINISHED", {"host": "other"}, False),
            ("RUNNING", {}, False),
            ("RUNNING", {"process": f"{os.getpid()} 1.0"}, True),
            ("RUNNING", {"process": ""}, True),
            ("RUNNING", {"host": "other"}, False),
            ("RUNNING", {"host": "other", "time_ms": 1}, True),
            ("RUNNING", {"time_ms": 1}, True),
        ],
    )
    def test_rule(self, tmp_path, status, changes, stale):
        life = json.loads(heartbeat(tmp_path))
        assert life["host"] == socket.gethostname()
        run = Run("id", status, 0, {"landfold.heartbeat": json.dumps(life | changes)})
        assert is_stale(run, tmp_path) is stale

    def test_of_a_run_whose_tag_was_spoiled(self, tmp_path):
        assert is_stale(Run("id", "RUNNING", 0, {"landfold.heartbeat": "{"}), tmp_path)


def test_null_run_says_nothing(capfd):
    run = LiveRun()
    run.log({"epoch": 1, "train_loss": 0.5})
    run.end("FINISHED")
    assert capfd.readouterr() == ("", "")
