"""The whole pipeline through real ``dvc repro``, in a repository of its own, on a tiny scene of known truth."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import yaml
from rasterio.features import rasterize

from tests import factories

ROOT = Path(__file__).parents[1]
GROUND_M = (1200.0, 1800.0)
STRIPE_M = 240.0
SCENE = "T33UUU_20170216T102101"


class Project:
    """A clone of the repository with a user's own data, and commands as the user types them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "GIT_CONFIG_GLOBAL": str(folder.parent / "gitconfig"),
            "DVC_GLOBAL_CONFIG_DIR": str(folder.parent / "dvc-global"),
            "DVC_SITE_CACHE_DIR": str(folder.parent / "dvc-site"),
            "DVC_NO_ANALYTICS": "1",
            "OMP_NUM_THREADS": "2",
        }
        for name in ("MLFLOW_TRACKING_URI", "DVC_EXP_NAME", "DVC_ROOT", "PYTHONPATH"):
            self.environment.pop(name, None)

    def __call__(self, command: str) -> str:
        """Run a command; its output, standard error below it."""
        result = subprocess.run(
            command.split(), cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
        return result.stdout + result.stderr

    def would_run(self, **changes: dict[str, object]) -> set[str]:
        """Stages that ``dvc repro --dry`` would run if these params changed."""
        path = self.folder / "params.yaml"
        before = path.read_text(encoding="utf-8")
        content = yaml.safe_load(before)
        for section, values in changes.items():
            content[section] |= values
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        try:
            output = self("dvc repro --dry")
        finally:
            path.write_text(before, encoding="utf-8")
        return {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")}


def stripe(east: np.ndarray, south: np.ndarray) -> np.ndarray:
    """Which pixels are lake: every other stripe from north to south."""
    return (east // STRIPE_M + south // (2 * STRIPE_M)) % 2 == 1


def band(land: int, water: int, resolution: float) -> tuple[float, object]:
    noise = np.random.default_rng(land)
    return (
        resolution,
        lambda east, south: np.where(stripe(east, south), water, land) + noise.integers(0, 60, east.shape),
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("pipeline") / "clone with space"
    folder.mkdir()
    for name in ("dvc.yaml", ".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("landfold", "stages", ".dvc/plots"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".dvc/config", folder / ".dvc/config")
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")) | factories.params(
        ingest__bands=["B", "G", "R", "N", "S1"],
        zones__block_size_m=600,
        audit__network=True,
        export__applicability=True,
    )
    params["train"] |= {"epochs": 6, "batch_size": 16}
    params["colours"] = {"field": "#f2d16b", "water": "#2f7fd1"}
    params["evaluate"]["bootstrap"] = 100
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    bands = {
        "B02": band(800, 700, 10),
        "B03": band(1000, 900, 10),
        "B04": band(1200, 500, 10),
        "B08": band(3000, 200, 10),
        "B11": band(2500, 100, 20),
    }
    factories.write_scene(
        folder / "data/raw/scenes" / SCENE, SCENE, bands, ground_m=GROUND_M, suffix=".jp2", nodata_corner_m=200
    )
    cells = [
        (column * STRIPE_M, row * 2 * STRIPE_M)
        for column in range(int(GROUND_M[1] // STRIPE_M) + 1)
        for row in range(int(GROUND_M[0] // (2 * STRIPE_M)) + 1)
    ]
    polygons = [
        ("lake" if stripe(np.float64(east), np.float64(south)) else "crop",
         factories.box(east, south, east + STRIPE_M, south + 2 * STRIPE_M))
        for east, south in cells
    ]  # fmt: skip
    factories.write_labels(folder / "data/raw/labels/fields & lakes.gpkg", polygons)
    project = Project(folder)
    project("git init -q -b main")
    project("git config user.email tester@example.org")
    project("git config user.name Tester")
    project("dvc remove fetch")  # the one documented step from the default data to one's own
    project("dvc add -q data/raw")
    project("dvc repro")
    project("git add -A")
    project("git commit -q -m first")
    return project


def test_the_map_shows_the_ground(project: Project) -> None:
    path = project.folder / f"data/maps/{SCENE}_class.tif"
    with rasterio.open(path) as dataset:
        assert dataset.crs == factories.CRS_UTM33
        assert dataset.transform[:6] == (80, 0, factories.ORIGIN_X, 0, -80, factories.ORIGIN_Y)
        assert dataset.shape == (15, 23)
        found = dataset.read(1)
        names = {value: dataset.tags(1)[f"CLASS_{value}"] for value in (1, 2)}
    assert names == {1: "field", 2: "water"}
    assert (found[:2, :2] == 0).all(), "nodata stays nodata"
    east, south = np.meshgrid(np.arange(23) * 80 + 40, np.arange(15) * 80 + 40)
    truth = np.where(stripe(east, south), 2, 1)
    seen = found > 0
    assert seen.sum() >= found.size - 9
    assert (found == truth)[seen].mean() > 0.85


def test_polygons_and_raster_agree(project: Project) -> None:
    import geopandas

    with rasterio.open(project.folder / f"data/maps/{SCENE}_class.tif") as dataset:
        found, transform = dataset.read(1), dataset.transform
    table = geopandas.read_file(project.folder / f"data/maps/{SCENE}.gpkg")
    numbers = table["class"].map({"field": 1, "water": 2})
    burned = rasterize(zip(table.geometry, numbers, strict=True), out_shape=found.shape, transform=transform)
    assert (burned == found).all()
    assert table["area_m2"].sum() == (found > 0).sum() * 6400


def test_summary_is_honest_and_in_git(project: Project) -> None:
    summary = factories.read_json(project.folder / "metrics/summary.json")
    accuracy = summary["zoned"]["accuracy"]
    assert accuracy["low"] <= accuracy["pooled"] <= accuracy["high"]
    assert accuracy["pooled"] > 0.85
    counts = factories.read_json(project.folder / "metrics/patches.json")
    assert counts["windows"] == counts["kept"] + sum(counts["dropped"].values())
    assert counts["dropped"]["invalid"] > 0, "the nodata corner"
    assert summary["patches"] == counts["kept"]
    tracked = project("git ls-files").splitlines()
    assert {"metrics/summary.json", "metrics/folds.json", "dvc.lock", "data/raw.dvc"} <= set(tracked)
    assert not [name for name in tracked if name.startswith(("data/scenes", "models", "mlflow.db", "mlruns"))]


def test_the_leak_is_measured_twice(project: Project) -> None:
    summary = factories.read_json(project.folder / "metrics/summary.json")
    audit = factories.read_json(project.folder / "metrics/audit.json")
    for found in (summary, audit):
        for score in ("accuracy", "macro_f1"):
            zoned, random, gap = (found[part][score] for part in ("zoned", "random", "gap"))
            assert gap["pooled"] == pytest.approx(random["pooled"] - zoned["pooled"], abs=1e-4)
            assert gap["low"] <= gap["pooled"] <= gap["high"]
    assert audit["patches"] == summary["patches"]
    assert audit["distances"]["held_out_to_train"]["zoned"]["median"] > 0
    tracked = project("git ls-files metrics").splitlines()
    assert {
        "metrics/report.html",
        "metrics/audit.json",
        "metrics/plots/gap.png",
        "metrics/plots/audit_distances.png",
    } <= set(tracked)


def test_the_map_tells_where_it_is_applicable(project: Project) -> None:
    found = factories.read_json(project.folder / "data/maps/applicability.json")
    with (
        rasterio.open(project.folder / f"data/maps/{SCENE}_applicability.tif") as dataset,
        rasterio.open(project.folder / f"data/maps/{SCENE}_class.tif") as mapped,
    ):
        assert (dataset.transform, dataset.shape, dataset.crs) == (mapped.transform, mapped.shape, mapped.crs)
        index, inside = dataset.read()
        data = mapped.read(1) > 0
    assert (np.isfinite(index) == data).all()
    assert (inside[data] == (index[data] <= found["threshold"])).all()


def test_mlflow_has_one_parent_and_one_child_a_fold(project: Project) -> None:
    with sqlite3.connect(project.folder / "mlflow.db") as database:
        alive = database.execute(
            "SELECT r.run_uuid, r.status, (SELECT value FROM tags t WHERE t.run_uuid = r.run_uuid "
            "AND t.key = 'mlflow.parentRunId') FROM runs r WHERE r.lifecycle_stage = 'active'"
        ).fetchall()
    parents = [run for run, _, parent in alive if parent is None]
    assert len(parents) == 1
    assert [parent for _, _, parent in alive if parent] == parents * 2
    assert {status for _, status, _ in alive} == {"FINISHED"}


def test_kept_work_takes_no_space_of_its_own(project: Project) -> None:
    """An output, its copy in DVC's cache and the one beside it are one file."""
    for stage, folder in (("ingest", "scenes"), ("normalize", "normalized")):
        (kept,) = project.folder.glob(f".dvc/tmp/landfold/{stage}/*/{SCENE}.tif")
        assert kept.samefile(project.folder / f"data/{folder}/{SCENE}.tif")
        assert kept.stat().st_nlink == 3


def test_nothing_is_done_twice(project: Project) -> None:
    lock = (project.folder / "dvc.lock").read_bytes()
    output = project("dvc repro")
    ran = [line for line in output.splitlines() if line.startswith("Running stage")]
    assert ran == ["Running stage 'track':"]
    assert (project.folder / "dvc.lock").read_bytes() == lock
    status = json.loads(project("dvc status --json"))
    assert set(status) == {"track"}
    assert project("git status --porcelain") == ""


def test_a_change_reruns_only_what_reads_it(project: Project) -> None:
    assert project.would_run() == {"track"}
    trained = {"train@0", "train@1", "random@0", "random@1"}
    assert project.would_run(train={"learning_rate": 0.002}) == trained | {"package", "report", "track"}
    assert project.would_run(audit={"network": False}) == {"random@0", "random@1", "report", "track"}
    assert project.would_run(audit={"trees": 20}) == {"audit", "report", "track"}
    zoned = project.would_run(zones={"block_size_m": 500})
    assert "zones" in zoned
    assert not zoned & {"ingest", "indices", "normalize", "patches"}
    assert project.would_run(export={"stride_px": 4}) == {"export", "package", "report", "track"}
    assert project.would_run(project={"name": "renamed"}) == {"package", "report", "track"}


def test_an_experiment_changes_what_it_names(project: Project) -> None:
    project("dvc exp run --name finer -S export.stride_px=4")
    with rasterio.open(project.folder / f"data/maps/{SCENE}_class.tif") as dataset:
        assert dataset.transform.a == 40
    assert "finer" in project("dvc exp list --name-only")
    assert "macro_f1" in project("dvc metrics show")
    project("dvc plots show")
    assert (project.folder / "dvc_plots/index.html").exists()
