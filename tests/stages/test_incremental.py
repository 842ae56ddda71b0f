"""One more scene costs one scene in every scene stage; the outputs are those of a run without the cache."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import geopandas
import pytest
import rasterio
from affine import Affine

import stages.indices
import stages.ingest
import stages.normalize
import stages.patches
from landfold.params import read_params
from tests.factories import (
    ORIGIN_X,
    ORIGIN_Y,
    PIXELS,
    box,
    halves,
    leftovers,
    read_json,
    small_scene,
    tree,
    write_labels,
    write_params,
)
from tests.imports import ROOT

RAW = "data/raw/scenes"
LABELS = "data/raw/labels/labels.gpkg"
CACHE = ".dvc/tmp/landfold"
STAGES = ("ingest", "indices", "normalize", "patches")
WORKERS = {
    "ingest": ("ingest_scene", lambda scene, *_: scene.name),
    "indices": ("write_indices", lambda file, *_: file.stem),
    "normalize": ("normalize_scene", lambda files, *_: files[0].stem),
    "patches": ("cut_patches", lambda scene, *_: scene),
}
"""For each stage the function that does a scene's work, and the scene's name among its arguments."""

NOTHING = {stage: [] for stage in STAGES}


def everywhere(*scenes):
    return {stage: list(scenes) for stage in STAGES}


@pytest.fixture
def work(monkeypatch, stage):
    """Run the four stages, or those that are named: which scenes each of them worked on."""
    done = {}

    def counted(name, function, scene_of):
        def counting(*arguments, **options):
            done[name].append(scene_of(*arguments))
            return function(*arguments, **options)

        return counting

    for name, (function, scene_of) in WORKERS.items():
        module = sys.modules[f"stages.{name}"]
        monkeypatch.setattr(module, function, counted(name, getattr(module, function), scene_of))

    def run(*names):
        done.clear()
        for name in names or STAGES:
            done[name] = []
            out = stage(sys.modules[f"stages.{name}"])
            assert f"{len(done[name]) - out.count('left out')} computed, " in out.splitlines()[-1]
        return dict(done)

    return run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A repository with three scenes, through all stages once."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / ".dvc").mkdir()
    deliver(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for stage in STAGES:
            assert "3 computed, 0 unchanged" in sys.modules[f"stages.{stage}"].main(read_params())
    return folder


@pytest.fixture
def project(tmp_path, finished):
    """A copy of it, files with their times and links, for a test of its own."""
    subprocess.run(["cp", "-a", f"{finished}/.", tmp_path], check=True)
    return tmp_path


def deliver(folder):
    write_params(folder)
    for name in "abc":
        small_scene(folder / RAW, name)
    halves(folder / LABELS)


def made(folder):
    """All outputs of the stages."""
    return {f"data/{name}": sha256 for name, sha256 in tree(folder / "data").items() if not name.startswith("raw/")} | {
        f"metrics/{name}": sha256 for name, sha256 in tree(folder / "metrics").items()
    }


def brighten(path):
    with rasterio.open(path, "r+") as dataset:
        dataset.write(dataset.read() + dataset.read().astype(bool))


def test_what_is_unchanged_costs_nothing_and_gives_the_same_bytes(project, work):
    before = made(project)
    assert work() == NOTHING
    assert made(project) == before
    for folder in ("scenes", "indices", "normalized", "statistics"):  # as DVC does before it runs a stage
        shutil.rmtree(project / "data" / folder)
    assert work() == NOTHING
    assert made(project) == before
    assert leftovers(project) == []


def test_the_outputs_are_those_of_a_run_without_a_cache(tmp_path, work, project, monkeypatch):
    plain = tmp_path / "plain"
    plain.mkdir()
    deliver(plain)
    monkeypatch.chdir(plain)
    assert work() == everywhere("a", "b", "c")
    assert made(plain) == made(project)
    assert work("ingest") == {"ingest": ["a", "b", "c"]}
    assert not (plain / ".dvc").exists()


def test_one_more_scene_costs_one_scene(project, work):
    small_scene(project / RAW, "aa")
    assert work() == everywhere("aa")
    assert work() == NOTHING
    report = read_json(project / "data/scenes/report.json")
    assert [entry["scene"] for entry in report["scenes"]] == ["a", "aa", "b", "c"]


def test_a_changed_scene_costs_itself(project, work):
    before = made(project)
    brighten(project / RAW / "b/b_B04.tif")
    assert work() == everywhere("b")
    changed = {name for name, sha256 in made(project).items() if before[name] != sha256}
    outputs = {f"data/{kind}/b.tif" for kind in ("scenes", "indices", "normalized")}
    assert changed >= outputs | {"data/statistics/b.json", "data/scenes/report.json"}
    assert not [name for name in changed if Path(name).stem in ("a", "c")]


def test_a_removed_scene_disappears_everywhere(project, work):
    shutil.rmtree(project / RAW / "b")
    assert work() == NOTHING
    assert not [name for name in made(project) if Path(name).stem == "b"]
    assert set(geopandas.read_parquet(project / "data/patches.parquet")["scene"]) == {"a", "c"}
    assert [entry["scene"] for entry in read_json(project / "data/scenes/report.json")["scenes"]] == ["a", "c"]
    assert read_json(project / "metrics/patches.json")["windows"] == 2 * 140


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"ingest__min_valid": 0.01}, {"ingest"}),  # the pixels stay as they are, so all that follows does
        ({"ingest__on_refusal": "skip"}, set()),
        ({"ingest__bands": ["B", "R", "G", "N"]}, set(STAGES)),
        ({"indices__names": ["NDVI"]}, {"indices", "normalize"}),
        ({"normalize__low_percentile": 1}, {"normalize"}),
        ({"patches__stride_px": 16}, {"patches"}),
        ({"labels__classes": {"field": ["meadow", "crop"], "water": ["lake"]}}, {"patches"}),
    ],
)
def test_a_setting_costs_the_stages_that_read_it(project, work, changes, expected):
    before = made(project)
    write_params(project, **changes)
    assert work() == {stage: ["a", "b", "c"] if stage in expected else [] for stage in STAGES}
    write_params(project)
    assert work() == NOTHING, "going back costs nothing either"
    assert made(project) == before


def test_a_change_of_code_costs_all_scenes(project, work, monkeypatch):
    for stage in STAGES:
        monkeypatch.setattr(f"stages.{stage}.CODE", "other")
    assert work() == everywhere("a", "b", "c")
    assert work() == NOTHING


def test_other_libraries_cost_all_scenes(project, work, monkeypatch):
    monkeypatch.setattr("rasterio.__gdal_version__", "99.9")
    assert work() == everywhere("a", "b", "c")


def test_what_gdal_reads_beside_a_file_belongs_to_its_scene(project, work):
    (project / RAW / "b/b_B04.tif.aux.xml").write_text("<PAMDataset></PAMDataset>\n")
    assert work("ingest") == {"ingest": ["b"]}
    (project / RAW / "b/b_B04.TFW").write_text("10\n0\n0\n-10\n399965\n5800015\n")
    assert work("ingest") == {"ingest": ["b"]}


def test_a_file_of_no_scene_changes_a_warning_and_no_scene(project, work, stage):
    (project / RAW / "b/notes.txt").touch()
    assert work("ingest") == {"ingest": []}
    warnings = [entry["warnings"] for entry in read_json(project / "data/scenes/report.json")["scenes"]]
    assert [any("notes.txt" in text for text in of_scene) for of_scene in warnings] == [False, True, False]


@pytest.mark.parametrize("name", ["scenes/b.tif", "normalized/b.tif", "statistics/b.json"])
def test_an_output_that_was_edited_in_place_does_not_come_back(project, work, name):
    before = made(project)
    with (project / "data" / name).open("r+b") as file:
        file.seek(5)
        file.write(b"##")
    assert made(project) != before
    producer = "ingest" if name.startswith("scenes") else "normalize"
    assert work(producer) == {producer: ["b"]}
    assert made(project) == before


def test_a_damaged_cache_is_repaired_or_left_out_and_never_used(project, work):
    before = made(project)
    [cached] = (project / CACHE / "ingest").glob("*/a.tif")
    cached.unlink()
    cached.write_bytes(b"half")
    assert work("ingest") == {"ingest": ["a"]}
    assert work("ingest") == {"ingest": []}
    for content in (b"\0no JSON" * 1000, b"[]"):
        (project / CACHE / "digests.json").write_bytes(content)
        assert work() == NOTHING, "only the digests of the files are taken again"
    shutil.rmtree(project / CACHE)
    assert work() == everywhere("a", "b", "c")
    assert made(project) == before
    shutil.rmtree(project / CACHE)
    (project / CACHE).touch()
    assert work() == everywhere("a", "b", "c")
    assert made(project) == before
    assert leftovers(project) == []


def test_a_killed_run_leaves_nothing_half_and_its_finished_scenes_are_kept(tmp_path, work):
    (tmp_path / ".dvc").mkdir()
    deliver(tmp_path)
    code = """
