import geopandas
import numpy as np
import shapely
from affine import Affine
from rasterio.crs import CRS

from landfold.folds.zones import Blocks
from landfold.geo.grid import Grid
from landfold.maps.foldmodels import fold_of_cells
from landfold.maps.inference import map_grid
from tests import factories


def zone_of(x, y):
    return Blocks(240, (0, 0)).at(x, y)


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
