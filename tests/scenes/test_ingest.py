import zipfile

import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.lib.stride_tricks import sliding_window_view
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, Resampling
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform as transform_points
from rasterio.windows import Window

from landfold.core.digests import file_sha256
from landfold.core.settings import SettingsError, validate
from landfold.geo.bands import Radiometry
from landfold.geo.crs import describe_crs
from landfold.geo.dataset import RasterError
from landfold.geo.grid import Grid, GridError
from landfold.geo.raster import Raster
from landfold.geo.writer import to_cog
from landfold.scenes.ingest import check_scene, ingest_scene
from landfold.scenes.sensors import find_scenes
from landfold.scenes.sensors.scene_files import BandFile, MaskFile, SceneError, SceneFiles
from landfold.scenes.settings import IngestSettings
from tests.factories import (
    CRS_UTM33,
    ORIGIN_X,
    ORIGIN_Y,
    centres,
    leftovers,
    make_grid,
    params,
    small_scene,
    tree,
    write_band,
    write_raster,
    write_scene,
)


def ingest_settings(**changes):
    return validate(params()["ingest"] | changes, IngestSettings, where="ingest")


def ingest(tmp_path, scene=None, **changes):
    """Ingest a scene, or the one below tmp_path/raw; its report, numbers as stored, mask and raster's facts."""
    if scene is None:
        [scene] = find_scenes(tmp_path / "raw")
    report = ingest_scene(scene, ingest_settings(**changes), CRS_UTM33, tmp_path / "out" / "s.tif")
    with Raster.open(tmp_path / "out" / "s.tif") as source:
        window = Window(0, 0, source.grid.width, source.grid.height)
        return report, source.read_raw(window), source.read_mask(window), source


def refused(tmp_path, error, message, scene=None, **changes):
    with pytest.raises(error, match=message):
        ingest(tmp_path, scene, **changes)
    assert not (tmp_path / "out" / "s.tif").exists()
    assert leftovers(tmp_path) == []


def scene_of(*bands, masks=()):
    """A scene of the files of one folder, as a reader of products would describe it."""
    return SceneFiles("S", "unknown", bands[0].path.parent, {band.name: band for band in bands}, masks=tuple(masks))


def reflectance(tmp_path):
    """What every later stage reads of the ingested raster: (channel, y, x), NaN where not valid."""
    with Raster.open(tmp_path / "out" / "s.tif") as source:
        return source.read_reflectance(source.grid.whole)


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


# Radiometry: product metadata, else the file's tags, else the settings; once.

DN = np.full((30, 40), 3000, np.uint16)


@pytest.mark.parametrize(
    ("product", "tags", "expected", "origin"),
    [
        (Radiometry(1e-4, -0.1), {"scale": 5e-4, "offset": 7.0}, 0.2, "product"),
        (Radiometry(2.75e-5, -0.2), {}, -0.1175, "product"),
        (Radiometry(1.0, 0.0), {"scale": 5e-4}, 3000, "product"),
        (None, {"scale": 5e-4, "offset": 0.25}, 1.75, "file"),
        (None, {}, 0.31, "settings"),
    ],
)
def test_radiometry_is_the_products_else_the_files_else_that_of_params(tmp_path, product, tags, expected, origin):
    path = write_band(tmp_path / "raw" / "S_B02.tif", make_grid(30, 40), DN, **tags)
    report, stored, _, _ = ingest(
        tmp_path, scene_of(BandFile("B", "B02", path, radiometry=product)), bands=["B"], scale=1e-4, offset=0.01
    )
    np.testing.assert_allclose(reflectance(tmp_path), expected, rtol=1e-6)
    assert (stored == 3000).all()
    assert report["bands"][0]["radiometry_from"] == origin


def test_float_reflectance_has_no_other_radiometry(tmp_path):
    path = write_band(tmp_path / "raw" / "S_B02.tif", make_grid(30, 40), (DN / 10_000).astype(np.float32))
    report, _, _, _ = ingest(tmp_path, bands=["B"], scale=1e-4, offset=-0.1)
    np.testing.assert_allclose(reflectance(tmp_path), 0.3, rtol=1e-6)
    assert report["bands"][0]["radiometry_from"] == "float"
    twice = scene_of(BandFile("B", "B02", path, radiometry=Radiometry(1e-4, -0.1)))
    (tmp_path / "out" / "s.tif").unlink()
    message = r"S_B02\.tif holds float32 numbers, but the product's metadata .* applied already"
    refused(tmp_path, SceneError, message, twice, bands=["B"])


@pytest.mark.parametrize("delivered", ["uint16", "float32"])
def test_ingests_own_output_is_no_delivery(tmp_path, delivered):
    small_scene(tmp_path / "raw", dtype=delivered)
    ingest(tmp_path, offset=-0.1)
    own = tmp_path / "own" / "T33UUU_B02.tif"
    own.parent.mkdir()
    (tmp_path / "out" / "s.tif").rename(own)
    message = r"T33UUU_B02\.tif was written by Landfold itself; scale and offset are applied once"
    for radiometry in (None, Radiometry(1e-4, -0.1)):
        scene = scene_of(BandFile("B", "B02", own, radiometry=radiometry))
        refused(tmp_path, SceneError, message, scene, bands=["B"])


@pytest.mark.parametrize("radiometry", [Radiometry(0.0, 0.1), Radiometry(float("nan"), 0.0)])
def test_a_scale_that_is_none_is_refused(tmp_path, radiometry):
    path = write_band(tmp_path / "raw" / "S_B02.tif", make_grid(30, 40), DN)
    scene = scene_of(BandFile("B", "B02", path, radiometry=radiometry))
    refused(tmp_path, SceneError, r"S_B02\.tif declares scale .* which is no reflectance", scene, bands=["B"])


# Nodata: the product's, else the file's, else its mask or alpha, else NaN, else the assumed one.


