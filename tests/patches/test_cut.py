import geopandas
import numpy as np
import pandas
import pytest
import shapely
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from landfold.core.settings import SettingsError, validate
from landfold.geo.raster import Raster
from landfold.patches.cut import (
    DROP_REASONS,
    PatchError,
    _sums,
    check_classes,
    concat_patches,
    cut_patches,
    patch_summary,
)
from landfold.patches.labels.scenes import SceneClasses
from landfold.patches.labels.vectors import LabelPoints, LabelPolygons
from landfold.patches.settings import PatchSettings
from tests.factories import CRS_UTM33, ORIGIN_X, ORIGIN_Y, box, make_grid, params, write_raster


def patch_settings(**changes):
    return validate(params()["patches"] | changes, PatchSettings, where="patches")


def polygons(*shapes):
    """Polygons of classes 1, 2, ... in the order in which they are burned."""
    numbers, geometry = zip(*shapes, strict=True)
    table = geopandas.GeoDataFrame({"label": np.array(numbers, np.uint8)}, geometry=list(geometry), crs=CRS_UTM33)
    return LabelPolygons(table, ["field", "water"])


HALVES = polygons((1, box(0, 0, 300, 500)), (2, box(300, 0, 600, 500)))


def cut(tmp_path, labels=HALVES, *, valid=None, shape=(50, 60), **changes):
    valid = np.ones(shape, dtype=bool) if valid is None else valid
    path = write_raster(tmp_path / "s.tif", {"R": np.ones(valid.shape, np.uint16)}, valid=valid)
    with Raster.open(path) as source:
        return cut_patches("s", source, labels, patch_settings(**changes), CRS_UTM33)


def test_a_hand_made_scene_gives_exactly_these_patches(tmp_path):
    """16 px windows each 8 px on 50 x 60 px: rows 0..32, columns 0..40; cores start 4 px in."""
    found = cut(tmp_path)
    table = found.table
    assert found.windows == 5 * 6
    assert found.dropped == {"small": 0, "invalid": 0, "unlabelled": 0, "impure": 0}
    assert sorted(set(table["row"])) == [0, 8, 16, 24, 32]
    assert sorted(set(table["column"])) == [0, 8, 16, 24, 32, 40]
    # the border of the classes is at column 30: cores are columns 4-12, 12-20, 20-28, 28-36, 36-44, 44-52
    first_row = table[table["row"] == 0]
    assert list(first_row["label"]) == ["field", "field", "field", "water", "water", "water"]
    assert list(first_row["purity"]) == [1, 1, 1, 0.75, 1, 1]
    assert (table["valid"] == 1).all()
    assert list(table["patch"][:2]) == ["s/0/0", "s/0/8"]
    assert (table["size_px"] == 16).all()
    assert list(table.columns) == [
        *("patch", "scene", "row", "column", "size_px", "label", "purity", "valid", "x", "y", "geometry")
    ]


def test_footprints_and_centres_are_right_to_the_pixel(tmp_path):
    table = cut(tmp_path).table
    row = table[table["patch"] == "s/24/40"].iloc[0]
    assert row.geometry.equals(box(400, 240, 560, 400))
    assert (row.x, row.y) == (ORIGIN_X + 480, ORIGIN_Y - 320)
    assert table.crs == CRS_UTM33
    assert (shapely.area(table.geometry.values) == 160.0**2).all()


def test_a_window_that_would_reach_over_the_edge_is_none(tmp_path):
    found = cut(tmp_path, stride_px=11)  # the last that fit: rows 0..33 of 34, columns 0..44 of 44
    assert found.windows == 4 * 5
    assert found.table["column"].max() == 44
    assert found.table["row"].max() == 33


def test_a_tie_goes_to_the_class_listed_first(tmp_path):
    labels = polygons((2, box(0, 0, 80, 500)), (1, box(80, 0, 600, 500)))
    found = cut(tmp_path, labels)  # the first core is columns 4..11: half of it is left of column 8
    first = found.table[found.table["column"] == 0]
    assert set(first["label"]) == {"field"}
    assert set(first["purity"]) == {0.5}


