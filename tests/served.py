"""Small model folders with random weights, for the tests of what is deployed."""

import hashlib
from pathlib import Path

import torch

from landfold.core import settings
from landfold.deploy.bundle import write_bundle
from landfold.network.card import ModelCard, window_px
from landfold.network.model import Classifier, build
from landfold.network.settings import ModelSettings
from landfold.network.surroundings import SurroundingsNetwork
from landfold.patches.settings import PatchSettings
from landfold.pixels.surroundings import surroundings
from tests.factories import PARAMS
from tests.network.test_model import SETTINGS, randomize_statistics

REPOSITORY = Path(__file__).parents[1]
BANDS, INDICES, CLASSES = ["B", "G", "R", "N"], ["NDVI"], ["field", "forest", "water"]
CHANNELS = [*BANDS, *INDICES]
SIZE_PX, STRIDE_PX = 8, 4


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


RESNET = ModelSettings.model_validate(SETTINGS | {"stride_px": 1, "pooling": False})
SURROUNDINGS = ModelSettings.model_validate(
    dict.fromkeys(SETTINGS)
    | {"kind": "surroundings", "dropout": 0.0, "boxes_px": [3, 5], "bins": 3, "hidden": [8], "noise": 0.0}
)
UNET = ModelSettings.model_validate(
    dict.fromkeys(SETTINGS)
    | {"kind": "segmentation", "backbone": "resnet18", "decoder": "unet", "depth": 1, "window_px": 32, "dropout": 0.1}
    | {"weights": "none", "partial_weights": False, "stem": "averaged"}
)
KINDS = {model.kind: model for model in (RESNET, SURROUNDINGS, UNET)}


def model_cards(folds: int, model: ModelSettings, size_px: int) -> list[ModelCard]:
    """The cards of all folds, of networks whose patches have this side."""
    patches = PatchSettings(size_px=size_px, core_px=size_px, stride_px=size_px, min_purity=0.5, max_invalid=0.5)
    window, core = window_px(model, patches)
    return [
        ModelCard(
            model=model, channels=CHANNELS, bands=BANDS, indices=INDICES, classes=CLASSES, size_px=window,
            core_px=core, resolution_m=10, k=folds, fold=fold, fold_digest=sha(f"fold {fold}"),
            patches_digest=sha("patches"), statistics_digest=sha("statistics"), train={},
        )
        for fold in range(folds)
    ]  # fmt: skip


def classifiers(folds: int = 2, *, seed: int = 0, model: ModelSettings = RESNET, size_px: int = SIZE_PX):
    """Networks of random weights, one a fold."""
    made = []
    for card in model_cards(folds, model, size_px):
        torch.manual_seed(100 * seed + card.fold)
        network = build(card.model, CHANNELS, len(CLASSES))
        randomize_statistics(network)
        if isinstance(network, SurroundingsNetwork):
            ground = torch.rand(1, len(CHANNELS), 40, 40)
            network.learn_bins(surroundings(ground, model.boxes_px)[0].flatten(1).T.numpy())
        # random networks are sure of nothing: spread their answers out, so that a fault shows
        *_, last = (module for module in network.modules() if isinstance(module, torch.nn.Linear | torch.nn.Conv2d))
        torch.nn.init.normal_(last.weight, std=0.5)
        made.append(Classifier(network, card))
    return made


def make_bundle(
    folder: Path,
    *,
    kind: str = "classifier",
    seed: int = 0,
    folds: int = 2,
    accuracy: tuple[float, float, float] = (0.7, 0.6, 0.8),
    data: str = "a",
    name: str = "meadows",
) -> Path:
    """A model folder; ``accuracy`` is pooled, low and high, ``data`` what its data digest is of."""
    made = classifiers(folds, seed=seed, model=KINDS[kind])
    card = made[0].card
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
    export = settings.read(REPOSITORY / "params.yaml")["export"]
    export |= {"stride_px": None if card.model.of_pixels else STRIDE_PX}
    fitted = {"temperature": 1.5, "uniform_share": 0.05, "unscaled_share": 0.4, "least_probability": 0.2}
    scores = dict(zip(("pooled", "low", "high"), accuracy, strict=True))
    folder.mkdir(parents=True)
    write_bundle(
        folder,
        {
            "name": name, "crs": "EPSG:32633", "model": card.model, "channels": CHANNELS, "bands": BANDS,
            "indices": INDICES, "classes": CLASSES, "colours": ["#111111", "#222222", "#333333"],
            "size_px": card.size_px, "core_px": card.core_px, "patch_px": SIZE_PX, "resolution_m": 10.0, "k": folds,
            "fold_digests": [sha(f"fold {fold}") for fold in range(folds)], "patches_digest": sha("patches"),
            "statistics_digest": sha("statistics"), "data_digest": sha(data), "params_digest": sha("params"),
            "calibration": {"coverage": 0.9, "folds": [], "ensemble": fitted},
            "train": {}, "ingest": PARAMS["ingest"], "normalize": PARAMS["normalize"], "export": export,
            "origin": {
                "scenes": 1, "acquired": ["2020-01-01"], "sensors": ["Sentinel-2"], "processing": [],
                "clouds_unknown": 1,
                "bands": [{"name": band, **delivered} for band in BANDS],
            },
            "zoned": {"accuracy": scores, "macro_f1": {"pooled": 0.5, "low": 0.4, "high": 0.6}},
            "zoned_pixels": {"accuracy": {"pooled": 0.9, "low": 0.8, "high": 0.95}} if card.model.of_pixels else None,
        },
        weights,
        None,
    )  # fmt: skip
    return folder
