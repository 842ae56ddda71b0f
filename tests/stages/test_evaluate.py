import json
import sys
from pathlib import Path

import geopandas
import numpy as np
import pandas
import pytest
import shapely
import yaml

from landfold.core.files import write_json
from landfold.folds.lists import CrossValidationFolds, column, write_folds
from landfold.folds.split import TEST, FoldError, Split, split_fold
from landfold.folds.zones import Blocks, zone_table
from landfold.params import read_params
from landfold.scores.predictions import EvaluationError
from stages import evaluate, run
from tests.factories import tree, whole

CLASSES = ["water", "farm"]
T_3 = 3.1824
"""Quantile 0.975 of t with 3 degrees of freedom."""

PARAMS = {"zones": {"k": 2, "folds": [0, 1]}}


def certain(table, *, confidence=0.75):
    """What a fold's predictions.parquet has, the class that is called with the given confidence."""
    columns = {name: np.float32(np.where(table["predicted"] == name, confidence, 1 - confidence)) for name in CLASSES}
    return table[["patch", "label", "predicted"]].assign(**{f"p_{name}": column for name, column in columns.items()})


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Four zones in a row of 8 patches, folds 0 1 0 1; fold 0 errs in one farm patch, fold 1 never."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(whole(PARAMS)))
    column, row = np.meshgrid(np.arange(16), np.arange(2))
    x, y = 330050.0 + 100 * column.ravel(), 5814050.0 + 100 * row.ravel()
    zone = Blocks(400, (0, 0)).at(x, y)
    number = np.unique(zone, return_inverse=True)[1]
    table = geopandas.GeoDataFrame(
        {
            "patch": [f"scene/{r}/{c}" for r, c in zip(row.ravel(), column.ravel(), strict=True)],
            "label": np.where(column.ravel() % 2 == 0, "water", "farm"),
            "x": x,
            "y": y,
            "zone": zone,
            "fold": number % 2,
        },
        geometry=shapely.box(x - 50, y - 50, x + 50, y + 50),
        crs="EPSG:32633",
    )
    (tmp_path / "data/folds/k2").mkdir(parents=True)
    table.drop(columns=["zone", "fold"]).to_parquet("data/patches.parquet", index=False)
    splits = [split_fold(table.geometry.to_numpy(), table["fold"].to_numpy(), fold, 0) for fold in (0, 1)]
    areas = zone_table(zone, table["fold"].to_numpy(), Blocks(400, (0, 0)), "EPSG:32633")
    write_folds(tmp_path / "data/folds/k2", CrossValidationFolds(table, splits, [], [areas]))
    index = json.loads((tmp_path / "data/folds/k2/index.json").read_text())
    for fold in (0, 1):
        folder = tmp_path / f"models/k2/fold_{fold}"
        folder.mkdir(parents=True)
        held_out = table[table["fold"] == fold]
        predicted = held_out["label"].where(held_out["patch"] != "scene/0/1", "water")
        certain(held_out.assign(predicted=predicted)).to_parquet(folder / "predictions.parquet", index=False)
        write_json(
            folder / "model.json", {"classes": CLASSES, "fold": fold, "fold_digest": index["digests"][str(fold)]}
        )
        (folder / "history.csv").write_text(
            "epoch,learning_rate,train_loss,train_accuracy,validation_loss,validation_accuracy\n"
            f"1,0.001,1.5,0.5,{fold + 2}.5,0.25\n2,0.0005,1.25,0.625,{fold + 2}.0,0.5\n"
        )
        write_json(tmp_path / f"models/random/k2/fold_{fold}/off.json", {"audit.network": False})
    (tmp_path / "data/audit").mkdir()
    wrong = (table["label"] == "farm") & (
        table["zone"] == table["zone"].iloc[0]
    )  # 4 of 32, the network's one among them
    predicted = table["label"].where(~wrong, "water")
    baseline = table[["patch", "label", "fold"]].assign(repeat=0, predicted_zoned=predicted, zoned_m=table["x"] % 1000)
    baseline.to_parquet("data/audit/baseline.parquet", index=False)
    write_json(Path("data/audit/spread.json"), {"patches": {"partitions": {}, "deals": {}}})
    return tmp_path


def predictions(project, fold):
    return pandas.read_parquet(project / f"models/k2/fold_{fold}/predictions.parquet")


def replace_predictions(project, fold, table):
    table.to_parquet(project / f"models/k2/fold_{fold}/predictions.parquet", index=False)


def edit_card(project, fold, **changes):
    path = project / f"models/k2/fold_{fold}/model.json"
    write_json(path, json.loads(path.read_text()) | changes)


