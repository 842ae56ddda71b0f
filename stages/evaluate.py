"""Score the predictions, each patch by the fold that did not train on its zone.

Reads: data/patches.parquet, data/folds/kK, models/kK/fold_i and models/random/kK/fold_i for every fold of
data/folds/kK/index.json, data/audit; ``zones.k`` and ``evaluate`` of params.yaml.
Writes: data/predictions.parquet (every patch in every repeat, with footprints); data/calibration.json (what the maps'
probabilities are scaled by, `landfold.pixels.calibration.Calibrations`); metrics/summary.json (small),
metrics/scores.json (all tables); metrics/plots/history.csv, confusion.csv, per_class.csv, reliability.csv, zones.csv
(of pixels where the network is one of pixels, else of patches) and comparisons.csv.
Refuses: a fold that is missing, stale, predicts other patches or pixels than its own, or has other classes.
"""

from pathlib import Path

from landfold.core.files import read_json, write_json, writing
from landfold.scores.intervals import Draws
from landfold.scores.pixels import read_pixels
from landfold.scores.predictions import read_predictions
from landfold.scores.sentences import accuracy_sentence, lead_sentence, optimism_sentence, rounded_text
from landfold.scores.summary import score_summary, score_tables
from landfold.scores.tables import plot_tables
from stages import Params, run

PREDICTIONS, PLOTS = Path("data/predictions.parquet"), Path("metrics/plots")


def main(params: Params) -> str:
    """Read every fold, score, write."""
    k = params.zones.k
    models, random, folds = Path(f"models/k{k}"), Path(f"models/random/k{k}"), Path(f"data/folds/k{k}")
    audit = Path("data/audit")
    pool = read_predictions(models, random, folds, patches=Path("data/patches.parquet"), baseline=audit)
    pixels = read_pixels(models, random, folds, pool.classes, audit)
    draws = {unit: Draws(**parts) for unit, parts in read_json(audit / "spread.json").items()}
    scores = score_tables(pool, pixels, coverage=params.evaluate.coverage, draws=draws)
    summary = score_summary(pool, scores)
    with writing(PREDICTIONS) as temporary:
        pool.table.to_parquet(temporary, index=False)
    write_json(Path("metrics/summary.json"), summary)
    write_json(Path("metrics/scores.json"), scores)
    write_json(Path("data/calibration.json"), scores.get("pixels", scores)["calibration"]["fitted"])
    plots = {"history": pool.history} | plot_tables(scores)
    for name, table in plots.items():
        with writing(PLOTS / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n")
    for warning in scores["warnings"]:
        print(f"evaluate: warning: {warning}")
    sentences = [accuracy_sentence(summary), optimism_sentence(summary), lead_sentence(summary)]
    if "test" in summary:
        sentences.append(f"{rounded_text(summary['test']['accuracy']['pooled'])} in the test region")
    return ". ".join(sentence for sentence in sentences if sentence)


if __name__ == "__main__":
    run(main)
