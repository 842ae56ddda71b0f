"""Put all that maps a scene elsewhere into one folder: the deployable model, with its card for people.

Reads: models/kK, data/folds/kK, data/scenes/report.json, data/statistics, data/normalized, data/patches.parquet,
data/calibration.json, metrics/summary.json, scores.json and patches.json; sections ``card`` and `MADE_WITH` of
params.yaml.
Writes: models/landfold (model.json, fold_I.safetensors, applicability.safetensors with ``export.applicability``,
README.md).
Refuses: a fold that is missing or stale.
"""

from pathlib import Path
from typing import Any

from landfold.core.digests import data_digest, params_digest
from landfold.core.files import read_json, writing_folder
from landfold.deploy.bundle import README, write_bundle
from landfold.deploy.bundlecard import bundle_digest, origin_of
from landfold.deploy.modelcard import SCORES, Metrics, write_model_card
from landfold.maps.applicability import Applicability
from landfold.maps.foldmodels import read_fold_cards
from landfold.network.card import ModelCard
from landfold.pixels.calibration import read_calibrations
from landfold.scenes.normalize import SceneStatistics
from stages import Params, run

MODEL = Path("models/landfold")

MADE_WITH = ("project", "ingest", "indices", "normalize", "labels", "patches", "zones", "model", "train", "export",
             "colours")  # fmt: skip
"""Sections that bear on the model; others, as of the audit, bear on what is said of it."""


def main(params: Params) -> str:
    """Gather, write, describe."""
    k = params.zones.k
    folds, models = Path(f"data/folds/k{k}"), Path(f"models/k{k}")
    cards = read_fold_cards(models, folds)
    area = None
    if params.export.applicability:
        data = {"patches": Path("data/patches.parquet"), "normalized": Path("data/normalized")}
        area = Applicability.of_folds(folds, len(cards), **data)
    with writing_folder(MODEL) as folder:
        weights = [models / f"fold_{card.fold}" / "model.safetensors" for card in cards]
        card = write_bundle(folder, _card(params, cards), weights, area)
        metrics = Metrics(*(read_json(Path(f"metrics/{name}.json")) for name in ("summary", "scores", "patches")))
        write_model_card(
            folder / README,
            card,
            metrics,
            params.card,
            digest=bundle_digest(folder),
            area=area and area.summary(),
        )
    size = sum(path.stat().st_size for path in MODEL.iterdir())
    return f"{MODEL}, {len(cards)} networks, {size / 1e6:.1f} MB; read {MODEL}/{README}"


def _card(params: Params, cards: list[ModelCard]) -> dict[str, Any]:
    """The fields of the model's card; those that it has in common with the folds' are of the first."""
    common = cards[0].model_dump(exclude={"fold", "fold_digest"})
    reports = read_json(Path("data/scenes/report.json"))["scenes"]
    statistics = [SceneStatistics.load(path) for path in sorted(Path("data/statistics").glob("*.json"))]
    colours = params.colours.rgb(common["classes"])
    summary = read_json(Path("metrics/summary.json"))
    return common | {
        "name": params.project.name,
        "crs": params.project.crs,
        "patch_px": params.patches.size_px,
        "colours": ["#{:02x}{:02x}{:02x}".format(*colour) for colour in colours],
        "fold_digests": [card.fold_digest for card in cards],
        "data_digest": data_digest(card.model_dump() for card in cards),
        "params_digest": params_digest({section: params.content[section] for section in MADE_WITH}),
        "ingest": params.content["ingest"],
        "normalize": params.content["normalize"],
        "export": params.export.model_dump(),
        "origin": origin_of(reports, statistics),
        "calibration": _calibration(params),
        "zoned": _scores(summary["zoned"]),
        "zoned_pixels": _scores(summary["pixels"]) if "pixels" in summary else None,
    }


def _calibration(params: Params) -> dict[str, Any] | None:
    """That of the ensemble."""
    if not params.export.calibrated:
        return None
    return read_calibrations(Path("data/calibration.json")).model_dump() | {"folds": []}


def _scores(found: dict[str, Any]) -> dict[str, Any]:
    """Those of the card, with their intervals."""
    return {name: {end: found[name][end] for end in ("pooled", "low", "high")} for name in SCORES if name in found}


if __name__ == "__main__":
    run(main)
