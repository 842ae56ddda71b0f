"""Train the classifier of one fold: ``python -m stages.train FOLD``, or ``... FOLD random`` for its random split.

Reads: data/normalized, data/statistics, data/patches.parquet, data/labels, data/folds/kK/fold_FOLD.parquet (random:
random_FOLD.parquet); sections ``model``, ``train`` and ``machine`` of params.yaml, what names channels and classes, and
for pixels ``project.crs`` and ``zones``.
Writes: models/kK/fold_FOLD/: model.safetensors, model.json, history.csv, predictions.parquet, test.parquet where there
is a test region, and pixels.parquet (counts of held-out labelled pixels) of a network of pixels. Random: the same
without the weights, which only serve to measure how optimistic such a split is, into models/random/kK/fold_FOLD; with
``audit.network: false`` a note instead.
Refuses: a diverged loss, memory that runs out, no GPU where one is required, weights that are not there or do not fit.
An interrupted training continues after its last finished epoch (landfold/network/checkpoints.py).
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas
from lightning_fabric import Fabric

from landfold.console import training as console
from landfold.core.digests import digest, file_sha256
from landfold.core.errors import LandfoldError
from landfold.core.files import write_json, writing_folder
from landfold.network.callbacks import TrainingCallbacks
from landfold.network.card import ModelCard, window_px
from landfold.network.checkpoints import Checkpoint, checkpoint_dir
from landfold.network.dataset import read_fold, shared_windows
from landfold.network.distributed import distributed
from landfold.network.fold import FoldExamples, train_fold, write_fold
from landfold.network.patch_examples import PatchExamples
from landfold.network.pixel_examples import FoldPixels, SurroundingsExamples
from landfold.pixels.ground import fold_ground
from landfold.pixels.rows import LabelledScenes
from landfold.tracking import LiveRun, flatten, live_run
from stages import Params, run

PATCHES, NORMALIZED, LABELS = Path("data/patches.parquet"), Path("data/normalized"), Path("data/labels")


def main(params: Params) -> str:
    """Load, train, predict the fold's validation patches, write."""
    k, fold, is_random = params.zones.k, *_arguments(params)
    name = console.fold_name(fold, is_random=is_random)
    folder = Path(f"models/k{k}/fold_{fold}")
    if is_random:
        folder = Path(f"models/random/k{k}/fold_{fold}")
        if not params.audit.network:
            with writing_folder(folder) as temporary:
                write_json(temporary / "off.json", {"audit.network": False})
            return console.switched_off(name)
    table, states = read_fold(PATCHES, _list(k, fold, is_random=is_random)), checkpoint_dir(folder)
    with (
        distributed(params.train, params.machine.device, fold=fold) as fabric,
        Checkpoint(states if fabric.is_global_zero else None) as checkpoint,
        _observers(params, fold, random=is_random, first=fabric.is_global_zero) as (callbacks, live),
        _examples(params, table, fabric, fold, states, is_random=is_random) as (card, examples),
    ):
        trained = train_fold(examples, card, params.train, fabric, checkpoint=checkpoint, callbacks=callbacks)
        if fabric.is_global_zero:
            with writing_folder(folder) as temporary:
                write_fold(temporary, trained, weights=not is_random)
            live.finish(digest(folder))
    validation = trained.predictions.validation
    correct = validation["label"] == validation["predicted"]
    return console.closing(name, (table["side"] == "train").sum(), len(trained.history), correct)


@contextmanager
def _examples(
    params: Params, table: pandas.DataFrame, fabric: Fabric, fold: int, states: Path, *, is_random: bool
) -> Iterator[tuple[ModelCard, FoldExamples]]:
    """The card of the network, and what it learns from."""
    if not params.model.of_pixels:
        with shared_windows(fabric, table, NORMALIZED, params.machine.cache_gb, states) as (windows, channels):
            card = _card(params, channels, fold, is_random=is_random)
            yield card, PatchExamples(table, windows, card, params.train)
        return
    scenes, folds = LabelledScenes.of(NORMALIZED, LABELS), Path(f"data/folds/k{params.zones.k}")
    card = _card(params, scenes.channels, fold, is_random=is_random)
    spatial = fold_ground(folds, table, params.zones, params.project.metric_crs, fold)
    ground = spatial
    if is_random:
        ground = fold_ground(folds, table, params.zones, params.project.metric_crs, fold, kind="random")
    pixels = FoldPixels(scenes, table, ground, params.patches.core_px, spatial if is_random else None)
    yield card, SurroundingsExamples(pixels, card, params.train)


def _card(params: Params, channels: list[str], fold: int, *, is_random: bool) -> ModelCard:
    size_px, core_px = window_px(params.model, params.patches)
    return ModelCard(
        model=params.model,
        channels=channels,
        bands=params.ingest.bands,
        indices=params.indices.names,
        classes=list(params.labels.classes),
        size_px=size_px,
        core_px=core_px,
        resolution_m=params.ingest.resolution_m,
        k=params.zones.k,
        fold=fold,
        fold_digest=digest(_list(params.zones.k, fold, is_random=is_random)),
        patches_digest=file_sha256(PATCHES),
        statistics_digest=digest(Path("data/statistics")),
        train=params.train.model_dump(),
    )


def _list(k: int, fold: int, *, is_random: bool) -> Path:
    """The list of a fold's patches."""
    return Path(f"data/folds/k{k}/{'random' if is_random else 'fold'}_{fold}.parquet")


def _arguments(params: Params) -> tuple[int, bool]:
    """The number of the fold, and whether its random split is meant."""
    folds, (number, *split) = params.zones.folds, sys.argv[1:] or [""]
    if number not in map(str, folds) or split not in ([], ["random"]):
        raise LandfoldError(console.usage(folds[-1]))
    return int(number), bool(split)


@contextmanager
def _observers(params: Params, fold: int, *, random: bool, first: bool) -> Iterator[tuple[TrainingCallbacks, LiveRun]]:
    """Progress bar, notices and MLflow run, in the first process: they change nothing of the training."""
    if not first:
        yield TrainingCallbacks(), LiveRun()
        return
    track = params.track.model_copy(update={"enabled": False}) if random else params.track
    settings = flatten({"model": params.model.model_dump(), "train": params.train.model_dump()})
    with (
        live_run(track, params.project.name, name=f"fold_{fold}", fold=fold, k=params.zones.k, params=settings) as live,
        console.step_bar(console.fold_name(fold, is_random=random)) as on_step,
    ):
        yield TrainingCallbacks(on_step, live.log, console.notice), live


if __name__ == "__main__":
    run(main)