def test_the_products_nodata_wins_over_the_files_and_is_no_guess(tmp_path):
    values = DN.copy()
    values[:4, :6], values[10:12, 10:13] = 0, 9
    path = write_band(tmp_path / "raw" / "S_B02.tif", make_grid(30, 40), values, nodata=9)
    for nodata, invalid in ((0.0, 24), (None, 6), (-9999.0, 6)):
        report, _, valid, _ = ingest(tmp_path, scene_of(BandFile("B", "B02", path, nodata=nodata)), bands=["B"])
        assert (~valid).sum() == invalid
        assert report["nodata_fraction"] == pytest.approx(invalid / 1200, abs=1e-6)
        assert report["warnings"] == []


def test_a_nodata_that_no_pixel_can_have_declares_nothing(tmp_path):
    path = write_band(tmp_path / "raw" / "S_B02.tif", make_grid(30, 40, 20.0), DN)
    scene = scene_of(BandFile("B", "B02", path, nodata=-9999.0))
    report, _, valid, _ = ingest(tmp_path, scene, bands=["B"], nodata=0)
    assert "DN 0 is taken as nodata" in report["warnings"][0]
    _, _, valid, _ = ingest(tmp_path, scene, bands=["B"], nodata=-9999)
    assert valid.all()


def write_stack(path, grid, layers, **options):
    """A multi-band GeoTIFF; an ``alpha`` is the last band."""
    alpha = options.pop("alpha", None)
    layers = [*layers, alpha] if alpha is not None else layers
    path.parent.mkdir(parents=True, exist_ok=True)
    place = {"crs": grid.crs, "transform": grid.transform, "height": grid.height, "width": grid.width}
    kind = {"driver": "GTiff", "dtype": layers[0].dtype, "count": len(layers)} | options
    with rasterio.open(path, "w", **kind, **place) as file:
        if alpha is not None:
            file.colorinterp = [ColorInterp.undefined] * (len(layers) - 1) + [ColorInterp.alpha]
        file.write(np.stack(layers))
    return path


@pytest.mark.parametrize("resolution", [10.0, 20.0])
def test_alpha_is_a_mask(tmp_path, resolution):
    grid = make_grid(30, 40, resolution)
    alpha = np.full(grid.shape, 65535, np.uint16)
    alpha[:4, :6] = 0
    values = DN.copy()
    values[:4, :6] = 60_000
    path = write_stack(tmp_path / "raw" / "s.tif", grid, [values, values + 1], alpha=alpha)
    scene = scene_of(BandFile("B", "1", path, 1), BandFile("G", "2", path, 2))
    report, stored, valid, _ = ingest(tmp_path, scene, bands=["G", "B"])
    factor = round(resolution / 10)
    np.testing.assert_array_equal(valid, np.kron(alpha > 0, np.ones((factor, factor), dtype=bool)))
    assert (stored[0][valid] == 3001).all()
    assert (stored[1][valid] == 3000).all()
    assert report["warnings"] == []


def test_a_band_that_is_marked_as_alpha_is_refused(tmp_path):
    path = write_stack(tmp_path / "raw" / "s.tif", make_grid(30, 40), [DN, DN, DN], alpha=DN)
    message = r"band 4 of s\.tif is marked as alpha \(transparency\), but stands for a band of the scene; mend the mark"
    refused(tmp_path, SceneError, message, scene_of(BandFile("N", "4", path, 4)), bands=["N"])


def test_nodata_of_one_band_of_a_stack_does_not_bleed_into_its_neighbours(tmp_path):
    grid = make_grid(30, 40, 20.0)
    holed = np.full(grid.shape, 3000, np.int16)
    holed[10:14, 10:15] = -9999
    path = write_stack(tmp_path / "raw" / "s.tif", grid, [holed, np.full(grid.shape, 500, np.int16)], nodata=-9999)
    scene = scene_of(BandFile("B", "1", path, 1), BandFile("G", "2", path, 2))
    _, stored, valid, _ = ingest(tmp_path, scene, bands=["B", "G"])
    np.testing.assert_array_equal(~valid, np.kron(holed == -9999, np.ones((2, 2), dtype=bool)))
    assert (stored[0][valid] == 3000).all()


def test_a_band_that_the_file_does_not_have_is_refused(tmp_path):
    path = write_stack(tmp_path / "raw" / "s.tif", make_grid(30, 40), [DN, DN])
    message = r"s\.tif has 2 bands, but band 3 is asked for; does ingest\.band_order"
    refused(tmp_path, SceneError, message, scene_of(BandFile("B", "3", path, 3)), bands=["B"])


# Masks of a product


def masked(tmp_path, kind, classes, *, resolution=10.0, grid=None, dtype=np.uint16):
    """A scene of 30 x 40 px of 10 m whose upper left 4 x 6 px hold no data, and a mask file of these classes."""
    values = DN.copy()
    values[:4, :6] = 0
    band = write_band(tmp_path / "raw" / "S_B02.tif", make_grid(30, 40), values, nodata=0)
    grid = grid or make_grid(*classes.shape, resolution)
    mask = write_band(tmp_path / "masks" / "mask.tif", grid, classes.astype(dtype), nodata=1)
    return scene_of(BandFile("B", "B02", band), masks=[MaskFile(kind, mask)])


