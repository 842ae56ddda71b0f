"""The whole pipeline through real ``dvc repro``, in a repository of its own, on a tiny scene of known truth."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
import yaml
from rasterio.features import rasterize

from tests import factories
from tests.projects import DVC, MLFLOW, PIXELS, ROOT, Project, launcher, ran, recorded, repository

GROUND_M = (1200.0, 1800.0)
STRIPE_M = 240.0
SCENE = "T33UUU_20170216T102101"


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
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    project = begin(tmp_path_factory.mktemp("pipeline") / "clone with space")
    project("dvc repro")
    project.commit("first")
    yield project
    project.end()


def begin(folder: Path) -> Project:
    """The repository as it is, with a user's own data; nothing has run."""
    project = repository(folder, DVC + MLFLOW + PIXELS)
    shutil.copy(ROOT / "dvc.yaml", folder / "dvc.yaml")
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")) | factories.params(
        ingest__bands=["B", "G", "R", "N", "S1"],
        zones__block_size_m=600,
        audit__network=True,
        export__applicability=True,
    )
    params["train"] |= {"epochs": 6, "batch_size": 16}
    params["colours"] = {"field": "#f2d16b", "water": "#2f7fd1"}
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
    project("dvc remove fetch")  # the one documented step from the default data to one's own
    project("dvc add -q data/raw")
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
    assert (found == truth)[seen].mean() > 0.8


def test_polygons_and_raster_agree(project: Project) -> None:
    import geopandas

    with rasterio.open(project.folder / f"data/maps/{SCENE}_class.tif") as dataset:
        found, transform = dataset.read(1), dataset.transform
    table = geopandas.read_file(project.folder / f"data/maps/{SCENE}.gpkg", layer="classes")
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
    (found,) = recorded(project.folder / "mlflow.db", 2).values()
    assert found.folds == {0: "live", 1: "live"}


def test_kept_work_takes_no_space_of_its_own(project: Project) -> None:
    """An output, its copy in DVC's cache and the one beside it are one file."""
    for stage, folder in (("ingest", "scenes"), ("normalize", "normalized")):
        (kept,) = project.folder.glob(f".dvc/tmp/landfold/{stage}/*/{SCENE}.tif")
        assert kept.samefile(project.folder / f"data/{folder}/{SCENE}.tif")
        assert kept.stat().st_nlink == 3


def test_nothing_is_done_twice(project: Project) -> None:
    lock = (project.folder / "dvc.lock").read_bytes()
    assert ran(project("dvc repro")) == ["track"]
    assert (project.folder / "dvc.lock").read_bytes() == lock
    status = json.loads(project("dvc status --json"))
    assert set(status) == {"track"}
    assert project("git status --porcelain") == ""


def test_an_experiment_changes_what_it_names(project: Project) -> None:
    project("dvc exp run --temp --name finer -S export.stride_px=4")
    assert project("git status --porcelain") == ""
    project("dvc exp apply finer")
    with rasterio.open(project.folder / f"data/maps/{SCENE}_class.tif") as dataset:
        assert dataset.transform.a == 40
    assert "macro_f1" in project("dvc metrics show")
    project("dvc plots show")
    assert (project.folder / "dvc_plots/index.html").exists()
    project("git reset -q --hard")
    project("dvc checkout -q")


def test_another_machine_runs_no_code(project: Project, tmp_path: Path) -> None:
    project("git init -q --bare -b main ../origin.git")
    project("git remote add origin ../origin.git")
    project("dvc remote add -q -d shared ../shared")
    project.commit("remote")
    project("git push -q origin main")
    project("dvc push -q")
    there = project.clone("second", "../origin.git")
    notes = recording(there, tmp_path)
    assert ran(there("dvc repro --pull")) == ["track"]
    assert notes.read_text(encoding="utf-8").splitlines() == ["-m stages.track"]
    for name in ("data", "models", "metrics"):
        assert factories.tree(there.folder / name) == factories.tree(project.folder / name)
    assert there("git status --porcelain") == ""
    (found,) = recorded(there.folder / "mlflow.db", 2).values()
    assert found.folds == {0: "restored", 1: "restored"}


def recording(project: Project, folder: Path) -> Path:
    """Put a python before the real one that notes what it is asked to run; the file of the notes."""
    notes = folder / "calls.txt"
    notes.touch()
    python = launcher(*project.libraries) / "python"
    (folder / "python").write_text(f'#!/bin/sh\necho "$*" >> "{notes}"\nexec "{python}" "$@"\n')
    (folder / "python").chmod(0o755)
    project.environment["PATH"] = f"{folder}{os.pathsep}{project.environment['PATH']}"
    return notes
