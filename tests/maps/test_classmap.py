import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS

from landfold.accuracy.sample import draw_sample
from landfold.geo.grid import GridError
from landfold.maps.classmap import NO_CLASS, ClassMap, ClassMapError
from tests.accuracy.known import CELL_M, NAMES, mapped_classes, write_class_map
from tests.maps.test_export import write_known_map


def test_cells_are_counted_and_looked_up_exactly(tmp_path):
    """Larger than a window, coordinate-coded: the class under a point tells its cell."""
    rows, columns = np.indices((530, 601))
    values = ((7 * rows + 3 * columns) % 5).astype(np.uint8)  # 0 is nodata
    path = write_class_map(tmp_path / "m.tif", values)
    generator = np.random.default_rng(0)
    row, column = generator.integers(0, 530, 500), generator.integers(0, 601, 500)
    with ClassMap.open(path) as classes:
        inner = generator.uniform(0.01, 0.99, (2, 500))
        x, y = classes.grid.transform @ (column + inner[0], row + inner[1])
        found = classes.look_up(np.append(x, [0, np.inf]), np.append(y, [0, 0]))
    assert found.cells.tolist() == np.bincount(values.ravel())[1:].tolist()
    assert found.classes.tolist() == [*values[row, column].astype(int), NO_CLASS, NO_CLASS]
    assert found.inside.tolist() == [True] * 500 + [False] * 2


def test_the_exported_file_itself_is_a_class_map(tmp_path):
    values = mapped_classes()
    certain = np.eye(4, dtype=np.float32)[values.astype(int) - 1]
    write_known_map(tmp_path, [certain], NAMES, valid=values > 0, resolution_m=CELL_M)
    with ClassMap.open(tmp_path / "s_class.tif") as classes:
        assert (classes.names, classes.numbers.tolist(), classes.cell_m2) == (NAMES, [1, 2, 3, 4], 6400)
        assert classes.look_up().cells.tolist() == np.bincount(values.ravel())[1:].tolist()
    with (
        pytest.raises(ClassMapError, match=r"3 band\(s\) of float32; expected a class map"),
        ClassMap.open(tmp_path / "s_confidence.tif"),
    ):
        pass


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (
            {"crs": CRS.from_epsg(4326)},
            ClassMapError,
            r"EPSG:4326, is geographic; areas need a projected one in metres",
        ),
        ({"crs": CRS.from_epsg(3857)}, ClassMapError, "Mercator, which is not true to areas"),
        ({"crs": CRS.from_epsg(2263)}, ClassMapError, r"in units of .*foot"),
        ({"crs": None}, GridError, "no CRS, and none is guessed"),
        ({"names": []}, ClassMapError, r"no names of classes.*rio edit-info --tag CLASS_1=NAME"),
        (
            {"names": ["a", "b", "c"]},
            ClassMapError,
            "no name for class 4; there are names for 1, 2, 3: add the tag CLASS_4",
        ),
        ({"names": ["a", "b", "a", "c"]}, ClassMapError, "several classes are named 'a'"),
    ],
)
def test_maps_that_are_refused(tmp_path, change, error, words):
    path = write_class_map(tmp_path / "m.tif", mapped_classes(), **change)
    with pytest.raises(error, match=words):
        draw_sample(path, tmp_path / "p.gpkg", points=100, minimum=10, seed=0)


def test_tags_of_the_whole_file_name_classes_too(tmp_path):
    """What the message about missing names advises."""
    path = write_class_map(tmp_path / "m.tif", mapped_classes(), names=[])
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(**{f"CLASS_{i}": name for i, name in enumerate(NAMES, 1)})
    with ClassMap.open(path) as classes:
        assert classes.names == NAMES