@pytest.mark.parametrize(
    ("kind", "clear", "invalid", "other"),
    [
        ("scl", 4, [0, 1, 3, 8, 9, 10], [2, 5, 6, 7, 11]),
        ("fmask", 0, [2, 3, 4, 255], [1]),
        # Landsat 8-9: 1 fill, 21762 dilated cloud, 22280 cloud, 23888 shadow, 54596 cirrus, 55052 cloud
        # and cirrus; 21824 clear land, 21952 clear water, 30048 snow
        ("qa_pixel", 21824, [1, 21762, 22280, 23888, 54596, 55052], [21952, 30048]),
    ],
)
def test_classes_and_bits_that_hide_pixels(tmp_path, kind, clear, invalid, other):
    classes = np.full((30, 40), clear)
    classes[5, : len(invalid)] = invalid
    classes[7, : len(other)] = other
    classes[2, 3] = invalid[0]  # no data there: nodata, not cloud
    scene = masked(tmp_path, kind, classes)
    report, _, valid, _ = ingest(tmp_path, scene, bands=["B"])
    expected = np.ones((30, 40), dtype=bool)
    expected[:4, :6] = expected[5, : len(invalid)] = False
    np.testing.assert_array_equal(valid, expected)
    assert report["nodata_fraction"] == 0.02
    assert report["cloud_fraction"] == pytest.approx(len(invalid) / 1200, abs=1e-6)
    assert report["valid_fraction"] == pytest.approx(expected.mean(), abs=1e-6)
    assert [(mask["kind"], mask["file"]) for mask in report["masks"]] == [(kind, "mask.tif")]
    off, _, valid, _ = ingest(tmp_path, scene, bands=["B"], masks=ingest_settings().masks.model_dump() | {kind: []})
    assert (~valid).sum() == 24
    assert off["masks"] == []


def test_a_mask_setting_is_obeyed(tmp_path):
    classes = np.full((30, 40), 4)
    classes[10:20, 10:20] = 11
    scene = masked(tmp_path, "scl", classes)
    masks = ingest_settings().masks.model_dump()
    assert ingest(tmp_path, scene, bands=["B"], masks=masks | {"scl": [11]})[0]["cloud_fraction"] == 0.083333
    assert ingest(tmp_path, scene, bands=["B"], masks=masks)[0]["cloud_fraction"] == 0


def test_a_coarse_mask_is_put_on_the_grid_without_inventing_classes(tmp_path):
    coarse = np.full((15, 20), 4)
    coarse[5:9, 6:11] = 9  # between 4 and 9 an interpolation would find 8, 7, 6, 5
    coarse[14, 19] = 1  # the mask file's own nodata value is a class as any other
    _, _, valid, _ = ingest(tmp_path, masked(tmp_path, "scl", coarse, resolution=20.0, dtype=np.uint8), bands=["B"])
    expected = np.kron(np.isin(coarse, [1, 9]), np.ones((2, 2), dtype=bool))
    expected[:4, :6] = True
    np.testing.assert_array_equal(~valid, expected)


def test_two_masks_add_up_and_what_lies_outside_a_mask_is_invalid(tmp_path):
    classes = np.full((10, 13), 0)  # 390 m of the scene's 400 m, so within one of its pixels
    classes[5, 5] = 4
    scene = masked(tmp_path, "fmask", classes, resolution=30.0)
    second = write_band(tmp_path / "masks" / "scl.tif", make_grid(30, 40), np.where(DN > 0, 4, 0).astype(np.uint8))
    both = scene_of(scene.bands["B"], masks=[*scene.masks, MaskFile("scl", second)])
    report, _, valid, _ = ingest(tmp_path, both, bands=["B"])
    assert not valid[:, 39].any()
    assert (~valid).sum() == 24 + 9 + 30
    assert [mask["kind"] for mask in report["masks"]] == ["fmask", "scl"]


def test_a_scene_under_clouds_is_refused_and_says_so(tmp_path):
    message = r"0\.0% of the pixels are valid.*\(2\.0% hold no data, 98\.0% are hidden by .*\); .* take classes out"
    refused(tmp_path, SceneError, message, masked(tmp_path, "qa_pixel", np.full((30, 40), 22280)), bands=["B"])


def test_a_mask_over_other_ground_is_refused(tmp_path):
    scene = masked(tmp_path, "scl", np.full((30, 40), 4), grid=make_grid(30, 40, x_px=2))
    message = r"the mask mask\.tif covers .*, but S_B02\.tif covers .* set ingest\.masks\.scl: \[\]"
    refused(tmp_path, SceneError, message, scene, bands=["B"])


def test_a_mask_that_cannot_be_read_is_refused_by_its_own_name(tmp_path):
    scene = masked(tmp_path, "scl", np.random.default_rng(0).integers(0, 12, (30, 40)))
    path = scene.masks[0].path
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    refused(tmp_path, RasterError, r"mask\.tif: cannot be read", scene, bands=["B"])
    path.unlink()
    refused(tmp_path, RasterError, r"mask\.tif: cannot be read \(.*No such file", scene, bands=["B"])


def test_bits_of_a_float_mask_are_refused(tmp_path):
    scene = masked(tmp_path, "qa_pixel", np.full((30, 40), 21824), dtype=np.float32)
    refused(tmp_path, SceneError, r"mask\.tif holds float32 numbers, which have no bits", scene, bands=["B"])


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"scl": [], "fmask": [], "qa_pixel": ["clouds"]}, r"ingest\.masks\.qa_pixel\.0: found 'clouds': .*'cloud'"),
        ({"scl": [300], "fmask": [], "qa_pixel": []}, r"ingest\.masks\.scl: .*300 is no class"),
        ({"scl": [], "qa_pixel": []}, r"ingest\.masks\.fmask: missing"),
    ],
)
def test_masks_are_classes_and_bits_that_exist(masks, message):
    with pytest.raises(SettingsError, match=message):
        ingest_settings(masks=masks)


# Grids: never a shift

ELSEWHERE = CRS.from_epsg(32632)
WGS84 = CRS.from_epsg(4326)