def test_writes_scores_plots_and_predictions(project):
    line = evaluate.main(read_params())
    summary = json.loads((project / "metrics/summary.json").read_text())
    accuracy = summary["zoned"]["accuracy"]
    assert (summary["patches"], summary["zones"]) == (32, 4)
    assert accuracy["pooled"] == round(31 / 32, 4)
    assert accuracy["mean"] == round((15 / 16 + 1) / 2, 4)
    assert accuracy["std"] == round(1 / 32, 4)
    assert summary["zoned"]["f1"] == {"water": round(32 / 33, 4), "farm": round(30 / 31, 4)}
    over = summary["over_baseline"]["accuracy"]
    assert over["pooled"] == round(3 / 32, 4)
    # They differ in one zone of four: the standard error is as large as the difference, t has 3 degrees of freedom.
    assert (over["low"], over["high"]) == (round(3 / 32 * (1 - T_3), 4), round(3 / 32 * (1 + T_3), 4))
    assert line.startswith("Spatial CV: accuracy 0.969 (")
    assert "The network is not clearly better than band statistics alone: +0.094 (-0.205 to +0.392) in accuracy" in line
    plots = project / "metrics/plots"
    assert (plots / "confusion.csv").read_text() == (
        "actual,predicted,count,share\nwater,water,16,1.0\nwater,farm,0,0.0\nfarm,water,1,0.0625\nfarm,farm,15,0.9375\n"
    )
    assert (plots / "history.csv").read_text() == (
        "fold,epoch,learning_rate,train_loss,train_accuracy,validation_loss,validation_accuracy\n"
        "0,1,0.001,1.5,0.5,2.5,0.25\n0,2,0.0005,1.25,0.625,2.0,0.5\n"
        "1,1,0.001,1.5,0.5,3.5,0.25\n1,2,0.0005,1.25,0.625,3.0,0.5\n"
    )
    assert len(pandas.read_csv(plots / "per_class.csv")) == 6
    assert sorted(p.name for p in plots.iterdir()) == [
        *("comparisons.csv", "confusion.csv", "history.csv", "per_class.csv", "reliability.csv", "zones.csv"),
    ]
    table = geopandas.read_parquet(project / "data/predictions.parquet")
    assert list(table["patch"][table["label"] != table["predicted"]]) == ["scene/0/1"]
    assert table.crs == "EPSG:32633"
    assert set(table.columns) == {
        *("patch", "x", "y", "geometry", "zone", "repeat", "fold", "label", "predicted", "p_water", "p_farm"),
        *("predicted_baseline", "distance_m"),
    }


def test_the_summary_has_plain_numbers_beside_the_headline(project):
    evaluate.main(read_params())
    zoned = json.loads((project / "metrics/summary.json").read_text())["zoned"]
    assert {name: value for name, value in zoned.items() if not isinstance(value, dict)} == {
        "weighted_f1": round((32 / 33 + 30 / 31) / 2, 4),
        "top2": 1.0,
        "log_loss": round(-(31 * np.log(0.75) + np.log(0.25)) / 32, 4),
        "brier": round((31 * 2 * 0.25**2 + 2 * 0.75**2) / 32, 4),
        "ece": round(31 / 32 - 0.75, 4),
        "ece_scaled": zoned["ece_scaled"],
        "quantity_disagreement": round(1 / 32, 4),
        "allocation_disagreement": 0.0,
    }
    assert zoned["ece_scaled"] < zoned["ece"]


def test_the_tables_lie_in_a_file_of_their_own(project):
    evaluate.main(read_params())
    scores = json.loads((project / "metrics/scores.json").read_text())
    assert scores["confusion"] == [[16, 0], [1, 15]]
    assert [row["patches"] for row in scores["per_zone"]] == [8] * 4
    assert [row["fold"] for row in scores["per_zone"]] == [0, 1, 0, 1]
    assert scores["per_fold"][0]["temperature"] < 0.1, "fold 1 is always right: almost as sure as can be"
    fitted = json.loads((project / "data/calibration.json").read_text())
    assert fitted == scores["calibration"]["fitted"]
    assert [round(fold["temperature"], 4) for fold in fitted["folds"]] == [
        row["temperature"] for row in scores["per_fold"]
    ]
    assert {row["comparison"] for row in scores["comparisons"]} == {"over_baseline"}
    zones = pandas.read_csv(project / "metrics/plots/zones.csv")
    assert zones.to_dict("records") == scores["per_zone"]
    bins = pandas.read_csv(project / "metrics/plots/reliability.csv")
    assert bins.to_dict("records") == scores["calibration"]["reliability"]
    differences = pandas.read_csv(project / "metrics/plots/comparisons.csv")
    assert differences.to_dict("records") == scores["comparisons"]


