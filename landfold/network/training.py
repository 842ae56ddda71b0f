"""Training of one fold: epochs of batches, what is observed and chosen, and the fold's files."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import torch
from lightning_fabric import Fabric
from torch import nn

from landfold.network.augment import Draws, augment
from landfold.network.checkpoints import Checkpoint, key_of
from landfold.network.dataset import Examples
from landfold.network.engine import gathered, launch, memory_explained, shared_batch_norm, summed
from landfold.network.model import Classifier, ModelCard, build
from landfold.network.recipe import Average, TrainingError, batch_count, class_weights, epoch_order, rate_at
from landfold.network.settings import TrainSettings

Row = dict[str, float]
"""One epoch of the history."""

PREDICTED_AT_ONCE = 4096
"""Windows that are copied out of the whole for predictions; a multiple of the batch of `Classifier.probabilities`."""


@dataclass(frozen=True)
class Step:
    """Where a training is: ``fraction`` of all epochs done, ``rate`` in patches a second."""

    fraction: float
    epoch: int
    epochs: int
    batch: int
    batches: int
    loss: float
    rate: float

    def __str__(self) -> str:
        """In words, for a progress bar."""
        where = f"epoch {self.epoch}/{self.epochs} batch {self.batch}/{self.batches}"
        return f"{where} loss {self.loss:.3f} {self.rate:.0f} patches/s"


@dataclass(frozen=True)
class Ears:
    """Who is told of a training: of steps, of each row of the history, and of notices in words."""

    on_step: Callable[[Step], None] = lambda step: None
    on_epoch: Callable[[Row], None] = lambda row: None
    on_notice: Callable[[str], None] = lambda text: None


def fit(
    network: nn.Module,
    train: Examples,
    validation: Examples,
    settings: TrainSettings,
    fabric: Fabric,
    *,
    classes: int,
    fold: int,
    inner: Examples | None = None,
    checkpoint: Checkpoint | None = None,
    kept: dict[str, Any] | None = None,
    ears: Ears | None = None,
) -> pandas.DataFrame:
    """Train ``network`` in place; nothing is chosen by the validation patches.

    Args:
        network: as `landfold.network.model.build` makes it.
        train: patches to learn from.
        validation: patches to observe only.
        settings: the recipe.
        fabric: as `landfold.network.engine.launch` gives it.
        classes: number of classes.
        fold: number of the fold.
        inner: patches to choose the epoch by; they end the training early.
        checkpoint: where the state after each epoch is kept.
        kept: a state to go on from.
        ears: who is told.

    Returns:
        One row an epoch: epoch (from 1), learning_rate, and loss and accuracy of training (augmented,
        while learning), of the inner patches if there are any, and of validation (observed only).

    Raises:
        TrainingError: fewer than two training patches, a loss or weights that are no finite numbers, memory that
            runs out.
    """
    least = max(2, fabric.world_size)
    if len(train) < least:
        raise TrainingError(f"fold {fold}: {len(train)} training patches; at least {least} are needed")
    ears = ears or Ears()
    checkpoint = checkpoint or Checkpoint(None)
    with shared_batch_norm(network, fabric.world_size):
        run = _Run(network, train, settings, fabric, classes, fold, checkpoint)
        if kept is not None:
            run.restore(kept)
            for row in run.rows:
                ears.on_epoch(row)
        while not run.is_done:
            with memory_explained(settings, fabric, f"fold {fold}, epoch {run.epoch}"):
                row = run.learn(ears.on_step) | run.observe(inner, validation)
            run.conclude(row)
            ears.on_epoch(row)
        run.finish()
    return pandas.DataFrame(run.rows)


class _Run:
    """A training between two epochs, with all that decides how it goes on."""

    def __init__(
        self,
        network: nn.Module,
        train: Examples,
        settings: TrainSettings,
        fabric: Fabric,
        classes: int,
        fold: int,
        checkpoint: Checkpoint,
    ) -> None:
        self.network, self.train, self.settings, self.fabric = network, train, settings, fabric
        self.fold, self.checkpoint = fold, checkpoint
        self.adamw = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        compiled = torch.compile(network) if settings.compile else network
        self.model, self.optimizer = fabric.setup(compiled, self.adamw)
        self.labels = torch.from_numpy(train.targets)
        self.weights = torch.from_numpy(class_weights(train.targets, classes, settings.class_weights))
        self.criterion = nn.CrossEntropyLoss(
            weight=self.weights.to(fabric.device),
            label_smoothing=settings.label_smoothing,
            reduction="mean" if fabric.world_size == 1 else "sum",
        )
        self.random = torch.Generator().manual_seed(settings.seed + fold)
        if fabric.global_rank:  # else all processes would drop the same features
            torch.manual_seed(settings.seed + fold + 1_000_003 * fabric.global_rank)
        self.average = Average(network, settings)
        self.rows: list[Row] = []
        self.best: dict[str, Any] | None = None

    @property
    def epoch(self) -> int:
        """The epoch that is next, from 1."""
        return len(self.rows) + 1

    @property
    def is_done(self) -> bool:
        """Whether no epoch is left, or none has been better for long."""
        patience = self.settings.early_stopping
        stale = patience is not None and self.best is not None and len(self.rows) - self.best["epoch"] >= patience
        return stale or len(self.rows) >= self.settings.epochs

    def learn(self, on_step: Callable[[Step], None]) -> Row:
        """One pass over the training patches."""
        settings, fabric, epoch = self.settings, self.fabric, self.epoch
        batches = batch_count(len(self.train), settings.batch_size, fabric.world_size)
        order = epoch_order(self.labels, settings.sampling, self.random).tensor_split(batches)
        self.model.train()
        loss_sum, correct, seen, rate, start = 0.0, 0.0, 0, settings.learning_rate, time.perf_counter()
        shares = [_share(len(part), fabric) for part in order]
        own = [part[share] for part, share in zip(order, shares, strict=True)]
        for step, (batch, target) in enumerate(self.train.batches(own, fabric.device)):
            rate = rate_at(settings, (epoch - 1) * batches + step, settings.epochs * batches)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            size = len(order[step])
            draws = Draws.draw(settings, size, batch.shape[1], self.random)
            if fabric.world_size > 1:
                draws = draws.part(shares[step])
            loss, right = self._step(augment(batch, draws), target, order[step])
            loss_sum, correct, seen = loss_sum + loss * size, correct + right, seen + size
            fraction = (epoch - 1 + (step + 1) / batches) / settings.epochs
            speed = seen / (time.perf_counter() - start)
            on_step(Step(fraction, epoch, settings.epochs, step + 1, batches, loss, speed))
        self.average.after_epoch(epoch)
        self._check_weights()
        count = len(self.train)
        return {
            "epoch": epoch,
            "learning_rate": rate,
            "train_loss": loss_sum / count,
            "train_accuracy": correct / count,
        }

    def _step(self, batch: torch.Tensor, target: torch.Tensor, whole: torch.Tensor) -> tuple[float, float]:
        """Learn from this process's part of a whole batch; the mean loss and the number right in all of it."""
        self.optimizer.zero_grad(set_to_none=True)
        logits = self.model(batch.contiguous(memory_format=torch.channels_last))
        loss = self.criterion(logits, target)
        if self.fabric.world_size > 1:
            loss = loss / self.weights[self.labels[whole]].sum().item()
        right = int((logits.argmax(dim=1) == target).sum())
        mean, right = summed(self.fabric, loss.item(), right)
        if not isfinite(mean):
            raise TrainingError(self._astray(f"the loss is {mean}"))
        self.fabric.backward(loss * self.fabric.world_size if self.fabric.world_size > 1 else loss)
        if self.settings.clip_norm:
            self.fabric.clip_gradients(
                self.model, self.optimizer, max_norm=self.settings.clip_norm, error_if_nonfinite=False
            )
        self.optimizer.step()
        self.average.after_step()
        return mean, right

    def _check_weights(self) -> None:
        for name, tensor in self.network.state_dict().items():
            if not torch.isfinite(tensor).all():
                raise TrainingError(self._astray(f"{name} is no longer finite after its last step"))

    def _astray(self, what: str) -> str:
        mend = "lower train.learning_rate or set train.clip_norm to 1"
        if self.settings.precision != "32-true":
            mend += ", or set train.precision to 32-true"
        file = self.checkpoint.file
        kept = f"; the state after epoch {self.epoch - 1} is kept in {file}" if file else ""
        return f"fold {self.fold}, epoch {self.epoch}: {what}; {mend}{kept}"

    def observe(self, inner: Examples | None, validation: Examples) -> Row:
        """What the network makes of patches that it does not learn from; the best so far of the inner ones is noted."""
        row: Row = {}
        with self.average.applied():
            if inner is not None:
                row |= self._measure(inner, "inner")
                if not isfinite(row["inner_loss"]):
                    raise TrainingError(self._astray(f"the inner loss is {row['inner_loss']}"))
                if self.best is None or row["inner_loss"] < self.best["loss"]:
                    state = {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}
                    self.best = {"epoch": self.epoch, "loss": row["inner_loss"], "state": state}
            return row | self._measure(validation, "validation")

    def _measure(self, examples: Examples, name: str) -> Row:
        self.model.eval()
        loss, correct = 0.0, 0
        parts = torch.arange(len(examples)).split(self.settings.batch_size) if len(examples) else ()
        own = parts[self.fabric.global_rank :: self.fabric.world_size]
        with torch.inference_mode():
            for batch, target in examples.batches(own, self.fabric.device):
                logits = self.model(batch.contiguous(memory_format=torch.channels_last))
                loss += float(nn.functional.cross_entropy(logits.float(), target, reduction="sum"))
                correct += int((logits.argmax(dim=1) == target).sum())
        loss, right = summed(self.fabric, loss, correct)
        count = max(len(examples), 1)
        return {f"{name}_loss": loss / count, f"{name}_accuracy": right / count}

    def conclude(self, row: Row) -> None:
        """End an epoch: what it gave is part of the state that is kept."""
        self.rows.append(row)
        on_gpu = self.fabric.device.type == "cuda"
        own = (torch.get_rng_state(), torch.cuda.get_rng_state(self.fabric.device) if on_gpu else None)
        generators = gathered(self.fabric, own)
        if self.checkpoint.folder is None:
            return
        self.checkpoint.keep(
            {
                "rows": self.rows,
                "network": dict(self.network.state_dict()),
                "optimizer": self.adamw.state_dict(),
                "scaler": self.fabric.strategy.precision.state_dict(),
                "random": self.random.get_state(),
                "generators": generators,
                "average": {"count": self.average.count, "state": self.average.state},
                "best": self.best,
            }
        )

    def restore(self, kept: dict[str, Any]) -> None:
        """Be as the training was when it kept this."""
        self.rows = kept["rows"]
        self.network.load_state_dict(kept["network"])
        self.adamw.load_state_dict(kept["optimizer"])
        if kept["scaler"]:
            self.fabric.strategy.precision.load_state_dict(kept["scaler"])
        self.random.set_state(kept["random"])
        own, on_gpu = kept["generators"][self.fabric.global_rank]
        torch.set_rng_state(own)
        if on_gpu is not None:
            torch.cuda.set_rng_state(on_gpu, self.fabric.device)
        self.average.count = kept["average"]["count"]
        device = self.fabric.device
        self.average.state = {name: tensor.to(device) for name, tensor in kept["average"]["state"].items()}
        self.best = kept["best"]

    def finish(self) -> None:
        """Give the network the weights that are used: those of the best epoch, the averaged ones, or the last."""
        chosen = self.best["state"] if self.best else self.average.state
        if chosen:
            self.network.load_state_dict(chosen)


