"""Spatial folds through the public face, as a user of scikit-learn calls them."""

import copy
import dataclasses
import doctest
import warnings

import geopandas
import numpy as np
import pandas
import pytest
import shapely
from hypothesis import HealthCheck, given, reject
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.neighbors import KNeighborsClassifier

import landfold
import landfold.library.folds
from landfold.core.settings import SettingsError
from landfold.folds.assignment import fold_patches
from landfold.folds.split import FoldError
from tests.factories import CRS_UTM33

EAST, NORTH = 400_000, 5_800_000


@pytest.fixture(autouse=True)
def poor_folds():
    """Tables of tests are small, and so flagged; the tests of warnings ask for them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", landfold.FoldWarning)
        yield


def points(x, y=0.0, **columns):
    shapes = geopandas.points_from_xy(EAST + np.asarray(x, dtype=float), NORTH + np.zeros(len(x)) + y)
    return geopandas.GeoDataFrame(columns, geometry=shapes, crs=CRS_UTM33)


def windows(side=8, step=100.0, size=120.0, **columns):
    """Overlapping windows on a square grid, row by row, labelled in turn."""
    row, column = np.mgrid[:side, :side].reshape(2, -1)
    x, y = EAST + step * column, NORTH + step * row
    labels = np.array(["a", "b"], dtype=object)[(row + column) % 2]
    table = geopandas.GeoDataFrame({"label": labels} | columns, geometry=shapely.box(x, y, x + size, y + size))
    return table.set_crs(CRS_UTM33).set_index(pandas.Index([f"w{i}" for i in range(side**2)]))


def test_blocks_of_verdes_grid_are_the_published_test_sets():
    """verde.BlockKFold's doctest: 4 x 4 points, blocks of 2 units, 4 folds."""
    y, x = (part.ravel() for part in np.mgrid[-10:-6, 0:4])
    table = points(x, y)
    folds = landfold.spatial_folds(table, k=4, block_size_m=2)
    tests = {frozenset(test.tolist()) for _, test in folds}
    assert tests == {frozenset(s) for s in ({0, 1, 4, 5}, {2, 3, 6, 7}, {8, 9, 12, 13}, {10, 11, 14, 15})}
    assert all(len(train) == 12 for train, _ in folds)
    with pytest.raises(FoldError, match=r"^4 zones cannot make 5 folds; lower k or block_size_m$"):
        landfold.spatial_folds(table, k=5, block_size_m=2)


def fold_testing(folds, row):
    return next((set(train.tolist()), set(test.tolist())) for train, test in folds if row in test)


def test_a_buffer_drops_what_is_at_most_so_far():
    """spatialsample's test-buffer: x = 0, 1, 3; the second point is the test."""
    table = points([0, 1, 3, 900], zone=["a", "b", "a", "c"])
    assert fold_testing(landfold.spatial_folds(table, k=3, zones="zone", buffer_m=1), 1) == ({2, 3}, {1})
    assert fold_testing(landfold.spatial_folds(table, k=3, zones="zone", buffer_m=2), 1) == ({3}, {1})
    with pytest.raises(FoldError, match=r"all 1 training rows lie within buffer_m = 2 m of a validation row; lower it"):
        landfold.spatial_folds(table[:3], k=2, zones="zone", buffer_m=2)


def test_a_buffer_drops_spacvs_published_points():
    """spacv's test_cv: 30 random points, three folds, buffer 450."""
    generator = np.random.RandomState(10)
    x, y = generator.randint(0, 3000, 30), generator.randint(0, 3000, 30)
    zone = np.full(30, "rest", dtype=object)
    zone[[1, 5, 13, 16, 17, 18, 21, 22, 23, 25, 26, 28]] = "first"
    zone[[2, 4, 6, 7, 11, 12, 14, 27, 29]] = "second"
    folds = landfold.spatial_folds(points(x, y), k=3, zones=zone, buffer_m=450)
    dropped = {zone[test[0]]: set(range(30)) - set(train) - set(test) for train, test in folds}
    assert dropped == {"first": {7}, "second": {16}, "rest": set()}
    assert sorted(folds.buffer) == [0, 1, 1]


