"""The stage train as real processes: killed and run again, and two that train together."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch

from landfold.network.model import Classifier
from tests import factories
from tests.stages.test_train import FILES, project, project_again, run_train

ROOT = Path(__file__).parents[2]
TRAIN = [sys.executable, "-m", "stages.train", "0"]
FAILING = """
import os, sys
import torch
from landfold import training
from stages import run, train

real = training._Run.learn
def learn(self, on_step):
    if self.epoch == 2 and self.fabric.global_rank in RANKS:
        FAILURE
    return real(self, on_step)
training._Run.learn = learn
run(train.main)
"""

SLOW = """
import time
from landfold import engine

quick = engine._is_first_failure
engine._is_first_failure = lambda: time.sleep(6) or quick()  # longer than Lightning's watcher of processes waits
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


# every kind of state that a training has: dropout and augmentation draw, weights are averaged, the best is kept
RICH = {
    "model__dropout": 0.3,
    "train__average": "ema",
    "train__early_stopping": 40,
    "train__inner_folds": 2,
    "train__spectral_jitter": 0.05,
    "train__sampling": "balanced",
    "train__epochs": 40,
}


def test_a_killed_training_goes_on_and_ends_in_the_same_bytes(tmp_path):
    whole, killed = prepared(tmp_path / "whole", **RICH), prepared(tmp_path / "killed", **RICH)
    undisturbed = start(whole)
    process = start(killed)
    while not states(killed) and process.poll() is None:
        time.sleep(0.005)
    time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    finished(process)
    assert process.returncode == -signal.SIGKILL
    assert not (killed / "models/k2/fold_0").exists()
    assert len(states(killed)) == 1
    again = finished(start(killed))
    assert again.returncode == 0, again.err
    found = [line for line in again.err.splitlines() if "going on after epoch" in line]
    assert len(found) == 1
    assert 1 <= int(found[0].split("after epoch ")[1].split()[0]) < 40
    assert finished(undisturbed).returncode == 0, undisturbed.err
    assert "going on" not in undisturbed.err
    assert factories.tree(killed / "models") == factories.tree(whole / "models")
    assert len(pandas.read_csv(killed / "models/k2/fold_0/history.csv")) == 40
    assert states(killed) == states(whole) == []
    assert not (killed / ".dvc/tmp/landfold/train").exists()
    assert factories.leftovers(tmp_path) == []


def test_two_processes_train_as_one_does_and_write_once(tmp_path, monkeypatch, request):
    # batches that do not divide evenly, and weights that differ between the two parts of one
    changes = {"batch_size": 15, "class_weights": "balanced", "label_smoothing": 0.1, "spectral_jitter": 0.02}
    changes |= {"average": "ema", "clip_norm": 5, "epochs": 3}
    changes = {f"train__{name}": value for name, value in changes.items()}
    one, two = prepared(tmp_path / "one", **changes), prepared(tmp_path / "two", train__devices=2, **changes)
    together = start(two)
    monkeypatch.chdir(one)
    request.addfinalizer(partial(torch.use_deterministic_algorithms, False))
    run_train(monkeypatch, 0)  # one process: this one, which has loaded torch
    assert finished(together).returncode == 0, together.err
    assert together.out.count("train: fold 0: ") == 1
    assert len(together.out.splitlines()) == 1
    folders = [folder / "models/k2/fold_0" for folder in (one, two)]
    assert sorted(path.name for path in folders[1].iterdir()) == FILES
    histories = [pandas.read_csv(folder / "history.csv") for folder in folders]
    assert np.allclose(*histories, rtol=2e-3, atol=2e-3)
    predictions = [pandas.read_parquet(folder / "predictions.parquet") for folder in folders]
    assert list(predictions[0]["patch"]) == list(predictions[1]["patch"])
    chances = [table[["p_field", "p_water"]].to_numpy() for table in predictions]
    assert np.allclose(*chances, atol=0.01)
    assert Classifier.load(folders[1]).card.train["devices"] == 2
    assert factories.leftovers(tmp_path) == []
    assert list((two / ".dvc").rglob("windows-*")) == states(two) == []


@pytest.mark.parametrize(
    ("ranks", "failure", "message"),
    [
        ("(1,)", "raise torch.OutOfMemoryError('out')", "failing: fold 0, epoch 2: the memory of this machine ran out"),
        ("(0, 1)", "raise training.TrainingError('both')", "failing: both"),
        ("(1,)", "os.kill(os.getpid(), 9)", "failing: fold 0: another of the 2 processes of this training was killed"),
    ],
)
def test_a_failure_in_one_process_ends_all_with_one_message(tmp_path, ranks, failure, message):
    folder = prepared(tmp_path, train__devices=2)
    script = folder / "failing.py"
    slow = SLOW if "kill" in failure else ""
    script.write_text(slow + FAILING.replace("RANKS", ranks).replace("FAILURE", failure))
    process = finished(start(folder, [sys.executable, str(script), "0"]))
    assert process.returncode != 0
    lines = [line for line in process.err.splitlines() if line.startswith("failing:")]
    assert len(lines) == 1, process.err
    assert lines[0].startswith(message)
    assert "Traceback" not in process.err
    assert not (folder / "models/k2").exists()
    assert len(states(folder)) == 1
    if "kill" in failure:  # all processes go on together
        again = finished(start(folder))
        assert again.returncode == 0, again.err
        assert again.err.count("going on after epoch 1 of") == 1
        assert len(pandas.read_csv(folder / "models/k2/fold_0/history.csv")) == 2
        assert states(folder) == []
