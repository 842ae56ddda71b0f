"""Score the folds' predictions, each patch by the fold that never saw its zone.

Reads: data/patches.parquet, data/folds/kK, models/kK/fold_i for every fold of data/folds/kK/index.json;
``zones.k`` and the sections ``evaluate`` and ``colours`` of params.yaml.
Writes: metrics/summary.json; metrics/plots/history.csv, confusion.csv, per_class.csv and errors.png.
Refuses: a fold that is missing, stale, predicts other patches than its own, or has other classes.
"""

from pathlib import Path

import geopandas
import pandas

from landfold import settings
from landfold.colours import ColourSettings
from landfold.files import write_json, writing
from landfold.metrics import EvaluateSettings, class_table, confusion_table, read_folds, summarize
from landfold.plots import error_map
from stages import PARAMS, run

PLOTS = Path("metrics/plots")


def main() -> str:
    """Read every fold, score, write."""
    evaluate = settings.load(PARAMS, "evaluate", EvaluateSettings)
    colours = settings.load(PARAMS, "colours", ColourSettings)
    k = settings.value(PARAMS, "zones.k")
    folds = Path(f"data/folds/k{k}")
    predictions = read_folds(Path(f"models/k{k}"), folds, Path("data/patches.parquet"))
    classes, confusion = predictions.classes, predictions.confusion()
    palette = dict(zip(classes, colours.rgb(classes), strict=True))
    summary = summarize(predictions, evaluate)
    write_json(Path("metrics/summary.json"), summary)
    _write_csv("history", predictions.history)
    _write_csv("confusion", confusion_table(confusion, classes))
    _write_csv("per_class", class_table(confusion, classes))
    error_map(PLOTS / "errors.png", geopandas.read_file(folds / "zones.gpkg"), predictions.table, palette)
    accuracy, macro = summary["zoned"]["accuracy"], summary["zoned"]["macro_f1"]
    return (
        f"accuracy {accuracy['pooled']:.3f} ({accuracy['low']:.3f} to {accuracy['high']:.3f}), macro F1 "
        f"{macro['pooled']:.3f} ({macro['low']:.3f} to {macro['high']:.3f}) on {summary['patches']} patches, each "
        "scored by the fold that never saw its zone"
    )


def _write_csv(name: str, table: pandas.DataFrame) -> None:
    with writing(PLOTS / f"{name}.csv") as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


if __name__ == "__main__":
    run(main)
