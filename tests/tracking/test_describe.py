"""Scores, tags, data set and description of runs."""

import json
import re
import subprocess

from landfold.core.digests import data_digest, file_sha256, model_digest, params_digest
from landfold.tracking import describe, view
from landfold.tracking.artifacts import collect_artifacts
from tests.tracking.results import PARAMS, SCORES, SUMMARY, K, client, history, rich


def test_parent_has_the_numbers_under_the_names_of_dvc(parent):
    metrics = parent.data.metrics
    assert {name: metrics[f"zoned.accuracy.{name}"] for name in ("pooled", "low", "high", "mean", "std")} == (
        SUMMARY["zoned"]["accuracy"]
    )
    assert metrics["gap.accuracy.pooled"] == 0.09
    assert metrics["zoned.f1.Grünland"] == 0.2
    assert metrics["patches"] == 30
    assert len(metrics) == 20


def test_children_have_final_scores_of_their_own_beside_their_curves(recorded, children):
    assert children.keys() == {"fold_0", "fold_1"}
    for row in SCORES["per_fold"]:
        run = children[f"fold_{row['fold']}"]
        expected = {"zoned.accuracy": row["accuracy"], "zoned.macro_f1": row["macro_f1"]}
        expected |= {"patches": row["patches"], "temperature": row["temperature"]}
        expected |= {name: value for name, value in history(row["fold"])[-1].items() if name != "epoch"}
        assert run.data.metrics == expected
        for name in expected:
            points = client(recorded).get_metric_history(run.info.run_id, name)
            assert len(points) == (3 if name in history(0)[0] else 1), name


def test_tags_say_what_it_was_made_from(recorded, parent, children):
    cards = [json.loads((recorded / f"models/k{K}/fold_{fold}/model.json").read_text()) for fold in range(K)]
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=recorded, capture_output=True, text=True, check=True)
    shared = {
        "landfold.data_digest": data_digest(cards)[:16],
        "landfold.params_digest": params_digest(PARAMS)[:16],
        "landfold.model_digest": model_digest(
            file_sha256(recorded / f"models/k{K}/fold_{f}/model.safetensors") for f in (0, 1)
        )[:16],
        "landfold.k": "2",
        "landfold.folds": "2",
        "landfold.split": "zoned",
        "landfold.zones.kind": "grid",
        "landfold.zones.assignment": "stratified",
        "landfold.dirty": "false",
        "dvc.exp_name": "blunt-gnus",
        "mlflow.source.git.commit": head.stdout.strip(),
        "mlflow.source.git.branch": "trunk",
        "mlflow.source.type": "LOCAL",
    }
    sources = {"fold_0": "stages/train.py", "fold_1": "stages/track.py"}
    for name, run in children.items():
        digest_of_fold = run.data.tags["dvc.fold_digest"]
        assert re.fullmatch(r"[0-9a-f]{64}", digest_of_fold)
        own = {
            "landfold.fold": name[-1],
            "landfold.state": "live" if name == "fold_0" else "restored",
            "mlflow.source.name": sources[name],
            "mlflow.parentRunId": parent.info.run_id,
            "mlflow.runName": name,
            "dvc.fold_digest": digest_of_fold,
        }
        assert {tag: run.data.tags.get(tag) for tag in shared | own} == shared | own
        assert run.data.tags.keys() - (shared | own).keys() == {"mlflow.note.content"}
    assert {tag: parent.data.tags[tag] for tag in shared} == shared
    assert parent.data.tags.keys() - shared.keys() == {
        "landfold.key", "landfold.complete", "mlflow.note.content", "mlflow.runName", "mlflow.source.name"
    }  # fmt: skip


def test_description_opens_with_the_score_its_interval_and_the_bias_of_random_folds(parent, children):
    note = parent.data.tags["mlflow.note.content"]
    first, *rest = note.split("\n\n")
    assert first == (
        "**Spatial CV: accuracy 0.710 (0.650 to 0.760), macro F1 0.500 (0.400 to 0.600) on 30 patches.** "
        "Random CV gives the network an accuracy of 0.800, spatial CV 0.710: an optimistic bias of 0.090 (0.040 to "
        "0.120)."
    )
    rows = rest[0].replace("&emsp;", "").splitlines()
    assert rows[1] == "| :--- | :--- | :--- | :--- |"
    assert rows[0] == "|  | accuracy | balanced accuracy | macro F1 |"
    assert rows[2:4] == [
        "| spatial folds, pooled (95 %) | 0.710 (0.650 to 0.760) |  | 0.500 (0.400 to 0.600) |",
        "| spatial folds, mean ± sd | 0.720 ± 0.045 |  | 0.510 ± 0.040 |",
    ]
    assert [row.split(" | ")[0] for row in rows[4:]] == ["| random folds", "| random minus spatial folds"]
    assert {row.count("|") for row in rows} == {5}
    assert "30 patches in 4 zones, 2 folds (grid, stratified), buffer 100 m." in rest
    assert "**Warning:** class Grünland is in one zone only" in rest
    assert "`metrics/report.html`" in note
    assert rest[-1] == "Not uploaded, over `track.maps_mb`: data/maps/b_large.tif."
    assert "16 patches, accuracy 0.740, macro F1 0.570" in children["fold_1"].data.tags["mlflow.note.content"]


