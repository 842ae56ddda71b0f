import shutil

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS

import stages.ingest
from landfold.geo.raster import Raster
from landfold.geo.writer import RasterWriteError
from tests.factories import leftovers, make_grid, read_json, small_scene, tree, write_params

RAW = "data/raw/scenes"


def test_every_scene_becomes_a_raster_and_an_entry_of_the_report(tmp_path, stage):
    write_params(tmp_path)
    small_scene(tmp_path / RAW, "b_20200101")
    small_scene(tmp_path / RAW, "a scene, 'quoted' ü")
    (tmp_path / RAW / "b_20200101" / "readme.txt").touch()
    out = stage(stages.ingest)
    assert "ingest: 2 of 2 scenes, bands B G R N" in out
    assert "ingest: warning: b_20200101: not understood, ignored: readme.txt\n" in out
    assert sorted(tree(tmp_path / "data/scenes")) == ["a scene, 'quoted' ü.tif", "b_20200101.tif", "report.json"]
    report = read_json(tmp_path / "data/scenes/report.json")
    assert report["refusals"] == {}
    assert [entry["scene"] for entry in report["scenes"]] == ["a scene, 'quoted' ü", "b_20200101"]
    entry = report["scenes"][1]
    assert entry["acquired"] == "2020-01-01"
    assert entry["crs"] == "EPSG:32633"
    assert entry["grid"] == {"width": 120, "height": 90, "transform": [10, 0, 399960, 0, -10, 5800020]}
    assert [band["native_name"] for band in entry["bands"]] == ["B02", "B03", "B04", "B08"]
    assert all(len(band["sha256"]) == 64 for band in entry["bands"])
    assert str(tmp_path) not in (tmp_path / "data/scenes/report.json").read_text()


def test_a_second_run_gives_the_same_bytes(tmp_path, stage):
    write_params(tmp_path)
    small_scene(tmp_path / RAW)
    stage(stages.ingest)
    before = tree(tmp_path / "data/scenes")
    stage(stages.ingest)
    assert tree(tmp_path / "data/scenes") == before
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ingest__bands": ["R", "S1"]}, "no file for band S1"),
        ({"project__crs": "EPSG:32632"}, "but project.crs is EPSG:32632"),
        ({"ingest__min_valid": 1}, "of the pixels are valid"),
        ({"ingest__nodat": 0}, "unknown setting (did you mean 'nodata'?)"),
    ],
)
def test_a_refusal_leaves_the_earlier_output(tmp_path, stage, changes, message):
    write_params(tmp_path)
    small_scene(tmp_path / RAW)
    stage(stages.ingest)
    before = tree(tmp_path / "data")
    write_params(tmp_path, **changes)
    assert message in stage(stages.ingest, refused=True)
    assert tree(tmp_path / "data") == before
    assert leftovers(tmp_path) == []


def test_all_refusals_are_told_at_once(tmp_path, stage):
    write_params(tmp_path, ingest__bands=["S1"])
    small_scene(tmp_path / RAW, "one")
    small_scene(tmp_path / RAW, "two")
    message = stage(stages.ingest, refused=True)
    assert [line.split(":")[0] for line in message.removeprefix("ingest: ").splitlines()] == ["scene one", "scene two"]
    assert not (tmp_path / "data/scenes").exists()


def test_skip_leaves_a_refused_scene_out_and_lists_it(tmp_path, stage):
    write_params(tmp_path, ingest__on_refusal="skip")
    small_scene(tmp_path / RAW, "good")
    small_scene(tmp_path / RAW, "bad", crs=None)
    out = stage(stages.ingest)
    assert "ingest: left out bad: " in out
    assert "ingest: 1 of 2 scenes" in out
    assert sorted(tree(tmp_path / "data/scenes")) == ["good.tif", "report.json"]
    report = read_json(tmp_path / "data/scenes/report.json")
    assert "the file has no CRS" in report["refusals"]["bad"]
    assert [entry["scene"] for entry in report["scenes"]] == ["good"]
    assert str(tmp_path) not in (tmp_path / "data/scenes/report.json").read_text()


def test_skip_with_nothing_left_is_an_error(tmp_path, stage):
    write_params(tmp_path, ingest__on_refusal="skip")
    small_scene(tmp_path / RAW, crs=None)
    assert "the file has no CRS" in stage(stages.ingest, refused=True)
    assert not (tmp_path / "data/scenes").exists()


