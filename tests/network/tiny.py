"""A tiny training: settings, a problem that is easily learned, and the training of one fold of it."""

from typing import Any

import numpy as np
import pandas
import shapely
import torch

from landfold.network.distributed import launch
from landfold.network.fold import TrainedFold, train_fold
from landfold.network.patch_examples import PatchExamples
from landfold.network.settings import TrainSettings
from tests.network.test_model import SETTINGS as MODEL
from tests.network.test_model import make_card, make_settings

SETTINGS: dict[str, Any] = {
    "epochs": 2,
    "epoch_size": None,
    "max_pixels": None,
    "batch_size": 16,
    "learning_rate": 0.003,
    "weight_decay": 0.01,
    "schedule": "one-cycle",
    "warmup_epochs": 0,
    "clip_norm": 0,
    "label_smoothing": 0.0,
    "class_weights": "none",
    "sampling": "shuffled",
    "average": "none",
    "ema_decay": 0.9,
    "average_epochs": 2,
    "early_stopping": None,
    "inner_folds": 4,
    "flips_and_rotations": True,
    "spectral_jitter": 0.0,
    "band_dropout": 0.0,
    "devices": 1,
    "nodes": 1,
    "precision": "32-true",
    "compile": False,
    "deterministic": True,
    "seed": 0,
}
SURROUNDINGS: dict[str, Any] = dict.fromkeys(MODEL) | {
    "kind": "surroundings",
    "dropout": 0.0,
    "boxes_px": [3, 5],
    "bins": 4,
    "hidden": [8],
    "noise": 0.05,
}
"""A small network that sees each pixel by its surroundings."""

CLASSES = ["water", "field", "wood"]
COUNTS = {"train": 40, "validation": 12, "buffer": 4}


def train_settings(**changes) -> TrainSettings:
    """The settings with changes, which may go beyond what params.yaml may have."""
    return TrainSettings.model_validate(SETTINGS).model_copy(update=changes)


def problem() -> tuple[pandas.DataFrame, np.ndarray]:
    """Patches of two unequal classes, each bright in its own channel; sides and classes are mixed in the table."""
    random = np.random.default_rng(3)
    side = random.permutation(np.repeat(list(COUNTS), list(COUNTS.values())))
    label = random.choice(CLASSES[:2], size=len(side), p=[0.35, 0.65])
    windows = random.random((len(side), 3, 16, 16), dtype=np.float32) * 0.3
    windows[label == "water", 0] += 0.6
    windows[label == "field", 1] += 0.6
    windows[:, 2, :8] += 0.1  # no window looks the same when it is rotated
    table = pandas.DataFrame({"patch": [f"s/{i * 7 % 56}" for i in range(56)], "label": label, "side": side})
    zone = [f"z{i % 8}" for i in range(56)]
    geometry = shapely.to_wkb(shapely.box(np.arange(56) * 20, 0, np.arange(56) * 20 + 10, 10))
    return table.assign(zone=zone, geometry=geometry), windows


def trained(table=None, windows=None, fold=0, model=None, checkpoint=None, callbacks=None, **changes) -> TrainedFold:
    """The problem, or a changed one, trained with changed settings."""
    own, pixels = problem()
    settings = train_settings(**changes)
    card = make_card(fold=fold, classes=CLASSES, model=model or make_settings(), train=settings.model_dump())
    table, windows = own if table is None else table, pixels if windows is None else windows
    fabric = launch(settings, "cpu", fold=fold)
    examples = PatchExamples(table, windows, card, settings)
    return train_fold(examples, card, settings, fabric, checkpoint=checkpoint, callbacks=callbacks)


def same(first: TrainedFold, second: TrainedFold) -> bool:
    """Whether two trainings gave the same weights to the bit and the same history."""
    mine, other = (result.classifier.network.state_dict() for result in (first, second))
    return first.history.equals(second.history) and all(torch.equal(mine[name], other[name]) for name in mine)
