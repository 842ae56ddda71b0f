import geopandas
import numpy as np
import pytest
import rasterio
import shapely

import stages.ingest
import stages.patches
from tests.factories import (
    CRS_UTM33,
    ORIGIN_X,
    ORIGIN_Y,
    PIXELS,
    box,
    halves,
    leftovers,
    make_grid,
    read_json,
    small_scene,
    tree,
    write_band,
    write_labels,
    write_params,
)

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
        "dropped": {"small": 0, "invalid": 2, "unlabelled": 0, "impure": 0},
        "classes": {"field": 2 * 69, "water": 2 * 70},
        "label_overlap_m2": 0,
        "labels_mended": 0,
    }
    assert "patches: 278 of 280 windows kept, dropped: small 0, invalid 2, unlabelled 0, impure 0" in out
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


def test_a_scene_smaller_than_a_window_is_dropped_and_counted(tmp_path, stage, scenes):
    small_scene(tmp_path / "data/raw/scenes", "tiny, with 'ä'", ground_m=(120, 900))
    stage(stages.ingest)
    out = stage(stages.patches)
    assert "patches: warning: smaller than patches.size_px, without a patch: tiny, with 'ä'\n" in out
    table = geopandas.read_parquet(tmp_path / "data/patches.parquet")
    assert sorted(table["scene"].unique()) == ["one", "two"]
    counts = read_json(tmp_path / "metrics/patches.json")
    assert (counts["windows"], counts["dropped"]["small"]) == (281, 1)
    assert counts["windows"] == counts["kept"] + sum(counts["dropped"].values())


def test_only_scenes_smaller_than_a_window_are_refused(tmp_path, stage, scenes):
    write_params(tmp_path, patches__size_px=100)
    assert "no patch is left: every scene is smaller than patches.size_px" in stage(stages.patches, refused=True)


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


def test_mended_polygons_are_a_warning_and_a_count(tmp_path, stage, scenes):
    (left, top), (right, bottom) = (ORIGIN_X, ORIGIN_Y), (ORIGIN_X + 600, ORIGIN_Y - 900)
    crossed = shapely.Polygon([(left, top), (right, bottom), (right, top), (left, bottom)])
    (tmp_path / LABELS).unlink()
    write_labels(tmp_path / LABELS, [("crop", crossed), ("lake", box(600, 0, 1200, 900))])
    assert "1 features are not valid polygons (row 0); set labels.invalid: repair" in stage(
        stages.patches, refused=True
    )
    write_params(tmp_path, labels__invalid="repair")
    out = stage(stages.patches)
    assert "patches: warning: data/raw/labels/labels.gpkg: 1 invalid polygons were repaired (row 0)" in out
    assert read_json(tmp_path / "metrics/patches.json")["labels_mended"] == 1


def write_kind(folder, kind, **changes):
    """Labels of two scenes, field and water in their halves or one each, and the settings that they need."""
    labels = folder / "data/raw/labels"
    none = {"labels__attribute": None, "labels__invalid": None} | changes
    if kind == "points":
        shapes = [
            (name, box(x, y, x + 2, y + 2).centroid) for name, x in (("crop", 200), ("lake", 900)) for y in (99, 350)
        ]
        write_labels(labels / "points.geojson", shapes, to="EPSG:4326")
        write_params(folder, labels__kind=kind, **(none | {"labels__attribute": "kind"}))
    elif kind == "raster":
        grid = make_grid(45, 60, 20)
        write_band(labels / "classes.tif", grid, np.where(np.arange(60) < 30, 1, 2) * np.ones((45, 1), np.uint8))
        classes = {"field": [1], "water": [2]}
        write_params(folder, labels__kind=kind, **none, labels__resampling="mode", labels__classes=classes)
    elif kind == "table":
        (labels / "classes.csv").write_text("file,class\none,crop\ntwo/two_B04.tif,lake\n")
        write_params(folder, labels__kind=kind, **none)
    else:
        write_params(folder, labels__kind=kind, **none, labels__classes={"field": ["one"], "water": ["two"]})


