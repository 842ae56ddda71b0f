"""Which patches an epoch shows, in which order, and in how many batches."""

from math import ceil

import torch


def batch_count(patches: int, batch_size: int, processes: int = 1) -> int:
    """Number of batches in an epoch.

    Batches are of equal size, give or take one patch: a last batch of a single patch would fail in batch
    normalization. Each process gets at least one patch of every batch.
    """
    return min(ceil(patches / batch_size), patches // max(2, processes))


def epoch_order(labels: torch.Tensor, sampling: str, random: torch.Generator) -> torch.Tensor:
    """Patches that one epoch shows, in order.

    Args:
        labels: (patch,) int64, the class of each training patch.
        sampling: ``shuffled``: each patch once; ``balanced``: as many draws with replacement, all classes that occur
            equally likely.
        random: generator of the order.

    Returns:
        (patch,) int64, positions in ``labels``.
    """
    if sampling == "shuffled":
        return torch.randperm(len(labels), generator=random)
    # torch.multinomial takes at most 2 ** 24 patches
    by_class = torch.argsort(labels, stable=True)
    counts = torch.bincount(labels)
    starts = counts.cumsum(0) - counts
    present = counts.nonzero().ravel()
    drawn = present[torch.randint(len(present), (len(labels),), generator=random)]
    within = (torch.rand(len(labels), generator=random, dtype=torch.float64) * counts[drawn]).long()
    return by_class[starts[drawn] + within]
