import geopandas
import pytest

import stages.ingest
import stages.patches
from tests.factories import CRS_UTM33, box, halves, leftovers, read_json, small_scene, tree, write_labels, write_params

LABELS = "data/raw/labels/labels.gpkg"


@pytest.fixture
def scenes(tmp_path, stage):
    write_params(tmp_path)
    small_scene(tmp_path / "data/raw/scenes", "one")
    small_scene(tmp_path / "data/raw/scenes", "two")
    stage(stages.ingest)
    halves(tmp_path / LABELS)


def test_the_table_and_its_counts(tmp_path, stage, scenes):
    out = stage(stages.patches)
    table = geopandas.read_parquet(tmp_path / "data/patches.parquet")
    counts = read_json(tmp_path / "metrics/patches.json")
    # 90 x 120 px: rows 0..72, columns 0..104; at (0, 0) 100 of 256 px are nodata, beside it at most 20
    assert counts == {
        "windows": 2 * 10 * 14,
        "kept": 2 * 139,
        "dropped": {"invalid": 2, "unlabelled": 0, "impure": 0},
        "classes": {"field": 2 * 69, "water": 2 * 70},
        "label_overlap_m2": 0,
    }
    assert "patches: 278 of 280 windows kept, dropped {'invalid': 2, 'unlabelled': 0, 'impure': 0}" in out
    assert table["patch"].is_unique
    assert table.crs == CRS_UTM33
    assert list(table["scene"].unique()) == ["one", "two"]
    assert list(table.columns) == [
        *("patch", "scene", "row", "column", "size_px", "label", "purity", "valid", "x", "y", "geometry")
    ]


def test_a_second_run_gives_the_same_bytes(tmp_path, stage, scenes):
    stage(stages.patches)
    before = tree(tmp_path)
    stage(stages.patches)
    assert tree(tmp_path) == before


def test_a_scene_smaller_than_a_window_adds_nothing(tmp_path, stage, scenes):
    small_scene(tmp_path / "data/raw/scenes", "tiny", ground_m=(120, 900))
    stage(stages.ingest)
    stage(stages.patches)
    table = geopandas.read_parquet(tmp_path / "data/patches.parquet")
    assert sorted(table["scene"].unique()) == ["one", "two"]
    assert read_json(tmp_path / "metrics/patches.json")["windows"] == 280


def test_only_scenes_smaller_than_a_window_are_refused(tmp_path, stage, scenes):
    write_params(tmp_path, patches__size_px=100)
    assert "no patch is left: the labels meet no scene" in stage(stages.patches, refused=True)


@pytest.mark.parametrize(
    ("polygons", "message"),
    [
        ([("crop", box(0, 0, 600, 900)), ("lake", box(0, 0, 20, 20))], "no patch of class water"),
        ([("crop", box(90_000, 0, 90_600, 900)), ("lake", box(99_000, 0, 99_020, 20))], "the labels meet no scene"),
        ([("swamp", box(0, 0, 600, 900))], "class swamp is in neither labels.classes nor labels.exclude"),
    ],
)
def test_a_refusal_leaves_the_earlier_output(tmp_path, stage, scenes, polygons, message):
    stage(stages.patches)
    (tmp_path / LABELS).unlink()
    write_labels(tmp_path / LABELS, polygons)
    before = tree(tmp_path)
    assert message in stage(stages.patches, refused=True)
    assert tree(tmp_path) == before
    assert leftovers(tmp_path) == []


def test_overlap_of_classes_is_measured(tmp_path, stage, scenes):
    (tmp_path / LABELS).unlink()
    write_labels(tmp_path / LABELS, [("crop", box(0, 0, 600, 900)), ("lake", box(590, 0, 1200, 900))])
    stage(stages.patches)
    assert read_json(tmp_path / "metrics/patches.json")["label_overlap_m2"] == 9000
