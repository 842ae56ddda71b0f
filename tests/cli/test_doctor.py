"""`landfold doctor`: each check meets its fault planted in a tiny repository of real git."""

import copy
import hashlib
import http.server
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections import namedtuple
from pathlib import Path

import pytest
import yaml

from landfold.cli import doctor, main
from landfold.cli.doctor import Checkout, DoctorError, Finding, machine, repository, services, settings
from tests.imports import ROOT

STAGES = {
    "fetch": {"cmd": "true", "deps": ["stages/fetch.py"], "params": ["dataset"], "outs": ["data/raw"]},
    "train": {
        "foreach": "${zones.folds}",
        "do": {
            "cmd": "true ${item}",
            "deps": ["data/raw", "stages/train.py"],
            "params": ["model", "train"],
            "outs": ["models/fold_${item}", {"metrics/folds.json": {"cache": False}}],
        },
    },
    "report": {"cmd": "true", "params": [{"params.yaml": None}], "outs": [{"report.html": {"cache": False}}]},
    "track": {"cmd": "true", "always_changed": True},
}
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
SIZES = {"data/raw": 100, "models/fold_0": 400}


def md5(text):
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def cache_file(root, path):
    return root / ".dvc/cache/files/md5" / md5(path)[:2] / md5(path)[2:]


def locked():
    """dvc.lock after a whole run of STAGES with PARAMS."""

    def stage(deps, params, outs):
        entries = [{"path": path, "md5": md5(path), "size": SIZES.get(path, 1)} for path in deps]
        made = [{"path": path, "md5": md5(path), "size": SIZES.get(path, 1)} for path in outs]
        return {"deps": entries, "params": {"params.yaml": params}, "outs": made}

    train = {name: PARAMS[name] for name in ("model", "train")}
    stages = {"fetch": stage(["stages/fetch.py"], {"dataset": PARAMS["dataset"]}, ["data/raw"])}
    for fold in PARAMS["zones"]["folds"]:
        outs = [f"models/fold_{fold}", "metrics/folds.json"]
        stages[f"train@{fold}"] = stage(["data/raw", "stages/train.py"], train, outs)
    return stages | {"report": stage([], PARAMS, ["report.html"])}


def git(root, *arguments):
    subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True)