def test_data_set_is_an_input_with_its_digest(recorded, parent, children):
    for run, context in ((parent, "evaluation"), (children["fold_0"], "training"), (children["fold_1"], "training")):
        (entry,) = client(recorded).get_run(run.info.run_id).inputs.dataset_inputs
        assert [(tag.key, tag.value) for tag in entry.tags] == [("mlflow.data.context", context)]
        assert entry.dataset.name == "meadows"
        assert len(entry.dataset.digest) == 36
        assert entry.dataset.digest.startswith(run.data.tags["landfold.data_digest"])
    assert json.loads(entry.dataset.source) == {
        "uri": "data/raw", "dvc": {"data/raw": "957f.dir"}, "scenes": {"S2A_1": "sentinel2, 2017-02-16"}
    }  # fmt: skip
    columns = json.loads(entry.dataset.schema)["mlflow_colspec"]
    assert [column["name"] for column in columns] == ["R", "NDVI", "class: farm, Grünland"]
    profile = {"num_rows": 30, "zones": 4, "folds": 2, "scenes": 1, "patches_by_class": {"farm": 15, "Grünland": 15}}
    assert json.loads(entry.dataset.profile) == profile


def test_scores_of_pixels_come_first_and_keep_those_of_patches(root):
    score = {"pooled": 0.6, "low": 0.5, "high": 0.7}
    gap = {"accuracy": score | {"pooled": 0.25, "low": 0.2, "high": 0.3}}
    pixels = {"count": 9000, "accuracy": score, "random": {"accuracy": score | {"pooled": 0.85}}, "gap": gap}
    rows = [{"fold": fold, "repeat": 0, "pixels": 4500, "accuracy": 0.6, "macro_f1": 0.4} for fold in (0, 1)]
    tables = {"per_fold": rows, "confusion": [[6000, 500], [1000, 1500]]}
    result = rich(root, summary=SUMMARY | {"pixels": pixels}, scores=SCORES | {"pixels": tables})
    metrics = describe.metrics(result)
    assert metrics["pixels.accuracy.pooled"] == 0.6
    assert metrics["pixels.gap.accuracy.pooled"] == 0.25
    assert metrics["zoned.accuracy.pooled"] == 0.71
    added = {"pixels.count": 4500, "pixels.accuracy": 0.6, "pixels.macro_f1": 0.4}
    assert describe.fold_metrics(result, 0) == describe.fold_metrics(rich(root), 0) | added
    note = describe.note(result, {}, [], []).replace("&emsp;", "")
    assert note.startswith("**Spatial CV: accuracy 0.600 (0.500 to 0.700) on 9000 labelled pixels; accuracy 0.710")
    assert "A random split of pixels gives the network an accuracy of 0.850, spatial CV 0.600" in note
    assert "| pixels, random minus spatial | 0.250 (0.200 to 0.300) |" in note
    assert "9000 labelled pixels, 30 patches in 4 zones" in note
    collect_artifacts(result, root / "gathered")
    names = {path.stem for path in (root / "gathered/tables").iterdir()}
    assert names == {"confusion", "per_class", "per_fold", "per_zone", "pixels_confusion", "pixels_per_fold"}
    assert (root / "gathered/tables/pixels_confusion.csv").read_text(encoding="utf-8") == (
        "actual,farm,Grünland\nfarm,6000,500\nGrünland,1000,1500\n"
    )
    columns = set(view.state(pixels=True)["selectedColumns"]) - set(view.state(pixels=False)["selectedColumns"])
    known = {*metrics, *describe.fold_metrics(result, 0), "pixels.macro_f1.pooled"}
    assert columns <= {f"metrics.`{name}`" for name in known}
