import dataclasses

import geopandas
import numpy as np
import pandas
import pytest
import shapely
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy.signal import fftconvolve
from sklearn.neighbors import KNeighborsClassifier

from landfold.audit import audit as leakage
from landfold.audit.audit import (
    Audit,
    LeakageError,
    Splits,
    Variogram,
    audit,
    baseline,
    held_out_probabilities,
    held_out_to_train_m,
    nearest_m,
    nearest_other_m,
    prediction_points,
    read_splits,
    variogram,
    zone_size_m,
)
from landfold.audit.settings import AuditSettings
from landfold.folds.assignment import FoldError, Split, random_split, split_fold, write_folds
from tests.factories import CRS_UTM33, make_grid, write_raster

SETTINGS = AuditSettings(baseline="random_forest", trees=8, prediction_points=50, bootstrap=200, seed=0, network=False)


def splits_of(folds, k=None):
    """A split for each fold, without a buffer."""
    return [
        Split(train=folds != fold, validation=folds == fold, buffer=np.zeros(len(folds), dtype=bool))
        for fold in range(k or folds.max() + 1)
    ]


def test_w_is_that_of_cast():
    """CAST's test-knndm: six points, folds 1 1 1 1 2 2, twenty prediction points."""
    train = np.array([(1, 1), (1, 2), (2, 2), (2, 3), (1, 4), (5, 4)], dtype=float)
    places = np.array([(0.4190187 + 2.2360680 * i, 1.4851710 + 2.2360680 * j) for i in range(5) for j in range(4)])
    held_out = held_out_to_train_m(train, splits_of(np.array([0, 0, 0, 0, 1, 1])))
    found = an_audit(zoned=held_out, prediction_to_sample=nearest_m(places, train))
    assert found.wasserstein_m()["zoned"] == pytest.approx(1.091896, abs=1e-6)
    assert found.summary()["distances"]["held_out_to_train"]["zoned"]["wasserstein_m"] == 1.0919


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


def an_audit(reach=None, **distances):
    """An audit that found little: what its words and numbers are made of."""
    names = ("sample_to_sample", "prediction_to_sample", "zoned", "random")
    score = {"pooled": 0.5, "low": 0.4, "high": 0.6}
    scores = {part: {"accuracy": score} for part in ("zoned", "random", "gap")}
    none = Variogram(np.ones(4), np.ones(4), np.ones(4), None, 1.0, 1.0, levels_off=True)
    return Audit(
        baseline="random_forest",
        patches=6,
        zones=3,
        repeats=1,
        train_patches={"zoned": 4.0, "random": 4.0},
        zone_size_m=1000.0,
        statistics=scores,
        coordinates=scores,
        distances={name: distances.get(name, np.array([1.0, 2.0])) for name in names},
        variogram=none if reach is None else dataclasses.replace(none, range_m=reach),
        predictions=pandas.DataFrame(),
    )


def test_share_no_farther_than_half_of_the_map():
    found = an_audit(
        zoned=np.array([5.0, 6, 30]), random=np.array([1.0, 4, 5]), prediction_to_sample=np.array([0.0, 4, 9])
    )
    held_out = found.summary()["distances"]["held_out_to_train"]
    assert held_out["zoned"]["no_farther_than_prediction"] == 0
    assert held_out["random"]["no_farther_than_prediction"] == round(2 / 3, 4)


def test_zones_smaller_than_the_range_are_warned_of():
    assert an_audit().warnings() == an_audit(reach=999.0).warnings() == []
    (warning,) = an_audit(reach=1500.0).warnings()
    assert (
        "zones are about 1000 m wide, but errors resemble each other over 1500 m: raise zones.block_size_m" in warning
    )
    growing = an_audit(reach=500.0)
    growing = dataclasses.replace(growing, variogram=dataclasses.replace(growing.variogram, levels_off=False))
    (warning,) = growing.warnings()
    assert "errors still grow less alike at the longest distance measured, 500 m" in warning
    assert growing.summary()["warnings"] == [warning]


def test_the_size_of_zones_is_the_median_of_those_in_a_fold():
    shapes = [shapely.box(0, 0, side, side) for side in (10, 20, 30, 999)]
    zones = geopandas.GeoDataFrame({"fold": [0, 1, 0, -1]}, geometry=shapes, crs=CRS_UTM33)
    assert zone_size_m(zones) == 20


