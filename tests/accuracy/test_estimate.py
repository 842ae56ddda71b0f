import json
import sys

import geopandas
import numpy as np
import pandas
import pyogrio
import pytest
import rasterio
import shapely
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rasterio.crs import CRS
from scipy.stats import norm

from landfold.accuracy.estimate import MAP_DIGEST, AccuracyError, as_data, as_text, assess, estimate, standard_errors
from landfold.accuracy.sample import SampleError, allocate, draw, points_needed, sample_size
from landfold.cli import main
from landfold.geo.grid import GridError
from landfold.geo.vector import VectorError
from landfold.geo.writer import create
from landfold.maps.classmap import NODATA, ClassMap, ClassMapError
from tests.cli.test_cli import launched
from tests.factories import CRS_UTM33, make_grid
from tests.maps.test_export import write_known_map

NAMES = ["water", "Grünland, naß", "field", "town"]
CELL_M = 80.0
SIZES = {"water": 0.03, "Grünland, naß": 0.07, "field": 0.6, "town": 0.3}


def mapped_classes(height=60, width=95):
    """Class numbers in bands of rows, 0 in a corner, and a class that is not the neighbour of its number."""
    bounds = np.cumsum([round(share * height) for share in SIZES.values()])
    rows = np.minimum(np.searchsorted(bounds, np.arange(height), side="right"), len(NAMES) - 1) + 1
    values = np.repeat(rows[:, None], width, axis=1).astype(np.uint8)
    values[:, -7:] = 1
    values[:5, :9] = 0
    return values


def write_class_map(path, values, *, names=NAMES, crs=CRS_UTM33):
    """As the export stage does, before it is copied into a COG."""
    grid = make_grid(*values.shape, CELL_M, crs=crs, x_px=3, y_px=5)
    with create(path, grid, ["class"], dtype="uint8", nodata=0) as writer:
        colours = dict.fromkeys(range(1, len(names) + 1), (1, 2, 3))
        writer.describe_classes(dict(enumerate(names, 1)), colours)
        writer.write(grid.whole, values[None])
    return path


@pytest.fixture
def class_map(tmp_path):
    return write_class_map(tmp_path / "s_class.tif", mapped_classes())


def truth_of(values):
    """The reference class of every cell: the map's, but for every third column where a neighbour class is true."""
    truth = values.astype(int).copy()
    truth[:, ::3] = truth[:, ::3] % len(NAMES) + 1
    return truth


def cells_under(path, shapes):
    """Rows and columns of the map's cells in which points lie."""
    with rasterio.open(path) as dataset:
        columns, rows = ~dataset.transform @ (shapes.x.to_numpy(), shapes.y.to_numpy())
    return np.floor(rows).astype(int), np.floor(columns).astype(int)


def sample_file(path, class_map, *, points=200, minimum=20, truth=None, to="EPSG:4326", change=None, **options):
    """A drawn sample, interpreted by ``truth`` (row, column), in another CRS."""
    drawn = path.with_name(f"{path.stem}-drawn.gpkg")
    draw(class_map, drawn, points=points, minimum=minimum, seed=3, with_map_class=True, **options)
    table = geopandas.read_file(drawn, layer="points")
    with rasterio.open(class_map) as dataset:
        numbers = (dataset.read(1) if truth is None else truth)[cells_under(class_map, table.geometry)]
    table["reference"] = [NAMES[number - 1] for number in numbers]
    if change is not None:
        table = change(table)
    table.to_crs(to).to_file(path)
    return path


# The published values


OLOFSSON_2014 = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
"""Olofsson et al. 2014, doi:10.1016/j.rse.2014.02.015, table 8: rows map, columns reference."""


def test_olofsson_2014_table_8():
    pixels = np.array([200_000, 150_000, 3_200_000, 6_450_000])
    found = estimate(OLOFSSON_2014, pixels * 0.09)
    margin = {name: 1.96 * part.standard_error for name, part in vars(found).items() if name != "proportions"}
    assert found.overall.value == pytest.approx(0.9465, abs=5e-5)
    assert margin["overall"] == pytest.approx(0.0185, abs=5e-5)
    assert found.users.value.round(3).tolist() == [0.880, 0.733, 0.927, 0.963]
    assert margin["users"].round(3).tolist() == [0.074, 0.101, 0.040, 0.021]
    assert found.producers.value.round(3).tolist() == [0.749, 0.847, 0.935, 0.962]
    assert margin["producers"].round(3).tolist() == [0.213, 0.254, 0.034, 0.018]
    assert found.areas.value.round().tolist() == [21158, 11686, 285770, 581386]
    assert margin["areas"].round().tolist() == [6158, 3756, 15510, 16282]


