"""The files that go with a result."""

from pathlib import Path

import pytest

from landfold.tracking.artifacts import collect_artifacts
from tests.tracking.results import artifacts, rich, table


def test_files_go_with_the_parent(recorded, parent):
    folder = artifacts(recorded, parent)
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()) == [
        "data/maps/a_class.tif",
        "dvc.lock",
        "dvc.yaml",
        "environment.txt",
        "metrics/plots/curves.csv",
        "metrics/plots/map.png",
        "metrics/report.html",
        "metrics/summary.json",
        "params.yaml",
        *(f"tables/{name}.csv" for name in ("confusion", "per_class", "per_fold", "per_zone")),
    ]
    assert table(recorded, parent, "confusion") == [
        {"actual": "farm", "farm": "12", "Grünland": "3"},
        {"actual": "Grünland", "farm": "5", "Grünland": "10"},
    ]
    assert table(recorded, parent, "per_class")[1] == {
        "class": "Grünland", "support": "15", "f1": "0.2", "f1_low": "0.1", "f1_high": "0.3"
    }  # fmt: skip
    assert [row["temperature"] for row in table(recorded, parent, "per_fold")] == ["1.5", "1.25"]
    assert table(recorded, parent, "per_zone")[0]["distance_m"] == "150.5"


@pytest.mark.parametrize(("limit", "kept"), [(0, []), (0.0005, ["a_class.tif"]), (1, ["a_class.tif", "b_large.tif"])])
def test_maps_are_kept_up_to_the_limit(tmp_path, monkeypatch, limit, kept):
    monkeypatch.chdir(tmp_path)
    files = collect_artifacts(rich(tmp_path, maps_mb=limit), tmp_path / "gathered")
    assert [Path(name).name for name in files.kept if name.startswith("data/maps")] == kept
    assert len(files.left_out) == 2 - len(kept)
