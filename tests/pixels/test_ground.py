from dataclasses import replace

import geopandas
import numpy as np
import pandas
import pytest
import shapely
from affine import Affine
from rasterio.crs import CRS
from rasterio.windows import Window

from landfold.folds.assignment import fold_patches
from landfold.folds.lists import read_test_region, write_folds
from landfold.folds.split import FoldError
from landfold.folds.zones import Blocks
from landfold.geo.grid import Grid
from landfold.pixels.ground import HeldOutGround, fold_ground, zones_at
from tests.factories import CRS_UTM33, ORIGIN_X, ORIGIN_Y, box, make_grid
from tests.folds.layouts import zone_settings

GRID = make_grid(30, 40)
RULE = Blocks(100, (ORIGIN_X, ORIGIN_Y))
"""Zones of 10 x 10 px: E0N-1 to E3N-1 in the first ten rows of GRID, E0N-3 to E3N-3 in the last."""


def held_out(*, zones=(), footprints=(), test=(), buffer_m=0.0) -> HeldOutGround:
    shapes = (np.array(part, dtype=object) for part in (footprints, test))
    return HeldOutGround(CRS_UTM33, RULE, frozenset(zones), *shapes, buffer_m)


def square(top: int, left: int, bottom: int, right: int, grid: Grid = GRID) -> np.ndarray:
    """Which pixels of a grid are in a part of it."""
    inside = np.zeros(grid.shape, dtype=bool)
    inside[top:bottom, left:right] = True
    return inside


def pixel_shapes(grid: Grid) -> np.ndarray:
    """The ground of each pixel, (y, x)."""
    parts = [grid.footprint(Window(x, y, 1, 1)) for y in range(grid.height) for x in range(grid.width)]
    return np.array(parts, dtype=object).reshape(grid.shape)


def test_each_pixel_is_in_the_zone_at_its_centre():
    names = zones_at(GRID, CRS_UTM33, RULE.at)
    assert names.shape == (30, 40)
    assert (names[0, 9], names[0, 10], names[9, 0], names[10, 0], names[29, 39]) == (
        *("E0N-1", "E1N-1", "E0N-1", "E0N-2"),
        "E3N-3",
    )
    shifted = Grid(CRS_UTM33, GRID.transform @ Affine.translation(0.4, 0.6), 12, 12)
    names = zones_at(shifted, CRS_UTM33, RULE.at)
    assert (names[0, 9], names[0, 10], names[8, 0], names[9, 0]) == ("E0N-1", "E1N-1", "E0N-1", "E0N-2")


def test_whole_zones_are_held_out_and_scored():
    ground = held_out(zones=["E1N-2", "E3N-3"])
    expected = square(10, 10, 20, 20) | square(20, 30, 30, 40)
    for found in (ground.in_zones, ground.held_out, ground.scored, ground.blocked):
        assert np.array_equal(found(GRID), expected)
    assert np.array_equal(ground.zones_of(GRID), zones_at(GRID, CRS_UTM33, RULE.at))


def test_a_footprint_over_the_border_of_its_zone_is_held_out_and_not_scored():
    ground = held_out(zones=["E0N-1"], footprints=[box(40, 40, 140, 160)])
    assert np.array_equal(ground.held_out(GRID), square(0, 0, 10, 10) | square(4, 4, 16, 14))
    assert np.array_equal(ground.blocked(GRID), ground.held_out(GRID))
    assert np.array_equal(ground.scored(GRID), square(0, 0, 10, 10))


def test_a_pixel_that_a_footprint_covers_in_part_is_held_out():
    assert np.array_equal(held_out(footprints=[box(45, 49, 101, 52)]).held_out(GRID), square(4, 4, 6, 11))


def test_the_test_region_is_held_out_and_scored_by_no_fold():
    ground = held_out(zones=["E0N-1"], test=[box(70, 80, 130, 120), box(300, 200, 310, 210)])
    test = square(8, 7, 12, 13) | square(20, 30, 21, 31)
    assert np.array_equal(ground.held_out(GRID), square(0, 0, 10, 10) | test)
    assert np.array_equal(ground.scored(GRID), square(0, 0, 10, 10) & ~test)


def test_a_random_fold_holds_out_its_patches_alone():
    ground = held_out(footprints=[box(40, 40, 80, 80), box(200, 0, 240, 40)], test=[box(70, 70, 90, 90)])
    patches, test = square(4, 4, 8, 8) | square(0, 20, 4, 24), square(7, 7, 9, 9)
    assert np.array_equal(ground.blocked(GRID), patches | test)
    assert np.array_equal(ground.scored(GRID), patches & ~test)
    assert not ground.in_zones(GRID).any()


