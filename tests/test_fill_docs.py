"""The scores in README.md and docs/ are those of metrics/."""

import json
import re

import pytest

from tests.fill_docs import FIGURE, ROOT, filled, pages

SCORES = {
    "accuracy": {"pooled": 0.6662, "low": 0.6073, "high": 0.7082},
    "gap": {"pooled": 0.1, "low": -0.05, "high": 0.25},
    "one": {"pooled": 0.5, "low": None, "high": None},
    "count": 365040,
    "zones": {"worst": "E131"},
    "per_class": [{"class": "farm", "f1": 0.7}, {"class": "inland water", "f1": 0.9}],
}


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_the_figures_of_a_page_are_those_of_metrics(page):
    text = page.read_text("utf-8")
    assert filled(text) == text, "run make docs"


def test_no_score_of_the_readme_is_typed_by_hand():
    text = FIGURE.sub("", (ROOT / "README.md").read_text("utf-8"))
    assert re.findall(r"(?<![\d.])[01]?\.\d{2,3}(?!\d)|\d+ ?%", text.replace("95 %", "")) == []


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("accuracy", "0.67 (0.61 to 0.71)"),
        ("accuracy:.3f", "0.666 (0.607 to 0.708)"),
        ("accuracy:.0%", "67 % (61 to 71 %)"),
        ("accuracy.pooled:.0%", "67 %"),
        ("gap:+.2f", "+0.10 (-0.05 to +0.25)"),
        ("one", "0.50"),
        ("count", "365040"),
        ("count:,", "365,040"),
        ("zones.worst", "E131"),
        ("per_class[class=farm].f1", "0.70"),
    ],
)
def test_a_figure_is_filled_in(tmp_path, path, shown):
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics/a.json").write_text(json.dumps(SCORES))
    text = f"It is <!-- metrics/a.json {path} -->old<!-- / -->, and <!-- metrics/a.json count -->1<!-- / --> here."
    mark = f"<!-- metrics/a.json {path} -->"
    assert filled(text, tmp_path) == (
        f"It is {mark}{shown}<!-- / -->, and <!-- metrics/a.json count -->365040<!-- / --> here."
    )


@pytest.mark.parametrize("path", ["absent", "count.x", "accuracy.mean", "per_class[class=wood].f1"])
def test_a_figure_that_is_not_there_is_refused(tmp_path, path):
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics/a.json").write_text(json.dumps(SCORES))
    with pytest.raises(ValueError, match=r"a\.json: .* of "):
        filled(f"<!-- metrics/a.json {path} -->old<!-- / -->", tmp_path)
    with pytest.raises(ValueError, match=r"b\.json: not there; run dvc repro"):
        filled("<!-- metrics/b.json count -->old<!-- / -->", tmp_path)
