"""What a user may pass to spatial_folds, and what is refused with the way out."""

import geopandas
import numpy as np
import pandas
import pytest
import shapely

import landfold
from landfold.folds.split import FoldError
from tests.factories import CRS_UTM33

LONGITUDE, LATITUDE = 13.5, 52.3


def windows(count=40):
    x = 400_000 + 500.0 * np.arange(count)
    table = geopandas.GeoDataFrame(geometry=shapely.box(x, 5_800_000, x + 100, 5_800_100), crs=CRS_UTM33)
    return table.assign(kind=["a", "b"] * (count // 2), farm=np.arange(count) // 4)


def folds(table, **changes):
    return landfold.spatial_folds(table, **{"k": 2, "block_size_m": 2000} | changes)


def test_degrees_go_into_the_utm_zone_on_request():
    there = windows().to_crs("EPSG:4326")
    with pytest.raises(FoldError, match=r"footprints are in EPSG:4326, not in metres; crs='utm' brings them"):
        folds(there)
    result = folds(there, crs="utm")
    assert result.zones.crs == CRS_UTM33
    assert folds(there, crs="EPSG:3035").zones.crs == "EPSG:3035"
    assert folds(windows().geometry).fold.equals(result.fold)


@pytest.mark.parametrize("crs", ["EPSG:3857", "EPSG:32650", "EPSG:2263"])
def test_a_crs_whose_metres_are_not_those_of_the_ground_is_refused(crs):
    """Web Mercator, a UTM zone far away, and feet."""
    with pytest.raises(FoldError, match=rf"{crs}.* (shows areas up to|not in metres).*crs='utm'"):
        folds(windows(), crs=crs)


def test_a_table_too_wide_for_its_utm_zone_is_refused():
    table = geopandas.GeoSeries.from_xy([5, 50, 95] * 4, [10, 20, 30] * 4, crs="EPSG:4326")
    with pytest.raises(FoldError, match=r"shows areas up to|cannot be brought into"):
        folds(table, crs="utm")


def broken(row, shape):
    table = windows()
    table.loc[row, "geometry"] = shape
    return table


BOW = shapely.Polygon([(400_000, 0), (400_009, 9), (400_009, 0), (400_000, 9)])


@pytest.mark.parametrize(
    ("table", "changes", "message"),
    [
        (
            pandas.DataFrame({"x": [1]}),
            {},
            r"expected a GeoDataFrame or GeoSeries of footprints, found DataFrame; of coord",
        ),
        (windows()[:0], {}, "the table has no rows"),
        (
            windows().set_crs(None, allow_override=True),
            {},
            "the table has no CRS, and none is guessed; set the one of its",
        ),
        (broken(7, None), {}, r"1 of 40 rows have no footprint; drop them, or give them one \(row 7\)"),
        (broken(7, shapely.Polygon()), {}, r"1 of 40 rows have no footprint"),
        (broken(7, BOW), {}, r"1 of 40 rows have an invalid footprint; repair them.*\(row 7\)"),
        (
            windows(),
            {"block_size_m": None},
            "block_size_m is missing: the side of a block in metres, larger than the range",
        ),
        (windows(), {"label": "class"}, "label: no column 'class'; the table has geometry, kind, farm"),
        (windows().geometry, {"label": "kind"}, "label: no column 'kind'; the table has none"),
        (windows(), {"label": ["a", "b"]}, "label: 2 values for the 40 rows of the table"),
        (
            windows(),
            {"label": windows()["kind"][::-1]},
            "label: its index is not that of the table; reindex it, or pass",
        ),
        (windows(), {"label": ["a", None] * 20}, r"20 of 40 rows have no label; drop them.*\(row 1, 3, .*\.\.\.\)"),
        (
            windows(),
            {"label": np.arange(40)},
            r"the largest class has 1 rows, too few to be in each of 2 folds; lower k or",
        ),
        (windows(), {"zones": [np.nan] * 40, "block_size_m": None}, "40 of 40 rows have no zones"),
        (
            windows(),
            {"zones": "farm", "kind": "grid"},
            "zones and kind='grid' are two ways to make zones; pass one of them",
        ),
        (windows(), {"zones": windows().centroid, "block_size_m": None}, "zones: 40 of 40 rows are not valid polyg"),
        (
            windows(),
            {"zones": windows().set_crs(None, allow_override=True), "block_size_m": None},
            "zones: no CRS, and none is guessed",
        ),
        (
            windows(),
            {"kind": "kmeans", "clusters": 41, "block_size_m": None},
            "clusters is 41, but the rows are at 40 places",
        ),
        (
            windows(),
            {"k": 30, "zones": "farm", "block_size_m": None},
            "10 zones cannot make 30 folds; lower k or make more",
        ),
    ],
)
def test_what_cannot_be_folded_is_refused_with_the_way_out(table, changes, message):
    with pytest.raises(FoldError, match=message) as caught:
        folds(table, **changes)
    assert "zones." not in str(caught.value), "settings of the pipeline"
    assert "patch" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::landfold.library.folds.FoldWarning")
@pytest.mark.parametrize("values", [list, tuple, np.array, pandas.Series, lambda v: pandas.Categorical(v)])
def test_values_of_any_kind_name_classes_and_zones(values):
    table = windows()
    numbers = values([int(kind == "a") for kind in table["kind"]])
    assert folds(table, label=numbers).fold.equals(folds(table, label=np.array(numbers) == 1).fold)
    result = folds(table, label=values(list(table["kind"])), zones=values(list(table["farm"])), block_size_m=None)
    assert result.fold.equals(folds(table, label="kind", zones="farm", block_size_m=None).fold)
    assert set(result.zone) == {str(i) for i in range(10)}
