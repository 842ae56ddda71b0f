"""A tiny training: settings, a problem that is easily learned, and the training of one fold of it."""

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas
import shapely
import torch

from landfold.folds.assignment import fold_patches
from landfold.folds.lists import write_folds
from landfold.network.callbacks import TrainingCallbacks
from landfold.network.card import ModelCard
from landfold.network.distributed import launch
from landfold.network.fold import TrainedFold, train_fold
from landfold.network.model import Classifier, build
from landfold.network.patch_examples import PatchExamples
from landfold.network.pixel_examples import SurroundingsExamples
from landfold.network.settings import ModelSettings, TrainSettings
from landfold.pixels.folds import FoldFiles
from landfold.pixels.rows import LabelledScenes
from tests.factories import CRS_UTM33, ORIGIN_X, ORIGIN_Y, box, make_grid, write_labelled_scene
from tests.folds.layouts import zone_settings
from tests.network.test_model import SETTINGS as MODEL
from tests.network.test_model import make_card, make_settings, randomize_statistics

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


class Killed(BaseException):
    """The end of a process, as far as a test in one can have it."""


def stop_after(epoch: int) -> TrainingCallbacks:
    """Kills the training after an epoch."""

    def stop(row):
        if row["epoch"] == epoch:
            raise Killed

    return TrainingCallbacks(on_epoch=stop)


def same(first: TrainedFold, second: TrainedFold) -> bool:
    """Whether two trainings gave the same weights to the bit and the same history."""
    mine, other = (result.classifier.network.state_dict() for result in (first, second))
    return first.history.equals(second.history) and all(torch.equal(mine[name], other[name]) for name in mine)


PIXEL_SHAPE = (80, 100)
PIXEL_TRAIN: dict[str, Any] = {
    "batch_size": 256,
    "learning_rate": 0.02,
    "max_pixels": 10_000,
    "flips_and_rotations": False,
    "epochs": 3,
}
PIXEL_ZONES = zone_settings(
    3, block_size_m=200, origin_m=[ORIGIN_X, ORIGIN_Y], buffer_m=15, assignment="group", test_region=None
)
"""20 zones of 20 x 20 px."""


def pixel_ground() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values, class numbers from 1 and valid pixels of a scene: classes in stripes, some ground unlabelled."""
    random = np.random.default_rng(7)
    rows, columns = np.mgrid[: PIXEL_SHAPE[0], : PIXEL_SHAPE[1]]
    labels = ((rows + 2 * columns) // 17 % 2 + 1).astype(np.uint8)
    values = random.random((3, *PIXEL_SHAPE), dtype=np.float32) * 0.5
    values[0] += 0.4 * (labels == 1)
    values[1] += 0.4 * (labels == 2)
    labels[(rows // 6 + columns // 9) % 4 == 0] = 0
    valid = ~((rows < 4) & (columns < 6)) & ((rows + 3 * columns) % 29 > 0)
    return values, labels, valid


def pixel_patches() -> geopandas.GeoDataFrame:
    """Patches of 8 x 8 px, 6 px apart, some of which reach over the borders of zones; cores of 4 x 4 px."""
    row, column = (part.ravel() for part in np.meshgrid(range(0, 73, 6), range(0, 93, 6), indexing="ij"))
    centre = pixel_ground()[1][row + 4, column + 4]
    row, column, centre = row[centre > 0], column[centre > 0], centre[centre > 0]
    places = zip(row, column, strict=True)
    return geopandas.GeoDataFrame(
        {
            "patch": [f"s/{r}/{c}" for r, c in zip(row, column, strict=True)],
            "scene": "s",
            "row": row,
            "column": column,
            "size_px": 8,
            "label": np.where(centre == 2, "field", "water"),
            "x": ORIGIN_X + 10 * (column + 4.0),
            "y": ORIGIN_Y - 10 * (row + 4.0),
        },
        geometry=[box(10 * c, 10 * r, 10 * c + 80, 10 * r + 80) for r, c in places],
        crs=CRS_UTM33,
    )


def write_pixel_project(folder: Path, region: shapely.Geometry | None = None) -> None:
    """What the stages before train leave of labelled pixels: a scene, its labels, patches and three folds."""
    values, labels, valid = pixel_ground()
    write_labelled_scene(folder, "s", values, labels, grid=make_grid(*PIXEL_SHAPE), valid=valid)
    patches = pixel_patches()
    test = np.zeros(len(patches), dtype=bool) if region is None else patches.intersects(region).to_numpy()
    folds = folder / f"folds/k{PIXEL_ZONES.k}"
    folds.mkdir(parents=True)
    write_folds(folds, fold_patches(patches, PIXEL_ZONES, test), region)
    bare = pandas.DataFrame(patches.drop(columns="geometry"))
    bare.assign(geometry=shapely.to_wkb(patches.geometry.to_numpy())).to_parquet(folder / "patches.parquet")


def pixel_examples(folder: Path, fold: int = 0, kind: str = "fold", **changes) -> SurroundingsExamples:
    """The labelled pixels of a fold, with changed settings."""
    files = FoldFiles(folder, fold, kind, 4, PIXEL_ZONES, CRS_UTM33)
    pixels = files.pixels(files.table(), LabelledScenes.of(files.normalized, folder / "labels"))
    return SurroundingsExamples(pixels, pixel_card(fold), train_settings(**PIXEL_TRAIN | changes))


def pixel_card(fold: int = 0, **changes) -> ModelCard:
    """The card of a small network of surroundings."""
    model = ModelSettings.model_validate(SURROUNDINGS | changes)
    margin = max(model.boxes_px, default=1) // 2
    sizes = {"size_px": 8 + 2 * margin, "core_px": 8}
    return make_card(fold=fold, k=3, classes=CLASSES[:2], model=model, channels=["c0", "c1", "c2"], **sizes)


def pixel_classifier(seed: int = 0, fold: int = 0, **changes) -> Classifier:
    """An untrained network of surroundings whose bins and statistics are not those of a fresh one."""
    card = pixel_card(fold, **changes)
    torch.manual_seed(seed)
    network = build(card.model, card.channels, len(card.classes))
    network.learn_bins(np.random.default_rng(seed).random((500, network.low.shape[1]), dtype=np.float32))
    randomize_statistics(network)
    return Classifier(network, card)


def trained_on_pixels(
    folder: Path, fold: int = 0, kind: str = "fold", checkpoint=None, callbacks=None, **changes
) -> TrainedFold:
    """A fold of the labelled pixels, trained with changed settings."""
    settings = train_settings(**PIXEL_TRAIN | changes)
    fabric = launch(settings, "cpu", fold=fold)
    examples = pixel_examples(folder, fold, kind, **changes)
    return train_fold(examples, pixel_card(fold), settings, fabric, checkpoint=checkpoint, callbacks=callbacks)
