"""What MLflow holds of a result: numbers, tables, files, tags, the data set, and no secrets."""

import base64
import csv
import io
import json
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import yaml

from landfold import tracking
from landfold.core.digests import data_digest, file_sha256, model_digest, params_digest
from landfold.tracking import TrackingError, ui, view
from landfold.tracking.artifacts import collect_artifacts
from landfold.tracking.completion import complete
from landfold.tracking.origin import environment, origin
from landfold.tracking.redaction import redact_secrets
from landfold.tracking.result import TrackedResult
from tests.tracking.test_tracking import DEAD_SERVER, ON, client, history, make_root, result_in, runs, train, write_fold

K = 2
SUMMARY = {
    "zoned": {
        "accuracy": {"pooled": 0.71, "low": 0.65, "high": 0.76, "mean": 0.72, "std": 0.045},
        "macro_f1": {"pooled": 0.5, "low": 0.4, "high": 0.6, "mean": 0.51, "std": 0.04},
        "f1": {"farm": 0.8, "Grünland": 0.2},
    },
    "random": {"accuracy": {"pooled": 0.8, "low": 0.7, "high": 0.9}},
    "gap": {"accuracy": {"pooled": 0.09, "low": 0.04, "high": 0.12}},
    "patches": 30,
    "zones": 4,
}
SCORES = {
    "classes": ["farm", "Grünland"],
    "confusion": [[12, 3], [5, 10]],
    "per_class": [
        {"class": "farm", "support": 15, "f1": {"high": 0.9, "low": 0.7, "pooled": 0.8}},
        {"class": "Grünland", "support": 15, "f1": {"high": 0.3, "low": 0.1, "pooled": 0.2}},
    ],
    "per_fold": [
        {"fold": 0, "repeat": 0, "accuracy": 0.7, "macro_f1": 0.45, "patches": 14, "temperature": 1.5},
        {"fold": 1, "repeat": 0, "accuracy": 0.74, "macro_f1": 0.57, "patches": 16, "temperature": 1.25},
    ],
    "per_zone": [{"zone": "E1N2", "fold": 0, "patches": 14, "accuracy": 0.7, "distance_m": 150.5}],
    "zone_summary": {"worst": {"zone": "E1N2", "patches": 14, "accuracy": 0.7}},
    "warnings": ["class Grünland is in one zone only"],
}
SCENES = {"scenes": [{"scene": "S2A_1", "sensor": "sentinel2", "acquired": "2017-02-16"}]}
PASSWORD, TOKEN = "ge%21heim-pw", "t0ken-of-anna"
PARAMS = {
    "project": {"name": "meadows"},
    "zones": {"k": K, "kind": "grid", "assignment": "stratified", "buffer_m": 100},
    "ingest": {"source": f"https://anna:{PASSWORD}@data.example/scenes?band=B02&X-Amz-Signature=0123abc"},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A checkout with one complete result: fold 0 was trained live, fold 1 comes from its files."""
    folder = make_root(tmp_path_factory.mktemp("content") / "project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("MLFLOW_TRACKING_PASSWORD", TOKEN)
        patch.setenv("DVC_EXP_NAME", "blunt-gnus")
        rich(folder)
        (folder / "params.yaml").write_text(yaml.safe_dump(PARAMS))
        git(folder, "init", "-q", "-b", "trunk")
        git(folder, "add", "params.yaml", "dvc.yaml", "requirements.txt")
        git(folder, "commit", "-qm", "first")
        train(folder, 0, k=K)
        complete(rich(folder))
        complete(rich(folder))
    return folder


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", "-c", "user.name=T", "-c", "user.email=t@e", *words], cwd=folder, check=True)


def rich(folder: Path, **changes) -> TrackedResult:
    """A result with all that a whole pipeline leaves."""
    files = {
        "metrics/report.html": f"<p>https://anna:{PASSWORD}@data.example {TOKEN}</p>",
        "metrics/plots/map.png": "\x89PNG",
        "dvc.lock": yaml.safe_dump({"stages": {"fetch": {"outs": [{"path": "data/raw", "md5": "957f.dir"}]}}}),
        "dvc.yaml": "stages: {}\n",
        "requirements.txt": "pydantic==0.1\npyyaml==6.0 ; python_version > '3'\nno-such-package==1.0\n",
        "data/maps/a_class.tif": "small",
        "data/maps/b_large.tif": "x" * 900,
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="latin-1")
    values = {
        "params": PARAMS,
        "summary": SUMMARY,
        "scores": SCORES,
        "scenes": SCENES,
        "artifacts": [Path("metrics"), Path("params.yaml"), Path("dvc.yaml"), Path("dvc.lock"), Path("gone.txt")],
        "maps": Path("data/maps"),
        "maps_mb": 0.0005,
    }
    return result_in(folder, K, **values | changes)


@pytest.fixture
def parent(root):
    (found,) = [run for run in runs(root) if "landfold.key" in run.data.tags]
    return found


@pytest.fixture
def children(root):
    return {run.info.run_name: run for run in runs(root) if "landfold.key" not in run.data.tags}


def artifacts(root: Path, run) -> Path:
    return root / "mlruns" / run.info.run_id / "artifacts"


def table(root: Path, run, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((artifacts(root, run) / f"tables/{name}.csv").read_text("utf-8"))))


def test_parent_has_the_numbers_under_the_names_of_dvc(parent):
    metrics = parent.data.metrics
    assert {name: metrics[f"zoned.accuracy.{name}"] for name in ("pooled", "low", "high", "mean", "std")} == (
        SUMMARY["zoned"]["accuracy"]
    )
    assert metrics["gap.accuracy.pooled"] == 0.09
    assert metrics["zoned.f1.Grünland"] == 0.2
    assert metrics["patches"] == 30
    assert len(metrics) == 20


def test_children_have_final_scores_of_their_own_beside_their_curves(root, children):
    assert children.keys() == {"fold_0", "fold_1"}
    for row in SCORES["per_fold"]:
        run = children[f"fold_{row['fold']}"]
        expected = {"zoned.accuracy": row["accuracy"], "zoned.macro_f1": row["macro_f1"]}
        expected |= {"patches": row["patches"], "temperature": row["temperature"]}
        expected |= {name: value for name, value in history(row["fold"])[-1].items() if name != "epoch"}
        assert run.data.metrics == expected
        for name in expected:
            points = client(root).get_metric_history(run.info.run_id, name)
            assert len(points) == (3 if name in history(0)[0] else 1), name


def test_tags_say_what_it_was_made_from(root, parent, children):
    cards = [json.loads((root / f"models/k{K}/fold_{fold}/model.json").read_text()) for fold in range(K)]
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True)
    shared = {
        "landfold.data_digest": data_digest(cards)[:16],
        "landfold.params_digest": params_digest(PARAMS)[:16],
        "landfold.model_digest": model_digest(
            file_sha256(root / f"models/k{K}/fold_{f}/model.safetensors") for f in (0, 1)
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


def test_files_go_with_the_parent(root, parent):
    folder = artifacts(root, parent)
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()) == [
        "data/maps/a_class.tif",
        "dvc.lock",
        "dvc.yaml",
        "environment.txt",
        "metrics/plots/curves.csv",
        "metrics/plots/map.png",
        "metrics/report.html",
        "metrics/summary.json",
        "params.yaml",
        *(f"tables/{name}.csv" for name in ("confusion", "per_class", "per_fold", "per_zone")),
    ]
    assert table(root, parent, "confusion") == [
        {"actual": "farm", "farm": "12", "Grünland": "3"},
        {"actual": "Grünland", "farm": "5", "Grünland": "10"},
    ]
    assert table(root, parent, "per_class")[1] == {
        "class": "Grünland", "support": "15", "f1": "0.2", "f1_low": "0.1", "f1_high": "0.3"
    }  # fmt: skip
    assert [row["temperature"] for row in table(root, parent, "per_fold")] == ["1.5", "1.25"]
    assert table(root, parent, "per_zone")[0]["distance_m"] == "150.5"


def test_environment_names_python_and_the_pinned_packages(root, parent, children):
    text = (artifacts(root, parent) / "environment.txt").read_text()
    first, *lines = text.splitlines()
    assert first.startswith(f"# {sys.implementation.name.replace('cp', 'CP')} {sys.version.split()[0]} on ")
    assert [line.partition("==")[0] for line in lines] == ["pydantic", "pyyaml"]
    assert lines[0].endswith("  # requirements.txt: 0.1")
    assert environment(root) == text
    assert (artifacts(root, children["fold_0"]) / "environment.txt").is_file()


def test_data_set_is_an_input_with_its_digest(root, parent, children):
    for run, context in ((parent, "evaluation"), (children["fold_0"], "training"), (children["fold_1"], "training")):
        (entry,) = client(root).get_run(run.info.run_id).inputs.dataset_inputs
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


def test_experiment_says_what_to_look_at(root):
    tags = client(root).get_experiment_by_name("meadows").tags
    assert "`zoned.accuracy.pooled`" in tags["mlflow.note.content"]


def test_experiment_has_a_view_of_columns_and_charts_that_the_runs_have(root, parent, children):
    tags = client(root).get_experiment_by_name("meadows").tags
    saved = json.loads(tags[view.VIEW])
    kind, _, packed = saved["state"].partition(";")
    assert (saved["name"], kind) == ("Review", "deflate")
    state = json.loads(zlib.decompress(base64.b64decode(packed)))
    # MLflow's own conditions for nesting folds below their result, and for keeping widths
    assert state["orderByKey"] == "attributes.start_time"
    assert set(state["selectedColumns"]) <= set(state["columnOrder"])
    assert set(state["columnWidths"]) <= set(state["columnOrder"])
    there = {f"metrics.`{name}`" for run in (parent, *children.values()) for name in run.data.metrics}
    there |= {f"tags.`{name}`" for name in parent.data.tags}
    assert set(state["selectedColumns"]) <= there
    charts = {chart["metricKey"]: chart for chart in state["compareRunCharts"]}
    assert len(charts) == len(state["compareRunCharts"])
    assert {chart["metricSectionId"] for chart in charts.values()} == {s["uuid"] for s in state["compareRunSections"]}
    curves = {name for name in history(0)[0] if name != "epoch"}
    assert {name for name, chart in charts.items() if chart["type"] == "LINE"} >= curves
    assert {charts[name]["xAxisKey"] for name in curves} == {"step"}


def test_a_view_that_somebody_changed_is_left_alone(tmp_path, monkeypatch):
    folder = make_root(tmp_path / "project")
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    complete(rich(folder))
    experiment = client(folder).get_experiment_by_name("meadows").experiment_id
    client(folder).set_experiment_tag(experiment, view.VIEW, "mine")
    complete(rich(folder, summary=SUMMARY | {"patches": 31}))
    assert client(folder).get_experiment(experiment).tags[view.VIEW] == "mine"
    assert len([run for run in runs(folder) if "landfold.key" in run.data.tags]) == 2


def test_page_opens_at_the_runs_as_the_view_shows_them(root):
    experiment = client(root).get_experiment_by_name("meadows").experiment_id
    (root / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    query = "workflowType=machine_learning"
    assert ui.page_path(root / "mlflow.db", root) == (
        f"experiments/{experiment}/runs?{query}&viewStateShareKey={view.VIEW_KEY}"
    )
    for file, folder in ((None, root), (root / "mlflow.db", root / "metrics"), (root / "dvc.yaml", root)):
        assert ui.page_path(file, folder) == f"experiments?{query}"


def test_no_secret_is_kept(root, parent):
    uploaded = [path for path in (root / "mlruns").rglob("*") if path.is_file()]
    assert len(uploaded) > 10
    for path in [*uploaded, *root.glob("mlflow.db*")]:
        for secret in (PASSWORD, TOKEN, "0123abc"):
            assert secret.encode() not in path.read_bytes(), path
    assert parent.data.params["ingest.source"] == "https://***@data.example/scenes?band=B02&X-Amz-Signature=***"
    kept = yaml.safe_load((artifacts(root, parent) / "params.yaml").read_text())
    assert kept["ingest"]["source"] == parent.data.params["ingest.source"]
    assert (artifacts(root, parent) / "metrics/report.html").read_text() == "<p>https://***@data.example ***</p>"


@pytest.mark.parametrize(
    "text", ["https://data.example/a@b?band=B02", "mail anna@example.org", "src: git@host:path", "a //@ comment", ""]
)
def test_ordinary_text_is_left_alone(text):
    assert redact_secrets(text) == text


@pytest.mark.parametrize("secret", ["p@ss:w0rd", "pa%2Fss"])
def test_password_in_the_tracking_uri_is_redacted_wherever_it_stands(monkeypatch, secret):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://anna:{secret}@host:5000/x?token=abcd")
    text = f"at http://anna:{secret}@host:5000/x?token=abcd, password {secret}"
    assert redact_secrets(text) == "at http://host:5000/x, password ***"


@pytest.mark.parametrize(("limit", "kept"), [(0, []), (0.0005, ["a_class.tif"]), (1, ["a_class.tif", "b_large.tif"])])
def test_maps_are_kept_up_to_the_limit(tmp_path, monkeypatch, limit, kept):
    monkeypatch.chdir(tmp_path)
    files = collect_artifacts(rich(tmp_path, maps_mb=limit), tmp_path / "gathered")
    assert [Path(name).name for name in files.kept if name.startswith("data/maps")] == kept
    assert len(files.left_out) == 2 - len(kept)


def test_dirty_is_what_a_result_is_made_from(tmp_path):
    assert origin(tmp_path, "x.py") == {"mlflow.source.name": "x.py", "mlflow.source.type": "LOCAL"}
    git(tmp_path, "init", "-q", "-b", "trunk")
    assert "landfold.dirty" not in origin(tmp_path, "x.py")  # no commit yet
    for name in ("landfold/a b.py", "dvc.lock", "metrics/summary.json", "README.md", "params.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    for name in ("dvc.lock", "metrics/summary.json", "README.md"):
        (tmp_path / name).write_text("2")
    assert origin(tmp_path, "x.py")["landfold.dirty"] == "false"
    (tmp_path / "landfold/a b.py").write_text("2")
    (tmp_path / "landfold/new.py").write_text("2")
    (tmp_path / "params.yaml").unlink()
    git(tmp_path, "checkout", "-q", "--detach")
    tags = origin(tmp_path, "x.py")
    assert tags["landfold.dirty"] == "true"
    assert sorted(tags["landfold.changed_files"].split(", ")) == ["landfold/a b.py", "landfold/new.py", "params.yaml"]
    assert "mlflow.source.git.branch" not in tags


def test_a_fold_that_does_not_tell_its_data_is_refused(tmp_path):
    result = rich(tmp_path)
    (tmp_path / f"models/k{K}/fold_0/model.json").write_text('{"k": 2}')
    with pytest.raises(TrackingError, match=r"fold_0/model\.json: 'patches_digest' is missing; run `dvc repro`"):
        _ = result.data_digest


def test_file_store_is_refused_in_one_sentence_or_used_where_allowed(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "runs")
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    train(tmp_path, 0, k=K)
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert "no longer keeps runs in plain files; name a database such as sqlite:///mlflow.db" in said
    with pytest.raises(TrackingError, match=r"MLFLOW_TRACKING_URI .*/runs: this MLflow no longer keeps runs in plain"):
        complete(rich(tmp_path))
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    assert complete(rich(tmp_path)).restored == K
    assert not complete(rich(tmp_path)).changed
    assert list((tmp_path / "runs").rglob("artifacts/tables/per_class.csv"))


def test_system_metrics_are_noted_when_asked_for(tmp_path, monkeypatch, capfd):
    folder = make_root(tmp_path / "project")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    settings = ON.model_copy(update={"system_metrics": True})
    with tracking.live_run(settings, "meadows", name="fold_0", fold=0, k=K, params={}, workspace=folder) as run:
        run.log({"epoch": 1, "train_loss": 0.5})
        deadline = 100
        while deadline and not any(name.startswith("system/") for name in runs(folder)[0].data.metrics):
            deadline -= 1
            run.monitor._process.join(0.1)
        run.finish(write_fold(folder / "models/k2/fold_0", 0, K))
    (seen,) = runs(folder)
    assert seen.data.metrics["train_loss"] == 0.5
    assert "system/cpu_utilization_percentage" in seen.data.metrics
    assert capfd.readouterr() == ("", "")


def test_the_store_of_artifacts_fails_in_one_line_without_secrets(root, tmp_path, monkeypatch):
    workspace = make_root(tmp_path / "project")
    monkeypatch.chdir(workspace)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret-key")
    result = rich(workspace)

    def refuse(*_):
        raise ValueError("denied for s3cret-key at https://bob:hunter22@bucket")

    with monkeypatch.context() as patch:
        patch.setattr(type(client(workspace)), "log_artifacts", refuse)
        with pytest.raises(
            tracking.UnreachableStoreError, match=r"artifact store: denied for \*\*\* at https://\*\*\*@b"
        ):
            complete(result)
    assert complete(result).changed


def test_error_of_a_dead_server_names_no_user(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD_SERVER)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "bert-the-user")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(tracking.UnreachableStoreError, match=r"^http://127\.0\.0\.1:9: ") as caught:
        complete(rich(tmp_path))
    assert not [word for word in ("anna", "gehe", "bert-the-user") if word in str(caught.value)]


def test_page_of_a_server_is_named_without_the_password(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD_SERVER)
    ui.main("5000", tmp_path)
    assert capsys.readouterr().out.endswith("its own page: http://127.0.0.1:9\n")


@pytest.mark.parametrize("name", ["mlflow.db", "other.db"])
def test_page_of_a_database_has_its_uri_from_the_environment(tmp_path, monkeypatch, name):
    folder = make_root(tmp_path / "project")
    (folder / "mlflow.db").rename(folder / name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "" if name == "mlflow.db" else f"sqlite:///{name}")
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", "")  # so that it is forgotten after the test
    began = []
    monkeypatch.setattr(ui.os, "execv", lambda _, command: began.append(command))
    ui.main("5071", folder)
    assert began[0][1:] == ["-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", "5071"]
    assert os.environ["MLFLOW_BACKEND_STORE_URI"] == f"sqlite:///{folder}/{name}"


def test_a_training_that_goes_on_shows_the_epochs_before_it_was_stopped(tmp_path, monkeypatch):
    from landfold.network.callbacks import TrainingCallbacks
    from landfold.network.checkpoints import Checkpoint
    from tests.network.tiny import trained

    folder = make_root(tmp_path / "project")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def training(on_epoch=lambda row: None):
        with (
            Checkpoint(tmp_path / "states") as checkpoint,
            tracking.live_run(ON, "meadows", name="fold_0", fold=0, k=K, params={}, workspace=folder) as live,
        ):
            callbacks = TrainingCallbacks(on_epoch=lambda row: (live.log(row), on_epoch(row)))
            result = trained(epochs=3, checkpoint=checkpoint, callbacks=callbacks)
            live.finish("abc")
            return result

    def stop(row):
        if row["epoch"] == 2:
            raise KeyboardInterrupt("stopped")

    with pytest.raises(KeyboardInterrupt, match="stopped"):
        training(stop)
    told = training().history
    again, stopped = runs(folder)
    assert (stopped.info.status, again.info.status) == ("KILLED", "FINISHED")
    points = client(folder).get_metric_history(again.info.run_id, "train_loss")
    assert [point.step for point in points] == [1, 2, 3]
    assert [point.value for point in points] == list(told["train_loss"])
