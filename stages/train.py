"""Train the network of one fold: ``python -m stages.train FOLD``, or ``... FOLD random`` for its random split.

Reads: data/normalized, data/statistics, data/patches.parquet, data/labels, data/folds/kK; of params.yaml sections
``model``, ``train``, ``machine`` and ``zones``, ``project.crs``, and what names channels and classes.
Writes: models/kK/fold_FOLD/, see `landfold.network.fold.write_fold`. Random: models/random/kK/fold_FOLD without the
weights, which only serve to measure how optimistic such a split is; with ``audit.network: false`` a note instead.
Refuses: a diverged loss, memory that runs out, no GPU where one is required, weights that are not there or do not fit.
An interrupted training continues after its last finished epoch (landfold/network/checkpoints.py).
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from landfold.console import training as console
from landfold.core.digests import digest
from landfold.core.errors import LandfoldError
from landfold.core.files import write_json, writing_folder
from landfold.network.callbacks import TrainingCallbacks
from landfold.network.card import ModelCard, window_px
from landfold.network.checkpoints import Checkpoint, checkpoint_dir
from landfold.network.distributed import distributed
from landfold.network.examples import read_examples
from landfold.network.fold import train_fold, write_fold
from landfold.pixels.folds import FoldFiles
from landfold.tracking import LiveRun, flatten, live_run
from stages import Params, run


def main(params: Params) -> str:
    """Read, train, predict what the fold holds out, write."""
    k, fold, is_random = params.zones.k, *_arguments(params)
    name = console.fold_name(fold, is_random=is_random)
    folder = Path(f"models/random/k{k}/fold_{fold}") if is_random else Path(f"models/k{k}/fold_{fold}")
    if is_random and not params.audit.network:
        with writing_folder(folder) as temporary:
            write_json(temporary / "off.json", {"audit.network": False})
        return console.switched_off(name)
    kind, core_px = "random" if is_random else "fold", params.patches.core_px
    files = FoldFiles(Path("data"), fold, kind, core_px, params.zones, params.project.metric_crs)
    states, described = checkpoint_dir(folder), partial(card_of, params, files)
    with (
        distributed(params.train, params.machine.device, fold=fold) as fabric,
        Checkpoint(states if fabric.is_global_zero else None) as checkpoint,
        _observers(params, fold, random=is_random, first=fabric.is_global_zero) as (callbacks, live),
        read_examples(files, params.model, params.train, described, fabric, params.machine, states) as (examples, card),
    ):
        trained = train_fold(examples, card, params.train, fabric, checkpoint=checkpoint, callbacks=callbacks)
        if fabric.is_global_zero:
            with writing_folder(folder) as temporary:
                write_fold(temporary, trained, weights=not is_random)
            live.finish(digest(folder))
    return console.closing(name, len(examples.data.train), len(trained.history), trained.predictions)


def card_of(params: Params, files: FoldFiles, channels: list[str]) -> ModelCard:
    """The card of the network of a fold."""
    return ModelCard(
        model=params.model,
        channels=channels,
        bands=params.ingest.bands,
        indices=params.indices.names,
        classes=list(params.labels.classes),
        **dict(zip(("size_px", "core_px"), window_px(params.model, params.patches), strict=True)),
        resolution_m=params.ingest.resolution_m,
        k=params.zones.k,
        fold=files.fold,
        train=params.train.model_dump(),
        **files.digests(),
    )


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
