"""The examples of one fold, read from the files of earlier stages: patches for a classifier, pixels for the others."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas
from lightning_fabric import Fabric
from rasterio.crs import CRS

from landfold.core.digests import digest, file_sha256
from landfold.folds.settings import ZoneSettings
from landfold.network.card import ModelCard
from landfold.network.dataset import read_fold, shared_windows
from landfold.network.fold import FoldExamples
from landfold.network.patch_examples import PatchExamples
from landfold.network.pixel_examples import FoldPixels, SurroundingsExamples
from landfold.network.settings import TrainSettings
from landfold.network.window_examples import WindowExamples
from landfold.pixels.ground import fold_ground
from landfold.pixels.rows import LabelledScenes


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

    def pixels(self, table: pandas.DataFrame, scenes: LabelledScenes) -> FoldPixels:
        """The labelled pixels that the fold trains on and holds out."""
        spatial, own = (
            fold_ground(self.folds, table, self.zones, self.crs, self.fold, kind=kind) for kind in ("fold", self.kind)
        )
        return FoldPixels(scenes, table, own, self.core_px, spatial if self.kind == "random" else None)


@contextmanager
def read_examples(
    files: FoldFiles,
    train: TrainSettings,
    card_of: Callable[[list[str]], ModelCard],
    fabric: Fabric,
    *,
    cache_gb: float,
    scratch: Path,
) -> Iterator[tuple[FoldExamples, ModelCard]]:
    """What the network of a fold learns from and is scored on, and its card.

    Args:
        files: of the fold.
        train: section ``train``.
        card_of: gives the card of a network of these channels.
        fabric: as `landfold.network.distributed.launch` returns it.
        cache_gb: what takes more GB (10^9 bytes) is memory-mapped from a temporary file.
        scratch: folder for that file.
    """
    table = read_fold(files.patches, files.list)
    scenes = LabelledScenes.of(files.normalized, files.data / "labels")
    card = card_of(scenes.channels)
    if card.model.kind == "surroundings":
        yield SurroundingsExamples(files.pixels(table, scenes), card, train), card
        return
    if card.model.kind == "segmentation":
        yield WindowExamples(files.pixels(table, scenes), card, train, cache_gb=cache_gb, scratch=scratch), card
        return
    with shared_windows(fabric, table, files.normalized, cache_gb, scratch) as (windows, _):
        yield PatchExamples(table, windows, card, train), card
