import geopandas
import pandas
import pytest
import shapely

from landfold.accuracy.assessment import assess
from landfold.accuracy.estimators import AccuracyError
from landfold.accuracy.points import MAP_DIGEST
from landfold.accuracy.tables import assessment_data
from landfold.cli import main
from landfold.geo.vector import VectorError
from tests.accuracy.known import sample_file
from tests.factories import CRS_UTM33


@pytest.mark.parametrize("name", ["patches.parquet", "predictions.parquet", "patches.gpkg"])
def test_landfolds_own_patches_are_refused(class_map, tmp_path, name, capsys):
    table = pandas.DataFrame({"patch": ["T33UUU/0/272", "T33UUU/16/288"], "label": ["water", "field"]})
    shapes = geopandas.GeoDataFrame(table, geometry=[shapely.box(0, 0, 1, 1), shapely.Point(0, 0)], crs=CRS_UTM33)
    if name == "predictions.parquet":
        table.to_parquet(tmp_path / name)
    elif name == "patches.parquet":
        shapes.to_parquet(tmp_path / name)
    else:
        shapes.set_geometry(shapes.centroid).to_file(tmp_path / name)
    arguments = [str(class_map), str(tmp_path / name), "--attribute", "label", "--design", "stratified"]
    assert main(["accuracy", *arguments]) == 1
    message = capsys.readouterr().err
    assert "patches of Landfold, a convenience sample" in message
    assert "metrics/summary.json" in message


REFUSALS = {
    "attribute": (
        lambda table: table.rename(columns={"reference": "referenz"}),
        r"no attribute 'reference' \(--attribute\).* \(did you mean 'referenz'\?\)",
    ),
    "names": (
        lambda table: table.assign(reference=["watter", *table["reference"][1:]]),
        r"no class of the map: 'watter' \(did you mean 'water'\?\); its classes are water, Grünland, naß, field, town",
    ),
    "empty": (
        lambda table: table.assign(reference=[None, " ", *table["reference"][2:]]),
        r"2 of 200 points have no 'reference' \(row 0, 1\); interpret them too",
    ),
    "none": (
        lambda table: table[table["map_class"] != "Grünland, naß"],
        r"too few points in map class Grünland, naß \(0\): its variance",
    ),
    "single": (
        lambda table: table[(table["map_class"] != "water") | ~table["map_class"].duplicated()],
        r"too few points in map class water \(1\): its variance",
    ),
    "twice": (
        lambda table: pandas.concat([table, table[:1]]),
        r"2 points share their place with another \(row 0, 200\)",
    ),
    "lines": (
        lambda table: table.set_geometry(table.geometry.map(lambda p: shapely.LineString([p, (0, 0)]))),
        "200 features are not single points",
    ),
    "other map": (
        lambda table: table.assign(map_digest="0" * 16),
        r"drawn from another map than .*map_digest 0{16}, not",
    ),
    "strata": (
        lambda table: table.assign(map_class=table["map_class"].replace("town", "field")),
        r"points have another class in 'map_class' than .*s_class\.tif has there, row \d+ 'field', not 'town'",
    ),
    "features": (lambda table: table[:0], "no features; expected reference points"),
}


@pytest.mark.parametrize("fault", REFUSALS)
def test_points_that_are_refused(class_map, tmp_path, fault):
    change, words = REFUSALS[fault]
    points = sample_file(tmp_path / "p.gpkg", class_map, change=change)
    with pytest.raises((AccuracyError, VectorError), match=words):
        assess(class_map, points, design="stratified", strata="map_class" if fault == "strata" else None)


def test_files_that_are_refused(class_map, tmp_path):
    points = sample_file(tmp_path / "p.gpkg", class_map)
    with pytest.raises(VectorError, match="no CRS, and none is guessed"):
        geopandas.read_file(points).to_file(tmp_path / "no_crs.shp")
        (tmp_path / "no_crs.prj").unlink()
        assess(class_map, tmp_path / "no_crs.shp", design="stratified")
    (tmp_path / "text.gpkg").write_text("no GeoPackage")
    with pytest.raises(VectorError, match=r"text\.gpkg: not a vector file that can be read"):
        assess(class_map, tmp_path / "text.gpkg", design="stratified")
    with pytest.raises(VectorError, match=r"absent\.gpkg: not a vector file that can be read"):
        assess(class_map, tmp_path / "absent.gpkg", design="stratified")
    (tmp_path / "plain.csv").write_text("id,reference\n1,water\n")
    with pytest.raises(VectorError, match="a table without geometry"):
        assess(class_map, tmp_path / "plain.csv", design="stratified")
    with pytest.raises(AccuracyError, match=r"drawn by `landfold sample` .*give --design stratified"):
        assess(class_map, points, design="simple")
    geopandas.read_file(points).drop(columns=MAP_DIGEST).to_file(points)
    with pytest.raises(AccuracyError, match=r"--strata map_class: a simple sample has none"):
        assess(class_map, points, design="simple", strata="map_class")


def test_layers_of_the_points(class_map, tmp_path):
    points = sample_file(tmp_path / "p.gpkg", class_map)
    table = geopandas.read_file(points)
    table.set_geometry(table.to_crs(CRS_UTM33).buffer(9)).to_file(points, layer="cells")
    assert assessment_data(assess(class_map, points, design="stratified"))["points"] == 200, (
        "the layer of points is taken"
    )
    table[:3].to_file(points, layer="old")
    with pytest.raises(VectorError, match=r"3 layers \(p, cells, old\); choose one with --layer"):
        assess(class_map, points, design="stratified")
    assert assess(class_map, points, design="stratified", layer="p").counts.sum() == 200
    with pytest.raises(VectorError, match=r"no layer 'q' \(--layer\); the file has p, cells, old"):
        assess(class_map, points, design="stratified", layer="q")
