import json

import numpy as np
import pandas
import pytest

from landfold.core.files import write_json
from landfold.scores.calibration import HeldOutProbabilities
from landfold.scores.pixel_scores import pixel_scores, pixel_summary
from landfold.scores.pixels import HeldOutPixels, read_pixels
from landfold.scores.predictions import EvaluationError
from landfold.scores.tables import plot_tables

CLASSES = ["water", "farm"]
COLUMNS = ["zone", "boundary", "label", "predicted", "pixels", "split"]
BY_ZONE = pandas.DataFrame({"zone": ["a", "b", "c"], "distance_m": [100.0, 200.0, 300.0]})


def counts(*rows, split="zones"):
    """Rows (zone, boundary, label, predicted, pixels) as pixels.parquet has them."""
    full = [(*row, split) for row in rows]
    return pandas.DataFrame(full, columns=COLUMNS)


SPATIAL = {
    0: counts(
        ("a", False, "water", "water", 60),
        ("a", True, "water", "farm", 20),
        ("b", False, "farm", "farm", 10),
        ("b", True, "farm", "water", 10),
    ),
    1: counts(("c", False, "farm", "farm", 80), ("c", True, "farm", "farm", 20)),
}
"""200 pixels in three zones, of which fold 0 holds out a and b; 30 are wrong, all at a boundary."""

RANDOM = {
    fold: pandas.concat(
        [
            counts(("a", False, "water", "water", 8), ("", False, "water", "farm", 5), split="random pixels"),
            counts(
                ("b", False, "farm", "farm", 9),
                ("c", False, "farm", "water", 1),
                ("elsewhere", False, "farm", "water", 7),
                split="random patches",
            ),
        ]
    )
    for fold in (0, 1)
}


def sample(fold, count):
    """A sample of the pixels of a fold as pixel_sample.parquet has it: twice too sure."""
    generator = np.random.default_rng(fold)
    water = generator.random(count).astype(np.float32)
    label = np.where(generator.random(count) < water, "water", "farm")
    sure = water**2 / (water**2 + (1 - water) ** 2)
    zone = np.array([["a", "b"], ["c", "c"]][fold])[np.arange(count) % 2]
    return pandas.DataFrame({"zone": zone, "label": label, "p_water": sure, "p_farm": 1 - sure})


@pytest.fixture
def folder(tmp_path):
    """Two folds of a network of pixels, trained under random folds, too."""
    (tmp_path / "folds").mkdir()
    lists = {"fold": SPATIAL, "random": RANDOM}
    index = {"k": 2, "repeats": 1, "folds": [0, 1], "digests": {}, "random_digests": {}}
    write_json(tmp_path / "folds/index.json", index)
    assigned = {"patch": list("pqr"), "zone": list("abc"), "fold": [0, 0, 1]}
    pandas.DataFrame(assigned).to_parquet(tmp_path / "folds/patches.parquet")
    for kind, tables in lists.items():
        for fold, table in tables.items():
            write(tmp_path, table, fold, kind)
    for fold in (0, 1):
        write(tmp_path, sample(fold, 100), fold, name="pixel_sample")
    return tmp_path


def write(folder, table, fold=0, kind="fold", name="pixels"):
    path = folder / kind / f"fold_{fold}"
    path.mkdir(parents=True, exist_ok=True)
    table.to_parquet(path / f"{name}.parquet", index=False)


def read(folder):
    return read_pixels(folder / "fold", folder / "random", folder / "folds", CLASSES, folder / "audit")


def scored(folder):
    return pixel_scores(read(folder), BY_ZONE)


def test_pixels_are_counted_by_zone(folder):
    pixels = read(folder)
    (zones,) = pixels.zone_confusions(pixels.spatial)
    np.testing.assert_array_equal(zones, [[[60, 20], [0, 0]], [[0, 0], [10, 10]], [[0, 0], [0, 100]]])
    np.testing.assert_array_equal(pixels.fold_confusions(), [[[60, 20], [10, 10]], [[0, 0], [0, 100]]])


