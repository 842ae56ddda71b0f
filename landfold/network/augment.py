"""Augmentation of batches on the device: flips and quarter turns, spectral jitter, band dropout."""

from dataclasses import dataclass

import torch

from landfold.network.settings import TrainSettings


@dataclass(frozen=True)
class Draws:
    """The random numbers of a batch, drawn for all of it at once so that any part of it is augmented alike.

    ``turns`` (n,) int64 in 0..7, ``gains`` and ``offsets`` (n, channel) float32, ``dropped`` (n, channel) bool; None
    where that augmentation is off.
    """

    turns: torch.Tensor | None = None
    gains: torch.Tensor | None = None
    offsets: torch.Tensor | None = None
    dropped: torch.Tensor | None = None

    @classmethod
    def draw(cls, settings: TrainSettings, patches: int, channels: int, random: torch.Generator) -> "Draws":
        """Draw for a batch; what is off draws nothing."""
        turns = gains = offsets = dropped = None
        shape = (patches, channels)
        if settings.flips_and_turns:
            turns = torch.randint(8, (patches,), generator=random)
        if settings.spectral_jitter:
            gains = 1 + settings.spectral_jitter * torch.randn(shape, generator=random)
            offsets = settings.spectral_jitter * torch.randn(shape, generator=random)
        if settings.band_dropout:
            dropped = torch.rand(shape, generator=random) < settings.band_dropout
            dropped &= ~dropped.all(dim=1, keepdim=True)  # a patch without any channel teaches nothing
        return cls(turns, gains, offsets, dropped)

    def part(self, rows: slice) -> "Draws":
        """Those of some patches of the batch."""
        return Draws(*(None if drawn is None else drawn[rows] for drawn in vars(self).values()))


def augment(windows: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Windows (n, channel, size, size) as the draws have them; the input stays as it is."""
    device = windows.device
    if draws.turns is not None:
        windows = turned(windows, draws.turns.to(device))
    if draws.gains is not None and draws.offsets is not None:
        windows = jittered(windows, draws.gains.to(device), draws.offsets.to(device))
    if draws.dropped is not None:
        windows = windows.masked_fill(draws.dropped.to(device)[:, :, None, None], 0)
    return windows


def turned(windows: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Flip and turn each window of (n, channel, size, size) by its number in 0..7.

    The eight symmetries of the square: number % 4 quarter turns, mirrored first from 4 on. From
    above, ground has no preferred direction, so each is as real as the next.
    """
    result = torch.empty_like(windows)
    for number in range(8):
        chosen = turns == number
        part = windows[chosen]
        if number >= 4:
            part = part.flip(-1)
        result[chosen] = torch.rot90(part, number % 4, dims=(-2, -1))
    return result


def jittered(windows: torch.Tensor, gains: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Windows * gain + offset per patch and channel, (n, channel) each, clipped to [0, 1] as normalization does.

    Nodata, 0 in all channels, stays 0.
    """
    changed = (windows * gains[:, :, None, None] + offsets[:, :, None, None]).clamp_(0, 1)
    return changed * windows.any(dim=1, keepdim=True)
