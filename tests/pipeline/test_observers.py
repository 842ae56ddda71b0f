"""What watches a training changes no byte of it: neither tracking nor a progress bar."""

import io
import sys

import pytest
import torch

from landfold.params import read_params
from stages import train
from tests import factories
from tests.stages.test_train import project


class Terminal(io.StringIO):
    """A stream on which tqdm shows its bar."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Train fold 0 of a project in a folder of its own: the digests of the fold's files."""
    torch.set_num_threads(1)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(sys, "argv", ["stages/train.py", "0"])

    def run(name, **changes):
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.chdir(folder)
        project(folder, **changes)
        train.main(read_params())
        return factories.tree(folder / "models")

    yield run
    torch.use_deterministic_algorithms(False)


def test_tracking_and_a_progress_bar_change_no_byte(files, tmp_path, monkeypatch):
    plain = files("plain")
    assert set(plain) > {"k2/fold_0/model.safetensors", "k2/fold_0/history.csv"}
    assert not (tmp_path / "plain/mlflow.db").exists()
    assert files("tracked", track__enabled=True) == plain
    assert (tmp_path / "tracked/mlflow.db").exists()
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert files("shown") == plain
    assert "epoch 1/2" in terminal.getvalue()