def test_olofsson_2013_example_1():
    """doi:10.1016/j.rse.2012.10.031."""
    counts = np.array([[97, 0, 3], [3, 279, 18], [2, 1, 97]])
    found = estimate(counts, np.array([22353, 1122543, 610228]))
    assert found.overall.value == pytest.approx(0.944417, abs=5e-7)
    assert found.producers.value.round(6).tolist() == [0.480631, 0.994189, 0.896926]
    assert round(found.areas.value[0]) == 45112
    assert round(1.96 * found.areas.standard_error[0]) == 21073


def test_olofsson_2014_sample_size():
    """The example below equation 13: 641 points."""
    shares, users = np.array([0.02, 0.015, 0.32, 0.645]), np.array([0.7, 0.6, 0.9, 0.95])
    assert sample_size(shares, users, 0.01) == 641
    assert sample_size(1e6 * shares, users, 0.02) == 161


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
    found = as_data(assess(path, tmp_path / "p.gpkg", attribute="cover", design="stratified"))
    assert found["matrix"]["points"] == OLOFSSON_2014.tolist()
    assert found["overall_accuracy"]["estimate"] == pytest.approx(0.9465, abs=5e-5)
    deforestation = found["classes"][0]
    assert deforestation["area_m2"]["estimate"] == pytest.approx(21158e4 / 900_000e4 * found["total_m2"], rel=3e-5)
    assert found["total_m2"] == pytest.approx(10_000 * CELL_M**2)


# Against a population whose truth is known


def population():
    """A map and the truth of each of its 420,000 cells, as the counts of their pairs: (map class, reference class)."""
    generator = np.random.default_rng(2)
    classes = generator.choice(3, size=(600, 700), p=[0.1, 0.3, 0.6])
    right = generator.random(classes.shape) < np.array([0.8, 0.85, 0.9])[classes]
    truth = np.where(right, classes, (classes + generator.choice([1, 2], size=classes.shape, p=[0.6, 0.4])) % 3)
    return np.bincount(3 * classes.ravel() + truth.ravel(), minlength=9).reshape(3, 3)


def simulate(cells, points, *, seed=11, draws=2000):
    """Matrices of stratified samples of cells without replacement: (draw, map class, reference class)."""
    generator = np.random.default_rng(seed)
    drawn = [generator.multivariate_hypergeometric(c, n, size=draws) for c, n in zip(cells, points, strict=True)]
    return np.stack(drawn, axis=1)


def test_estimates_are_unbiased_and_intervals_cover():
    cells = population()
    hits, mapped, truth = np.diag(cells), cells.sum(axis=1), cells.sum(axis=0)
    expected = {
        "overall": hits.sum() / cells.sum(),
        "users": hits / mapped,
        "producers": hits / truth,
        "areas": truth,
    }
    samples = [estimate(n, mapped) for n in simulate(cells, [200, 200, 400])]
    for name, true in expected.items():
        values = np.stack([getattr(one, name).value for one in samples])
        errors = np.stack([getattr(one, name).standard_error for one in samples])
        noise = values.std(axis=0) / len(samples) ** 0.5
        ratio = name == "producers"  # a ratio of estimates has a bias of the order of 1/n
        assert (abs(values.mean(axis=0) - true) < 4 * noise + (0.003 if ratio else 0)).all(), name
        assert errors.mean(axis=0) == pytest.approx(values.std(axis=0), rel=0.06), name
        covered = (abs(values - true) <= 1.96 * errors).mean(axis=0)
        assert ((covered > 0.93) & (covered < 0.97)).all(), (name, covered)


def test_post_stratification_covers_too():
    """Simple random samples: how many points fall into a class is left to chance."""
    weights, q = np.array([0.25, 0.75]), np.array([[0.85, 0.15], [0.1, 0.9]])
    counts = np.random.default_rng(5).multinomial(400, (weights[:, None] * q).ravel(), size=2000).reshape(-1, 2, 2)
    samples = [estimate(n, weights) for n in counts]
    values = np.array([one.areas.value[0] for one in samples])
    errors = np.array([one.areas.standard_error[0] for one in samples])
    true = (weights @ q)[0]
    assert values.mean() == pytest.approx(true, abs=4 * values.std() / 2000**0.5)
    assert 0.93 < (abs(values - true) <= 1.96 * errors).mean() < 0.97


