import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from landfold.bands import Radiometry
from landfold.grid import GridError
from landfold.ingest import IngestSettings, ingest_scene
from landfold.raster import Raster, RasterError
from landfold.sensors import find_scenes
from landfold.sensors.scenes import SceneError
from landfold.settings import SettingsError, validate
from tests.factories import (
    CRS_UTM33,
    centres,
    leftovers,
    make_grid,
    params,
    small_scene,
    tree,
    write_band,
    write_scene,
)


def ingest_settings(**changes):
    return validate(params()["ingest"] | changes, IngestSettings, where="ingest")


def ingest(tmp_path, **changes):
    """Ingest the one scene below tmp_path/raw; its report, numbers as stored, mask and raster's facts."""
    [scene] = find_scenes(tmp_path / "raw")
    report = ingest_scene(scene, ingest_settings(**changes), CRS_UTM33, tmp_path / "out" / "s.tif")
    with Raster.open(tmp_path / "out" / "s.tif") as source:
        window = Window(0, 0, source.grid.width, source.grid.height)
        return report, source.stored(window), source.valid(window), source


def refused(tmp_path, error, message, **changes):
    with pytest.raises(error, match=message):
        ingest(tmp_path, **changes)
    assert not (tmp_path / "out" / "s.tif").exists()
    assert leftovers(tmp_path) == []


def ramp(east, south):
    """Whole numbers at the centres of 10, 20 and 60 m pixels, linear in both directions."""
    return 1000 + east / 5 + south * 2 / 5


MIXED = {"B02": (10.0, ramp), "B05": (20.0, ramp), "B01": (60.0, ramp)}


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


def test_windows_give_what_one_read_of_the_whole_gives(tmp_path):
    rng = np.random.default_rng(1)
    write_scene(
        tmp_path / "raw",
        "S",
        {"B05": (20.0, lambda e, s: rng.integers(1, 9000, e.shape)), "B01": (60.0, lambda e, s: e + s)},
        ground_m=(6000, 5400),
        nodata_corner_m=700,
    )
    _, stored, valid, source = ingest(tmp_path, bands=["RE1", "A"])
    assert max(source.grid.shape) > 512
    for number, band in enumerate(["B05", "B01"]):
        options = {"resampling": Resampling.bilinear, "src_nodata": 0, "nodata": 0}
        grid = source.grid
        place = {"crs": grid.crs, "transform": grid.transform, "height": grid.height, "width": grid.width}
        with rasterio.open(tmp_path / "raw" / f"S_{band}.tif") as file, WarpedVRT(file, **place, **options) as vrt:
            np.testing.assert_array_equal(np.where(valid, vrt.read(1), 0), stored[number])
    assert 0 < (~valid).mean() < 0.1


def test_a_coarser_common_grid_is_allowed(tmp_path):
    write_scene(tmp_path / "raw", "S", MIXED, ground_m=(360, 480))
    _, stored, valid, source = ingest(tmp_path, bands=["B", "RE1"], resolution_m=20)
    assert source.grid == make_grid(18, 24, 20.0)
    np.testing.assert_array_equal(stored[1], ramp(*centres(source.grid)))
    assert valid.all()


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


def test_the_files_own_scale_wins_over_params(tmp_path):
    write_scene(tmp_path / "raw", "S", {"B02": (10.0, ramp)}, scale=0.00275, offset=-0.2)
    write_scene(tmp_path / "raw", "S", {"B03": (10.0, ramp)})
    report, _, _, source = ingest(tmp_path, bands=["B", "G"])
    assert source.radiometry == (Radiometry(0.00275, -0.2), Radiometry(0.0001, 0.0))
    assert [band["scale"] for band in report["bands"]] == [0.00275, 0.0001]


