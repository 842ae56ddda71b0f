"""Training of a network: epochs of batches, validation after each, and the choice of the weights to use."""

import time
from dataclasses import dataclass
from math import isfinite
from typing import Any

import pandas
import torch
from lightning_fabric import Fabric
from torch import nn

from landfold.network.augment import AugmentationParams, augment
from landfold.network.averaging import averaged_model
from landfold.network.callbacks import Row, Step, TrainingCallbacks
from landfold.network.checkpoints import Checkpoint
from landfold.network.dataset import Examples
from landfold.network.distributed import all_gather, all_reduce_sum, broadcast_buffers, sync_batch_norm
from landfold.network.errors import TrainingError
from landfold.network.loss import ClassLoss, count_correct, rows
from landfold.network.memory import explain_oom
from landfold.network.sampling import batch_count, epoch_order
from landfold.network.schedule import learning_rate
from landfold.network.settings import TrainSettings


@dataclass(frozen=True)
class FoldData:
    """The examples of one fold."""

    fold: int
    """number of the fold"""
    classes: int
    """number of classes"""
    train: Examples
    """to learn from"""
    validation: Examples
    """to report scores of, never to choose by"""
    inner: Examples | None = None
    """to choose the best epoch by, with early stopping"""


def fit(
    network: nn.Module,
    data: FoldData,
    settings: TrainSettings,
    fabric: Fabric,
    *,
    checkpoint: Checkpoint | None = None,
    resume: dict[str, Any] | None = None,
    callbacks: TrainingCallbacks | None = None,
) -> pandas.DataFrame:
    """Train ``network`` in place.

    Args:
        network: as `landfold.network.model.build` makes it.
        data: the examples of the fold.
        settings: how to train.
        fabric: as `landfold.network.distributed.launch` returns it.
        checkpoint: where the state after each epoch is saved.
        resume: a saved state to continue from.
        callbacks: called after steps and epochs; those before ``resume`` are reported again.

    Returns:
        One row for each epoch: epoch (from 1), learning_rate, train_loss and train_accuracy (of augmented
        examples, while learning), inner_loss and inner_accuracy if there are inner examples, validation_loss and
        validation_accuracy.

    Raises:
        TrainingError: too few training patches, a loss or weights that are not finite, memory that runs out.
    """
    least = max(2, fabric.world_size)
    if len(data.train) < least:
        raise TrainingError(f"fold {data.fold}: {len(data.train)} training examples; at least {least} are needed")
    callbacks = callbacks or TrainingCallbacks()
    run = _TrainingRun(network, data, settings, fabric, checkpoint or Checkpoint(None))
    if resume is not None:
        run.restore(resume)
        for row in run.rows:
            callbacks.on_epoch(row)
    while not run.is_done:
        with explain_oom(settings, fabric.device, f"fold {data.fold}, epoch {run.epoch}"):
            row = run.train_epoch(callbacks) | run.validate()
        run.end_epoch(row)
        callbacks.on_epoch(row)
    run.load_best_weights()
    return pandas.DataFrame(run.rows)