@given(
    st.integers(0, 10_000),
    st.integers(2, 4),
    st.sampled_from(["grid", "hexagon", "kmeans", "column", "polygons"]),
    st.sampled_from(["points", "windows", "both"]),
    st.sampled_from(["buffer", "merge"]),
    st.sampled_from([0, 15.0, 60.0]),
    st.booleans(),
    st.booleans(),
)
@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_ground_is_both_trained_on_and_tested(seed, k, kind, shape, overlaps, buffer_m, labelled, region):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 40, (2, 60)) * 10.0 + np.array([[EAST], [NORTH]])  # several rows at one place
    half = np.where(rng.random(60) < {"points": 1, "windows": 0, "both": 0.5}[shape], 0, rng.choice([8, 20], 60))
    shapes = np.where(half > 0, shapely.box(x - half, y - half, x + half, y + half), shapely.points(x, y))
    zone = [f"z{i}" for i in rng.integers(0, 9, 60)]
    stripes = [shapely.box(EAST - 9 + 60 * i, NORTH - 9, EAST + 51 + 60 * i, NORTH + 999) for i in range(8)]
    zones = {
        "grid": {"block_size_m": 90},
        "hexagon": {"kind": "hexagon", "block_size_m": 90},
        "kmeans": {"kind": "kmeans", "clusters": 8},
        "column": {"zones": "zone"},
        "polygons": {"zones": geopandas.GeoDataFrame(geometry=stripes, crs=CRS_UTM33)},
    }[kind]
    table = geopandas.GeoDataFrame({"zone": zone}, geometry=shapes, crs=CRS_UTM33)
    label = rng.choice(["a", "b", "c"], 60) if labelled else None
    box = (EAST - 30, NORTH - 30, EAST + 95, NORTH + 135) if region else None
    try:
        folds = landfold.spatial_folds(
            table, k=k, buffer_m=buffer_m, overlaps=overlaps, label=label, test_region=box, seed=seed, **zones
        )
    except FoldError as error:
        assert "fault of Landfold" not in str(error)  # noqa: PT017 - only refusals for the user's reasons
        reject()
    shapes = table.geometry.to_numpy()
    gaps = shapely.distance(shapes[:, None], shapes[None])
    shared = shapely.area(shapely.intersection(shapes[:, None], shapes[None])) > 1e-6
    flat = (half == 0)[:, None] | (half == 0)[None]
    close = gaps <= buffer_m if buffer_m else shared | (flat & (gaps == 0))
    held_back = (folds.fold == -1).to_numpy()
    assert held_back.any() == region
    tested = np.zeros(60, dtype=int)
    for number, (train, test) in enumerate(folds):
        assert len(train) > 0
        assert not close[train][:, test].any()
        assert not close[train][:, held_back].any()
        assert not set(folds.zone.iloc[train]) & set(folds.zone.iloc[test])
        assert set(folds.fold.iloc[test]) == {number}
        tested[test] += 1
    np.testing.assert_array_equal(tested, ~held_back)


def test_samples_at_one_point_are_on_one_side():
    table = points([0, 0, 50, 50, 90, 90], zone=["a", "b", "b", "c", "c", "a"])
    for train, test in landfold.spatial_folds(table, k=3, zones="zone"):
        assert not set(table.geometry.iloc[train].x) & set(table.geometry.iloc[test].x)
    with pytest.raises(FoldError, match=r"overlaps: merge leaves 1 of 3 zones, too few for 3 folds: rows that share"):
        landfold.spatial_folds(table, k=3, zones="zone", overlaps="merge")


def test_scikit_learn_takes_them_as_they_are():
    table = windows()
    folds = landfold.spatial_folds(table, k=4, block_size_m=400, label="label")
    features = pandas.DataFrame({"x": np.arange(64) % 8, "noise": np.random.default_rng(0).random(64)}, table.index)
    model = KNeighborsClassifier(1)
    scores = cross_val_score(model, features, table["label"], cv=folds)
    expected = [
        model.fit(features.iloc[a], table["label"].iloc[a]).score(features.iloc[b], table["label"].iloc[b])
        for a, b in folds
    ]
    np.testing.assert_array_equal(scores, expected)
    assert len(cross_val_predict(model, features, table["label"], cv=folds)) == 64
    search = clone(GridSearchCV(model, {"n_neighbors": [1, 3]}, cv=folds)).fit(features, table["label"])
    assert search.n_splits_ == folds.get_n_splits(features, table["label"]) == len(folds) == 4
    with pytest.raises(
        FoldError, match=r"X has 60 rows, but the folds were made of 64; pass the same rows in the same"
    ):
        cross_val_score(model, features[:60], table["label"][:60], cv=folds)


def test_columns_belong_to_the_rows_of_the_table():
    table = windows()
    folds = landfold.spatial_folds(table, k=4, block_size_m=400, label="label", buffer_m=50)
    joined = table.assign(fold=folds.fold, zone=folds.zone, role=folds.role(2))
    assert len(joined[["zone", "fold"]].drop_duplicates()) == joined["zone"].nunique()
    train, test = list(folds)[2]
    assert list(np.flatnonzero(joined["role"] == "train")) == list(train)
    assert list(np.flatnonzero(joined["role"] == "test")) == list(test)
    assert (joined["role"] == "buffer").sum() == folds.buffer[2] > 0
    zones = folds.zones.set_index("zone")
    assert zones.loc[joined["zone"]].contains(joined.centroid, align=False).all()
    assert zones["rows"].sum() == 64
    assert zones.crs == CRS_UTM33
    summary = folds.summary()
    assert list(summary.columns) == ["zones", "train", "test", "buffer", "test_a", "test_b", "flags"]
    assert (summary["train"] + summary["test"] + summary["buffer"] == 64).all()
    assert (summary["test_a"] + summary["test_b"] == summary["test"]).all()
    assert repr(folds) == "SpatialFolds(k=4, rows=64, zones=4, kind='grid', buffer_m=50)"
    assert "test_all" not in landfold.spatial_folds(table, k=4, block_size_m=400).summary()


