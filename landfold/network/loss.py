"""Loss of a batch, and the weights of the classes in it."""

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from landfold.network.dataset import IGNORED
from landfold.network.distributed import all_reduce_sum
from landfold.network.settings import TrainSettings


def class_weights(labels: np.ndarray, classes: int, kind: str) -> np.ndarray:
    """Weight of each class in the loss, (class,) float32, with a mean of 1 over the examples.

    Args:
        labels: (example,) int64, the class of each training example.
        classes: number of classes. One without an example has weight 1.
        kind: ``none``: all 1; ``balanced``: inverse of the number of examples; ``sqrt``: of its square root.
    """
    counts = np.bincount(labels, minlength=classes).astype(np.float64)
    if kind == "none":
        return np.ones(classes, dtype=np.float32)
    weights = np.ones(classes)
    seen = counts > 0
    weights[seen] = 1 / (counts[seen] if kind == "balanced" else np.sqrt(counts[seen]))
    weights[seen] *= counts.sum() / (weights * counts).sum()
    return weights.astype(np.float32)


class ClassLoss:
    """Weighted cross entropy; the mean over a batch that processes may share. Pixels without a class do not count."""

    def __init__(self, labels: np.ndarray, classes: int, settings: TrainSettings, fabric: Fabric) -> None:
        """Take class weights from the ``labels`` (example,) int64 of the training examples."""
        self.fabric = fabric
        self.weights = torch.from_numpy(class_weights(labels, classes, settings.class_weights)).to(fabric.device)
        self.is_shared = fabric.world_size > 1
        self.criterion = nn.CrossEntropyLoss(
            weight=self.weights,
            ignore_index=IGNORED,
            label_smoothing=settings.label_smoothing,
            reduction="sum" if self.is_shared else "mean",
        )

    def __call__(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Contribution of this process to the mean loss of the batch.

        Args:
            logits: (n, class), or (n, class, y, x) for windows of pixels, of the examples of this process.
            target: (n,) or (n, y, x) int64, their classes.
        """
        loss = self.criterion(*rows(logits, target))
        if not self.is_shared:
            return loss
        weight = self.weights[target[target != IGNORED]].sum().item()
        return loss / all_reduce_sum(self.fabric, weight)[0]


def rows(logits: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores and classes of the pixels of windows one by one, (pixel, class) and (pixel,); those of others as they are.

    torch's loss of (n, class, y, x) is not deterministic on GPUs.
    """
    if logits.ndim == 2:
        return logits, target
    return logits.movedim(1, -1).reshape(-1, logits.shape[1]), target.reshape(-1)


def count_correct(logits: torch.Tensor, target: torch.Tensor) -> tuple[int, int]:
    """How many patches or pixels have theirs as the most probable class, and how many have a class."""
    return int((logits.argmax(dim=1) == target).sum()), int((target != IGNORED).sum())
