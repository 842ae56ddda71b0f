"""The stage train as real processes: killed and run again, and two that train together."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch

from landfold.network.errors import TrainingError
from landfold.network.model import Classifier
from landfold.params import read_params
from stages import train
from tests import factories
from tests.network.failing import fail_in_epoch_2, without_batch_norm
from tests.stages.test_train import FILES, project, project_again

ROOT = Path(__file__).parents[2]
TRAIN = [sys.executable, "-m", "stages.train", "0"]
FAILING = """
import os
import torch
from landfold.network.errors import TrainingError
from stages import run, train
from tests.network.failing import fail_in_epoch_2, without_batch_norm

def failure():
    FAILURE

fail_in_epoch_2(RANKS, failure)
if NORMALIZED:
    without_batch_norm()
run(train.main)
"""

SLOW = """
import time
from landfold.network import distributed

quick = distributed._is_first_failure
distributed._is_first_failure = lambda: time.sleep(6) or quick()  # longer than Lightning's watcher of processes waits
"""


def environment() -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if name not in ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE")}
    return plain | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def start(folder: Path, command: list[str] = TRAIN) -> subprocess.Popen:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=folder, env=environment(), **pipes)


def finished(process: subprocess.Popen) -> subprocess.Popen:
    process.out, process.err = process.communicate(timeout=120)
    return process


def prepared(folder: Path, **changes) -> Path:
    (folder / ".dvc").mkdir(parents=True)
    project(folder)
    project_again(folder, **changes)
    return folder


def states(folder: Path) -> list[Path]:
    return list((folder / ".dvc").rglob("state.pt"))


EPOCHS = 40
# every kind of state that a training has: dropout and augmentation draw, weights are averaged, the best is kept
RICH = {
    "model__dropout": 0.3,
    "train__average": "ema",
    "train__early_stopping": EPOCHS,
    "train__inner_folds": 2,
    "train__spectral_jitter": 0.05,
    "train__sampling": "balanced",
    "train__epochs": EPOCHS,
}


@pytest.fixture
def here(monkeypatch):
    """Train fold 0 of a project in this process, which has loaded torch, on one thread as the others do."""
    torch.set_num_threads(1)
    monkeypatch.setattr(sys, "argv", ["stages/train.py", "0"])

    def train_here(folder: Path) -> None:
        monkeypatch.chdir(folder)
        train.main(read_params())

    yield train_here
    torch.use_deterministic_algorithms(False)


def test_a_killed_training_continues_and_ends_in_the_same_bytes(tmp_path, here, capsys):
    whole, killed = prepared(tmp_path / "whole", **RICH), prepared(tmp_path / "killed", **RICH)
    process = start(killed)
    here(whole)
    while not states(killed) and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    finished(process)
    assert process.returncode == -signal.SIGKILL, process.err
    assert not (killed / "models/k2/fold_0").exists()
    assert len(states(killed)) == 1
    assert "continuing" not in capsys.readouterr().err
    here(killed)
    notices = [line for line in capsys.readouterr().err.splitlines() if "continuing an interrupted" in line]
    assert len(notices) == 1
    assert 1 <= int(notices[0].split()[-1]) < EPOCHS
    assert factories.tree(killed / "models") == factories.tree(whole / "models")
    assert len(pandas.read_csv(killed / "models/k2/fold_0/history.csv")) == EPOCHS
    assert states(killed) == states(whole) == []
    assert not (killed / ".dvc/tmp/landfold/train").exists()
    assert factories.leftovers(tmp_path) == []


def failing(folder: Path, ranks: str, failure: str, *, batch_norm: bool = True) -> str:
    """Two processes train, and those of ``ranks`` fail in the second epoch: the one message that is left."""
    script = FAILING.replace("RANKS", ranks).replace("FAILURE", failure).replace("NORMALIZED", str(not batch_norm))
    (folder / "failing.py").write_text((SLOW if "kill" in failure else "") + script)
    process = finished(start(folder, [sys.executable, "failing.py", "0"]))
    assert process.returncode != 0
    assert "Traceback" not in process.err
    assert not (folder / "models/k2").exists()
    assert len(states(folder)) == 1
    lines = [line for line in process.err.splitlines() if line.startswith("failing:")]
    assert len(lines) == 1, process.err
    return lines[0]


def test_a_failure_in_both_processes_gives_one_message(tmp_path):
    assert failing(prepared(tmp_path, train__devices=2), "(0, 1)", "raise TrainingError('both')") == "failing: both"


def test_two_processes_learn_as_one_does_and_a_failure_in_one_ends_both(tmp_path, here, monkeypatch):
    # batches that do not divide evenly, and weights that differ between the two parts of one
    changes = {"batch_size": 15, "class_weights": "balanced", "label_smoothing": 0.1, "spectral_jitter": 0.02}
    changes |= {"average": "ema", "clip_norm": 5, "band_dropout": 0.1}
    changes = {f"train__{name}": value for name, value in changes.items()}
    one, two = prepared(tmp_path / "one", **changes), prepared(tmp_path / "two", train__devices=2, **changes)
    message = failing(two, "(1,)", "raise torch.OutOfMemoryError('out')", batch_norm=False)
    assert message.startswith("failing: fold 0, epoch 2: this machine ran out of memory; lower train.batch_size (15)")

    def stop():
        raise TrainingError("stop")

    fail_in_epoch_2((0,), stop, monkeypatch.setattr)
    without_batch_norm(monkeypatch.setattr)
    with pytest.raises(TrainingError, match="stop"):
        here(one)
    mine, other = (torch.load(states(folder)[0], weights_only=True) for folder in (one, two))
    assert mine["rows"] == [pytest.approx(other["rows"][0], rel=1e-4)]
    for kind in ("network", "averaged"):
        assert list(mine[kind]) == list(other[kind])
        for name, tensor in mine[kind].items():
            assert torch.allclose(tensor, other[kind][name], rtol=1e-3, atol=1e-4), name
    assert torch.equal(mine["random"], other["random"])


def test_two_processes_of_which_one_was_killed_continue_and_write_once(tmp_path):
    folder = prepared(tmp_path, train__devices=2, train__average="ema")
    message = failing(folder, "(1,)", "os.kill(os.getpid(), 9)")
    assert message.startswith("failing: fold 0: another of the 2 processes of this training was killed")
    again = finished(start(folder))
    assert again.returncode == 0, again.err
    assert again.err.count("continuing an interrupted training after epoch 1") == 1
    assert again.out.count("train: fold 0: ") == 1
    assert len(again.out.splitlines()) == 1
    fold_0 = folder / "models/k2/fold_0"
    assert sorted(path.name for path in fold_0.iterdir()) == FILES
    assert Classifier.load(fold_0).card.train["devices"] == 2
    history, predictions = pandas.read_csv(fold_0 / "history.csv"), pandas.read_parquet(fold_0 / "predictions.parquet")
    assert list(history["epoch"]) == [1, 2]
    # both processes validated with the averaged weights and running statistics that the first one wrote
    chances = predictions.apply(lambda row: row[f"p_{row['label']}"], axis=1).astype(float)
    assert history["validation_loss"].iloc[-1] == pytest.approx(-np.log(chances).mean(), rel=1e-4)
    assert factories.leftovers(tmp_path) == []
    assert list((folder / ".dvc").rglob("windows-*")) == states(folder) == []
