"""The stage as DVC runs it, in its own process."""

import contextlib
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import stages.track
from landfold.core.files import write_json
from tests import factories
from tests.tracking.results import DEAD_SERVER, REPOSITORY, make_root, nested, write_fold

HEAVY = ("mlflow", "pandas", "torch", "rasterio", "sqlalchemy")
TRACK = {"enabled": True, "maps_mb": 1, "system_metrics": False}
CODE = f"""
import runpy, sys
sys.argv = ["stages/track.py"]
runpy.run_module("stages.track", run_name="__main__")
print("heavy:", [name for name in {HEAVY} if name in sys.modules])
"""


@pytest.fixture
def root(tmp_path) -> Path:
    return make_project(tmp_path / "project")


@pytest.fixture(scope="module")
def once(tmp_path_factory) -> tuple[Path, str]:
    """A project whose result is recorded, which takes seconds, and what the stage said."""
    folder = make_project(tmp_path_factory.mktemp("once") / "project")
    return folder, stage_here(folder)


@pytest.fixture
def recorded(once, tmp_path) -> Path:
    return shutil.copytree(once[0], tmp_path / "project")


def make_project(root: Path) -> Path:
    folder = make_root(root)
    for fold in range(2):
        write_fold(folder / f"models/k2/fold_{fold}", fold, 2)
    write_json(folder / "metrics/summary.json", {"zoned": {"accuracy": {"pooled": 0.7}}})
    write_settings(folder)
    return folder


def write_settings(folder: Path, **track) -> None:
    content = {"project": {"name": "meadows"}, "zones": {"k": 2, "folds": [0, 1]}, "track": TRACK | track}
    (folder / "params.yaml").write_text(yaml.safe_dump(factories.whole(content)))


def stage(root: Path, code: int = 0, **environment) -> str:
    """What the stage says."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_TRACKING", "DVC_"))}
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=root,
        env=kept | {"PYTHONPATH": str(REPOSITORY)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def stage_here(root: Path, **environment) -> str:
    """What the stage says in this process, which has imported mlflow."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as said:
        patch.chdir(root)
        patch.setattr(sys, "argv", ["stages/track.py"])
        for name in ("MLFLOW_TRACKING_URI", "DVC_EXP_NAME"):
            patch.delenv(name, raising=False)
        for name, value in environment.items():
            patch.setenv(name, value)
        stages.run(stages.track.main)
    return said.getvalue()


def test_records_once_then_does_nothing_then_rebuilds(once, recorded):
    assert once[1].startswith("track: result recorded: 0 folds live, 2 from files (")
    (before,) = nested(recorded).items()
    said = stage(recorded)
    assert said.startswith("track: nothing to do, the result is in MLflow (")
    assert said.endswith("heavy: []\n")  # each takes seconds, and this is part of every `dvc repro`
    (recorded / "mlflow.db").unlink()
    assert "2 from files" in stage(recorded)
    assert stage(recorded).startswith("track: nothing to do")
    rebuilt = recorded.rename(recorded.with_name("renamed"))  # this process still holds the deleted file open
    assert list(nested(rebuilt).items()) == [before]


def test_off(root):
    write_settings(root, enabled=False)
    (root / "mlflow.db").unlink()
    assert stage(root).startswith("track: off (track.enabled: false)")
    assert not (root / "mlflow.db").exists()


def test_change_of_its_own_setting_is_no_new_result(recorded):
    text = (recorded / "params.yaml").read_text()
    (recorded / "params.yaml").write_text("# a remark\n" + text)
    assert stage(recorded).startswith("track: nothing to do")


def test_server_down_is_no_failure_and_tells_no_password(root):
    said = stage_here(root, MLFLOW_TRACKING_URI=DEAD_SERVER)
    assert said.startswith("track: warning: not recorded, run `dvc repro` again to complete it: http://127.0.0.1:9: ")
    assert "gehe" not in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("breakage", "message"),
    [
        (lambda root: (root / "mlflow.db").write_bytes(b"no database " * 99), "mlflow.db: not usable as MLflow's"),
        (lambda root: (root / "metrics/summary.json").unlink(), "metrics/summary.json: not found; run `dvc repro`"),
        (lambda root: (root / "models/k2/fold_1/history.csv").unlink(), "models/k2/fold_1/history.csv: not found"),
        (lambda root: write_settings(root, colour="red"), "params.yaml: track.colour: unknown setting"),
        (
            lambda root: (root / "params.yaml").write_text(yaml.safe_dump({"track": TRACK})),
            "params.yaml: zones: missing",
        ),
    ],
)
def test_refuses(root, breakage, message):
    breakage(root)
    said = stage(root, code=1)
    assert said.startswith("track: ")
    assert message in said
    assert "Traceback" not in said