def test_polygons_name_zones_in_any_crs():
    table = windows()
    halves = [shapely.box(EAST + x, NORTH - 9, EAST + x + 400, NORTH + 999) for x in (0, 400)]
    zones = geopandas.GeoDataFrame({"zone": ["west", "east"]}, geometry=halves, crs=CRS_UTM33).to_crs("EPSG:4326")
    folds = landfold.spatial_folds(table, k=2, zones=zones, label="label")
    assert list(folds.zone.iloc[[0, 7]]) == ["west", "east"]
    assert list(landfold.spatial_folds(table, k=2, zones=zones.geometry).zone.iloc[[0, 7]]) == ["0", "1"]
    with pytest.raises(FoldError, match=r"^zones: 32 of 64 row centres are in no zone \(row w4, w5, w6, w7, w12"):
        landfold.spatial_folds(table, k=2, zones=zones[:1])
    with pytest.raises(
        FoldError, match=r"^zones: 64 row centres are inside two zones \(row w0, .*correct the polygons"
    ):
        landfold.spatial_folds(table, k=2, zones=pandas.concat([zones, zones.assign(zone=["u", "v"])]))


@pytest.mark.parametrize("as_table", [True, False])
def test_the_test_region_is_left_for_the_last_score(as_table):
    table = windows()
    box = (EAST, NORTH, EAST + 150, NORTH + 150)
    region = geopandas.GeoSeries([shapely.box(*box)], crs=CRS_UTM33).to_crs("EPSG:4326") if as_table else box
    folds = landfold.spatial_folds(table, k=2, block_size_m=400, label="label", test_region=region)
    back = np.flatnonzero(folds.fold == -1)
    assert list(back) == [0, 1, 8, 9]
    assert set(folds.role(0).iloc[back]) == {"test region"}
    for train, test in folds:
        assert not set(back) & {*train, *test}
        assert not {2, 10, 16, 17, 18} & set(train), "they share ground with the region"
    for far, which in (((0, 0, 9, 9), "no"), ((0, 0, 1e7, 1e7), "all")):
        with pytest.raises(FoldError, match=f"test_region: {which} rows share ground with it; choose another"):
            landfold.spatial_folds(table, k=2, block_size_m=400, test_region=far)


def test_random_folds_have_as_much_training_and_the_same_rows():
    table = windows()
    box = (EAST, NORTH, EAST + 150, NORTH + 150)
    folds = landfold.spatial_folds(table, k=4, block_size_m=200, label="label", test_region=box)
    random, other = landfold.random_folds(folds), landfold.random_folds(folds, seed=1)
    tested = np.concatenate([test for _, test in random])
    assert sorted(tested) == sorted(np.flatnonzero(folds.fold >= 0))
    assert [len(train) for train, _ in random] == [len(train) for train, _ in folds]
    assert all(not set(train) & set(test) for train, test in random)
    assert any(list(a[1]) != list(b[1]) for a, b in zip(random, other, strict=True))
    again = fold_patches(
        folds.folds.table.drop(columns=["zone", "fold"]), folds.settings, (folds.fold == -1).to_numpy()
    )
    assert [list(m.train) for m in random.masks] == [list(m.train) for m in again.random], "as the pipeline's"
    assert repr(random) == "RandomFolds(4 folds of 64 rows)"


def test_random_folds_that_cannot_be_as_large_are_warned_of():
    table = points([*range(0, 900, 100), 5000], zone=[*["a"] * 9, "b"])
    folds = landfold.spatial_folds(table, k=2, zones="zone")
    with pytest.warns(landfold.FoldWarning, match="random splits of fold 0 train on all other rows, fewer than|fold 1"):
        assert sorted(len(train) for train, _ in landfold.random_folds(folds)) == [1, 5]


def test_check_finds_what_was_changed():
    folds = landfold.spatial_folds(windows(), k=4, block_size_m=400, label="label")
    folds.check()
    copy.deepcopy(folds).check()
    first = folds.masks[0]
    leaky = dataclasses.replace(first, train=first.train | first.buffer, buffer=np.zeros(64, dtype=bool))
    with pytest.raises(FoldError, match=r"fold 0: \d+ pairs of training and held-out footprints share ground"):
        dataclasses.replace(folds, masks=[leaky, *folds.masks[1:]]).check()


