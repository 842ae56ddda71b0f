import geopandas
import numpy as np
import pytest
import shapely
from affine import Affine
from rasterio.crs import CRS

from landfold.folds.lists import fold_of_zone
from landfold.folds.merging import written_zones
from landfold.folds.zones import Blocks
from landfold.geo.grid import Grid
from landfold.maps.foldmodels import fold_of_cells, zone_of_learned_ground
from landfold.maps.inference import map_grid
from landfold.pixels.ground import fold_ground
from tests import factories
from tests.folds.layouts import patches_at, write_and_check, zone_settings


def zone_of(x, y):
    return Blocks(240, (0, 0)).at(x, y)


def one_zone(x, y):
    return np.full(len(x), "a", dtype=object)


def test_fold_of_cells_is_that_of_the_zone_under_the_centre():
    scene = factories.make_grid(70, 92)
    grid = map_grid(scene, 8)
    columns, rows = np.meshgrid(np.arange(12) * 80 + 40, np.arange(9) * 80 + 40)
    x, y = factories.ORIGIN_X + columns, factories.ORIGIN_Y - rows
    names = zone_of(x.ravel(), y.ravel())
    known = {name: number % 3 for number, name in enumerate(sorted(set(names))) if number % 4}
    found = fold_of_cells(grid, scene.crs, zone_of, known)
    assert found.dtype == np.int64
    assert np.array_equal(found.ravel(), [known.get(name, -1) for name in names])
    assert set(found.ravel()) == {-1, 0, 1, 2}


def test_fold_of_cells_in_another_crs():
    scene = factories.make_grid(40, 50)
    other = CRS.from_epsg(32632)
    grid = map_grid(scene, 10)
    centre = geopandas.GeoSeries(
        shapely.points(*(grid.transform @ (np.array([3.5]), np.array([2.5])))), crs=scene.crs
    ).to_crs(other)
    zone = zone_of(centre.x.to_numpy(), centre.y.to_numpy())[0]
    found = fold_of_cells(grid, other, zone_of, {zone: 1})
    assert found[2, 3] == 1
    assert 0 < (found == 1).sum() <= 9
    assert (fold_of_cells(grid, scene.crs, zone_of, {zone: 1}) == -1).all()


def test_fold_of_cells_of_a_rotated_grid():
    turned = Affine.translation(factories.ORIGIN_X, factories.ORIGIN_Y) @ Affine.rotation(30) @ Affine.scale(80, -80)
    grid = Grid(factories.CRS_UTM33, turned, 5, 7)
    x, y = turned @ (4.5, 1.5)
    zone = zone_of(np.array([x]), np.array([y]))[0]
    assert fold_of_cells(grid, grid.crs, zone_of, {zone: 2})[1, 4] == 2


def test_fold_of_cells_of_a_network_of_patches_is_that_of_the_patch_under_the_centre():
    grid = map_grid(factories.make_grid(48, 48), 8)
    shapes = np.array([factories.box(100, 50, 260, 190), factories.box(340, 340, 380, 380)])
    zone_of = zone_of_learned_ground(one_zone, shapes, np.array(["b", "c"], dtype=object))
    found = fold_of_cells(grid, grid.crs, zone_of, {"a": 1, "b": 2, "c": 0})
    expected = np.full((6, 6), 1)
    expected[1:2, 1:3] = 2  # cells of 80 m whose centre is in it: at 120 and 200 m east, 120 m south
    expected[4, 4] = 0
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("changes", [{}, {"repeats": 2, "folds": [0, 1, 2, 3]}, {"overlaps": "merge", "buffer_m": 0}])
def test_no_pixel_is_mapped_by_a_model_that_was_shown_it(tmp_path, changes):
    """Zones of 100 m, of which some have no patch; the patches of one reach over the borders of others."""
    patches = patches_at(np.tile([30.0, 95, 180, 330, 430], 2), y=np.repeat([40.0, 260], 5), labels=list("ababaabbab"))
    x, y = (factories.ORIGIN_X + patches["x"]).to_numpy(), (factories.ORIGIN_Y - patches["y"]).to_numpy()
    patches = patches.assign(x=x, y=y).set_geometry(
        shapely.box(x - 12, y - 12, x + 12, y + 12), crs=factories.CRS_UTM33
    )
    origin = [factories.ORIGIN_X, factories.ORIGIN_Y]
    settings = zone_settings(**{"block_size_m": 100, "origin_m": origin, "assignment": "group"} | changes)
    folding = write_and_check(tmp_path / "k2", patches, settings, np.zeros(10, dtype=bool))
    grid = factories.make_grid(40, 50)
    rule = written_zones(settings, patches, folding.table["zone"])
    folds = fold_of_cells(grid, patches.crs, rule.at, fold_of_zone(folding.table))
    assert set(np.unique(folds)) == {-1, 0, 1}
    for fold in (0, 1):
        hidden = fold_ground(tmp_path / "k2", patches, settings, patches.crs, fold).blocked(grid)
        assert hidden[(folds == fold) | (folds == -1)].all()
        assert not hidden.all()