def commit(root):
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "one")


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    root = tmp_path_factory.mktemp("doctor") / "clone with space"
    for name in ("stages/fetch.py", "stages/train.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)  # so that its MD5 is that of its name, as in `locked`
    (root / "landfold").mkdir()
    (root / "landfold/__init__.py").write_text("")
    (root / ".dvc").mkdir()
    for name in (".gitignore", "pyproject.toml", "params.yaml", ".dvc/config", ".dvc/.gitignore"):
        shutil.copy(ROOT / name, root / name)
    for name, content in {"dvc.yaml": {"stages": STAGES}, "dvc.lock": {"stages": locked()}}.items():
        (root / name).write_text(yaml.safe_dump(content, sort_keys=False))
    (root / "requirements.in").write_text("dvc[s3]\nnumpy\n")
    (root / "requirements.txt").write_text("# none\n")
    (root / "data/raw").mkdir(parents=True)
    (root / "data/raw/scene").write_text("x" * 100)
    for path in ["data/raw", *(f"models/fold_{fold}" for fold in PARAMS["zones"]["folds"])]:
        cache_file(root, path).parent.mkdir(parents=True, exist_ok=True)
        cache_file(root, path).write_text("")
    git(root, "init", "-q", "-b", "main")
    git(root, "config", "user.email", "tester@example.org")
    git(root, "config", "user.name", "Tester")
    commit(root)
    return root


@pytest.fixture
def root(template, tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("DVC_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    return Path(shutil.copytree(template, tmp_path / "clone with space"))


def opened(root, **dvc_config):
    """A checkout that asks no real DVC for its settings."""
    checkout = Checkout.of(root)
    checkout.__dict__["dvc_config"] = {"cache.type": "hardlink,copy"} | dvc_config
    return checkout


def change_params(root, section, **values):
    content = copy.deepcopy(PARAMS)
    content[section] |= values
    (root / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


def change_stages(root, change):
    stages = copy.deepcopy(STAGES)
    change(stages)
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))


def only(found):
    findings = [found] if isinstance(found, Finding) else found
    assert len(findings) == 1, findings
    return findings[0]


def says(found, level, *words):
    finding = only(found)
    assert finding.level == level, finding
    for word in words:
        assert word in finding.found, finding
    assert bool(finding.mend) == (level != "ok"), finding
    return finding


def test_a_clean_repository_through_real_dvc(root, monkeypatch, capsys):
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(root.parent / "site"))
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(root.parent / "global"))
    monkeypatch.setattr(settings, "OWNERS", dict.fromkeys(("dataset", "model", "train"), ""))  # no torch here
    monkeypatch.setattr(machine, "_has_driver", lambda: False)
    monkeypatch.chdir(root / "stages")
    assert main(["doctor", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["runs"] is True
    assert [f for f in data["findings"] if f["level"] != "ok"] == []
    assert len(data["findings"]) == len(doctor.CHECKS) - 2  # two checks are silent when all is well
    assert git_status(root) == "", "nothing is left behind"


def git_status(root):
    return subprocess.run(["git", "status", "--porcelain"], cwd=root, capture_output=True, text=True).stdout


def test_outside_of_a_checkout_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["doctor"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"landfold doctor: {tmp_path}: not in a checkout of Landfold")
    with pytest.raises(DoctorError, match=r"change to the folder that you have cloned$"):
        Checkout.of(tmp_path)


def test_an_error_ends_with_exit_code_1_and_the_mend(root, monkeypatch, capsys):
    shutil.rmtree(root / ".git")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(root.parent))
    monkeypatch.chdir(root)
    assert main(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "error    git: not a git repository; DVC refuses to work"
    assert lines[1].startswith("         -> git init")
    assert lines[2:] == ["1 error, 0 warnings: `dvc repro` would fail."]


def test_git(root):
    says(repository.git(opened(root)), "ok", "of main")
    git(root, "checkout", "--orphan", "fresh")
    says(repository.git(opened(root)), "warning", "no commit yet")
    (root / ".dvc/config").unlink()
    says(repository.git(opened(root)), "error", ".dvc/config")


def test_a_merge_that_is_not_over(root):
    assert repository.conflicts(opened(root)) == []
    git(root, "checkout", "-q", "-b", "other")
    for branch, text in (("other", "a: 1\n"), ("main", "a: 2\n")):
        git(root, "checkout", "-q", branch)
        (root / "dvc.lock").write_text(text)
        commit(root)
    assert subprocess.run(["git", "merge", "other"], cwd=root, capture_output=True).returncode == 1
    says(repository.conflicts(opened(root)), "error", "dvc.lock")
    says(settings.pipeline(opened(root)), "error", "dvc.lock: not valid YAML (line ")


def test_raw_data_of_ones_own(root):
    says(repository.raw_data(opened(root)), "ok", "fetch")
    (root / "data/raw.dvc").write_text("outs: []\n")
    assert says(repository.raw_data(opened(root)), "error", "both").mend == "dvc remove fetch"
    change_stages(root, lambda stages: stages.pop("fetch"))
    says(repository.raw_data(opened(root)), "ok", "data/raw.dvc")
    shutil.rmtree(root / "data/raw")
    assert "dvc pull" in says(repository.raw_data(opened(root)), "error", "not here").mend
    (root / "data/raw.dvc").unlink()
    says(repository.raw_data(opened(root)), "error", "no stage makes it")
    (root / "data/raw").mkdir()
    assert "dvc add data/raw" in says(repository.raw_data(opened(root)), "warning", "not under DVC").mend
    with (root / ".gitignore").open("a") as stream:
        stream.write("/data/*\n")
    line = len((root / ".gitignore").read_text().splitlines())
    says(
        repository.raw_data(opened(root)),
        "warning",
        f".gitignore hides data/raw.dvc from git and DVC by its line {line};",
    )


def test_files_that_git_does_not_have(root):
    says(repository.untracked(opened(root)), "ok")
    (root / "notes.txt").write_text("not needed by a stage")
    says(repository.untracked(opened(root)), "ok")
    (root / "landfold/own model.py").write_text("")
    says(repository.untracked(opened(root)), "warning", "landfold/own model.py")
    git(root, "add", "-A")
    says(repository.untracked(opened(root)), "ok")  # DVC takes along what is staged


def test_weights_that_git_ignores(root):
    (root / "models").mkdir()
    (root / "models/weights.pth").write_text("")
    change_params(root, "model", weights="models/weights.pth")
    says(repository.untracked(opened(root)), "warning", "models/weights.pth")
    (root / "models/weights.pth.dvc").write_text("")
    says(repository.untracked(opened(root)), "ok")


def test_changes_that_are_not_committed(root):
    says(repository.uncommitted(opened(root)), "ok")
    change_params(root, "train", epochs=3)
    says(repository.uncommitted(opened(root)), "warning", "params.yaml")


def test_a_renamed_file_is_one_change(root):
    git(root, "mv", "stages/train.py", "stages/other.py")
    assert opened(root).changes == {"stages/other.py": "R "}


def test_a_large_file(root, monkeypatch):
    assert repository.large_files(opened(root)) == []
    monkeypatch.setattr(repository, "LARGE_BYTES", 2_000_000)
    for name in ("scene.tif", "data/raw/ignored.tif"):
        with (root / name).open("wb") as stream:
            stream.truncate(3_000_000)
    assert says(repository.large_files(opened(root)), "warning").found == "git would take in scene.tif (3 MB)"


def test_a_pipeline_that_cannot_be_read(root):
    says(settings.pipeline(opened(root)), "ok", "8 stages")
    (root / "dvc.yaml").write_text("stages:\n  a: [\n")
    says(settings.pipeline(opened(root)), "error", "dvc.yaml: not valid YAML (line 3)")
    (root / "dvc.yaml").write_text("a: 1\n")
    says(settings.pipeline(opened(root)), "error", "dvc.yaml: no stages")


def test_settings_that_their_owner_refuses(root, monkeypatch):
    monkeypatch.setattr(settings, "OWNERS", dict.fromkeys(("normalize", "zones"), ""))
    change_params(root, "normalize", low_percentile=99, extra=1)
    found = settings.params(opened(root))
    assert [finding.level for finding in found] == ["error"]
    assert found[0].found.startswith("params.yaml: normalize.extra: unknown setting")
    change_params(root, "zones", folds=[0, 1])
    says(settings.params(opened(root)), "error", "folds must be [0, 1, 2, 3, 4] for k: 5, found [0, 1]")
    (root / "params.yaml").write_text("zoness: 1\n")
    says(settings.params(opened(root)), "error", "params.yaml: unknown section 'zoness' (did you mean 'zones'?)")


def test_a_section_that_the_last_run_took_is_not_judged_again(root, monkeypatch):
    monkeypatch.setattr(settings, "OWNERS", {"train": ""})
    judged = []
    monkeypatch.setattr(settings, "faults", lambda content, sections, where: judged.extend(sections) or [])
    says(settings.params(opened(root)), "ok", "5 folds")
    assert judged == []
    (root / "stages/train.py").write_text("another code may take other settings")
    says(settings.params(opened(root)), "ok")
    assert judged == ["train"]


def test_what_is_always_judged_is_judged_without_torch():
    """A section without an entry in READERS is judged at each call, and torch takes seconds."""
    code = (
        "import sys; from landfold.doctor.settings import READERS; from landfold.sections import OWNERS, owner; "
        "[owner(section) for section in OWNERS if section not in READERS]; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_dvc_lock_behind_settings_or_code(root):
    says(repository.lock_file(opened(root)), "ok")
    change_params(root, "train", epochs=3)
    says(repository.lock_file(opened(root)), "warning", "6 stages", "train@0 (train)")
    change_params(root, "train", learning_rate="1e-3")  # as DVC may write 0.001
    says(repository.lock_file(opened(root)), "ok")
    (root / "stages/fetch.py").write_text("other")
    assert opened(root).behind == {"fetch": "stages/fetch.py"}
    change_stages(root, lambda stages: stages.update(new={"cmd": "true"}))
    assert opened(root).behind["new"] == "not run yet"
    (root / "dvc.lock").unlink()
    says(repository.lock_file(opened(root)), "warning", "nothing has run yet")


def test_outputs_that_the_cache_lacks(root):
    assert says(repository.cached_outputs(opened(root)), "ok").found == "has all 6 outputs"  # none with cache: false
    cache_file(root, "models/fold_1").unlink()
    says(repository.cached_outputs(opened(root)), "warning", "lacks 1 of 6 outputs: models/fold_1;")


def test_another_dvc_at_work(root):
    fcntl = pytest.importorskip("fcntl")
    says(repository.held_lock(opened(root)), "ok")
    lock, rwlock = root / ".dvc/tmp/lock", root / ".dvc/tmp/rwlock"
    lock.parent.mkdir()
    lock.write_text(" 4711\n")  # what is left of a process that has ended
    says(repository.held_lock(opened(root)), "ok")
    with lock.open("r+") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        says(repository.held_lock(opened(root)), "error", "held by process 4711")
    rwlock.write_text(json.dumps({"write": {"data": {"pid": os.getpid(), "cmd": "dvc repro"}}, "read": {}}))
    says(repository.held_lock(opened(root)), "error", f"`dvc repro` (process {os.getpid()})")
    rwlock.write_text(json.dumps({"write": {}, "read": {"data": [{"pid": 2**22 + 1, "cmd": "dvc repro"}]}}))
    says(repository.held_lock(opened(root)), "ok")
    rwlock.write_text("{")
    says(repository.held_lock(opened(root)), "error", "no JSON")


def test_versions(root, monkeypatch):
    says(machine.versions(opened(root)), "ok")
    pins = "numpy==0.0.1\nno-such-package==1\nnever==1 ; sys_platform == 'plan9'\npytest>=1\n"
    (root / "requirements.txt").write_text(pins)
    absent, other = machine.versions(opened(root))
    assert (absent.level, absent.found) == ("warning", "not installed: no-such-package")
    assert (other.level, "numpy " in other.found, "instead of 0.0.1" in other.found) == ("warning", True, True)
    (root / "requirements.in").write_text("No_Such.Package[extra]\n")
    assert machine.versions(opened(root))[0].level == "error"
    monkeypatch.setattr(machine.platform, "python_version", lambda: "3.9.1")
    says(machine.versions(opened(root)), "error", "Python 3.9.1")


def test_disk(root, monkeypatch):
    # dvc.lock: 100 bytes of raw data made 504 bytes of outputs; there are 100 bytes now
    assert says(machine.disk(opened(root)), "ok").found.endswith("a whole run writes about 0 MB")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: usage(1, 1, 900_000_000))
    (root / "data/raw/more").write_bytes(b"")
    os.truncate(root / "data/raw/more", 200_000_000)
    assert "a run may write 1.0 GB" in only(machine.disk(opened(root))).found
    assert only(machine.disk(opened(root))).level == "warning"
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: usage(1, 1, 100_000_000))
    assert machine.disk(opened(root))[0].level == "error"


def test_links(root, monkeypatch):
    says(machine.links(opened(root)), "ok", "hardlink")
    says(machine.links(opened(root, **{"cache.type": "copy"})), "warning", "kept twice")
    says(machine.links(opened(root, **{"cache.type": "symlink"})), "ok")

    def refuse(source, target):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("dvc_objects.fs.system.hardlink", refuse)
    says(machine.links(opened(root)), "warning", "hardlink,copy")
    assert list(root.glob(".partial-*")) == []


def test_memory(root, monkeypatch):
    (root / "metrics").mkdir()
    (root / "metrics/patches.json").write_text('{"kept": 1000000}')
    memory = namedtuple("memory", "available")
    monkeypatch.setattr(machine.psutil, "virtual_memory", lambda: memory(5_000_000_000))
    says(machine.memory(opened(root)), "warning", "5.0 GB available, one training takes about 5.5 GB")
    change_params(root, "machine", cache_gb=1)
    says(machine.memory(opened(root)), "ok", "about 2.5 GB a training", "-j ")


@pytest.mark.parametrize(
    ("train", "driver", "found", "level", "words"),
    [
        ({}, False, None, "ok", "none here"),
        ({"device": "cpu"}, True, None, "ok", "not asked for"),
        ({"precision": "bf16-mixed"}, False, None, "warning", "bf16-mixed, but training is on the CPU"),
        ({"device": "cuda"}, False, [], "error", "machine.device is cuda, but torch finds no GPU"),
        ({}, True, [], "warning", "there is an NVIDIA driver, but torch finds no GPU"),
        ({"device": "cuda", "devices": 2}, True, ["H200"], "error", "train.devices is 2, but torch finds 1"),
        ({"device": "cuda", "precision": "bf16-mixed"}, True, ["H200"], "ok", "H200; precision bf16-mixed"),
    ],
)
def test_gpu(root, monkeypatch, train, driver, found, level, words):
    """``found`` None: torch is not even asked."""
    monkeypatch.setattr(machine, "_has_driver", lambda: driver)
    monkeypatch.setattr(machine, "gpus", lambda: found if found is not None else pytest.fail("torch was asked"))
    change_params(root, "train", **{name: value for name, value in train.items() if name != "device"})
    content = yaml.safe_load((root / "params.yaml").read_text())
    content["machine"]["device"] = train.get("device", "auto")
    (root / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    says(machine.gpu(opened(root)), level, words)


def test_remote(root, monkeypatch):
    says(services.remote(opened(root)), "ok", "none set")
    url = {"remote.far.url": "https://user:secret@example.org/store"}
    says(services.remote(opened(root, **url)), "warning", "no default among far")
    checkout = opened(root, **url, **{"core.remote": "far"})
    assert says(services.remote(checkout), "ok").found.startswith("far, https://example.org/store")
    asked = Checkout(root, ask_remote=True)
    asked.__dict__["dvc_config"] = checkout.dvc_config
    answers = {
        '{"a": "new", "b": "deleted"}': (0, "warning", "lacks 1 outputs"),
        "{}": (0, "ok", "has what is here"),
        "": (255, "warning", "https://example.org/store: no route to https://example.org/store, ***"),
    }
    error = "WARNING: x\nERROR: no route to https://user:secret@example.org/store, secret\n"
    for out, (code, level, words) in answers.items():
        done = subprocess.CompletedProcess([], code, out, error)
        monkeypatch.setattr(Checkout, "run", lambda *_, done=done, **__: done)
        assert "secret" not in says(services.remote(asked), level, words).found


def test_a_message_of_a_remote_tells_no_secret(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "abcdefgh")
    assert services.shown_in("denied: abcdefgh", "s3://bucket/a") == "denied: ***"
    assert services.shown_in("no s3://b?sig=xyz here", "http://[broken") == "no s3://b?sig=*** here"


def test_mlflow_database(root):
    says(services.store(opened(root)), "ok", "will be made")
    file = root / "mlflow.db"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE runs (lifecycle_stage)")
        connection.execute("INSERT INTO runs VALUES ('active'), ('deleted')")
    connection.close()
    says(services.store(opened(root)), "ok", "mlflow.db with 1 runs")
    file.write_bytes(b"no database at all, but long enough to be looked at" * 100)
    assert "mv mlflow.db" in says(services.store(opened(root)), "error", "no sqlite database").mend
    change_params(root, "track", enabled=False)
    says(services.store(opened(root)), "ok", "off")


class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, *arguments):
        pass


def test_mlflow_server(root, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = http.server.HTTPServer(("127.0.0.1", 0), Health)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{server.server_port}")
    answered = services.store(opened(root))
    server.shutdown()
    server.server_close()
    thread.join()
    assert says(answered, "ok").found == f"http://127.0.0.1:{server.server_port} answers"
    silent = says(services.store(opened(root)), "warning", "does not answer", "training goes on")
    assert "secret" not in silent.found + silent.mend


def test_environment(root, monkeypatch):
    says(services.environment(opened(root)), "ok", "no DVC_")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    assert "secret" not in says(services.environment(opened(root)), "ok", "MLFLOW_TRACKING_PASSWORD").found
    monkeypatch.setenv("DVC_EXP_NAME", "old")
    assert says(services.environment(opened(root)), "warning", "DVC_EXP_NAME").mend == "unset DVC_EXP_NAME"


def test_queue(root, monkeypatch):
    says(services.queue(opened(root)), "ok", "empty")
    git(root, "update-ref", "--create-reflog", "-m", "queued", "refs/exps/celery/stash", "HEAD")
    says(services.queue(opened(root)), "warning", "1 waiting, 0 workers: nothing runs them")
    worker = root / ".dvc/tmp/exps/celery/dvc-exp-worker-1.json"
    worker.parent.mkdir(parents=True)
    worker.write_text(json.dumps({"pid": os.getpid(), "returncode": None}))
    says(services.queue(opened(root)), "ok", "1 waiting, 1 workers")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@example.org")  # this process began without it
    found = says(services.queue(opened(root)), "warning", "record to mlflow.db, not to http://example.org")
    assert "secret" not in found.found
    worker.write_text(json.dumps({"pid": 2**22 + 1, "returncode": None}))
    says(services.queue(opened(root)), "warning", "1 workers have died")
    worker.write_text(json.dumps({"pid": 2**22 + 1, "returncode": 0}))
    says(services.queue(opened(root)), "warning", "nothing runs them")
