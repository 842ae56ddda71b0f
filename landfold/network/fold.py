"""The training of one fold, from its examples to its files."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
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
from landfold.network.model import REPRODUCIBLE, Classifier, arithmetic, build
from landfold.network.settings import TrainSettings
from landfold.network.training import FoldData, fit


@dataclass(frozen=True)
class HeldOutPredictions:
    """Predictions of what a fold holds out."""

    validation: pandas.DataFrame
    """of the validation patches, as `predictions_table` has them"""
    test: pandas.DataFrame
    """the same of the patches in the test region; empty where there is none"""
    pixels: pandas.DataFrame | None = None
    """counts of labelled pixels, see `landfold.pixels.counts.PixelCounts`; None for a network of patches"""
    sample: pandas.DataFrame | None = None
    """a sample of these pixels with their probabilities, see `landfold.pixels.counts.PixelSample`; None for a network
    of patches and for a random fold"""


class FoldExamples(ABC):
    """What the network of a fold learns from and is scored on."""

    data: FoldData
    """examples to learn from, to report and, with early stopping, to choose the epoch by"""
    arrays: Sequence[np.ndarray]
    """all that decides the result of the training, for its fingerprint"""
    what: str
    """patches or pixels, for messages"""

    def prepare(self, network: nn.Module) -> None:
        """Give a new network what it takes from the training examples before it learns."""
        del network

    @abstractmethod
    def predict(self, classifier: Classifier) -> HeldOutPredictions:
        """Predict what the fold holds out."""


@dataclass(frozen=True)
class TrainedFold:
    """Result of a fold's training; only the first process has predictions."""

    classifier: Classifier
    history: pandas.DataFrame
    """one row for each epoch, as `landfold.network.training.fit` returns it"""
    predictions: HeldOutPredictions | None
    candidates: pandas.DataFrame | None = None
    """of a classical model: ``model``, ``score`` on inner folds and ``chosen`` of each that was compared"""


def train_fold(
    examples: FoldExamples,
    card: ModelCard,
    settings: TrainSettings,
    fabric: Fabric,
    *,
    checkpoint: Checkpoint | None = None,
    callbacks: TrainingCallbacks | None = None,
) -> TrainedFold:
    """Train the network that the card describes on the fold's examples.

    Args:
        examples: of patches or of pixels.
        card: the network, its channels and classes, and the fold.
        settings: how to train.
        fabric: as `landfold.network.distributed.launch` has just returned it.
        checkpoint: where the state after each epoch is saved, and an earlier one looked for.
        callbacks: called in the first process with steps, epochs and notices.

    Raises:
        TrainingError: see `fit`.
        ModelError: the network or its pretrained weights do not fit; see `build`.
    """
    callbacks = callbacks if callbacks and fabric.is_global_zero else TrainingCallbacks()
    if (own := arithmetic(str(fabric.device))) != REPRODUCIBLE:
        callbacks.on_notice(
            f"fold {card.fold}: computed by {own}; the last digits of results differ from those by {REPRODUCIBLE}"
        )
    present = set(np.unique(examples.data.train.targets).tolist())
    absent = [name for i, name in enumerate(card.classes) if i not in present]
    if absent:
        callbacks.on_notice(
            f"fold {card.fold}: no training {examples.what} of class {', '.join(absent)}: the network cannot learn it, "
            "and all of it in the validation fold counts as wrong"
        )
    network = build(card.model, card.channels, len(card.classes), size_px=card.size_px)
    if card.model.kind == "classical":
        return _train_classical(network, examples, card, settings, callbacks)
    examples.prepare(network)
    checkpoint = checkpoint or Checkpoint(None)
    saved = _saved_state(checkpoint, fabric, card, network, examples.arrays)
    if saved is not None:
        callbacks.on_notice(f"fold {card.fold}: continuing an interrupted training after epoch {len(saved['rows'])}")
    history = fit(network, examples.data, settings, fabric, checkpoint=checkpoint, resume=saved, callbacks=callbacks)
    classifier = Classifier(network, card, str(fabric.device))
    return TrainedFold(classifier, history, examples.predict(classifier) if fabric.is_global_zero else None)


def _train_classical(
    network: nn.Module, examples: FoldExamples, card: ModelCard, settings: TrainSettings, callbacks: TrainingCallbacks
) -> TrainedFold:
    from landfold.network.classical import fit_classical  # scikit-learn takes a second to import

    chosen, row = fit_classical(network, examples.rows, examples.held_out, seed=settings.seed)
    callbacks.on_epoch(row)
    classifier = Classifier(network, card)
    return TrainedFold(classifier, pandas.DataFrame([row]), examples.predict(classifier), chosen.table())


def _saved_state(
    checkpoint: Checkpoint, fabric: Fabric, card: ModelCard, network: nn.Module, arrays: Sequence[np.ndarray]
) -> dict[str, Any] | None:
    """The saved state of this same training, if there is one; equal in all processes."""
    saved = None
    if checkpoint.home is not None:
        facts = [card.model_dump(), fabric.world_size, str(fabric.device)]
        saved = checkpoint.open(training_fingerprint(facts, arrays, network.state_dict()))
    return fabric.broadcast(saved)


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

    They are model.json, history.csv and predictions.parquet, model.safetensors if ``weights`` are wanted, test.parquet
    if there is a test region, pixels.parquet and pixel_sample.parquet of a network of pixels, and candidates.csv of a
    classical model.
    """
    if weights:
        trained.classifier.save(folder)
    else:
        trained.classifier.card.save(folder)
    trained.history.to_csv(folder / "history.csv", index=False, float_format="%.6g", lineterminator="\n")
    if trained.candidates is not None:
        trained.candidates.to_csv(folder / "candidates.csv", index=False, lineterminator="\n")
    predictions = trained.predictions
    predictions.validation.to_parquet(folder / "predictions.parquet", index=False)
    if len(predictions.test):
        predictions.test.to_parquet(folder / "test.parquet", index=False)
    for name, table in (("pixels", predictions.pixels), ("pixel_sample", predictions.sample)):
        if table is not None:
            table.to_parquet(folder / f"{name}.parquet", index=False)
