"""What ingest and patches refuse, each with its sentence; nothing half-written stays, the earlier output does."""

import shutil

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from rasterio.crs import CRS

import stages.indices
import stages.ingest
import stages.normalize
import stages.patches
from tests.factories import (
    CRS_UTM33,
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

RAW, LABELS = "data/raw/scenes", "data/raw/labels"
GRID = make_grid()


def band(folder, scene="bad", name="B03"):
    """The one file of a band."""
    return next((folder / RAW / scene).glob(f"*_{name}.*"))


def rewrite(path, grid=GRID, **options):
    """Put another file in the place of a band's."""
    return write_band(path, grid, np.full(grid.shape, 1000, np.uint16), **options)


def no_crs(folder):
    rewrite(band(folder), crs=None)
    return "bad_B03.tif: the file has no CRS, and none is guessed; assign the right one"


def two_crs_of_the_scenes(folder):
    small_scene(folder / RAW, "bad", crs=rasterio.CRS.from_epsg(32632))
    return "scene bad: bad_B02.tif is in EPSG:32632, but project.crs is EPSG:32633; set project.crs"


def two_crs_in_the_scene(folder):
    write_params(folder, ingest__crs_policy="keep")
    rewrite(band(folder), crs=rasterio.CRS.from_epsg(32632))
    return "bad_B03.tif is in EPSG:32632, but bad_B02.tif is in EPSG:32633; the files of a scene must have one CRS"


def truncated_tiff(folder):
    path = band(folder)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return "bad_B03.tif: cannot be read ("


def truncated_jp2(folder):
    shutil.rmtree(folder / RAW / "bad")
    small_scene(folder / RAW, "bad", suffix=".jp2")
    path = band(folder)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return "bad_B03.jp2: cannot be read ("


def corrupt(folder):
    path = band(folder)
    path.write_bytes(b"<html>404 Not Found</html>")
    return "bad_B03.tif: cannot be read ("


def empty_file(folder):
    band(folder).write_bytes(b"")
    return "bad_B03.tif: cannot be read ("


def absent_band(folder):
    band(folder).unlink()
    return "scene bad: no file for band G in "


def other_ground(folder):
    rewrite(band(folder), make_grid(x_px=1))
    return "; the files of a scene must cover the same ground"


def all_nodata(folder):
    write_band(band(folder), GRID, np.zeros(GRID.shape, np.uint16))
    return "scene bad: 0.0% of the pixels are valid, ingest.min_valid asks for 5.0% (100.0% hold no data"


def one_pixel(folder):
    for name in ("B02", "B03", "B04", "B08"):
        rewrite(band(folder, name=name), make_grid(1, 1))
    return "scene bad: bad_B02.tif is 1 x 1 px, which is no image; fetch it again"


def a_name_twice(folder):
    small_scene(folder / RAW / "again", "good")
    return "scene good: found in "


def own_output(folder):
    (folder / RAW / "bad").rename(folder / "bad")
    shutil.copy(folder / "data/normalized/good.tif", folder / RAW / "taken.tif")
    write_params(folder, ingest__bands=["B"])
    return "scene taken: taken.tif was written by Landfold itself; scale and offset are applied once"


def own_indices(folder):
    own_output(folder)
    shutil.copy(folder / "data/indices/good.tif", folder / RAW / "taken.tif")
    write_params(folder, ingest__band_order=["B", "G"], ingest__bands=["B"])
    return "scene taken: taken.tif was written by Landfold itself; scale and offset are applied once"


def outside_the_area(folder):
    write_params(folder, ingest__area=[0, 0, 100, 100])
    return "which does not meet ingest.area (0.0, 0.0, 100.0, 100.0) in EPSG:32633; correct the area"


def far_from_the_project(folder):
    rewrite(band(folder), make_grid(crs=CRS.from_epsg(32620), x_px=-3000))
    for name in ("B02", "B04", "B08"):
        rewrite(band(folder, name=name), make_grid(crs=CRS.from_epsg(32620), x_px=-3000))
    write_params(folder, ingest__crs_policy="reproject")
    return "project.crs EPSG:32633 shows areas 1.56 times as large as they are"


def without_its_mask_file(folder):
    write_params(folder, ingest__mask_file="{scene}_hidden.tif")
    return "scene bad: no mask file bad_hidden.tif in "


FAULTS = [
    no_crs,
    two_crs_of_the_scenes,
    two_crs_in_the_scene,
    truncated_tiff,
    truncated_jp2,
    corrupt,
    empty_file,
    absent_band,
    other_ground,
    all_nodata,
    one_pixel,
    a_name_twice,
    own_output,
    own_indices,
    outside_the_area,
    far_from_the_project,
    without_its_mask_file,
]


@pytest.mark.parametrize("earlier", [True, False])
@pytest.mark.parametrize("fault", FAULTS)
def test_ingest_refuses_and_leaves_what_was_there(tmp_path, stage, fault, earlier):
    write_params(tmp_path)
    small_scene(tmp_path / RAW, "good")
    small_scene(tmp_path / RAW, "bad")
    for module in (stages.ingest, stages.indices, stages.normalize):
        stage(module)
    message = fault(tmp_path)
    if not earlier:
        shutil.rmtree(tmp_path / "data/scenes")
    before = tree(tmp_path / "data")
    assert message in stage(stages.ingest, refused=True)
    assert tree(tmp_path / "data") == before
    assert (tmp_path / "data/scenes").exists() == earlier
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("fault", [no_crs, truncated_tiff, corrupt, empty_file, absent_band, all_nodata, one_pixel])
def test_skip_leaves_a_bad_scene_out_whole(tmp_path, stage, fault):
    write_params(tmp_path, ingest__on_refusal="skip")
    small_scene(tmp_path / RAW, "good")
    small_scene(tmp_path / RAW, "bad")
    message = fault(tmp_path)
    out = stage(stages.ingest)
    assert "ingest: left out bad: " in out
    assert message in out
    assert sorted(tree(tmp_path / "data/scenes")) == ["good.tif", "report.json"]
    assert leftovers(tmp_path) == []


def polygons(folder, shapes, **options):
    shutil.rmtree(folder / LABELS)
    write_labels(folder / LABELS / "labels.gpkg", shapes, **options)


def labels_elsewhere(folder):
    polygons(folder, [("crop", box(90_000, 0, 90_600, 900)), ("lake", box(99_000, 0, 99_020, 20))])
    return "the labels meet no scene: in EPSG:32633 they lie in x "


def unknown_class(folder):
    polygons(folder, [("crop", box(0, 0, 600, 900)), ("marsh, 'wet'", box(600, 0, 1200, 900))])
    return "labels.gpkg: class marsh, 'wet' is in neither labels.classes nor labels.exclude; add it"


def labels_without_crs(folder):
    shutil.rmtree(folder / LABELS)
    shapes = [box(0, 0, 600, 900), box(600, 0, 1200, 900)]
    (folder / LABELS).mkdir()
    geopandas.GeoDataFrame({"kind": ["crop", "lake"]}, geometry=shapes).to_file(folder / LABELS / "labels.shp")
    return "labels.shp: the file has no CRS, and none is guessed; save it with the CRS of its coordinates"


def label_raster_without_crs(folder):
    shutil.rmtree(folder / LABELS)
    rewrite(folder / LABELS / "classes.tif", crs=None)
    kind = {"labels__kind": "raster", "labels__resampling": "mode"}
    write_params(folder, **kind, labels__attribute=None, labels__invalid=None)
    return "classes.tif: the label raster has no CRS, and none is guessed"


def invalid_polygon(folder):
    crossed = shapely.Polygon([box(0, 0, 600, 900).exterior.coords[i] for i in (0, 2, 1, 3)])
    polygons(folder, [("lake", box(600, 0, 1200, 900)), ("crop", crossed)], crs=CRS_UTM33)
    return "1 features are not valid polygons (row 1); set labels.invalid: repair"


def table(folder, *lines):
    shutil.rmtree(folder / LABELS)
    (folder / LABELS).mkdir()
    (folder / LABELS / "classes.csv").write_text("\n".join(["file,class", *lines]) + "\n", encoding="utf-8")
    write_params(folder, labels__kind="table", labels__attribute=None, labels__invalid=None)


def path_outside(folder):
    table(folder, "good,crop", "../../../etc/passwd,lake")
    return "classes.csv: line 3: '../../../etc/passwd' leads out of data/raw/scenes; give a path below it"


def absolute_path(folder):
    table(folder, "/data/good_B02.tif,crop", "bad,lake")
    return "classes.csv: line 2: '/data/good_B02.tif' leads out of data/raw/scenes; give a path below it"


def unlisted_scene(folder):
    table(folder, "good,crop")
    return "classes.csv: 1 of 2 scenes are not listed (bad); add a line for each"


def scenes_smaller_than_a_window(folder):
    write_params(folder, patches__size_px=96)
    return "no patch is left: every scene is smaller than patches.size_px"


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
@pytest.mark.parametrize("earlier", [True, False])
@pytest.mark.parametrize(
    "fault",
    [
        labels_elsewhere,
        unknown_class,
        labels_without_crs,
        label_raster_without_crs,
        invalid_polygon,
        path_outside,
        absolute_path,
        unlisted_scene,
        scenes_smaller_than_a_window,
    ],
)
def test_patches_refuses_and_leaves_what_was_there(tmp_path, stage, fault, earlier):
    write_params(tmp_path)
    small_scene(tmp_path / RAW, "good")
    small_scene(tmp_path / RAW, "bad")
    halves(tmp_path / LABELS / "labels.gpkg")
    stage(stages.ingest)
    if earlier:
        stage(stages.patches)
    message = fault(tmp_path)
    before = tree(tmp_path / "data")
    assert message in stage(stages.patches, refused=True)
    assert tree(tmp_path / "data") == before
    assert (tmp_path / "data/patches.parquet").exists() == (tmp_path / "metrics/patches.json").exists() == earlier
    assert leftovers(tmp_path) == []


def test_with_its_mask_file_no_scene_is_refused(tmp_path, stage):
    write_params(tmp_path, ingest__mask_file="{scene}_hidden.tif")
    halves(tmp_path / LABELS / "labels.gpkg")
    for scene in ("good", "bad, 'but' clouded"):
        small_scene(tmp_path / RAW, scene)
        hidden = np.zeros(GRID.shape, np.uint8)
        hidden[40:50, 60:80] = 1
        write_band(tmp_path / RAW / scene / f"{scene}_hidden.tif", GRID, hidden)
    stage(stages.ingest)
    entries = read_json(tmp_path / "data/scenes/report.json")["scenes"]
    assert [entry["cloud_fraction"] for entry in entries] == [round(200 / 10_800, 6)] * 2
    stage(stages.patches)