def nearest_neighbour(patches):
    return KNeighborsClassifier(1)


def test_a_patch_is_judged_by_the_fold_that_did_not_see_it():
    features = np.array([[0.0], [0.1], [5.0], [5.1]])
    truth = np.array([0, 1, 1, 0])  # the nearest other patch is always of the other class
    found = held_out_probabilities(nearest_neighbour, features, truth, splits_of(np.array([0, 1, 0, 1])))
    np.testing.assert_array_equal(found.argmax(axis=1), [1, 0, 0, 1])
    whole = [Split(train=np.full(4, True), validation=np.full(4, True), buffer=np.full(4, False))]
    seen = held_out_probabilities(nearest_neighbour, features, truth, whole)
    np.testing.assert_array_equal(seen.argmax(axis=1), truth, "a nearest neighbour recalls what it has seen")


@pytest.mark.parametrize("kind", ["random_forest", "logistic_regression"])
def test_a_class_that_training_lacks_has_no_probability(kind):
    model = lambda patches: baseline(SETTINGS.model_copy(update={"baseline": kind}), patches)  # noqa: E731
    features, truth = np.random.default_rng(0).random((12, 3)), np.array([0, 1, 2, 2] * 3)
    train = np.isin(np.arange(12), [0, 2, 4, 6])
    split = Split(train=train, validation=np.arange(12) >= 10, buffer=np.zeros(12, dtype=bool))
    found = held_out_probabilities(model, features, truth, [split])
    assert np.isnan(found[:10]).all()
    assert (found[10:, 1] == 0).all()
    np.testing.assert_allclose(found[10:].sum(axis=1), 1)
    alone = dataclasses.replace(split, train=np.arange(12) == 2)
    np.testing.assert_array_equal(held_out_probabilities(model, features, truth, [alone])[10:], [[0, 0, 1]] * 2)