def test_equal_calls_give_equal_folds_and_every_argument_counts():
    table = windows(12)
    base = {"k": 3, "block_size_m": 200, "label": "label"}
    first = landfold.spatial_folds(table, **base)
    assert first.fold.equals(landfold.spatial_folds(table, **base).fold)
    changes = ({"seed": 5}, {"block_size_m": 300}, {"origin_m": (90, 0)}, {"assignment": "group"}, {"k": 4},
               {"assignment": "balanced"}, {"kind": "hexagon"}, {"label": None})  # fmt: skip
    for change in changes:
        assert not first.fold.equals(landfold.spatial_folds(table, **base | change).fold), change
    narrow, wide = (
        landfold.spatial_folds(table, **base | {"block_size_m": 300}, buffer_m=np.float64(buffer)) for buffer in (0, 90)
    )
    assert (wide.buffer > narrow.buffer).all()
    more = pandas.concat([table, points([5000.0], label=["a"])])
    assert landfold.spatial_folds(more, **base).zone[:-1].equals(first.zone)


def test_folds_match_the_distances_of_prediction_locations():
    table = windows(12, size=100.0)
    base = {"k": 3, "block_size_m": 200, "assignment": "knndm"}
    here = table.set_geometry(table.centroid)
    far = here.set_geometry(here.translate(4000)).to_crs("EPSG:4326")
    features, labels = np.arange(144.0)[:, None], table["label"]
    for locations, other in ((here, far), (far, here)):
        audits = [
            landfold.audit_folds(
                table, features, labels, folds=landfold.spatial_folds(table, prediction_locations=places, **base),
                classifier=KNeighborsClassifier(), prediction_locations=locations,
            )
            for places in (locations, other)
        ]  # fmt: skip
        matched, unmatched = (audit.summary()["distances"]["held_out_to_train"]["zoned"] for audit in audits)
        assert matched["wasserstein_m"] < unmatched["wasserstein_m"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"assignment": "knndm"}, "assignment='knndm' and prediction_locations go together"),
        ({"prediction_locations": [(0, 0)]}, "assignment='knndm' and prediction_locations go together"),
        ({"assignment": "knndm", "prediction_locations": [1, 2]}, r"prediction_locations: of shape \(2,\), expected"),
        ({"assignment": "knndm", "prediction_locations": np.empty((0, 2))}, r"prediction_locations: of shape \(0, 2\)"),
        ({"assignment": "knndm", "prediction_locations": [(0, np.nan)]}, "prediction_locations: 1 have no coordinates"),
        (
            {"assignment": "knndm", "prediction_locations": [(0, 0)], "buffer_m": 5000},
            r"^assignment: knndm finds no 2 folds of 4 zones .* of the rows in each .*; lower buffer_m or k, or make",
        ),
    ],
)
def test_folds_that_cannot_match_are_refused(change, message):
    with pytest.raises(FoldError, match=message):
        landfold.spatial_folds(windows(), **{"k": 2, "block_size_m": 400} | change)


def test_folds_that_are_poor_are_warned_of_by_name():
    table = windows(label=["rare" if i == 3 else "common" for i in range(64)])
    with pytest.warns(
        landfold.FoldWarning, match="zones with class rare: 1, fewer than folds: the fold that validates"
    ):
        folds = landfold.spatial_folds(table, k=2, block_size_m=200, label="label")
    assert "class_missing_train" in folds.summary()["flags"][folds.fold["w3"]]
    with pytest.warns(landfold.FoldWarning, match=r"kind: kmeans: new rows move every zone(.|\n)*fold 0: tiny_test"):
        landfold.spatial_folds(points(np.arange(8) * 100), k=2, kind="kmeans", clusters=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        landfold.spatial_folds(windows(), k=2, block_size_m=400, label="label")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 1}, r"spatial_folds\.k: found 1: .*greater than or equal to 2"),
        ({"buffer_m": -1}, r"spatial_folds\.buffer_m: found -1"),
        ({"block_size_m": 0}, r"spatial_folds\.block_size_m: found 0"),
        ({"kind": "kmeans"}, "spatial_folds: kind: kmeans has no use for block_size_m"),
        ({"overlaps": "drop"}, r"spatial_folds\.overlaps: found 'drop'"),
        ({"assignment": "even"}, r"spatial_folds\.assignment: found 'even'"),
    ],
)
def test_values_out_of_range_are_refused(change, message):
    with pytest.raises(SettingsError, match=message):
        landfold.spatial_folds(windows(), **{"k": 2, "block_size_m": 400} | change)


def test_the_example_of_the_docstring_is_right():
    assert doctest.testmod(landfold.library.folds).failed == 0
