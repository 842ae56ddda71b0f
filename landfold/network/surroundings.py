"""The network that sees each pixel by its surroundings: a perceptron of 1 x 1 convolutions on coded features.

Each feature is coded piecewise linearly between quantiles of the training pixels (Gorishniy et al. 2022, On Embeddings
for Numerical Features in Tabular Deep Learning, arXiv:2203.05556): of the bins between them, those below the value
are 1, its own is the share of it that lies below, and those above are 0.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

INPUT_DROPOUT = 0.1
"""Share of the coded features that is dropped while training."""

OUTER_QUANTILES = (0.01, 0.99)
"""The outermost of the quantiles between which features are coded."""

SAMPLE = 8192
"""Training pixels that the quantiles are taken of."""


GROUPS = 16
"""Rows go through convolutions as a batch of so many: with one thread, torch computes those of smaller batches in a
slower way whose last digits differ between processors."""


class Dropout(nn.Module):
    """Dropout whose mask is drawn by bytes, so that its share is a multiple of 1/256.

    On a CPU, torch draws a number for each feature, which takes a third of the time of a step.
    """

    def __init__(self, share: float) -> None:
        """Drop this share of the features while training."""
        super().__init__()
        self.dropped = min(round(256 * share), 255)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """The features, some of them 0 and the others larger, so that the mean stays."""
        if not self.training or not self.dropped:
            return features
        # 63 bits of an int64 are random: seven bytes of eight
        numbers = torch.empty(-(-features.numel() // 7), dtype=torch.int64, device=features.device).random_()
        kept = numbers.view(torch.uint8).view(-1, 8)[:, :7].reshape(-1)[: features.numel()] >= self.dropped
        mask = kept.view(features.shape[0], *features.shape[2:], features.shape[1]).movedim(-1, 1)  # channels last
        return features * mask * (256 / (256 - self.dropped))


class SurroundingsNetwork(nn.Module):
    """Class scores of pixels from their features."""

    def __init__(
        self, features: int, classes: int, *, bins: int, hidden: Sequence[int], dropout: float, noise: float
    ) -> None:
        """The network for so many features; `learn_bins` sees training pixels before the first step."""
        super().__init__()
        self.noise = noise
        self.register_buffer("low", torch.zeros(bins, features))
        self.register_buffer("gain", torch.ones(bins, features))
        self.register_buffer("spread", torch.zeros(features))
        layers: list[nn.Module] = [Dropout(INPUT_DROPOUT)]
        width = bins * features
        for size in hidden:
            layers += [
                nn.Conv2d(width, size, 1, bias=False),
                nn.BatchNorm2d(size),
                nn.ReLU(inplace=True),
                Dropout(dropout),
            ]
            width = size
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, classes, 1))

    def learn_bins(self, features: np.ndarray) -> None:
        """Take the bins from the features of training pixels, (pixel, feature) float32."""
        sample = features[:: max(1, len(features) // SAMPLE)].astype(np.float64)
        edges = np.quantile(sample, np.linspace(*OUTER_QUANTILES, len(self.low) + 1), axis=0)
        self.low.copy_(torch.from_numpy(edges[:-1]))
        self.gain.copy_(torch.from_numpy(1 / np.maximum(np.diff(edges, axis=0), 1e-4)))
        self.spread.copy_(torch.from_numpy(self.noise * sample.std(axis=0)))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Class scores of pixels, (n, feature) to (n, class)."""
        if self.training and self.noise:
            rows = rows + self.spread * torch.randn(rows.shape, device=rows.device)
        groups = GROUPS if len(rows) % GROUPS == 0 else len(rows)
        features = rows.reshape(groups, 1, -1, rows.shape[1]).permute(0, 3, 1, 2)
        return self.scores(features).permute(0, 2, 3, 1).reshape(len(rows), -1)

    def scores(self, features: torch.Tensor) -> torch.Tensor:
        """Class scores of pixels side by side, (n, feature, y, x) to (n, class, y, x)."""
        n, _, height, width = features.shape
        bins = features.permute(0, 2, 3, 1).unsqueeze(3)  # channels last: the bins of a pixel lie side by side
        coded = ((bins - self.low) * self.gain).clamp(0, 1).reshape(n, height, width, -1)
        return self.layers(coded.permute(0, 3, 1, 2))
