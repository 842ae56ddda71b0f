"""Score the folds' predictions, each patch by the fold that never saw its zone.

Reads: data/patches.parquet, data/folds/kK, models/kK/fold_i and models/random/kK/fold_i for every fold of
data/folds/kK/index.json, metrics/audit.json, data/audit; ``zones.k``, ``evaluate`` and ``colours`` of params.yaml.
Writes: metrics/summary.json (small), metrics/scores.json (all tables); metrics/plots/history.csv, confusion.csv,
per_class.csv, reliability.csv, zones.csv, comparisons.csv, errors.png and gap.png.
Refuses: a fold that is missing, stale, predicts other patches than its own, or has other classes.
"""

from pathlib import Path
from typing import Any

import geopandas
import pandas

from landfold.core.files import read_json, write_json, writing
from landfold.report.figures import error_map, gap_bars
from landfold.scores.metrics import class_table, confusion_table
from landfold.scores.predictions import read_folds
from landfold.scores.tables import summarize, tables
from stages import Params, run

PLOTS = Path("metrics/plots")


def main(params: Params) -> str:
    """Read every fold, score, write."""
    evaluate = params.evaluate
    colours = params.colours
    k = params.zones.k
    folds = Path(f"data/folds/k{k}")
    models = Path(f"models/k{k}"), Path(f"models/random/k{k}")
    predictions = read_folds(*models, folds, Path("data/patches.parquet"), Path("data/audit/baseline.parquet"))
    classes = predictions.classes
    palette = dict(zip(classes, colours.rgb(classes), strict=True))
    summary, scores = summarize(predictions, evaluate), tables(predictions, evaluate)
    write_json(Path("metrics/summary.json"), summary)
    write_json(Path("metrics/scores.json"), scores)
    _write_csv("history", predictions.history)
    _write_csv("confusion", confusion_table(predictions.confusion(), classes))
    _write_csv("per_class", class_table(predictions.zone_confusions(), classes, evaluate))
    _write_csv("reliability", pandas.DataFrame(scores["calibration"]["reliability"]))
    _write_csv("zones", pandas.DataFrame(scores["per_zone"]))
    _write_csv("comparisons", pandas.DataFrame(scores["comparisons"]))
    shown = predictions.table[predictions.table["repeat"] == 0]
    error_map(PLOTS / "errors.png", geopandas.read_file(folds / "zones.gpkg", layer="zones"), shown, palette)
    gap_bars(PLOTS / "gap.png", _compared(summary, read_json(Path("metrics/audit.json"))))
    for warning in scores["warnings"]:
        print(f"evaluate: warning: {warning}")
    accuracy, macro = summary["zoned"]["accuracy"], summary["zoned"]["macro_f1"]
    return (
        f"accuracy {accuracy['pooled']:.3f} ({accuracy['low']:.3f} to {accuracy['high']:.3f}), macro F1 "
        f"{macro['pooled']:.3f} ({macro['low']:.3f} to {macro['high']:.3f}) on {summary['patches']} patches, each "
        f"scored by the fold that never saw its zone{_told(summary)}"
    )


def _compared(summary: dict[str, Any], audit: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What was scored under both kinds of split: the network, if it was, and the audit's two classifiers."""
    network = {"network": summary} if "gap" in summary else {}
    baseline = f"band statistics ({audit['baseline'].replace('_', ' ')})"
    return network | {baseline: audit, "coordinates alone": audit["coordinates"]}


def _told(summary: dict[str, Any]) -> str:
    """What the network has over band statistics; the gap and the score of the test region, as far as there are such."""
    over = summary["over_baseline"]["accuracy"]
    text = f"; {over['pooled']:+.3f} ({over['low']:+.3f} to {over['high']:+.3f}) over band statistics alone"
    if "gap" in summary:
        random, gap = summary["random"]["accuracy"], summary["gap"]["accuracy"]
        text += f"; random folds would have said {random['pooled']:.3f}, {gap['pooled']:+.3f} "
        text += f"({gap['low']:+.3f} to {gap['high']:+.3f})"
    if "test" in summary:
        text += f"; {summary['test']['accuracy']['pooled']:.3f} in the test region"
    return text


def _write_csv(name: str, table: pandas.DataFrame) -> None:
    with writing(PLOTS / f"{name}.csv") as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


if __name__ == "__main__":
    run(main)