@pytest.mark.parametrize(("min_purity", "impure"), [(0.75, 0), (0.76, 5)])
def test_purity_exactly_at_the_threshold_is_kept(tmp_path, min_purity, impure):
    found = cut(tmp_path, min_purity=min_purity)
    assert found.dropped == {"small": 0, "invalid": 0, "unlabelled": 0, "impure": impure}


def test_the_label_is_that_of_the_core_alone(tmp_path):
    labels = polygons((1, box(0, 0, 600, 500)), (2, box(0, 0, 600, 40)), (2, box(0, 0, 40, 500)))
    first = cut(tmp_path, labels).table.iloc[0]  # its margin is water above and to the left
    assert (first["label"], first["purity"]) == ("field", 1.0)
    assert cut(tmp_path, labels, core_px=16).table.iloc[0]["purity"] == 144 / 256


@pytest.mark.parametrize("percent", range(1, 100))
def test_a_share_of_nodata_exactly_at_the_threshold_is_kept(tmp_path, percent):
    valid = np.ones((10, 23), dtype=bool)
    valid[:, :10] = (np.arange(100) >= percent).reshape(10, 10)
    scale = {"size_px": 10, "core_px": 2, "stride_px": 10}
    at = cut(tmp_path, valid=valid, max_invalid=percent / 100, **scale)
    assert at.dropped["invalid"] == 0
    assert at.table["valid"][0] == (100 - percent) / 100
    if percent > 1:
        assert cut(tmp_path, valid=valid, max_invalid=percent / 100 - 0.001, **scale).dropped["invalid"] == 1


def test_reasons_are_counted_in_their_order_and_add_up(tmp_path):
    labels = polygons((1, box(0, 0, 200, 500)), (2, box(300, 100, 330, 400)))
    valid = np.ones((50, 60), dtype=bool)
    valid[:20, :20] = False  # ground that is labelled too: invalid comes first
    valid[40:, 50:] = False  # ground without label: invalid all the same
    found = cut(tmp_path, labels, valid=valid)
    classes = np.zeros((50, 60), dtype=np.uint8)
    classes[:, :20], classes[10:40, 30:33] = 1, 2
    fates = dict.fromkeys([*DROP_REASONS, "kept"], 0)
    for row, column in ((row, column) for row in range(0, 35, 8) for column in range(0, 45, 8)):
        core = classes[row + 4 : row + 12, column + 4 : column + 12]
        share = max((core == 1).mean(), (core == 2).mean())
        if (~valid[row : row + 16, column : column + 16]).mean() > 0.2:
            fates["invalid"] += 1
        elif share == 0:
            fates["unlabelled"] += 1
        else:
            fates["impure" if share < 0.5 else "kept"] += 1
    assert found.dropped | {"kept": len(found.table)} == fates
    assert fates.pop("small") == 0
    assert min(fates.values()) > 0
    assert found.windows == len(found.table) + sum(found.dropped.values())
    assert tuple(found.dropped) == DROP_REASONS


@pytest.mark.parametrize("shape", [(10, 60), (50, 10), (10, 10)])
def test_a_scene_smaller_than_a_window_is_dropped_and_counted_as_one(tmp_path, shape):
    found = cut(tmp_path, shape=shape)
    assert found.windows == 1
    assert found.dropped == {"small": 1, "invalid": 0, "unlabelled": 0, "impure": 0}
    assert len(found.table) == 0
    assert list(found.table.columns) == list(cut(tmp_path).table.columns)
    with pytest.raises(PatchError, match=r"no patch is left: every scene is smaller than patches\.size_px"):
        check_classes(found.table, ["field", "water"])


def test_a_scene_of_one_window_gives_one_patch(tmp_path):
    assert list(cut(tmp_path, shape=(16, 16)).table["patch"]) == ["s/0/0"]


def points(*found):
    """Points of (class, metres east, metres south)."""
    numbers, east, south = (np.array(part) for part in zip(*found, strict=True))
    shapes = shapely.points(ORIGIN_X + east, ORIGIN_Y - south)
    table = geopandas.GeoDataFrame({"label": numbers.astype(np.uint8)}, geometry=shapes, crs=CRS_UTM33)
    return LabelPoints(table, ["field", "water"])