def test_a_full_disk_is_no_fault_of_the_scene_that_skip_could_leave_out(tmp_path, stage, monkeypatch):
    write_params(tmp_path, ingest__on_refusal="skip")
    small_scene(tmp_path / RAW, "one")
    small_scene(tmp_path / RAW, "two")

    def full(scene, settings, crs, target, **_):
        if scene.name == "two":
            raise RasterWriteError(f"{target}: cannot be written")
        return {"scene": scene.name, "warnings": []}

    monkeypatch.setattr("stages.ingest.ingest_scene", full)
    assert "two.tif: cannot be written" in stage(stages.ingest, refused=True)
    assert not (tmp_path / "data/scenes").exists()
    assert leftovers(tmp_path) == []


def test_no_delivered_scene_is_an_error(tmp_path, stage):
    write_params(tmp_path)
    assert "data/raw/scenes: no scene found" in stage(stages.ingest, refused=True)


def test_the_order_of_the_bands_is_that_of_the_settings(tmp_path, stage):
    write_params(tmp_path, ingest__bands=["N", "B"])
    small_scene(tmp_path / RAW, "s")
    stage(stages.ingest)
    with Raster.open(tmp_path / "data/scenes/s.tif") as source:
        assert source.names == ("N", "B")


def test_band_order_names_the_bands_of_a_file_that_does_not(tmp_path, stage):
    grid = make_grid(30, 40)
    layers = np.stack([np.full(grid.shape, number, np.uint16) for number in (100, 200, 4, 400)])
    layers[2, :3, :5] = 9
    path = tmp_path / RAW / "tile.tif"
    path.parent.mkdir(parents=True)
    place = {"crs": grid.crs, "transform": grid.transform, "height": 30, "width": 40}
    with rasterio.open(path, "w", driver="GTiff", count=4, dtype="uint16", **place) as file:
        file.write(layers)
    for order, value in ((["R", "-", "SCL", "B"], 400), (["B", "-", "SCL", "R"], 100)):
        write_params(tmp_path, ingest__band_order=order, ingest__bands=["B"])
        stage(stages.ingest)
        with Raster.open(tmp_path / "data/scenes/tile.tif") as source:
            assert (~source.read_mask(source.grid.whole)).sum() == 15
            assert source.read_raw(source.grid.whole).max() == value
    report = read_json(tmp_path / "data/scenes/report.json")["scenes"][0]
    assert report["bands"][0]["index"] == 1
    assert (report["valid_fraction"], report["nodata_fraction"], report["cloud_fraction"]) == (0.9875, 0.0, 0.0125)
    write_params(tmp_path)
    assert "ingest.band_order" in stage(stages.ingest, refused=True)


@pytest.mark.parametrize(
    ("policy", "crs"),
    [("reproject", ["EPSG:32633", "EPSG:32633"]), ("keep", ["EPSG:32633", "EPSG:32632"]), ("error", None)],
)
def test_scenes_of_two_zones(tmp_path, stage, policy, crs):
    write_params(tmp_path, ingest__crs_policy=policy)
    small_scene(tmp_path / RAW, "a")
    small_scene(tmp_path / RAW, "b", crs=CRS.from_epsg(32632), transform=Affine(10, 0, 811_000.0, 0, -10, 5_810_000.0))
    if crs is None:
        message = stage(stages.ingest, refused=True)
        assert "scene b: b_B02.tif is in EPSG:32632, but project.crs is EPSG:32633" in message
        assert not (tmp_path / "data/scenes").exists()
    else:
        stage(stages.ingest)
        entries = read_json(tmp_path / "data/scenes/report.json")["scenes"]
        assert [entry["crs"] for entry in entries] == crs
        assert [entry["delivered_crs"] for entry in entries] == ["EPSG:32633", "EPSG:32632"]
    assert leftovers(tmp_path) == []


def test_an_ingested_scene_is_no_delivery(tmp_path, stage):
    write_params(tmp_path)
    small_scene(tmp_path / RAW, "a")
    stage(stages.ingest)
    shutil.copytree(tmp_path / "data/scenes", tmp_path / "taken")
    shutil.rmtree(tmp_path / RAW)
    shutil.copytree(tmp_path / "taken", tmp_path / RAW)
    assert "a.tif was written by Landfold itself" in stage(stages.ingest, refused=True)
