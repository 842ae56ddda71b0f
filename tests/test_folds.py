import dataclasses

import geopandas
import numpy as np
import pandas
import pytest
import shapely
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from landfold.files import digest
from landfold.folds import FoldError, Split, assign_folds, check_folds, split_fold, summarize, write_folds
from landfold.settings import validate
from landfold.zones import ZoneSettings, grid_zones, zone_table
from tests.factories import CRS_UTM33, footprint_table, params, read_json, tree

pytestmark = pytest.mark.filterwarnings("ignore:The least populated class")


def zone_settings(k=2, **changes):
    return validate(params()["zones"] | {"k": k, "folds": list(range(k))} | changes, ZoneSettings, where="zones")


def splits_of(table, settings):
    footprints, folds = table.geometry.to_numpy(), table["fold"].to_numpy()
    return [split_fold(footprints, folds, fold, settings.buffer_m) for fold in settings.folds]


def test_blocks_of_verdes_grid_are_the_published_test_sets():
    """verde.BlockKFold's doctest: 4 x 4 points, blocks of 2 units, 4 folds."""
    y, x = (part.ravel() for part in np.mgrid[-10:-6, 0:4])
    zones = grid_zones(x, y, block_size_m=2, origin_m=(0, -10))
    folds = assign_folds(zones, np.zeros(16), zone_settings(4, block_size_m=2, assignment="group"))
    found = {frozenset(np.flatnonzero(folds == fold)) for fold in range(4)}
    assert found == {frozenset(s) for s in ({0, 1, 4, 5}, {2, 3, 6, 7}, {8, 9, 12, 13}, {10, 11, 14, 15})}
    with pytest.raises(FoldError, match=r"4 zones cannot make 5 folds; lower zones\.k"):
        assign_folds(zones, np.zeros(16), zone_settings(5))


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


def layout(seed, *, count=120, side=400.0, size=12.0, classes=3):
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, side, (2, count)) + np.array([[4e5], [58e5]])
    labels = np.array(["a", "b", "c"], dtype=object)[rng.integers(0, classes, count)]
    return x, y, labels, size


def folded(seed, settings, **options):
    x, y, labels, size = layout(seed, **options)
    zone = grid_zones(x, y, block_size_m=settings.block_size_m, origin_m=settings.origin_m)
    return footprint_table(x, y, zone, assign_folds(zone, labels, settings), size_m=size, labels=labels)


@given(
    st.integers(0, 10_000),
    st.integers(2, 4),
    st.sampled_from(["stratified", "group"]),
    st.sampled_from([0.0, 5.0, 30.0]),
    st.floats(50, 150),
)
@hypothesis_settings(max_examples=60, deadline=None)
def test_random_layouts_keep_every_promise(seed, k, assignment, buffer_m, block):
    settings = zone_settings(k, assignment=assignment, buffer_m=buffer_m, block_size_m=block)
    try:
        table = folded(seed, settings)
        splits = splits_of(table, settings)
    except FoldError:
        assume(False)
    check_folds(table, splits, buffer_m)
    assert len(table[["zone", "fold"]].drop_duplicates()) == table["zone"].nunique()
    assert (sum(split.validation.astype(int) for split in splits) == 1).all()
    shapes = table.geometry.to_numpy()
    for fold, split in enumerate(splits):
        assert split.validation.any()
        assert split.train.any()
        np.testing.assert_array_equal(split.validation, table["fold"] == fold)
        np.testing.assert_array_equal(split.train.astype(int) + split.validation + split.buffer, 1)
        gaps = shapely.distance(shapes[~split.validation][:, None], shapes[split.validation][None]).min(axis=1)
        shared = shapely.area(shapely.intersection(shapes[~split.validation][:, None], shapes[split.validation][None]))
        near = gaps <= buffer_m if buffer_m else shared.max(axis=1) > 1e-6
        np.testing.assert_array_equal(split.buffer[~split.validation], near)


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


def test_the_buffer_changes_the_split():
    settings = zone_settings(3, block_size_m=100)
    table = folded(1, settings)
    dropped = [
        sum(int(split.buffer.sum()) for split in splits_of(table, settings.model_copy(update={"buffer_m": buffer})))
        for buffer in (0.0, 5.0, 20.0)
    ]
    assert dropped == sorted(set(dropped))


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

    monkeypatch.setattr("landfold.folds.GroupKFold", Lazy)
    zone = np.array(["E0N0", "E1N0"], dtype=object)
    with pytest.raises(FoldError, match=r"fold 1 has no patch: 2 zones of very unequal size; lower zones\.k"):
        assign_folds(zone, np.array(["a", "a"], dtype=object), zone_settings(2, assignment="group"))


@pytest.fixture
def good():
    """Four patches in four zones, two folds, far apart: a table and splits that keep all promises."""
    x = np.array([0.0, 100.0, 200.0, 300.0])
    table = footprint_table(x, x * 0, np.array(["E0N0", "E1N0", "E2N0", "E3N0"]), np.array([0, 1, 0, 1]), size_m=10)
    splits = splits_of(table, zone_settings(2))
    check_folds(table, splits, 0)
    return table, splits