def test_a_naive_proportion_would_be_wrong():
    """Why the estimator exists: with equal points in each class the share of right points is not the accuracy."""
    counts = np.array([[50, 50], [0, 100]])
    assert counts.trace() / counts.sum() == 0.75
    assert estimate(counts, np.array([1.0, 99.0])).overall.value == pytest.approx(0.995)


# Invariants

MATRICES = st.integers(2, 5).flatmap(
    lambda k: st.tuples(
        arrays(np.int64, (k, k), elements=st.integers(0, 40)).map(lambda n: n + 2 * np.eye(k, dtype=np.int64)),
        arrays(np.float64, k, elements=st.floats(0.5, 1e6)),
    )
)


@given(MATRICES)
def test_areas_sum_to_the_map_and_shares_are_shares(case):
    counts, mapped = case
    found = estimate(counts, mapped)
    assert found.areas.value.sum() == pytest.approx(mapped.sum())
    assert found.proportions.sum() == pytest.approx(1)
    assert found.proportions.sum(axis=1) == pytest.approx(mapped / mapped.sum())
    for part in (found.overall, found.users, found.producers):
        assert np.all((part.value >= 0) & (part.value <= 1 + 1e-12))
        assert np.all(part.standard_error >= 0)


@given(MATRICES, st.floats(0.01, 1000))
def test_the_unit_of_areas_is_free(case, factor):
    counts, mapped = case
    one, other = estimate(counts, mapped), estimate(counts, factor * mapped)
    assert other.areas.standard_error == pytest.approx(factor * one.areas.standard_error)
    assert other.producers.standard_error == pytest.approx(one.producers.standard_error)


@given(MATRICES)
def test_a_perfect_sample_leaves_the_map_as_it_is(case):
    counts, mapped = case
    found = estimate(np.diag(counts.sum(axis=1)), mapped)
    assert found.overall.value == pytest.approx(1)
    assert found.users.value == pytest.approx(np.ones(len(mapped)))
    assert found.producers.value == pytest.approx(np.ones(len(mapped)))
    assert found.areas.value == pytest.approx(mapped)
    assert found.areas.standard_error == pytest.approx(np.zeros(len(mapped)))


@given(MATRICES, st.randoms(use_true_random=False))
def test_the_order_of_the_classes_is_free(case, random):
    counts, mapped = case
    order = random.sample(range(len(mapped)), len(mapped))
    one, other = estimate(counts, mapped), estimate(counts[np.ix_(order, order)], mapped[order])
    assert other.producers.standard_error == pytest.approx(one.producers.standard_error[order])
    assert other.areas.value == pytest.approx(one.areas.value[order])


def test_a_class_that_is_not_mapped_but_met():
    found = estimate(np.array([[8, 2], [0, 0]]), np.array([100.0, 0.0]))
    assert found.areas.value == pytest.approx([80, 20])
    assert found.areas.standard_error[1] == pytest.approx(100 * (0.2 * 0.8 / 9) ** 0.5)
    assert np.isnan(found.users.value).tolist() == [False, True]
    assert found.producers.value.tolist() == [1.0, 0.0]


def test_a_stratum_without_variance_is_nan_not_zero():
    single = estimate(np.array([[1, 0], [2, 8]]), np.array([1.0, 9.0]))
    assert np.isnan(single.overall.standard_error)
    assert np.isnan(single.areas.standard_error).all()
    none = estimate(np.array([[0, 0], [2, 8]]), np.array([1.0, 9.0]))
    assert np.isnan(none.overall.value)


def test_levels():
    assert standard_errors(0.95) == 1.96
    assert standard_errors(0.9) == pytest.approx(1.6448536)
    assert standard_errors(0.6827) == pytest.approx(norm.ppf(0.84135))
    for level in (0, 1, 95, float("nan")):
        with pytest.raises(AccuracyError, match=r"share between 0 and 1, such as 0\.95"):
            standard_errors(level)


