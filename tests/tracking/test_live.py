"""The run of a fold while it trains."""

import sys
import time

import pytest

from landfold import tracking
from landfold.tracking import LiveRun
from tests.tracking.results import (
    DEAD_SERVER,
    ON,
    K,
    client,
    make_root,
    runs,
    train,
    write_fold,
)


def test_curves_are_there_while_training_and_without_a_parent(root):
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
def test_an_exception_passes_and_ends_the_run(root, error, status):
    with (
        pytest.raises(error, match="diverged"),
        tracking.live_run(ON, "meadows", name="fold_0", fold=0, k=3, params={}),
    ):
        raise error("diverged")
    assert [run.info.status for run in runs(root)] == [status]


def test_without_finish_it_failed(root):
    with tracking.live_run(ON, "meadows", name="fold_0", fold=0, k=3, params={}):
        pass
    assert [run.info.status for run in runs(root)] == ["FAILED"]


def test_off_touches_nothing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)  # an import of it fails
    monkeypatch.chdir(tmp_path)
    off = ON.model_copy(update={"enabled": False})
    with tracking.live_run(off, "meadows", name="fold_0", fold=0, k=3, params={}) as run:
        run.log({"epoch": 1, "train_loss": 0.5})
        run.finish("abc")
    assert list(tmp_path.iterdir()) == []


def test_server_down_training_goes_on(root, monkeypatch, capfd):
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


def test_server_lost_on_the_way_is_told_once(root, monkeypatch, capfd):
    with tracking.live_run(ON, "meadows", name="fold_0", fold=0, k=3, params={}) as run:
        run.log({"epoch": 1, "train_loss": 0.5})
        monkeypatch.setattr(run.store.client, "log_batch", lambda *_: (_ for _ in ()).throw(OSError("gone")))
        for epoch in (2, 3):
            run.log({"epoch": epoch, "train_loss": 0.25})
        run.finish("abc")
    assert capfd.readouterr().err.count("gone") == 1
    assert [seen.info.status for seen in runs(root)] == ["RUNNING"]


def test_broken_database_training_goes_on(root, capfd):
    (root / "mlflow.db").write_bytes(b"not a database " * 100)
    train(root, 0)
    assert "move it away" in capfd.readouterr().err


def test_null_run_says_nothing(capfd):
    run = LiveRun()
    run.log({"epoch": 1, "train_loss": 0.5})
    run.end("FINISHED")
    assert capfd.readouterr() == ("", "")


def test_system_metrics_are_noted_when_asked_for(tmp_path, monkeypatch, capfd):
    folder = make_root(tmp_path / "project")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    settings = ON.model_copy(update={"system_metrics": True})
    with tracking.live_run(settings, "meadows", name="fold_0", fold=0, k=K, params={}, workspace=folder) as run:
        run.log({"epoch": 1, "train_loss": 0.5})
        deadline = 100
        while deadline and not any(name.startswith("system/") for name in runs(folder)[0].data.metrics):
            deadline -= 1
            run.monitor._process.join(0.1)
        run.finish(write_fold(folder / "models/k2/fold_0", 0, K))
    (seen,) = runs(folder)
    assert seen.data.metrics["train_loss"] == 0.5
    assert "system/cpu_utilization_percentage" in seen.data.metrics
    assert capfd.readouterr() == ("", "")


def test_a_training_that_goes_on_shows_the_epochs_before_it_was_stopped(tmp_path, monkeypatch):
    from landfold.network.callbacks import TrainingCallbacks
    from landfold.network.checkpoints import Checkpoint
    from tests.network.tiny import trained

    folder = make_root(tmp_path / "project")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def training(on_epoch=lambda row: None):
        with (
            Checkpoint(tmp_path / "states") as checkpoint,
            tracking.live_run(ON, "meadows", name="fold_0", fold=0, k=K, params={}, workspace=folder) as live,
        ):
            callbacks = TrainingCallbacks(on_epoch=lambda row: (live.log(row), on_epoch(row)))
            result = trained(epochs=3, checkpoint=checkpoint, callbacks=callbacks)
            live.finish("abc")
            return result

    def stop(row):
        if row["epoch"] == 2:
            raise KeyboardInterrupt("stopped")

    with pytest.raises(KeyboardInterrupt, match="stopped"):
        training(stop)
    told = training().history
    again, stopped = runs(folder)
    assert (stopped.info.status, again.info.status) == ("KILLED", "FINISHED")
    points = client(folder).get_metric_history(again.info.run_id, "train_loss")
    assert [point.step for point in points] == [1, 2, 3]
    assert [point.value for point in points] == list(told["train_loss"])
