import numpy as np
import pyproj
import pytest
from rasterio.crs import CRS

from landfold.geo.crs import (
    WGS84,
    areal_scale,
    describe_crs,
    is_mercator,
    is_metric,
    is_true_to_scale,
    transform_points,
)
from tests.factories import CRS_UTM33


def test_a_crs_is_described_by_its_code_or_its_text():
    assert describe_crs(CRS_UTM33) == "EPSG:32633"
    own = CRS.from_proj4("+proj=laea +lat_0=52.5 +lon_0=13.25 +ellps=sphere +units=m")
    assert describe_crs(own).startswith("PROJCS[")


@pytest.mark.parametrize(
    ("code", "metric", "mercator"),
    [
        (32633, True, False),  # UTM is a transverse Mercator projection
        (3035, True, False),
        (3857, True, True),
        (3395, True, True),  # of the ellipsoid
        (4326, False, False),
        (2263, False, False),  # in US survey feet
    ],
)
def test_lengths_and_areas_are_true_in_metres_except_under_mercator(code, metric, mercator):
    crs = CRS.from_epsg(code)
    assert (is_metric(crs), is_mercator(crs)) == (metric, mercator)
    assert is_true_to_scale(crs) == (metric and not mercator)
    named = CRS.from_wkt(pyproj.CRS.from_epsg(code).to_wkt().replace(f'ID["EPSG",{code}]', ""))
    assert is_true_to_scale(named) == is_true_to_scale(crs)


def test_areas_grow_under_mercator_with_the_latitude():
    assert areal_scale(CRS_UTM33, 15, 52) == pytest.approx(0.9996**2)
    assert areal_scale(CRS.from_epsg(3857), 15, 60) == pytest.approx(4, rel=0.02)
    assert areal_scale(CRS.from_epsg(6933), 15, 60) == pytest.approx(1)


def test_points_go_to_another_crs_and_back():
    x, y = np.array([400_000.0, 500_000.0]), np.array([5_800_000.0, 5_900_000.0])
    longitude, latitude = transform_points(CRS_UTM33, WGS84, x, y)
    assert longitude[1] == pytest.approx(15)
    assert (latitude > 52).all()
    np.testing.assert_allclose(transform_points(WGS84, CRS_UTM33, longitude, latitude), [x, y], atol=1e-4)
    np.testing.assert_array_equal(transform_points(CRS_UTM33, CRS_UTM33, x, y), [x, y])
    assert not np.isfinite(transform_points(CRS.from_epsg(3035), CRS_UTM33, [-9e6], [1e7])).any()
