import numpy as np
import pytest
import rasterio
from affine import Affine
from numpy.lib.stride_tricks import sliding_window_view
from rasterio.crs import CRS
from rasterio.warp import transform as transform_points
from scipy.ndimage import map_coordinates

from landfold.core.settings import SettingsError
from landfold.geo.crs import describe_crs
from landfold.geo.dataset import RasterError
from landfold.geo.grid import Grid, GridError
from landfold.scenes.ingest import ingest_scene, lattice_origin
from landfold.scenes.sensors import find_scenes
from landfold.scenes.sensors.scene_files import BandFile, MaskFile, SceneError
from tests.factories import (
    CRS_UTM33,
    ORIGIN_X,
    ORIGIN_Y,
    centres,
    make_grid,
    small_scene,
    tree,
    write_band,
    write_scene,
)
from tests.scenes.ingest.deliveries import (
    DN,
    ELSEWHERE,
    MIXED,
    NOISE,
    PLACES,
    WGS84,
    delivered_at,
    ingest,
    ingest_settings,
    noise,
    ramp,
    refused,
    scene_of,
    write_stack,
)


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


def test_another_crs_than_the_projects_is_refused(tmp_path):
    small_scene(tmp_path / "raw", crs=CRS.from_epsg(32632))
    refused(tmp_path, GridError, r"_B02\.tif is in EPSG:32632, but project\.crs is EPSG:32633; set project\.crs")


@pytest.mark.parametrize("turn", [Affine.rotation(5), Affine.scale(1, -1)])
def test_a_rotated_or_south_up_grid_is_refused(tmp_path, turn):
    small_scene(tmp_path / "raw", transform=make_grid().transform @ turn)
    refused(tmp_path, GridError, r"_B02\.tif is rotated or south-up .*gdalwarp")


def test_a_file_without_crs_is_refused(tmp_path):
    small_scene(tmp_path / "raw", crs=None)
    refused(tmp_path, GridError, r"_B02\.tif: the file has no CRS")


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


def test_a_coarser_common_grid_is_allowed(tmp_path):
    write_scene(tmp_path / "raw", "S", MIXED, ground_m=(360, 480))
    _, stored, valid, source = ingest(tmp_path, bands=["B", "RE1"], resolution_m=20)
    assert source.grid == make_grid(18, 24, 20.0)
    np.testing.assert_array_equal(stored[1], ramp(*centres(source.grid)))
    assert valid.all()


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


@pytest.mark.parametrize("place", ["off the lattice", "rotated"])
def test_bilinear_takes_four_pixels_and_blurs_no_further(tmp_path, place):
    """GDAL would take a turned scene for one of smaller pixels, and average over more of them."""
    grid = Grid(*PLACES[place], 600, 700)
    values = NOISE.integers(1, 9000, grid.shape).astype(np.float32)
    path = write_band(tmp_path / "raw" / "S_B02.tif", grid, values)
    scene = scene_of(BandFile("B", "B02", path))
    _, stored, valid, source = ingest(tmp_path, scene, bands=["B"], crs_policy="reproject", resampling="bilinear")
    columns, rows = np.meshgrid(np.arange(source.grid.width) + 0.5, np.arange(source.grid.height) + 0.5)
    columns, rows = ~grid.transform @ (source.grid.transform @ (columns, rows))
    inner = valid & (columns > 1) & (columns < 699) & (rows > 1) & (rows < 599)
    expected = map_coordinates(values, [rows[inner] - 0.5, columns[inner] - 0.5], order=1)
    np.testing.assert_allclose(stored[0][inner], expected, atol=2)
    assert inner.mean() > 0.3


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
    assert "nodata value" not in str(report["warnings"])


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
    write_band(tmp_path / "raw" / "S_B.tif", fine, np.full(fine.shape, 100, np.uint16))
    write_band(tmp_path / "raw" / "S_G.tif", coarse, np.full(coarse.shape, 200, np.uint16))
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


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "cubic"])
@pytest.mark.parametrize("suffix", [".tif", ".jp2"])
def test_an_area_of_bands_of_three_resolutions_is_cut_bit_by_bit(tmp_path, resampling, suffix):
    bands = {band: (resolution, noise()) for band, (resolution, _) in MIXED.items()}
    write_scene(tmp_path / "raw", "S", bands, ground_m=(960, 1080), nodata_corner_m=400, suffix=suffix)
    [scene] = find_scenes(tmp_path / "raw")
    area = around(make_grid(), 31.2, 17.5, 97.9, 83.1)
    window = slice(17, 84), slice(31, 98)
    check_cut(tmp_path, scene, area, window, bands=["A", "B", "RE1"], resampling=resampling)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "cubic"])
