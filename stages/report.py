"""Make the page that tells the whole result: metrics/report.html, for which nothing else is needed.

Reads: metrics/*.json, metrics/plots, data/scenes/report.json, data/folds/kK/index.json, models/kK/fold_0/model.json,
data/maps/applicability.json; all of params.yaml.
Writes: metrics/report.html.
Refuses: a part that is missing.
"""

from pathlib import Path

from landfold.core.files import writing
from landfold.report.page import page, read_result
from stages import Params, run

REPORT = Path("metrics/report.html")


def main(params: Params) -> str:
    """Read, render, write."""
    k = params.zones.k
    result = read_result(
        Path("metrics"),
        scenes=Path("data/scenes/report.json"),
        index=Path(f"data/folds/k{k}/index.json"),
        card=Path(f"models/k{k}/fold_0/model.json"),
        maps=Path("data/maps"),
        params=params.content,
    )
    colours = params.colours.rgb(result.scores["classes"])
    with writing(REPORT) as temporary:
        temporary.write_text(page(result, colours), encoding="utf-8", newline="\n")
    return f"{REPORT}, {REPORT.stat().st_size / 1e6:.1f} MB; open it in a browser"


if __name__ == "__main__":
    run(main)