def coded(path, crs, transform, height, width):
    """Two float bands that hold x and y in the project's CRS of each pixel's centre; a corner holds no data."""
    grid = Grid(crs, transform, height, width)
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    x, y = transform_points(crs, CRS_UTM33, *[c.ravel() for c in transform @ (columns, rows)])
    layers = [np.array(values).reshape(height, width) for values in (x, y)]
    for layer in layers:
        layer[:5, :8] = -9999
    write_stack(path, grid, layers, nodata=-9999)
    return scene_of(BandFile("B", "x", path, 1), BandFile("G", "y", path, 2)), grid


def eroded(mask, pixels):
    """Where all pixels within a distance are set, (y, x)."""
    padded = np.pad(mask, pixels)
    return sliding_window_view(padded, (2 * pixels + 1,) * 2).all(axis=(2, 3))


PLACES = {
    "aligned": (CRS_UTM33, Affine(10, 0, ORIGIN_X, 0, -10, ORIGIN_Y)),
    "off the lattice": (CRS_UTM33, Affine(10, 0, ORIGIN_X + 3.7, 0, -10, ORIGIN_Y + 8.1)),
    "finer": (CRS_UTM33, Affine(7, 0, ORIGIN_X + 1, 0, -7, ORIGIN_Y)),
    "coarser": (CRS_UTM33, Affine(23, 0, ORIGIN_X + 1, 0, -19, ORIGIN_Y)),
    "south-up": (CRS_UTM33, Affine(10, 0, ORIGIN_X, 0, 10, ORIGIN_Y)),
    "rotated": (CRS_UTM33, Affine.translation(ORIGIN_X, ORIGIN_Y) @ Affine.rotation(30) @ Affine.scale(10, -10)),
    "another zone": (ELSEWHERE, Affine(10, 0, 811_000.0, 0, -10, 5_810_000.0)),
    "geographic": (WGS84, Affine(1.4e-4, 0, 13.55, 0, -9e-5, 52.33)),
    "geographic, south-up": (WGS84, Affine(1.4e-4, 0, 13.55, 0, 9e-5, 52.33)),
}


@pytest.mark.parametrize("place", PLACES)
def test_reproject_puts_every_pixel_where_it_belongs_on_one_lattice(tmp_path, place):
    scene, delivered = coded(tmp_path / "raw" / "s.tif", *PLACES[place], 60, 90)
    report, stored, valid, source = ingest(tmp_path, scene, bands=["B", "G"], crs_policy="reproject")
    grid = source.grid
    assert grid.crs == CRS_UTM33
    assert grid.is_north_up
    assert grid.resolution == (10, 10)
    assert grid.transform.c % 10 == grid.transform.f % 10 == 0
    columns, rows = np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5)
    x, y = grid.transform @ (columns, rows)
    inner = eroded(valid, 3)  # at the edge of the data there is nothing to interpolate with
    assert inner.sum() > 2000
    tolerance = 1e-6 if delivered.crs == CRS_UTM33 else 0.1  # metres: a hundredth of a pixel
    tolerance = 0.2 if place == "finer" else tolerance  # GDAL's kernel for 7 m to 10 m leans left and right by turns
    for found, truth in zip(stored, (x, y), strict=True):
        np.testing.assert_allclose(found[inner], truth[inner], rtol=0, atol=tolerance)
        assert abs((found - truth)[inner].mean()) < 0.02
    # Valid is what holds data, to the pixel: where the delivered pixel below a centre does.
    back = transform_points(CRS_UTM33, delivered.crs, x.ravel(), y.ravel())
    column, row = ~delivered.transform @ tuple(np.array(values) for values in back)
    column, row = np.reshape(column, x.shape), np.reshape(row, x.shape)
    inside = (column > 0.01) & (column < 89.99) & (row > 0.01) & (row < 59.99)
    corner = (column < 8) & (row < 5)
    near = (abs(column - 8) < 1) & (row < 6) | (abs(row - 5) < 1) & (column < 9)
    assert valid[inside & ~corner & ~near].all()
    assert not valid[(column < -0.01) | (column > 90.01) | (row < -0.01) | (row > 60.01)].any()
    assert not valid[inside & corner & ~near].any()
    assert report["crs"] == "EPSG:32633"
    assert report["delivered_crs"] == describe_crs(delivered.crs)


def test_an_aligned_scene_is_the_same_bytes_under_every_policy(tmp_path):
    small_scene(tmp_path / "raw")
    found = {}
    for policy in ("error", "reproject", "keep"):
        ingest(tmp_path, crs_policy=policy)
        found[policy] = (tmp_path / "out" / "s.tif").read_bytes()
    assert found["error"] == found["reproject"] == found["keep"]


def test_scenes_of_two_zones_share_one_lattice(tmp_path):
    corners = []
    for number, place in enumerate(["off the lattice", "another zone"]):
        scene, _ = coded(tmp_path / "raw" / f"{number}.tif", *PLACES[place], 60, 90)
        _, _, _, source = ingest(tmp_path, scene, bands=["B", "G"], crs_policy="reproject", resolution_m=12.5)
        corners.append((source.grid.transform.c, source.grid.transform.f))
    for one, other in zip(*corners, strict=True):
        assert ((one - other) / 12.5).is_integer()


def test_what_lies_outside_a_file_without_nodata_is_invalid(tmp_path):
    crs, transform = PLACES["rotated"]
    path = write_stack(tmp_path / "raw" / "s.tif", Grid(crs, transform, 30, 40), [DN, DN])
    scene = scene_of(BandFile("B", "1", path, 1))
    report, stored, valid, _ = ingest(tmp_path, scene, bands=["B"], crs_policy="reproject", nodata=None)
    assert 1150 < valid.sum() < 1250  # 30 x 40 px of 100 m2, turned
    assert (stored[0][valid] == 3000).all()
    assert report["warnings"] == []


