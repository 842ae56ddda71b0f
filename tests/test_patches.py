import geopandas
import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from landfold.labels import LabelPolygons
from landfold.patches import (
    DROP_REASONS,
    PatchError,
    PatchSettings,
    _sums,
    check_classes,
    cut_patches,
    summarize,
)
from landfold.raster import Raster
from landfold.settings import SettingsError, validate
from tests.factories import CRS_UTM33, ORIGIN_X, ORIGIN_Y, box, params, write_raster


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
    assert found.dropped == {"invalid": 0, "unlabelled": 0, "impure": 0}
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
    assert found.dropped == {"invalid": 0, "unlabelled": 0, "impure": impure}


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
    assert min(fates.values()) > 0
    assert found.windows == len(found.table) + sum(found.dropped.values())
    assert tuple(found.dropped) == DROP_REASONS


@pytest.mark.parametrize("shape", [(10, 60), (50, 10), (10, 10)])
def test_a_scene_smaller_than_a_window_gives_no_patch(tmp_path, shape):
    found = cut(tmp_path, shape=shape)
    assert found.windows == 0
    assert len(found.table) == 0
    assert list(found.table.columns) == list(cut(tmp_path).table.columns)
    with pytest.raises(PatchError, match="no patch is left: the labels meet no scene"):
        check_classes(found.table, ["field", "water"])


def test_a_scene_of_one_window_gives_one_patch(tmp_path):
    assert list(cut(tmp_path, shape=(16, 16)).table["patch"]) == ["s/0/0"]


def test_a_class_without_patch_is_refused_by_name(tmp_path):
    table = cut(tmp_path, polygons((1, box(0, 0, 600, 500)), (2, box(0, 0, 30, 30)))).table
    check_classes(table, ["field"])
    with pytest.raises(PatchError, match=r"no patch of class water: lower patches\.min_purity"):
        check_classes(table, ["field", "water"])


def test_the_summary_adds_scenes_up(tmp_path):
    one, two = cut(tmp_path), cut(tmp_path, shape=(16, 60), min_purity=0.9)
    assert summarize([one, two], ["field", "water"]) == {
        "windows": 36,
        "kept": 35,
        "dropped": {"invalid": 0, "unlabelled": 0, "impure": 1},
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
    np.testing.assert_array_equal(_sums(mask, starts, size), expected)


@pytest.mark.parametrize("change", [{"core_px": 17}, {"core_px": 7}, {"core_px": 18}])
def test_a_core_that_is_not_central_is_refused(change):
    with pytest.raises(SettingsError, match="patches: core_px must be at most size_px and differ from it by an even"):
        patch_settings(**change)
