"""Small model folders with random weights, for the tests of what is deployed."""

import hashlib
from pathlib import Path

import torch

from landfold.core import settings
from landfold.deploy.bundle import write_bundle
from landfold.network.model import Classifier, ModelCard, build
from landfold.network.settings import ModelSettings
from tests.factories import PARAMS

REPOSITORY = Path(__file__).parents[1]
BANDS, INDICES, CLASSES = ["B", "G", "R", "N"], ["NDVI"], ["field", "forest", "water"]
CHANNELS = [*BANDS, *INDICES]
SIZE_PX, STRIDE_PX = 8, 4


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def model_settings(backbone: str = "resnet18", **changes) -> ModelSettings:
    resnet = {"kernel_px": 3, "stride_px": 1, "pooling": False, "blocks": 1}
    own = resnet if "resnet" in backbone else dict.fromkeys(resnet)
    plain = {"weights": "none", "partial_weights": False, "stem": "averaged", "dropout": 0.0}
    return ModelSettings(backbone=backbone, **plain | own | changes)


def classifiers(folds: int = 2, *, seed: int = 0, backbone: str = "resnet18", size_px: int = SIZE_PX):
    """Networks of random weights, one a fold."""
    made = []
    for fold in range(folds):
        card = ModelCard(
            model=model_settings(backbone), channels=CHANNELS, bands=BANDS, indices=INDICES, classes=CLASSES,
            size_px=size_px, core_px=size_px, resolution_m=10, k=folds, fold=fold, fold_digest=sha(f"fold {fold}"),
            patches_digest=sha("patches"), statistics_digest=sha("statistics"), train={},
        )  # fmt: skip
        torch.manual_seed(100 * seed + fold)
        network = build(card.model, CHANNELS, len(CLASSES))
        # random networks are sure of nothing: spread their answers out, so that a fault shows
        *_, last = (module for module in network.modules() if isinstance(module, torch.nn.Linear))
        torch.nn.init.normal_(last.weight, std=0.5)
        made.append(Classifier(network, card))
    return made


def make_bundle(
    folder: Path,
    *,
    seed: int = 0,
    folds: int = 2,
    accuracy: tuple[float, float, float] = (0.7, 0.6, 0.8),
    data: str = "a",
    name: str = "meadows",
) -> Path:
    """A model folder; ``accuracy`` is pooled, low and high, ``data`` what its data digest is of."""
    made = classifiers(folds, seed=seed)
    weights = []
    for fold, classifier in enumerate(made):
        home = folder.parent / f"weights-{folder.name}" / f"fold_{fold}"
        home.mkdir(parents=True, exist_ok=True)
        classifier.save(home)
        weights.append(home / "model.safetensors")
    delivered = {
        "native_names": ["B2"], "resolution_m": [10.0], "scale": [0.0001], "offset": [0.0], "radiometry_from": ["file"],
        "low": 0.01, "high": 0.5,
    }  # fmt: skip
    export = settings.read(REPOSITORY / "params.yaml")["export"] | {"stride_px": STRIDE_PX}
    scores = dict(zip(("pooled", "low", "high"), accuracy, strict=True))
    folder.mkdir(parents=True)
    write_bundle(
        folder,
        {
            "name": name, "crs": "EPSG:32633", "model": model_settings(), "channels": CHANNELS, "bands": BANDS,
            "indices": INDICES, "classes": CLASSES, "colours": ["#111111", "#222222", "#333333"], "size_px": SIZE_PX,
            "core_px": SIZE_PX, "resolution_m": 10.0, "k": folds,
            "fold_digests": [sha(f"fold {fold}") for fold in range(folds)], "patches_digest": sha("patches"),
            "statistics_digest": sha("statistics"), "data_digest": sha(data), "params_digest": sha("params"),
            "train": {}, "ingest": PARAMS["ingest"], "normalize": PARAMS["normalize"], "export": export,
            "origin": {
                "scenes": 1, "acquired": ["2020-01-01"], "sensors": ["Sentinel-2"], "processing": [],
                "bands": [{"name": band, **delivered} for band in BANDS],
            },
            "zoned": {"accuracy": scores, "macro_f1": {"pooled": 0.5, "low": 0.4, "high": 0.6}},
        },
        weights,
        None,
    )  # fmt: skip
    return folder
