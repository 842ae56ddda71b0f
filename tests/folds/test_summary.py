import numpy as np
import shapely

from landfold.folds.assignment import fold_patches
from landfold.folds.lists import CrossValidationFolds
from landfold.folds.summary import fold_flags, fold_summary, fold_warnings
from tests.factories import CRS_UTM33
from tests.folds.layouts import KINDS, folded, patches_at, splits_of, zone_settings


def test_the_summary_counts_each_side_and_class():
    settings = zone_settings(3, block_size_m=100, buffer_m=5)
    table = folded(1, settings)
    found = fold_summary(CrossValidationFolds(table, splits_of(table, settings), [], [None]))
    assert found["k"] == 3
    assert found["zones"] == table["zone"].nunique()
    for fold in found["folds"].values():
        assert fold["train"] + fold["validation"] + fold["buffer"] == len(table)
        assert sum(fold["classes"].values()) == fold["validation"]
    for name in "abc":
        assert sum(fold["classes"][name] for fold in found["folds"].values()) == (table["label"] == name).sum()


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


def test_what_is_sound_but_poor_is_told():
    patches = patches_at(100.0 * np.arange(8), labels=list("aaaaaaab"))
    settings = zone_settings(2, block_size_m=100, origin_m=[50, 50], assignment="group")
    folding = fold_patches(patches, settings, np.zeros(8, dtype=bool))
    told = fold_warnings(folding, settings)
    assert told[0] == "zones with class b: 1, fewer than folds: the fold that validates it has not learned it"
    assert len(told) == 1
    flags = [flag for fold in fold_summary(folding)["folds"].values() for flag in fold["flags"]]
    assert (flags.count("class_missing_train"), flags.count("tiny_test")) == (1, 2)
    moving = zone_settings(2, kind="kmeans", **KINDS["kmeans"])
    assert fold_warnings(folding, moving)[0].startswith("zones.kind: kmeans: new patches move every zone")


def squares(left, bottom):
    x, y = (part.ravel() for part in np.meshgrid(left + 10.0 * np.arange(12), bottom + 10.0 * np.arange(6)))
    return patches_at(x, y=y, labels=["a", "b"] * 36).set_geometry(shapely.box(x, y, x + 10, y + 10), crs=CRS_UTM33)


def border_warnings(patches, **changes):
    settings = zone_settings(2, block_size_m=40, assignment="group", **changes)
    told = fold_warnings(fold_patches(patches, settings, np.zeros(len(patches), dtype=bool)), settings)
    return [message for message in told if "across" in message]


def test_patches_across_borders_are_told_with_the_blocks_that_leave_none():
    """3 of 12 columns and 1 of 6 rows are across: 3 * 6 + 12 - 3."""
    patches = squares(500_003, 5_800_006)
    assert border_warnings(patches) == [
        "27 of 72 patches lie across a border of two blocks; zones.block_size_m: 40 and zones.origin_m: [3, 6] leave 0"
    ]
    assert border_warnings(patches, origin_m=[3, 6]) == []
    assert border_warnings(patches, kind="hexagon") == [], "no origin of hexagons is on the corners of squares"


def test_patches_of_no_common_lattice_are_not_told_of_one():
    rng = np.random.default_rng(0)
    x, y = 10 * rng.random((2, 72)) + squares(500_000, 5_800_000)[["x", "y"]].to_numpy().T
    patches = squares(500_000, 5_800_000).set_geometry(shapely.box(x, y, x + 10, y + 10), crs=CRS_UTM33)
    assert border_warnings(patches) == []
