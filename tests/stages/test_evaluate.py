import json
import sys

import geopandas
import numpy as np
import pandas
import pytest
import shapely
from matplotlib.image import imread

from landfold.files import write_json
from landfold.folds import FoldError, split_fold, write_folds
from landfold.metrics import EvaluationError
from landfold.zones import Blocks, grid_zones, zone_table
from stages import evaluate, run

CLASSES = ["water", "farm"]
PARAMS = """
zones: {k: 2, folds: [0, 1]}
evaluate: {bootstrap: 200, seed: 0}
colours: {water: "#2f7fd1", farm: "#e9c46a"}
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Four zones in a row of 8 patches, folds 0 1 0 1; fold 0 errs in one farm patch, fold 1 never."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(PARAMS)
    column, row = np.meshgrid(np.arange(16), np.arange(2))
    x, y = 330050.0 + 100 * column.ravel(), 5814050.0 + 100 * row.ravel()
    zone = grid_zones(x, y, block_size_m=400, origin_m=(0, 0))
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
    write_folds(tmp_path / "data/folds/k2", table, splits, areas)
    index = json.loads((tmp_path / "data/folds/k2/index.json").read_text())
    for fold in (0, 1):
        folder = tmp_path / f"models/k2/fold_{fold}"
        folder.mkdir(parents=True)
        held_out = table[table["fold"] == fold]
        predicted = held_out["label"].where(held_out["patch"] != "scene/0/1", "water")
        held_out[["patch", "label"]].assign(predicted=predicted).to_parquet(folder / "predictions.parquet", index=False)
        write_json(
            folder / "model.json", {"classes": CLASSES, "fold": fold, "fold_digest": index["digests"][str(fold)]}
        )
        (folder / "history.csv").write_text(
            "epoch,learning_rate,train_loss,train_accuracy,validation_loss,validation_accuracy\n"
            f"1,0.001,1.5,0.5,{fold + 2}.5,0.25\n2,0.0005,1.25,0.625,{fold + 2}.0,0.5\n"
        )
    return tmp_path


def predictions(project, fold):
    return pandas.read_parquet(project / f"models/k2/fold_{fold}/predictions.parquet")


def replace_predictions(project, fold, table):
    table.to_parquet(project / f"models/k2/fold_{fold}/predictions.parquet", index=False)


def edit_card(project, fold, **changes):
    path = project / f"models/k2/fold_{fold}/model.json"
    write_json(path, json.loads(path.read_text()) | changes)


def test_writes_scores_and_plots(project):
    line = evaluate.main()
    summary = json.loads((project / "metrics/summary.json").read_text())
    accuracy = summary["zoned"]["accuracy"]
    assert (summary["patches"], summary["zones"]) == (32, 4)
    assert accuracy["pooled"] == round(31 / 32, 4)
    assert accuracy["mean"] == round((15 / 16 + 1) / 2, 4)
    assert accuracy["std"] == round(1 / 32, 4)
    assert summary["zoned"]["f1"] == {"water": round(32 / 33, 4), "farm": round(30 / 31, 4)}
    assert "accuracy 0.969" in line
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
    assert imread(plots / "errors.png").shape[1] > 600
    assert sorted(p.name for p in plots.iterdir()) == ["confusion.csv", "errors.png", "history.csv", "per_class.csv"]


def test_a_second_run_writes_the_same_bytes(project):
    def content():
        return {p.name: p.read_bytes() for p in (project / "metrics").rglob("*") if p.is_file()}

    evaluate.main()
    first = content()
    evaluate.main()
    assert content() == first


def test_a_fold_left_over_from_a_larger_k_is_not_read(project):
    evaluate.main()
    before = (project / "metrics/summary.json").read_bytes()
    (project / "models/k2/fold_2").mkdir()
    evaluate.main()
    assert (project / "metrics/summary.json").read_bytes() == before


def test_predictions_in_another_order_score_the_same(project):
    evaluate.main()
    before = {p.name: p.read_bytes() for p in (project / "metrics").rglob("*.*")}
    replace_predictions(project, 0, predictions(project, 0).sample(frac=1, random_state=1))
    evaluate.main()
    assert {p.name: p.read_bytes() for p in (project / "metrics").rglob("*.*")} == before


@pytest.mark.parametrize("name", ["model.json", "history.csv", "predictions.parquet"])
def test_refuses_a_fold_that_is_missing_or_incomplete(project, name):
    (project / "models/k2/fold_1" / name).unlink()
    with pytest.raises(EvaluationError, match=rf"fold_1/{name}: not found, so fold 1 is missing.*train@1"):
        evaluate.main()


def test_refuses_a_k_without_folds(project):
    (project / "params.yaml").write_text(PARAMS.replace("k: 2, folds: [0, 1]", "k: 3, folds: [0, 1, 2]"))
    with pytest.raises(FoldError, match=r"data/folds/k3/index.json: not found, so there are no folds .*repro zones"):
        evaluate.main()


def test_refuses_a_model_of_another_split(project):
    edit_card(project, 1, fold_digest="0123456789abcdef")
    with pytest.raises(FoldError, match=r"fold_1/model.json: fold 1 is stale: .*0123456789ab, but .*train@1"):
        evaluate.main()


def test_refuses_other_classes_than_the_first_fold(project):
    edit_card(project, 1, classes=["farm", "water"])
    with pytest.raises(EvaluationError, match=r"fold 1 has the classes farm, water, but fold 0 has water, farm; run"):
        evaluate.main()


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
    with pytest.raises(EvaluationError, match=rf"expected the 16 validation patches of fold 0, each once, {found}"):
        evaluate.main()


def test_refuses_predictions_of_other_labels(project):
    table = predictions(project, 0)
    table.loc[0, "label"] = "farm"
    replace_predictions(project, 0, table)
    with pytest.raises(EvaluationError, match=r"fold 0 is stale: 1 patches had another label .*scene/0/0, then farm"):
        evaluate.main()


def test_refuses_a_prediction_outside_the_classes(project):
    table = predictions(project, 0)
    table.loc[0, "predicted"] = "lava"
    replace_predictions(project, 0, table)
    with pytest.raises(EvaluationError, match=r"fold 0 has the class lava, which its model.json does not list"):
        evaluate.main()


def test_refuses_folds_of_other_patches(project):
    table = geopandas.read_parquet("data/patches.parquet")
    table[1:].to_parquet("data/patches.parquet", index=False)
    with pytest.raises(EvaluationError, match=r"k2/patches.parquet: 32 patches, but .* has 31, and 1 are in one of"):
        evaluate.main()


def test_refuses_an_index_that_leaves_a_fold_out(project):
    path = project / "data/folds/k2/index.json"
    write_json(path, json.loads(path.read_text()) | {"folds": [0]})
    with pytest.raises(EvaluationError, match=r"lists the folds \[0\], but .* has 16 patches in others; run"):
        evaluate.main()


def test_a_refusal_is_one_line_and_leaves_the_earlier_metrics(project, monkeypatch):
    evaluate.main()
    before = (project / "metrics/summary.json").read_bytes()
    (project / "models/k2/fold_0/model.json").unlink()
    monkeypatch.setattr(sys, "argv", ["stages/evaluate.py"])
    with pytest.raises(SystemExit, match=r"^evaluate: models/k2/fold_0/model.json: not found"):
        run(evaluate.main)
    assert (project / "metrics/summary.json").read_bytes() == before