@pytest.mark.parametrize(
    ("kind", "kept", "classes", "own"),
    [
        ("points", 2 * 4, {"field": 4, "water": 4}, {"label_points": 4}),
        ("raster", 278, {"field": 138, "water": 140}, {}),
        ("table", 278, {"field": 139, "water": 139}, {"labelled_scenes": 2}),
        ("folder", 278, {"field": 139, "water": 139}, {"labelled_scenes": 2}),
    ],
)
def test_labels_of_every_kind_give_their_patches(tmp_path, stage, scenes, kind, kept, classes, own):
    (tmp_path / LABELS).unlink()
    write_kind(tmp_path, kind)
    stage(stages.patches)
    counts = read_json(tmp_path / "metrics/patches.json")
    assert (counts["kept"], counts["classes"]) == (kept, classes)
    assert counts["windows"] == counts["kept"] + sum(counts["dropped"].values()) == 280
    assert {key: counts[key] for key in set(counts) - {"windows", "kept", "dropped", "classes"}} == own
    table = geopandas.read_parquet(tmp_path / "data/patches.parquet")
    if kind in ("table", "folder"):
        assert set(zip(table["scene"], table["label"], strict=True)) == {("one", "field"), ("two", "water")}


def test_an_unlisted_scene_leaves_the_earlier_output(tmp_path, stage, scenes):
    stage(stages.patches)
    write_kind(tmp_path, "table")
    (tmp_path / "data/raw/labels/classes.csv").write_text("file,class\none,crop\n")
    before = tree(tmp_path)
    assert "classes.csv: 1 of 2 scenes are not listed (two)" in stage(stages.patches, refused=True)
    assert tree(tmp_path) == before


def test_labels_elsewhere_are_refused_with_both_bounds(tmp_path, stage, scenes):
    (tmp_path / LABELS).unlink()
    write_labels(tmp_path / LABELS, [("crop", box(90_000, 0, 90_600, 900)), ("lake", box(99_000, 0, 99_020, 20))])
    message = stage(stages.patches, refused=True)
    assert "in EPSG:32633 they lie in x 489960 to 498980, y 5799120 to 5800020, " in message
    assert "the 2 scenes in x 399960 to 401160, y 5799120 to 5800020" in message


# --- a label for each pixel


def test_labels_of_patches_leave_an_index_alone(tmp_path, stage, scenes):
    stage(stages.patches)
    assert list(tree(tmp_path / "data/labels")) == ["index.json"]
    assert read_json(tmp_path / "data/labels/index.json") == {"unit": "patch", "classes": ["field", "water"]}


def test_labels_of_pixels_are_written_and_counted(tmp_path, stage, scenes):
    """90 x 120 px, of which 100 in a corner of the fields have no data; the lake laps 100 m over the fields."""
    (tmp_path / LABELS).unlink()
    write_labels(tmp_path / LABELS, [("crop", box(0, 0, 600, 900)), ("lake", box(500, 0, 900, 900))])
    write_params(tmp_path, **PIXELS)
    out = stage(stages.patches)
    assert "impure 0; 16000 labelled pixels; scenes: 2 computed, 0 unchanged" in out
    assert "warning" not in out
    expected = np.zeros((90, 120), np.uint8)
    expected[:, :50], expected[:, 50:90] = 1, 2
    for scene in ("one", "two"):
        with (
            rasterio.open(tmp_path / f"data/labels/{scene}.tif") as dataset,
            rasterio.open(tmp_path / f"data/scenes/{scene}.tif") as there,
        ):
            np.testing.assert_array_equal(dataset.read(1), expected)
            assert (dataset.crs, dataset.transform, dataset.shape) == (there.crs, there.transform, there.shape)
    of_scene = {
        "class_px": {"field": 4400, "water": 3600},
        "valid_px": 10_700,
        "labelled_without_data_px": 100,
        "overlapping_px": 900,
    }
    assert read_json(tmp_path / "data/labels/index.json") == {
        "unit": "pixel",
        "classes": ["field", "water"],
        "scenes": {"one": of_scene, "two": of_scene},
    }
    counts = read_json(tmp_path / "metrics/patches.json")
    pixels = {
        "class_px": {"field": 8800, "water": 7200},
        "labelled_px": {"valid": 16_000, "total": 16_200},
        "valid_px": 21_400,
        "labelled_without_data_px": 200,
        "overlapping_px": 1800,
    }
    assert {name: counts[name] for name in pixels} == pixels
    assert counts["label_overlap_m2"] == 90_000
    assert set(counts) - set(pixels) == {
        *("windows", "kept", "dropped", "classes", "label_overlap_m2", "labels_mended")
    }
    before = tree(tmp_path)
    stage(stages.patches)
    assert tree(tmp_path) == before
    assert leftovers(tmp_path) == []