def test_a_mask_goes_along_with_its_scene(tmp_path):
    crs, transform = PLACES["another zone"]
    grid = Grid(crs, transform, 60, 90)
    half = (np.arange(90) < 45) * np.ones((60, 1))
    band = write_band(tmp_path / "raw" / "S_B02.tif", grid, (1000 + 1000 * half).astype(np.uint16))
    mask = write_band(tmp_path / "masks" / "scl.tif", grid, np.where(half, 9, 4).astype(np.uint8))
    scene = scene_of(BandFile("B", "B02", band), masks=[MaskFile("scl", mask)])
    report, stored, valid, _ = ingest(tmp_path, scene, bands=["B"], crs_policy="reproject", resampling="nearest")
    assert set(stored[0][valid]) == {1000}
    assert report["cloud_fraction"] == pytest.approx(report["valid_fraction"], rel=0.03)
    assert sum(report[name] for name in ("valid_fraction", "nodata_fraction", "cloud_fraction")) == pytest.approx(1)


def test_keep_leaves_a_scene_of_another_zone_as_it_is(tmp_path):
    scene, delivered = coded(tmp_path / "raw" / "s.tif", *PLACES["another zone"], 60, 90)
    report, stored, valid, source = ingest(tmp_path, scene, bands=["B", "G"], crs_policy="keep")
    assert source.grid == delivered
    assert (~valid).sum() == 40
    with rasterio.open(tmp_path / "raw" / "s.tif") as file:
        np.testing.assert_array_equal(stored[:, valid], file.read()[:, valid])
    assert report["crs"] == "EPSG:32632"


@pytest.mark.parametrize(("width", "height", "kept"), [(9.93, 10.06, True), (10.0, 10.0, True), (9.8, 10.0, False)])
def test_keep_takes_pixels_of_almost_the_wanted_size_unchanged(tmp_path, width, height, kept):
    scene, delivered = coded(
        tmp_path / "raw" / "s.tif", ELSEWHERE, Affine(width, 0, 811_000.0, 0, -height, 5_810_000.0), 64, 64
    )
    if not kept:
        message = r"whole number of pixels of ingest\.resolution_m = 10\.0 m; .*crs_policy to keep, .* or reproject"
        return refused(tmp_path, GridError, message, scene, bands=["B"], crs_policy="keep")
    report, _, _, source = ingest(tmp_path, scene, bands=["B"], crs_policy="keep")
    assert source.grid == delivered
    assert report["resolution_m"] == pytest.approx([width, height])
    assert report["bands"][0]["resolution_m"] == pytest.approx(width)


@pytest.mark.parametrize("place", ["geographic", "geographic, south-up"])
def test_degrees_are_refused_under_keep_and_error(tmp_path, place):
    scene, _ = coded(tmp_path / "raw" / "s.tif", *PLACES[place], 60, 90)
    message = r"s\.tif is in EPSG:4326, which is not in metres; set ingest\.crs_policy: reproject"
    refused(tmp_path, GridError, message, scene, bands=["B"], crs_policy="keep")
    message = r"s\.tif is in EPSG:4326, but project\.crs is EPSG:32633; set ingest\.crs_policy to reproject \(all"
    refused(tmp_path, GridError, message, scene, bands=["B"], crs_policy="error")


@pytest.mark.parametrize("place", ["rotated", "south-up"])
@pytest.mark.parametrize("policy", ["error", "keep"])
def test_turned_grids_are_refused_unless_reprojected(tmp_path, place, policy):
    scene, _ = coded(tmp_path / "raw" / "s.tif", *PLACES[place], 60, 90)
    message = r"s\.tif is rotated or south-up .* set ingest\.crs_policy: reproject"
    refused(tmp_path, GridError, message, scene, bands=["B"], crs_policy=policy)


@pytest.mark.parametrize("policy", ["reproject", "keep"])
def test_two_crs_in_one_scene_are_refused(tmp_path, policy):
    write_scene(tmp_path / "raw", "S", {"B02": (10.0, ramp)})
    write_scene(tmp_path / "raw", "S", {"B03": (10.0, ramp)}, crs=ELSEWHERE)
    message = r"S_B03\.tif is in EPSG:32632, but S_B02\.tif is in EPSG:32633; the files of a scene must have one CRS"
    refused(tmp_path, GridError, message, bands=["B", "G"], crs_policy=policy)


def test_reproject_forgives_bands_an_edge_of_one_coarse_pixel(tmp_path):
    fine, coarse = make_grid(60, 80, 15.0), make_grid(31, 41, 30.0)
    write_band(tmp_path / "raw" / "S_B02.tif", fine, np.full(fine.shape, 100, np.uint16))
    write_band(tmp_path / "raw" / "S_B03.tif", coarse, np.full(coarse.shape, 200, np.uint16))
    _, stored, valid, source = ingest(tmp_path, bands=["B", "G"], crs_policy="reproject", resolution_m=15)
    assert source.grid.shape == (62, 82)
    np.testing.assert_array_equal(valid[:60, :80], True)
    assert valid.sum() == 60 * 80
    assert set(stored[1][valid]) == {200}
    (tmp_path / "out" / "s.tif").unlink()
    refused(tmp_path, SceneError, "must cover the same ground", bands=["B", "G"], crs_policy="keep", resolution_m=15)


@pytest.mark.parametrize("policy", ["error", "reproject", "keep"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40)])
def test_a_raster_of_one_pixel_is_refused(tmp_path, policy, shape):
    write_band(tmp_path / "raw" / "S_B02.tif", make_grid(*shape), np.full(shape, 100, np.uint16))
    message = rf"S_B02\.tif is {shape[1]} x 1 px, which is no image"
    refused(tmp_path, GridError, message, bands=["B"], crs_policy=policy)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "S_B02.tif").touch()
    scene = scene_of(BandFile("B", "B02", tmp_path / "raw" / "S_B02.tif"))
    refused(tmp_path, RasterError, r"S_B02\.tif: cannot be read", scene, bands=["B"])