def test_float_reflectance_is_taken_as_it_is_and_nan_is_nodata(tmp_path):
    grid = make_grid(30, 40)
    values = (ramp(*centres(grid)) / 10_000).astype(np.float32)
    values[:4, :6] = np.nan
    values[20, 21] = np.inf
    write_band(tmp_path / "raw" / "S_B02.tif", grid, values)
    report, stored, valid, source = ingest(tmp_path, bands=["B"])
    assert source.radiometry == (Radiometry(1.0, 0.0),)
    np.testing.assert_array_equal(valid, np.isfinite(values))
    np.testing.assert_array_equal(stored[0][valid], values[valid])
    assert report["warnings"] == []


def test_nan_beside_a_declared_number_is_nodata_too(tmp_path):
    grid = make_grid(30, 40)
    values = (ramp(*centres(grid)) / 10_000).astype(np.float32)
    values[:4, :6], values[20, 21] = -9999, np.nan
    write_band(tmp_path / "raw" / "S_B02.tif", grid, values, nodata=-9999)
    _, _, valid, _ = ingest(tmp_path, bands=["B"])
    assert valid.sum() == 30 * 40 - 25


def test_the_assumed_nodata_is_a_warning(tmp_path):
    small_scene(tmp_path / "raw")
    report, _, _, _ = ingest(tmp_path, nodata=0)
    assert report["warnings"] == [
        "no nodata value is declared in 4 of 4 band files; DN 0 is taken as nodata from ingest.nodata"
    ]


def test_the_warning_names_the_assumed_number_when_the_first_file_declares_its_own(tmp_path):
    write_scene(tmp_path / "raw", "S", {"B02": (10.0, ramp)}, nodata=9)
    write_scene(tmp_path / "raw", "S", {"B03": (10.0, ramp)})
    report, _, _, _ = ingest(tmp_path, bands=["B", "G"], nodata=0)
    assert report["warnings"] == [
        "no nodata value is declared in 1 of 2 band files; DN 0 is taken as nodata from ingest.nodata"
    ]


@pytest.mark.parametrize(("nodata", "invalid"), [(None, 0), (0, 100), (1205, 0)])
def test_nodata_can_be_none_or_another_number(tmp_path, nodata, invalid):
    small_scene(tmp_path / "raw")
    _, _, valid, _ = ingest(tmp_path, bands=["B"], nodata=nodata)
    with rasterio.open(next((tmp_path / "raw").rglob("*_B02.tif"))) as file:
        expected = invalid if nodata != 1205 else int((file.read(1) == 1205).sum())
    assert (~valid).sum() == expected


@pytest.mark.parametrize("resolution", [10.0, 20.0])
def test_declared_nodata_wins_and_zero_is_then_a_number(tmp_path, resolution):
    grid = make_grid(30, 40, resolution)
    values = np.full(grid.shape, 500, np.uint16)
    values[:4, :6], values[15:20, 15:20] = 65535, 0
    write_band(tmp_path / "raw" / "S_B02.tif", grid, values, nodata=65535)
    report, stored, valid, _ = ingest(tmp_path, bands=["B"])
    assert report["warnings"] == []
    factor = round(resolution / 10)
    assert (~valid).sum() == 24 * factor**2
    assert stored[0][17 * factor, 17 * factor] == 0
    assert valid[17 * factor, 17 * factor]


@pytest.mark.parametrize("resolution", [10.0, 20.0])
def test_a_files_own_mask_is_kept(tmp_path, resolution):
    grid = make_grid(30, 40, resolution)
    values, mask = np.full(grid.shape, 500, np.uint16), np.ones(grid.shape, dtype=bool)
    mask[:4, :6] = False
    values[:4, :6] = 60_000  # must not bleed into its neighbours either
    write_band(tmp_path / "raw" / "S_B02.tif", grid, values, mask=mask)
    report, stored, valid, _ = ingest(tmp_path, bands=["B"])
    factor = round(resolution / 10)
    np.testing.assert_array_equal(valid, np.kron(mask, np.ones((factor, factor), dtype=bool)))
    assert (stored[0][valid] == 500).all()
    assert report["warnings"] == []


