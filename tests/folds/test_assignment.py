import dataclasses
import re
import shutil

import geopandas
import numpy as np
import pandas
import pytest
import shapely
from hypothesis import HealthCheck, given, reject
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from landfold.core.digests import digest
from landfold.core.files import write_json
from landfold.core.settings import validate
from landfold.folds.assignment import (
    FoldError,
    Split,
    assign_folds,
    cautions,
    check_folds,
    column,
    deal,
    fold_flags,
    fold_of_zone,
    fold_patches,
    random_split,
    read_index,
    split_fold,
    summarize,
    unite,
    write_folds,
)
from landfold.folds.settings import ZoneSettings
from landfold.folds.zones import Blocks, ZoneError, grid_zones, in_test_region, make_zones, written_zones, zone_table
from tests.factories import CRS_UTM33, footprint_table, params, read_json, tree

CRS_UTM34 = "EPSG:32634"


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


KINDS = {
    "grid": {},
    "hexagon": {},
    "scene": {"block_size_m": None, "origin_m": None},
    "label": {"block_size_m": None, "origin_m": None},
    "kmeans": {"block_size_m": None, "origin_m": None, "clusters": 9},
}


def ground(seed, *, count=90, side=400.0, size=12.0, scenes=6, aligned=False):
    """Patches of several scenes in two UTM zones, all in the first one's CRS, as the patches stage leaves them."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, side, (2, count)) + np.array([[7e5], [58e5]])
    if aligned:
        x, y = x // size * size, y // size * size
    scene = rng.integers(0, scenes, count)
    boxes = geopandas.GeoSeries(shapely.box(x - size / 2, y - size / 2, x + size / 2, y + size / 2), crs=CRS_UTM33)
    there = boxes.to_crs(CRS_UTM34)
    centre = shapely.centroid(there.to_numpy())
    squares = shapely.box(
        *(c + h for h in (-size / 2, size / 2) for c in (shapely.get_x(centre), shapely.get_y(centre)))
    )
    turned = geopandas.GeoSeries(squares, crs=CRS_UTM34).to_crs(CRS_UTM33)  # a scene of the next zone: not upright
    shapes = np.where(scene % 2 == 1, turned.to_numpy(), boxes.to_numpy())
    return geopandas.GeoDataFrame(
        {
            "patch": [f"s{s}/{i}" for i, s in enumerate(scene)],
            "scene": [f"s{s}" for s in scene],
            "label": np.array(["a", "b", "c"], dtype=object)[rng.integers(0, 3, count)],
            "zone_value": [f"v{int(part)}" for part in (x - 7e5) // (side / 5)],
            "x": x,
            "y": y,
        },
        geometry=shapes,
        crs=CRS_UTM33,
    )


def write_and_check(folder, patches, settings, test):
    folding = fold_patches(patches, settings, test)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_folds(folder, folding.table, folding.splits, *folding.zones, randoms=folding.randoms)
    check_folds(folder, patches, settings, test)
    return folding


@given(
    st.integers(0, 10_000),
    st.integers(2, 4),
    st.sampled_from(sorted(KINDS)),
    st.sampled_from(["stratified", "group", "balanced"]),
    st.sampled_from(["buffer", "join"]),
    st.sampled_from([0.0, 5.0, 25.0]),
    st.floats(60, 150),
    st.integers(1, 2),
    st.booleans(),
    st.booleans(),
)
@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_random_layouts_keep_every_promise(
    tmp_path_factory, seed, k, kind, assignment, overlaps, buffer_m, block, repeats, region, aligned
):
    patches = ground(seed, count=60, side=400 if kind != "scene" else 900, aligned=aligned)
    settings = zone_settings(
        k,
        repeats=repeats,
        folds=list(range(k * repeats)),
        buffer_m=buffer_m,
        kind=kind,
        assignment=assignment,
        tries=20 if assignment == "balanced" else None,
        overlaps=overlaps,
        test_region=[7e5, 58e5, 7e5 + 90, 58e5 + 120] if region else None,
        **{"block_size_m": block, **KINDS[kind]},
    )
    folder = tmp_path_factory.getbasetemp() / "property"
    try:
        test = in_test_region(patches, settings, folder, CRS_UTM33)
        write_and_check(folder, patches, settings, test)
    except (FoldError, ZoneError) as error:
        assert "fault of Landfold" not in str(error)  # noqa: PT017 - only refusals for the user's reasons
        reject()
    brute_force(folder, patches, settings, test)


def brute_force(folder, patches, settings, test):
    """Every promise on the written files, from all pairs of patches."""
    shapes = patches.geometry.to_numpy()
    if settings.test_region:
        shared = shapely.area(shapely.intersection(shapes, shapely.box(*settings.test_region)))
        np.testing.assert_array_equal(test, shared > 0)
    gaps = shapely.distance(shapes[:, None], shapes[None])
    shared = shapely.area(shapely.intersection(shapes[:, None], shapes[None]))
    near = gaps <= settings.buffer_m if settings.buffer_m else shared > 1e-9 * shapely.area(shapes)
    assigned = pandas.read_parquet(folder / "patches.parquet")
    for repeat in range(settings.repeats):
        zone, own = (assigned[column(name, repeat)].to_numpy() for name in ("zone", "fold"))
        assert set(own[~test]) == set(range(settings.k * repeat, settings.k * (repeat + 1)))
        assert set(own[test]) <= {-1}
        assert all(len(set(own[(zone == name) & ~test])) <= 1 for name in set(zone))
        if settings.overlaps == "join":
            one, other = np.nonzero((shared > 1e-6) & ~test[:, None] & ~test[None])
            np.testing.assert_array_equal(zone[one], zone[other])
        times = {"fold": 0, "random": 0}
        for fold in range(settings.k * repeat, settings.k * (repeat + 1)):
            sizes = {}
            for kind in ("fold", "random"):
                side = pandas.read_parquet(folder / f"{kind}_{fold}.parquet")["side"].to_numpy()
                np.testing.assert_array_equal(side == "test", test)
                times[kind] = times[kind] + (side == "validation")
                sizes[kind] = (side == "train").sum()
                if kind == "fold":
                    train, held_out = side == "train", np.isin(side, ["validation", "test"])
                    np.testing.assert_array_equal(side == "validation", own == fold)
                    assert not set(zone[train]) & set(zone[side == "validation"])
                    assert shared[train][:, held_out].max() <= 1e-6
                    np.testing.assert_array_equal(side == "buffer", near[:, held_out].any(axis=1) & ~held_out)
            most = (np.isin(side, ["train", "buffer"])).sum()
            assert sizes["random"] == min(sizes["fold"], most) > 0
        for counted in times.values():
            np.testing.assert_array_equal(counted, ~test)


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

    monkeypatch.setattr("landfold.folds.assignment.GroupKFold", Lazy)
    zone = np.array(["E0N0", "E1N0"], dtype=object)
    with pytest.raises(FoldError, match=r"fold 1 has no patch: 2 zones of very unequal size; lower zones\.k"):
        assign_folds(zone, np.array(["a", "a"], dtype=object), zone_settings(2, assignment="group"))


@pytest.fixture
def good(tmp_path):
    """Four patches in four zones, two folds, far apart: written folds that keep all promises."""
    x = -1000.0 * np.arange(4)
    patches = footprint_table(x, x * 0, ["E0N0"] * 4, 0, size_m=10, labels=list("abab")).assign(scene="s", x=x, y=0.0)
    settings = zone_settings(2, assignment="group")
    none = np.zeros(4, dtype=bool)
    write_and_check(tmp_path / "k2", patches, settings, none)
    return tmp_path / "k2", patches, settings, none


def edit(folder, name, **columns):
    """Change columns of a written list and its digest."""
    path = folder / f"{name}.parquet"
    pandas.read_parquet(path).assign(**columns).to_parquet(path, index=False)
    kind, _, number = name.partition("_")
    if number:
        index = read_json(folder / "index.json")
        index["digests" if kind == "fold" else "random_digests"][number] = digest(path)
        write_json(folder / "index.json", index)


def test_the_good_folds_are_good(good):
    folder, *_ = good
    sides = [list(pandas.read_parquet(folder / f"fold_{fold}.parquet")["side"]) for fold in (0, 1)]
    assert sides == [["validation", "train"] * 2, ["train", "validation"] * 2]
    check_folds(*good)


V, T, B = "validation", "train", "buffer"


@pytest.mark.parametrize(
    ("name", "columns", "message"),
    [
        ("patches", {"zone": ["E0N0", "E0N0", "E4N0", "E6N0"]}, "zone E0N0 is in 2 folds"),
        ("patches", {"patch": list("wxyz")}, "patches.parquet lists other patches"),
        ("patches", {"fold": [-1, 1, 0, 1]}, "patches.parquet: its test patches are not those of the region"),
        ("fold_0", {"patch": list("wxyz")}, "fold_0.parquet lists other patches"),
        ("fold_0", {"zone": "E0N0"}, "fold_0.parquet has other zones"),
        ("fold_0", {"side": [V, T, T, T]}, "fold_0.parquet validates another fold"),
        ("fold_0", {"side": [V, V, V, T]}, "fold_0.parquet validates another fold"),
        ("fold_0", {"side": [V, "both", V, T]}, "fold_0.parquet: 1 patches are on no side"),
        ("fold_0", {"side": [V, "test", V, T]}, "fold_0.parquet: its test patches are not those of the region"),
        ("random_0", {"side": [V, V, V, T]}, "random lists: 1 patches are not validated exactly once"),
        ("random_1", {"side": [T, T, T, V]}, "random_1.parquet trains on 3 patches"),
        ("random_1", {"side": [V, B, B, V]}, "random_1.parquet trains on 0 patches"),
    ],
)
def test_a_broken_promise_is_caught_on_the_written_files(good, name, columns, message):
    folder, patches, settings, test = good
    edit(folder, name, **columns)
    with pytest.raises(FoldError, match=f"{re.escape(message)}.*; this is a fault of Landfold"):
        check_folds(folder, patches, settings, test)


def test_a_list_without_its_digest_is_caught(good):
    folder, *_ = good
    index = read_json(folder / "index.json")
    write_json(folder / "index.json", index | {"digests": {"0": "0" * 64}})
    with pytest.raises(FoldError, match=r"fold_0.parquet has another digest than index.json; this is a fault"):
        check_folds(*good)


def test_shared_ground_is_caught(good):
    folder, patches, settings, test = good
    shapes = patches.geometry.to_numpy().copy()
    for shape, message in (
        (shapely.box(4, -5, 14, 5), r"fold 0: 1 pairs of training and held-out footprints share ground or lie within"),
        (shapes[0], "fold 0: 1 pairs of training and held-out footprints share ground"),
        (shapely.box(-900, -1, 900, 1), "fold 0: 1 pairs of training and held-out footprints share ground"),
    ):
        shapes[1] = shape
        moved = patches.set_geometry(geopandas.GeoSeries(shapes, crs=CRS_UTM33))
        with pytest.raises(FoldError, match=message):
            check_folds(folder, moved, settings, test)
    shapes[1] = shapely.box(5, -5, 15, 5)
    check_folds(folder, patches.set_geometry(geopandas.GeoSeries(shapes, crs=CRS_UTM33)), settings, test)


def test_a_training_patch_within_the_buffer_is_caught(good):
    folder, patches, settings, test = good
    check_folds(folder, patches, settings.model_copy(update={"buffer_m": 989.9}), test)
    with pytest.raises(FoldError, match=r"fold 0: 3 pairs .* within zones\.buffer_m = 990 m; this is a fault"):
        check_folds(folder, patches, settings.model_copy(update={"buffer_m": 990.0}), test)


def written(folder, settings, seed=1):
    table = folded(seed, settings)
    splits = splits_of(table, settings)
    folder.mkdir()
    rule = Blocks(settings.block_size_m, settings.origin_m)
    areas = zone_table(table["zone"].to_numpy(), table["fold"].to_numpy(), rule, CRS_UTM33)
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


def test_a_split_cannot_be_changed():
    split = Split(np.array([True, False]), np.array([False, True]), np.zeros(2, dtype=bool))
    with pytest.raises(dataclasses.FrozenInstanceError, match="train"):
        split.train = None


def test_the_flags_are_blockcvs():
    """blockCV's test-cv_summary: four folds of two classes."""
    train = np.array([[100, 0], [100, 60], [100, 60], [100, 60]])
    validation = np.array([[10, 0], [10, 30], [2, 1], [10, 29]])
    assert fold_flags(train, validation) == [
        ["single_class_test", "class_missing_train"],
        [],
        ["tiny_test", "imbalance"],
        [],
    ]