@pytest.mark.parametrize("policy", ["reproject", "keep"])
def test_no_policy_guesses_a_crs(tmp_path, policy):
    small_scene(tmp_path / "raw", crs=None)
    refused(tmp_path, GridError, r"_B02\.tif: the file has no CRS", crs_policy=policy)


def test_ground_that_the_projects_crs_cannot_hold_is_refused(tmp_path):
    world = Affine(0.5, 0, -180, 0, -0.5, 90)
    path = write_stack(tmp_path / "raw" / "s.tif", Grid(WGS84, world, 360, 720), [np.ones((360, 720), np.uint16)])
    scene = scene_of(BandFile("B", "1", path))
    message = r"cannot be put into project\.crs EPSG:32633; choose a CRS of the area|is more than 200000 a side"
    refused(tmp_path, GridError, message, scene, bands=["B"], crs_policy="reproject")


def test_a_grid_beyond_all_measure_is_refused(tmp_path):
    write_scene(tmp_path / "raw", "S", {"B02": (10.0, ramp)})
    message = r"1200000 x 900000 px of 0\.001 m in EPSG:32633 is more than 200000 a side"
    refused(tmp_path, GridError, message, bands=["B"], crs_policy="reproject", resolution_m=0.001)


def test_a_scene_that_its_reader_found_faulty_is_refused_with_that_fault(tmp_path):
    scene = SceneFiles("S", "sentinel2", tmp_path, {}, fault="scene S: no radiometry; fetch the product whole")
    refused(tmp_path, SceneError, r"^scene S: no radiometry; fetch the product whole$", scene)


def test_a_member_of_an_archive_is_opened_by_its_source(tmp_path):
    small_scene(tmp_path / "files")
    archive = tmp_path / "product.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted((tmp_path / "files").rglob("*.tif")):
            file.write(path, path.name)
    member = "T33UUU_20170216T102101_B02.tif"
    scene = scene_of(BandFile("B", "B02", archive, source=f"/vsizip/{archive}/{member}"))
    report, _, valid, _ = ingest(tmp_path, scene, bands=["B"])
    assert (~valid).sum() == 100
    assert report["bands"][0]["sha256"] == file_sha256(archive)


# An area: the same pixels as without it, and no others

NOISE = np.random.default_rng(7)


def noise(*_):
    return lambda east, south: NOISE.integers(1, 9000, east.shape)


def delivered_at(tmp_path, place, height=560, width=610):
    """A scene of random numbers with holes, and a mask of half its resolution."""
    crs, transform = PLACES[place]
    numbers = NOISE.integers(1, 9000, (height, width)).astype(np.uint16)
    numbers[NOISE.random((height, width)) < 0.02] = 0
    band = write_band(tmp_path / "raw" / "S_B02.tif", Grid(crs, transform, height, width), numbers, nodata=0)
    coarse = Grid(crs, transform @ Affine.scale(2), height // 2, width // 2)
    classes = NOISE.choice([4, 5, 9], coarse.shape).astype(np.uint8)
    mask = write_band(tmp_path / "raw" / "S_SCL.tif", coarse, classes)
    return scene_of(BandFile("B", "B02", band), masks=[MaskFile("scl", mask)])


def check_cut(tmp_path, scene, area, window, **changes):
    """Cut the scene to an area; it must be the window of the whole scene, bit by bit, and nothing else."""
    _, whole, valid, source = ingest(tmp_path, scene, **changes)
    report, cut, cut_valid, cut_source = ingest(tmp_path, scene, area=area, **changes)
    rows, columns = window
    np.testing.assert_array_equal(cut, whole[:, rows, columns])
    np.testing.assert_array_equal(cut_valid, valid[rows, columns])
    assert cut_source.grid.crs == source.grid.crs
    assert cut_source.grid.transform == source.grid.transform @ Affine.translation(columns.start, rows.start)
    assert report["grid"] == {
        "width": columns.stop - columns.start,
        "height": rows.stop - rows.start,
        "transform": list(cut_source.grid.transform)[:6],
    }
    assert report["valid_fraction"] == round(cut_valid.mean(), 6)
    assert 0 < cut_valid.mean() < 1


def around(grid, left, top, right, bottom):
    """Bounds of pixels of a north-up grid."""
    (x_min, y_max), (x_max, y_min) = grid.transform @ (left, top), grid.transform @ (right, bottom)
    return x_min, y_min, x_max, y_max


@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "cubic"])
@pytest.mark.parametrize("suffix", [".tif", ".jp2"])
def test_an_area_of_bands_of_three_resolutions_is_cut_bit_by_bit(tmp_path, resampling, suffix):
    bands = {band: (resolution, noise()) for band, (resolution, _) in MIXED.items()}
    write_scene(tmp_path / "raw", "S", bands, ground_m=(5400, 6000), nodata_corner_m=700, suffix=suffix)
    [scene] = find_scenes(tmp_path / "raw")
    area = around(make_grid(), 31.2, 17.5, 577.9, 533.1)
    window = slice(17, 534), slice(31, 578)
    check_cut(tmp_path, scene, area, window, bands=["A", "B", "RE1"], resampling=resampling)


@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "cubic"])
@pytest.mark.parametrize("place", PLACES)
def test_an_area_of_a_warped_scene_and_its_mask_is_cut_bit_by_bit(tmp_path, place, resampling):
    scene = delivered_at(tmp_path, place)
    options = {"bands": ["B"], "crs_policy": "reproject", "resampling": resampling}
    grid = ingest(tmp_path, scene, **options)[3].grid
    height, width = grid.shape
    left, top, right, bottom = width // 3 + 5, height // 3 + 1, width * 2 // 3 + 130, height * 2 // 3 + 17
    area = around(grid, left + 0.3, top + 0.9, right - 0.9, bottom - 0.2)
    check_cut(tmp_path, scene, area, (slice(top, bottom), slice(left, right)), **options)