def test_one_bands_nodata_is_the_scenes(tmp_path):
    small_scene(tmp_path / "raw")
    path = next((tmp_path / "raw").rglob("*_B04.tif"))
    with rasterio.open(path) as file:
        values = file.read(1)
    values[40:50, 60:80] = 0
    write_band(path, make_grid(), values)
    _, _, valid, _ = ingest(tmp_path)
    assert (~valid).sum() == 100 + 200


def test_a_missing_band_is_refused(tmp_path):
    small_scene(tmp_path / "raw")
    message = r"scene T33UUU_20170216T102101: no file for band S1, RE1 in .*; found B, G, R, N; add the file"
    refused(tmp_path, SceneError, message, bands=["S1", "R", "RE1"])


def test_a_file_without_crs_is_refused(tmp_path):
    small_scene(tmp_path / "raw", crs=None)
    refused(tmp_path, GridError, r"_B02\.tif: the file has no CRS")


def test_another_crs_than_the_projects_is_refused(tmp_path):
    small_scene(tmp_path / "raw", crs=CRS.from_epsg(32632))
    refused(tmp_path, GridError, r"_B02\.tif is in EPSG:32632, but project\.crs is EPSG:32633; set project\.crs")


@pytest.mark.parametrize("turn", [Affine.rotation(5), Affine.scale(1, -1)])
def test_a_rotated_or_south_up_grid_is_refused(tmp_path, turn):
    small_scene(tmp_path / "raw", transform=make_grid().transform @ turn)
    refused(tmp_path, GridError, r"_B02\.tif is rotated or south-up .*gdalwarp")


def test_files_over_different_ground_are_refused(tmp_path):
    write_scene(tmp_path / "raw", "S", {"B02": (10.0, ramp)})
    write_band(tmp_path / "raw" / "S_B03.tif", make_grid(x_px=1), np.ones((90, 120), np.uint16))
    refused(tmp_path, SceneError, r"S_B03\.tif covers .*, but S_B02\.tif covers", bands=["B", "G"])


def test_files_of_different_types_are_refused(tmp_path):
    write_scene(tmp_path / "raw", "S", {"B02": (10.0, ramp)})
    write_scene(tmp_path / "raw", "S", {"B03": (10.0, ramp)}, dtype="float32")
    refused(tmp_path, SceneError, r"S_B03\.tif is float32, but S_B02\.tif is uint16", bands=["B", "G"])


def test_a_resolution_that_does_not_divide_the_ground_is_refused(tmp_path):
    small_scene(tmp_path / "raw")
    refused(tmp_path, GridError, r"not a whole number of pixels of ingest\.resolution_m = 7\.0 m", resolution_m=7)


@pytest.mark.parametrize("suffix", [".jp2", ".tif"])
def test_a_truncated_file_is_refused_by_its_own_name(tmp_path, suffix):
    small_scene(tmp_path / "raw", suffix=suffix)
    path = next((tmp_path / "raw").rglob(f"*_B03{suffix}"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    refused(tmp_path, RasterError, rf"_B03\{suffix}: cannot be read \(.*truncated")


def test_a_scene_without_valid_pixels_is_refused_whatever_the_threshold(tmp_path):
    write_scene(tmp_path / "raw", "S", {"B02": (10.0, lambda e, s: 0 * e)})
    refused(tmp_path, SceneError, r"scene S: 0\.0% of the pixels are valid", bands=["B"], min_valid=0)


@pytest.mark.parametrize(("min_valid", "accepted"), [(0.9, True), (0.95, False)])
def test_too_little_valid_ground_is_refused(tmp_path, min_valid, accepted):
    write_scene(tmp_path / "raw", "S", {"B02": (10.0, ramp)}, ground_m=(1000, 1000), nodata_corner_m=300)
    if accepted:
        assert ingest(tmp_path, bands=["B"], min_valid=min_valid)[0]["valid_fraction"] == 0.91
    else:
        message = r"91\.0% of the pixels are valid, ingest\.min_valid asks for 95\.0%"
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
