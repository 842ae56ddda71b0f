import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from landfold.settings import SettingsError, validate
from landfold.zones import ZoneSettings, grid_zones, zone_polygon, zone_table
from tests.factories import CRS_UTM33, params


def zone_settings(**changes):
    return validate(params()["zones"] | changes, ZoneSettings, where="zones")


def zones_of(points, size=10.0, origin=(0.0, 0.0)):
    x, y = np.array(points, dtype=float).reshape(-1, 2).T
    return list(grid_zones(x, y, block_size_m=size, origin_m=origin))


def test_blocks_are_half_open_so_a_point_on_a_border_is_in_one():
    assert zones_of([(0, 0), (9.999, 9.999), (10, 0), (0, 10), (10, 10), (20, 19)]) == [
        *("E0N0", "E0N0", "E1N0", "E0N1", "E1N1", "E2N1")
    ]


def test_blocks_go_on_below_zero_without_a_double_one():
    assert zones_of([(-0.001, 0), (-10, 0), (-10.001, -5), (0, -10)]) == ["E-1N0", "E-1N0", "E-2N-1", "E0N-1"]


def test_the_origin_is_where_four_blocks_meet():
    around = [(102, 203), (101.9, 203), (102, 202.9), (101.9, 202.9)]
    assert zones_of(around, origin=(102, 203)) == ["E0N0", "E-1N0", "E0N-1", "E-1N-1"]
    assert zones_of(around, origin=(2, 3)) == ["E10N20", "E9N20", "E10N19", "E9N19"]


def test_utm_coordinates_give_the_names_of_the_documentation():
    assert zones_of([(327_700, 5_813_800)], size=2560) == ["E128N2271"]


COORDINATES = st.floats(-1e7, 1e7)
SIZES = st.floats(0.5, 1e5)


@given(
    st.lists(st.tuples(COORDINATES, COORDINATES), min_size=1, max_size=30), SIZES, st.tuples(COORDINATES, COORDINATES)
)
@hypothesis_settings(max_examples=100, deadline=None)
def test_the_polygon_of_a_zone_contains_its_points(points, size, origin):
    for point, zone in zip(points, zones_of(points, size, origin), strict=True):
        polygon = zone_polygon(zone, block_size_m=size, origin_m=origin)
        assert polygon.distance(shapely.Point(point)) <= 1e-8 * (1 + max(map(abs, [*point, *origin])))
        assert polygon.area == pytest.approx(size**2, rel=1e-4)


@given(
    st.lists(st.tuples(COORDINATES, COORDINATES), min_size=1, max_size=20), st.tuples(COORDINATES, COORDINATES), SIZES
)
@hypothesis_settings(max_examples=60, deadline=None)
def test_more_data_never_moves_a_zone(points, another, size):
    alone = zones_of(points, size)
    assert zones_of([another, *points], size)[1:] == alone
    assert zones_of(points[::-1], size)[::-1] == alone


@pytest.mark.parametrize("change", [{"size": 12.5}, {"origin": (3.0, 0.0)}, {"origin": (0.0, 3.0)}])
def test_size_and_origin_change_the_zones(change):
    points = [(1, 1), (11, 12), (25, 37)]
    assert zones_of(points, **change) != zones_of(points)


def test_the_table_counts_patches_and_keeps_folds():
    names = np.array(["E1N0", "E0N0", "E1N0", "E10N0"], dtype=object)
    found = zone_table(names, np.array([1, 0, 1, 1]), zone_settings(block_size_m=100, origin_m=[5, 7]), CRS_UTM33)
    assert list(found["zone"]) == ["E0N0", "E10N0", "E1N0"]
    assert list(found["fold"]) == [0, 1, 1]
    assert list(found["patches"]) == [1, 1, 2]
    assert found.geometry[2].bounds == (105, 7, 205, 107)
    assert found.crs == CRS_UTM33


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"folds": [0, 1, 2]}, r"zones: folds must be \[0, 1\] for k: 2, found \[0, 1, 2\]"),
        ({"k": 3}, r"folds must be \[0, 1, 2\] for k: 3, found \[0, 1\]"),
        ({"folds": [1, 0]}, r"folds must be \[0, 1\] for k: 2, found \[1, 0\]"),
        ({"k": 1, "folds": [0]}, r"zones\.k: found 1: .*greater than or equal to 2"),
        ({"block_size_m": 0}, r"zones\.block_size_m: found 0: .*greater than 0"),
        ({"buffer_m": -1}, r"zones\.buffer_m: found -1"),
        ({"origin_m": [0]}, r"zones\.origin_m"),
        ({"kind": "hexagons"}, r"zones\.kind: found 'hexagons'"),
    ],
)
def test_settings_that_make_no_zones_are_refused(changes, message):
    with pytest.raises(SettingsError, match=message):
        zone_settings(**changes)