@pytest.mark.parametrize("buffer_m", [0, 1, 9.9, 10, 14.1, 14.2, 20, 22.3, 22.4, 28.2, 28.3, 45])
@pytest.mark.parametrize("resolution", [(10, 10), (10, 20)])
def test_the_buffer_reaches_from_edge_to_edge_on_diagonals_too(buffer_m, resolution):
    grid = Grid(CRS_UTM33, Affine(resolution[0], 0, ORIGIN_X, 0, -resolution[1], ORIGIN_Y), 15, 22)
    ground = held_out(footprints=[box(90, 120, 120, 140)], test=[box(200, 20, 210, 40)], buffer_m=buffer_m)
    held = ground.held_out(grid)
    shapes = pixel_shapes(grid)
    distances = shapely.distance(shapes[:, :, None], shapes[held][None, None]).min(axis=2)
    expected = held if buffer_m == 0 else distances <= buffer_m + 1e-6
    assert np.array_equal(ground.blocked(grid), expected)


def test_what_is_blocked_does_not_depend_on_the_part_that_is_asked_for():
    ground = held_out(zones=["E1N-2"], footprints=[box(40, 40, 140, 160)], test=[box(380, 0, 400, 20)], buffer_m=35)
    whole = ground.blocked(GRID)
    for window in (Window(0, 0, 40, 1), Window(21, 11, 3, 4), Window(36, 3, 2, 2), Window(14, 20, 5, 10)):
        rows, columns = window.toslices()
        assert np.array_equal(ground.blocked(GRID.part(window)), whole[rows, columns])
    beyond = ground.blocked(GRID.part(Window(-5, -5, 50, 40)))
    assert np.array_equal(beyond[5:35, 5:45], whole)
    assert beyond[:5, 42:45].any(), "ground outside of the scene is held out alike"


def test_more_zones_are_held_out_for_an_inner_split_and_nothing_where_nothing_is():
    ground = held_out(zones=["E1N-2"], footprints=[box(100, 100, 200, 200)], test=[box(0, 0, 10, 10)], buffer_m=15)
    more = ground.with_zones(["E3N-3"])
    alone = held_out(zones=["E3N-3"], buffer_m=15)
    assert np.array_equal(more.blocked(GRID), ground.blocked(GRID) | alone.blocked(GRID))
    assert not ground.nothing.blocked(GRID).any()
    assert np.array_equal(ground.nothing.zones_of(GRID), ground.zones_of(GRID))


def test_a_zone_in_no_fold_is_not_seen_by_any():
    ground = replace(held_out(zones=["E1N-2"], buffer_m=15), folded=frozenset(["E1N-2", "E0N-1", "E1N-1"]))
    unfolded = ~(square(0, 0, 10, 20) | square(10, 10, 20, 20))
    assert np.array_equal(ground.blocked(GRID), held_out(zones=["E1N-2"], buffer_m=15).blocked(GRID) | unfolded)
    assert np.array_equal(ground.scored(GRID), square(10, 10, 20, 20))
    assert not ground.nothing.blocked(GRID).any()


def test_a_scene_in_another_crs_has_the_same_ground():
    other = CRS.from_epsg(32634)
    corner = geopandas.GeoSeries([shapely.Point(ORIGIN_X, ORIGIN_Y)], crs=CRS_UTM33).to_crs(other)[0]
    grid = Grid(other, Affine(7, 0, corner.x - 20, 0, -7, corner.y + 20), 60, 60)
    ground = held_out(zones=["E1N-2"], footprints=[box(55, 55, 133, 148)], test=[box(311, 42, 333, 57)], buffer_m=0)
    shapes = geopandas.GeoSeries(pixel_shapes(grid).ravel(), crs=other).to_crs(CRS_UTM33)
    zone = shapely.box(*RULE.polygon("E1N-2").bounds)
    in_zone = shapes.centroid.within(zone).to_numpy()
    shared = shapes.intersection(shapely.union_all([*ground.footprints, *ground.test])).area.to_numpy()
    found = ground.held_out(grid).ravel()
    clear = in_zone | (shared > 2) | (shared == 0)  # a footprint that hardly touches a pixel may be in it or not
    assert clear.mean() > 0.97
    assert np.array_equal(found[clear], (in_zone | (shared > 2))[clear])
    assert found.sum() > 100
    held = shapely.union_all(shapes[found].to_numpy())
    near = shapes.distance(held).to_numpy()
    buffered = held_out(zones=["E1N-2"], footprints=ground.footprints, test=ground.test, buffer_m=30)
    blocked = buffered.blocked(grid).ravel()
    assert blocked[near < 29.9].all()
    assert not blocked[near > 30.1].any()


def project_patches() -> geopandas.GeoDataFrame:
    """Patches of 20 m, 15 m apart, of which some reach over the borders of the 3 x 4 zones."""
    x, y = (part.ravel() for part in np.meshgrid(np.arange(10, 400, 15), np.arange(10, 300, 15)))
    return geopandas.GeoDataFrame(
        {
            "patch": [f"s/{b}/{a}" for a, b in zip(x, y, strict=True)],
            "scene": "s",
            "label": np.where((x + y) % 40 == 0, "water", "field"),
            "x": ORIGIN_X + x,
            "y": ORIGIN_Y - y,
        },
        geometry=[box(a - 10, b - 10, a + 10, b + 10) for a, b in zip(x, y, strict=True)],
        crs=CRS_UTM33,
    )