@pytest.mark.parametrize("resolution", [10, 20])
def test_an_area_of_a_kept_scene_is_the_rectangle_around_it_in_the_scenes_crs(tmp_path, resolution):
    scene = delivered_at(tmp_path, "another zone")
    options = {"bands": ["B"], "crs_policy": "keep", "resolution_m": resolution}
    grid = ingest(tmp_path, scene, **options)[3].grid
    x, y = transform_points(ELSEWHERE, CRS_UTM33, *[[at] for at in grid.transform @ (grid.width / 2, grid.height / 2)])
    area = x[0] - 1303, y[0] - 907, x[0] + 1111, y[0] + 1000
    # where dense edges of the area lie on the scene's grid
    east, north = np.meshgrid(np.linspace(area[0], area[2], 999), np.linspace(area[1], area[3], 999))
    there = transform_points(CRS_UTM33, ELSEWHERE, east.ravel(), north.ravel())
    columns, rows = ~grid.transform @ tuple(np.array(values) for values in there)
    window = tuple(slice(int(np.floor(at.min())), int(np.ceil(at.max()))) for at in (rows, columns))
    check_cut(tmp_path, scene, area, window, **options)


def test_an_area_larger_than_the_scene_leaves_it_whole(tmp_path):
    small_scene(tmp_path / "raw")
    ingest(tmp_path)
    before = tree(tmp_path / "out")
    ingest(tmp_path, area=around(make_grid(), -5, -900, 1000, 2000))
    assert tree(tmp_path / "out") == before
    ingest(tmp_path, area=around(make_grid(), 0, 0, 120, 90))  # its own bounds: no pixel more, none less
    assert tree(tmp_path / "out") == before


def test_only_the_blocks_of_the_area_are_read(tmp_path):
    rng = np.random.default_rng(3)
    write_scene(
        tmp_path / "raw",
        "S",
        {"B02": (10.0, lambda e, s: rng.integers(1, 9000, e.shape)), "B05": (20.0, lambda e, s: e + s)},
        ground_m=(10240, 10240),
    )
    for path in (tmp_path / "raw").iterdir():  # of the rows of tiles the last 40 % cannot be read any more
        with rasterio.open(path) as file:
            content, profile = file.read(), file.profile
        with rasterio.open(path, "w", **profile | {"tiled": True, "blockxsize": 128, "blockysize": 128}) as file:
            file.write(content)
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with pytest.raises(RasterError, match="cannot be read"):
        ingest(tmp_path, bands=["B", "RE1"])
    report, _, valid, _ = ingest(tmp_path, bands=["B", "RE1"], area=around(make_grid(), 100, 50, 300, 300))
    assert valid.shape == (250, 200)
    assert valid.all()
    assert report["nodata_fraction"] == 0


@pytest.mark.parametrize(
    ("place", "policy"), [("aligned", "error"), ("another zone", "keep"), ("geographic", "reproject")]
)
@pytest.mark.parametrize("area", [(0.0, 0.0, 10.0, 10.0), (9e5, 5e6, 9.1e5, 5.1e6)])
def test_a_scene_that_does_not_meet_the_area_is_refused_with_both_bounds(tmp_path, place, policy, area):
    scene, _ = coded(tmp_path / "raw" / "s.tif", *PLACES[place], 60, 90)
    message = r"scene S: covers \(.*\) in EPSG:3263\d, which does not meet ingest\.area \(.*\) in EPSG:32633; correct"
    refused(tmp_path, SceneError, message, scene, bands=["B"], crs_policy=policy, area=area)


def test_an_area_that_touches_the_scene_does_not_meet_it(tmp_path):
    small_scene(tmp_path / "raw")
    refused(tmp_path, SceneError, "does not meet ingest.area", area=around(make_grid(), -9, 0, 0, 90))
    assert ingest(tmp_path, area=around(make_grid(), 60, 60, 61, 62))[1].shape == (4, 2, 1)


@pytest.mark.parametrize(
    "area", [[10, 0, 0, 10], [0, 10, 10, 10], [0, 0, float("inf"), 1], [float("nan"), 0, 1, 1], [0, 0, 1], "all"]
)
def test_an_area_is_four_finite_numbers_in_order(area):
    with pytest.raises(
        SettingsError, match=r"ingest\.area.*(\[x_min, y_min, x_max, y_max\]|x_min, y_min, x_max, y_max in m)"
    ):
        ingest_settings(area=area)


# Mask files that the settings name


def with_file(classes):
    return ingest_settings().masks.model_dump() | {"file": classes}


def test_a_named_mask_file_hides_its_classes_and_no_others(tmp_path):
    classes = np.full((30, 40), 0)
    classes[10:20, 10:20], classes[25, 30:36] = 1, 7
    scene = masked(tmp_path, "file", classes, dtype=np.uint8)
    for chosen, hidden in (([1], 100), ([7], 6), ([1, 7], 106)):
        named = {"mask_file": "{scene}_clouds.tif", "masks": with_file(chosen)}
        report, _, valid, _ = ingest(tmp_path, scene, bands=["B"], **named)
        assert (~valid).sum() == 24 + hidden
        assert [(mask["kind"], mask["invalid"]) for mask in report["masks"]] == [("file", chosen)]


def test_a_scene_without_the_named_mask_file_is_refused(tmp_path):
    scene = masked(tmp_path, "scl", np.full((30, 40), 4))
    message = (
        r"scene S: no mask file S_clouds\.tif in .*raw, as ingest\.mask_file asks for; add it, or set ingest\.mask"
    )
    refused(tmp_path, SceneError, message, scene, bands=["B"], mask_file="{scene}_clouds.tif")


