"""Training of one fold: windows in memory, augmentation in batches, any device through Lightning Fabric."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, cos, pi
from pathlib import Path
from typing import Literal

import numpy as np
import pandas
import torch
from lightning_fabric import Fabric
from pydantic import Field
from torch import nn

from landfold.dataset import turned
from landfold.errors import LandfoldError
from landfold.model import Classifier, ModelCard, build, pick_device
from landfold.settings import Settings


class TrainingError(LandfoldError):
    """A training that cannot start or has gone astray."""


class TrainSettings(Settings):
    """Section ``train`` of params.yaml."""

    epochs: int = Field(ge=1)
    """passes over the training patches"""
    batch_size: int = Field(ge=2)
    """patches in one step; lower it when memory runs out"""
    learning_rate: float = Field(gt=0)
    """highest learning rate of AdamW"""
    weight_decay: float = Field(ge=0)
    """decoupled weight decay of AdamW"""
    schedule: Literal["one-cycle", "cosine", "constant"]
    """learning rate over the steps: up for 30 % then down, from the top down, or constant"""
    label_smoothing: float = Field(ge=0, lt=1)
    """share of the target spread over all classes"""
    class_weights: Literal["none", "sqrt", "balanced"]
    """weight of a class in the loss: 1, or one over the (square root of the) number of its patches"""
    flips_and_turns: bool
    """show each patch in one of its eight flips and quarter turns, at random"""
    device: Literal["auto", "cpu", "cuda"]
    """auto: a GPU if there is one; cuda: a GPU or an error"""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"]
    """number format of the network's arithmetic; the mixed ones are for GPUs"""
    deterministic: bool
    """only algorithms that give equal bytes on every run, on a GPU too (slower there)"""
    seed: int = Field(ge=0)
    """seed of initial weights, order and augmentation; each fold adds its number"""


@dataclass(frozen=True)
class Examples:
    """Windows (n, channel, y, x) float32 with class numbers (n,) int64."""

    windows: np.ndarray
    labels: np.ndarray


def launch(settings: TrainSettings, *, fold: int) -> Fabric:
    """The device to train on, with all seeds set.

    Raises:
        ModelError: if a GPU is demanded and there is none.
    """
    device = pick_device(settings.device)
    if settings.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(settings.deterministic)
    torch.manual_seed(settings.seed + fold)
    fabric = Fabric(accelerator=device, devices=1, precision=settings.precision)
    fabric.launch()
    return fabric