def test_flags_leave_a_single_class_and_rare_classes_alone():
    assert fold_flags(np.array([[9], [9]]), np.array([[9], [9]])) == [[], []]
    rare = np.array([[50, 3], [50, 0]])  # 3 patches cannot be even in 2 folds
    assert fold_flags(rare[::-1] + 1, rare) == [[], ["single_class_test"]]
    assert fold_flags(np.full((2, 2), 9), np.array([[20, 1], [20, 7]])) == [[], []], "1 of 4 is a quarter"
    assert fold_flags(np.full((2, 2), 9), np.array([[20, 1], [20, 8]])) == [["imbalance"], []]


def test_zones_with_patches_that_share_ground_are_united_through_others():
    zones = np.array(["b", "a", "c", "d", "e"], dtype=object)
    chain = shapely.box([0, 8, 16, 26, 60], 0, [10, 18, 26, 36, 70], 10)  # b-a-c overlap, c and d only touch
    assert unite(zones, chain) == {"a": "a+2", "b": "a+2", "c": "a+2", "d": "d", "e": "e"}
    assert unite(zones[::-1], chain[::-1]) == unite(zones, chain)


def patches_at(x, **columns):
    x = np.asarray(x, dtype=float)
    table = footprint_table(x, x * 0, "", 0, size_m=10, labels=columns.pop("labels", "a")).drop(
        columns=["zone", "fold"]
    )
    return table.assign(**{"scene": "s", "x": x, "y": 0.0} | columns)


