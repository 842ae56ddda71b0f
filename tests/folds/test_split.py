import dataclasses

import numpy as np
import pandas
import pytest
import shapely

from landfold.folds.split import FoldError, Split, overlaps, random_assignment, random_split, split_fold
from tests.folds.layouts import folded, splits_of, zone_settings


def points(*x):
    return np.array([shapely.Point(value, 0) for value in x], dtype=object)


def test_a_buffer_drops_what_is_at_most_so_far():
    """spatialsample's test-buffer: x = 0, 1, 3; the second point is the test."""
    folds = np.array([1, 0, 1])
    split = split_fold(points(0, 1, 3), folds, 0, 1)
    assert (list(split.train), list(split.buffer)) == ([False, False, True], [True, False, False])
    with pytest.raises(FoldError, match=r"fold 0: all 2 training patches lie within zones\.buffer_m = 2 m"):
        split_fold(points(0, 1, 3), folds, 0, 2)
    assert list(split_fold(points(0, 1, 3), folds, 0, 0).train) == [True, False, True]


def test_a_buffer_drops_spacvs_published_points():
    """spacv's test_cv: 30 random points, three folds, buffer 450."""
    generator = np.random.RandomState(10)
    x, y = generator.randint(0, 3000, 30), generator.randint(0, 3000, 30)
    folds = np.full(30, 2)
    folds[[1, 5, 13, 16, 17, 18, 21, 22, 23, 25, 26, 28]] = 0
    folds[[2, 4, 6, 7, 11, 12, 14, 27, 29]] = 1
    places = shapely.points(x, y)
    dropped = [set(np.flatnonzero(split_fold(places, folds, fold, 450).buffer).tolist()) for fold in range(3)]
    assert dropped == [{7}, {16}, set()]


@pytest.mark.parametrize(("gap", "buffer", "dropped"), [(0, 0, 0), (-1, 0, 1), (5, 4.9, 0), (5, 5, 1), (0, 0.1, 1)])
def test_distances_are_from_edge_to_edge_and_touching_is_no_shared_ground(gap, buffer, dropped):
    footprints = np.array(
        [shapely.box(0, 0, 10, 10), shapely.box(10 + gap, 0, 20 + gap, 10), shapely.box(99, 0, 109, 10)]
    )
    split = split_fold(footprints, np.array([0, 1, 1]), 0, buffer)
    assert int(split.buffer.sum()) == dropped
    assert list(split.validation) == [True, False, False]


def test_the_buffer_changes_the_split():
    settings = zone_settings(3, block_size_m=100)
    table = folded(1, settings)
    dropped = [
        sum(int(split.buffer.sum()) for split in splits_of(table, settings.model_copy(update={"buffer_m": buffer})))
        for buffer in (0.0, 5.0, 20.0)
    ]
    assert dropped == sorted(set(dropped))


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        (shapely.Point(1, 1), shapely.Point(1, 1), True),
        (shapely.Point(1, 1), shapely.Point(1, 1.001), False),
        (shapely.Point(1, 1), shapely.box(0, 0, 2, 2), True),
        (shapely.Point(0, 1), shapely.box(0, 0, 2, 2), True),
        (shapely.LineString([(0, 0), (2, 2)]), shapely.LineString([(0, 2), (2, 0)]), True),
        (shapely.box(0, 0, 1e6, 1e6), shapely.box(5, 5, 6, 6), True),
        (shapely.box(0, 0, 1, 1), shapely.box(1, 0, 2, 1), False),
    ],
)
def test_footprints_of_any_kind_share_ground(first, second, shared):
    for a, b in ((first, second), (second, first)):
        assert overlaps(np.array([a]), np.array([b])).tolist() == [shared]
        split = split_fold(np.array([a, b, shapely.Point(-9, -9)]), np.array([0, 1, 1]), 0, 0)
        assert list(split.buffer) == [False, shared, False]


def test_a_split_cannot_be_changed():
    split = Split(np.array([True, False]), np.array([False, True]), np.zeros(2, dtype=bool))
    with pytest.raises(dataclasses.FrozenInstanceError, match="train"):
        split.train = None


def test_random_folds_are_stratified_and_as_large():
    labels = np.array(["a"] * 31 + ["b"] * 7 + ["c"] * 2, dtype=object)
    test = np.arange(40) % 10 == 0
    folds = random_assignment(labels, test, 3, seed=(0, 0))
    assert (folds[test] == -1).all()
    counts = pandas.crosstab(folds[~test], labels[~test]).to_numpy()
    assert (counts.max(axis=0) - counts.min(axis=0)).max() <= 1
    assert np.ptp(counts.sum(axis=1)) <= 1
    assert (random_assignment(labels, test, 3, seed=(1, 0)) != folds).any()
    split = random_split(folds, 1, 15, seed=(0, 0, 1))
    assert int(split.train.sum()) == 15
    np.testing.assert_array_equal(split.validation, folds == 1)
    np.testing.assert_array_equal(split.roles == "test", test)
    assert int(random_split(folds, 1, 99, seed=(0, 0, 1)).train.sum()) == int((folds != 1).sum() - test.sum())
    assert (random_split(folds, 1, 15, seed=(0, 0, 2)).train != split.train).any()