def test_a_core_takes_the_class_of_most_points_in_it(tmp_path):
    """Cores of 8 px, 8 px apart: columns 4-12, 12-20, ..., rows 4-12, ...: no point is in two of them."""
    labels = points(
        (1, 45, 45), (1, 119, 119), (2, 60, 60),  # core 0/0: two of three agree
        (2, 120, 45), (2, 125, 45),  # core 0/8: on its left border, and beside it
        (1, 205, 45), (2, 206, 45),  # core 0/16: a tie
        (1, 35, 35), (1, 45, 475), (1, 595, 45),  # in no core: in margins of windows alone
    )  # fmt: skip
    found = cut(tmp_path, labels)
    table = found.table
    assert list(table["patch"]) == ["s/0/0", "s/0/8"]
    assert list(table["label"]) == ["field", "water"]
    assert list(table["purity"]) == [2 / 3, 1]
    assert found.dropped == {"small": 0, "invalid": 0, "unlabelled": 27, "impure": 1}
    assert len(cut(tmp_path, labels, min_purity=0.7).table) == 1


def test_a_tie_of_points_is_impure_however_low_the_purity_asked_for(tmp_path):
    found = cut(tmp_path, points((1, 45, 45), (2, 46, 45), (1, 45, 125)), min_purity=0.1)
    assert list(found.table["patch"]) == ["s/8/0"]
    assert found.dropped["impure"] == 1


def test_a_point_is_in_every_core_that_covers_it(tmp_path):
    found = cut(tmp_path, points((2, 85, 85)), core_px=16)
    assert list(found.table["patch"]) == ["s/0/0", "s/0/8", "s/8/0", "s/8/8"]
    assert set(found.table["purity"]) == {1.0}


def test_a_tile_of_the_windows_size_with_one_class_is_one_patch(tmp_path):
    labels = SceneClasses({"s": 2}, ["field", "water"])
    found = cut(tmp_path, labels, shape=(64, 64), size_px=64, core_px=64, stride_px=64)
    assert list(found.table["patch"]) == ["s/0/0"]
    assert (found.table["label"][0], found.table["purity"][0]) == ("water", 1)
    assert found.table.geometry[0].equals(box(0, 0, 640, 640))
    assert found.windows == 1
    assert cut(tmp_path, labels, shape=(63, 64), size_px=64, core_px=64, stride_px=64).dropped["small"] == 1


def test_every_patch_of_a_scene_has_the_scenes_class(tmp_path):
    found = cut(tmp_path, SceneClasses({"s": 1, "t": 2}, ["field", "water"]))
    assert len(found.table) == found.windows == 30
    assert set(found.table["label"]) == {"field"}
    assert cut(tmp_path, SceneClasses({"s": 0}, ["field", "water"])).dropped["unlabelled"] == 30


def zoned(*shapes):
    """Polygons of (class, place of the zone value, shape), the larger first, as they are burned."""
    numbers, places, geometry = zip(*shapes, strict=True)
    table = geopandas.GeoDataFrame(
        {"label": np.array(numbers, np.uint8), "zone_value": places}, geometry=list(geometry), crs=CRS_UTM33
    )
    return LabelPolygons(table, ["field", "water"], zone_values=("east", "west", None))


def test_a_patch_has_the_zone_value_of_most_of_its_core(tmp_path):
    """Cores are columns 4-12, 12-20, ..., 44-52; the border of the values is at column 30, of the last at 46."""
    labels = zoned((1, 2, box(0, 0, 300, 500)), (1, 1, box(300, 0, 460, 500)), (1, 3, box(460, 0, 600, 500)))
    table = cut(tmp_path, labels).table
    first = table[table["row"] == 0]
    assert list(first["zone_value"][:5]) == ["west", "west", "west", "east", "east"]
    assert list(table["column"][table["zone_value"].isna()].unique()) == [40]
    assert list(table.columns)[8:] == ["x", "y", "zone_value", "geometry"]
    assert "zone_value" not in cut(tmp_path).table


def test_a_tie_of_zone_values_goes_to_the_first_and_ground_without_label_has_no_vote(tmp_path):
    tie = zoned((1, 2, box(0, 0, 80, 500)), (1, 1, box(80, 0, 600, 500)))
    assert cut(tmp_path, tie).table["zone_value"][0] == "east"
    lone = zoned((1, 2, box(40, 0, 60, 500)))  # a quarter of the first core
    found = cut(tmp_path, lone, min_purity=0.2).table
    assert set(found["zone_value"]) == {"west"}
    assert set(found["column"]) == {0}