def test_joined_zones_lose_no_patch_to_shared_ground():
    patches = patches_at([95, 104, 250, 350, 450])
    none = np.zeros(5, dtype=bool)
    settings = {"block_size_m": 100, "assignment": "group"}
    found = {}
    for overlaps in ("buffer", "join"):
        folding = fold_patches(patches, zone_settings(2, overlaps=overlaps, **settings), none)
        found[overlaps] = list(folding.table["zone"])
        lost = sum(int(split.buffer.sum()) for split in folding.splits)
        assert lost == (2 if overlaps == "buffer" and folding.table["fold"][0] != folding.table["fold"][1] else 0)
    assert found["buffer"][:2] == ["E0N0", "E1N0"]
    assert found["join"] == ["E0N0+1", "E0N0+1", "E2N0", "E3N0", "E4N0"]


def test_a_component_that_spans_everything_is_refused_with_the_mend():
    patches = patches_at(8.0 * np.arange(30))
    settings = zone_settings(2, overlaps="join", block_size_m=50)
    with pytest.raises(FoldError, match=r"join leaves 1 of 5 zones, too few for 2 folds: .*patches\.stride_px to"):
        fold_patches(patches, settings, np.zeros(30, dtype=bool))


def test_the_map_asks_the_united_zones_too():
    patches = patches_at([95, 104, 250, 350, 450])
    settings = zone_settings(2, overlaps="join", block_size_m=100, assignment="group")
    folding = fold_patches(patches, settings, np.zeros(5, dtype=bool))
    rule = written_zones(settings, patches, folding.table["zone"])
    assert list(rule.at(np.array([1, 199, 299, 950.0]), np.zeros(4))) == ["E0N0+1", "E0N0+1", "E2N0", "E9N0"]
    assert folding.zones[0].set_index("zone").geometry["E0N0+1"].bounds == (0, 0, 200, 100)
    assert fold_of_zone(folding.table) == dict(zip(folding.table["zone"], folding.table["fold"], strict=True))


