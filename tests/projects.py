"""Repositories of their own for tests with real git and DVC, and what they left in MLflow.

`small_project` has the shape of the whole pipeline, real tracking and stub trainings: each command takes a second
or two. Trainings wait at their last epoch while ``HOLD`` names a folder (see `Project.held`).
"""

import atexit
import functools
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml

from tests import factories, forkserver

ROOT = Path(__file__).parents[1]
PATIENCE_S = 900
"""No step takes a twentieth of it on an idle machine."""

DVC = ("dvc.cli", "dvc.repo.experiments", "dvc.repo.experiments.queue.celery", "dvc.repo.reproduce", "dvc_render")
MLFLOW = ("mlflow", "mlflow.store.tracking.sqlalchemy_store", "pydantic", "ruamel.yaml")
PIXELS = (
    "rasterio",
    "geopandas",
    "sklearn.ensemble",
    "spyndex",
    "matplotlib.pyplot",
    "torchvision",
    "lightning_fabric",
)
"""Libraries that are slow to import: `launcher` takes those that a project's commands need."""


@functools.cache
def launcher(*libraries: str) -> Path:
    """A folder for the front of PATH; the server starts once for the same libraries and ends with this process."""
    folder = Path(tempfile.mkdtemp(prefix="landfold-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for program in ("python", "dvc"):
        (folder / program).write_text(
            f'#!/bin/sh\nexport {forkserver.SOCKET}="{folder}/socket"\n'
            f'exec "{sys.executable}" -SEs "{forkserver.__file__}" {program} "$@"\n'
        )
        (folder / program).chmod(0o755)
    arithmetic = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "OPENBLAS_CORETYPE": "Haswell"}
    quiet = arithmetic | {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "GIT_PYTHON_REFRESH": "quiet"}
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "DVC_", "AWS_"))
    }
    server = subprocess.Popen(
        [sys.executable, forkserver.__file__, "serve", f"{folder}/socket", *libraries],
        env=environment | quiet | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    atexit.register(server.stdin.close)
    assert server.stdout.readline() == b"ready\n"
    return folder


class Project:
    """A git and DVC repository, and commands in it as the user types them.

    Configuration and DVC's site cache are of the folder above it, shared by the clones that lie beside it. Its
    processes start with ``libraries`` imported (tests/forkserver.py).
    """

    def __init__(self, folder: Path, libraries: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.libraries = libraries
        self.environment = os.environ | {
            "PATH": f"{launcher(*libraries)}{os.pathsep}{os.environ['PATH']}",
            "GIT_CONFIG_GLOBAL": str(folder.parent / "gitconfig"),
            "DVC_GLOBAL_CONFIG_DIR": str(folder.parent / "dvc-global"),
            "DVC_SITE_CACHE_DIR": str(folder.parent / "dvc-site"),
            "DVC_NO_ANALYTICS": "1",
            "OMP_NUM_THREADS": "1",
            "no_proxy": "127.0.0.1",
            "NO_PROXY": "127.0.0.1",
        }
        for name in list(self.environment):
            if name.startswith(("MLFLOW_", "AWS_")) or name in ("DVC_EXP_NAME", "DVC_ROOT", "PYTHONPATH"):
                del self.environment[name]

    def __call__(self, command: str, **environment: str) -> str:
        """Run a command; its output, standard error below it."""
        with self.begun(command, **environment) as process:
            output, _ = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, f"{command}\n{output}"
        return output

    @contextmanager
    def begun(self, command: str, **environment: str) -> Iterator[subprocess.Popen]:
        """Begin a command in a process group of its own."""
        process = subprocess.Popen(
            command.split(),
            cwd=self.folder,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()

    def commit(self, message: str) -> None:
        """Commit everything."""
        self("git add -A")
        self(f"git commit -q -m {message}")

    def clone(self, name: str, source: str | None = None) -> "Project":
        """A fresh clone beside this one."""
        self(f"git clone -q {source or self.folder} {self.folder.parent / name}")
        return Project(self.folder.parent / name, self.libraries)

    def set(self, **values: object) -> None:
        """Change settings in params.yaml, such as ``train__epochs=3``."""
        path = self.folder / "params.yaml"
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        for name, value in values.items():
            section, key = name.split("__")
            content[section][key] = value
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")

    def run_queue(self, workers: int) -> None:
        """Run what is queued; come back when all is done and the workers are gone."""
        self(f"dvc queue start -j {workers}")
        wait_for(lambda: not self.processes(), "the queue's workers to end")
        tasks = [line.split() for line in self("dvc queue status").splitlines()]
        undone = [task for task in tasks if task and task[-1] in ("Failed", "Queued", "Running")]
        assert not undone, "\n".join(self(f"dvc queue logs {task}") for task, *_ in undone)

    def processes(self) -> list[psutil.Process]:
        """Processes that were begun in this repository and still run."""
        found = []
        for process in psutil.process_iter():
            try:
                if Path(process.cwd()).is_relative_to(self.folder) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found

    def end(self) -> None:
        """Kill whatever a failed test has left running."""
        for process in self.processes():
            process.kill()


def wait_for(done: Callable[[], bool], what: str) -> None:
    """Ask until it is so."""
    end = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < end, f"waited {PATIENCE_S} s for {what}"
        time.sleep(0.1)


def ran(output: str) -> list[str]:
    """Stages whose command DVC ran, by what it printed."""
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


@contextmanager
def dead_port() -> Iterator[int]:
    """A port of this machine that refuses everyone for as long as the block lasts."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@dataclass(frozen=True)
class Recorded:
    """A complete parent run in MLflow, and how each fold's child came about: live or restored."""

    name: str
    folds: dict[int, str]


def recorded(database: Path, k: int) -> dict[str, Recorded]:
    """All results in an MLflow database by their keys; anything in it that is no part of a whole result fails."""
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        runs = {
            run: {"name": name, "status": status}
            for run, name, status in connection.execute(
                "SELECT run_uuid, name, status FROM runs WHERE lifecycle_stage = 'active'"
            )
        }
        for run, key, value in connection.execute("SELECT run_uuid, key, value FROM tags"):
            runs.get(run, {})[key] = value
    unfinished = [run for run in runs.values() if run["status"] != "FINISHED"]
    assert not unfinished, unfinished
    parents = {run: tags for run, tags in runs.items() if "landfold.key" in tags}
    folds: dict[str, dict[int, str]] = {run: {} for run in parents}
    for run in runs.keys() - parents.keys():
        tags = runs[run]
        assert tags.get("mlflow.parentRunId") in parents, f"an orphan: {tags}"
        assert tags["dvc.fold_digest"]
        siblings = folds[tags["mlflow.parentRunId"]]
        assert int(tags["landfold.fold"]) not in siblings, f"a second child of one fold: {tags}"
        siblings[int(tags["landfold.fold"])] = tags["landfold.state"]
    for run, tags in parents.items():
        assert tags["landfold.complete"] == "true"
        assert sorted(folds[run]) == list(range(k)), f"{tags}: {folds[run]}"
    results = {tags["landfold.key"]: Recorded(tags["name"], folds[run]) for run, tags in parents.items()}
    assert len(results) == len(parents), "two parents of one result"
    return results


TRAINER = '''"""What stage train does around a training, without one."""
import os
import sys
import tempfile
import time
from pathlib import Path

from landfold import tracking
from landfold.core.digests import digest
from landfold.core.files import write_json, writing_folder
from landfold.params import read_params

params = read_params()
fold, k, train = int(sys.argv[1]), params.zones.k, params.train
rate = (train.learning_rate, train.weight_decay)[fold]
folder = Path(f"models/k{k}/fold_{fold}")
shared = {"patches_digest": digest(Path("data/raw")), "statistics_digest": "s", "fold_digest": f"f{fold}"}
card = {"model": {"backbone": "none"}, "train": {"epochs": train.epochs, "rate": rate}}
flat = tracking.flatten(card)
on = params.track
if os.environ.get("UNTRACKED"):
    on = on.model_copy(update={"enabled": False})
with tracking.live_run(on, params.project.name, name=f"fold_{fold}", fold=fold, k=k, params=flat) as live:
    rows = ["epoch,learning_rate,train_loss,train_accuracy,validation_loss,validation_accuracy"]
    for epoch in range(1, train.epochs + 1):
        values = [epoch, rate, 1 / epoch, 1 - 1 / epoch, 1 / epoch, fold / 10]
        rows.append(",".join(map(str, values)))
        live.log(dict(zip(rows[0].split(","), values)))
    if hold := os.environ.get("HOLD"):
        Path(hold, f"fold_{fold}").write_text(str(os.getpid()))
        while Path(hold).exists():
            time.sleep(0.05)
    with writing_folder(folder) as temporary:
        write_json(temporary / "model.json", shared | card | {"fold": fold, "k": k, "classes": ["a"], "channels": []})
        (temporary / "history.csv").write_text("\\n".join(rows) + "\\n")
        (temporary / "model.safetensors").write_text(f"{fold} {rate}")
        (temporary / "predictions.parquet").write_text("PAR1")
    live.finish(digest(folder))
'''

SCORER = '''"""What stage evaluate does for this test: a score that tells the settings of all folds."""
from pathlib import Path

from landfold.core.files import read_json, write_json

cards = [read_json(path) for path in sorted(Path("models").glob("k*/fold_*/model.json"))]
rates = sum(card["train"]["rate"] for card in cards)
write_json(Path("metrics/summary.json"), {"zoned": {"accuracy": {"pooled": rates}}, "zones": 2})
'''

PIPELINE = {
    "train": {
        "foreach": {"0": "learning_rate", "1": "weight_decay"},
        "do": {
            "cmd": "python trainer.py ${key}",
            "deps": ["data/raw", "trainer.py"],
            "params": ["train.epochs", "zones.k", "train.${item}"],
            "outs": ["models/k${zones.k}/fold_${key}"],
        },
    },
    "evaluate": {
        "cmd": "python scorer.py",
        "deps": ["models/k${zones.k}", "scorer.py"],
        "metrics": [{"metrics/summary.json": {"cache": False}}],
    },
    "track": {
        "cmd": "python -m stages.track",
        "deps": ["models/k${zones.k}", "metrics/summary.json"],
        "always_changed": True,
    },
}
"""Each fold reads a setting of its own, so that an experiment need train only one of the two."""


def repository(folder: Path, libraries: tuple[str, ...] = DVC) -> Project:
    """An empty git repository with this one's code, settings of DVC, and files that git and DVC leave out."""
    folder.mkdir(parents=True)
    for name in (".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("landfold", "stages", ".dvc/plots"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (".dvc/config", ".dvc/.gitignore"):
        shutil.copy(ROOT / name, folder / name)
    project = Project(folder, libraries)
    project("git init -q -b main")
    project("git config --global user.email tester@example.org")
    project("git config --global user.name Tester")
    return project


def small_project(folder: Path) -> Project:
    """A repository with two folds and stub trainings, committed; nothing has run."""
    project = repository(folder, DVC + MLFLOW)
    params = factories.whole(
        {
            "zones": {"k": 2, "folds": [0, 1]},
            "train": {"epochs": 3, "learning_rate": 0.1, "weight_decay": 0.1, "schedule": "constant"},
        }
    )
    for name, content in (("params.yaml", params), ("dvc.yaml", {"stages": PIPELINE})):
        (folder / name).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    (folder / "trainer.py").write_text(TRAINER, encoding="utf-8")
    (folder / "scorer.py").write_text(SCORER, encoding="utf-8")
    (folder / "data/raw").mkdir(parents=True)
    (folder / "data/raw/scene.txt").write_text("pixels", encoding="utf-8")
    project("dvc add -q data/raw")
    project.commit("first")
    return project
