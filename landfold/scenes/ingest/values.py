"""What numbers the bands of a scene hold: percentiles, constant bands, and fill that no file declares."""

from collections import Counter
from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy as np

from landfold.geo.bands import Radiometry

SAMPLE_PX = 1 << 18
"""About so many pixels of a scene, on a regular lattice, give its percentiles; normalize computes exact ones."""

ALIKE_SHARE = 0.01
"""Fill is suspected where a larger share of the valid pixels holds the least or the largest number in all bands."""

BAND_SHARE = 0.05
"""The same of one band, whose water or clouds may well be at the end of its numbers."""


class SceneValues:
    """The numbers of a scene's valid pixels, window by window."""

    def __init__(self, names: Sequence[str], radiometry: Sequence[Radiometry], pixels: int) -> None:
        """Nothing yet, of so many pixels."""
        self.names, self.radiometry = names, radiometry
        self._step = ceil((pixels / SAMPLE_PX) ** 0.5)
        self._samples: list[np.ndarray] = []
        self._ends: list[tuple[Any, Any]] = []
        self._alike: Counter[Any] = Counter()
        self._valid = 0

    def add(self, numbers: np.ndarray, valid: np.ndarray) -> None:
        """Count a window: numbers as stored, (band, y, x), and which pixels are valid, (y, x) bool."""
        if not valid.any():
            return
        every = (slice(None, None, self._step),) * 2
        self._samples.append(numbers[:, *every][:, valid[every]])
        self._valid += int(valid.sum())
        if len(numbers) == 1:
            return
        alike = np.logical_and.reduce([band == numbers[0] for band in numbers[1:]]) & valid
        lowest, highest = (
            end([end(band, where=valid, initial=band[valid][0]) for band in numbers]) for end in (np.min, np.max)
        )
        self._ends.append((lowest, highest))
        for number in {lowest.item(), highest.item()}:
            self._alike[number] += int((alike & (numbers[0] == number)).sum())

    def suspected_fill(self) -> tuple[float, float] | None:
        """The least or largest number, if more than ALIKE_SHARE of the pixels hold it in all bands; and its share.

        None if neither does, for a single band, and where all pixels hold one number.
        """
        for end, numbers in zip((min, max), zip(*self._ends, strict=True), strict=False):
            number = end(numbers).item()
            share = self._alike[number] / self._valid
            if ALIKE_SHARE < share < 1:
                return number, share
        return None

    def report(self) -> dict[str, dict[str, Any]]:
        """An entry for each band: p2 and p98 as reflectance, the commonest number, and whether it may be fill."""
        sample = np.concatenate(self._samples, axis=1)
        entries = {}
        for name, band, radiometry in zip(self.names, sample, self.radiometry, strict=True):
            numbers, counts = np.unique(band, return_counts=True)
            common, share = numbers[counts.argmax()], counts.max() / band.size
            at_an_end = len(numbers) > 1 and common in (numbers[0], numbers[-1])
            p2, p98 = (
                round(p * radiometry.scale + radiometry.offset, 6) for p in np.percentile(band, [2, 98]).tolist()
            )
            entries[name] = {
                "p2": p2,
                "p98": p98,
                "commonest": common.item(),
                "commonest_share": round(float(share), 6),
                "constant": p2 == p98,
                "suspected_fill": bool(at_an_end and share > BAND_SHARE),
            }
        return entries

    def warnings(self) -> list[str]:
        """Bands that hold one number alone, or much of the least or largest."""
        constant, filled = (
            [name for name, entry in self.report().items() if entry[key]] for key in ("constant", "suspected_fill")
        )
        warnings = []
        if constant:
            warnings.append(f"{', '.join(constant)}: nearly all valid pixels hold one number; is the band empty?")
        if filled:
            warnings.append(
                f"{', '.join(filled)}: more than {BAND_SHARE:.0%} of the valid pixels hold the least or the largest "
                "number; if it means no data, declare it in the files or in ingest.nodata"
            )
        return warnings