@pytest.mark.parametrize("overlaps", ["buffer", "join"])
@pytest.mark.parametrize("kind", [*KINDS, "polygons"])
def test_the_map_has_the_zones_of_the_patches(tmp_path, kind, overlaps):
    patches = ground(2, count=40, side=900, size=4.0)
    stripes = [shapely.box(7e5 + 150 * i, 57e5, 7e5 + 150 * (i + 1), 59e5) for i in range(6)]
    areas = geopandas.GeoDataFrame({"zone": list("abcdef")}, geometry=stripes, crs=CRS_UTM33)
    own = {**KINDS, "polygons": {**KINDS["scene"], "file": "a.gpkg", "attribute": "zone"}}[kind]
    settings = zone_settings(2, kind=kind, overlaps=overlaps, assignment="group", **{"block_size_m": 150, **own})
    zones = make_zones(settings, patches, areas).of(patches)
    shapes, other = patches.geometry.to_numpy().copy(), np.flatnonzero(zones != zones[0])[0]
    shapes[0] = shapely.union(shapes[0], shapes[other])
    patches = patches.set_geometry(geopandas.GeoSeries(shapes, crs=CRS_UTM33))
    folding = fold_patches(patches, settings, np.zeros(40, dtype=bool), areas)
    united = min(zones[0], zones[other]) + "+1"
    assert list(folding.table["zone"]) == [
        united if overlaps == "join" and zone in (zones[0], zones[other]) else zone for zone in zones
    ]
    write_folds(tmp_path, folding.table, folding.splits, *folding.zones)
    written = geopandas.read_file(tmp_path / "zones.gpkg", layer="zones")
    rule = written_zones(settings, patches, folding.table["zone"], written)
    assert list(rule.at(patches["x"].to_numpy(), patches["y"].to_numpy())) == list(folding.table["zone"])


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
    summary = summarize(folding.table, folding.splits, repeats=3)
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
    sides = np.stack([split.sides for split in folding.splits])
    assert (sides[:, :5] == "test").all()
    assert not (sides[:, 5:] == "test").any()
    assert sorted(sides[:, 5]) == ["buffer", "validation"], "10 m from a test patch"
    assert sorted(sides[:, 6]) == ["train", "validation"]
    assert list(folding.table["fold"][:5]) == [-1] * 5
    assert sorted(fold_of_zone(folding.table)) == ["E1N0", "E2N0"], "one patch of E1N0 is in the test region"
    assert folding.zones[0].set_index("zone")["fold"]["E0N0"] == -1
    assert summarize(folding.table, folding.splits)["test"] == 5


