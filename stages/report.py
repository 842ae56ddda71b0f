"""Draw all pictures, and make the page of the whole result: metrics/report.html, which needs no other file.

Reads: metrics/*.json and plots/history.csv, data/scenes, data/normalized, data/patches.parquet, data/folds/kK,
data/audit, data/predictions.parquet, data/maps, models/kK/fold_0/model.json; params.yaml but for `WITHOUT_EFFECT`.
Writes: metrics/plots/*.png and metrics/report.html. ``python -m stages.report folds`` draws metrics/plots/folds.png
alone, which takes no more than the zones; so for the other pictures.
Refuses: a part that is missing.
"""

import sys
from pathlib import Path

from landfold.core.files import writing
from landfold.maps.colours import ColourSettings
from landfold.report.page import page
from landfold.report.pictures import CHARTS, PICTURES, draw
from landfold.report.result import ReportError, Sources, read_report_data
from stages import Params, run

REPORT, PLOTS = Path("metrics/report.html"), Path("metrics/plots")

WITHOUT_EFFECT = ("machine", "track")
"""Sections of params.yaml that change no number: the page does not show them, and they do not rerun this stage."""


def main(params: Params) -> str:
    """Read, draw, render, write."""
    k = params.zones.k
    colours = params.colours
    sources = Sources(
        metrics=Path("metrics"),
        scenes=Path("data/scenes"),
        normalized=Path("data/normalized"),
        patches=Path("data/patches.parquet"),
        folds=Path(f"data/folds/k{k}"),
        card=Path(f"models/k{k}/fold_0/model.json"),
        maps=Path("data/maps"),
        audit=Path("data/audit"),
        predictions=Path("data/predictions.parquet"),
    )
    if names := sys.argv[1:]:
        return _some(names, sources, colours)
    shown = {name: values for name, values in params.content.items() if name not in WITHOUT_EFFECT}
    result = read_report_data(sources, shown)
    figures = {name: draw(name, sources, colours) for name in (*PICTURES, *CHARTS)}
    for name in PICTURES:
        _write(PLOTS / f"{name}.png", figures[name])
    _write(REPORT, page(result, figures, colours.rgb(result.scores["classes"])).encode())
    return f"{REPORT}, {REPORT.stat().st_size / 1e6:.1f} MB; open it in a browser"


def _some(names: list[str], sources: Sources, colours: ColourSettings) -> str:
    """Draw only the named pictures."""
    if unknown := sorted(set(names) - set(PICTURES)):
        raise ReportError(f"no picture {', '.join(unknown)}; there are {', '.join(PICTURES)}")
    for name in names:
        _write(PLOTS / f"{name}.png", draw(name, sources, colours))
    return ", ".join(str(PLOTS / f"{name}.png") for name in names)


def _write(path: Path, content: bytes) -> None:
    with writing(path) as temporary:
        temporary.write_bytes(content)


if __name__ == "__main__":
    run(main)