def test_random_pixels_of_other_ground_than_the_zones_are_left_out(folder):
    pixels = read(folder)
    (zones,) = pixels.zone_confusions(pixels.of_split("random pixels"))
    np.testing.assert_array_equal(zones, [[[16, 0], [0, 0]], np.zeros((2, 2)), np.zeros((2, 2))])
    (zones,) = pixels.zone_confusions(pixels.of_split("random patches"))
    np.testing.assert_array_equal(zones, [np.zeros((2, 2)), [[0, 0], [0, 18]], [[0, 0], [2, 0]]])


def test_scores_are_those_of_the_counts(folder):
    found = scored(folder)
    assert (found["count"], found["zones"]) == (200, 3)
    assert found["confusion"] == [[60, 20], [10, 110]]
    accuracy = found["headline"]["accuracy"]
    assert accuracy["pooled"] == 0.85
    assert accuracy["low"] < 0.85 < accuracy["high"]
    assert found["headline"]["balanced_accuracy"]["pooled"] == round((60 / 80 + 110 / 120) / 2, 4)
    assert found["headline"]["macro_f1"]["pooled"] == round((120 / 150 + 220 / 250) / 2, 4)
    water, farm = found["per_class"]
    assert (water["class"], water["support"], farm["support"]) == ("water", 80, 120)
    assert water["precision"]["pooled"] == round(60 / 70, 4)
    assert water["recall"] == {"pooled": 0.75, "low": 0.0057, "high": 1.0}, "it is in one zone alone"
    assert found["per_fold"] == [
        {"fold": 0, "repeat": 0, "pixels": 100, "accuracy": 0.7, "balanced_accuracy": 0.625, "macro_f1": 0.6}
        | {"macro_f1": round((120 / 150 + 20 / 50) / 2, 4)},
        {"fold": 1, "repeat": 0, "pixels": 100, "accuracy": 1.0, "balanced_accuracy": 1.0, "macro_f1": 1.0},
    ]
    assert found["per_zone"] == [
        {"zone": "a", "fold": 0, "pixels": 80, "accuracy": 0.75, "distance_m": 100.0},
        {"zone": "b", "fold": 0, "pixels": 20, "accuracy": 0.5, "distance_m": 200.0},
        {"zone": "c", "fold": 1, "pixels": 100, "accuracy": 1.0, "distance_m": 300.0},
    ]
    assert found["zone_summary"]["worst"]["zone"] == "b", "no zone has the least number of pixels"
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_pixels_at_boundaries_and_others_are_scored_apart(folder):
    found = scored(folder)
    assert found["interior"]["pixels"] == 150
    zones = 150**2 / (60**2 + 10**2 + 80**2)
    assert found["interior"]["accuracy"] == {"pooled": 1.0, "low": round(0.025 ** (1 / zones), 4), "high": 1.0}
    assert found["boundary"]["pixels"] == 50
    assert found["boundary"]["accuracy"]["pooled"] == 0.4


def test_labels_without_an_interior_have_no_score_of_it(folder):
    for fold, table in SPATIAL.items():
        write(folder, table.assign(boundary=True), fold)
    found = scored(folder)
    assert found["boundary"]["accuracy"] == found["headline"]["accuracy"]
    none = {"pooled": None, "low": None, "high": None}
    assert found["interior"] == {"pixels": 0, "accuracy": none, "balanced_accuracy": none, "macro_f1": none}


def test_calibration_is_of_the_sample(folder):
    for fold in (0, 1):
        write(folder, sample(fold, 2000), fold, name="pixel_sample")
    found = scored(folder)["calibration"]
    assert [fold["temperature"] for fold in found["fitted"]["folds"]] == pytest.approx([2, 2], rel=0.15)
    assert found["after"]["ece"] < 0.04 < found["before"]["ece"]
    assert found["sets"]["covered"]["pooled"] == pytest.approx(0.9, abs=0.03)


def test_each_pixel_is_as_likely_to_be_in_the_sample(folder):
    """Fold 0 has kept a tenth of its 100 pixels, so that as many of the 100 of fold 1 count."""
    write(folder, sample(0, 10), 0, name="pixel_sample")
    pixels = read(folder)
    assert pixels.sample.folds.tolist() == [0] * 10 + [1] * 10
    kept = pandas.read_parquet(folder / "fold/fold_1/pixel_sample.parquet").head(10)
    np.testing.assert_array_equal(pixels.sample.probabilities[10:], kept[["p_water", "p_farm"]])
    assert [CLASSES[i] for i in pixels.sample.truth[10:]] == list(kept["label"])
    assert set(pixels.sample.zones[10:]) == {"c"}