def _share(size: int, fabric: Fabric) -> slice:
    """The rows of a batch that this process sees; shares differ by one at most."""
    low, high = (size * rank // fabric.world_size for rank in (fabric.global_rank, fabric.global_rank + 1))
    return slice(low, high)


@dataclass(frozen=True)
class TrainedFold:
    """What a fold's training gives: the classifier, its curves, and its predictions of what it never saw.

    ``predictions`` are of the validation patches, ``test`` of those of the test region, if there is one. They are
    empty in all processes but the first.
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
    fabric: Fabric | None = None,
    checkpoint: Checkpoint | None = None,
    ears: Ears | None = None,
) -> TrainedFold:
    """Train the network that the card describes on the fold's training patches.

    Args:
        table: the patches with ``label`` and ``side``, as `landfold.network.dataset.read_fold` gives them; for
            early stopping with ``zone`` and ``geometry``.
        windows: (patch, channel, y, x) float32 in the order of the table.
        card: the network, its channels and classes, and the fold.
        settings: the recipe.
        fabric: what `launch` gave just now; it is called if there is none.
        checkpoint: where the state after each epoch is kept, and found again.
        ears: who is told of steps, epochs, and of what there is to notice.

    Raises:
        TrainingError: labels that are no classes of the card; see also `launch`, `fit` and `inner_split`.
        ModelError: if pretrained weights are asked for and cannot be had.
    """
    unknown = sorted(set(table["label"]) - set(card.classes))
    if unknown:
        raise TrainingError(f"patches of class {', '.join(unknown)}; the model has {', '.join(card.classes)}")
    number = {name: i for i, name in enumerate(card.classes)}
    labels = table["label"].map(number).to_numpy(np.int64)
    train, held_out, test = ((table["side"] == side).to_numpy() for side in ("train", "validation", "test"))
    inner = None
    fabric = fabric or launch(settings, fold=card.fold)
    ears = ears if ears and fabric.is_global_zero else Ears()
    if settings.early_stopping is not None:
        from landfold.network.inner import inner_split

        train, inner = inner_split(table, train, parts=settings.inner_folds, seed=settings.seed + card.fold)
    absent = [name for name, i in number.items() if not (labels[train] == i).any()]
    if absent:
        ears.on_notice(
            f"fold {card.fold}: no training patch of class {', '.join(absent)}: "
            "the network cannot learn it, and every such patch of the validation fold counts as wrong"
        )
    network = build(card.model, card.channels, len(card.classes), size_px=card.size_px)
    checkpoint = checkpoint or Checkpoint(None)
    kept = _kept(checkpoint, fabric, card, windows, (labels, train, held_out), network)
    if kept is not None:
        ears.on_notice(f"fold {card.fold}: going on after epoch {len(kept['rows'])} of a training that was stopped")
    history = fit(
        network,
        Examples.of(windows, labels, train),
        Examples.of(windows, labels, held_out),
        settings,
        fabric,
        classes=len(card.classes),
        fold=card.fold,
        inner=None if inner is None else Examples.of(windows, labels, inner),
        checkpoint=checkpoint,
        kept=kept,
        ears=ears,
    )
    classifier = Classifier(network, card, str(fabric.device))
    sides = (side if fabric.is_global_zero else np.zeros_like(side) for side in (held_out, test))
    predictions, tested = (_predict(classifier, table, windows, side) for side in sides)
    return TrainedFold(classifier, history, predictions, tested)


def _kept(
    checkpoint: Checkpoint,
    fabric: Fabric,
    card: ModelCard,
    windows: np.ndarray,
    arrays: tuple[np.ndarray, ...],
    network: nn.Module,
) -> dict[str, Any] | None:
    """What was kept of this training before, the same in all processes."""
    kept = None
    if checkpoint.home is not None:
        facts = [card.model_dump(), fabric.world_size, str(fabric.device)]
        kept = checkpoint.open(key_of(facts, (windows, *arrays), network.state_dict()))
    return kept if fabric.world_size == 1 else fabric.broadcast(kept)


def _predict(
    classifier: Classifier, table: pandas.DataFrame, windows: np.ndarray, chosen: np.ndarray
) -> pandas.DataFrame:
    rows = np.flatnonzero(chosen)
    parts = np.split(rows, range(PREDICTED_AT_ONCE, len(rows), PREDICTED_AT_ONCE))
    found = np.concatenate([classifier.probabilities(windows[part]) for part in parts])
    return predictions_table(table[chosen], found, classifier.card.classes)


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
