import geopandas
import numpy as np
import pandas
import pytest
import shapely

from landfold.folds.assignment import assign_folds, fold_patches
from landfold.folds.lists import column, fold_of_zone, read_index
from landfold.folds.split import FoldError
from landfold.folds.summary import fold_summary
from landfold.folds.zones import Blocks, in_test_region
from tests.factories import CRS_UTM33
from tests.folds.layouts import KINDS, folded, ground, patches_at, write_and_check, zone_settings


def test_blocks_of_verdes_grid_are_the_published_test_sets():
    """verde.BlockKFold's doctest: 4 x 4 points, blocks of 2 units, 4 folds."""
    y, x = (part.ravel() for part in np.mgrid[-10:-6, 0:4])
    zones = Blocks(2, (0, -10)).at(x, y)
    folds = assign_folds(zones, np.zeros(16), zone_settings(4, block_size_m=2, assignment="group"))
    found = {frozenset(np.flatnonzero(folds == fold)) for fold in range(4)}
    assert found == {frozenset(s) for s in ({0, 1, 4, 5}, {2, 3, 6, 7}, {8, 9, 12, 13}, {10, 11, 14, 15})}
    with pytest.raises(FoldError, match=r"4 zones cannot make 5 folds; lower zones\.k"):
        assign_folds(zones, np.zeros(16), zone_settings(5))


@pytest.mark.parametrize("assignment", ["stratified", "group"])
def test_equal_input_gives_equal_folds(assignment):
    settings = zone_settings(3, assignment=assignment, block_size_m=60)
    np.testing.assert_array_equal(folded(1, settings)["fold"], folded(1, settings)["fold"])


def test_stratified_folds_balance_a_rare_class_that_grouped_ones_do_not():
    zone = np.repeat([f"E{i}N0" for i in range(20)], 10).astype(object)
    rare = np.isin(zone, [f"E{i}N0" for i in (0, 5, 10, 15)])
    labels = np.where(rare, "rare", "common").astype(object)
    found = {}
    for assignment in ("stratified", "group"):
        folds = assign_folds(zone, labels, zone_settings(4, assignment=assignment))
        found[assignment] = sorted(int(rare[folds == fold].sum()) for fold in range(4))
        assert [int((folds == fold).sum()) for fold in range(4)] == [50] * 4
    assert found["stratified"] == [10, 10, 10, 10]
    assert sum(found["group"]) == 40


@pytest.mark.parametrize(
    "change", [{"assignment": "group"}, {"seed": 1}, {"block_size_m": 70}, {"origin_m": (20, 0)}, {"k": 4}]
)
def test_every_setting_of_the_assignment_changes_the_folds(change):
    base = {"k": 3, "block_size_m": 60}
    assert (folded(1, zone_settings(**base))["fold"] != folded(1, zone_settings(**base | change))["fold"]).any()


def test_classes_with_fewer_patches_than_folds_are_refused():
    zone = np.array([f"E{i}N0" for i in range(4)], dtype=object)
    with pytest.raises(FoldError, match="the largest class has 1 patches, too few to be in each of 3 folds"):
        assign_folds(zone, np.array(list("abcd"), dtype=object), zone_settings(3))


def test_a_fold_that_stays_empty_is_refused(monkeypatch):
    class Lazy:
        def __init__(self, *args, **kwargs):
            pass

        def split(self, x, y, groups):
            yield None, np.arange(len(x))
            yield None, np.array([], dtype=int)

    monkeypatch.setattr("landfold.folds.assignment.GroupKFold", Lazy)
    zone = np.array(["E0N0", "E1N0"], dtype=object)
    with pytest.raises(FoldError, match=r"fold 1 has no patch: 2 zones of very unequal size; lower zones\.k"):
        assign_folds(zone, np.array(["a", "a"], dtype=object), zone_settings(2, assignment="group"))


