"""The truth is independent: scipy labels, a flood fill that merges region by region, polygons burnt back into cells."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import geopandas
import numpy as np
import pandas
import pyogrio
import pyproj
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from rasterio.crs import CRS
from rasterio.features import rasterize
from scipy import ndimage

from landfold.core.settings import SettingsError, validate
from landfold.geo.dataset import RasterError
from landfold.geo.grid import Grid
from landfold.maps.classmap import NO_CLASS, ClassMapError
from landfold.maps.polygons import LAYER, PolygonError, trace, write_polygons
from landfold.maps.regions import Runs, find_regions
from landfold.maps.settings import PolygonSettings
from tests import factories
from tests.factories import make_grid

FORMATS = ["gpkg", "geojson", "flatgeobuf"]
NAMES = ["water", 'corn "&" <rye>', "Grünland, naß; 100 % 'x'\n"]
COLOURS = dict(zip(NAMES, [(47, 127, 209), (242, 209, 7), (0, 0, 255)], strict=True))
MAP = np.array(
    [
        [0, 0, 1, 1, 1, 2, 2],
        [0, 3, 1, 2, 1, 2, 2],
        [3, 3, 1, 1, 2, 2, 2],
        [3, 2, 3, 3, 3, 3, 0],
        [3, 3, 3, 3, 3, 0, 1],
    ]
)
"""Six regions, 30 cells: corners do not connect, and the 1 at the lower right lies amid no data."""


def write_map(folder: Path, values, confidence=None, *, grid=None, names=NAMES, dtype="uint8") -> tuple[Path, Path]:
    """A class raster and its confidence, 0.25 + 0.5 * (place of the cell) / cells unless told, NaN without a class."""
    grid = grid or make_grid(*values.shape, 80.0, x_px=3, y_px=5)
    if confidence is None:
        confidence = 0.25 + 0.5 * np.arange(values.size).reshape(values.shape) / values.size
    paths = folder / "s_class.tif", folder / "s_confidence.tif"
    profile = {"driver": "GTiff", "height": grid.height, "width": grid.width, "crs": grid.crs}
    profile |= {"transform": grid.transform}
    with rasterio.open(paths[0], "w", dtype=dtype, nodata=0, count=1, **profile) as dataset:
        dataset.write(values.astype(dtype), 1)
        dataset.update_tags(1, **{f"CLASS_{number}": name for number, name in enumerate(names, 1)})
    with rasterio.open(paths[1], "w", dtype="float32", nodata=np.nan, count=2, **profile) as dataset:
        dataset.descriptions = ("padded", "confidence")
        dataset.write(np.stack([np.full(values.shape, 9.0), np.where(values > 0, confidence, np.nan)]))
    return paths


def write(folder, values=MAP, *, formats=FORMATS, min_area_m2=0.0, simplify_m=0.0, out=None, **options):
    chosen = PolygonSettings(formats=formats, min_area_m2=min_area_m2, simplify_m=simplify_m)
    return write_polygons(*write_map(folder, values, **options), (out or folder) / "s", chosen, COLOURS)


def runs_of(values, strip=2) -> Runs:
    return Runs.of((values[row : row + strip] for row in range(0, len(values), strip)), *values.shape)


def merged(values, least) -> np.ndarray:
    """The class raster that `find_regions` gives, cell by cell."""
    runs = runs_of(values)
    found = find_regions(runs, least)
    numbers = np.append(NO_CLASS, found.numbers)[found.of_run]
    return np.repeat(numbers, runs.lengths).reshape(values.shape)


def label(values) -> tuple[np.ndarray, list[int]]:
    """Regions numbered as they first come along the rows from 0, -1 without a class; the class of each."""
    pieces, count = np.zeros(values.shape, dtype=int), 0
    for number in np.unique(values[values > 0]):
        found, several = ndimage.label(values == number)
        pieces[found > 0] = found[found > 0] + count
        count += several
    firsts = pandas.unique(pieces[pieces > 0])
    place = np.full(count + 1, -1)
    place[firsts] = np.arange(len(firsts))
    pieces = place[pieces]
    return pieces, [int(values[pieces == i][0]) for i in range(len(firsts))]


def merged_one_by_one(values, least) -> np.ndarray:
    """The rule of `find_regions` in plain words: label anew after each round, look at every cell's neighbours."""
    values = values.copy()
    while True:
        pieces, classes = label(values)
        cells = [int((pieces == i).sum()) for i in range(len(classes))]
        around: dict[int, set[int]] = {}
        for one, other in ((pieces[:, :-1], pieces[:, 1:]), (pieces[:-1], pieces[1:])):
            for a, b in zip(one.ravel().tolist(), other.ravel().tolist(), strict=True):
                if a != b and min(a, b) >= 0:
                    around.setdefault(a, set()).add(b)
                    around.setdefault(b, set()).add(a)
        small = [cells[i] for i in around if cells[i] < least]
        if not small:
            return values
        target = {
            i: max(others, key=lambda j: (cells[j], -j)) for i, others in around.items() if cells[i] == min(small)
        }
        groups = [{i, j} for i, j in target.items()]
        for _ in groups:  # join what shares a member
            for a in range(len(groups)):
                for b in range(a):
                    if groups[a] & groups[b]:
                        groups[a] |= groups[b]
                        groups[b] = set()
        for group in filter(None, groups):
            values[np.isin(pieces, list(group))] = classes[max(group, key=lambda j: (cells[j], -j))]


