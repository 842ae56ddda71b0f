"""Every way in which a result can come about ends with one complete parent run in MLflow, k children, no orphans.

Real git, DVC and sqlite; trainings are stubs (tests/projects.py). Each test starts from what the others left.
"""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.projects import PATIENCE_S, ROOT, Project, Recorded, dead_port, ran, recorded, small_project, wait_for

K = 2
LIVE, RESTORED = {0: "live", 1: "live"}, {0: "restored", 1: "restored"}
ONE_LIVE = {0: "restored", 1: "live"}
"""Fold 1 was trained; fold 0 is an earlier result's, whose live run that one has."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project with a result, committed. It came about by folds side by side, as by ``make folds``: the first way."""
    project = small_project(tmp_path_factory.mktemp("ways") / "clone with space")
    assert "xargs -P $(JOBS) -I{} dvc --wait-for-lock repro -s {}" in (ROOT / "Makefile").read_text(encoding="utf-8")
    script = "dvc stage list --name-only | grep ^train@ | xargs -P 2 -I{} dvc --wait-for-lock repro -s {}"
    (project.folder.parent / "folds.sh").write_text(script, encoding="utf-8")
    hold = project.folder.parent / "hold"
    hold.mkdir()
    with project.begun("sh ../folds.sh", HOLD=str(hold)) as process:
        wait_for(lambda: len(list(hold.iterdir())) == K or process.poll() is not None, "both trainings to run at once")
        shutil.rmtree(hold)
        output, _ = process.communicate(timeout=PATIENCE_S)
    assert sorted(ran(output)) == ["train@0", "train@1"], output
    assert ran(project("dvc repro")) == ["evaluate", "track"]
    assert [found.folds for found in results(project).values()] == [LIVE]
    project.commit("result")
    yield project
    project.end()


@pytest.fixture(autouse=True)
def _as_committed(project: Project) -> Iterator[None]:
    yield
    project.end()
    project("git reset -q --hard")
    project("dvc checkout -q")


def results(project: Project) -> dict[str, Recorded]:
    return recorded(project.folder / "mlflow.db", K)


def added(project: Project, before: dict[str, Recorded]) -> list[Recorded]:
    """Results that have come since; none of the earlier ones may change."""
    now = results(project)
    assert {key: now.get(key) for key in before} == before
    return [found for key, found in now.items() if key not in before]


def forget(project: Project, *names: str) -> None:
    for name in names:
        path = project.folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_restored_from_the_run_cache(project: Project) -> None:
    before = results(project)
    forget(project, "models", "metrics", "dvc.lock")
    output = project("dvc repro")
    assert ran(output) == ["track"]
    assert "track: nothing to do" in output
    assert added(project, before) == []


def test_deleted_database(project: Project) -> None:
    earlier = results(project)
    forget(project, "mlflow.db", "mlruns")
    output = project("dvc repro")
    assert ran(output) == ["track"]
    ((key, found),) = results(project).items()
    assert (key in earlier, found.folds) == (True, RESTORED)


def test_experiment_run_a_setting_back_and_applied(project: Project) -> None:
    before = results(project)
    output = project("dvc exp run -n steeper -S train.weight_decay=0.3")
    assert ran(output) == ["train@1", "evaluate", "track"]
    (found,) = added(project, before)
    assert found == Recorded("steeper", ONE_LIVE)
    project.set(train__weight_decay=0.1)
    assert ran(project("dvc repro")) == ["track"]
    project("git reset -q --hard")
    project("dvc exp apply steeper")
    assert ran(project("dvc repro")) == ["track"]
    assert added(project, before) == [found]


def test_temporary_experiment(project: Project) -> None:
    before = results(project)
    project("dvc exp run --temp -n aside -S train.weight_decay=0.4")
    assert added(project, before) == [Recorded("aside", ONE_LIVE)]
    assert project("git status --porcelain") == ""


def test_two_queued_experiments_at_once_are_shown_compared_and_applied(project: Project) -> None:
    before = results(project)
    for name, rate in (("third", 0.51), ("fourth", 0.52)):
        project(f"dvc exp run --queue -n {name} -S train.weight_decay={rate}")
    assert added(project, before) == []
    project.run_queue(workers=2)
    found = sorted(added(project, before), key=lambda result: result.name)
    logs = "\n".join(project(f"dvc queue logs {name}") for name in ("third", "fourth"))
    assert found == [Recorded("fourth", ONE_LIVE), Recorded("third", ONE_LIVE)], logs
    assert {"third", "fourth"} <= set(project("dvc exp list --name-only").split())
    shown = project("dvc exp show --csv")
    assert {"third", "fourth", "main"} <= set(shown.replace("\n", ",").split(","))
    assert "train.weight_decay" in project("dvc exp diff main third")
    project("dvc exp branch third kept")
    assert {"dvc.lock", "params.yaml"} <= set(project("git diff --name-only main kept").splitlines())
    project("dvc exp apply third")
    assert "weight_decay: 0.51" in project("git diff params.yaml")
    assert ran(project("dvc repro")) == ["track"]
    assert len(added(project, before)) == 2


def test_killed_in_the_middle(project: Project, tmp_path: Path) -> None:
    before = results(project)
    project.set(train__weight_decay=0.6)
    hold = tmp_path / "hold"
    hold.mkdir()
    with project.begun("dvc repro", HOLD=str(hold)) as process:
        wait_for(lambda: (hold / "fold_1").exists(), "the training")
        os.killpg(process.pid, signal.SIGKILL)  # DVC and the training at once, as when the power goes
    wait_for(lambda: not project.processes(), "both to be gone")
    with pytest.raises(AssertionError, match="RUNNING"):
        results(project)
    shutil.rmtree(hold)
    assert ran(project("dvc repro")) == ["train@1", "evaluate", "track"]
    assert [found.folds for found in added(project, before)] == [ONE_LIVE]


def test_tracking_server_down(project: Project) -> None:
    before = results(project)
    project.set(train__weight_decay=0.7)
    with dead_port() as port:
        output = project("dvc repro", MLFLOW_TRACKING_URI=f"http://anna:geheim@127.0.0.1:{port}")
    assert ran(output) == ["train@1", "evaluate", "track"]
    assert output.count("training goes on without MLflow") == 1
    assert output.count("track: warning: not recorded, run `dvc repro` again to complete it") == 1
    assert "geheim" not in output
    assert added(project, before) == []
    assert ran(project("dvc repro")) == ["track"]
    (found,) = added(project, before)
    assert found.folds == RESTORED