def test_few_zones_are_warned_of_in_print_and_in_the_tables(project, capsys):
    evaluate.main(read_params())
    (warning,) = json.loads((project / "metrics/scores.json").read_text())["warnings"]
    assert warning.startswith("4 zones count as 4.0 of equal size: intervals over fewer than 10 zones are uncertain")
    assert capsys.readouterr().out == f"evaluate: warning: {warning}\n"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda table: table.drop(columns="p_farm"), "expected a column p_CLASS .* found no p_farm; run"),
        (lambda table: table.assign(p_farm=table["p_farm"] + 0.5), "add up to 1, found others in 16 patches .*/0/"),
        (lambda table: table.assign(p_farm=-table["p_farm"]), "found others in 16 patches"),
        (lambda table: table.assign(p_farm=np.nan), "found others in 16 patches"),
    ],
)
def test_refuses_probabilities_that_are_none(project, change, fault):
    replace_predictions(project, 1, change(predictions(project, 1)))
    with pytest.raises(EvaluationError, match=rf"fold_1/predictions.parquet: .*{fault}"):
        evaluate.main(read_params())


def test_a_second_run_writes_the_same_bytes(project):
    def content():
        return tree(project / "metrics") | tree(project / "data")

    evaluate.main(read_params())
    first = content()
    evaluate.main(read_params())
    assert content() == first


def test_a_fold_left_over_from_a_larger_k_is_not_read(project):
    evaluate.main(read_params())
    before = (project / "metrics/summary.json").read_bytes()
    (project / "models/k2/fold_2").mkdir()
    evaluate.main(read_params())
    assert (project / "metrics/summary.json").read_bytes() == before


def test_predictions_in_another_order_score_the_same(project):
    evaluate.main(read_params())
    before = {p.name: p.read_bytes() for p in (project / "metrics").rglob("*.*")}
    replace_predictions(project, 0, predictions(project, 0).sample(frac=1, random_state=1))
    evaluate.main(read_params())
    assert {p.name: p.read_bytes() for p in (project / "metrics").rglob("*.*")} == before


@pytest.mark.parametrize("name", ["model.json", "history.csv", "predictions.parquet"])
def test_refuses_a_fold_that_is_missing_or_incomplete(project, name):
    (project / "models/k2/fold_1" / name).unlink()
    with pytest.raises(EvaluationError, match=rf"fold_1/{name}: not found, so fold 1 is missing.*train@1"):
        evaluate.main(read_params())


def test_refuses_a_k_without_folds(project):
    changed = whole(PARAMS | {"zones": {"k": 3, "folds": [0, 1, 2]}})
    (project / "params.yaml").write_text(yaml.safe_dump(changed))
    with pytest.raises(FoldError, match=r"data/folds/k3/index.json: not found, so there are no folds .*repro zones"):
        evaluate.main(read_params())


def test_refuses_a_model_of_another_split(project):
    edit_card(project, 1, fold_digest="0123456789abcdef")
    with pytest.raises(FoldError, match=r"fold_1/model.json: fold 1 is stale: .*0123456789ab, but .*train@1"):
        evaluate.main(read_params())


def test_refuses_other_classes_than_the_first_fold(project):
    edit_card(project, 1, classes=["farm", "water"])
    with pytest.raises(EvaluationError, match=r"fold 1 has the classes farm, water, but fold 0 has water, farm; run"):
        evaluate.main(read_params())


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda mine, other: mine[1:], "found 15: 1 missing, 0 foreign, 0 repeated"),
        (lambda mine, other: pandas.concat([mine, other[:2]]), "found 18: 0 missing, 2 foreign, 0 repeated"),
        (lambda mine, other: pandas.concat([mine, mine[:1]]), "found 17: 0 missing, 0 foreign, 1 repeated"),
        (lambda mine, other: pandas.concat([mine[1:], other[:1]]), "found 16: 1 missing, 1 foreign, 0 repeated"),
    ],
)
def test_refuses_predictions_that_are_not_the_validation_patches(project, change, found):
    replace_predictions(project, 0, change(predictions(project, 0), predictions(project, 1)))
    with pytest.raises(EvaluationError, match=rf"expected the 16 held-out patches of fold 0, each once, {found}"):
        evaluate.main(read_params())