def burnt(table, grid: Grid, names) -> np.ndarray:
    """The polygons as a class raster."""
    if table.empty:
        return np.zeros(grid.shape, dtype=int)
    numbers = [names.index(name) + 1 for name in table["class"]]
    shapes = zip(table.geometry, numbers, strict=True)
    return rasterize(shapes, out_shape=grid.shape, transform=grid.transform, dtype="int32")


maps = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 3))


@settings(deadline=None)
@given(maps, st.integers(1, 4))
def test_runs_and_regions_are_those_of_scipy(values, strip):
    runs = runs_of(values, strip)
    assert np.array_equal(np.repeat(runs.numbers, runs.lengths).reshape(values.shape), values)
    found, (pieces, classes) = find_regions(runs), label(values)
    assert np.array_equal(np.repeat(found.of_run, runs.lengths).reshape(values.shape), pieces + 1)
    assert found.numbers.tolist() == classes
    assert found.cells.tolist() == [(pieces == i).sum() for i in range(len(classes))]


@settings(deadline=None)
@given(maps, st.integers(1, 12))
def test_small_regions_are_merged_as_by_hand(values, least):
    assert np.array_equal(merged(values, least), merged_one_by_one(values, least))


@settings(deadline=None)
@given(maps, st.integers(1, 12))
def test_merging_keeps_no_data_and_leaves_nothing_small_that_has_a_neighbour(values, least):
    after = merged(values, least)
    assert np.array_equal(after > 0, values > 0)
    pieces, classes = label(after)
    for i in range(len(classes)):
        if (pieces == i).sum() < least:
            around = ndimage.binary_dilation(pieces == i) & (pieces != i)
            assert (after[around] == 0).all()
    assert np.array_equal(merged(after, least), after)


def test_the_smallest_region_goes_first_into_its_largest_neighbour():
    assert merged(np.array([[1, 2, 2, 3, 3, 3, 3]]), 2).tolist() == [[2, 2, 2, 3, 3, 3, 3]]
    # Were all small ones merged at once, 1 would follow 2 into 3; at three cells 2 is large enough to stay.
    assert merged(np.array([[1, 2, 2, 3, 3, 3, 3]]), 3).tolist() == [[2, 2, 2, 3, 3, 3, 3]]
    assert merged(np.array([[1, 2, 2, 3, 3, 3, 3]]), 4).tolist() == [[3] * 7]
    assert merged(np.array([[2, 2, 1, 3, 3]]), 2).tolist() == [[2, 2, 2, 3, 3]]  # of equals the first
    assert merged(np.array([[2, 2, 1, 2, 2, 3, 3, 3]]), 3).tolist() == [[2, 2, 2, 2, 2, 3, 3, 3]]
    # The two of class 2 are one after the 1 between them is gone, and large enough for 5.
    assert merged(np.array([[2, 2, 1, 2, 2, 3, 3, 3, 3, 3]]), 5).tolist() == [[2, 2, 2, 2, 2, 3, 3, 3, 3, 3]]
    assert merged(np.array([[1, 0, 3, 3, 3]]), 9).tolist() == [[1, 0, 3, 3, 3]]


