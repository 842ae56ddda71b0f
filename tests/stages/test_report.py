import sys

import pytest
import yaml

from landfold.core.files import write_json
from landfold.params import read_params
from landfold.report.pictures import PICTURES
from stages import report, run
from tests import factories
from tests.factories import leftovers, tree
from tests.imports import ROOT
from tests.report.test_pictures import write_all

PARAMS = {
    "project": {"name": "meadows"},
    "zones": {"k": 2, "folds": [0, 1]},
    "colours": {"water": "#2f7fd1"},
    "track": {"enabled": True},
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["stages/report.py"])
    write_all(tmp_path)
    write_params(tmp_path)
    return tmp_path


@pytest.fixture
def few(monkeypatch):
    """One picture and no chart: what is tested is the page."""
    monkeypatch.setattr(report, "draw", lambda *_: b"<svg></svg>")


def write_params(folder, **changes):
    (folder / "params.yaml").write_text(yaml.safe_dump(factories.whole(PARAMS | changes)))


def page(project):
    report.main(read_params())
    return (project / "metrics/report.html").read_text(encoding="utf-8")


def test_writes_all_pictures_and_one_page_with_equal_bytes(project):
    assert report.main(read_params()).startswith("metrics/report.html, 0.")
    first = tree(project)
    assert sorted(path.name for path in (project / "metrics/plots").iterdir()) == sorted(
        ["history.csv", *(f"{name}.png" for name in PICTURES)]
    )
    report.main(read_params())
    assert tree(project) == first
    assert leftovers(project) == []


def test_single_pictures_can_be_drawn(project, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["stages/report.py", "folds", "gap"])
    assert report.main(read_params()) == "metrics/plots/folds.png, metrics/plots/gap.png"
    assert sorted(path.name for path in (project / "metrics/plots").iterdir()) == [
        "folds.png",
        "gap.png",
        "history.csv",
    ]
    assert not (project / "metrics/report.html").exists()
    monkeypatch.setattr(sys, "argv", ["stages/report.py", "fold"])
    with pytest.raises(SystemExit, match=r"^report: no picture fold; there are map, errors, folds, gap, "):
        run(report.main)


@pytest.mark.usefixtures("few")
def test_colours_are_those_of_the_maps(project):
    text = page(project)
    assert text.count("background:#2f7fd1") == 2  # listed; in the tables of the classes and of the confusion
    assert text.count("background:#f2d16b") == 2  # usual for its name
    write_params(project, colours={"water": "#0000ff", "farm": "#ffff00"})
    text = page(project)
    assert (text.count("background:#0000ff"), text.count("background:#ffff00")) == (2, 2)


@pytest.mark.usefixtures("few")
def test_settings_in_force_are_told_except_those_that_change_no_number(project):
    before = page(project)
    write_params(project, track={"enabled": False}, machine={"device": "cuda"})
    assert page(project) == before
    write_params(project, project={"name": "lakes"})
    assert page(project) != before


def test_dvc_reruns_the_stage_for_the_sections_that_the_page_shows():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    sections = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    assert stages["report"]["params"] == [name for name in sections if name not in report.WITHOUT_EFFECT]


def test_a_missing_part_ends_the_stage_with_one_line(project):
    (project / "metrics/audit.json").unlink()
    with pytest.raises(SystemExit, match=r"^report: metrics/audit\.json: not found; run `dvc repro`"):
        run(report.main)
    assert not (project / "metrics/report.html").exists()


@pytest.mark.usefixtures("few")
def test_another_result_is_another_page(project):
    before = page(project)
    write_json(project / "data/maps/applicability.json", {"scenes": {"S000": {"cells": 9, "outside": 0.5}}})
    assert page(project) != before