def test_refuses_predictions_of_other_labels(project):
    table = predictions(project, 0)
    table.loc[0, "label"] = "farm"
    replace_predictions(project, 0, table)
    with pytest.raises(EvaluationError, match=r"fold 0 is stale: 1 patches had another label .*scene/0/0, then farm"):
        evaluate.main(read_params())


def test_refuses_a_prediction_outside_the_classes(project):
    table = predictions(project, 0)
    table.loc[0, "predicted"] = "lava"
    replace_predictions(project, 0, table)
    with pytest.raises(EvaluationError, match=r"fold 0 has the class lava, which its model.json does not list"):
        evaluate.main(read_params())


def test_refuses_folds_of_other_patches(project):
    table = geopandas.read_parquet("data/patches.parquet")
    table[1:].to_parquet("data/patches.parquet", index=False)
    with pytest.raises(EvaluationError, match=r"k2/patches.parquet: 32 patches, but .* has 31, and 1 are in one of"):
        evaluate.main(read_params())


def test_refuses_an_index_that_leaves_a_fold_out(project):
    path = project / "data/folds/k2/index.json"
    write_json(path, json.loads(path.read_text()) | {"folds": [0]})
    with pytest.raises(EvaluationError, match=r"lists the folds \[0\], but .* has 16 patches in others; run"):
        evaluate.main(read_params())


def test_a_refusal_is_one_line_and_leaves_the_earlier_metrics(project, monkeypatch):
    evaluate.main(read_params())
    before = (project / "metrics/summary.json").read_bytes()
    (project / "models/k2/fold_0/model.json").unlink()
    monkeypatch.setattr(sys, "argv", ["stages/evaluate.py"])
    with pytest.raises(SystemExit, match=r"^evaluate: models/k2/fold_0/model.json: not found"):
        run(evaluate.main)
    assert (project / "metrics/summary.json").read_bytes() == before


