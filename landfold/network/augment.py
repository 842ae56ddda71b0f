"""Augmentation of batches on the device: flips and rotations, spectral jitter, band dropout."""

from dataclasses import dataclass

import torch

from landfold.network.settings import TrainSettings


@dataclass(frozen=True)
class AugmentationParams:
    """Random numbers of one batch, drawn for all of it, so that any part of it is augmented alike.

    A field is None where its augmentation is off.
    """

    symmetries: torch.Tensor | None = None
    """(n,) int64, 0 to 7: see `flip_rotate`"""
    gains: torch.Tensor | None = None
    """(n, channel) float32"""
    offsets: torch.Tensor | None = None
    """(n, channel) float32"""
    dropped: torch.Tensor | None = None
    """(n, channel) bool, true for channels that become 0"""

    @classmethod
    def draw(
        cls, settings: TrainSettings, patches: int, channels: int, random: torch.Generator
    ) -> "AugmentationParams":
        """Draw for a batch; an augmentation that is off draws nothing."""
        symmetries = gains = offsets = dropped = None
        shape = (patches, channels)
        if settings.flips_and_rotations:
            symmetries = torch.randint(8, (patches,), generator=random)
        if settings.spectral_jitter:
            gains = 1 + settings.spectral_jitter * torch.randn(shape, generator=random)
            offsets = settings.spectral_jitter * torch.randn(shape, generator=random)
        if settings.band_dropout:
            dropped = torch.rand(shape, generator=random) < settings.band_dropout
            dropped &= ~dropped.all(dim=1, keepdim=True)  # a patch keeps at least one channel
        return cls(symmetries, gains, offsets, dropped)

    def subset(self, rows: slice) -> "AugmentationParams":
        """Those of some patches of the batch."""
        return AugmentationParams(*(None if drawn is None else drawn[rows] for drawn in vars(self).values()))


def augment(
    windows: torch.Tensor, target: torch.Tensor, params: AugmentationParams
) -> tuple[torch.Tensor, torch.Tensor]:
    """Augmented copies of windows (n, channel, y, x) and of their classes; those of pixels turn with them."""
    device = windows.device
    if params.symmetries is not None:
        symmetries = params.symmetries.to(device)
        windows = flip_rotate(windows, symmetries)
        target = flip_rotate(target, symmetries) if target.ndim == 3 else target
    if params.gains is not None and params.offsets is not None:
        windows = jitter(windows, params.gains.to(device), params.offsets.to(device))
    if params.dropped is not None:
        windows = windows.masked_fill(params.dropped.to(device)[:, :, None, None], 0)
    return windows, target


def flip_rotate(windows: torch.Tensor, symmetries: torch.Tensor) -> torch.Tensor:
    """Apply one of the eight symmetries of the square (the group D4) to each of the windows (n, ..., y, x).

    A symmetry from 0 to 7 is symmetry % 4 rotations by 90 degrees, after a horizontal flip from 4 on.
    """
    result = torch.empty_like(windows)
    for symmetry in range(8):
        chosen = symmetries == symmetry
        part = windows[chosen]
        if symmetry >= 4:
            part = part.flip(-1)
        result[chosen] = torch.rot90(part, symmetry % 4, dims=(-2, -1))
    return result


def jitter(windows: torch.Tensor, gains: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Windows * gain + offset per patch and channel, (n, channel) each, clipped to [0, 1] as normalization does.

    Nodata, 0 in all channels, stays 0.
    """
    changed = (windows * gains[:, :, None, None] + offsets[:, :, None, None]).clamp_(0, 1)
    return changed * windows.any(dim=1, keepdim=True)