import os, stages.ingest as stage
from landfold.params import read_params
work = stage.ingest_scene
def killed(scene, *arguments, **options):
    if scene.name == "c":
        os._exit(9)
    return work(scene, *arguments, **options)
stage.ingest_scene = killed
stage.main(read_params())
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=False)
    assert process.returncode == 9
    assert not (tmp_path / "data/scenes").exists()
    kept = sorted(path.name for path in (tmp_path / CACHE).rglob("*.tif"))
    assert kept == ["a.tif", "b.tif"]
    work()
    assert sorted(tree(tmp_path / "data/scenes")) == ["a.tif", "b.tif", "c.tif", "report.json"]
    assert leftovers(tmp_path) == []


def test_an_interrupted_scene_is_not_kept(project, work, stage, monkeypatch):
    before = made(project)
    small_scene(project / RAW, "aa")

    def interrupted(scene, settings, crs, target, **_):
        target.write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("stages.ingest.ingest_scene", interrupted)
        with pytest.raises(KeyboardInterrupt, match=r"^$"):
            stage(stages.ingest)
    assert {name: sha256 for name, sha256 in made(project).items() if name in before} == before
    assert work("ingest") == {"ingest": ["aa"]}


def test_a_refused_scene_is_asked_again_and_leaves_the_others_kept(project, work):
    small_scene(project / RAW, "bad", crs=None)
    write_params(project, ingest__on_refusal="skip")
    assert work("ingest") == {"ingest": ["bad"]} == work("ingest")
    assert "has no CRS" in read_json(project / "data/scenes/report.json")["refusals"]["bad"]


