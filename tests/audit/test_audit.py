import dataclasses

import geopandas
import numpy as np
import pandas
import pytest
import shapely

from landfold.audit.audit import Audit, AuditError, Splits, audit, read_splits, zone_size_m
from landfold.audit.baseline import band_statistics_baseline
from landfold.audit.settings import AuditSettings
from landfold.audit.variogram import Variogram
from landfold.folds.lists import CrossValidationFolds, write_folds
from landfold.folds.split import FoldError, Split, random_split, split_fold
from tests.factories import CRS_UTM33

SETTINGS = AuditSettings(baseline="random_forest", pixels=0, trees=8, prediction_points=50, seed=0, network=False)


def an_audit(range_m=None, **distances):
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
        variogram=none if range_m is None else dataclasses.replace(none, range_m=range_m),
        predictions=pandas.DataFrame(),
    )


def test_without_locations_of_predictions_there_is_no_w():
    whole = an_audit()
    held_out = dataclasses.replace(
        whole, distances={name: d for name, d in whole.distances.items() if name != "prediction_to_sample"}
    )
    assert held_out.wasserstein_m() == {}
    distances = held_out.summary()["distances"]
    assert distances["held_out_to_train"]["zoned"] == {"q05": 1.05, "median": 1.5, "q95": 1.95}
    assert set(distances) == {"sample_to_sample", "held_out_to_train"}
    assert dataclasses.replace(an_audit(range_m=1500.0), zone_size_m=None).warnings() == []


def test_share_no_farther_than_half_of_the_map():
    found = an_audit(
        zoned=np.array([5.0, 6, 30]), random=np.array([1.0, 4, 5]), prediction_to_sample=np.array([0.0, 4, 9])
    )
    held_out = found.summary()["distances"]["held_out_to_train"]
    assert held_out["zoned"]["no_farther_than_prediction"] == 0
    assert held_out["random"]["no_farther_than_prediction"] == round(2 / 3, 4)


def test_zones_smaller_than_the_range_are_warned_of():
    assert an_audit().warnings() == an_audit(range_m=999.0).warnings() == []
    (warning,) = an_audit(range_m=1500.0).warnings()
    assert (
        "zones are about 1000 m wide, but errors resemble each other over 1500 m: raise zones.block_size_m" in warning
    )
    growing = an_audit(range_m=500.0)
    growing = dataclasses.replace(growing, variogram=dataclasses.replace(growing.variogram, levels_off=False))
    (warning,) = growing.warnings()
    assert "errors still grow less alike at the longest distance measured, 500 m" in warning
    assert growing.summary()["warnings"] == [warning]


def test_the_size_of_zones_is_the_median_of_those_in_a_fold():
    shapes = [shapely.box(0, 0, side, side) for side in (10, 20, 30, 999)]
    zones = geopandas.GeoDataFrame({"fold": [0, 1, 0, -1]}, geometry=shapes, crs=CRS_UTM33)
    assert zone_size_m(zones) == 20
    assert zone_size_m(zones.set_geometry(zones.centroid)) is None


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
    settings = SETTINGS.model_copy(update=changes)
    return audit(
        table,
        features,
        splits,
        band_statistics_baseline(settings),
        locations=PLACES,
        zone_size_m=600.0,
        seed=settings.seed,
    )


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

    held = Splits(splits.zone, [without(splits.spatial[0])], [without(splits.random[0])])
    found = audited(table, held, features_of(table, noise=1.0))
    assert (found.patches, found.zones) == (576 - 36, 15)
    assert set(found.predictions["patch"]) == set(table["patch"][~test])
    assert not found.predictions.isna().any(axis=None)


def test_repeats_are_averaged_and_each_has_its_rows():
    table, one = landscape()
    _, two = landscape(seed=5)
    features = features_of(table, noise=1.0)
    both = audited(table, Splits(one.zone, one.spatial + two.spatial, one.random + two.random), features)
    parts = [audited(table, Splits(one.zone, s.spatial, s.random), features) for s in (one, two)]
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


@pytest.mark.parametrize("change", [{"baseline": "logistic_regression"}, {"trees": 5}, {"seed": 1}])
def test_every_setting_changes_the_result(change):
    table, splits = landscape()
    features = features_of(table, noise=1.0)
    assert audited(table, splits, features).summary() != audited(table, splits, features, **change).summary()


@pytest.fixture
def folds(tmp_path):
    table, splits = landscape()
    folder = tmp_path / "k4"
    folder.mkdir()
    zones = geopandas.GeoDataFrame({"zone": ["a"], "fold": [0]}, geometry=[shapely.box(0, 0, 1, 1)], crs=CRS_UTM33)
    write_folds(folder, CrossValidationFolds(table, splits.spatial[0], splits.random[0], [zones]))
    return folder, table, splits


def test_splits_are_read_as_they_were_written(folds):
    folder, table, splits = folds
    found = read_splits(folder, table)
    np.testing.assert_array_equal(found.zone, splits.zone)
    for kind in ("spatial", "random"):
        ((*written,), (*read,)) = getattr(splits, kind)[0], getattr(found, kind)[0]
        for one, other in zip(written, read, strict=True):
            for side in ("train", "validation", "buffer"):
                np.testing.assert_array_equal(getattr(one, side), getattr(other, side))


def test_absent_foreign_and_unequal_lists_are_refused(folds, tmp_path):
    folder, table, _ = folds
    with pytest.raises(FoldError, match=r"fold_0\.parquet: does not list the patches of data/patches\.parquet"):
        read_splits(folder, table[::-1])
    sides = pandas.read_parquet(folder / "random_2.parquet")
    sides.assign(side=sides["side"].replace("validation", "buffer")).to_parquet(folder / "random_2.parquet")
    with pytest.raises(AuditError, match=r"random_\*\.parquet: 144 patches are held out never or twice; run dvc repro"):
        read_splits(folder, table)
    (folder / "random_2.parquet").unlink()
    with pytest.raises(FoldError, match=r"random_2\.parquet: not found; expected the list of a fold"):
        read_splits(folder, table)
    with pytest.raises(FoldError, match=r"index\.json: not found"):
        read_splits(tmp_path, table)