# The class map


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
        found = classes.at(np.append(x, [0, np.inf]), np.append(y, [0, 0]))
    assert found.cells.tolist() == np.bincount(values.ravel())[1:].tolist()
    assert found.places.tolist() == [*(values[row, column].astype(int) - 1), NODATA, NODATA]
    assert found.inside.tolist() == [True] * 500 + [False] * 2


def test_the_exported_file_itself_is_a_class_map(tmp_path):
    values = mapped_classes()
    certain = np.eye(4, dtype=np.float32)[values.astype(int) - 1]
    write_known_map(tmp_path, [certain], NAMES, valid=values > 0, resolution_m=CELL_M)
    with ClassMap.open(tmp_path / "s_class.tif") as classes:
        assert (classes.names, classes.numbers.tolist(), classes.cell_m2) == (NAMES, [1, 2, 3, 4], 6400)
        assert classes.at(np.empty(0), np.empty(0)).cells.tolist() == np.bincount(values.ravel())[1:].tolist()
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
        draw(path, tmp_path / "p.gpkg", points=100, minimum=10, seed=0)


def test_tags_of_the_whole_file_name_classes_too(tmp_path):
    """What the message about missing names advises."""
    path = write_class_map(tmp_path / "m.tif", mapped_classes(), names=[])
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(**{f"CLASS_{i}": name for i, name in enumerate(NAMES, 1)})
    with ClassMap.open(path) as classes:
        assert classes.names == NAMES


# The sample


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
    told = draw(class_map, tmp_path / "p.gpkg", points=300, minimum=40, seed=1, with_map_class=True)
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
        draw(class_map, tmp_path / f"{name}.gpkg", points=200, minimum=30, seed=seed)
    assert set(geopandas.read_file(tmp_path / "a.gpkg", layer="points")) == {"id", "reference", MAP_DIGEST, "geometry"}
    assert (tmp_path / "a.gpkg").read_bytes() == (tmp_path / "b.gpkg").read_bytes()
    a, c = (geopandas.read_file(tmp_path / f"{name}.gpkg", layer="points") for name in "ac")
    assert not a.geometry.geom_equals(c.geometry).all()


def test_every_cell_is_as_likely_as_another(tmp_path):
    values = np.ones((4, 10), dtype=np.uint8)
    values[:2] = 2
    path = write_class_map(tmp_path / "m.tif", values, names=["a", "b"])
    hits = np.zeros(values.shape)
    for seed in range(20):
        target = tmp_path / f"{seed}.gpkg"
        draw(path, target, points=20, minimum=5, seed=seed)
        hits[cells_under(path, pyogrio.read_dataframe(target, layer="points").geometry)] += 1
        target.unlink()
    assert hits.sum() == 400
    assert ((hits - 10) ** 2 / (20 * 0.5 * 0.5)).sum() < 80  # chi-square of 38 degrees of freedom: 1 in 10,000


def test_samples_that_are_not_drawn(class_map, tmp_path):
    (tmp_path / "there.gpkg").touch()
    with pytest.raises(SampleError, match=r"there\.gpkg: exists, and may hold what somebody has interpreted"):
        draw(class_map, tmp_path / "there.gpkg", points=100, minimum=10, seed=0)
    with pytest.raises(SampleError, match=r"choose a name that ends in \.gpkg"):
        draw(class_map, tmp_path / "p.shp", points=100, minimum=10, seed=0)
    with pytest.raises(SampleError, match=r"--minimum 1: the variance of a class needs at least 2"):
        draw(class_map, tmp_path / "p.gpkg", points=100, minimum=1, seed=0)
    values = mapped_classes()
    values[values == 2] = 3
    values[30, 30] = 2
    single = write_class_map(tmp_path / "single.tif", values)
    with pytest.raises(SampleError, match="a single cell of class Grünland, naß; no variance"):
        draw(single, tmp_path / "p.gpkg", points=100, minimum=10, seed=0)
    empty = write_class_map(tmp_path / "empty.tif", np.zeros((7, 9), dtype=np.uint8))
    with pytest.raises(SampleError, match="no cell has a class"):
        draw(empty, tmp_path / "p.gpkg", points=100, minimum=10, seed=0)
    with pytest.raises(SampleError, match=r"no class 'lake' \(--expect\); its classes are water"):
        points_needed(class_map, 0.01, {"lake": 0.9})
    with pytest.raises(SampleError, match="are shares between 0 and 1"):
        points_needed(class_map, 0.01, {"water": 90})


