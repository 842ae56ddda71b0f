import numpy as np
import pytest
import rasterio
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from landfold.core.settings import SettingsError
from landfold.geo.bands import Radiometry
from landfold.geo.grid import GridError
from landfold.scenes.ingest import check_scene, ingest_scene
from landfold.scenes.sensors import find_scenes
from landfold.scenes.sensors.scene_files import SceneError, SceneFiles
from tests.factories import (
    CRS_UTM33,
    centres,
    leftovers,
    make_grid,
    small_scene,
    tree,
    write_scene,
)
from tests.scenes.ingest.deliveries import ELSEWHERE, MIXED, delivered_at, ingest, ingest_settings, ramp, refused


@pytest.mark.parametrize("suffix", [".jp2", ".tif"])
def test_bands_of_three_resolutions_end_where_they_belong(tmp_path, suffix):
    write_scene(tmp_path / "raw", "S", MIXED, ground_m=(1440, 1920), suffix=suffix)
    report, stored, valid, source = ingest(tmp_path, bands=["B", "RE1", "A"])
    grid = make_grid(144, 192)
    truth = ramp(*centres(grid))
    assert source.grid == grid
    assert source.names == ("B", "RE1", "A")
    assert valid.all()
    np.testing.assert_array_equal(stored[0], truth)
    inner = (slice(3, -3), slice(3, -3))  # half a 60 m pixel: outside its centres there is nothing to interpolate
    np.testing.assert_allclose(stored[1].astype(float)[inner], truth[inner], atol=0.5)
    np.testing.assert_allclose(stored[2].astype(float)[inner], truth[inner], atol=0.5)
    assert [band["resolution_m"] for band in report["bands"]] == [10.0, 20.0, 60.0]


def test_bilinear_of_a_ramp_is_exact_in_float(tmp_path):
    write_scene(tmp_path / "raw", "S", MIXED, ground_m=(720, 960), dtype="float32")
    _, stored, _, source = ingest(tmp_path, bands=["A", "B", "RE1"])
    inner = (slice(3, -3), slice(3, -3))
    for band in stored:
        np.testing.assert_allclose(band[inner], ramp(*centres(source.grid))[inner], rtol=0, atol=2e-3)


def test_nearest_repeats_every_coarse_pixel(tmp_path):
    write_scene(tmp_path / "raw", "S", MIXED, ground_m=(360, 480))
    _, stored, _, _ = ingest(tmp_path, bands=["B", "RE1", "A"], resampling="nearest")
    coarse = ramp(*centres(make_grid(6, 8, 60.0)))
    np.testing.assert_array_equal(stored[2], np.kron(coarse, np.ones((6, 6))))


def test_resampling_changes_the_output(tmp_path):
    rng = np.random.default_rng(0)
    write_scene(tmp_path / "raw", "S", {"B05": (20.0, lambda e, s: rng.integers(500, 4000, e.shape))})
    found = [ingest(tmp_path, bands=["RE1"], resampling=how)[1] for how in ("nearest", "bilinear", "cubic")]
    assert (found[0] != found[1]).any()
    assert (found[1] != found[2]).any()


@pytest.mark.usefixtures("small_blocks")
def test_windows_give_what_one_read_of_the_whole_gives(tmp_path):
    rng = np.random.default_rng(1)
    write_scene(
        tmp_path / "raw",
        "S",
        {"B05": (20.0, lambda e, s: rng.integers(1, 9000, e.shape)), "B01": (60.0, lambda e, s: e + s)},
        ground_m=(1200, 1080),
        nodata_corner_m=140,
    )
    _, stored, valid, source = ingest(tmp_path, bands=["RE1", "A"])
    assert max(source.grid.shape) > 64
    for number, band in enumerate(["B05", "B01"]):
        options = {"resampling": Resampling.bilinear, "src_nodata": 0, "nodata": 0}
        grid = source.grid
        place = {"crs": grid.crs, "transform": grid.transform, "height": grid.height, "width": grid.width}
        with rasterio.open(tmp_path / "raw" / f"S_{band}.tif") as file, WarpedVRT(file, **place, **options) as vrt:
            np.testing.assert_array_equal(np.where(valid, vrt.read(1), 0), stored[number])
    assert 0 < (~valid).mean() < 0.1


def test_numbers_stay_as_delivered_and_the_tags_tell_their_meaning(tmp_path):
    small_scene(tmp_path / "raw", suffix=".jp2")
    report, stored, valid, source = ingest(tmp_path, scale=0.0002, offset=-0.1)
    with rasterio.open(next((tmp_path / "raw").rglob("*_B08.jp2"))) as file:
        np.testing.assert_array_equal(stored[3], file.read(1))
    assert source.radiometry == (Radiometry(0.0002, -0.1),) * 4
    assert (report["bands"][0]["scale"], report["bands"][0]["offset"]) == (0.0002, -0.1)
    assert (report["sensor"], report["acquired"]) == ("sentinel2", "2017-02-16")
    assert report["valid_fraction"] == pytest.approx(1 - 100 / (90 * 120), abs=1e-6)
    np.testing.assert_array_equal(valid[:10, :10], False)
    assert valid.sum() == 90 * 120 - 100
    with rasterio.open(tmp_path / "out" / "s.tif") as file:
        assert file.tags()["SCENE"] == "T33UUU_20170216T102101"
        assert file.tags()["ACQUIRED"] == "2017-02-16"


