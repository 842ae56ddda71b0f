"""The labelled pixels of a fold, and what is kept of their predictions by any classifier of pixels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas
from rasterio.crs import CRS

from landfold.core.digests import digest, file_sha256
from landfold.folds.lists import read_fold
from landfold.folds.settings import ZoneSettings
from landfold.pixels.counts import RANDOM_PATCHES, ZONES, PatchMeans, PixelCounts, PixelSample, is_boundary
from landfold.pixels.ground import HeldOutGround, fold_ground
from landfold.pixels.rows import STRIP_PX, LabelledScenes, draw, trainable, usable_pixels


@dataclass(frozen=True)
class FoldPixels:
    """The labelled pixels that a fold trains on and holds out.

    Attributes:
        scenes: all scenes.
        table: patches with ``side``, ``zone``, ``label`` and ``geometry``, as
            `landfold.folds.lists.read_fold` returns them.
        ground: what the training must not see.
        core_px: side of the cores of the patches.
        spatial: the ground of the spatial fold of the same number, for a random one that trains on as many pixels;
            None for the spatial fold itself.
    """

    scenes: LabelledScenes
    table: pandas.DataFrame
    ground: HeldOutGround
    core_px: int
    spatial: HeldOutGround | None = None

    @property
    def is_random(self) -> bool:
        """Whether it is a random fold."""
        return self.spatial is not None

    def training_masks(
        self, most: int, ground: HeldOutGround, *, seed: Sequence[int], aside: float = 0.0
    ) -> list[np.ndarray]:
        """The pixels to learn from as packed masks, at most so many; a random fold has as many as the spatial one.

        Args:
            most: how many.
            ground: what must not be seen.
            seed: of the draw.
            aside: share of the pixels of a random fold that it does not learn from but sets aside; it has more.
        """
        if self.spatial is not None:
            most = round(min(most, count(usable_pixels(self.scenes, trainable(self.spatial)))) / (1 - aside))
        return draw(usable_pixels(self.scenes, trainable(ground)), most, seed=seed)

    @property
    def held_out_patches(self) -> pandas.DataFrame:
        """The patches of the validation zones and of the test region."""
        return self.table[self.table["side"].isin(["validation", "test"])]


def count(masks: Sequence[np.ndarray]) -> int:
    """Number of pixels in packed masks."""
    return sum(int(np.bitwise_count(mask).sum()) for mask in masks)


def predict_held_out(
    pixels: FoldPixels,
    classes: list[str],
    predict: Callable[[np.ndarray, np.ndarray], np.ndarray],
    *,
    margin_px: int,
    step_px: int = 1,
    sample: PixelSample | None = None,
) -> tuple[np.ndarray, pandas.DataFrame]:
    """Predict the labelled pixels that a fold holds out, and the cores of its held-out patches.

    Args:
        pixels: of the fold.
        classes: their names.
        predict: gives the probabilities (pixel, class) of some pixels of a part of a scene: (channel, y, x) with the
            margin, and (y, x) bool without it, those to predict.
        margin_px: surroundings that ``predict`` needs.
        step_px: parts begin at multiples of so many pixels.
        sample: draws from the labelled pixels.

    Returns:
        Mean probabilities over the core's pixels of each of ``pixels.held_out_patches``, (patch, class) float32; and
        the counts of labelled pixels, see `PixelCounts`, with ``split``.
    """
    means = PatchMeans(pixels.held_out_patches, pixels.core_px, len(classes))
    counts = PixelCounts(classes)
    for strip in pixels.scenes.strips(margin_px, rows=-(-STRIP_PX // step_px) * step_px):
        scored = strip.labelled & pixels.ground.scored(strip.grid)
        wanted = (means.wanted(strip.scene, strip.window) | scored) & strip.valid
        if not wanted.any():
            continue
        found = np.full((*wanted.shape, len(classes)), np.nan, dtype=np.float32)
        found[wanted] = predict(strip.values, wanted)
        means.add(strip.scene, strip.window, found)
        boundary = is_boundary(strip.labels)[scored]
        labels = strip.classes[scored].astype(np.int64) - 1
        zones = pixels.ground.zones_of(strip.grid)[scored]
        counts.add(zones, boundary, labels, found[scored])
        if sample is not None:
            sample.add(zones, labels, found[scored])
    return means.means(), counts.table().assign(split=RANDOM_PATCHES if pixels.is_random else ZONES)


@dataclass(frozen=True)
class FoldFiles:
    """What the training of a fold reads, below the folder ``data``.

    Attributes:
        data: the folder.
        fold: number of the fold.
        kind: ``fold`` or ``random``.
        core_px: side of the cores of the patches.
        zones: section ``zones``.
        crs: of footprints and zones.
    """

    data: Path
    fold: int
    kind: str
    core_px: int
    zones: ZoneSettings
    crs: CRS

    @property
    def patches(self) -> Path:
        """The table of patches."""
        return self.data / "patches.parquet"

    @property
    def normalized(self) -> Path:
        """The folder of the normalized scenes."""
        return self.data / "normalized"

    @property
    def folds(self) -> Path:
        """The folder of the fold lists."""
        return self.data / f"folds/k{self.zones.k}"

    @property
    def list(self) -> Path:
        """The list of the fold's patches."""
        return self.folds / f"{self.kind}_{self.fold}.parquet"

    def digests(self) -> dict[str, str]:
        """What the card says of the files."""
        return {
            "fold_digest": digest(self.list),
            "patches_digest": file_sha256(self.patches),
            "statistics_digest": digest(self.data / "statistics"),
        }

    def table(self) -> pandas.DataFrame:
        """The patches with the ``zone`` and ``side`` (train, validation, buffer or test) that the fold gives them.

        Raises:
            FoldError: the list of the fold is absent or not of these patches.
        """
        return read_fold(self.patches, self.list)

    def pixels(self, table: pandas.DataFrame, scenes: LabelledScenes) -> FoldPixels:
        """The labelled pixels that the fold trains on and holds out."""
        spatial, own = (
            fold_ground(self.folds, table, self.zones, self.crs, self.fold, kind=kind) for kind in ("fold", self.kind)
        )
        return FoldPixels(scenes, table, own, self.core_px, spatial if self.kind == "random" else None)