def test_a_class_without_patch_is_refused_by_name(tmp_path):
    table = cut(tmp_path, polygons((1, box(0, 0, 600, 500)), (2, box(0, 0, 30, 30)))).table
    check_classes(table, ["field"])
    with pytest.raises(PatchError, match=r"no patch of class water: lower patches\.min_purity"):
        check_classes(table, ["field", "water"])


def test_the_summary_adds_scenes_up(tmp_path):
    one, two, tiny = cut(tmp_path), cut(tmp_path, shape=(16, 60), min_purity=0.9), cut(tmp_path, shape=(9, 9))
    streams = {str(i): part.to_arrow() for i, part in enumerate((one, two, tiny))}
    whole, _ = concat_patches(streams, CRS_UTM33)
    assert patch_summary(whole, ["field", "water"]) == {
        "windows": 37,
        "kept": 35,
        "dropped": {"small": 1, "invalid": 0, "unlabelled": 0, "impure": 1},
        "classes": {"field": 18, "water": 17},
    }


@pytest.mark.parametrize(
    "change", [{"size_px": 18}, {"core_px": 6}, {"stride_px": 9}, {"min_purity": 1.0}, {"max_invalid": 0.0}]
)
def test_every_setting_changes_the_patches(tmp_path, change):
    valid = np.ones((50, 60), dtype=bool)
    valid[0, 0] = False
    before, after = cut(tmp_path, valid=valid).table, cut(tmp_path, valid=valid, **change).table
    assert not before.drop(columns="geometry").equals(after.drop(columns="geometry"))


@given(st.integers(1, 30), st.integers(1, 40), st.integers(1, 30), st.integers(0, 2**32 - 1))
@hypothesis_settings(max_examples=60, deadline=None)
def test_window_sums_are_those_of_each_window(height, width, size, seed):
    mask = np.random.default_rng(seed).random((height, width + size)) < 0.5
    starts = np.arange(0, width + 1, 3)
    expected = [mask[:, start : start + size].sum() for start in starts]
    np.testing.assert_array_equal(_sums(mask.sum(axis=0), starts, size), expected)
    by_row = [[row[start : start + size].sum() for start in starts] for row in mask]
    np.testing.assert_array_equal(_sums(mask, starts, size), by_row)


@pytest.mark.parametrize("change", [{"core_px": 17}, {"core_px": 7}, {"core_px": 18}])
def test_a_core_that_is_not_central_is_refused(change):
    with pytest.raises(SettingsError, match="patches: core_px must be at most size_px and differ from it by an even"):
        patch_settings(**change)


def test_patches_of_all_scenes_become_one_table(tmp_path):
    grid = make_grid(40, 60)
    values = {"R": np.ones(grid.shape, np.uint16)}
    labels = SceneClasses({"a": 1, "b": 2, "tiny": 1}, ["field", "water"])
    settings = PatchSettings(size_px=16, core_px=8, stride_px=8, min_purity=0.5, max_invalid=0.2)
    found = {}
    for scene, shape in (("tiny", (9, 60)), ("a", grid.shape), ("b", grid.shape)):
        part = {name: numbers[: shape[0]] for name, numbers in values.items()}
        with Raster.open(write_raster(tmp_path / f"{scene}.tif", part, grid=make_grid(*shape))) as raster:
            found[scene] = cut_patches(scene, raster, labels, settings, CRS_UTM33)
    whole, small = concat_patches({scene: part.to_arrow() for scene, part in found.items()}, CRS_UTM33)
    expected = pandas.concat([part.table for part in found.values() if len(part.table)], ignore_index=True)
    pandas.testing.assert_frame_equal(whole.table, expected)
    assert whole.table.crs == CRS_UTM33
    assert small == ["tiny"]
    assert (whole.windows, whole.dropped["small"]) == (2 * 4 * 6 + 1, 1)
    none, _ = concat_patches({"tiny": found["tiny"].to_arrow()}, CRS_UTM33)
    assert (len(none.table), none.table.crs) == (0, CRS_UTM33)