def test_a_temporary_experiment_uses_the_cache_of_the_main_checkout(project, work, monkeypatch):
    workspace = project / ".dvc/tmp/exps/standalone/tmp1"
    shutil.copytree(project / "data/raw", workspace / "data/raw")
    (workspace / ".dvc").mkdir()
    write_params(workspace)
    monkeypatch.chdir(workspace)
    assert work() == NOTHING
    assert not (workspace / CACHE).exists()
    with (
        rasterio.open(workspace / "data/normalized/a.tif") as one,
        rasterio.open(workspace / "data/scenes/a.tif") as two,
    ):
        assert one.shape == two.shape


def test_a_row_more_in_the_table_of_labels_cuts_its_scene_alone(project, work):
    (project / LABELS).unlink()
    table = project / "data/raw/labels/classes.csv"
    table.write_text("file,class\na,crop\nb,lake\nc,lake\n")
    settings = {"labels__kind": "table", "labels__attribute": None, "labels__invalid": None}
    write_params(project, **settings)
    assert work("patches") == {"patches": ["a", "b", "c"]}
    small_scene(project / RAW, "d")
    table.write_text("file,class\na,crop\nb,lake\nc,crop\nd,road\n")
    work("ingest")
    assert work("patches") == {"patches": ["c", "d"]}


@pytest.mark.parametrize("kind", ["polygons", "points"])
def test_labels_elsewhere_cut_the_scenes_there_alone(project, work, kind):
    small_scene(project / RAW, "far", transform=Affine(10, 0, ORIGIN_X + 6000, 0, -10, ORIGIN_Y))
    work("ingest")
    shapes = [("crop", box(0, 0, 600, 900)), ("lake", box(600, 0, 1200, 900))]
    more = ("lake", box(6000, 0, 6500, 500))
    if kind == "points":
        write_params(project, labels__kind="points", labels__invalid=None)
        shapes, more = [(name, shape.centroid) for name, shape in shapes], (more[0], more[1].centroid)
    write_labels(project / LABELS, shapes)
    work("patches")
    write_labels(project / LABELS, [*shapes, more])
    assert work("patches") == {"patches": ["far"]}
    assert work("patches") == {"patches": []}


def test_label_rasters_come_back_from_the_cache(project, work):
    write_params(project, **PIXELS)
    assert work("patches") == {"patches": ["a", "b", "c"]}
    before = made(project)
    assert {f"data/labels/{name}.tif" for name in "abc"} < set(before)
    shutil.rmtree(project / "data/labels")
    assert work("patches") == {"patches": []}
    assert made(project) == before
    with (project / "data/labels/b.tif").open("r+b") as file:
        file.write(b"##")
    assert work("patches") == {"patches": ["b"]}
    assert made(project) == before
    small_scene(project / RAW, "aa")
    work("ingest")
    assert work("patches") == {"patches": ["aa"]}
    assert list(read_json(project / "data/labels/index.json")["scenes"]) == ["a", "aa", "b", "c"]
    assert leftovers(project) == []