def test_gdal_sieves_single_spots_alike():
    rows, columns = np.mgrid[:40, :53]
    values = (1 + (rows + columns > 50)).astype(np.uint8)
    values[4::9, 5::11] = 3
    values[:5, :7] = 0
    expected = rasterio.features.sieve(values, 4, mask=values > 0)
    assert np.array_equal(merged(values, 4), expected)
    assert (merged(values, 4) != values).sum() > 10


@settings(max_examples=40, deadline=None)
@given(maps, st.sampled_from([0.0, 6400.0, 20_000.0]), st.sampled_from([0.0, 0.3]))
def test_polygons_of_any_map_are_the_merged_raster(tmp_path_factory, values, min_area_m2, turn):
    """Valid, disjoint, complete, of the right areas and confidence, on a turned grid too."""
    transform = make_grid(1, 1, 80.0).transform @ Affine.rotation(180 / np.pi * turn)
    grid = Grid(factories.CRS_UTM33, transform, *values.shape)
    traced = trace(*write_map(tmp_path_factory.mktemp("map"), values, grid=grid), min_area_m2)
    table, after = traced.placed(), merged(values, int(np.ceil(min_area_m2 / 6400)))
    pieces, classes = label(after)
    assert np.array_equal(burnt(table, grid, NAMES), after)
    assert table.geometry.is_valid.all()
    assert (table.geom_type == "Polygon").all()
    assert table.crs == grid.crs
    assert table["cells"].tolist() == sorted(table["cells"], reverse=True)
    order = np.argsort([-(pieces == i).sum() for i in range(len(classes))], kind="stable")
    assert table["class"].tolist() == [NAMES[classes[i] - 1] for i in order]
    assert table["cells"].tolist() == [(pieces == i).sum() for i in order]
    assert table["merged_cells"].tolist() == [((pieces == i) & (values != after)).sum() for i in order]
    assert np.allclose(table["area_m2"], 6400 * table["cells"])
    assert np.allclose(table["area_m2"], table.area)
    assert np.allclose(table["perimeter_m"], table.length)
    confidence = 0.25 + 0.5 * np.arange(values.size).reshape(values.shape) / values.size
    expected = [confidence[(pieces == i) & (values == after)].mean() for i in order]
    assert table["confidence"].to_numpy() == pytest.approx(expected, abs=6e-5)
    union = shapely.union_all(table.geometry.to_numpy())
    assert union.area == pytest.approx(table.area.sum(), rel=1e-12)  # no overlaps


def in_degrees(folder, values, *, fit_bent, min_area_m2=0, simplify_m=0) -> tuple[float, float]:
    """Square degrees of all polygons, of all together, from 60 km cells in the equal-area CRS of Europe."""
    grid = Grid(CRS.from_epsg(3035), Affine(60_000, 0, 4_000_000, 0, -60_000, 5_000_000), *values.shape)
    table = trace(*write_map(folder, values, grid=grid), min_area_m2, simplify_m=simplify_m)
    table = table.placed(fit_bent=fit_bent).to_crs(4326)
    polygons = table.geometry.to_numpy()
    assert shapely.is_valid(polygons).all()
    return shapely.area(polygons).sum(), shapely.union_all(polygons).area


@settings(max_examples=20, deadline=None)
@given(maps)
def test_neighbours_fit_in_longitude_and_latitude(tmp_path_factory, values):
    """Neither overlaps nor gaps, though lines of the grid are bent there."""
    folder = tmp_path_factory.mktemp("map")
    separate, together = in_degrees(folder, values, fit_bent=True)
    _, one_class = in_degrees(folder, (values > 0).astype(np.uint8), fit_bent=True)
    assert separate == pytest.approx(together, rel=1e-9)
    assert one_class == pytest.approx(together, rel=1e-9)


@settings(max_examples=20, deadline=None)
@given(maps, st.sampled_from([0.0, 9e9]), st.sampled_from([50_000.0, 120_000.0]))
def test_simplified_neighbours_fit_there_too(tmp_path_factory, values, min_area_m2, simplify_m):
    folder = tmp_path_factory.mktemp("map")
    separate, together = in_degrees(folder, values, fit_bent=True, min_area_m2=min_area_m2, simplify_m=simplify_m)
    assert separate == pytest.approx(together, rel=1e-9)


def test_it_takes_every_corner_for_that(tmp_path):
    """The edge of 1 is one line, that of its neighbours below is not."""
    separate, together = in_degrees(tmp_path, np.array([[1] * 9, [2, 2, 2, 2, 3, 3, 3, 3, 3]]), fit_bent=False)
    assert separate > together * 1.001


