"""Sections of params.yaml that go with what has a label: the network, its training and the cells of the map."""

from collections.abc import Mapping
from typing import Any

from landfold.core.settings import SettingsError, validate
from landfold.maps.settings import ExportSettings
from landfold.network.settings import ModelSettings, TrainSettings
from landfold.params import check_unit

_OF_PIXELS: dict[str, dict[str, Any]] = {
    "model": {
        "kind": "surroundings",
        "dropout": 0.3,
        "boxes_px": [3, 7, 15],
        "bins": 6,
        "hidden": [96, 96],
        "noise": 0.1,
        "backbone": None,
        "decoder": None,
        "depth": None,
        "window_px": None,
        "weights": None,
        "partial_weights": None,
        "stem": None,
        "kernel_px": None,
        "stride_px": None,
        "pooling": None,
        "blocks": None,
    },
    "train": {
        "epochs": 10,
        "epoch_size": 71680,
        "max_pixels": 1000000,
        "batch_size": 1024,
        "learning_rate": 0.003,
        "weight_decay": 0.05,
        "schedule": "one-cycle",
        "warmup_epochs": 0,
        "clip_norm": 0,
        "label_smoothing": 0.05,
        "class_weights": "none",
        "sampling": "shuffled",
        "average": "none",
        "ema_decay": 0.99,
        "average_epochs": 3,
        "early_stopping": None,
        "inner_folds": 5,
        "flips_and_rotations": False,
        "spectral_jitter": 0.0,
        "band_dropout": 0.0,
        "devices": 1,
        "nodes": 1,
        "precision": "32-true",
        "compile": False,
        "deterministic": True,
        "seed": 0,
    },
    "export": {
        "stride_px": None,
        "offsets": 1,
        "flips_and_rotations": False,
        "min_valid": 0.5,
        "sieve_px": 0,
        "calibrated": True,
        "layers": ["margin", "entropy"],
        "applicability": True,
        "polygons": {"formats": ["gpkg"], "min_area_m2": 1000, "simplify_m": 0},
        "mosaic": "confidence",
    },
}

_OF_PATCHES: dict[str, dict[str, Any]] = {
    "model": dict.fromkeys(_OF_PIXELS["model"])
    | {
        "kind": "classifier",
        "dropout": 0.0,
        "backbone": "resnet18",
        "weights": "none",
        "partial_weights": False,
        "stem": "averaged",
        "kernel_px": 3,
        "stride_px": 1,
        "pooling": True,
        "blocks": 3,
    },
    "train": _OF_PIXELS["train"]
    | {
        "epoch_size": None,
        "max_pixels": None,
        "batch_size": 64,
        "learning_rate": 0.001,
        "weight_decay": 0.01,
        "label_smoothing": 0.0,
        "flips_and_rotations": True,
    },
    "export": _OF_PIXELS["export"] | {"stride_px": 8},
}

NETWORKS = {"pixel": _OF_PIXELS, "patch": _OF_PATCHES}
"""By labels.unit: the sections of the repository's params.yaml, and those that docs/training.md lists for a classifier;
tests compare them."""


def fits(unit: str, sections: Mapping[str, Any]) -> bool:
    """Whether the user's sections ``model``, ``train`` and ``export`` are there, load and go with ``labels.unit``."""
    models = (ModelSettings, TrainSettings, ExportSettings)
    try:
        parts = [validate(sections[name], model, where=name) for name, model in zip(_OF_PIXELS, models, strict=True)]
        check_unit(unit, *parts)
    except (KeyError, SettingsError, ValueError):
        return False
    return True