def test_a_buffer_around_the_test_region_may_leave_no_training():
    patches = patches_at([0, 12, 24])
    settings = zone_settings(2, block_size_m=12, origin_m=[-6, 0], buffer_m=12, test_region=[-5, -5, 5, 5])
    with pytest.raises(FoldError, match=r"all 1 training patches lie within .* of a validation or test patch"):
        fold_patches(patches, settings, np.array([True, False, False]))


def test_random_folds_are_stratified_and_as_large():
    labels = np.array(["a"] * 31 + ["b"] * 7 + ["c"] * 2, dtype=object)
    test = np.arange(40) % 10 == 0
    folds = deal(labels, test, 3, seed=(0, 0))
    assert (folds[test] == -1).all()
    counts = pandas.crosstab(folds[~test], labels[~test]).to_numpy()
    assert (counts.max(axis=0) - counts.min(axis=0)).max() <= 1
    assert np.ptp(counts.sum(axis=1)) <= 1
    assert (deal(labels, test, 3, seed=(1, 0)) != folds).any()
    split = random_split(folds, 1, 15, seed=(0, 0, 1))
    assert int(split.train.sum()) == 15
    np.testing.assert_array_equal(split.validation, folds == 1)
    np.testing.assert_array_equal(split.sides == "test", test)
    assert int(random_split(folds, 1, 99, seed=(0, 0, 1)).train.sum()) == int((folds != 1).sum() - test.sum())
    assert (random_split(folds, 1, 15, seed=(0, 0, 2)).train != split.train).any()


def test_what_is_sound_but_poor_is_told():
    patches = patches_at(100.0 * np.arange(8), labels=list("aaaaaaab"))
    folding = fold_patches(patches, zone_settings(2, block_size_m=100, assignment="group"), np.zeros(8, dtype=bool))
    told = cautions(folding, zone_settings(2, block_size_m=100, assignment="group"))
    assert told[0] == "zones with class b: 1, fewer than folds: the fold that validates it has not learned it"
    assert len(told) == 1
    flags = [flag for fold in summarize(folding.table, folding.splits)["folds"].values() for flag in fold["flags"]]
    assert (flags.count("class_missing_train"), flags.count("tiny_test")) == (1, 2)
    moving = zone_settings(2, kind="kmeans", **KINDS["kmeans"])
    assert cautions(folding, moving)[0].startswith("zones.kind: kmeans: new patches move every zone")


def test_an_index_that_is_absent_or_of_another_version_is_refused(tmp_path):
    with pytest.raises(FoldError, match=r"index\.json: not found, so there are no folds for this zones\.k; run `dvc"):
        read_index(tmp_path)
    write_json(tmp_path / "index.json", {"k": 2, "folds": [0, 1], "digests": {}})
    with pytest.raises(FoldError, match=r"index\.json: has digests, folds, k: another version of Landfold wrote it"):
        read_index(tmp_path)


def test_a_model_of_another_split_is_refused(good, tmp_path):
    index = read_index(good[0])
    index.check_card(tmp_path / "model.json", 1, index.digests["1"])
    with pytest.raises(FoldError, match=r"model\.json: fold 1 is stale: it was trained on split 0{12}, .*train@1`"):
        index.check_card(tmp_path / "model.json", 1, "0" * 64)