def fit(
    network: nn.Module,
    train: Examples,
    validation: Examples,
    settings: TrainSettings,
    fabric: Fabric,
    *,
    classes: int,
    fold: int,
    on_step: Callable[[float], None] = lambda fraction: None,
    on_epoch: Callable[[dict[str, float]], None] = lambda row: None,
) -> pandas.DataFrame:
    """Train ``network`` in place for a fixed number of epochs; nothing is chosen by the validation patches.

    Returns:
        One row an epoch: epoch (from 1), learning_rate, and loss and accuracy of training (augmented,
        while learning) and of validation (observed only).

    Raises:
        TrainingError: fewer than two training patches, or a loss that is no finite number.
    """
    if len(train.labels) < 2:
        raise TrainingError(f"fold {fold}: {len(train.labels)} training patches; at least 2 are needed")
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    model, optimizer = fabric.setup(network, optimizer)
    weights = torch.from_numpy(class_weights(train.labels, classes, settings.class_weights)).to(fabric.device)
    criterion = nn.CrossEntropyLoss(weight=weights, label_smoothing=settings.label_smoothing)
    windows, labels = torch.from_numpy(train.windows), torch.from_numpy(train.labels)
    random = torch.Generator().manual_seed(settings.seed + fold)
    # equal parts of two or more rather than a small last one, which batch normalization could not bear
    batches = min(ceil(len(labels) / settings.batch_size), len(labels) // 2)
    rows = []
    for epoch in range(1, settings.epochs + 1):
        model.train()
        loss_sum, correct, rate = 0.0, 0, settings.learning_rate
        for step, chosen in enumerate(torch.randperm(len(labels), generator=random).tensor_split(batches)):
            rate = rate_at(settings, (epoch - 1) * batches + step, settings.epochs * batches)
            for group in optimizer.param_groups:
                group["lr"] = rate
            batch = windows[chosen].to(fabric.device, non_blocking=True)
            target = labels[chosen].to(fabric.device, non_blocking=True)
            if settings.flips_and_turns:
                batch = turned(batch, torch.randint(8, (len(chosen),), generator=random).to(fabric.device))
            optimizer.zero_grad(set_to_none=True)
            logits = model(batch.contiguous(memory_format=torch.channels_last))
            loss = criterion(logits, target)
            if not torch.isfinite(loss):
                raise TrainingError(
                    f"fold {fold}, epoch {epoch}: the loss is {loss.item()}; lower train.learning_rate, "
                    "or set train.precision to 32-true"
                )
            fabric.backward(loss)
            optimizer.step()
            loss_sum += loss.item() * len(chosen)
            correct += int((logits.argmax(dim=1) == target).sum())
            on_step((epoch - 1 + (step + 1) / batches) / settings.epochs)
        row = {
            "epoch": epoch,
            "learning_rate": rate,
            "train_loss": loss_sum / len(labels),
            "train_accuracy": correct / len(labels),
        } | _observe(model, validation, fabric, settings.batch_size)
        rows.append(row)
        on_epoch(row)
    return pandas.DataFrame(rows)


def _observe(model: nn.Module, examples: Examples, fabric: Fabric, batch_size: int) -> dict[str, float]:
    model.eval()
    loss, correct = 0.0, 0
    with torch.inference_mode():
        for start in range(0, len(examples.labels), batch_size):
            batch = torch.from_numpy(examples.windows[start : start + batch_size]).to(fabric.device)
            target = torch.from_numpy(examples.labels[start : start + batch_size]).to(fabric.device)
            logits = model(batch.contiguous(memory_format=torch.channels_last))
            loss += float(nn.functional.cross_entropy(logits.float(), target, reduction="sum"))
            correct += int((logits.argmax(dim=1) == target).sum())
    count = max(len(examples.labels), 1)
    return {"validation_loss": loss / count, "validation_accuracy": correct / count}


def rate_at(settings: TrainSettings, step: int, steps: int) -> float:
    """The learning rate of a step, counted from 0, of ``steps``.

    One-cycle is that of Smith and Topin 2018 (arXiv:1708.07120) as torch has it: cosine from 1/25 of
    the top over the first 30 % of the steps, then cosine to almost 0.
    """
    top = settings.learning_rate
    if settings.schedule == "constant":
        return top
    if settings.schedule == "cosine":
        return top * (1 + cos(pi * step / steps)) / 2
    peak = 0.3 * steps - 1
    if step < peak:
        start = top / 25
        return start + (top - start) * (1 - cos(pi * step / peak)) / 2
    end = top / 250_000
    return end + (top - end) * (1 + cos(pi * (step - peak) / (steps - 1 - peak))) / 2


def class_weights(labels: np.ndarray, classes: int, kind: str) -> np.ndarray:
    """Weight of each class in the loss, (class,) float32, mean 1 over the patches.

    A class without a training patch has weight 1: nothing is learned of it, and nothing divided by 0.
    """
    counts = np.bincount(labels, minlength=classes).astype(np.float64)
    if kind == "none":
        return np.ones(classes, dtype=np.float32)
    weights = np.ones(classes)
    seen = counts > 0
    weights[seen] = 1 / (counts[seen] if kind == "balanced" else np.sqrt(counts[seen]))
    weights[seen] *= counts.sum() / (weights * counts).sum()
    return weights.astype(np.float32)


@dataclass(frozen=True)
class TrainedFold:
    """What a fold's training gives: the classifier, its curves, and its predictions of what it never saw.

    ``predictions`` are of the validation patches, ``test`` of those of the test region, if there is one.
    """

    classifier: Classifier
    history: pandas.DataFrame
    predictions: pandas.DataFrame
    test: pandas.DataFrame


def train_fold(
    table: pandas.DataFrame,
    windows: np.ndarray,
    card: ModelCard,
    settings: TrainSettings,
    *,
    on_step: Callable[[float], None] = lambda fraction: None,
    on_epoch: Callable[[dict[str, float]], None] = lambda row: None,
) -> TrainedFold:
    """Train the network that the card describes on the fold's training patches.

    Args:
        table: the patches with ``label`` and ``side``, as `landfold.dataset.read_fold` gives them.
        windows: (patch, channel, y, x) float32 in the order of the table.
        card: the network, its channels and classes, and the fold.
        settings: the recipe.
        on_step: is told the fraction that is done.
        on_epoch: is given each row of the history.

    Raises:
        TrainingError: labels that are no classes of the card; see also `launch` and `fit`.
        ModelError: if pretrained weights are asked for and cannot be had.
    """
    unknown = sorted(set(table["label"]) - set(card.classes))
    if unknown:
        raise TrainingError(f"patches of class {', '.join(unknown)}; the model has {', '.join(card.classes)}")
    number = {name: i for i, name in enumerate(card.classes)}
    labels = table["label"].map(number).to_numpy(np.int64)
    train, held_out = (table["side"] == "train").to_numpy(), (table["side"] == "validation").to_numpy()
    fabric = launch(settings, fold=card.fold)
    network = build(card.model, card.channels, len(card.classes))
    history = fit(
        network,
        Examples(windows[train], labels[train]),
        Examples(windows[held_out], labels[held_out]),
        settings,
        fabric,
        classes=len(card.classes),
        fold=card.fold,
        on_step=on_step,
        on_epoch=on_epoch,
    )
    classifier = Classifier(network, card, str(fabric.device))
    predictions, test = (
        predictions_table(table[side], classifier.probabilities(windows[side]), card.classes)
        for side in (held_out, (table["side"] == "test").to_numpy())
    )
    return TrainedFold(classifier, history, predictions, test)


def write_fold(folder: Path, trained: TrainedFold, *, weights: bool = True) -> None:
    """Write a fold's files into an existing folder.

    They are model.json, history.csv and predictions.parquet; model.safetensors unless the ``weights`` are of no
    use to anyone; and test.parquet where there is a test region.
    """
    if weights:
        trained.classifier.save(folder)
    else:
        trained.classifier.card.save(folder)
    trained.history.to_csv(folder / "history.csv", index=False, float_format="%.6g", lineterminator="\n")
    trained.predictions.to_parquet(folder / "predictions.parquet", index=False)
    if len(trained.test):
        trained.test.to_parquet(folder / "test.parquet", index=False)


def predictions_table(patches: pandas.DataFrame, probabilities: np.ndarray, classes: list[str]) -> pandas.DataFrame:
    """One row a patch: patch, label, predicted, confidence, and p_CLASS for every class."""
    best = probabilities.argmax(axis=1)
    table = {
        "patch": patches["patch"].to_numpy(),
        "label": patches["label"].to_numpy(),
        "predicted": np.array(classes, dtype=object)[best],
        "confidence": probabilities[np.arange(len(best)), best],
    }
    return pandas.DataFrame(table | {f"p_{name}": probabilities[:, i] for i, name in enumerate(classes)})