def test_patches_are_the_same_whatever_has_a_label(tmp_path, stage, scenes):
    stage(stages.patches)
    before = (tmp_path / "data/patches.parquet").read_bytes()
    write_params(tmp_path, **PIXELS)
    stage(stages.patches)
    assert (tmp_path / "data/patches.parquet").read_bytes() == before
    write_params(tmp_path)
    stage(stages.patches)
    assert list(tree(tmp_path / "data/labels")) == ["index.json"]


@pytest.mark.parametrize(
    ("kind", "own"),
    [("points", {"label_points": 4, "points_in_conflict": 0}), ("raster", {})],
)
def test_points_and_rasters_label_pixels(tmp_path, stage, scenes, kind, own):
    (tmp_path / LABELS).unlink()
    write_kind(tmp_path, kind, **PIXELS)
    out = stage(stages.patches)
    counts = read_json(tmp_path / "metrics/patches.json")
    labelled = {"points": {"field": 4, "water": 4}, "raster": {"field": 10_600, "water": 10_800}}[kind]
    assert counts["class_px"] == labelled
    assert {name: counts[name] for name in own} == own
    told = "patches: warning: data/raw/labels/classes.tif: labels have pixels of 20 m, scenes one, two of 10 m: "
    assert (told in out) == (kind == "raster")
    assert out.count("warning") == (kind == "raster")


def test_points_that_contend_for_a_pixel_are_told_and_counted(tmp_path, stage, scenes):
    (tmp_path / LABELS).unlink()
    write_kind(tmp_path, "points", **PIXELS)
    places = [("crop", 405), ("lake", 406), ("crop", 205), ("lake", 805)]
    shapes = [(kind, shapely.Point(ORIGIN_X + east, ORIGIN_Y - 405)) for kind, east in places]
    write_labels(tmp_path / "data/raw/labels/points.geojson", shapes, to="EPSG:4326")
    out = stage(stages.patches)
    assert "patches: warning: 4 points share a pixel with as many points of another class; these pixels have" in out
    counts = read_json(tmp_path / "metrics/patches.json")
    assert counts["points_in_conflict"] == 4, "two of each scene"
    assert counts["class_px"] == {"field": 2, "water": 2}


def test_a_class_of_pixels_without_a_patch_is_told(tmp_path, stage, scenes):
    (tmp_path / LABELS).unlink()
    pond = ("lake", box(710, 710, 740, 740))
    write_labels(tmp_path / LABELS, [("crop", box(0, 0, 1200, 900)), pond])
    assert "no patch of class water" in stage(stages.patches, refused=True)
    write_params(tmp_path, **PIXELS)
    assert "patches: warning: no patch of class water: its pixels are labelled, but zones" in stage(stages.patches)
    assert read_json(tmp_path / "metrics/patches.json")["class_px"]["water"] == 2 * 9


@pytest.mark.parametrize("earlier", [True, False])
def test_a_class_without_a_valid_pixel_is_refused_and_leaves_what_was_there(tmp_path, stage, scenes, earlier):
    write_params(tmp_path, **PIXELS)
    if earlier:
        stage(stages.patches)
    (tmp_path / LABELS).unlink()
    clouded = ("lake", box(0, 0, 90, 90))
    write_labels(tmp_path / LABELS, [("crop", box(0, 0, 1200, 900)), clouded])
    before = tree(tmp_path)
    message = "patches: no labelled pixel of class water has data in any scene: bring labels of it on ground"
    assert message in stage(stages.patches, refused=True)
    assert tree(tmp_path) == before
    assert (tmp_path / "data/labels").exists() == earlier
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("kind", ["table", "folder"])
def test_labels_of_whole_scenes_are_none_of_pixels(tmp_path, stage, scenes, kind):
    (tmp_path / LABELS).unlink()
    write_kind(tmp_path, kind, **PIXELS)
    message = f"params.yaml: labels: kind: {kind} has one class for a whole scene and none for each pixel"
    assert message in stage(stages.patches, refused=True)


def test_a_scene_smaller_than_a_window_has_labelled_pixels(tmp_path, stage, scenes):
    write_params(tmp_path, **PIXELS)
    small_scene(tmp_path / "data/raw/scenes", "tiny", ground_m=(120, 900))
    stage(stages.ingest)
    stage(stages.patches)
    assert sorted(tree(tmp_path / "data/labels")) == ["index.json", "one.tif", "tiny.tif", "two.tif"]
    assert read_json(tmp_path / "data/labels/index.json")["scenes"]["tiny"]["class_px"]["field"] == 12 * 60 - 100
