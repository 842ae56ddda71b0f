"""What all tests share."""

import os
import sys
import threading
from pathlib import Path

# Commands of the environment that runs the tests (dvc, mlflow, landfold) are found without activating it.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"

# Side by side, each worker has a core: threads of torch beyond that take it from the other. Before torch is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import pytest

import stages
from tests.server import Server

LONG = (
    "pipeline/test_pipeline.py",
    "pipeline/test_ways.py",
    "stages/test_train_processes.py",
    "stages/test_train_pixels.py",
    "pipeline/test_remotes.py",
    "stages/test_track.py",
    "stages/test_export.py",
    "deploy/test_predict.py",
)
"""Files that take longest, the longest first: `--dist loadfile` hands out whole files in this order, and one that began
last would hold up the end alone."""

# The same examples on every run: whether a commit is good must not hang on chance. HYPOTHESIS_PROFILE=default looks
# for new ones.
hypothesis.settings.register_profile("same", derandomize=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


def pytest_collection_modifyitems(items):
    """Begin with the files of `LONG`; all others keep their order."""
    place = {Path(__file__).parent / name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture
def stage(monkeypatch, tmp_path, capsys):
    """Run a stage's main under `stages.run` in a temporary folder: ``stage(module)`` gives what it printed.

    A refusal is ``stage(module, refused=True)``: it asserts that the process would end with exit
    code 1 and one message that begins with the stage's name, and gives the message.
    """
    monkeypatch.chdir(tmp_path)

    def run(module, *, refused=False):
        name = module.__name__.split(".")[-1]
        monkeypatch.setattr(sys, "argv", [f"stages/{name}.py"])
        capsys.readouterr()
        if not refused:
            stages.run(module.main)
            return capsys.readouterr().out
        with pytest.raises(SystemExit, match=f"^{name}: ") as caught:
            stages.run(module.main)
        assert capsys.readouterr().out == ""
        return caught.value.code  # text: Python prints it to stderr, without a traceback, and exits with 1

    return run


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Files of the folder ``tmp_path / "far away"`` over HTTP, without a proxy and with short timeouts."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nobody listens there
    for name, seconds in {"TIMEOUT": "2", "RETRY_DELAY": "0.02", "CONNECTTIMEOUT": "1"}.items():
        monkeypatch.setenv(f"GDAL_HTTP_{name}", seconds)
    root = tmp_path / "far away"
    root.mkdir()
    server = Server(root)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.over.set()
    server.shutdown()
    server.server_close()
    thread.join()
