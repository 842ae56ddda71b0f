"""Loss of a batch, and the weights of the classes in it."""

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from landfold.network.settings import TrainSettings


def class_weights(labels: np.ndarray, classes: int, kind: str) -> np.ndarray:
    """Weight of each class in the loss, (class,) float32, with a mean of 1 over the patches.

    Args:
        labels: (patch,) int64, the class of each training patch.
        classes: number of classes. One without a training patch has weight 1.
        kind: ``none``: all 1; ``balanced``: inverse of the number of patches; ``sqrt``: of its square root.
    """
    counts = np.bincount(labels, minlength=classes).astype(np.float64)
    if kind == "none":
        return np.ones(classes, dtype=np.float32)
    weights = np.ones(classes)
    seen = counts > 0
    weights[seen] = 1 / (counts[seen] if kind == "balanced" else np.sqrt(counts[seen]))
    weights[seen] *= counts.sum() / (weights * counts).sum()
    return weights.astype(np.float32)


class PatchLoss:
    """Weighted cross entropy of patches with one class each; the mean over a batch that processes may share."""

    def __init__(self, labels: np.ndarray, classes: int, settings: TrainSettings, fabric: Fabric) -> None:
        """Take class weights from the ``labels`` (patch,) int64 of the training patches."""
        self.labels = torch.from_numpy(labels)
        self.weights = torch.from_numpy(class_weights(labels, classes, settings.class_weights))
        self.is_shared = fabric.world_size > 1
        self.criterion = nn.CrossEntropyLoss(
            weight=self.weights.to(fabric.device),
            label_smoothing=settings.label_smoothing,
            reduction="sum" if self.is_shared else "mean",
        )

    def __call__(self, logits: torch.Tensor, target: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        """Contribution of this process to the mean loss of the batch.

        Args:
            logits: (n, class), outputs for the patches of this process.
            target: (n,) int64, their classes.
            batch: positions of the batch's patches, of all processes, in the labels.
        """
        loss = self.criterion(logits, target)
        return loss / self.weights[self.labels[batch]].sum().item() if self.is_shared else loss


def count_correct(logits: torch.Tensor, target: torch.Tensor) -> int:
    """Number of patches whose most probable class is theirs."""
    return int((logits.argmax(dim=1) == target).sum())