def test_a_named_mask_file_over_other_ground_is_refused(tmp_path):
    scene = masked(tmp_path, "file", np.full((30, 40), 4), grid=make_grid(30, 40, x_px=2))
    message = r"the mask mask\.tif covers .*, but S_B02\.tif covers .* set ingest\.masks\.file: \[\]"
    refused(tmp_path, SceneError, message, scene, bands=["B"], mask_file="{scene}_clouds.tif")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"mask_file": "{scene}_c.tif", "masks": "none"},
            r"mask_file is set, but masks\.file is \[\]: list the values",
        ),
        (
            {"masks": "sccl"},
            r"ingest\.masks\.sccl: unknown setting \(did you mean 'scl'\?\); known are scl, qa_pixel, f",
        ),
    ],
)
def test_a_mask_setting_that_could_do_nothing_is_refused(changes, message):
    masks = {"none": with_file([]), "sccl": with_file([1]) | {"sccl": [3]}}
    if "masks" in changes:
        changes = changes | {"masks": masks[changes["masks"]]}
    with pytest.raises(SettingsError, match=message):
        ingest_settings(**changes)


# What is known before a pixel is read


def test_a_check_tells_what_ingest_will_tell(tmp_path):
    scene = delivered_at(tmp_path, "another zone")
    for changes in ({}, {"area": (300_000.0, 5_700_000.0, 500_000.0, 5_900_000.0)}):
        options = {"bands": ["B"], "crs_policy": "reproject"} | changes
        found = check_scene(scene, ingest_settings(**options), CRS_UTM33)
        report = ingest(tmp_path, scene, **options)[0]
        for one in [*report["bands"], *report["masks"]]:
            assert len(one.pop("sha256")) == 64
        assert set(report) - set(found) == {"valid_fraction", "nodata_fraction", "cloud_fraction"}
        assert found == {name: report[name] for name in found}


def test_a_check_refuses_as_ingest_does_but_for_what_pixels_tell(tmp_path):
    small_scene(tmp_path / "raw")
    [scene] = find_scenes(tmp_path / "raw")
    check_scene(scene, ingest_settings(min_valid=1), CRS_UTM33)
    with pytest.raises(GridError, match=r"is in EPSG:32633, but project\.crs is EPSG:32632"):
        check_scene(scene, ingest_settings(), ELSEWHERE)
    with pytest.raises(SceneError, match="no file for band S1"):
        check_scene(scene, ingest_settings(bands=["S1"]), CRS_UTM33)


def test_no_raster_of_landfolds_is_a_delivery(tmp_path):
    """Whatever wrote it: ingest, indices, normalize or export."""
    path = write_raster(tmp_path / "raw" / "s.tif", {"B": DN})
    message = r"s\.tif was written by Landfold itself; scale and offset are applied once"
    refused(tmp_path, SceneError, message, scene_of(BandFile("B", "B", path)), bands=["B"])
    to_cog(path, tmp_path / "raw" / "cog.tif", overview_resampling="nearest")
    scene = scene_of(BandFile("B", "B", tmp_path / "raw" / "cog.tif"))
    refused(tmp_path, SceneError, r"cog\.tif was written by Landfold itself", scene, bands=["B"])


@pytest.mark.parametrize("place", ["another zone", "rotated", "coarser"])
@pytest.mark.parametrize(("dtype", "nodata"), [(np.float32, np.nan), (np.float32, -9999), (np.uint16, 0)])
@pytest.mark.parametrize("count", [1, 2])
def test_a_hole_stays_as_large_as_it_is(tmp_path, place, dtype, nodata, count):
    """Warped pixels hold data where the delivered pixel below their centre does, whatever nodata is."""
    grid = Grid(*PLACES[place], 60, 90)
    values = np.full(grid.shape, 3000, dtype)
    values[5:14, 8:22] = values[30, 40] = nodata
    path = write_stack(tmp_path / "raw" / "s.tif", grid, [values] * count, nodata=nodata)
    scene = scene_of(*(BandFile(name, name, path, i) for i, name in enumerate(["B", "G"][:count], start=1)))
    _, stored, valid, source = ingest(tmp_path, scene, bands=["B", "G"][:count], crs_policy="reproject")
    columns, rows = np.meshgrid(np.arange(source.grid.width) + 0.5, np.arange(source.grid.height) + 0.5)
    x, y = source.grid.transform @ (columns, rows)
    back = transform_points(CRS_UTM33, grid.crs, x.ravel(), y.ravel())
    column, row = (np.reshape(at, x.shape) for at in ~grid.transform @ tuple(np.array(values) for values in back))
    inside = (column > 0) & (column < 90) & (row > 0) & (row < 60)
    below = values[np.floor(row).astype(int).clip(0, 59), np.floor(column).astype(int).clip(0, 89)]
    sure = (abs(column - np.round(column)) > 0.02) & (abs(row - np.round(row)) > 0.02)
    np.testing.assert_array_equal(valid[sure], (inside & (below == 3000))[sure])
    assert (stored[:, valid] == 3000).all()


def test_a_raster_that_claims_absurd_sides_is_refused_before_anything_is_written(tmp_path):
    """A sparse file of some kB claims as many pixels as it likes."""
    path = tmp_path / "raw/scenes/huge_B02.tif"
    path.parent.mkdir(parents=True)
    profile = {"driver": "GTiff", "count": 1, "dtype": "uint16", "crs": "EPSG:32633", "SPARSE_OK": True, "tiled": True}
    place = Affine(10, 0, 399_960, 0, -10, 5_800_020)
    with rasterio.open(path, "w", width=300_000, height=300, transform=place, **profile):
        pass
    assert path.stat().st_size < 2**20
    (scene,) = find_scenes(path.parent)
    with pytest.raises(GridError, match=r"huge_B02\.tif claims 300000 x 300 px, more than 200000 a side"):
        ingest_scene(scene, ingest_settings(bands=["B"]), CRS.from_epsg(32633), tmp_path / "out.tif")
    assert not (tmp_path / "out.tif").exists()
