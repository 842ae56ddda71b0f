import re
from xml.etree import ElementTree

import pytest

from landfold.report import charts

HISTORY = [
    {"fold": float(fold), "epoch": float(epoch), "train_loss": 2 / epoch, "validation_loss": 3 / epoch + fold}
    for fold in range(3)
    for epoch in range(1, 5)
]
ZONES = [{"zone": f"E{i}", "accuracy": a, "patches": n} for i, (a, n) in enumerate([(1.0, 3), (0.0, 1), (0.5, 40)])]
BINS = [
    {"scaled": scaled, "confidence": 0.1 * i, "accuracy": 0.08 * i, "count": i} for scaled in (0, 1) for i in (5, 9)
]
DRAWN = {
    "curves": lambda: charts.curves(HISTORY, "loss", "loss"),
    "reliability": lambda: charts.reliability(BINS),
    "zones": lambda: charts.zones(ZONES, median=0.5, pooled=0.6),
}


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_a_chart_is_svg_with_equal_bytes_and_no_address(draw):
    svg = draw()
    assert svg == draw()
    assert ElementTree.fromstring(svg).tag.endswith("svg")  # noqa: S314 - our own
    assert not re.search(r"<dc:date|20\d\d-\d\d-\d\d", svg)
    assert not re.search(r"<image|<script", svg)
    assert not re.search('href="(?!#)', svg)
    assert len(svg) < 200_000


def paths(svg, colour):
    return len(re.findall(f"stroke: {colour}", svg))


def test_curves_have_a_line_for_every_fold_and_a_mean_of_both_sides():
    svg = DRAWN["curves"]()
    assert paths(svg, charts.UNSEEN) == 3 + 1 + 1  # folds, mean, legend
    assert paths(svg, charts.SEEN) == 3 + 1 + 1
    assert charts.curves(HISTORY[:4], "loss", "loss") != svg


def test_zones_are_dots_from_the_worst_to_the_best():
    svg = DRAWN["zones"]()
    group = svg[svg.index('id="PathCollection_1"') :]
    starts = re.findall(r'<path d="M ([\d.]+) ([\d.]+)', group[: group.index("</g>")])
    places = [(float(x), float(y)) for x, y in starts]
    assert [x for x, _ in places] == sorted(x for x, _ in places)
    assert [y for _, y in places] == sorted((y for _, y in places), reverse=True)  # SVG counts downwards
    assert len(places) == 3


def test_reliability_without_scaled_bins_is_drawn():
    assert charts.reliability(BINS[:2]) != charts.reliability(BINS)
