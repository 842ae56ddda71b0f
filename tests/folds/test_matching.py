import geopandas
import numpy as np
import pytest
import shapely

from landfold.core.settings import SettingsError
from landfold.folds import matching
from landfold.folds.assignment import fold_patches
from landfold.folds.distances import held_out_to_train_m, nearest_m, wasserstein_m
from landfold.folds.matching import match_folds
from landfold.folds.split import TEST, FoldError
from tests.factories import CRS_UTM33
from tests.folds.layouts import ground, write_and_check, zone_settings

EVERYWHERE = np.stack(np.meshgrid(7e5 + np.arange(5, 400, 10), 58e5 + np.arange(5, 400, 10)), axis=-1).reshape(-1, 2)
"""Places all over the ground of `ground`."""


def knndm(k=2, **changes):
    return zone_settings(k, assignment="knndm", **changes)


def points_at(points):
    x, y = np.array(points, dtype=float).T
    return geopandas.GeoDataFrame({"x": x, "y": y}, geometry=shapely.points(x, y), crs=CRS_UTM33)


def matched(zones, points, settings, locations):
    nothing = np.zeros(len(points), dtype=bool)
    return match_folds(np.array(zones, dtype=object), points_at(points), nothing, settings, np.array(locations))


def w_of(folding, locations):
    centres, used = folding.table[["x", "y"]].to_numpy(), folding.table["fold"] != TEST
    held_out = held_out_to_train_m(centres, folding.spatial)[used]
    return wasserstein_m(held_out, nearest_m(locations, centres[used]))


def test_folds_and_w_are_those_of_cast():
    """CAST's test-knndm, without a CRS: six points, each a zone here; W 1.091896 with three clusters."""
    train = np.array([(1, 1), (1, 2), (2, 2), (2, 3), (1, 4), (5, 4)], dtype=float)
    places = [(0.4190187 + 2.2360680 * i, 1.4851710 + 2.2360680 * j) for i in range(5) for j in range(4)]
    folds = matched(list("abcdef"), train, knndm(), places)
    assert folds.tolist() == [0, 0, 0, 0, 1, 1]
    held_out = np.where(folds == 0, nearest_m(train, train[folds == 1]), nearest_m(train, train[folds == 0]))
    assert wasserstein_m(held_out, nearest_m(np.array(places), train)) == pytest.approx(1.091896, abs=1e-6)


@pytest.mark.parametrize(
    "changes", [{}, {"overlaps": "merge", "block_size_m": 20}, {"repeats": 2, "folds": [0, 1, 2, 3]}]
)
def test_the_promises_of_all_folds_hold(tmp_path, changes):
    patches = ground(1, aligned=True)
    test = (patches["x"] < 7e5 + 60).to_numpy()
    settings = knndm(**{"block_size_m": 50, "buffer_m": 0 if "overlaps" in changes else 5} | changes)
    folding = write_and_check(tmp_path / "k2", patches, settings, test, locations=EVERYWHERE)
    assert (folding.table["fold"] == TEST).equals(folding.table["patch"].isin(patches["patch"][test]))


def test_distances_match_those_of_the_map():
    """Folds that were made for a map are nearer to its distances than those that were made for another map."""
    patches = ground(2, count=150)
    nothing = np.zeros(len(patches), dtype=bool)
    far = EVERYWHERE + np.array([600, 0])
    w = {}
    for name, locations in {"near": patches[["x", "y"]].to_numpy() + 3, "far": far}.items():
        folding = fold_patches(patches, knndm(block_size_m=40), nothing, None, locations)
        w[name] = [w_of(folding, here) for here in (patches[["x", "y"]].to_numpy() + 3, far)]
    stratified = fold_patches(patches, zone_settings(2, block_size_m=40), nothing)
    assert w["near"][0] < w["far"][0]
    assert w["far"][1] < w["near"][1]
    assert w["far"][1] < w_of(stratified, far)


def test_equal_patches_in_any_order_have_equal_folds():
    patches, settings = ground(3), knndm(3, block_size_m=50)
    nothing = np.zeros(len(patches), dtype=bool)
    folds = fold_patches(patches, settings, nothing, None, EVERYWHERE).table.set_index("patch")["fold"]
    mixed = patches.sample(frac=1, random_state=0)
    again = fold_patches(mixed, settings, nothing, None, EVERYWHERE[::-1]).table.set_index("patch")["fold"]
    assert folds.equals(again.loc[folds.index])
    assert sorted(folds.unique()) == [0, 1, 2]


def test_a_large_clump_is_a_fold_and_small_ones_go_round():
    clumps = np.repeat([0, 100, 200, 300, 400], [8, 2, 2, 2, 2])
    points = np.stack([1000.0 * clumps + np.arange(16) % 8, np.zeros(16)], axis=1)
    folds = matched(clumps.astype(str), points, knndm(3), points + np.array([0, 2e5]))
    assert len(set(folds[:8])) == 1
    assert [folds[i] == folds[i + 4] for i in (8, 10)] == [True, True], "of four in a row, every second"
    assert len(set(folds)) == 3


def test_zones_that_cannot_be_matched_are_refused(monkeypatch):
    points = [(0, 0), (30, 0), (60, 0), (90, 0)]
    with pytest.raises(FoldError, match=r"knndm finds no 2 folds of 4 zones with at most 75% .* lower zones\.buffer_m"):
        matched(list("abcd"), points, knndm(buffer_m=500), points)
    with pytest.raises(FoldError, match=r"knndm finds no 3 folds of 3 zones with at most 50% of the patches"):
        matched(list("aaabc"), [*points, (120, 0)], knndm(3), points)
    monkeypatch.setattr(matching, "MOST_ZONES", 3)
    with pytest.raises(FoldError, match="4 zones are more than 3; make fewer"):
        matched(list("abcd"), points, knndm(), points)
    with pytest.raises(FoldError, match=r"1 zones cannot make 2 folds; lower zones\.k"):
        fold_patches(ground(0), knndm(block_size_m=1e6), np.zeros(90, dtype=bool), None, EVERYWHERE)


def test_repeats_that_would_be_equal_are_refused():
    fixed = {"kind": "scene", "block_size_m": None, "origin_m": None, "repeats": 2, "folds": [0, 1, 2, 3]}
    with pytest.raises(SettingsError, match="knndm and kind: scene are alike in all repeats; set repeats to 1"):
        knndm(**fixed)
