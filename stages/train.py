"""Train the classifier of one fold: ``python -m stages.train FOLD``, or ``... FOLD random`` under its random split.

Reads: data/normalized, data/statistics, data/patches.parquet, data/folds/kK/fold_FOLD.parquet (random:
random_FOLD.parquet); sections ``model`` and ``train`` of params.yaml, and what names channels and classes.
Writes: models/kK/fold_FOLD/: model.safetensors, model.json, history.csv, predictions.parquet, and test.parquet
where there is a test region. Random: the same but the weights, which serve to measure how much such a split
flatters and nothing else, into models/random/kK/fold_FOLD; with ``audit.network: false`` a note instead.
Refuses: a diverged loss, no GPU where one was demanded, weights that cannot be had.
"""

import sys
from functools import partial
from pathlib import Path

from landfold import settings, tracking
from landfold.dataset import load_windows, read_fold
from landfold.errors import LandfoldError
from landfold.files import digest, file_sha256, write_json, writing_folder
from landfold.model import ModelCard, ModelSettings
from landfold.training import TrainSettings, train_fold, write_fold
from stages import PARAMS, bar, run

PATCHES = Path("data/patches.parquet")
value = partial(settings.value, PARAMS)


def main() -> str:
    """Load, train, predict the fold's validation patches, write."""
    k, folds = value("zones.k"), value("zones.folds")
    number, *split = sys.argv[1:] or [""]
    if number not in map(str, folds) or split not in ([], ["random"]):
        raise LandfoldError(f"expected the number of a fold, 0 to {folds[-1]}: python -m stages.train FOLD [random]")
    fold = int(number)
    sides, folder = Path(f"data/folds/k{k}/fold_{fold}.parquet"), Path(f"models/k{k}/fold_{fold}")
    if split:
        sides, folder = sides.with_name(f"random_{fold}.parquet"), Path(f"models/random/k{k}/fold_{fold}")
        if not value("audit.network"):
            with writing_folder(folder) as temporary:
                write_json(temporary / "off.json", {"audit.network": False})
            return f"fold {fold}, random split: off (audit.network: false)"
    model, train = settings.load(PARAMS, "model", ModelSettings), settings.load(PARAMS, "train", TrainSettings)
    table = read_fold(PATCHES, sides)
    windows, channels = load_windows(table, Path("data/normalized"))
    card = ModelCard(
        model=model,
        channels=channels,
        bands=value("ingest.bands"),
        indices=value("indices.names"),
        classes=list(value("labels.classes")),
        size_px=value("patches.size_px"),
        core_px=value("patches.core_px"),
        resolution_m=value("ingest.resolution_m"),
        k=k,
        fold=fold,
        fold_digest=digest(sides),
        patches_digest=file_sha256(PATCHES),
        statistics_digest=digest(Path("data/statistics")),
        train=train.model_dump(),
    )
    flat = tracking.flatten({"model": model.model_dump(), "train": train.model_dump()})
    track = tracking.TrackSettings(enabled=False) if split else settings.load(PARAMS, "track", tracking.TrackSettings)
    named = f"fold {fold}, random split" if split else f"fold {fold}"
    with (
        tracking.live_run(track, value("project.name"), name=f"fold_{fold}", fold=fold, k=k, params=flat) as live,
        bar(f"train {named}") as progress,
    ):
        trained = train_fold(table, windows, card, train, on_step=progress, on_epoch=live.log)
        with writing_folder(folder) as temporary:
            write_fold(temporary, trained, weights=not split)
        live.finish(digest(folder))
    right = (trained.predictions["label"] == trained.predictions["predicted"]).mean()
    sizes = table["side"].value_counts()
    return f"{named}: {sizes['train']} patches, {train.epochs} epochs; {right:.3f} of {sizes['validation']} right"


if __name__ == "__main__":
    run(main)
