"""Train the classifier of one fold: ``python -m stages.train FOLD``, or ``... FOLD random`` under its random split.

Reads: data/normalized, data/statistics, data/patches.parquet, data/folds/kK/fold_FOLD.parquet (random:
random_FOLD.parquet); sections ``model`` and ``train`` of params.yaml, and what names channels and classes.
Writes: models/kK/fold_FOLD/: model.safetensors, model.json, history.csv, predictions.parquet, and test.parquet
where there is a test region. Random: the same but the weights, which serve to measure how much such a split
flatters and nothing else, into models/random/kK/fold_FOLD; with ``audit.network: false`` a note instead.
Refuses: a diverged loss, memory that runs out, no GPU where one was demanded, weights that cannot be had.
A training that was stopped goes on after its last finished epoch (landfold/network/checkpoints.py).
"""

import sys
from pathlib import Path

from tqdm import tqdm

from landfold import tracking
from landfold.core.digests import digest, file_sha256
from landfold.core.errors import LandfoldError
from landfold.core.files import write_json, writing_folder
from landfold.network import checkpoints
from landfold.network.dataset import read_fold
from landfold.network.engine import launched, shared_windows
from landfold.network.model import ModelCard
from landfold.network.training import Ears, train_fold, write_fold
from stages import Params, bar, run

PATCHES = Path("data/patches.parquet")


def main(params: Params) -> str:
    """Load, train, predict the fold's validation patches, write."""
    k, folds = params.zones.k, params.zones.folds
    number, *split = sys.argv[1:] or [""]
    if number not in map(str, folds) or split not in ([], ["random"]):
        raise LandfoldError(f"expected the number of a fold, 0 to {folds[-1]}: python -m stages.train FOLD [random]")
    fold = int(number)
    sides, folder = Path(f"data/folds/k{k}/fold_{fold}.parquet"), Path(f"models/k{k}/fold_{fold}")
    if split:
        sides, folder = sides.with_name(f"random_{fold}.parquet"), Path(f"models/random/k{k}/fold_{fold}")
        if not params.audit.network:
            with writing_folder(folder) as temporary:
                write_json(temporary / "off.json", {"audit.network": False})
            return f"fold {fold}, random split: off (audit.network: false)"
    model, train = params.model, params.train
    table, home = read_fold(PATCHES, sides), checkpoints.home(folder)
    named = f"fold {fold}, random split" if split else f"fold {fold}"
    with (
        launched(train, fold=fold) as fabric,
        checkpoints.keeping(home if fabric.is_global_zero else None) as checkpoint,
        shared_windows(fabric, table, Path("data/normalized"), train.cache_gb, home) as (windows, channels),
    ):
        card = ModelCard(
            model=model,
            channels=channels,
            bands=params.ingest.bands,
            indices=params.indices.names,
            classes=list(params.labels.classes),
            size_px=params.patches.size_px,
            core_px=params.patches.core_px,
            resolution_m=params.ingest.resolution_m,
            k=k,
            fold=fold,
            fold_digest=digest(sides),
            patches_digest=file_sha256(PATCHES),
            statistics_digest=digest(Path("data/statistics")),
            train=train.model_dump(),
        )
        if not fabric.is_global_zero:  # it learns, and the first process alone tells and writes
            train_fold(table, windows, card, train, fabric=fabric)
            return ""
        flat = tracking.flatten({"model": model.model_dump(), "train": train.model_dump()})
        on = params.track
        if split:
            on = on.model_copy(update={"enabled": False})
        with (
            tracking.live_run(on, params.project.name, name=f"fold_{fold}", fold=fold, k=k, params=flat) as live,
            bar(f"train {named}") as progress,
        ):
            ears = Ears(lambda step: progress(step.fraction, step), live.log, _notice)
            trained = train_fold(table, windows, card, train, fabric=fabric, checkpoint=checkpoint, ears=ears)
            with writing_folder(folder) as temporary:
                write_fold(temporary, trained, weights=not split)
            live.finish(digest(folder))
    right = (trained.predictions["label"] == trained.predictions["predicted"]).mean()
    sizes, epochs = table["side"].value_counts(), len(trained.history)
    return f"{named}: {sizes['train']} patches, {epochs} epochs; {right:.3f} of {sizes['validation']} right"


def _notice(text: str) -> None:
    tqdm.write(f"train: {text}", file=sys.stderr)


if __name__ == "__main__":
    run(main)
