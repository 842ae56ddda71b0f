"""The stage train with networks of pixels, in this process and in two."""

import sys

import numpy as np
import pandas
import pytest
import torch

from landfold.network.model import Classifier
from landfold.params import read_params
from stages import train
from tests import factories
from tests.network.pixel_problem import MODELS, TRAIN
from tests.stages.test_train import FILES, SCENE, project, project_again
from tests.stages.test_train_processes import TRAIN as COMMAND
from tests.stages.test_train_processes import finished, start, states

WRITTEN = sorted([*FILES, "pixels.parquet", "pixel_sample.parquet"])


def prepared(folder, kind, **changes):
    """The project of the stage's tests, with labels of pixels and a network of this kind."""
    (folder / ".dvc").mkdir(parents=True)
    project(folder)
    labels = np.where(np.arange(120) < 60, 1, 2).astype(np.uint8)[None].repeat(90, axis=0)
    labels[::7] = 0
    factories.write_raster(folder / f"data/labels/{SCENE}.tif", {"label": labels}, valid=labels > 0)
    settings = {"labels__unit": "pixel", "export__stride_px": None, "zones__buffer_m": 20}
    settings |= {f"model__{name}": value for name, value in MODELS[kind].items()}
    settings |= {f"train__{name}": value for name, value in TRAIN[kind].items()}
    settings |= {"train__flips_and_rotations": kind == "segmentation", "train__epochs": 2}
    project_again(folder, **settings, **changes)
    return folder


@pytest.fixture
def here(monkeypatch):
    """Train fold 0 of a project in this process."""
    torch.set_num_threads(1)

    def run(folder, *arguments):
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["stages/train.py", "0", *arguments])
        return train.main(read_params())

    yield run
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_writes_a_fold_and_the_same_again_from_a_file(tmp_path, here, kind):
    folder = prepared(tmp_path, kind)
    here(folder)
    fold_0 = folder / "models/k2/fold_0"
    compared = ["candidates.csv"] if kind == "classical" else []
    assert sorted(path.name for path in fold_0.iterdir()) == sorted(WRITTEN + compared)
    first = factories.tree(folder / "models")
    project_again(folder, machine__cache_gb=0)
    here(folder)
    assert factories.tree(folder / "models") == first
    card = Classifier.load(fold_0).card
    assert (card.size_px, card.core_px) == {"segmentation": (16, 8)}.get(kind, (68, 64))
    pixels = pandas.read_parquet(fold_0 / "pixels.parquet")
    table = pandas.read_parquet(folder / "data/folds/k2/fold_0.parquet")
    assert set(pixels["zone"]) == set(table["zone"][table["side"] == "validation"])
    assert factories.leftovers(tmp_path) == states(folder) == []


@pytest.mark.parametrize("kind", ["segmentation", "surroundings"])
def test_two_processes_train_and_write_once(tmp_path, kind):
    folder = prepared(tmp_path, kind, train__devices=2)
    process = finished(start(folder, COMMAND))
    assert process.returncode == 0, process.err
    assert len(process.out.splitlines()) == 1
    fold_0 = folder / "models/k2/fold_0"
    assert sorted(path.name for path in fold_0.iterdir()) == WRITTEN
    history, pixels = pandas.read_csv(fold_0 / "history.csv"), pandas.read_parquet(fold_0 / "pixels.parquet")
    assert list(history["epoch"]) == [1, 2]
    right = pixels["label"] == pixels["predicted"]
    # the few held-out pixels are all in the curve, and both processes validated with the weights that were written
    accuracy = pixels["pixels"][right].sum() / pixels["pixels"].sum()
    assert history["validation_accuracy"].iloc[-1] == pytest.approx(accuracy, abs=0.002)
    assert factories.leftovers(tmp_path) == states(folder) == []


def test_a_random_fold_is_trained_without_weights(tmp_path, here):
    folder = prepared(tmp_path, "segmentation", audit__network=True)
    table = pandas.read_parquet(folder / "data/folds/k2/fold_0.parquet")
    side = np.where(np.arange(len(table)) % 2 == 0, "validation", "train")
    table.assign(side=side).to_parquet(folder / "data/folds/k2/random_0.parquet", index=False)
    here(folder, "random")
    written = sorted(path.name for path in (folder / "models/random/k2/fold_0").iterdir())
    assert written == [name for name in WRITTEN if name not in ("model.safetensors", "pixel_sample.parquet")]
