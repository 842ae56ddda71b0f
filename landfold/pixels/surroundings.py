"""What a pixel is seen by: its channels, and their means and standard deviations in boxes around it.

Pixels without data, which are 0 in all channels, count in no box. All sums of a pixel run over its own box in one
order, so that its features are the same bits in whatever window they are computed.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import avg_pool2d

LEAST_VARIANCE = 1e-8
"""Below the rounding of a variance in float32: the deviation of a constant box is its root, 1e-4."""


def margin_px(boxes_px: Sequence[int]) -> int:
    """How far the largest box reaches beyond its pixel."""
    return max(boxes_px, default=1) // 2


def feature_count(channels: int, boxes_px: Sequence[int]) -> int:
    """Number of features of a pixel."""
    return channels * (1 + 2 * len(boxes_px))


def surroundings(windows: torch.Tensor, boxes_px: Sequence[int]) -> torch.Tensor:
    """The features of the pixels of windows, but for a margin.

    Args:
        windows: (n, channel, y, x) float32 in [0, 1], 0 in all channels where there is no data.
        boxes_px: odd sides of the boxes.

    Returns:
        (n, feature, y - 2 m, x - 2 m) with m of `margin_px`: the channels, then for each box the means of all channels
        and their standard deviations.
    """
    margin = margin_px(boxes_px)
    seen = (windows != 0).any(dim=1, keepdim=True).to(windows.dtype)
    squares = windows * windows
    features = [_inner(windows, margin)]
    for side in boxes_px:
        spare = margin - side // 2
        share, mean, square = (_inner(_box(part, side), spare) for part in (seen, windows, squares))
        share = share.clamp_min(1e-6)
        mean = mean / share
        variance = (square / share - mean * mean).clamp_min(LEAST_VARIANCE)
        features += [mean, variance * variance.rsqrt()]  # the root; torch.sqrt rounds otherwise on other processors
    return torch.cat(features, dim=1)


def _box(values: torch.Tensor, side: int) -> torch.Tensor:
    """Means of boxes that lie wholly inside, (n, channel, y, x) to side - 1 pixels less each way."""
    return avg_pool2d(avg_pool2d(values, (side, 1), stride=1), (1, side), stride=1)


def _inner(values: torch.Tensor, margin: int) -> torch.Tensor:
    """Without so many pixels at each edge."""
    return values[..., margin : values.shape[-2] - margin, margin : values.shape[-1] - margin]


def pixel_features(values: np.ndarray, boxes_px: Sequence[int], chosen: np.ndarray) -> np.ndarray:
    """The features of some pixels of a window.

    Args:
        values: (channel, y, x) float32, with a margin as `surroundings` needs it.
        boxes_px: sides of the boxes around each pixel.
        chosen: (y, x) bool, without the margin.

    Returns:
        (pixel, feature) float32.
    """
    window = torch.from_numpy(np.ascontiguousarray(np.moveaxis(values, 0, -1)))[None].permute(0, 3, 1, 2)
    return surroundings(window, boxes_px)[0].permute(1, 2, 0)[torch.from_numpy(chosen)].numpy()