def changed(splits, fold, **sides):
    found = list(splits)
    found[fold] = dataclasses.replace(found[fold], **{name: np.array(mask) for name, mask in sides.items()})
    return found


def test_a_zone_in_two_folds_is_caught(good):
    table, splits = good
    table["zone"] = ["E0N0", "E0N0", "E2N0", "E3N0"]
    with pytest.raises(FoldError, match="zone E0N0 is in 2 folds"):
        check_folds(table, splits, 0)


@pytest.mark.parametrize("mask", [[True, True, True, False], [True, False, False, False]])
def test_a_patch_validated_twice_or_never_is_caught(good, mask):
    table, splits = good
    with pytest.raises(FoldError, match="1 patches are not validated exactly once"):
        check_folds(table, changed(splits, 0, validation=mask), 0)


def test_swapped_folds_are_caught(good):
    table, splits = good
    with pytest.raises(FoldError, match="fold 0: it validates patches of another fold"):
        check_folds(table, splits[::-1], 0)


@pytest.mark.parametrize(
    "sides",
    [
        {"train": [False, False, False, True]},
        {"train": [True, True, False, True]},
        {"buffer": [False, True, False, False]},
        {"buffer": [True, False, False, False]},
    ],
)
def test_a_patch_on_no_side_or_on_two_is_caught(good, sides):
    table, splits = good
    with pytest.raises(FoldError, match="fold 0: 1 patches are on no side or two"):
        check_folds(table, changed(splits, 0, **sides), 0)


def test_shared_ground_is_caught(good):
    table, splits = good
    shapes = table.geometry.to_numpy().copy()
    shapes[1] = shapely.box(4, -5, 14, 5)
    table = table.set_geometry(geopandas.GeoSeries(shapes, crs=CRS_UTM33))
    with pytest.raises(FoldError, match="fold 0: 1 pairs of training and validation footprints share ground"):
        check_folds(table, splits, 0)


def test_a_training_patch_within_the_buffer_is_caught(good):
    table, splits = good
    check_folds(table, splits, 89.9)
    with pytest.raises(FoldError, match=r"fold 0: 3 pairs .* within zones\.buffer_m = 90 m"):
        check_folds(table, splits, 90)


def written(folder, settings, seed=1):
    table = folded(seed, settings)
    splits = splits_of(table, settings)
    folder.mkdir()
    areas = zone_table(table["zone"].to_numpy(), table["fold"].to_numpy(), settings, CRS_UTM33)
    write_folds(folder, table, splits, areas)
    return table, splits


def test_the_written_folds_are_what_training_reads(tmp_path):
    settings = zone_settings(3, block_size_m=100, buffer_m=5)
    table, splits = written(tmp_path / "k3", settings)
    index = read_json(tmp_path / "k3" / "index.json")
    assert (index["k"], index["folds"]) == (3, [0, 1, 2])
    patches = pandas.read_parquet(tmp_path / "k3" / "patches.parquet")
    assert patches.equals(pandas.DataFrame(table[["patch", "zone", "fold"]]).astype(patches.dtypes))
    for fold, split in enumerate(splits):
        path = tmp_path / "k3" / f"fold_{fold}.parquet"
        sides = pandas.read_parquet(path)
        assert list(sides["patch"]) == list(table["patch"])
        for name in ("train", "validation", "buffer"):
            np.testing.assert_array_equal(sides["side"] == name, getattr(split, name))
        assert index["digests"][str(fold)] == digest(path)
    zones = geopandas.read_file(tmp_path / "k3" / "zones.gpkg", layer="zones")
    assert zones["patches"].sum() == len(table)
    assert zones.crs == CRS_UTM33


def test_equal_folds_are_equal_bytes_and_other_folds_have_other_digests(tmp_path):
    settings = zone_settings(3, block_size_m=100)
    written(tmp_path / "one", settings)
    written(tmp_path / "two", settings)
    written(tmp_path / "buffered", settings.model_copy(update={"buffer_m": 9.0}))
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    one, other = (read_json(tmp_path / name / "index.json")["digests"] for name in ("one", "buffered"))
    assert all(one[fold] != other[fold] for fold in "012")


def test_the_summary_counts_each_side_and_class():
    settings = zone_settings(3, block_size_m=100, buffer_m=5)
    table = folded(1, settings)
    found = summarize(table, splits_of(table, settings))
    assert found["k"] == 3
    assert found["zones"] == table["zone"].nunique()
    for fold in found["folds"].values():
        assert fold["train"] + fold["validation"] + fold["buffer"] == len(table)
        assert sum(fold["classes"].values()) == fold["validation"]
    for name in "abc":
        assert sum(fold["classes"][name] for fold in found["folds"].values()) == (table["label"] == name).sum()


def test_a_split_cannot_be_changed(good):
    _, splits = good
    with pytest.raises(dataclasses.FrozenInstanceError, match="train"):
        splits[0].train = None
    assert isinstance(splits[0], Split)
