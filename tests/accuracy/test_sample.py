import geopandas
import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from landfold.accuracy import sample
from landfold.accuracy.points import MAP_DIGEST
from landfold.accuracy.sample import SampleError, allocate, draw_sample, points_needed, sample_size
from tests.accuracy.known import CELL_M, NAMES, cells_under, mapped_classes, write_class_map


def test_olofsson_2014_sample_size():
    """The example below equation 13: 641 points."""
    shares, users = np.array([0.02, 0.015, 0.32, 0.645]), np.array([0.7, 0.6, 0.9, 0.95])
    assert sample_size(shares, users, 0.01) == 641
    assert sample_size(1e6 * shares, users, 0.02) == 161


@given(
    arrays(np.int64, st.integers(1, 8), elements=st.integers(0, 10_000)).filter(lambda cells: cells.any()),
    st.integers(0, 60),
    st.floats(0, 1),
)
def test_allocation(cells, minimum, between):
    least, most = np.minimum(cells, minimum).sum(), cells.sum()
    points = int(least + between * (most - least))
    given_points = allocate(cells, points, minimum)
    assert given_points.sum() == points
    assert (given_points >= np.minimum(cells, minimum)).all()
    assert (given_points <= cells).all()


def test_allocation_in_proportion_beside_the_minimum():
    assert allocate(np.array([10_000, 30_000, 100, 0]), 450, 50).tolist() == [100, 300, 50, 0]
    with pytest.raises(SampleError, match=r"100 points .* at least 50 in each; expected 150 to 40100 points"):
        allocate(np.array([10_000, 30_000, 100, 0]), 100, 50)


def test_a_drawn_sample(class_map, tmp_path):
    values = mapped_classes()
    told = draw_sample(class_map, tmp_path / "p.gpkg", points=300, minimum=40, seed=1, with_map_class=True)
    table = geopandas.read_file(tmp_path / "p.gpkg", layer="points")
    with rasterio.open(class_map) as dataset:
        columns, rows = ~dataset.transform @ (table.geometry.x.to_numpy(), table.geometry.y.to_numpy())
    assert (columns % 1).tolist() == pytest.approx([0.5] * 300)
    numbers = values[rows.astype(int), columns.astype(int)]
    assert [NAMES[number - 1] for number in numbers] == table["map_class"].tolist()
    assert table["map_class"].value_counts().to_dict() == told
    assert min(told.values()) >= 40
    assert len(set(zip(rows, columns, strict=True))) == 300
    assert table["id"].tolist() == list(range(1, 301))
    assert table["reference"].isna().all()
    runs = (numbers[1:] != numbers[:-1]).sum()
    assert runs > 100, "the order of the points would tell their class"
    cells = geopandas.read_file(tmp_path / "p.gpkg", layer="cells")
    assert cells.geometry.contains(table.geometry).all()
    assert cells.area.tolist() == pytest.approx([CELL_M**2] * 300)


def test_the_interpreter_sees_no_map_class_and_the_seed_decides(class_map, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        draw_sample(class_map, tmp_path / f"{name}.gpkg", points=200, minimum=30, seed=seed)
    assert set(geopandas.read_file(tmp_path / "a.gpkg", layer="points")) == {"id", "reference", MAP_DIGEST, "geometry"}
    assert (tmp_path / "a.gpkg").read_bytes() == (tmp_path / "b.gpkg").read_bytes()
    a, c = (geopandas.read_file(tmp_path / f"{name}.gpkg", layer="points") for name in "ac")
    assert not a.geometry.geom_equals(c.geometry).all()


def test_every_cell_is_as_likely_as_another(tmp_path, monkeypatch):
    values = np.ones((4, 10), dtype=np.uint8)
    values[:2] = 2
    path = write_class_map(tmp_path / "m.tif", values, names=["a", "b"])
    hits = np.zeros(values.shape)
    drawn = []
    monkeypatch.setattr(sample, "write_geopackage", lambda target, layers: drawn.append(layers["points"]))
    for seed in range(20):
        draw_sample(path, tmp_path / "p.gpkg", points=20, minimum=5, seed=seed)
        hits[cells_under(path, drawn[-1].geometry)] += 1
    assert hits.sum() == 400
    assert ((hits - 10) ** 2 / (20 * 0.5 * 0.5)).sum() < 80  # chi-square of 38 degrees of freedom: 1 in 10,000


def test_samples_that_are_not_drawn(class_map, tmp_path):
    (tmp_path / "there.gpkg").touch()
    with pytest.raises(SampleError, match=r"there\.gpkg: exists, and may hold what somebody has interpreted"):
        draw_sample(class_map, tmp_path / "there.gpkg", points=100, minimum=10, seed=0)
    with pytest.raises(SampleError, match=r"choose a name that ends in \.gpkg"):
        draw_sample(class_map, tmp_path / "p.shp", points=100, minimum=10, seed=0)
    with pytest.raises(SampleError, match=r"--minimum 1: the variance of a class needs at least 2"):
        draw_sample(class_map, tmp_path / "p.gpkg", points=100, minimum=1, seed=0)
    values = mapped_classes()
    values[values == 2] = 3
    values[30, 30] = 2
    single = write_class_map(tmp_path / "single.tif", values)
    with pytest.raises(SampleError, match="a single cell of class Grünland, naß; no variance"):
        draw_sample(single, tmp_path / "p.gpkg", points=100, minimum=10, seed=0)
    empty = write_class_map(tmp_path / "empty.tif", np.zeros((7, 9), dtype=np.uint8))
    with pytest.raises(SampleError, match="no cell has a class"):
        draw_sample(empty, tmp_path / "p.gpkg", points=100, minimum=10, seed=0)
    with pytest.raises(SampleError, match=r"no class 'lake' \(--expect\); its classes are water"):
        points_needed(class_map, 0.01, {"lake": 0.9})
    with pytest.raises(SampleError, match="are shares between 0 and 1"):
        points_needed(class_map, 0.01, {"water": 90})