@pytest.mark.parametrize("change", [lambda table: table[:0], lambda table: table.drop(columns="p_farm")])
def test_a_sample_of_other_columns_or_without_pixels_is_refused(folder, change):
    write(folder, change(sample(1, 10)), 1, name="pixel_sample")
    with pytest.raises(EvaluationError, match=r"fold_1/pixel_sample\.parquet: expected pixels with zone, label, p_"):
        read(folder)


def test_random_splits_are_compared_with_the_zones(folder):
    found = scored(folder)
    accuracy = {split: (part["pixels"], part["accuracy"]["pooled"]) for split, part in found["splits"].items()}
    assert accuracy == {"zones": (200, 0.85), "random_patches": (20, 0.9), "random_pixels": (16, 1.0)}
    rows = {(row["comparison"], row["score"]): row for row in found["comparisons"]}
    assert len(rows) == 6
    row = rows[("random_patches", "accuracy")]
    assert (row["of"], row["against"]) == ("random patches", "zones")
    assert (row["of_value"], row["against_value"], row["difference"]) == (0.9, 0.85, 0.05)
    assert row["low"] < 0.05 < row["high"]
    assert pixel_summary(found) == {
        "count": 200,
        "accuracy": found["headline"]["accuracy"],
        "macro_f1": found["headline"]["macro_f1"],
        "random": {name: found["splits"]["random_pixels"][name] for name in ("accuracy", "macro_f1")},
        "gap": {
            name: {"pooled": row["difference"], "low": row["low"], "high": row["high"]}
            for name in ("accuracy", "macro_f1")
            for row in [rows[("random_pixels", name)]]
        },
    }


def test_random_patches_are_weighted_to_the_pixels_of_the_zones(folder):
    """Of farm the zones have 90 pixels inside and 30 at a boundary, the patches 9 right ones and 1 wrong one."""
    rows = counts(("a", False, "farm", "farm", 9), ("b", True, "farm", "water", 1), split="random patches")
    for fold in (0, 1):
        write(folder, rows, fold, "random")
    found = scored(folder)["splits"]["random_patches"]
    assert (found["pixels"], found["accuracy"]["pooled"]) == (20, 90 / 120)


def test_random_splits_are_paired_over_the_zones(folder):
    """The same counts in both have no difference, whichever zone is left out: an interval of the number of zones."""
    half = 1 - 0.025 ** ((80**2 + 20**2 + 100**2) / 200**2)
    for fold, table in SPATIAL.items():
        write(folder, table.assign(split="random pixels", boundary=False), fold, "random")
    for row in scored(folder)["comparisons"]:
        assert (row["difference"], row["low"], row["high"]) == (0, pytest.approx(-half, abs=1e-4), -row["low"])


def test_without_random_folds_there_is_one_split(folder):
    for fold in (0, 1):
        (folder / f"random/fold_{fold}/pixels.parquet").unlink()
        write_json(folder / f"random/fold_{fold}/off.json", {"audit.network": False})
    found = scored(folder)
    assert (list(found["splits"]), found["comparisons"]) == (["zones"], [])
    assert set(pixel_summary(found)) == {"count", "accuracy", "macro_f1"}