# The command


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


def test_a_perfect_sample(class_map, tmp_path):
    found = assess(class_map, sample_file(tmp_path / "p.gpkg", class_map), design="stratified")
    data = as_data(found)
    assert data["overall_accuracy"] == {"estimate": 1.0, "standard_error": 0.0, "low": 1.0, "high": 1.0}
    for row in data["classes"]:
        assert row["area_m2"]["estimate"] == pytest.approx(row["mapped_m2"])
    assert "which is not certainty" in data["notes"][-1]
    few = [f"{row['name']} ({row['map_points']})" for row in data["classes"] if row["map_points"] < 50]
    assert len(few) == 2
    assert f"Fewer than 50 points: {', '.join(few)}. Intervals" in " ".join(as_text(found).split())


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


def test_a_class_that_only_the_reference_has(tmp_path):
    """Named in the map, nowhere mapped, met on the ground; and one that is in neither is not shown."""
    values = mapped_classes()
    values[values == 4] = 3
    path = write_class_map(tmp_path / "m.tif", values, names=[*NAMES, "ice"])
    truth = values.astype(int)
    truth[:, ::2] = np.where(truth[:, ::2] == 3, 4, truth[:, ::2])
    found = as_data(assess(path, sample_file(tmp_path / "p.gpkg", path, truth=truth), design="stratified"))
    rows = {row["name"]: row for row in found["classes"]}
    assert list(rows) == NAMES
    assert rows["town"]["users_accuracy"]["estimate"] is None
    assert rows["town"]["producers_accuracy"]["estimate"] == 0
    assert rows["town"]["area_m2"]["low"] > 0
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_without_a_design_nothing_is_estimated(class_map, tmp_path, capsys):
    points = sample_file(tmp_path / "p.gpkg", class_map)
    for extra in ([], ["--design", "convenience"]):
        assert main(["accuracy", str(class_map), str(points), *extra]) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "points that chance did not choose" in captured.err
        assert "--design stratified (" in captured.err
        assert "--design simple (" in captured.err
        assert len(captured.err.splitlines()) == 1


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
        r"no attribute 'reference' \(--attribute\); the file has id, referenz, .* \(did you mean 'referenz'\?\)",
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
    assert as_data(assess(class_map, points, design="stratified"))["points"] == 200, "the layer of points is taken"
    table[:3].to_file(points, layer="old")
    with pytest.raises(VectorError, match=r"3 layers \(p, cells, old\); choose one with --layer"):
        assess(class_map, points, design="stratified")
    assert as_data(assess(class_map, points, design="stratified", layer="p"))["points"] == 200
    with pytest.raises(VectorError, match=r"no layer 'q' \(--layer\); the file has p, cells, old"):
        assess(class_map, points, design="stratified", layer="q")


def test_many_classes_with_long_names_fit_the_width(tmp_path):
    names = [f"a class with a name that is much longer than any table likes it to be, number {i}" for i in range(60)]
    values = (np.arange(120 * 90) % 60 + 1).astype(np.uint8).reshape(120, 90)
    path = write_class_map(tmp_path / "m.tif", values, names=names)
    draw(path, tmp_path / "d.gpkg", points=600, minimum=5, seed=0, with_map_class=True)
    table = geopandas.read_file(tmp_path / "d.gpkg", layer="points")
    table.assign(reference=table["map_class"]).to_file(tmp_path / "p.gpkg")
    text = as_text(assess(path, tmp_path / "p.gpkg", design="stratified"))
    tables = text.split("\n\n", 1)[1]
    assert max(map(len, tables.splitlines())) <= 100
    assert tables.count("  sum") >= 3, "the matrix goes on below"


def test_the_sample_command(class_map, tmp_path, capsys):
    arguments = ["sample", str(class_map), "--minimum", "20", "-o", str(tmp_path / "p.gpkg")]
    assert main([*arguments, "--standard-error", "0.02", "--expect", "water=0.9"]) == 0
    count = len(geopandas.read_file(tmp_path / "p.gpkg", layer="points"))
    assert f"{count} points (water " in capsys.readouterr().out
    with ClassMap.open(class_map) as classes:
        cells = classes.at(np.empty(0), np.empty(0)).cells
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