def landscape(seed=0, side=24, block=6, k=4):
    """Patches on a grid whose class is a patchwork of ground, and zoned and random splits of equal size.

    Coordinates tell the class of a neighbour and nothing about another zone's.
    """
    generator = np.random.default_rng(seed)
    row, column = (axis.ravel() for axis in np.mgrid[:side, :side])
    x, y = 4e5 + 100.0 * column, 58e5 - 100.0 * row
    zone = np.array([f"E{c}N{r}" for r, c in zip(row // block, column // block, strict=True)], dtype=object)
    number = np.unique(zone, return_inverse=True)[1]
    parts = (row // 3) * (side // 3) + column // 3
    label = np.array(["bog", "farm", "water"], dtype=object)[generator.integers(0, 3, parts.max() + 1)[parts]]
    folds = generator.permutation(np.arange(number.max() + 1) % k)[number]
    table = geopandas.GeoDataFrame(
        {"patch": [f"s/{r}/{c}" for r, c in zip(row, column, strict=True)], "label": label, "x": x, "y": y},
        geometry=shapely.box(x - 50, y - 50, x + 50, y + 50),
        crs=CRS_UTM33,
    ).assign(zone=zone, fold=folds)
    zoned = [split_fold(table.geometry.to_numpy(), folds, fold, 50) for fold in range(k)]
    dealt = generator.permutation(np.arange(len(x)) % k)
    random = [random_split(dealt, fold, int(zoned[fold].train.sum()), seed=(seed, fold)) for fold in range(k)]
    return table, Splits(zone, [zoned], [random])


def features_of(table, noise, seed=1):
    generator = np.random.default_rng(seed)
    colour = pandas.Categorical(table["label"]).codes[:, None] * np.array([1.0, -1.0, 0.5])
    return (colour + noise * generator.standard_normal((len(table), 3))).astype(np.float32)


PLACES = np.array([(4e5 + 130.0, 58e5 - 40.0), (4e5 + 900.0, 58e5 - 500.0)])


def audited(table, splits, features, **changes):
    return audit(table, features, splits, PLACES, zone_size_m=600.0, settings=SETTINGS.model_copy(update=changes))


def test_coordinates_alone_show_the_leak_and_honest_features_do_not():
    table, splits = landscape()
    found = audited(table, splits, features_of(table, noise=0.7))
    assert found.coordinates["random"]["accuracy"]["pooled"] > 0.7
    assert found.coordinates["zoned"]["accuracy"]["pooled"] < 0.5, "three classes, none tells of the next zone"
    assert found.coordinates["gap"]["accuracy"]["low"] > 0.2
    gap = found.statistics["gap"]["accuracy"]["pooled"]
    assert abs(gap) < found.coordinates["gap"]["accuracy"]["pooled"] / 8, "colour is the same everywhere"
    assert found.statistics["zoned"]["accuracy"]["pooled"] > 0.7


def test_features_that_know_the_place_leak():
    table, splits = landscape()
    features = np.hstack([features_of(table, noise=1.5), table[["x", "y"]] / 300]).astype(np.float32)
    gap = audited(table, splits, features).statistics["gap"]["accuracy"]
    assert 0.05 < gap["low"] < gap["pooled"] < gap["high"]


def test_numbers_words_and_rows_agree():
    table, splits = landscape()
    found = audited(table, splits, features_of(table, noise=1.0))
    summary, rows = found.summary(), found.predictions
    assert list(rows["patch"]) == list(table["patch"])
    np.testing.assert_array_equal(rows["fold"], table["fold"])
    for split in ("zoned", "random"):
        accuracy = (rows["label"] == rows[f"predicted_{split}"]).mean()
        assert summary[split]["accuracy"]["pooled"] == round(accuracy, 4)
        assert f"{accuracy:.3f}" in found.sentence()
    assert summary["gap"]["accuracy"]["pooled"] == pytest.approx(
        summary["random"]["accuracy"]["pooled"] - summary["zoned"]["accuracy"]["pooled"], abs=1e-4
    )
    assert (summary["patches"], summary["zones"], summary["repeats"]) == (576, 16, 1)
    assert summary["train_patches"]["zoned"] == summary["train_patches"]["random"] < 576 * 3 / 4
    assert (rows["zoned_m"] >= 200).all(), "50 m from edge to edge: the next patch is not enough"
    assert summary["distances"]["sample_to_sample"] == {"q05": 100.0, "median": 100.0, "q95": 100.0}


def test_the_test_region_is_in_no_number():
    table, splits = landscape()
    test = table["zone"].to_numpy() == "E0N0"

    def without(folds):
        return [Split(s.train & ~test, s.validation & ~test, s.buffer & ~test) for s in folds]

    held = Splits(splits.zone, [without(splits.zoned[0])], [without(splits.random[0])])
    found = audited(table, held, features_of(table, noise=1.0))
    assert (found.patches, found.zones) == (576 - 36, 15)
    assert set(found.predictions["patch"]) == set(table["patch"][~test])
    assert not found.predictions.isna().any(axis=None)


def test_repeats_are_averaged_and_each_has_its_rows():
    table, one = landscape()
    _, two = landscape(seed=5)
    features = features_of(table, noise=1.0)
    both = audited(table, Splits(one.zone, one.zoned + two.zoned, one.random + two.random), features)
    parts = [audited(table, Splits(one.zone, s.zoned, s.random), features) for s in (one, two)]
    for split in ("zoned", "random"):
        mean = np.mean([part.statistics[split]["macro_f1"]["pooled"] for part in parts])
        assert both.statistics[split]["macro_f1"]["pooled"] == pytest.approx(mean, abs=1e-4)
    assert (both.repeats, len(both.predictions)) == (2, 2 * 576)
    assert sorted(both.predictions["fold"].unique()) == list(range(8))
    assert sorted(both.predictions["fold"][both.predictions["repeat"] == 1].unique()) == [4, 5, 6, 7]


def test_equal_input_gives_equal_numbers():
    table, splits = landscape()
    features = features_of(table, noise=1.0)
    first, second = (audited(table, splits, features) for _ in range(2))
    assert first.summary() == second.summary()
    pandas.testing.assert_frame_equal(first.predictions, second.predictions)


@pytest.mark.parametrize("change", [{"baseline": "logistic_regression"}, {"trees": 5}, {"bootstrap": 50}, {"seed": 1}])
def test_every_setting_changes_the_result(change):
    table, splits = landscape()
    features = features_of(table, noise=1.0)
    assert audited(table, splits, features).summary() != audited(table, splits, features, **change).summary()


def smooth_ground(seed, reach_px, side=60):
    """A field whose points resemble each other up to ``reach_px`` and not beyond: noise averaged over discs."""
    y, x = np.mgrid[-reach_px : reach_px + 1, -reach_px : reach_px + 1]
    disc = (np.hypot(x, y) <= reach_px / 2).astype(float)
    field = fftconvolve(np.random.default_rng(seed).standard_normal((side * 2, side * 2)), disc, mode="valid")
    row, column = (axis.ravel() for axis in np.mgrid[:side, :side])
    points = np.stack([4e5 + 100.0 * column, 58e5 - 100.0 * row], axis=1)
    return points, field[:side, :side].ravel() / np.sqrt(disc.sum())


@pytest.mark.parametrize("reach_px", [6, 10])
def test_the_variogram_finds_the_range_of_a_field_that_has_one(reach_px):
    found = [variogram(*smooth_ground(seed, reach_px), seed=0) for seed in range(4)]
    assert np.median([v.range_m for v in found]) == pytest.approx(100 * reach_px, rel=0.25)
    assert np.median([v.sill for v in found]) == pytest.approx(1, rel=0.3)
    assert all(v.nugget < 0.2 and v.levels_off for v in found)


def test_noise_has_no_range_and_a_slope_no_end():
    points, _ = smooth_ground(0, 4)
    for seed in range(10):
        values = np.random.default_rng(seed).random(len(points))
        found = variogram(points, values, seed=0)
        assert found.range_m is None
        assert found.sill == pytest.approx(values.var(), rel=0.02)
    slope = variogram(points, points[:, 0] / 1000, seed=0)
    assert not slope.levels_off


def test_semivariances_are_those_of_all_pairs():
    generator = np.random.default_rng(2)
    points, values = generator.uniform(0, [3000, 900], (300, 2)), generator.random(300)
    found = variogram(points, values, seed=0)
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1)[np.triu_indices(300, 1)]
    squares = ((values[:, None] - values[None]) ** 2)[np.triu_indices(300, 1)]
    longest = np.hypot(*np.ptp(points, axis=0)) / 3
    lag = np.floor(apart / longest * leakage.LAGS).astype(int)
    for i in range(leakage.LAGS):
        np.testing.assert_allclose(found.lag_m[i], apart[lag == i].mean())
        np.testing.assert_allclose(found.semivariance[i], squares[lag == i].mean() / 2)
        assert found.pairs[i] == (lag == i).sum()


@pytest.mark.parametrize("points", [np.zeros((5, 2)), np.array([(0.0, 0.0), (1.0, 0.0)]), np.eye(2).repeat(9, axis=0)])
def test_too_few_places_have_no_range(points):
    assert variogram(points, np.arange(len(points), dtype=float), seed=0).range_m is None


def test_equal_values_have_no_range():
    points, _ = smooth_ground(0, 4)
    assert variogram(points, np.ones(len(points)), seed=0).range_m is None


@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 5), st.sampled_from([1.0, 300.0, 90_000.0]))
@hypothesis_settings(max_examples=60, deadline=None)
def test_any_layout_has_a_range_within_its_extent_or_none(seed, count, clumps, spread_m):
    generator = np.random.default_rng(seed)
    points = generator.uniform(0, 1e5, (clumps, 2)).repeat(count, axis=0)
    points += generator.normal(0, spread_m, points.shape).round(-1)
    found = variogram(points, (generator.random(len(points)) > 0.7).astype(float), seed=0)
    assert found.range_m is None or 0 < found.range_m <= np.hypot(*np.ptp(points, axis=0)) / 3
    assert 0 <= found.nugget <= found.sill
    assert len(found.lag_m) == len(found.semivariance) == len(found.pairs) <= leakage.LAGS


def test_many_points_are_sampled_by_the_seed(monkeypatch):
    points, values = smooth_ground(0, 10)
    whole = variogram(points, values, seed=0)
    monkeypatch.setattr(leakage, "VARIOGRAM_POINTS", 500)
    first, again, other = (variogram(points, values, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.semivariance, again.semivariance)
    assert (first.semivariance != other.semivariance).any()
    assert 0 < first.pairs.sum() < whole.pairs.sum() / 20
    assert first.range_m == pytest.approx(whole.range_m, rel=0.5)


@pytest.fixture
def folds(tmp_path):
    table, splits = landscape()
    folder = tmp_path / "k4"
    folder.mkdir()
    zones = geopandas.GeoDataFrame({"zone": ["a"], "fold": [0]}, geometry=[shapely.box(0, 0, 1, 1)], crs=CRS_UTM33)
    write_folds(folder, table, splits.zoned[0], zones, randoms=splits.random[0])
    return folder, table, splits


def test_splits_are_read_as_they_were_written(folds):
    folder, table, splits = folds
    found = read_splits(folder, table)
    np.testing.assert_array_equal(found.zone, splits.zone)
    for kind in ("zoned", "random"):
        ((*written,), (*read,)) = getattr(splits, kind)[0], getattr(found, kind)[0]
        for one, other in zip(written, read, strict=True):
            for side in ("train", "validation", "buffer"):
                np.testing.assert_array_equal(getattr(one, side), getattr(other, side))


def test_absent_foreign_and_unequal_lists_are_refused(folds, tmp_path):
    folder, table, _ = folds
    with pytest.raises(LeakageError, match=r"fold_0\.parquet: does not list the patches of data/patches\.parquet"):
        read_splits(folder, table[::-1])
    sides = pandas.read_parquet(folder / "random_2.parquet")
    sides.assign(side=sides["side"].replace("validation", "buffer")).to_parquet(folder / "random_2.parquet")
    with pytest.raises(
        LeakageError, match=r"random_\*\.parquet: 144 patches are held out never or twice; run dvc repro"
    ):
        read_splits(folder, table)
    (folder / "random_2.parquet").unlink()
    with pytest.raises(LeakageError, match=r"random_2\.parquet: not found; expected the list of a fold"):
        read_splits(folder, table)
    with pytest.raises(FoldError, match=r"index\.json: not found"):
        read_splits(tmp_path, table)


def normalized(folder, name, *, height=40, width=60, **options):
    valid = np.ones((height, width), dtype=bool)
    valid[:14, :20] = False
    grid = make_grid(height, width, **options)
    write_raster(folder / f"{name}.tif", {"G": np.zeros((height, width), dtype=np.float32)}, grid=grid, valid=valid)
    return grid


PATCHES = geopandas.GeoDataFrame({"size_px": [8]}, geometry=[shapely.box(0, 0, 1, 1)], crs=CRS_UTM33)


def test_prediction_points_are_the_windows_that_would_be_patches(tmp_path):
    grid = normalized(tmp_path, "one")
    found = prediction_points(tmp_path, PATCHES, stride_px=8, max_invalid=0.2, count=99, seed=0)
    expected = [
        grid.transform @ (column + 4, row + 4)
        for row in range(0, 33, 8)
        for column in range(0, 53, 8)
        if max(0, 14 - row) * max(0, 20 - column) == 0 or (row >= 8 and column >= 16 and 6 * 4 / 64 <= 0.2)
    ]
    np.testing.assert_allclose(found, expected)


def test_prediction_points_are_sampled_from_all_scenes(tmp_path):
    grid = normalized(tmp_path, "one")
    normalized(tmp_path, "two", x_px=500)
    normalized(tmp_path, "wee", height=20, width=7)
    options = {"stride_px": 4, "max_invalid": 0.2}
    whole = prediction_points(tmp_path, PATCHES, **options, count=9999, seed=0)
    some, other = (prediction_points(tmp_path, PATCHES, **options, count=60, seed=seed) for seed in (0, 1))
    assert some.shape == (60, 2)
    assert (some != other).any()
    assert set(map(tuple, some)) < set(map(tuple, whole))
    assert len(set(map(tuple, some))) == 60
    east = some[:, 0] > grid.bounds[2]
    assert 10 < east.sum() < 50


def test_prediction_points_are_in_the_crs_of_the_patches(tmp_path):
    grid = normalized(tmp_path, "one")
    other = PATCHES.to_crs("EPSG:32632")
    found = prediction_points(tmp_path, other, stride_px=8, max_invalid=0.2, count=99, seed=0)
    here = prediction_points(tmp_path, PATCHES, stride_px=8, max_invalid=0.2, count=99, seed=0)
    back = geopandas.GeoSeries(geopandas.points_from_xy(*found.T), crs="EPSG:32632").to_crs(grid.crs)
    np.testing.assert_allclose(np.stack([back.x, back.y], axis=1), here, atol=1e-3)
