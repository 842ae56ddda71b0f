"""One complete parent run for each result, however its folds were made."""

import shutil
import sys

import pytest

from landfold import tracking
from landfold.tracking import TrackingError, UnreachableStoreError, completion
from landfold.tracking.completion import Completion, complete
from landfold.tracking.database import is_complete
from landfold.tracking.library import load_mlflow
from tests.tracking.results import (
    DEAD_SERVER,
    ON,
    client,
    history,
    in_processes,
    nested,
    result_in,
    run_until_killed,
    runs,
    snapshot,
    train,
    train_and_fail,
)


class PowerCutError(BaseException):
    """Ends everything at once."""


def test_live_runs_become_children_of_one_parent(root, monkeypatch, capfd):
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


def test_again_changes_nothing_and_imports_nothing(root, monkeypatch):
    complete(result_in(root))
    before = snapshot(root)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "mlflow", None)  # an import of it fails
        assert complete(result_in(root)) == Completion()
    # and so says the way through mlflow, which servers take
    monkeypatch.setattr(completion, "is_complete", lambda *_: False)
    assert complete(result_in(root)) == Completion()
    assert snapshot(root) == before


def test_folds_without_a_live_run_are_copied_from_files(root):
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
def test_crash_in_the_middle_is_repaired(root, monkeypatch, broken):
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


def test_two_results_that_share_folds_have_two_whole_parents(root):
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


def test_deleted_runs_come_back(root):
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


def test_deleted_experiment_comes_back(root):
    expected = result_in(root)
    complete(expected)
    client(root).delete_experiment(client(root).get_experiment_by_name("meadows").experiment_id)
    complete(result_in(root))
    assert list(nested(root)) == [expected.key]


def test_forced_second_training_leaves_no_orphans(root):
    for _ in range(2):
        for fold in range(3):
            train(root, fold)
        outcome = complete(result_in(root))
    assert (outcome.live, outcome.deleted) == (0, 3)
    assert list(nested(root).values()) == [{"fold_0": "live", "fold_1": "live", "fold_2": "live"}]


def test_crashed_trainings_are_cleared_and_running_ones_left(root):
    with pytest.raises(ValueError, match="diverged"):
        train_and_fail(root)
    in_processes(1, run_until_killed, root)
    assert sorted(run.info.status for run in runs(root)) == ["FAILED", "RUNNING"]
    with tracking.live_run(ON, "meadows", name="fold_1", fold=1, k=3, params={}) as training:
        outcome = complete(result_in(root))
        assert outcome.deleted == 2
        assert [r.info.run_id for r in runs(root) if r.info.status == "RUNNING"] == [training.run_id]
        training.finish("other")


def test_temporary_experiment_is_recorded_in_the_main_checkout(root, monkeypatch):
    workspace = root / ".dvc/tmp/exps/tmpq1"
    workspace.mkdir(parents=True)
    monkeypatch.chdir(workspace)
    train(workspace, 0)
    result = result_in(workspace)
    complete(result)
    assert nested(root) == {result.key: {"fold_0": "live", "fold_1": "restored", "fold_2": "restored"}}
    assert not (workspace / "mlflow.db").exists()
    assert (root / "mlruns").is_dir()


def test_fold_of_an_experiment_in_the_making_is_left(root):
    workspace = root / ".dvc/tmp/exps/tmpq1"
    workspace.mkdir(parents=True)
    train(workspace, 0, weights="b")
    assert complete(result_in(root)).deleted == 0
    complete(result_in(workspace))
    assert [c["fold_0"] for c in nested(root).values()].count("live") == 1


def test_server_down(root, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD_SERVER)
    with pytest.raises(UnreachableStoreError, match=r"^http://127\.0\.0\.1:9: ") as caught:
        complete(result_in(root))
    assert "gehe" not in str(caught.value)


def test_broken_database(root):
    (root / "mlflow.db").write_bytes(b"not a database " * 100)
    with pytest.raises(TrackingError, match=r"mlflow\.db: not usable .*move it away") as caught:
        complete(result_in(root))
    assert not isinstance(caught.value, UnreachableStoreError)


def test_half_a_database(root):
    content = (root / "mlflow.db").read_bytes()
    (root / "mlflow.db").write_bytes(content[: len(content) // 2])
    with pytest.raises(TrackingError, match=r"mlflow\.db: not usable .*move it away"):
        complete(result_in(root))


def test_missing_fold(root):
    result = result_in(root)
    shutil.rmtree(root / "models/k3/fold_2")
    with pytest.raises(TrackingError, match=r"fold_2/model\.json: not found; run `dvc repro`"):
        complete(result)


def test_broken_history(root):
    result = result_in(root)
    (root / "models/k3/fold_0/history.csv").write_text("epoch,train_loss\n1,high\n")
    with pytest.raises(TrackingError, match=r"history\.csv: expected a column epoch and numbers"):
        complete(result)