def give_random_models(project, wrong=()):
    """Models under the random folds, which err in the patches of ``wrong`` alone."""
    table = geopandas.read_parquet("data/patches.parquet")
    folder = project / "data/folds/k2"
    assigned = pandas.read_parquet(folder / "patches.parquet")
    table = table.merge(assigned, on="patch")
    dealt = [np.arange(32) // 2 % 2 == fold for fold in (0, 1)]
    randoms = [Split(~held_out, held_out, np.zeros(32, bool)) for held_out in dealt]
    splits = [split_fold(table.geometry.to_numpy(), table["fold"].to_numpy(), fold, 0) for fold in (0, 1)]
    areas = zone_table(table["zone"].to_numpy(), table["fold"].to_numpy(), Blocks(400, (0, 0)), "EPSG:32633")
    write_folds(folder, CrossValidationFolds(table, splits, randoms, [areas]))
    index = json.loads((folder / "index.json").read_text())
    for fold in (0, 1):
        own = project / f"models/random/k2/fold_{fold}"
        (own / "off.json").unlink(missing_ok=True)
        held_out = table[dealt[fold]]
        predicted = held_out["label"].where(~held_out["patch"].isin(wrong), "water")
        certain(held_out.assign(predicted=predicted)).to_parquet(own / "predictions.parquet", index=False)
        write_json(own / "model.json", {"classes": CLASSES, "fold_digest": index["random_digests"][str(fold)]})


def test_the_network_s_own_gap_is_paired_over_the_patches(project):
    off = evaluate.main(read_params())
    assert "Random" not in off
    assert set(json.loads((project / "metrics/summary.json").read_text())) == {
        *("zoned", "over_baseline", "patches", "zones", "effective_zones")
    }
    give_random_models(project)
    line = evaluate.main(read_params())
    summary = json.loads((project / "metrics/summary.json").read_text())
    assert summary["random"]["accuracy"] == {"pooled": 1.0, "low": round(0.025**0.25, 4), "high": 1.0}
    gap = summary["gap"]["accuracy"]
    assert gap["pooled"] == round(1 / 32, 4)
    assert (gap["low"], gap["high"]) == (round((1 - T_3) / 32, 4), round((1 + T_3) / 32, 4))
    chance = "a difference that may be chance, +0.031 (-0.068 to +0.131)"
    assert f"Random CV gives the network an accuracy of 1.000, spatial CV 0.969: {chance}. " in line
    give_random_models(project, wrong=["scene/0/1"])
    evaluate.main(read_params())
    gap = json.loads((project / "metrics/summary.json").read_text())["gap"]["accuracy"]
    half = round(1 - 0.025**0.25, 4)
    assert gap == {"pooled": 0.0, "low": -half, "high": half}, "the same patches are wrong"


def test_refuses_random_models_of_another_split(project):
    give_random_models(project)
    path = project / "models/random/k2/fold_1/model.json"
    write_json(path, json.loads(path.read_text()) | {"fold_digest": "0123456789abcdef"})
    with pytest.raises(FoldError, match=r"random/k2/fold_1/model.json: fold 1 is stale: .*--single-item random@1"):
        evaluate.main(read_params())


def test_repeats_are_pooled_one_by_one_and_averaged(project):
    """The second repeat has the folds swapped, and its models err in every farm patch of one zone."""
    folder = project / "data/folds/k2"
    table = geopandas.read_parquet("data/patches.parquet").merge(
        pandas.read_parquet(folder / "patches.parquet"), on="patch"
    )
    table = table.assign(zone_1=table["zone"], fold_1=3 - table["fold"])
    footprints = table.geometry.to_numpy()
    splits = [split_fold(footprints, table[column("fold", i // 2)].to_numpy(), i, 0) for i in range(4)]
    areas = zone_table(table["zone"].to_numpy(), table["fold"].to_numpy(), Blocks(400, (0, 0)), "EPSG:32633")
    write_folds(folder, CrossValidationFolds(table, splits, [], [areas, areas]))
    index = json.loads((folder / "index.json").read_text())
    first = table["zone"].iloc[0]
    for fold in range(4):
        own = project / f"models/k2/fold_{fold}"
        own.mkdir(exist_ok=True)
        held_out = table[table[column("fold", fold // 2)] == fold]
        wrong = (held_out["zone"] == first) & (fold > 1)
        predicted = held_out["label"].where(~wrong, "water")
        certain(held_out.assign(predicted=predicted)).to_parquet(own / "predictions.parquet", index=False)
        write_json(own / "model.json", {"classes": CLASSES, "fold_digest": index["digests"][str(fold)]})
        (own / "history.csv").write_text("epoch,train_loss\n1,1.5\n")
    with pytest.raises(
        EvaluationError, match=r"baseline.parquet: its 32 predictions and the network's 64 differ in 32 patches.*audit"
    ):
        evaluate.main(read_params())
    rows = [table.assign(repeat=r, fold=table[column("fold", r)], predicted_zoned=table["label"]) for r in (0, 1)]
    pandas.concat(rows).assign(zoned_m=400.0)[
        ["patch", "label", "repeat", "fold", "predicted_zoned", "zoned_m"]
    ].to_parquet("data/audit/baseline.parquet")
    evaluate.main(read_params())
    summary = json.loads((project / "metrics/summary.json").read_text())
    assert (summary["patches"], summary["zones"]) == (32, 4)
    assert summary["zoned"]["accuracy"]["pooled"] == round((1 + 28 / 32) / 2, 4)
    assert summary["zoned"]["f1"]["farm"] == round((1 + 24 / 28) / 2, 4)


def test_a_test_region_is_scored_by_the_mean_of_all_folds_and_by_nothing_else(project):
    evaluate.main(read_params())
    before = json.loads((project / "metrics/summary.json").read_text())
    table = geopandas.read_parquet("data/patches.parquet")
    more = table[:4].assign(patch=[f"far/0/{i}" for i in range(4)], label=["water", "farm", "water", "farm"])
    pandas.concat([table, more]).to_parquet("data/patches.parquet", index=False)
    path = project / "data/folds/k2/patches.parquet"
    assigned = pandas.read_parquet(path)
    test = pandas.DataFrame({"patch": more["patch"], "zone": ["t1", "t1", "t2", "t2"], "fold": TEST})
    pandas.concat([assigned, test]).to_parquet(path, index=False)
    with pytest.raises(EvaluationError, match=r"fold_0/test.parquet: not found, so fold 0 is missing"):
        evaluate.main(read_params())
    for fold, certain in ((0, 0.9), (1, 0.6)):  # fold 1 alone would call all of it farm
        water = np.array([certain, 0.2, certain, certain]) if fold == 0 else np.full(4, 1 - certain)
        columns = {"label": more["label"], "predicted": "farm", "p_water": water, "p_farm": 1 - water}
        pandas.DataFrame({"patch": more["patch"]} | columns).to_parquet(project / f"models/k2/fold_{fold}/test.parquet")
    line = evaluate.main(read_params())
    summary = json.loads((project / "metrics/summary.json").read_text())
    found = summary.pop("test")
    assert summary == before
    assert found["accuracy"] == {"pooled": 0.75, "low": 0.0, "high": 1.0}, "two zones say little"
    assert (found["patches"], found["zones"]) == (4, 2)
    assert line.endswith(". 0.750 in the test region")