@settings(max_examples=40, deadline=None)
@given(maps, st.sampled_from([0.0, 20_000.0]), st.sampled_from([60.0, 90.0, 200.0]), st.sampled_from([0.0, 0.3]))
def test_simplified_polygons_leave_no_gap_and_no_overlap(tmp_path_factory, values, min_area_m2, simplify_m, turn):
    transform = make_grid(1, 1, 80.0).transform @ Affine.rotation(180 / np.pi * turn)
    grid = Grid(factories.CRS_UTM33, transform, *values.shape)
    paths = write_map(tmp_path_factory.mktemp("map"), values, grid=grid)
    plain, simple = trace(*paths, min_area_m2), trace(*paths, min_area_m2, simplify_m=simplify_m)
    table = simple.placed()
    assert table.geometry.is_valid.all()
    assert (table.geom_type == "Polygon").all()
    assert shapely.coverage_is_valid(simple.outlines)
    assert shapely.equals(*(shapely.union_all(traced.outlines) for traced in (plain, simple)))  # edges to no data
    corners = shapely.get_coordinates(simple.outlines)
    assert np.array_equal(corners, corners.round())
    assert len(corners) <= len(shapely.get_coordinates(shapely.segmentize(plain.outlines, 1)))
    same = ["class", "cells", "confidence", "merged_cells"]
    assert table[same].equals(plain.table[same])
    assert table["area_m2"].to_numpy() == pytest.approx(table.area.to_numpy())
    assert table["perimeter_m"].to_numpy() == pytest.approx(table.length.to_numpy())
    assert table["area_m2"].sum() == pytest.approx((values > 0).sum() * 6400, rel=1e-12)


def test_a_staircase_becomes_a_line_at_the_size_of_its_steps(tmp_path):
    """A step of one cell spans a triangle of half a cell."""
    rows, columns = np.mgrid[:9, :9]
    paths = write_map(tmp_path, 1 + (rows > columns))
    corners = {}
    for simplify_m in (0, 50, 60):
        (upper, lower) = trace(*paths, 0, simplify_m=simplify_m).outlines
        border = shapely.intersection(upper, lower)
        corners[simplify_m] = len(shapely.get_coordinates(shapely.line_merge(border)))
    assert corners == {0: 17, 50: 17, 60: 3}  # it ends half a step off


@pytest.mark.parametrize("epsg", [4326, 3857])
def test_simplified_areas_add_up_on_the_ellipsoid(tmp_path, epsg):
    size = {4326: 0.001, 3857: 100}[epsg]
    x, y = pyproj.Transformer.from_crs(4326, epsg, always_xy=True).transform(-74, 40.6)
    grid = Grid(CRS.from_epsg(epsg), Affine(size, 0, x, 0, -size, y), 40, 53)
    values = np.random.default_rng(1).integers(1, 4, (10, 14)).repeat(4, 0).repeat(4, 1)[:, :53]
    paths = write_map(tmp_path, values, grid=grid)
    plain, simple = trace(*paths, 0), trace(*paths, 0, simplify_m=300)
    assert len(shapely.get_coordinates(simple.outlines)) < len(shapely.get_coordinates(plain.outlines))
    assert simple.table["area_m2"].sum() == pytest.approx(plain.table["area_m2"].sum(), rel=1e-6)