def test_repeats_have_their_own_zones_and_numbers(tmp_path):
    patches, none = ground(3), np.zeros(90, dtype=bool)
    settings = zone_settings(2, repeats=3, folds=list(range(6)), block_size_m=80)
    folding = write_and_check(tmp_path / "k2", patches, settings, none)
    index = read_index(tmp_path / "k2")
    assert (index.k, index.repeats, index.folds) == (2, 3, [0, 1, 2, 3, 4, 5])
    assigned = pandas.read_parquet(tmp_path / "k2/patches.parquet")
    assert list(assigned) == ["patch", "zone", "fold", "zone_1", "fold_1", "zone_2", "fold_2"]
    for repeat in range(3):
        assert sorted(assigned[column("fold", repeat)].unique()) == [2 * repeat, 2 * repeat + 1]
        layer = geopandas.read_file(tmp_path / "k2/zones.gpkg", layer=column("zones", repeat))
        assert set(layer["zone"]) == set(assigned[column("zone", repeat)])
        inside = layer.set_index("zone").loc[assigned[column("zone", repeat)]].geometry.to_numpy()
        assert shapely.intersects(inside, shapely.points(patches["x"], patches["y"])).all()
    assert len({tuple(assigned[column("fold", repeat)] % 2) for repeat in range(3)}) == 3
    once = fold_patches(patches, zone_settings(2, block_size_m=80), none)
    assert list(once.table["fold"]) == list(folding.table["fold"])
    summary = fold_summary(folding)
    assert list(summary["folds"]) == list("012345")
    assert [sum(summary["folds"][str(2 * r + i)]["validation"] for i in (0, 1)) for r in range(3)] == [90] * 3


@pytest.mark.parametrize("assignment", ["stratified", "group", "balanced"])
def test_repeats_of_zones_that_stay_are_dealt_anew(assignment):
    patches = ground(5, scenes=30)
    settings = zone_settings(
        3, repeats=2, folds=list(range(6)), assignment=assignment, kind="scene", **KINDS["scene"],
        tries=5 if assignment == "balanced" else None,
    )  # fmt: skip
    table = fold_patches(patches, settings, np.zeros(90, dtype=bool)).table
    assert (table["zone"] == table["zone_1"]).all()
    assert (table["fold"] != table["fold_1"] - 3).any()


def test_balanced_folds_get_better_with_tries():
    rng = np.random.default_rng(0)
    zone = np.repeat([f"z{i}" for i in range(40)], 10).astype(object)
    labels = np.array(list("abcd"), dtype=object)[np.minimum(rng.poisson(np.repeat(rng.random(40) * 3, 10)), 3)]
    scores = []
    for tries in (1, 30, 3000):
        folds = assign_folds(zone, labels, zone_settings(5, assignment="balanced", tries=tries))
        counts = pandas.crosstab(folds, labels).to_numpy()
        assert list(counts.sum(axis=1)) == [80] * 5
        even = counts.sum(axis=0) / 5
        scores.append(float(((counts - even) ** 2 / even).sum()))
    assert scores[0] > scores[1] > scores[2]
    again = assign_folds(zone, labels, zone_settings(5, assignment="balanced", tries=3000))
    np.testing.assert_array_equal(folds, again)
    other = assign_folds(zone, labels, zone_settings(5, assignment="balanced", tries=3000, seed=1))
    assert (folds != other).any()


def test_the_test_region_is_in_no_fold_and_keeps_its_distance():
    patches = patches_at(20.0 * np.arange(12))
    settings = zone_settings(2, block_size_m=80, buffer_m=10, assignment="group", test_region=[-5, -5, 86, 5])
    test = in_test_region(patches, settings, None, CRS_UTM33)
    assert list(np.flatnonzero(test)) == [0, 1, 2, 3, 4]
    folding = fold_patches(patches, settings, test)
    sides = np.stack([split.roles for split in folding.spatial])
    assert (sides[:, :5] == "test").all()
    assert not (sides[:, 5:] == "test").any()
    assert sorted(sides[:, 5]) == ["buffer", "validation"], "10 m from a test patch"
    assert sorted(sides[:, 6]) == ["train", "validation"]
    assert list(folding.table["fold"][:5]) == [-1] * 5
    assert sorted(fold_of_zone(folding.table)) == ["E1N0", "E2N0"], "one patch of E1N0 is in the test region"
    assert folding.zones[0].set_index("zone")["fold"]["E0N0"] == -1
    assert fold_summary(folding)["test"] == 5


def test_a_buffer_around_the_test_region_may_leave_no_training():
    patches = patches_at([0, 12, 24])
    settings = zone_settings(2, block_size_m=12, origin_m=[-6, 0], buffer_m=12, test_region=[-5, -5, 5, 5])
    with pytest.raises(FoldError, match=r"all 1 training patches lie within .* of a validation or test patch"):
        fold_patches(patches, settings, np.array([True, False, False]))
