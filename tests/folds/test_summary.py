import numpy as np

from landfold.folds.assignment import fold_patches
from landfold.folds.lists import CrossValidationFolds
from landfold.folds.summary import fold_flags, fold_summary, fold_warnings
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
    folding = fold_patches(patches, zone_settings(2, block_size_m=100, assignment="group"), np.zeros(8, dtype=bool))
    told = fold_warnings(folding, zone_settings(2, block_size_m=100, assignment="group"))
    assert told[0] == "zones with class b: 1, fewer than folds: the fold that validates it has not learned it"
    assert len(told) == 1
    flags = [flag for fold in fold_summary(folding)["folds"].values() for flag in fold["flags"]]
    assert (flags.count("class_missing_train"), flags.count("tiny_test")) == (1, 2)
    moving = zone_settings(2, kind="kmeans", **KINDS["kmeans"])
    assert fold_warnings(folding, moving)[0].startswith("zones.kind: kmeans: new patches move every zone")
