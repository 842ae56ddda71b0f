import geopandas
import numpy as np
import pandas
import pytest

from landfold.scores.predictions import OutOfFoldPredictions

CLASSES = ["water", "farm", "bog"]  # not in alphabetical order: the order is the settings'


@pytest.fixture
def pool():
    """Two repeats of six patches in three zones, coordinate-coded probabilities."""
    label = ["water", "farm", "bog", "water", "farm", "water"]
    table = pandas.DataFrame(
        {
            "label": label * 2,
            "predicted": label + ["farm"] * 6,
            "zone": ["b", "a", "c", "b", "a", "c"] * 2,
            "fold": [0, 1, 0, 0, 1, 0, 2, 2, 3, 2, 2, 3],
            "repeat": [0] * 6 + [1] * 6,
            "p_farm": np.float32(np.arange(12) / 100),
            "p_bog": np.float32(np.arange(12) / 50),
        }
    )
    table["p_water"] = 1 - table["p_farm"] - table["p_bog"]
    return OutOfFoldPredictions(CLASSES, geopandas.GeoDataFrame(table), pandas.DataFrame(), table[:3])


def test_truth_and_probabilities_are_in_the_order_of_the_classes(pool):
    assert list(pool.truth[:6]) == [0, 1, 2, 0, 1, 0]
    assert pool.probabilities.dtype == np.float32
    np.testing.assert_allclose(pool.probabilities[5], [0.85, 0.05, 0.1], rtol=1e-6)


def test_zones_are_counted_in_each_repeat(pool):
    counts = pool.zone_confusions()
    assert counts.shape == (3, 2, 3, 3)
    np.testing.assert_array_equal(counts[0, 0], np.diag([0, 2, 0]))
    np.testing.assert_array_equal(counts[1], [np.diag([2, 0, 0]), [[0, 2, 0], [0, 0, 0], [0, 0, 0]]])
    np.testing.assert_array_equal(counts.sum(axis=(0, 1)), pool.confusion())


def test_the_test_region_is_counted_by_its_zones(pool):
    counts = pool.confusions_of_test()
    np.testing.assert_array_equal(counts, [np.diag([0, 1, 0]), np.diag([1, 0, 0]), np.diag([0, 0, 1])])


def test_what_is_calibrated_are_the_rows_of_all_repeats(pool):
    held_out = pool.held_out
    assert held_out.probabilities.shape == (12, 3)
    np.testing.assert_array_equal(held_out.folds // 2, held_out.repeats)
    assert np.bincount(held_out.folds).tolist() == [4, 2, 4, 2]
    np.testing.assert_array_equal(held_out.zones, pool.table["zone"])


def test_truth_is_along_the_rows(pool):
    np.testing.assert_array_equal(pool.confusion(), [[3, 3, 0], [0, 4, 0], [0, 1, 1]])


def test_groups_are_sorted_and_sum_to_the_pool(pool):
    by_group = pool.confusion_by(np.array(["b", "a"] * 6))
    np.testing.assert_array_equal(by_group[0], [[2, 2, 0], [0, 2, 0], [0, 0, 0]])
    np.testing.assert_array_equal(by_group.sum(axis=0), pool.confusion())