def test_repeats_are_pooled_one_by_one_and_averaged():
    """The second repeat has other zones, and is wrong in half of its pixels."""
    number = {"water": 0, "farm": 1}
    second = [counts(("x", False, "farm", "water", 50)), counts(("y", True, "farm", "farm", 50))]
    parts = [*SPATIAL.values(), *second]
    table = pandas.concat([part.assign(fold=fold, repeat=fold // 2) for fold, part in enumerate(parts)])
    table = table.assign(**{name: table[name].map(number) for name in ("label", "predicted")})
    probabilities = np.array([[0.8, 0.2], [0.3, 0.7]] * 4)
    folds = np.repeat(np.arange(4), 2)
    held_out = HeldOutProbabilities(probabilities, np.array([0, 1] * 4), folds, folds // 2, np.array(list("abccxxyy")))
    pixels = HeldOutPixels(CLASSES, table, held_out)
    found = pixel_scores(pixels, BY_ZONE)
    assert (found["count"], found["zones"], len(found["per_fold"]), len(found["per_zone"])) == (200, 3, 4, 3)
    assert found["headline"]["accuracy"]["pooled"] == round((0.85 + 0.5) / 2, 4)
    first = pixel_scores(HeldOutPixels(CLASSES, pixels.table[pixels.table["repeat"] == 0], held_out), BY_ZONE)
    assert found["headline"]["accuracy"]["low"] == pytest.approx(first["headline"]["accuracy"]["low"] / 2, abs=1e-4)
    assert found["per_class"][0]["recall"] == first["per_class"][0]["recall"], "no water in the second repeat"
    assert found["per_class"][1]["recall"]["pooled"] == pytest.approx((110 / 120 + 0.5) / 2, abs=1e-4)
    assert np.sum(found["confusion"]) == 300
    assert [row["repeat"] for row in found["per_fold"]] == [0, 0, 1, 1]


def test_plots_are_of_pixels_and_comparisons_of_both(folder):
    pixels = scored(folder)
    patches = {"classes": CLASSES, "comparisons": [dict.fromkeys(pixels["comparisons"][0], 1)]}
    tables = plot_tables(patches | {"pixels": pixels})
    assert list(tables["confusion"]["count"]) == [60, 20, 10, 110]
    assert list(tables["per_class"]["support"]) == [80, 120] * 3
    assert tables["reliability"].groupby("scaled")["count"].sum().to_dict() == {False: 200, True: 200}
    assert list(tables["zones"]) == ["zone", "fold", "pixels", "accuracy", "distance_m"]
    assert list(tables["comparisons"]["comparison"]) == [1] + ["random_patches"] * 3 + ["random_pixels"] * 3


def test_a_network_of_patches_has_no_pixels(folder):
    for fold in (0, 1):
        (folder / f"fold/fold_{fold}/pixels.parquet").unlink()
    assert read(folder) is None


@pytest.mark.parametrize(("kind", "stage"), [("fold", "train"), ("random", "random")])
def test_every_fold_has_to_have_them(folder, kind, stage):
    (folder / f"{kind}/fold_1/pixels.parquet").unlink()
    with pytest.raises(EvaluationError, match=rf"fold_1/pixels.parquet: not found, so fold 1 is .*{stage}@1"):
        read(folder)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"label": "lava"}, "fold 0 has the class lava, which its model.json does not list"),
        ({"predicted": "lava"}, "fold 0 has the class lava"),
        ({"zone": "c"}, r"100 pixels lie in zones that fold 0 does not hold out \(such as c\)"),
        ({"zone": ""}, r"100 pixels lie in zones that fold 0 does not hold out \(such as no zone\)"),
        ({"split": "random pixels"}, "expected the split zones, found random pixels"),
        ({"pixels": 0}, "expected 1 or more pixels in each row, found others in 4 rows"),
    ],
)
def test_counts_that_are_not_of_the_fold_are_refused(folder, change, fault):
    write(folder, SPATIAL[0].assign(**change))
    with pytest.raises(EvaluationError, match=rf"fold_0/pixels.parquet: {fault}.*; run `dvc repro .* train@0"):
        read(folder)


def test_other_columns_and_empty_tables_are_refused(folder):
    write(folder, SPATIAL[0].drop(columns="boundary"))
    with pytest.raises(EvaluationError, match=r"expected the columns zone, .* split, found no boundary; run"):
        read(folder)
    write(folder, SPATIAL[0][:0])
    with pytest.raises(EvaluationError, match="expected counts of labelled pixels, found none; run"):
        read(folder)


def test_a_random_fold_has_no_zones_split(folder):
    write(folder, SPATIAL[1], 1, "random")
    with pytest.raises(EvaluationError, match=r"expected the split random patches or random pixels, found zones; run"):
        read(folder)
