"""A small scene whose pixels are easily told apart by colour and texture, with zones of which one is held out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import shapely
import torch

from landfold.folds.zones import Blocks
from landfold.network.card import ModelCard, window_px
from landfold.network.distributed import launch
from landfold.network.fold import FoldExamples, TrainedFold, train_fold
from landfold.network.pixel_examples import SurroundingsExamples
from landfold.network.settings import ModelSettings, TrainSettings
from landfold.network.window_examples import WindowExamples
from landfold.pixels.folds import FoldPixels
from landfold.pixels.ground import HeldOutGround
from landfold.pixels.rows import LabelledScenes
from tests import factories
from tests.network.test_model import make_card
from tests.network.tiny import train_settings

HEIGHT, WIDTH = 104, 168
CLASSES = ["water", "field", "wood"]
CHANNELS = ["R", "G", "N"]
RULE = Blocks(480, (factories.ORIGIN_X, factories.ORIGIN_Y))
HELD_OUT = str(RULE.at(np.array([factories.ORIGIN_X + 10.0]), np.array([factories.ORIGIN_Y - 10.0]))[0])
"""The zone of the upper left corner, 48 x 48 px."""
BUFFER_M = 25.0

NONE = dict.fromkeys(ModelSettings.model_fields)
MODELS: dict[str, dict[str, Any]] = {
    "surroundings": NONE
    | {"kind": "surroundings", "dropout": 0.1, "boxes_px": [3, 5], "bins": 4, "hidden": [16], "noise": 0.1},
    "classical": NONE | {"kind": "classical", "boxes_px": [3, 5]},
    "segmentation": NONE
    | {"kind": "segmentation", "dropout": 0.1, "backbone": "resnet18", "decoder": "unet", "depth": 2, "window_px": 16}
    | {"weights": "none", "partial_weights": False, "stem": "averaged"},
}
TRAIN: dict[str, dict[str, Any]] = {
    "surroundings": {"epochs": 3, "epoch_size": 2048, "batch_size": 128, "max_pixels": 6000},
    "classical": {"max_pixels": 600},
    "segmentation": {"epochs": 3, "epoch_size": 64, "batch_size": 8, "max_pixels": 6000},
}
Change = Callable[[np.ndarray, np.ndarray, HeldOutGround], None]


def model_settings(kind: str = "segmentation", **changes: Any) -> ModelSettings:
    return ModelSettings.model_validate(MODELS[kind] | changes)


def make_ground(**changes: Any) -> HeldOutGround:
    none = np.zeros(0, dtype=object)
    parts = {"zones": frozenset([HELD_OUT]), "footprints": none, "test": none, "buffer_m": BUFFER_M}
    return HeldOutGround(crs=factories.CRS_UTM33, rule=RULE, **(parts | changes))


def images() -> tuple[np.ndarray, np.ndarray]:
    """(channel, y, x) float32 and labels (y, x) uint8: stripes of three classes, the third rare, with gaps."""
    random = np.random.default_rng(1)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    labels = 1 + (columns // 8 + rows // 24) % 2
    labels[(rows % 24 < 6) & (columns % 24 < 8)] = 3
    values = 0.2 + 0.1 * random.random((3, HEIGHT, WIDTH))
    values[0] += 0.4 * (labels == 1)
    values[1] += 0.4 * (labels == 2)
    values[2] += 0.5 * ((labels == 3) & ((rows + columns) % 2 == 0))  # wood is a checkerboard of dark and bright
    labels[rows % 24 == 23] = 0
    return values.astype(np.float32), labels.astype(np.uint8)


def write_problem(folder: Path, change: Change | None = None) -> LabelledScenes:
    """Write the scene and its labels, with a corner of nodata; ``change`` alters values and labels in place."""
    values, labels = images()
    if change is not None:
        change(values, labels, make_ground())
    valid = np.ones(labels.shape, dtype=bool)
    valid[-9:, -13:] = False
    channels = dict(zip(CHANNELS, values, strict=True))
    factories.write_raster(folder / "normalized/S.tif", channels, valid=valid)
    factories.write_raster(folder / "labels/S.tif", {"label": labels}, valid=labels > 0)
    return LabelledScenes.of(folder / "normalized", folder / "labels")


def patch_table() -> pandas.DataFrame:
    """Patches of 8 px: those of the held-out zone are validation, the others train."""
    row, column = (part.ravel() for part in np.meshgrid(np.arange(0, 96, 8), np.arange(0, 160, 8), indexing="ij"))
    x, y = factories.ORIGIN_X + 10.0 * (column + 4), factories.ORIGIN_Y - 10.0 * (row + 4)
    zone = RULE.at(x, y)
    _, labels = images()
    names = np.array(["none", *CLASSES], dtype=object)[labels[row + 4, column + 4]]
    return pandas.DataFrame(
        {
            "patch": [f"S/{r}/{c}" for r, c in zip(row, column, strict=True)],
            "scene": "S",
            "row": row,
            "column": column,
            "size_px": 8,
            "label": np.where(names == "none", "field", names),
            "zone": zone,
            "side": np.where(zone == HELD_OUT, "validation", "train"),
            "geometry": shapely.to_wkb(shapely.box(x - 40, y - 40, x + 40, y + 40)),
        }
    )


def fold_pixels(scenes: LabelledScenes, **changes: Any) -> FoldPixels:
    return FoldPixels(scenes, patch_table(), **({"ground": make_ground(), "core_px": 8} | changes))


def settings_of(kind: str, **changes: Any) -> TrainSettings:
    return train_settings(flips_and_rotations=kind == "segmentation", **(TRAIN[kind] | changes))


def make_pixel_card(model: ModelSettings, train: TrainSettings) -> ModelCard:
    size_px, core_px = window_px(model, None)
    return make_card(
        model=model, channels=CHANNELS, classes=CLASSES, size_px=size_px, core_px=core_px, train=train.model_dump()
    )


def make_examples(pixels: FoldPixels, card: ModelCard, settings: TrainSettings, **options: Any) -> FoldExamples:
    if card.model.by_features:
        return SurroundingsExamples(pixels, card, settings)
    return WindowExamples(pixels, card, settings, **options)


def trained(
    kind: str, pixels: FoldPixels, *, model=None, checkpoint=None, callbacks=None, options=None, **changes
) -> TrainedFold:
    """The problem trained with changed settings."""
    torch.set_num_threads(1)
    settings = settings_of(kind, **changes)
    card = make_pixel_card(model or model_settings(kind), settings)
    fabric = launch(settings, "cpu", fold=0)
    examples = make_examples(pixels, card, settings, **(options or {}))
    return train_fold(examples, card, settings, fabric, checkpoint=checkpoint, callbacks=callbacks)
