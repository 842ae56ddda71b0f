"""`landfold doctor`: each check meets its fault in a tiny repository of real git and DVC."""

import fcntl
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
import yaml

from landfold.cli import main
from landfold.cli.doctor import checks, machine
from landfold.cli.doctor.checks import DoctorError, checkout
from tests.imports import ROOT

STAGES = {
    "fetch": {"cmd": "true", "params": ["dataset"], "outs": ["data/raw"]},
    "ingest": {"cmd": "true", "deps": ["data/raw", "landfold"], "params": ["train.epochs"], "outs": ["data/scenes"]},
    "track": {"cmd": "true", "deps": ["data/scenes"], "always_changed": True},
}


def git(root, *arguments):
    return subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True).stdout


def dvc(root, *arguments):
    subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=root, check=True, capture_output=True)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A repository in which all stages have run."""
    folder = tmp_path_factory.mktemp("doctor")
    root = folder / "clone with space"
    for name in ("landfold/__init__.py", "stages/ingest.py", "data/raw/scene", "data/scenes/scene"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / ".dvc").mkdir()
    for name in (".gitignore", "pyproject.toml", "params.yaml", ".dvc/config", ".dvc/.gitignore"):
        shutil.copy(ROOT / name, root / name)
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": STAGES}, sort_keys=False))
    (root / "requirements.txt").write_text("# none\n")
    git(root, "init", "-q", "-b", "main")
    git(root, "config", "user.email", "tester@example.org")
    git(root, "config", "user.name", "Tester")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_SITE_CACHE_DIR", str(folder / "site"))
        patch.setenv("DVC_GLOBAL_CONFIG_DIR", str(folder / "global"))
        dvc(root, "commit", "--force", "--quiet")
        git(root, "add", "-A")
        git(root, "commit", "-q", "-m", "one")
        yield root


@pytest.fixture
def root(template, tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("DVC_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(tmp_path / "global"))
    return Path(shutil.copytree(template, tmp_path / "clone with space"))


def change_params(root, section, **values):
    content = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    content[section] |= values
    (root / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


def says(diagnoses, level, *words):
    (diagnosis,) = diagnoses
    assert diagnosis.level == level, diagnosis
    for word in words:
        assert word in diagnosis.message, diagnosis
    assert bool(diagnosis.fix) == (level != "ok"), diagnosis
    return diagnosis


def test_a_sound_repository(root, monkeypatch, capsys):
    monkeypatch.setattr(machine, "_has_driver", lambda: False)
    monkeypatch.chdir(root / "stages")
    assert main(["doctor", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["runs"] is True
    assert [check for check in data["checks"] if check["level"] != "ok"] == []
    assert len(data["checks"]) == len(checks.CHECKS)
    assert git(root, "status", "--porcelain") == "", "nothing is left behind"


def test_outside_of_a_checkout_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["doctor"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"landfold doctor: {tmp_path}: not in a checkout of Landfold")
    with pytest.raises(DoctorError, match=r"change to the folder that you have cloned$"):
        checkout(tmp_path)


def test_each_finding_is_one_line_without_colours_and_errors_end_with_exit_code_1(root, monkeypatch, capsys):
    monkeypatch.setattr(checks, "CHECKS", [checks.params, machine.packages])
    monkeypatch.chdir(root)
    change_params(root, "train", epochs=0)
    assert main(["doctor"]) == 1
    captured = capsys.readouterr()
    error, ok = captured.out.splitlines()
    assert error.startswith("error    settings: params.yaml: train.epochs: found 0: ")
    assert error.endswith(" -> change it in params.yaml")
    assert ok.startswith("ok       packages: Python 3.")
    assert captured.err == "`dvc repro` would fail\n"


def test_all_faults_of_params_yaml(root):
    says(checks.params(root), "ok", "5 folds")
    change_params(root, "normalize", low_percentile=99, extra=1)
    change_params(root, "zones", folds=[0, 1])
    text = "\n".join(diagnosis.message for diagnosis in checks.params(root))
    assert "params.yaml: normalize.extra: unknown setting" in text
    assert "folds must be [0, 1, 2, 3, 4] for k: 5, found [0, 1]" in text
    (root / "params.yaml").write_text("train: [")
    says(checks.params(root), "error", "params.yaml: not valid YAML")


def test_conflict_markers(root):
    (root / "dvc.lock").write_text("a: 1\n<<<<<<< HEAD\nb: 1\n=======\nb: 2\n>>>>>>> other\n")
    assert "dvc.lock then run `dvc repro`" in says(checks.pipeline(root), "error", "in dvc.lock line 2").fix


def test_what_dvc_refuses(root):
    (root / "dvc.yaml").write_text("stages:\n  a: [\n")
    says(checks.pipeline(root), "error", "`dvc status` fails: ", "dvc.yaml' is invalid")


def test_a_running_or_stopped_dvc_command(root):
    lock = root / ".dvc/tmp/lock"
    lock.parent.mkdir(exist_ok=True)
    assert checks._lock_holder(root) == ""
    lock.write_text(" 4711\n")  # a process that has ended leaves its number
    assert checks._lock_holder(root) == ""
    with lock.open("r+") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        for pid, words in ((os.getpid(), f"held by process {os.getpid()}, "), (2**22 + 1, "held by another process")):
            lock.write_text(f" {pid}\n")
            says(checks.pipeline(root), "error", words)


def test_settings_and_code_that_differ_from_dvc_lock(root):
    change_params(root, "train", epochs=3)
    (root / "landfold/__init__.py").write_text("other")
    found = says(checks.pipeline(root), "warning", "1 stages differ from dvc.lock", "ingest (landfold)")
    assert found.fix.startswith("dvc repro")


def test_outputs_that_are_gone_from_the_folder_or_from_the_cache(root):
    shutil.rmtree(root / "data/scenes")
    shutil.rmtree(root / ".dvc/cache")
    (lost,) = checks.pipeline(root)
    assert (lost.check, lost.level) == ("data", "warning")
    assert lost.message == "2 outputs are not in cache: data/raw, data/scenes"
    diagnoses = checks._stages({"ingest": [{"changed outs": {"data/scenes": "deleted"}}], "track": ["always changed"]})
    assert (diagnoses[0].message, diagnoses[0].fix) == ("1 outputs are deleted: data/scenes", "dvc checkout")


def test_what_experiments_would_lack(root):
    says(checks.experiments(root), "ok")
    (root / "notes.txt").write_text("no stage needs it")
    says(checks.experiments(root), "ok")
    (root / "landfold/own.py").write_text("")
    says(checks.experiments(root), "warning", "landfold/own.py (git add)")
    git(root, "add", "-A")
    says(checks.experiments(root), "ok")  # DVC takes along what is staged
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"track": STAGES["track"]}}))
    says(checks.experiments(root), "warning", "data/raw (dvc add data/raw)")


def test_packages(root, monkeypatch):
    says(machine.packages(root), "ok")
    pins = "numpy==0.0.1\nno-such-package==1\nnever==1 ; sys_platform == 'plan9'\npytest>=1\n-e .\n"
    (root / "requirements.txt").write_text(pins)
    absent, other = machine.packages(root)
    assert (absent.level, absent.message) == ("warning", "not installed: no-such-package")
    assert (other.level, "numpy " in other.message, "instead of 0.0.1" in other.message) == ("warning", True, True)
    monkeypatch.setattr(machine.platform, "python_version", lambda: "3.9.1")
    says(machine.packages(root), "error", "Python 3.9.1")


def test_disk(root, monkeypatch):
    usage = namedtuple("usage", "total used free")
    free = {"bytes": 900_000_000}
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: usage(1, 1, free["bytes"]))
    assert says(machine.disk(root), "ok").message == "900 MB free; a whole run writes about 200 MB"
    (root / "dvc.lock").unlink()
    os.truncate(root / "data/raw/scene", 200_000_000)
    assert "a run may write 6.0 GB" in says(machine.disk(root), "warning").message
    free["bytes"] = 100_000_000
    assert [diagnosis.level for diagnosis in machine.disk(root)] == ["error", "error"]


@pytest.mark.parametrize(
    ("train", "driver", "gpus", "level", "words"),
    [
        ({}, False, None, "ok", "the CPU trains"),
        ({"device": "cpu"}, True, None, "ok", "not used"),
        ({"device": "cuda"}, False, ([], True), "error", "machine.device is cuda, but torch finds no GPU"),
        ({"device": "cuda"}, True, ([], False), "error", "machine.device is cuda, but torch is installed without CUDA"),
        ({}, True, ([], True), "warning", "there is an NVIDIA driver, but torch finds no GPU"),
        ({"device": "cuda", "devices": 2}, True, (["H200"], True), "error", "train.devices is 2, but torch finds 1"),
        ({"device": "cuda"}, True, (["H200"], True), "ok", "H200"),
    ],
)
def test_gpu(root, monkeypatch, train, driver, gpus, level, words):
    """``gpus`` None: torch is not even imported."""
    monkeypatch.setattr(machine, "_has_driver", lambda: driver)
    monkeypatch.setattr(machine, "torch_gpus", lambda: gpus or pytest.fail("torch was imported"))
    change_params(root, "train", **{name: value for name, value in train.items() if name != "device"})
    change_params(root, "machine", device=train.get("device", "auto"))
    says(machine.gpu(root), level, words)


def test_database(root, monkeypatch):
    says(machine.database(root), "ok", "no local database yet")
    file = root / "mlflow.db"
    newest, known = machine._mlflow_revisions()
    older = sorted(known - {newest})[0]
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num)")
        connection.execute("INSERT INTO alembic_version VALUES (?)", (newest,))
    connection.close()
    says(machine.database(root), "ok", "mlflow.db is of the installed version")
    for revision, words, fix in ((older, "older", f"mlflow db upgrade sqlite:///{file}"), ("x", "newer", "install")):
        with sqlite3.connect(file) as connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
        connection.close()
        assert fix in says(machine.database(root), "error", f"made by a{'n' * (words == 'older')} {words} MLflow").fix
    file.write_bytes(b"no database at all, but long enough to be looked at" * 100)
    assert "mv " in says(machine.database(root), "error", "not a sqlite database").fix
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    assert "secret" not in says(machine.database(root), "ok", "names a server").message


def test_a_database_that_is_mlflows_own_is_of_the_installed_version(root):
    from landfold.tracking import create_database

    create_database(root / "mlflow.db")
    says(machine.database(root), "ok", "of the installed version")
