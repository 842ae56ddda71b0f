"""Results as the stages leave them, and what MLflow has of them; each test starts from a copy of one empty database."""

import csv
import io
import json
import multiprocessing
import os
import shutil
import subprocess
import tempfile
from functools import cache
from importlib import import_module
from pathlib import Path

import yaml

from landfold import tracking
from landfold.core.digests import digest
from landfold.core.files import write_json
from landfold.tracking import TrackSettings
from landfold.tracking.library import load_mlflow
from landfold.tracking.result import TrackedResult

ON = TrackSettings(enabled=True, maps_mb=1, system_metrics=False)


EPOCHS = 3


DEAD_SERVER = "http://anna:gehe!m@127.0.0.1:9"  # port 9, discard: refused at once


REPOSITORY = Path(__file__).parents[2]


@cache
def _empty_database() -> tuple[Path, tempfile.TemporaryDirectory]:
    folder = tempfile.TemporaryDirectory()
    file = Path(folder.name) / "mlflow.db"
    tracking.create_database(file)
    return file, folder


def make_root(folder: Path) -> Path:
    """A checkout with an empty MLflow database."""
    folder.mkdir(parents=True)
    shutil.copy(_empty_database()[0], folder / "mlflow.db")
    return folder


def history(fold: int) -> list[dict[str, float]]:
    return [
        {"epoch": epoch, "learning_rate": 0.01, "train_loss": 1 / (epoch + fold), "validation_accuracy": epoch / 10}
        for epoch in range(1, EPOCHS + 1)
    ]


def write_fold(folder: Path, fold: int, k: int, *, weights: str = "a") -> str:
    """A fold's folder as stage train leaves it; its digest."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(f"{weights} {fold}".encode())
    (folder / "predictions.parquet").write_bytes(b"PAR1")
    card = {"model": {"backbone": "resnet18"}, "train": {"epochs": EPOCHS}, "k": k, "fold": fold}
    data = {"patches_digest": "p", "statistics_digest": "s", "fold_digest": f"f{fold}"}
    write_json(folder / "model.json", card | data | {"channels": ["R", "NDVI"], "classes": ["farm", "Grünland"]})
    rows = history(fold)
    lines = [",".join(rows[0])] + [",".join(str(value) for value in row.values()) for row in rows]
    (folder / "history.csv").write_text("\n".join(lines) + "\n")
    return digest(folder)


def result_in(workspace: Path, k: int = 3, **changes) -> TrackedResult:
    """The result whose folds and metrics lie in a workspace; folds that are missing are written."""
    folds = [workspace / f"models/k{k}/fold_{fold}" for fold in range(k)]
    for fold, folder in enumerate(folds):
        if not folder.exists():
            write_fold(folder, fold, k)
    summary = {"zoned": {"accuracy": {"pooled": 0.7, "mean": 0.69, "std": 0.02}, "f1": {"Grünland": 0.5}}, "zones": 9}
    for name in ("summary.json", "plots/curves.csv"):
        (workspace / "metrics" / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace / "metrics" / name).write_text("{}")
    values = {
        "experiment": "meadows",
        "params": {"project": {"name": "meadows"}, "zones": {"k": k, "folds": list(range(k))}, "train": {"lr": 0.01}},
        "summary": summary,
        "folds": folds,
        "artifacts": [Path("metrics/summary.json"), Path("metrics/plots"), Path("dvc.lock")],
        "workspace": workspace,
    }
    return TrackedResult(**values | changes)


def train(workspace: Path, fold: int, k: int = 3, **options) -> None:
    """What stage train does for one fold, live."""
    params = tracking.flatten({"model": {"backbone": "resnet18"}, "train": {"epochs": EPOCHS}})
    with tracking.live_run(
        ON, "meadows", name=f"fold_{fold}", fold=fold, k=k, params=params, workspace=workspace
    ) as run:
        for row in history(fold):
            run.log(row)
        run.finish(write_fold(workspace / f"models/k{k}/fold_{fold}", fold, k, **options))


def client(root: Path):
    return load_mlflow().MlflowClient(tracking_uri=f"sqlite:///{root}/mlflow.db")


def runs(root: Path) -> list:
    found = client(root)
    return list(found.search_runs([found.get_experiment_by_name("meadows").experiment_id]))


def nested(root: Path) -> dict[str, dict[str, str]]:
    """Key of every complete parent: fold -> state of its child. Anything else in the experiment fails."""
    everything = runs(root)
    parents = {r.info.run_id: r.data.tags["landfold.key"] for r in everything if "landfold.key" in r.data.tags}
    shape: dict[str, dict[str, str]] = {key: {} for key in parents.values()}
    assert len(shape) == len(parents), "two parents of one key"
    for run in everything:
        assert run.info.status == "FINISHED"
        if run.info.run_id in parents:
            assert run.data.tags["landfold.complete"] == "true"
        else:
            children = shape[parents[run.data.tags["mlflow.parentRunId"]]]
            assert run.info.run_name not in children
            children[run.info.run_name] = run.data.tags["landfold.state"]
    return shape


def snapshot(root: Path) -> str:
    return json.dumps(sorted([r.to_dictionary() for r in runs(root)], key=lambda r: r["info"]["run_id"]))


def in_processes(count: int, function, root: Path) -> None:
    """Run at once in processes of their own; forked, since each would import mlflow for seconds."""
    import_module("mlflow.store.tracking.sqlalchemy_store")
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=function, args=(root,)) for _ in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)


def start_and_finish(root: Path) -> None:
    with tracking.live_run(ON, "meadows", name="fold_0", fold=0, k=3, params={}, workspace=root) as run:
        run.finish("x")


def train_and_fail(root: Path) -> None:
    with tracking.live_run(ON, "meadows", name="fold_0", fold=0, k=3, params={}, workspace=root):
        raise ValueError("diverged")


def run_until_killed(root: Path) -> None:
    with tracking.live_run(ON, "meadows", name="fold_2", fold=2, k=3, params={}, workspace=root) as run:
        run.log({"epoch": 1, "train_loss": 0.5})
        os._exit(9)


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


def artifacts(root: Path, run) -> Path:
    return root / "mlruns" / run.info.run_id / "artifacts"


def table(root: Path, run, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((artifacts(root, run) / f"tables/{name}.csv").read_text("utf-8"))))
