import geopandas
import numpy as np
import pytest
import shapely

from landfold.folds.distances import (
    held_out_to_train_m,
    nearest_m,
    nearest_other_m,
    prediction_locations,
    wasserstein_m,
)
from landfold.folds.split import Split
from tests.factories import CRS_UTM33, make_grid, write_raster


def test_w_is_that_of_cast():
    """CAST's test-knndm: six points, folds 1 1 1 1 2 2, twenty prediction points."""
    train = np.array([(1, 1), (1, 2), (2, 2), (2, 3), (1, 4), (5, 4)], dtype=float)
    places = np.array([(0.4190187 + 2.2360680 * i, 1.4851710 + 2.2360680 * j) for i in range(5) for j in range(4)])
    first, none = np.array([1, 1, 1, 1, 0, 0], dtype=bool), np.zeros(6, dtype=bool)
    held_out = held_out_to_train_m(train, [Split(~first, first, none), Split(first, ~first, none)])
    assert wasserstein_m(held_out, nearest_m(places, train)) == pytest.approx(1.091896, abs=1e-6)


def test_distances_between_samples_are_those_of_cast():
    """CAST's test-geodist: 50 x 50 points 20 m apart."""
    y, x = np.mgrid[0:1000:20, 0:1000:20]
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    assert nearest_other_m(points).mean() == 20


def test_distance_is_to_the_training_patches_of_the_own_fold_and_absent_in_the_test_region():
    points = np.array([(0, 0), (3, 0), (10, 0), (100, 0)], dtype=float)
    first = Split(*(np.array(side, dtype=bool) for side in ([0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0])))
    second = Split(*(np.array(side, dtype=bool) for side in ([1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0])))
    np.testing.assert_array_equal(held_out_to_train_m(points, [first, second]), [10, 3, 10, np.nan])


def normalized(folder, name, *, height=40, width=60, **options):
    valid = np.ones((height, width), dtype=bool)
    valid[:14, :20] = False
    grid = make_grid(height, width, **options)
    write_raster(folder / f"{name}.tif", {"G": np.zeros((height, width), dtype=np.float32)}, grid=grid, valid=valid)
    return grid


PATCHES = geopandas.GeoDataFrame({"size_px": [8]}, geometry=[shapely.box(0, 0, 1, 1)], crs=CRS_UTM33)


def test_prediction_locations_are_the_windows_that_would_be_patches(tmp_path):
    grid = normalized(tmp_path, "one")
    found = prediction_locations(tmp_path, PATCHES, stride_px=8, max_invalid=0.2, count=99, seed=0)
    expected = [
        grid.transform @ (column + 4, row + 4)
        for row in range(0, 33, 8)
        for column in range(0, 53, 8)
        if max(0, 14 - row) * max(0, 20 - column) == 0 or (row >= 8 and column >= 16 and 6 * 4 / 64 <= 0.2)
    ]
    np.testing.assert_allclose(found, expected)


def test_prediction_locations_are_sampled_from_all_scenes(tmp_path):
    grid = normalized(tmp_path, "one")
    normalized(tmp_path, "two", x_px=500)
    normalized(tmp_path, "wee", height=20, width=7)
    options = {"stride_px": 4, "max_invalid": 0.2}
    whole = prediction_locations(tmp_path, PATCHES, **options, count=9999, seed=0)
    some, other = (prediction_locations(tmp_path, PATCHES, **options, count=60, seed=seed) for seed in (0, 1))
    assert some.shape == (60, 2)
    assert (some != other).any()
    assert set(map(tuple, some)) < set(map(tuple, whole))
    assert len(set(map(tuple, some))) == 60
    east = some[:, 0] > grid.bounds[2]
    assert 10 < east.sum() < 50


def test_prediction_locations_are_in_the_crs_of_the_patches(tmp_path):
    grid = normalized(tmp_path, "one")
    other = PATCHES.to_crs("EPSG:32632")
    found = prediction_locations(tmp_path, other, stride_px=8, max_invalid=0.2, count=99, seed=0)
    here = prediction_locations(tmp_path, PATCHES, stride_px=8, max_invalid=0.2, count=99, seed=0)
    back = geopandas.GeoSeries(geopandas.points_from_xy(*found.T), crs="EPSG:32632").to_crs(grid.crs)
    np.testing.assert_allclose(np.stack([back.x, back.y], axis=1), here, atol=1e-3)
