import json
import sys

import geopandas
import numpy as np
import pandas
import pytest

from landfold.accuracy.estimators import estimate
from landfold.accuracy.sample import sample_size
from landfold.cli import main
from landfold.maps.classmap import ClassMap
from tests.accuracy.known import CELL_M, NAMES, mapped_classes, sample_file, truth_of, write_class_map
from tests.cli.test_cli import launched


@pytest.fixture
def class_map(tmp_path):
    return write_class_map(tmp_path / "s_class.tif", mapped_classes())


def test_a_sample_from_draw_to_table(class_map, tmp_path, capsys):
    """Points in degrees, every third column wrong: all numbers by hand from the table's own truth."""
    values = mapped_classes()
    truth = truth_of(values)
    points = sample_file(tmp_path / "p.geojson", class_map, truth=truth, points=600, minimum=100)
    arguments = ["accuracy", str(class_map), str(points), "--design", "stratified", "--strata", "map_class"]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    table = geopandas.read_file(points)
    expected = pandas.crosstab(table["map_class"], table["reference"]).reindex(index=NAMES, columns=NAMES, fill_value=0)
    assert found["matrix"]["points"] == expected.to_numpy().tolist()
    cells = np.bincount(values.ravel(), minlength=5)[1:]
    assert [row["mapped_m2"] for row in found["classes"]] == (cells * CELL_M**2).tolist()
    by_hand = estimate(expected.to_numpy(), cells * CELL_M**2)
    assert found["overall_accuracy"]["estimate"] == pytest.approx(float(by_hand.overall.value))
    right = (truth == values)[values > 0].mean()
    assert found["overall_accuracy"]["low"] < right < found["overall_accuracy"]["high"]
    for number, row in enumerate(found["classes"], 1):
        true_m2 = (truth[values > 0] == number).sum() * CELL_M**2
        assert row["area_m2"]["estimate"] == pytest.approx(true_m2, abs=4 * row["area_m2"]["standard_error"])
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 100
    assert "design: stratified random, the strata are the classes of the map" in out
    assert f"Overall accuracy  {float(by_hand.overall.value):.3f} ± " in out
    assert "± is half of the 95 % interval: 1.96 standard errors." in out
    assert main([*arguments, "--level", "0.5"]) == 0
    assert "± is half of the 50 % interval: 0.6745 standard errors." in capsys.readouterr().out


def test_without_a_design_nothing_is_estimated(class_map, tmp_path, capsys):
    points = sample_file(tmp_path / "p.gpkg", class_map)
    for extra in ([], ["--design", "convenience"]):
        assert main(["accuracy", str(class_map), str(points), *extra]) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "points that were not drawn at random" in captured.err
        assert "--design stratified (" in captured.err
        assert "--design simple (" in captured.err
        assert len(captured.err.splitlines()) == 1


def test_the_sample_command(class_map, tmp_path, capsys):
    arguments = ["sample", str(class_map), "--minimum", "20", "-o", str(tmp_path / "p.gpkg")]
    assert main([*arguments, "--standard-error", "0.02", "--expect", "water=0.9"]) == 0
    count = len(geopandas.read_file(tmp_path / "p.gpkg", layer="points"))
    assert f"{count} points (water " in capsys.readouterr().out
    with ClassMap.open(class_map) as classes:
        cells = classes.look_up().cells
    assert count == sample_size(cells, np.array([0.9, 0.8, 0.8, 0.8]), 0.02)
    assert main([*arguments, "-n", "100"]) == 1
    assert "exists, and may hold what somebody has interpreted" in capsys.readouterr().err
    assert main([*arguments[:-1], str(tmp_path / "q.gpkg"), "-n", "100", "--expect", "water=0.9"]) == 1
    assert "--expect goes with --standard-error" in capsys.readouterr().err
    with pytest.raises(SystemExit, match=r"^2$"):
        main([*arguments, "-n", "100", "--expect", "water"])
    assert "expected a class and a share, such as water=0.9" in capsys.readouterr().err


def test_help_says_when_to_use_it(capsys):
    for command, words in (("accuracy", "there is no default, since only you know"), ("sample", "without looking at")):
        with pytest.raises(SystemExit, match=r"^0$"):
            main([command, "--help"])
        assert words in capsys.readouterr().out


def test_neither_torch_nor_matplotlib_is_loaded(class_map, tmp_path):
    points = sample_file(tmp_path / "p.gpkg", class_map)
    code = (
        "import sys; from landfold.cli import main\n"
        f"main(['accuracy', {str(class_map)!r}, {str(points)!r}, '--design', 'stratified', '--json'])\n"
        f"main(['sample', {str(class_map)!r}, '-n', '300', '-o', 'new.gpkg'])\n"
        "assert not {'torch', 'mlflow', 'matplotlib'} & set(sys.modules)"
    )
    done = launched([sys.executable, "-c", code], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
