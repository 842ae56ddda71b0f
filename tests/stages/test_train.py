import json
import sys
from contextlib import contextmanager
from typing import Any

import geopandas
import numpy as np
import pandas
import pytest
import shapely
import torch
import yaml

from landfold.core.digests import digest, file_sha256
from landfold.core.files import write_json
from landfold.folds.lists import CrossValidationFolds, write_folds
from landfold.folds.split import Split
from landfold.folds.zones import Blocks, zone_table
from landfold.network.errors import TrainingError
from landfold.network.model import Classifier
from landfold.params import read_params
from landfold.tracking import LiveRun
from stages import run, train
from tests import factories
from tests.network.test_model import SETTINGS as MODEL
from tests.network.tiny import SETTINGS as TRAIN

SCENE = "T33UUU_20170216T102101"
CLASSES = ["field", "water"]
CHANNELS = ["B", "G", "R", "N", "NDVI", "NDWI"]
FILES = ["history.csv", "model.json", "model.safetensors", "predictions.parquet"]


def project(folder, *, k: int = 2, **changes: Any) -> dict[str, Any]:
    """What the stages before train leave: a scene of fields in the west and water in the east, two folds."""
    content = factories.params(**{"zones__k": k, "zones__folds": list(range(k))})
    content |= {
        "model": dict(MODEL),
        "train": dict(TRAIN),
        "machine": {"device": "cpu", "cache_gb": 1},
        "track": {"enabled": False, "maps_mb": 0, "system_metrics": False},
    }
    content |= {"colours": {"field": "#f2d16b", "water": "#2f7fd1"}}
    for name, value in changes.items():
        section, key = name.split("__")
        content[section][key] = value
    (folder / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    rows, columns = np.mgrid[:90, :120]
    water = columns >= 60
    values = [(0.2 + 0.4 * (water == (i % 2 == 0)) + rows / 1000).astype(np.float32) for i in range(len(CHANNELS))]
    valid = ~((rows < 12) & (columns < 12))
    channels = dict(zip(CHANNELS, values, strict=True))
    factories.write_raster(folder / f"data/normalized/{SCENE}.tif", channels, valid=valid)
    write_json(folder / f"data/statistics/{SCENE}.json", {"channels": {}})
    table = patches(np.arange(8, 72, 8), np.arange(8, 100, 8))
    folds = np.unique(table["zone"], return_inverse=True)[1] % k
    (folder / f"data/folds/k{k}").mkdir(parents=True)
    table.drop(columns=["zone"]).to_parquet(folder / "data/patches.parquet", index=False)
    zones = zone_table(table["zone"].to_numpy(), folds, Blocks(480, (0, 0)), factories.CRS_UTM33)
    splits = [split(folds, fold) for fold in range(k)]
    write_folds(folder / f"data/folds/k{k}", CrossValidationFolds(table.assign(fold=folds), splits, [], [zones]))
    return content


def patches(rows: np.ndarray, columns: np.ndarray) -> geopandas.GeoDataFrame:
    row, column = (part.ravel() for part in np.meshgrid(rows, columns, indexing="ij"))
    x, y = factories.ORIGIN_X + 10 * (column + 8), factories.ORIGIN_Y - 10 * (row + 8)
    return geopandas.GeoDataFrame(
        {
            "patch": [f"{SCENE}/{r}/{c}" for r, c in zip(row, column, strict=True)],
            "scene": SCENE,
            "row": row,
            "column": column,
            "size_px": 16,
            "label": np.where(column + 8 < 60, "field", "water"),
            "zone": Blocks(480, (0, 0)).at(x, y),
        },
        geometry=shapely.box(x - 80, y - 80, x + 80, y + 80),
        crs=factories.CRS_UTM33,
    )


def split(folds: np.ndarray, fold: int) -> Split:
    validation = folds == fold
    buffer = ~validation & (np.arange(len(folds)) % 9 == 0)
    return Split(~validation & ~buffer, validation, buffer)


def run_train(monkeypatch, fold: int) -> str:
    monkeypatch.setattr(sys, "argv", ["stages/train.py", str(fold)])
    return train.main(read_params())


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dvc").mkdir()
    yield tmp_path
    torch.use_deterministic_algorithms(False)


def test_writes_a_fold(root, monkeypatch):
    content = project(root)
    line = run_train(monkeypatch, 1)
    folder = root / "models/k2/fold_1"
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert not (root / "mlflow.db").exists()
    assert factories.leftovers(root) == []
    assert list((root / ".dvc").rglob("*.*")) == []
    index = json.loads((root / "data/folds/k2/index.json").read_text())
    assert json.loads((folder / "model.json").read_text()) == {
        "model": content["model"],
        "channels": CHANNELS,
        "bands": ["B", "G", "R", "N"],
        "indices": ["NDVI", "NDWI"],
        "classes": CLASSES,
        "size_px": 16,
        "core_px": 8,
        "resolution_m": 10.0,
        "k": 2,
        "fold": 1,
        "fold_digest": index["digests"]["1"],
        "patches_digest": file_sha256(root / "data/patches.parquet"),
        "statistics_digest": digest(root / "data/statistics"),
        "train": content["train"],
    }
    sides = pandas.read_parquet("data/folds/k2/fold_1.parquet")
    predictions = pandas.read_parquet(folder / "predictions.parquet")
    assert list(predictions["patch"]) == list(sides.loc[sides["side"] == "validation", "patch"])
    assert list(predictions.columns) == ["patch", "label", "predicted", "confidence", "p_field", "p_water"]
    assert len(pandas.read_csv(folder / "history.csv")) == 2
    assert Classifier.load(folder).card.channels == CHANNELS
    assert line.startswith(f"fold 1: {(sides['side'] == 'train').sum()} patches, 2 epochs; ")
    assert line.endswith(f" of {len(predictions)} held-out patches right")


def test_a_second_run_writes_the_same_bytes_and_the_other_fold_others(root, monkeypatch):
    project(root)
    run_train(monkeypatch, 0)
    first = factories.tree(root / "models")
    run_train(monkeypatch, 0)
    assert factories.tree(root / "models") == first
    run_train(monkeypatch, 1)
    both = factories.tree(root / "models")
    assert {name: both[name] for name in first} == first
    assert both["k2/fold_1/model.safetensors"] != first["k2/fold_0/model.safetensors"]


def test_the_random_split_is_trained_beside_without_weights_and_not_tracked(root, monkeypatch):
    project(root)
    folder = root / "data/folds/k2"
    for fold in (0, 1):
        sides = pandas.read_parquet(folder / f"fold_{fold}.parquet")
        mixed = sides["side"].sample(frac=1, random_state=fold).to_numpy()
        sides.assign(side=mixed).to_parquet(folder / f"random_{fold}.parquet", index=False)
    project_again(root, track__enabled=True, audit__network=True)
    tracked = []

    @contextmanager
    def live_run(settings, *arguments, **options):
        tracked.append(settings.enabled)
        yield LiveRun()

    monkeypatch.setattr(train, "live_run", live_run)
    run_train(monkeypatch, 0)
    before = factories.tree(root / "models")
    monkeypatch.setattr(sys, "argv", ["stages/train.py", "0", "random"])
    line = train.main(read_params())
    assert line.startswith("fold 0, random split: ")
    own = root / "models/random/k2/fold_0"
    assert sorted(path.name for path in own.iterdir()) == ["history.csv", "model.json", "predictions.parquet"]
    assert factories.read_json(own / "model.json")["fold_digest"] == digest(folder / "random_0.parquet")
    sides = pandas.read_parquet(folder / "random_0.parquet")
    held_out = sides["patch"][sides["side"] == "validation"]
    assert list(pandas.read_parquet(own / "predictions.parquet")["patch"]) == list(held_out)
    assert {name: value for name, value in factories.tree(root / "models").items() if name in before} == before
    assert tracked == [True, False]


def test_without_the_network_s_own_gap_the_random_stage_leaves_a_note(root, monkeypatch):
    project(root)
    project_again(root, audit__network=False)
    monkeypatch.setattr(sys, "argv", ["stages/train.py", "1", "random"])
    assert train.main(read_params()) == "fold 1, random split: off (audit.network: false)"
    assert [path.name for path in (root / "models").rglob("*.*")] == ["off.json"]


@pytest.mark.parametrize("where", ["train_fold", "write_fold"])
def test_a_failure_leaves_the_earlier_fold_and_nothing_half_written(root, monkeypatch, where):
    project(root)
    run_train(monkeypatch, 0)
    before = factories.tree(root / "models")
    project_again(root, train__epochs=1)

    def fail(*arguments, **options):
        if where == "write_fold":
            (arguments[0] / "model.json").write_text("half")
        raise TrainingError("fold 0, epoch 1: the loss is nan")

    monkeypatch.setattr(train, where, fail)
    monkeypatch.setattr(sys, "argv", ["stages/train.py", "0"])
    with pytest.raises(SystemExit, match=r"^train: fold 0, epoch 1: the loss is nan"):
        run(train.main)
    assert factories.tree(root / "models") == before
    assert factories.leftovers(root) == []


def test_notices_go_to_stderr(root, monkeypatch, capsys):
    project(root)
    content = yaml.safe_load((root / "params.yaml").read_text())
    content["labels"]["classes"]["rock"] = ["rock"]
    (root / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    run_train(monkeypatch, 0)
    assert capsys.readouterr().err.startswith("train: fold 0: no training patch of class rock: the network cannot")


def test_memory_mapped_patches_give_the_same_bytes(root, monkeypatch):
    project(root)
    run_train(monkeypatch, 0)
    first = factories.tree(root / "models")
    project_again(root, machine__cache_gb=0)
    run_train(monkeypatch, 0)
    assert factories.tree(root / "models") == first
    assert list((root / ".dvc").rglob("*.*")) == []


def project_again(root, **changes):
    content = yaml.safe_load((root / "params.yaml").read_text())
    for name, value in changes.items():
        section, key = name.split("__")
        content[section][key] = value
    (root / "params.yaml").write_text(yaml.safe_dump(content))


@pytest.mark.parametrize(
    ("changes", "fold", "message"),
    [
        ({"train__learning_rate": 100, "train__weight_decay": 100}, 1, r"^train: fold 1, epoch 2: the loss is nan"),
        (
            {"model__weights": "absent.pth", "model__kernel_px": 7},
            0,
            r"^train: model.weights: absent.pth: no such file",
        ),
        ({"machine__device": "cuda"}, 0, r"^train: machine.device or --device is cuda, but torch finds no GPU"),
        ({"train__epoch": 3}, 0, r"^train: params.yaml: train.epoch: unknown setting \(did you mean 'epochs'"),
        ({}, 7, r"^train: expected the number of a fold, 0 to 1"),
    ],
)
def test_refuses_in_one_message_and_writes_nothing(root, monkeypatch, changes, fold, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    project(root)
    project_again(root, **changes)
    monkeypatch.setattr(sys, "argv", ["stages/train.py", str(fold)])
    with pytest.raises(SystemExit, match=message):
        run(train.main)
    assert list(root.glob("models/*/*")) == []
