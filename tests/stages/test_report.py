import sys

import pytest
import yaml

from landfold.core.files import write_json
from landfold.params import read_params
from stages import report, run
from tests import factories
from tests.report.test_page import contents, write_result

PARAMS = {
    "project": {"name": "meadows"},
    "zones": {"k": 2, "folds": [0, 1]},
    "colours": {"water": "#2f7fd1"},
    "track": {"enabled": True},
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = contents(["water", "farm"])
    files["data/folds/k2/index.json"] = files.pop("data/folds/index.json")
    files["models/k2/fold_0/model.json"] = files.pop("models/model.json")
    write_result(tmp_path, files)
    write_params(tmp_path)
    return tmp_path


def write_params(folder, **changes):
    (folder / "params.yaml").write_text(yaml.safe_dump(factories.whole(PARAMS | changes)))


def test_writes_one_page_with_equal_bytes(project):
    assert report.main(read_params()).startswith("metrics/report.html, 0.")
    first = (project / "metrics/report.html").read_bytes()
    report.main(read_params())
    assert (project / "metrics/report.html").read_bytes() == first
    assert sorted(path.name for path in (project / "metrics").iterdir() if path.suffix != ".json") == [
        "plots", "report.html",
    ]  # fmt: skip


def test_colours_are_those_of_the_maps(project):
    report.main(read_params())
    text = (project / "metrics/report.html").read_text(encoding="utf-8")
    assert text.count("background:#2f7fd1") == 2  # listed; in the tables of the classes and of the confusion
    assert text.count("background:#f2d16b") == 2  # usual for its name
    write_params(project, colours={"water": "#0000ff", "farm": "#ffff00"})
    report.main(read_params())
    text = (project / "metrics/report.html").read_text(encoding="utf-8")
    assert (text.count("background:#0000ff"), text.count("background:#ffff00")) == (2, 2)


def test_settings_in_force_are_told_except_those_of_no_result(project):
    report.main(read_params())
    before = (project / "metrics/report.html").read_bytes()
    write_params(project, track={"enabled": False})
    report.main(read_params())
    assert (project / "metrics/report.html").read_bytes() == before
    write_params(project, project={"name": "lakes"})
    report.main(read_params())
    assert (project / "metrics/report.html").read_bytes() != before


def test_a_missing_part_ends_the_stage_with_one_line(project, capsys, monkeypatch):
    (project / "metrics/audit.json").unlink()
    monkeypatch.setattr(sys, "argv", ["stages/report.py"])
    with pytest.raises(SystemExit, match=r"^report: metrics/audit\.json: not found; run `dvc repro`"):
        run(report.main)
    assert not (project / "metrics/report.html").exists()


def test_another_result_is_another_page(project):
    report.main(read_params())
    before = (project / "metrics/report.html").read_bytes()
    write_json(project / "data/maps/applicability.json", {"scenes": {"S000": {"cells": 9, "outside": 0.5}}})
    report.main(read_params())
    assert (project / "metrics/report.html").read_bytes() != before
