import dataclasses
import re

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
from landfold.folds.check import _close_pairs, check_folds, check_splits
from landfold.folds.lists import column
from landfold.folds.split import FoldError, Split, overlaps
from landfold.folds.zones import ZoneError, in_test_region
from tests.factories import CRS_UTM33, footprint_table, read_json
from tests.folds.layouts import KINDS, ground, write_and_check, zone_settings


@given(
    st.integers(0, 10_000),
    st.integers(2, 4),
    st.sampled_from(sorted(KINDS)),
    st.sampled_from(["stratified", "group", "balanced"]),
    st.sampled_from(["buffer", "merge"]),
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
        if settings.overlaps == "merge":
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
        ("patches", {"zone": ["E0N0", "E0N0", "E4N0", "E6N0"]}, "fold_0.parquet has other zones"),
        ("patches", {"patch": list("wxyz")}, "patches.parquet lists other patches"),
        ("patches", {"fold": [-1, 1, 0, 1]}, "patches.parquet: its test patches are not those of the region"),
        ("fold_0", {"patch": list("wxyz")}, "fold_0.parquet lists other patches"),
        ("fold_0", {"zone": "E0N0"}, "fold_0.parquet has other zones"),
        ("fold_0", {"side": [V, T, T, T]}, "fold 0 validates the patches of another"),
        ("fold_0", {"side": [V, V, V, T]}, "fold 0 validates the patches of another"),
        ("fold_0", {"side": [V, "both", V, T]}, "fold_0.parquet: 1 patches have no role"),
        ("fold_0", {"side": [V, "test", V, T]}, "fold 0: its test patches are not those of the region"),
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


SPLITS = {  # four patches, two folds, the first two zones in fold 0
    "good": [[V, V, T, T], [T, T, V, V]],
    "fold 0 validates the patches of another": [[V, V, V, T], [T, T, V, V]],
    "fold 1: its test patches are not those of the region": [[V, V, T, T], [T, "test", V, V]],
}


@pytest.mark.parametrize("message", SPLITS)
def test_splits_in_memory_are_proved_by_the_same_rules(message):
    splits = [Split.of_roles(np.array(roles)) for roles in SPLITS[message]]
    zones, folds, places = np.array(list("abcd")), np.array([0, 0, 1, 1]), shapely.points([0, 1, 5, 6], 0)
    if message != "good":
        with pytest.raises(FoldError, match=f"{message}; this is a fault of Landfold"):
            check_splits(splits, zones, folds, places, 0)
        return
    check_splits(splits, zones, folds, places, 3.9)
    both = [dataclasses.replace(split, buffer=split.train) for split in splits]
    for changed, message in (
        ({"zones": zones[[0, 1, 1, 3]]}, "zone b is in 2 folds"),
        ({"buffer_m": 4}, "fold 0: 1 pairs of training and held-out footprints"),
        ({"footprints": places[[0, 2, 2, 3]]}, "fold 0: 1 pairs of training and held-out footprints share ground"),
        ({"splits": both}, "fold 0: 2 patches have two roles"),
    ):
        with pytest.raises(FoldError, match=message):
            check_splits(
                **{"splits": splits, "zones": zones, "folds": folds, "footprints": places, "buffer_m": 0} | changed
            )


@given(st.integers(0, 10_000), st.sampled_from([0.0, 3.0, 40.0]))
@hypothesis_settings(max_examples=40, deadline=None)
def test_close_pairs_of_any_sizes_are_counted(seed, buffer_m):
    """Points, lines and polygons of a metre to a kilometre, some of them twice."""
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 300, (2, 40)) + np.array([[4e5], [58e5]])
    size = np.where(rng.random((2, 40)) < 0.4, 0, 10 ** rng.uniform(-1, 2.5, (2, 40)))
    shapes = [
        shapely.box(a, b, a + w, b + h) if w and h else shapely.LineString([(a, b), (a + w, b + h)]) if w or h
        else shapely.Point(a, b)
        for a, b, w, h in zip(x, y, *size, strict=True)
    ]  # fmt: skip
    train, held_out = np.array(shapes[:20], dtype=object), np.array([*shapes[20:], shapes[0]], dtype=object)
    one, other = (part.ravel() for part in np.meshgrid(train, held_out))
    near = shapely.distance(one, other) <= buffer_m if buffer_m else overlaps(one, other)
    assert _close_pairs(train, held_out, buffer_m) == near.sum()


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