def speckled(shape, classes=8):
    """A map as of pixels: smooth patches of classes, single cells of others, a corner and single cells without data."""
    random = np.random.default_rng(0)
    smooth = [ndimage.gaussian_filter(random.standard_normal(shape), 6) for _ in range(classes)]
    noisy = np.where(random.random(shape) < 0.08, random.integers(1, classes + 1, shape), np.argmax(smooth, axis=0) + 1)
    noisy[: shape[0] // 10, : shape[1] // 7] = 0
    return np.where(random.random(shape) < 0.001, 0, noisy)


def test_areas_add_up_to_the_cells_with_data_on_a_map_of_real_size(tmp_path):
    """A scene of the default project at 10 m: all regions, merged to 1000 m2, and simplified; no cent is lost."""
    values = speckled((768, 1536))
    names = [f"class {number}" for number in range(1, 9)]
    paths = write_map(tmp_path, values, grid=make_grid(*values.shape, 10.0), names=names)
    whole, counts = 100 * (values > 0).sum(), []
    for min_area_m2, simplify_m in ((0, 0), (1000, 0), (1000, 20)):
        traced = trace(*paths, min_area_m2, simplify_m=simplify_m)
        table = traced.table
        assert table["cells"].sum() * 100 == table["area_m2"].sum() == whole
        assert shapely.area(traced.outlines).sum() * 100 == whole
        counts.append(len(table))
        if min_area_m2:
            small = table["cells"] < 10  # islands amid no data
            assert small.sum() < 10
    assert shapely.coverage_is_valid(traced.outlines)
    assert counts[0] > 10 * counts[1] == 10 * counts[2]


def test_the_three_files_say_the_same(tmp_path):
    files = write(tmp_path)
    assert [path.name for path in files] == ["s.gpkg", "s.geojson", "s.fgb", "s.qml"]
    assert factories.leftovers(tmp_path) == []
    files, style = files[:3], files[3].read_text(encoding="utf-8")
    tables = [geopandas.read_file(path, layer=LAYER) for path in files]
    assert [(len(table), table["cells"].sum(), table["merged_cells"].sum()) for table in tables] == [(6, 30, 0)] * 3
    assert [pyogrio.list_layers(path)[0].tolist() for path in files] == [[LAYER, "Polygon"]] * 3
    assert [table.crs.to_epsg() for table in tables] == [32633, 4326, 32633]
    columns = ["class", "cells", "area_m2", "perimeter_m", "confidence", "merged_cells"]
    for table in tables:
        assert list(table.columns) == [*columns, "geometry"]
        assert table.geometry.is_valid.all()
    plain, geojson, flatgeobuf = (table.sort_values(columns, ignore_index=True) for table in tables)
    for other in (geojson, flatgeobuf):
        assert other[columns].astype(plain[columns].dtypes).equals(plain[columns])
    assert set(plain["class"]) == set(NAMES)
    grid = make_grid(*MAP.shape, 80.0, x_px=3, y_px=5)
    for table in (plain, flatgeobuf, geojson.to_crs(grid.crs)):
        assert np.array_equal(burnt(table, grid, NAMES), MAP)
    with closing(sqlite3.connect(files[0])) as database:
        database.row_factory = sqlite3.Row
        (stored,) = map(dict, database.execute("SELECT * FROM layer_styles"))
        (geometry,) = database.execute("SELECT table_name, column_name FROM gpkg_geometry_columns")
    assert stored == {
        **dict.fromkeys(["f_table_catalog", "f_table_schema", "styleSLD", "description", "owner", "ui"], ""),
        **{"id": 1, "f_table_name": geometry["table_name"], "f_geometry_column": geometry["column_name"]},
        **{"styleName": LAYER, "styleQML": style, "useAsDefault": 1, "update_time": "2000-01-01T00:00:00Z"},
    }


def test_perimeters_have_the_holes(tmp_path):
    table = trace(*write_map(tmp_path, np.array([[1, 1, 1], [1, 2, 1], [1, 1, 1]])), 0).placed()
    assert table["perimeter_m"].tolist() == [(12 + 4) * 80, 4 * 80]
    assert table["area_m2"].tolist() == [8 * 6400, 6400]


def test_regions_below_the_smallest_mapping_unit_are_merged(tmp_path):
    """The unit is in m2, and a region of exactly that size is large enough."""
    counts = {}
    for area in (0, 6400, 6400.1, 12_800, 1e12):
        counts[area] = len(geopandas.read_file(write(tmp_path, min_area_m2=area)[0], layer=LAYER))
    assert counts == {0: 6, 6400: 6, 6400.1: 4, 12_800: 4, 1e12: 2}
    table = geopandas.read_file(tmp_path / "s.gpkg", layer=LAYER)
    assert table["cells"].tolist() == [29, 1]
    assert table["merged_cells"].tolist() == [29 - (MAP == 3).sum(), 0]
    assert table["area_m2"].sum() == (MAP > 0).sum() * 6400
    own = 0.25 + 0.5 * np.arange(35).reshape(5, 7)[MAP == 3].mean() / 35
    assert table["confidence"][0] == pytest.approx(own, abs=6e-5)  # of the cells that were of the class before


def test_a_map_without_data_has_an_empty_layer_with_all_fields(tmp_path):
    written = write(tmp_path, np.zeros((3, 5), dtype=int), min_area_m2=1e4)
    assert len(written) == 4
    for empty, other in list(zip(written, write(tmp_path, out=tmp_path / "full"), strict=True))[:3]:
        assert len(geopandas.read_file(empty, layer=LAYER)) == 0
        if empty.suffix != ".geojson":  # its fields are those of the features
            found, expected = pyogrio.read_info(empty, layer=LAYER), pyogrio.read_info(other, layer=LAYER)
            for key in ("fields", "ogr_types", "geometry_type", "crs", "layer_name"):
                assert np.array_equal(found[key], expected[key]), (empty, key)


def test_a_second_run_gives_the_same_bytes_at_any_time(tmp_path):
    values = np.random.default_rng(3).integers(0, 4, (40, 53))
    for name in ("first", "second"):
        write(tmp_path, values, out=tmp_path / name, min_area_m2=7000, simplify_m=80)
    first = factories.tree(tmp_path / "first")
    assert len(first) == 4
    assert factories.tree(tmp_path / "second") == first


def test_300_classes_in_many_strips(tmp_path):
    values = (np.arange(600 * 7).reshape(600, 7) // 14 + 1).T.copy().T  # two rows of each
    names = [f"class {number}" for number in range(1, 301)]
    table = trace(*write_map(tmp_path, values, names=names, dtype="uint16"), 0).placed()
    assert table["class"].tolist() == names
    assert (table["cells"] == 14).all()
    places = np.arange(600 * 7).reshape(300, 14).mean(axis=1)
    assert table["confidence"].to_numpy() == pytest.approx(0.25 + 0.5 * places / 4200, abs=6e-5)


def test_geojson_follows_rfc_7946(tmp_path):
    write(tmp_path, np.array([[1, 1, 1], [1, 2, 1], [1, 1, 1]]), formats=["geojson"])
    content = json.loads((tmp_path / "s.geojson").read_text(encoding="utf-8"))
    assert "crs" not in content
    (outer, hole), (inner,) = (feature["geometry"]["coordinates"] for feature in content["features"])
    assert shapely.LinearRing(outer).is_ccw
    assert not shapely.LinearRing(hole).is_ccw
    assert (len(outer), len(hole), len(inner)) == (13, 5, 5)  # every corner of a cell
    assert set(map(tuple, hole)) == set(map(tuple, inner))
    to_degrees = pyproj.Transformer.from_crs(32633, 4326, always_xy=True)
    grid = make_grid(3, 3, 80.0, x_px=3, y_px=5)
    expected = {to_degrees.transform(*(grid.transform @ (c, r))) for c in (1, 2) for r in (1, 2)}
    found = np.array(sorted(set(map(tuple, inner))))
    assert np.abs(found - np.array(sorted(expected))).max() < 0.6e-7
    assert all(len(str(number).split(".")[1]) <= 7 for corner in outer for number in corner)


def test_geojson_is_cut_at_the_antimeridian(tmp_path):
    """UTM zone 1 reaches across it; no polygon may run around the world instead."""
    x, y = pyproj.Transformer.from_crs(4326, 32601, always_xy=True).transform(180, 50)
    grid = Grid(CRS.from_epsg(32601), Affine(1000, 0, x - 4000, 0, -1000, y), 3, 9)
    write(tmp_path, np.array([[1] * 9, [2] * 9, [1, 1, 1, 0, 0, 0, 3, 3, 3]]), grid=grid)
    plain, cut = (geopandas.read_file(tmp_path / f"s.{suffix}", layer=LAYER) for suffix in ("gpkg", "geojson"))
    assert plain.geom_type.tolist() == ["Polygon"] * 4
    assert sorted(cut.geom_type) == ["MultiPolygon", "MultiPolygon", "Polygon", "Polygon"]
    assert cut.geometry.is_valid.all()
    parts = cut.explode()
    assert (parts.bounds["maxx"] - parts.bounds["minx"]).max() < 0.2
    geod = pyproj.Geod(ellps="WGS84")
    ground = [abs(geod.geometry_area_perimeter(polygon)[0]) for polygon in cut.geometry]
    assert ground == pytest.approx(plain["area_m2"].tolist(), rel=2e-3)  # UTM's own scale


@pytest.mark.parametrize(("epsg", "size"), [(4326, 0.01), (3857, 1000), (2263, 3000)])
def test_areas_are_on_the_ellipsoid_where_those_of_the_grid_are_wrong(tmp_path, epsg, size):
    """Degrees, Mercator, feet: against an equal-area projection of every corner of a cell."""
    x, y = pyproj.Transformer.from_crs(4326, epsg, always_xy=True).transform(-74, 40.6)
    grid = Grid(CRS.from_epsg(epsg), Affine(size, 0, x, 0, -size, y), *MAP.shape)
    traced = trace(*write_map(tmp_path, MAP, grid=grid), 0)
    local = pyproj.CRS.from_proj4("+proj=laea +lat_0=40.6 +lon_0=-74 +ellps=WGS84 +units=m")
    fine = traced.placed(fit_bent=True).set_crs(traced.grid.crs).to_crs(local)
    assert traced.table["area_m2"].to_numpy() == pytest.approx(fine.area.to_numpy(), rel=1e-4)
    assert traced.table["perimeter_m"].to_numpy() == pytest.approx(fine.length.to_numpy(), rel=1e-4)
    cell_m2 = traced.table["area_m2"].sum() / traced.table["cells"].sum()
    assert trace(*write_map(tmp_path, MAP, grid=grid), 0.9 * cell_m2).table["merged_cells"].sum() == 0
    assert trace(*write_map(tmp_path, MAP, grid=grid), 1.1 * cell_m2).table["merged_cells"].sum() == 2


def test_a_crs_of_no_earth_has_no_areas(tmp_path):
    local = CRS.from_wkt('LOCAL_CS["bench",UNIT["metre",1],AXIS["x",EAST],AXIS["y",NORTH]]')
    with pytest.raises(PolygonError, match=r"has no ellipsoid: .*set export\.polygons\.formats: \[\]"):
        write(tmp_path, grid=Grid(local, Affine(2, 0, 10, 0, -2, 10), *MAP.shape))


def test_without_formats_nothing_is_read_or_written(tmp_path):
    chosen = PolygonSettings(formats=[], min_area_m2=0, simplify_m=0)
    assert write_polygons(tmp_path / "absent.tif", tmp_path / "no.tif", tmp_path / "s", chosen, COLOURS) == []
    assert list(tmp_path.iterdir()) == []


def test_rasters_that_do_not_fit_are_refused(tmp_path):
    chosen = PolygonSettings(formats=["gpkg"], min_area_m2=0, simplify_m=0)
    classes, confidence = write_map(tmp_path, MAP)
    (tmp_path / "other").mkdir()
    _, shifted = write_map(tmp_path / "other", MAP, grid=make_grid(*MAP.shape, 80.0, x_px=4, y_px=5))
    with pytest.raises(PolygonError, match=r"other/s_confidence\.tif: not on the grid of .*: shifted by up to 1 px"):
        write_polygons(classes, shifted, tmp_path / "s", chosen, COLOURS)
    with pytest.raises(ClassMapError, match="expected a class map"):
        write_polygons(confidence, confidence, tmp_path / "s", chosen, COLOURS)
    with rasterio.open(confidence, "r+") as dataset:
        dataset.descriptions = ("padded", "probability")
    with pytest.raises(RasterError, match="no channel confidence"):
        write_polygons(classes, confidence, tmp_path / "s", chosen, COLOURS)
    write_map(tmp_path, MAP, names=NAMES[:2])
    with pytest.raises(ClassMapError, match="no name for class 3"):
        write_polygons(classes, confidence, tmp_path / "s", chosen, COLOURS)
    assert not (tmp_path / "s.gpkg").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"formats": ["shapefile"], "min_area_m2": 0, "simplify_m": 0}, "formats.0: found 'shapefile'"),
        ({"formats": ["gpkg", "gpkg"], "min_area_m2": 0, "simplify_m": 0}, "expected each format once"),
        ({"formats": [], "min_area_m2": -1, "simplify_m": 0}, "min_area_m2: found -1"),
        ({"formats": [], "min_area_m2": float("inf"), "simplify_m": 0}, "min_area_m2: found inf"),
        ({"formats": [], "min_area_m2": 0, "simplify_m": -0.1}, "simplify_m: found -0.1"),
        ({"formats": [], "simplify_m": 0}, "min_area_m2: missing"),
        ({"formats": [], "min_area_m2": 0, "simplify": True}, "unknown setting 'simplify'|did you mean"),
    ],
)
def test_settings_are_strict(values, message):
    with pytest.raises(SettingsError, match=message):
        validate(values, PolygonSettings, where="params.yaml: export.polygons")