def written(folder, patches, region=None, **changes):
    settings = zone_settings(
        **{"block_size_m": 100, "origin_m": [ORIGIN_X, ORIGIN_Y], "assignment": "group", "buffer_m": 6} | changes
    )
    test = np.zeros(len(patches), dtype=bool) if region is None else patches.intersects(region).to_numpy()
    folds = fold_patches(patches, settings, test)
    folder.mkdir()
    write_folds(folder, folds, region)
    return settings, folds


@pytest.mark.parametrize("as_bytes", [False, True])
def test_the_ground_of_a_fold_is_what_the_zones_stage_has_made(tmp_path, as_bytes):
    patches, region = project_patches(), box(330, 210, 400, 300)
    changes = {"repeats": 2, "folds": [0, 1, 2, 3]}
    settings, folds = written(tmp_path / "k2", patches, region, **changes)
    table = pandas.DataFrame(patches.drop(columns="geometry")).assign(
        geometry=shapely.to_wkb(patches.geometry.to_numpy())
    )
    for fold, split in enumerate(folds.spatial):
        ground = fold_ground(tmp_path / "k2", table if as_bytes else patches, settings, CRS_UTM33, fold)
        names = folds.table["zone_1" if fold > 1 else "zone"]
        assert ground.zones == set(names[split.validation])
        assert ground.buffer_m == 6
        assert ground.folded == set(names[split.roles != "test"])
        assert set(ground.footprints) == set(patches.geometry[split.validation])
        assert set(ground.test) == {*patches.geometry[split.roles == "test"], region}
        assert list(ground.rule.at(patches["x"].to_numpy(), patches["y"].to_numpy())) == list(names)
    first, last = (fold_ground(tmp_path / "k2", patches, settings, CRS_UTM33, i).in_zones(GRID) for i in (0, 3))
    assert not np.array_equal(first, last)


def test_no_pixel_of_a_validation_patch_is_trained_on_and_each_labelled_place_is_scored_once(tmp_path):
    patches, region = project_patches(), box(330, 210, 400, 300)
    settings, _ = written(tmp_path / "k3", patches, region, k=3, folds=[0, 1, 2])
    grounds = [fold_ground(tmp_path / "k3", patches, settings, CRS_UTM33, fold) for fold in range(3)]
    scored = sum(ground.scored(GRID).astype(int) for ground in grounds)
    test = grounds[0]._touched(GRID, grounds[0].test)
    assert np.array_equal(scored, (~test).astype(int))
    for ground in grounds:
        shapes = shapely.union_all(ground.footprints)
        touched = shapely.area(shapely.intersection(pixel_shapes(GRID), shapes)) > 1
        assert (ground.blocked(GRID) >= (touched | test | ground.scored(GRID))).all()


def test_a_random_fold_has_neither_zones_nor_a_buffer(tmp_path):
    patches = project_patches()
    settings, folds = written(tmp_path / "k2", patches)
    ground = fold_ground(tmp_path / "k2", patches, settings, CRS_UTM33, 1, kind="random")
    assert (ground.zones, ground.buffer_m, len(ground.test)) == (frozenset(), 0, 0)
    assert set(ground.footprints) == set(patches.geometry[folds.random[1].validation])


def test_merged_zones_are_held_out_as_one(tmp_path):
    patches = project_patches()[lambda table: abs(table["x"] - ORIGIN_X - 200) >= 10].reset_index(drop=True)
    settings, folds = written(tmp_path / "k2", patches, overlaps="merge", buffer_m=0)
    merged = folds.table["zone"]
    assert set(merged) == {"E0N-1+5", "E2N-1+5"}
    ground = fold_ground(tmp_path / "k2", patches, settings, CRS_UTM33, 0)
    assert ground.zones == set(merged[folds.spatial[0].validation])
    inside = ground.in_zones(GRID)
    assert inside.sum() == 600
    assert np.array_equal(ground.held_out(GRID), inside), "patches of merged zones stay within them"


def test_a_fold_of_other_patches_is_refused(tmp_path):
    patches = project_patches()
    settings, _ = written(tmp_path / "k2", patches)
    with pytest.raises(FoldError, match=r"fold_0\.parquet: does not list the patches"):
        fold_ground(tmp_path / "k2", patches[:-1], settings, CRS_UTM33, 0)


@pytest.mark.parametrize(
    "region",
    [None, box(330, 210, 400, 300), shapely.MultiPolygon([box(0, 0, 50, 50), box(330, 210, 400, 300)])],
    ids=["none", "one", "several"],
)
def test_the_test_region_comes_back(tmp_path, region):
    written(tmp_path / "k2", project_patches(), region)
    found = read_test_region(tmp_path / "k2")
    assert found is None if region is None else shapely.equals(found, region)
