import zipfile

import numpy as np
import pytest
import rasterio
from rasterio.warp import transform as transform_points

from landfold.core.digests import file_sha256
from landfold.core.settings import SettingsError
from landfold.geo.bands import Radiometry
from landfold.geo.dataset import RasterError
from landfold.geo.grid import Grid
from landfold.geo.writer import to_cog
from landfold.scenes.sensors.scene_files import BandFile, MaskFile, SceneError
from tests.factories import (
    CRS_UTM33,
    centres,
    make_grid,
    small_scene,
    write_band,
    write_raster,
    write_scene,
)
from tests.scenes.ingest.deliveries import (
    DN,
    PLACES,
    ingest,
    ingest_settings,
    masked,
    ramp,
    reflectance,
    refused,
    scene_of,
    write_stack,
)


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
    report, stored, valid, source = ingest(tmp_path, bands=["B"], nodata=None)
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
    assert "nodata value" not in str(report["warnings"])
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
    assert "nodata value" not in str(report["warnings"])


def test_one_bands_nodata_is_the_scenes(tmp_path):
    small_scene(tmp_path / "raw")
    path = next((tmp_path / "raw").rglob("*_B04.tif"))
    with rasterio.open(path) as file:
        values = file.read(1)
    values[40:50, 60:80] = 0
    write_band(path, make_grid(), values)
    _, _, valid, _ = ingest(tmp_path)
    assert (~valid).sum() == 100 + 200


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


@pytest.mark.parametrize("radiometry", [Radiometry(0.0, 0.1), Radiometry(-1e-4, 0.0), Radiometry(float("nan"), 0.0)])
def test_a_scale_that_is_none_is_refused(tmp_path, radiometry):
    path = write_band(tmp_path / "raw" / "S_B02.tif", make_grid(30, 40), DN)
    scene = scene_of(BandFile("B", "B02", path, radiometry=radiometry))
    refused(tmp_path, SceneError, r"S_B02\.tif declares scale .* which is no reflectance", scene, bands=["B"])


def test_the_products_nodata_wins_over_the_files_and_is_no_guess(tmp_path):
    values = DN.copy()
    values[:4, :6], values[10:12, 10:13] = 0, 9
    path = write_band(tmp_path / "raw" / "S_B02.tif", make_grid(30, 40), values, nodata=9)
    for nodata, invalid in ((0.0, 24), (None, 6), (-9999.0, 6)):
        report, _, valid, _ = ingest(tmp_path, scene_of(BandFile("B", "B02", path, nodata=nodata)), bands=["B"])
        assert (~valid).sum() == invalid
        assert report["nodata_fraction"] == pytest.approx(invalid / 1200, abs=1e-6)
        assert "nodata value" not in str(report["warnings"])


def test_a_nodata_that_no_pixel_can_have_declares_nothing(tmp_path):
    path = write_band(tmp_path / "raw" / "S_B02.tif", make_grid(30, 40, 20.0), DN)
    scene = scene_of(BandFile("B", "B02", path, nodata=-9999.0))
    report, _, valid, _ = ingest(tmp_path, scene, bands=["B"], nodata=0)
    assert "DN 0 is taken as nodata" in report["warnings"][0]
    _, _, valid, _ = ingest(tmp_path, scene, bands=["B"], nodata=-9999)
    assert valid.all()


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
    assert "nodata value" not in str(report["warnings"])


@pytest.mark.parametrize("resolution", [10.0, 20.0])
@pytest.mark.parametrize("hiding", ["mask", "beside", "alpha"])
def test_a_pixel_is_data_if_neither_nodata_nor_mask_nor_alpha_nor_nan_says_otherwise(tmp_path, resolution, hiding):
    """A file that declares nodata and has a mask, too; GDAL itself heeds one of the two."""
    grid = make_grid(30, 40, resolution)
    values = (ramp(*centres(grid)) / 10_000).astype(np.float32)
    values[:4, :6], values[10:13, 20:25] = -9999, np.nan
    shown = np.ones(grid.shape, dtype=bool)
    shown[20:26, 3:10] = False
    path = tmp_path / "raw" / "S_B02.tif"
    if hiding == "alpha":
        write_stack(path, grid, [values], alpha=shown.astype(np.float32) * 255, nodata=-9999)
    else:
        write_band(path, grid, values, nodata=-9999, mask=shown if hiding == "mask" else None)
    if hiding == "beside":
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as file:
            file.write_mask(shown)
        assert path.with_name("S_B02.tif.msk").is_file()
    report, _, valid, _ = ingest(tmp_path, scene_of(BandFile("B", "B02", path)), bands=["B"], resampling="nearest")
    factor = round(resolution / 10)
    expected = np.kron((values > -9999) & shown, np.ones((factor, factor), dtype=bool))
    np.testing.assert_array_equal(valid, expected)
    counts = {"nodata": 24, "mask": 42, "alpha": 0, "not_finite": 15}
    counts |= {"mask": 0, "alpha": 42} if hiding == "alpha" else {}
    assert report["nodata_px"] == {cause: count * factor**2 for cause, count in counts.items()}


def test_a_palette_is_no_band(tmp_path):
    path = write_stack(tmp_path / "raw" / "S_B02.tif", make_grid(30, 40), [(DN // 100).astype(np.uint8)])
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {30: (255, 0, 0, 255)})
    message = r"band 1 of S_B02\.tif is a palette: its numbers stand for colours or classes"
    refused(tmp_path, SceneError, message, bands=["B"])


def test_a_band_that_is_marked_as_alpha_is_refused(tmp_path):
    path = write_stack(tmp_path / "raw" / "s.tif", make_grid(30, 40), [DN, DN, DN], alpha=DN)
    message = r"band 4 of s\.tif is marked as alpha \(transparency\), but stands for a band of the scene; correct "
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


@pytest.mark.parametrize("suffix", [".jp2", ".tif"])
def test_a_truncated_file_is_refused_by_its_own_name(tmp_path, suffix):
    small_scene(tmp_path / "raw", suffix=suffix)
    path = next((tmp_path / "raw").rglob(f"*_B03{suffix}"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    refused(tmp_path, RasterError, rf"_B03\{suffix}: cannot be read \(.*truncated")


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
