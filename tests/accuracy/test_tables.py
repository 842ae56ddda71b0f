import geopandas
import numpy as np

from landfold.accuracy.assessment import assess
from landfold.accuracy.sample import draw_sample
from landfold.accuracy.tables import assessment_text
from tests.accuracy.known import write_class_map


def test_many_classes_with_long_names_fit_the_width(tmp_path):
    names = [f"a class with a name that is much longer than any table likes it to be, number {i}" for i in range(60)]
    values = (np.arange(120 * 90) % 60 + 1).astype(np.uint8).reshape(120, 90)
    path = write_class_map(tmp_path / "m.tif", values, names=names)
    draw_sample(path, tmp_path / "d.gpkg", points=600, minimum=5, seed=0, with_map_class=True)
    table = geopandas.read_file(tmp_path / "d.gpkg", layer="points")
    table.assign(reference=table["map_class"]).to_file(tmp_path / "p.gpkg")
    text = assessment_text(assess(path, tmp_path / "p.gpkg", design="stratified"))
    tables = text.split("\n\n", 1)[1]
    assert max(map(len, tables.splitlines())) <= 100
    assert tables.count("  sum") >= 3, "the matrix goes on below"
