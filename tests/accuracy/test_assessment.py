import json

import geopandas
import numpy as np
import pytest
import rasterio
import shapely

from landfold.accuracy.assessment import assess
from landfold.accuracy.estimators import AccuracyError
from landfold.accuracy.tables import assessment_data, assessment_text
from landfold.cli import main
from tests.accuracy.known import CELL_M, NAMES, mapped_classes, sample_file, write_class_map
from tests.accuracy.test_estimators import OLOFSSON_2014
from tests.factories import CRS_UTM33


def test_the_published_table_through_files(tmp_path):
    """A map of the paper's proportions, points in another CRS, and the command's JSON."""
    cells = np.array([200, 150, 3200, 6450])
    values = np.repeat([1, 2, 3, 4], cells).astype(np.uint8).reshape(80, 125)
    path = write_class_map(tmp_path / "m.tif", values)
    truth = values.astype(int).ravel()
    starts = np.concatenate([[0], np.cumsum(cells)[:-1]])
    wanted = np.concatenate([start + np.arange(n) for start, n in zip(starts, OLOFSSON_2014.sum(1), strict=True)])
    truth[wanted] = np.concatenate([np.repeat([1, 2, 3, 4], row) for row in OLOFSSON_2014])
    with rasterio.open(path) as dataset:
        x, y = dataset.transform @ (wanted % 125 + 0.5, wanted // 125 + 0.5)
    reference = [NAMES[number - 1] for number in truth[wanted]]
    table = geopandas.GeoDataFrame({"cover": reference}, geometry=shapely.points(x, y), crs=CRS_UTM33)
    table.to_crs(3035).to_file(tmp_path / "p.gpkg")
    found = assessment_data(assess(path, tmp_path / "p.gpkg", attribute="cover", design="stratified"))
    assert found["matrix"]["points"] == OLOFSSON_2014.tolist()
    assert found["overall_accuracy"]["estimate"] == pytest.approx(0.9465, abs=5e-5)
    deforestation = found["classes"][0]
    assert deforestation["area_m2"]["estimate"] == pytest.approx(21158e4 / 900_000e4 * found["total_m2"], rel=3e-5)
    assert found["total_m2"] == pytest.approx(10_000 * CELL_M**2)


def test_a_perfect_sample(class_map, tmp_path):
    found = assess(class_map, sample_file(tmp_path / "p.gpkg", class_map), design="stratified")
    data = assessment_data(found)
    assert data["overall_accuracy"] == {"estimate": 1.0, "standard_error": 0.0, "low": 1.0, "high": 1.0}
    for row in data["classes"]:
        assert row["area_m2"]["estimate"] == pytest.approx(row["mapped_m2"])
    assert "which is not certainty" in data["notes"][-1]
    few = [f"{row['name']} ({row['map_points']})" for row in data["classes"] if row["map_points"] < 50]
    assert len(few) == 2
    assert f"Fewer than 50 points: {', '.join(few)}. Intervals" in " ".join(assessment_text(found).split())


def test_a_class_that_only_the_reference_has(tmp_path):
    """Named in the map, nowhere mapped, met on the ground; and one that is in neither is not shown."""
    values = mapped_classes()
    values[values == 4] = 3
    path = write_class_map(tmp_path / "m.tif", values, names=[*NAMES, "ice"])
    truth = values.astype(int)
    truth[:, ::2] = np.where(truth[:, ::2] == 3, 4, truth[:, ::2])
    found = assessment_data(assess(path, sample_file(tmp_path / "p.gpkg", path, truth=truth), design="stratified"))
    rows = {row["name"]: row for row in found["classes"]}
    assert list(rows) == NAMES
    assert rows["town"]["users_accuracy"]["estimate"] is None
    assert rows["town"]["producers_accuracy"]["estimate"] == 0
    assert rows["town"]["area_m2"]["low"] > 0
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_simple_sample_may_leave_the_map(class_map, tmp_path, capsys):
    """A regular grid over more than the map; what lies off it is counted and left out."""
    values = mapped_classes()
    with rasterio.open(class_map) as dataset:
        rows, columns = (part.ravel() for part in np.mgrid[0:66:2, 0:95:3])
        x, y = dataset.transform @ (columns + 0.5, rows + 0.5)
    padded = np.vstack([values, np.zeros((6, 95), dtype=int)])[rows, columns]
    reference = [NAMES[max(number, 1) - 1] for number in padded]
    geopandas.GeoDataFrame({"reference": reference}, geometry=shapely.points(x, y), crs=CRS_UTM33).to_file(
        tmp_path / "g.gpkg"
    )
    assert main(["accuracy", str(class_map), str(tmp_path / "g.gpkg"), "--design", "simple"]) == 0
    out = capsys.readouterr().out
    out = " ".join(out.split())
    outside, nodata = (rows >= 60).sum(), (padded[rows < 60] == 0).sum()
    assert nodata > 0
    assert f"{outside} points outside the map and {nodata} on its nodata are left" in out
    assert "Post-stratified" in out
    assert f"{(padded > 0).sum()} points, attribute reference" in out
    with pytest.raises(AccuracyError, match=rf"{outside} lie outside .* and {nodata} on its nodata .*is this the map"):
        assess(class_map, tmp_path / "g.gpkg", design="stratified")
