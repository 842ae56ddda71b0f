"""Training of one fold from its table of patches, and the fold's files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from lightning_fabric import Fabric
from torch import nn

from landfold.network.callbacks import TrainingCallbacks
from landfold.network.card import ModelCard
from landfold.network.checkpoints import Checkpoint, training_fingerprint
from landfold.network.dataset import Examples
from landfold.network.errors import TrainingError
from landfold.network.model import Classifier, build
from landfold.network.settings import TrainSettings
from landfold.network.training import FoldData, fit

PREDICT_CHUNK = 4096
"""Windows that are copied at once for predictions; a multiple of the batch of `Classifier.probabilities`."""


@dataclass(frozen=True)
class TrainedFold:
    """Result of a fold's training; the predictions are empty in all processes but the first."""

    classifier: Classifier
    history: pandas.DataFrame
    """one row for each epoch, as `landfold.network.training.fit` returns it"""
    predictions: pandas.DataFrame
    """of the validation patches, as `predictions_table` has them"""
    test: pandas.DataFrame
    """the same of the patches in the test region; empty where there is none"""


def train_fold(
    table: pandas.DataFrame,
    windows: np.ndarray,
    card: ModelCard,
    settings: TrainSettings,
    fabric: Fabric,
    *,
    checkpoint: Checkpoint | None = None,
    callbacks: TrainingCallbacks | None = None,
) -> TrainedFold:
    """Train the network that the card describes on the fold's training patches.

    Args:
        table: patches with ``label`` and ``side``, as `landfold.network.dataset.read_fold` returns them; for early
            stopping also with ``zone`` and ``geometry``.
        windows: (patch, channel, y, x) float32 in the order of the table.
        card: the network, its channels and classes, and the fold.
        settings: how to train.
        fabric: as `landfold.network.distributed.launch` has just returned it.
        checkpoint: where the state after each epoch is saved, and an earlier one looked for.
        callbacks: called in the first process with steps, epochs and notices.

    Raises:
        TrainingError: labels that are not classes of the card; see also `fit` and `inner_split`.
        ModelError: the network or its pretrained weights do not fit; see `build`.
    """
    labels = _class_numbers(table, card.classes)
    train, validation, test = ((table["side"] == side).to_numpy() for side in ("train", "validation", "test"))
    inner = None
    callbacks = callbacks if callbacks and fabric.is_global_zero else TrainingCallbacks()
    if settings.early_stopping is not None:
        from landfold.network.inner import inner_split  # scikit-learn takes a second to import

        train, inner = inner_split(table, train, parts=settings.inner_folds, seed=settings.seed + card.fold)
    absent = [name for i, name in enumerate(card.classes) if not (labels[train] == i).any()]
    if absent:
        callbacks.on_notice(
            f"fold {card.fold}: no training patch of class {', '.join(absent)}: "
            "the network cannot learn it, and every such patch of the validation fold counts as wrong"
        )
    network = build(card.model, card.channels, len(card.classes), size_px=card.size_px)
    checkpoint = checkpoint or Checkpoint(None)
    saved = _saved_state(checkpoint, fabric, card, network, (windows, labels, train, validation))
    if saved is not None:
        callbacks.on_notice(f"fold {card.fold}: continuing an interrupted training after epoch {len(saved['rows'])}")
    data = FoldData(
        card.fold,
        len(card.classes),
        Examples.of(windows, labels, train),
        Examples.of(windows, labels, validation),
        None if inner is None else Examples.of(windows, labels, inner),
    )
    history = fit(network, data, settings, fabric, checkpoint=checkpoint, resume=saved, callbacks=callbacks)
    classifier = Classifier(network, card, str(fabric.device))
    sides = (side & fabric.is_global_zero for side in (validation, test))
    return TrainedFold(classifier, history, *(_predict(classifier, table, windows, side) for side in sides))


def _class_numbers(table: pandas.DataFrame, classes: list[str]) -> np.ndarray:
    """Number of each patch's class, (patch,) int64."""
    unknown = sorted(set(table["label"]) - set(classes))
    if unknown:
        raise TrainingError(f"patches of class {', '.join(unknown)}; the model has {', '.join(classes)}")
    return table["label"].map({name: i for i, name in enumerate(classes)}).to_numpy(np.int64)


def _saved_state(
    checkpoint: Checkpoint, fabric: Fabric, card: ModelCard, network: nn.Module, arrays: tuple[np.ndarray, ...]
) -> dict[str, Any] | None:
    """The saved state of this same training, if there is one; equal in all processes."""
    saved = None
    if checkpoint.home is not None:
        facts = [card.model_dump(), fabric.world_size, str(fabric.device)]
        saved = checkpoint.open(training_fingerprint(facts, arrays, network.state_dict()))
    return fabric.broadcast(saved)


def _predict(
    classifier: Classifier, table: pandas.DataFrame, windows: np.ndarray, chosen: np.ndarray
) -> pandas.DataFrame:
    rows = np.flatnonzero(chosen)
    chunks = np.split(rows, range(PREDICT_CHUNK, len(rows), PREDICT_CHUNK))
    probabilities = np.concatenate([classifier.probabilities(windows[chunk]) for chunk in chunks])
    return predictions_table(table[chosen], probabilities, classifier.card.classes)


def predictions_table(patches: pandas.DataFrame, probabilities: np.ndarray, classes: list[str]) -> pandas.DataFrame:
    """One row for each patch: patch, label, predicted, confidence, and p_CLASS of every class.

    Args:
        patches: with columns ``patch`` and ``label``.
        probabilities: (patch, class) float32.
        classes: class names, in the order of the probabilities.
    """
    best = probabilities.argmax(axis=1)
    table = {
        "patch": patches["patch"].to_numpy(),
        "label": patches["label"].to_numpy(),
        "predicted": np.array(classes, dtype=object)[best],
        "confidence": probabilities[np.arange(len(best)), best],
    }
    return pandas.DataFrame(table | {f"p_{name}": probabilities[:, i] for i, name in enumerate(classes)})


def write_fold(folder: Path, trained: TrainedFold, *, weights: bool = True) -> None:
    """Write a fold's files into an existing folder.

    They are model.json, history.csv and predictions.parquet, model.safetensors if ``weights`` are wanted, and
    test.parquet if there is a test region.
    """
    if weights:
        trained.classifier.save(folder)
    else:
        trained.classifier.card.save(folder)
    trained.history.to_csv(folder / "history.csv", index=False, float_format="%.6g", lineterminator="\n")
    trained.predictions.to_parquet(folder / "predictions.parquet", index=False)
    if len(trained.test):
        trained.test.to_parquet(folder / "test.parquet", index=False)