class _TrainingRun:
    """A training between two epochs, with all the state that decides how it continues."""

    def __init__(
        self, network: nn.Module, data: FoldData, settings: TrainSettings, fabric: Fabric, checkpoint: Checkpoint
    ) -> None:
        network = sync_batch_norm(fabric, network)
        self.network, self.data, self.settings = network, data, settings
        self.fabric, self.checkpoint = fabric, checkpoint
        # on a CPU, the roots of the other implementation are MKL's, whose last digits depend on the processor's maker
        fused = fabric.device.type == "cpu"
        self.adamw = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=fused
        )
        compiled = torch.compile(network) if settings.compile else network
        self.model, self.optimizer = fabric.setup(compiled, self.adamw)
        self.averaged = averaged_model(network, settings) if settings.average != "none" else None
        self.labels = torch.from_numpy(data.train.targets)
        self.loss = ClassLoss(data.train.targets, data.classes, settings, fabric)
        self.random = torch.Generator().manual_seed(settings.seed + data.fold)
        if fabric.global_rank:  # or all processes would drop the same features
            torch.manual_seed(settings.seed + data.fold + 1_000_003 * fabric.global_rank)
        self.rows: list[Row] = []
        self.best: dict[str, Any] | None = None

    @property
    def epoch(self) -> int:
        """The next epoch, from 1."""
        return len(self.rows) + 1

    @property
    def is_done(self) -> bool:
        """Whether no epoch is left, or early stopping ends the training."""
        patience = self.settings.early_stopping
        stale = patience is not None and self.best is not None and len(self.rows) - self.best["epoch"] >= patience
        return stale or len(self.rows) >= self.settings.epochs

    @property
    def weights_in_use(self) -> nn.Module:
        """The network with the averaged weights where there are any yet, else the one that is trained."""
        return self.averaged.module if self.averaged is not None and self.averaged.n_averaged else self.network

    def train_epoch(self, callbacks: TrainingCallbacks) -> Row:
        """Learn from each batch of an epoch."""
        settings, fabric, epoch = self.settings, self.fabric, self.epoch
        order = epoch_order(self.labels, settings.sampling, settings.epoch_size, self.random)
        batches = batch_count(len(order), settings.batch_size, fabric.world_size)
        order = self.data.train.views(order, self.random).tensor_split(batches)
        self.model.train()
        loss_sum, correct, counted, seen = 0.0, 0.0, 0.0, 0
        rate, start = settings.learning_rate, time.perf_counter()
        shares = [_share(len(batch), fabric) for batch in order]
        own = [batch[share] for batch, share in zip(order, shares, strict=True)]
        for step, (windows, target) in enumerate(self.data.train.batches(own, fabric.device)):
            rate = learning_rate(settings, (epoch - 1) * batches + step, settings.epochs * batches)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            size = len(order[step])
            params = AugmentationParams.draw(settings, size, windows.shape[1], self.random).subset(shares[step])
            windows, target = augment(windows, target, params)
            loss, right, of = self._step(windows, target)
            loss_sum, seen = loss_sum + loss * size, seen + size
            correct, counted = correct + right, counted + of
            fraction = (epoch - 1 + (step + 1) / batches) / settings.epochs
            speed = seen / (time.perf_counter() - start)
            callbacks.on_step(Step(fraction, epoch, settings.epochs, step + 1, batches, loss, speed))
        if settings.average == "last" and epoch > settings.epochs - settings.average_epochs:
            self.averaged.update_parameters(self.network)
        self._check_weights()
        return {
            "epoch": epoch,
            "learning_rate": rate,
            "train_loss": loss_sum / seen,
            "train_accuracy": correct / counted,
        }

    def _step(self, windows: torch.Tensor, target: torch.Tensor) -> tuple[float, float, float]:
        """Learn from this process's part of a batch; of all of it the mean loss, and how many are right of how many."""
        self.optimizer.zero_grad(set_to_none=True)
        logits = self._scores(windows)
        loss = self.loss(logits, target)
        mean, correct, counted = all_reduce_sum(self.fabric, loss.item(), *count_correct(logits, target))
        if not isfinite(mean):
            raise self._divergence(f"the loss is {mean}")
        self.fabric.backward(loss * self.fabric.world_size)  # DDP takes the mean of the gradients
        if self.settings.clip_norm:
            self.fabric.clip_gradients(
                self.model, self.optimizer, max_norm=self.settings.clip_norm, error_if_nonfinite=False
            )
        self.optimizer.step()
        if self.settings.average == "ema":
            self.averaged.update_parameters(self.network)
        return mean, correct, counted

    def _scores(self, windows: torch.Tensor) -> torch.Tensor:
        try:
            return self.model(_channels_last(windows))
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise TrainingError(
                f"fold {self.data.fold}: a process has a single example of a batch, whose features of 1 x 1 px "
                "cannot be normalized; raise train.batch_size or lower train.devices"
            ) from None

    def _check_weights(self) -> None:
        for name, tensor in self.network.state_dict().items():
            if not torch.isfinite(tensor).all():
                raise self._divergence(f"{name} is not finite after the last step")

    def _divergence(self, what: str) -> TrainingError:
        advice = "lower train.learning_rate or set train.clip_norm to 1"
        if self.settings.precision != "32-true":
            advice += ", or set train.precision to 32-true"
        file = self.checkpoint.file
        saved = f"; the state after epoch {self.epoch - 1} is saved in {file}" if file else ""
        return TrainingError(f"fold {self.data.fold}, epoch {self.epoch}: {what}; {advice}{saved}")

    def validate(self) -> Row:
        """Scores of the patches that are not learned from; notes the epoch if it is the best of the inner ones."""
        row: Row = {}
        if self.data.inner is not None:
            row |= self._score(self.data.inner, "inner")
            if not isfinite(row["inner_loss"]):
                raise self._divergence(f"the inner loss is {row['inner_loss']}")
            if self.best is None or row["inner_loss"] < self.best["loss"]:
                state = {name: tensor.detach().clone() for name, tensor in self.weights_in_use.state_dict().items()}
                self.best = {"epoch": self.epoch, "loss": row["inner_loss"], "state": state}
        return row | self._score(self.data.validation, "validation")

    def _score(self, examples: Examples, name: str) -> Row:
        network, fabric = self.weights_in_use.eval(), self.fabric
        broadcast_buffers(fabric, network)
        batches = torch.arange(len(examples)).split(self.settings.batch_size) if len(examples) else ()
        own = batches[fabric.global_rank :: fabric.world_size]
        loss, correct, counted = 0.0, 0, 0
        with torch.inference_mode(), fabric.autocast():
            for windows, target in examples.batches(own, fabric.device):
                logits = network(_channels_last(windows)).float()
                loss += float(nn.functional.cross_entropy(*rows(logits, target), reduction="sum"))
                right, of = count_correct(logits, target)
                correct, counted = correct + right, counted + of
        loss, correct, counted = all_reduce_sum(fabric, loss, correct, counted)
        return {f"{name}_loss": loss / max(counted, 1), f"{name}_accuracy": correct / max(counted, 1)}

    def end_epoch(self, row: Row) -> None:
        """Add the epoch to the history and save the state."""
        self.rows.append(row)
        on_gpu = self.fabric.device.type == "cuda"
        own = (torch.get_rng_state(), torch.cuda.get_rng_state(self.fabric.device) if on_gpu else None)
        generators = all_gather(self.fabric, own)
        if self.checkpoint.folder is None:
            return
        self.checkpoint.save(
            {
                "rows": self.rows,
                "network": dict(self.network.state_dict()),
                "optimizer": self.adamw.state_dict(),
                "scaler": self.fabric.strategy.precision.state_dict(),
                "random": self.random.get_state(),
                "generators": generators,
                "averaged": self.averaged.state_dict() if self.averaged is not None else None,
                "best": self.best,
            }
        )

    def restore(self, saved: dict[str, Any]) -> None:
        """Take the state that `end_epoch` saved."""
        self.rows, self.best = saved["rows"], saved["best"]
        self.network.load_state_dict(saved["network"])
        self.adamw.load_state_dict(saved["optimizer"])
        if saved["scaler"]:
            self.fabric.strategy.precision.load_state_dict(saved["scaler"])
        self.random.set_state(saved["random"])
        own, on_gpu = saved["generators"][self.fabric.global_rank]
        torch.set_rng_state(own)
        if on_gpu is not None:
            torch.cuda.set_rng_state(on_gpu, self.fabric.device)
        if self.averaged is not None:
            self.averaged.load_state_dict(saved["averaged"])

    def load_best_weights(self) -> None:
        """Give the network the weights to use: of the best epoch, the averaged ones, or the last."""
        self.network.load_state_dict(self.best["state"] if self.best else self.weights_in_use.state_dict())


def _channels_last(values: torch.Tensor) -> torch.Tensor:
    """Windows with their channels side by side, which convolutions are faster on; rows of features as they are."""
    return values.contiguous(memory_format=torch.channels_last) if values.ndim == 4 else values


def _share(size: int, fabric: Fabric) -> slice:
    """The part of a batch that this process learns from; parts differ by one example at most."""
    low, high = (size * rank // fabric.world_size for rank in (fabric.global_rank, fabric.global_rank + 1))
    return slice(low, high)
