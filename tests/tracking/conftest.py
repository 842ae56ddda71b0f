"""A checkout without a result, and one with a recorded result."""

from pathlib import Path

import pytest
import yaml

from landfold.tracking.completion import complete
from tests.tracking.results import PARAMS, TOKEN, K, git, make_root, rich, runs, train


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    folder = make_root(tmp_path / "a b ä#1")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="session")
def recorded(tmp_path_factory) -> Path:
    """A checkout with one complete result: fold 0 was trained live, fold 1 comes from its files."""
    folder = make_root(tmp_path_factory.mktemp("content") / "project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("MLFLOW_TRACKING_PASSWORD", TOKEN)
        patch.setenv("DVC_EXP_NAME", "blunt-gnus")
        rich(folder)
        (folder / "params.yaml").write_text(yaml.safe_dump(PARAMS))
        git(folder, "init", "-q", "-b", "trunk")
        git(folder, "add", "params.yaml", "dvc.yaml", "requirements.txt")
        git(folder, "commit", "-qm", "first")
        train(folder, 0, k=K)
        complete(rich(folder))
        complete(rich(folder))
    return folder


@pytest.fixture
def parent(recorded):
    (run,) = [run for run in runs(recorded) if "landfold.key" in run.data.tags]
    return run


@pytest.fixture
def children(recorded):
    return {run.info.run_name: run for run in runs(recorded) if "landfold.key" not in run.data.tags}
