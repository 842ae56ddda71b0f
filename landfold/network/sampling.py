"""Which examples an epoch shows, in which order, and in how many batches."""

from math import ceil

import torch


def batch_count(examples: int, batch_size: int, processes: int = 1) -> int:
    """Number of batches in an epoch.

    Batches are of equal size, give or take one example: a last batch of a single one would fail in batch
    normalization. Each process gets at least one example of every batch.
    """
    return min(ceil(examples / batch_size), examples // max(2, processes))


def epoch_order(labels: torch.Tensor, sampling: str, size: int | None, random: torch.Generator) -> torch.Tensor:
    """Examples that one epoch shows, in order.

    Args:
        labels: (example,) int64, the class of each training example.
        sampling: ``shuffled``: each at most once; ``balanced``: draws with replacement, all classes that occur
            equally likely.
        size: how many; None, or more than there are: as many as there are.
        random: generator of the order.

    Returns:
        (n,) int64, positions in ``labels``.
    """
    size = min(size or len(labels), len(labels))
    if sampling == "shuffled":
        return torch.randperm(len(labels), generator=random)[:size]
    # torch.multinomial takes at most 2 ** 24 examples
    by_class = torch.argsort(labels, stable=True)
    counts = torch.bincount(labels)
    starts = counts.cumsum(0) - counts
    present = counts.nonzero().ravel()
    drawn = present[torch.randint(len(present), (size,), generator=random)]
    within = (torch.rand(size, generator=random, dtype=torch.float64) * counts[drawn]).long()
    return by_class[starts[drawn] + within]
