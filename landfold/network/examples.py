"""The examples of one fold, read from the files of earlier stages: patches for a classifier, pixels for the others."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning_fabric import Fabric

from landfold.network.card import ModelCard
from landfold.network.dataset import shared_windows
from landfold.network.fold import FoldExamples
from landfold.network.patch_examples import PatchExamples
from landfold.network.pixel_examples import SurroundingsExamples
from landfold.network.settings import MachineSettings, ModelSettings, TrainSettings
from landfold.network.window_examples import WindowExamples
from landfold.pixels.folds import FoldFiles
from landfold.pixels.rows import LabelledScenes


@contextmanager
def read_examples(
    files: FoldFiles,
    model: ModelSettings,
    train: TrainSettings,
    card_of: Callable[[list[str]], ModelCard],
    fabric: Fabric,
    machine: MachineSettings,
    scratch: Path,
) -> Iterator[tuple[FoldExamples, ModelCard]]:
    """What the network of a fold learns from and is scored on, and its card.

    Args:
        files: of the fold.
        model: section ``model``.
        train: section ``train``.
        card_of: gives the card of a network of these channels.
        fabric: as `landfold.network.distributed.launch` returns it.
        machine: section ``machine``.
        scratch: folder for a temporary file of what is too large for memory.
    """
    table = files.table()
    if not model.of_pixels:
        with shared_windows(fabric, table, files.normalized, machine.cache_gb, scratch) as (windows, channels):
            card = card_of(channels)
            yield PatchExamples(table, windows, card, train), card
        return
    scenes = LabelledScenes.of(files.normalized, files.data / "labels")
    card, pixels = card_of(scenes.channels), files.pixels(table, scenes)
    if model.by_features:
        yield SurroundingsExamples(pixels, card, train), card
    else:
        yield WindowExamples(pixels, card, train, cache_gb=machine.cache_gb, scratch=scratch), card