@pytest.mark.parametrize("place", PLACES)
def test_an_area_of_a_warped_scene_and_its_mask_is_cut_bit_by_bit(tmp_path, place, resampling):
    scene = delivered_at(tmp_path, place)
    options = {"bands": ["B"], "crs_policy": "reproject", "resampling": resampling}
    grid = ingest(tmp_path, scene, **options)[3].grid
    height, width = grid.shape
    left, top, right, bottom = width // 3 + 5, height // 3 + 1, width * 2 // 3 + 30, height * 2 // 3 + 17
    area = around(grid, left + 0.3, top + 0.9, right - 0.9, bottom - 0.2)
    check_cut(tmp_path, scene, area, (slice(top, bottom), slice(left, right)), **options)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("resolution", [10, 20])
def test_an_area_of_a_kept_scene_is_the_rectangle_around_it_in_the_scenes_crs(tmp_path, resolution):
    scene = delivered_at(tmp_path, "another zone")
    options = {"bands": ["B"], "crs_policy": "keep", "resolution_m": resolution}
    grid = ingest(tmp_path, scene, **options)[3].grid
    x, y = transform_points(ELSEWHERE, CRS_UTM33, *[[at] for at in grid.transform @ (grid.width / 2, grid.height / 2)])
    area = x[0] - 503, y[0] - 307, x[0] + 411, y[0] + 400
    # where dense edges of the area lie on the scene's grid
    east, north = np.meshgrid(np.linspace(area[0], area[2], 99), np.linspace(area[1], area[3], 99))
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


def test_metres_of_the_scenes_own_crs_must_be_true_where_it_is_kept(tmp_path):
    """Web Mercator is metric, but at 52 degrees its areas are 2.6 times too large."""
    grid = Grid(CRS.from_epsg(3857), Affine(10, 0, 1_500_000, 0, -10, 6_850_000), 30, 40)
    write_band(tmp_path / "raw" / "S_B02.tif", grid, DN)
    message = r"where its own CRS EPSG:3857 shows areas 2\.\d+ times .* set ingest\.crs_policy: reproject"
    refused(tmp_path, GridError, message, bands=["B"], crs_policy="keep")
    assert ingest(tmp_path, bands=["B"], crs_policy="reproject")[2].any()


def on_lattice(folder, name, x_m, *, size=30.0, place=None):
    """A scene whose corner is so many metres east and north of the common origin."""
    crs, transform = place or (CRS_UTM33, Affine(size, 0, ORIGIN_X + x_m, 0, -size, ORIGIN_Y + x_m))
    grid = Grid(crs, transform, 20, 25)
    path = write_band(folder / f"{name}.tif", grid, (np.arange(500).reshape(20, 25) * 7 + 1).astype(np.uint16))
    return scene_of(BandFile("B", "B", path))


def origin_of(*scenes, **changes):
    return lattice_origin(scenes, ingest_settings(**{"bands": ["B"], "resolution_m": 30, **changes}), CRS_UTM33)


def test_the_lattice_is_that_of_the_scenes_where_they_agree(tmp_path):
    """Landsat's corners lie at 15 m of multiples of 30; its numbers stay, and scenes of other zones join them."""
    landsat = [on_lattice(tmp_path, name, x_m) for name, x_m in (("a", 15.0), ("b", 615.0))]
    other = on_lattice(tmp_path, "zone", 0, place=PLACES["another zone"])
    origin = origin_of(*landsat, other, crs_policy="reproject")
    assert origin == (15, 15)
    options = {"bands": ["B"], "resolution_m": 30, "crs_policy": "reproject"}
    for scene in (landsat[0], other):
        target = tmp_path / "out" / "s.tif"
        ingest_scene(scene, ingest_settings(**options), CRS_UTM33, target, origin=origin)
        with rasterio.open(target) as dataset, rasterio.open(scene.bands["B"].path) as delivered:
            assert (dataset.transform.c % 30, dataset.transform.f % 30) == (15, 15)
            if scene is not other:
                assert dataset.transform == delivered.transform
                np.testing.assert_array_equal(dataset.read(), delivered.read())


def test_scenes_that_disagree_or_are_of_other_pixels_leave_the_lattice_as_it_is(tmp_path):
    landsat, shifted = on_lattice(tmp_path, "a", 15.0), on_lattice(tmp_path, "b", 20.0)
    finer = on_lattice(tmp_path, "c", 5.0, size=10.0)
    assert origin_of(landsat, shifted, crs_policy="reproject") == (0, 0)
    assert origin_of(finer, crs_policy="reproject") == (0, 0)
    assert origin_of(landsat, finer, crs_policy="reproject") == (15, 15)
    assert origin_of(landsat, crs_policy="keep") == (0, 0)
    landsat.bands["B"].path.write_bytes(b"II*")
    assert origin_of(landsat, crs_policy="reproject") == (0, 0)