def test_a_missing_band_is_refused(tmp_path):
    small_scene(tmp_path / "raw")
    message = r"scene T33UUU_20170216T102101: no file for band S1, RE1 in .*; found B, G, R, N; add the file"
    refused(tmp_path, SceneError, message, bands=["S1", "R", "RE1"])


def test_a_scene_without_valid_pixels_is_refused_whatever_the_threshold(tmp_path):
    write_scene(tmp_path / "raw", "S", {"B02": (10.0, lambda e, s: 0 * e)})
    refused(tmp_path, SceneError, r"scene S: 0\.0% of the pixels are valid", bands=["B"], min_valid=0)


@pytest.mark.parametrize(("min_valid", "accepted"), [(0.9, True), (0.95, False)])
def test_too_little_valid_ground_is_refused(tmp_path, min_valid, accepted):
    write_scene(tmp_path / "raw", "S", {"B02": (10.0, ramp)}, ground_m=(1000, 1000), nodata_corner_m=300)
    if accepted:
        assert ingest(tmp_path, bands=["B"], min_valid=min_valid)[0]["valid_fraction"] == 0.91
    else:
        message = (
            r"91\.0% of the pixels are valid, ingest\.min_valid asks for 95\.0% \(9\.0% hold no data, 0\.0% are hid"
        )
        refused(tmp_path, SceneError, message, bands=["B"], min_valid=min_valid)


def test_a_refusal_leaves_the_earlier_raster(tmp_path):
    small_scene(tmp_path / "raw")
    ingest(tmp_path)
    before = tree(tmp_path / "out")
    with pytest.raises(SceneError, match="asks for 100"):
        ingest(tmp_path, min_valid=1)
    assert tree(tmp_path / "out") == before
    assert leftovers(tmp_path) == []


def test_the_same_scene_gives_the_same_bytes_and_progress_ends_at_one(tmp_path):
    small_scene(tmp_path / "raw")
    [scene] = find_scenes(tmp_path / "raw")
    told = []
    for name in ("a", "b"):
        ingest_scene(scene, ingest_settings(), CRS_UTM33, tmp_path / f"{name}.tif", progress=told.append)
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()
    assert told[-1] == 1.0


@pytest.mark.parametrize(
    ("bands", "message"),
    [
        (["B02"], "'B02' is no standard band name; known are A, B, "),
        (["R", "R"], "a band is named twice"),
        ([], "at least 1 item"),
    ],
)
def test_bands_are_standard_names_once(bands, message):
    with pytest.raises(SettingsError, match=message):
        ingest_settings(bands=bands)


def test_a_scene_that_its_reader_found_faulty_is_refused_with_that_fault(tmp_path):
    scene = SceneFiles("S", "sentinel2", tmp_path, {}, fault="scene S: no radiometry; fetch the product whole")
    refused(tmp_path, SceneError, r"^scene S: no radiometry; fetch the product whole$", scene)


def test_a_check_tells_what_ingest_will_tell(tmp_path):
    scene = delivered_at(tmp_path, "another zone")
    for changes in ({}, {"area": (300_000.0, 5_700_000.0, 500_000.0, 5_900_000.0)}):
        options = {"bands": ["B"], "crs_policy": "reproject"} | changes
        found = check_scene(scene, ingest_settings(**options), CRS_UTM33)
        report = ingest(tmp_path, scene, **options)[0]
        for one in [*report["bands"], *report["masks"]]:
            assert len(one.pop("sha256")) == 64
        of_pixels = {"valid_fraction", "nodata_fraction", "cloud_fraction", "nodata_px", "values"}
        assert set(report) - set(found) == of_pixels
        assert found == {name: report[name] for name in found}


def test_a_check_refuses_as_ingest_does_but_for_what_pixels_tell(tmp_path):
    small_scene(tmp_path / "raw")
    [scene] = find_scenes(tmp_path / "raw")
    check_scene(scene, ingest_settings(min_valid=1), CRS_UTM33)
    with pytest.raises(GridError, match=r"is in EPSG:32633, but project\.crs is EPSG:32632"):
        check_scene(scene, ingest_settings(), ELSEWHERE)
    with pytest.raises(SceneError, match="no file for band S1"):
        check_scene(scene, ingest_settings(bands=["S1"]), CRS_UTM33)
