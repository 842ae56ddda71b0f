"""Never a shift: a scene whose pixels hold their own coordinates, from the delivery to the map in a GIS.

Whatever grid it was delivered on, bands G and N of the scene hold x and y of each pixel's centre in the project's
CRS. Every product of every stage is then asked where its pixels are, by their numbers, and where it says they are,
by its transform and CRS.
"""

from dataclasses import dataclass
from functools import cached_property

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from numpy.lib.stride_tricks import sliding_window_view
from rasterio.crs import CRS
from rasterio.warp import transform as transform_points

import stages.indices
import stages.ingest
import stages.normalize
import stages.patches
from landfold.geo.grid import Grid
from landfold.geo.raster import Raster
from landfold.maps.export import MapModels, NormalizedScene, write_scene_map
from landfold.maps.inference import shifts_px
from landfold.maps.settings import ExportSettings
from landfold.params import read_params
from landfold.scenes.normalize import SceneStatistics
from tests.factories import CRS_UTM33, ORIGIN_X, ORIGIN_Y, params, write_labels, write_params
from tests.network.test_model import make_card

SCENE = 'été, l\'île "n° 1" & 100 %'
"""A name that any shell, CSV, SQL or XML on the way would stumble over."""

ZONE_32, DEGREES = CRS.from_epsg(32632), CRS.from_epsg(4326)
HEIGHT, WIDTH, CHECKER_PX = 107, 150, 23
"""No size or checker is a multiple of a stride, a window or a block."""
SHIFT = 0.013
"""In checkers, so that no pixel's centre lies upon an edge."""

CLASSES = {"even": ["0"], "odd": ["1"]}


@dataclass(frozen=True)
class Place:
    """Where a scene lies, under which policy it is ingested, and how far off it may be, in pixels."""

    policy: str
    crs: CRS
    transform: Affine
    resolution_m: float = 10
    inner_px: float = 0.02
    edge_px: float = 0.75
    """at the edge of the data the warp has nothing to interpolate with"""

    @property
    def side_m(self):
        """Of a square of the checkerboard."""
        return CHECKER_PX * self.resolution_m


EXACT = {"inner_px": 1e-3, "edge_px": 1e-3}
HALF = Affine(30, 0, ORIGIN_X + 15, 0, -30, ORIGIN_Y + 15)
"""As Landsat's: the centre of a pixel, not its corner, is a multiple of 30 m."""

PLACES = {
    "error: aligned": Place("error", CRS_UTM33, Affine(10, 0, ORIGIN_X, 0, -10, ORIGIN_Y), **EXACT),
    "error: Landsat's lattice": Place("error", CRS_UTM33, HALF, 30, **EXACT),
    "reproject: aligned": Place("reproject", CRS_UTM33, Affine(10, 0, ORIGIN_X, 0, -10, ORIGIN_Y), **EXACT),
    "reproject: Landsat's lattice": Place("reproject", CRS_UTM33, HALF, 30),
    "reproject: another zone": Place("reproject", ZONE_32, Affine(10, 0, 811_000, 0, -10, 5_810_000)),
    "reproject: geographic": Place("reproject", DEGREES, Affine(1.4e-4, 0, 13.55, 0, -9e-5, 52.33)),
    "reproject: south-up": Place("reproject", CRS_UTM33, Affine(10, 0, ORIGIN_X, 0, 10, ORIGIN_Y)),
    "reproject: rotated": Place(
        "reproject", CRS_UTM33, Affine.translation(ORIGIN_X, ORIGIN_Y) @ Affine.rotation(30) @ Affine.scale(10, -10)
    ),
    "keep: another zone": Place("keep", ZONE_32, Affine(10, 0, 811_003, 0, -10, 5_810_007), **EXACT),
    "keep: pixels not quite square": Place("keep", ZONE_32, Affine(9.93, 0, 811_000, 0, -10.06, 5_810_000), **EXACT),
}


def positions(grid):
    """x and y in the project's CRS of every pixel's centre, (2, y, x), by the grid's transform and CRS."""
    columns, rows = np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5)
    x, y = grid.transform @ (columns, rows)
    if grid.crs != CRS_UTM33:
        x, y = (np.reshape(c, grid.shape) for c in transform_points(grid.crs, CRS_UTM33, x.ravel(), y.ravel()))
    return np.stack([x, y])


def encode(position):
    """Coordinates as reflectance, so that it stays between 0.1 and 1; `decode` goes back."""
    origin = np.array([ORIGIN_X - 5000, ORIGIN_Y - 10_000])[:, None, None]
    return 0.1 + (position - origin) / 20_000


def decode(value):
    origin = np.array([ORIGIN_X - 5000, ORIGIN_Y - 10_000])
    return (value - 0.1) * 20_000 + origin.reshape(2, *[1] * (value.ndim - 1))


@dataclass(frozen=True)
class Run:
    """A project whose only scene went through ingest, indices, normalize and patches."""

    place: Place
    folder: object

    @cached_property
    def grid(self):
        with Raster.open(self.folder / f"data/scenes/{SCENE}.tif") as source:
            return source.grid

    @cached_property
    def valid(self):
        with Raster.open(self.folder / f"data/scenes/{SCENE}.tif") as source:
            return source.read_mask(source.grid.whole)

    @cached_property
    def tolerance_m(self):
        """How far off a pixel may be, (y, x) in metres; infinite where there is no data."""
        inner = sliding_window_view(np.pad(self.valid, 2), (5, 5)).all(axis=(2, 3))
        allowed = np.where(inner, self.place.inner_px, self.place.edge_px) * self.place.resolution_m
        return np.where(self.valid, allowed, np.inf)

    def odd(self, position):
        """The truth at coordinates (2, ...): whether they lie in an odd square of the checkerboard."""
        square = np.floor(position / self.place.side_m - SHIFT)
        return (square[0] + square[1]).astype(int) % 2

    def from_edge(self, position):
        """Metres from the nearest edge of the checkerboard."""
        off = position / self.place.side_m - SHIFT
        return np.abs(off - np.round(off)).min(axis=0) * self.place.side_m


def deliver(folder, place):
    grid = Grid(place.crs, place.transform, HEIGHT, WIDTH)
    bands = encode(positions(grid)).astype(np.float32)
    bands[:, :9, :14] = np.nan
    path = folder / f"data/raw/scenes/{SCENE}.tif"
    path.parent.mkdir(parents=True)
    where = {"crs": grid.crs, "transform": grid.transform, "height": HEIGHT, "width": WIDTH}
    with rasterio.open(path, "w", driver="GTiff", dtype="float32", count=2, **where) as file:
        file.descriptions = ("G", "N")
        file.write(bands)


def label(folder, place):
    """A checkerboard of the project's CRS, digitized in degrees."""
    side = place.side_m
    x, y = positions(Grid(place.crs, place.transform, HEIGHT, WIDTH)).reshape(2, -1)
    squares = []
    for column in range(int(x.min() // side) - 1, int(x.max() // side) + 2):
        for row in range(int(y.min() // side) - 1, int(y.max() // side) + 2):
            square = shapely.box(*(side * (at + SHIFT) for at in (column, row, column + 1, row + 1)))
            squares.append((str((column + row) % 2), shapely.segmentize(square, side / 20)))
    write_labels(folder / "data/raw/labels/checkers.gpkg", squares, to="EPSG:4326")


@pytest.fixture(scope="module", params=PLACES)
def run(request, tmp_path_factory):
    place, folder = PLACES[request.param], tmp_path_factory.mktemp("run")
    write_params(
        folder,
        ingest__bands=["N", "G"],
        ingest__crs_policy=place.policy,
        ingest__resolution_m=place.resolution_m,
        indices__names=["NDWI"],
        normalize__low_percentile=0,
        normalize__high_percentile=100,
        labels__classes=CLASSES,
        labels__exclude=[],
        patches__size_px=12,
        patches__core_px=6,
        patches__stride_px=5,
    )
    deliver(folder, place)
    label(folder, place)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for stage in (stages.ingest, stages.indices, stages.normalize, stages.patches):
            stage.main(read_params())
    return Run(place, folder)


def test_ingest_leaves_every_pixel_where_it_was(run):
    with Raster.open(run.folder / f"data/scenes/{SCENE}.tif") as source:
        found = decode(source.read_reflectance(source.grid.whole, ["G", "N"]).astype(float))
    distance = np.abs(found - positions(run.grid)).max(axis=0)
    assert (distance[run.valid] <= run.tolerance_m[run.valid]).all()
    delivered = Grid(run.place.crs, run.place.transform, HEIGHT, WIDTH)
    if run.place.policy != "reproject":
        assert run.grid == delivered
    area_px = abs(delivered.transform.determinant) if delivered.crs != DEGREES else None
    if area_px:
        ground = run.valid.sum() * abs(run.grid.transform.determinant)
        assert ground == pytest.approx((HEIGHT * WIDTH - 9 * 14) * area_px, rel=0.01)
    assert run.valid.any(axis=0).sum() >= 0.95 * run.grid.width
    assert run.valid.any(axis=1).sum() >= 0.95 * run.grid.height


def test_indices_and_normalized_channels_lie_on_the_scene(run):
    with Raster.open(run.folder / f"data/scenes/{SCENE}.tif") as source:
        north, green = source.read_reflectance(run.grid.whole)
    with Raster.open(run.folder / f"data/indices/{SCENE}.tif") as source:
        assert source.grid == run.grid
        np.testing.assert_allclose(
            source.read_reflectance(run.grid.whole)[0], (green - north) / (green + north), atol=1e-6
        )
    statistics = SceneStatistics.load(run.folder / f"data/statistics/{SCENE}.json")
    with Raster.open(run.folder / f"data/normalized/{SCENE}.tif") as source:
        assert source.grid == run.grid
        assert source.names == ("N", "G", "NDWI")
        np.testing.assert_array_equal(source.read_mask(run.grid.whole), run.valid)
        found = source.read_reflectance(run.grid.whole, ["N", "G"])
    for values, reflectance, channel in zip(found, (north, green), ("N", "G"), strict=True):
        scaling = statistics.channels[channel]
        np.testing.assert_allclose(values * (scaling.high - scaling.low) + scaling.low, reflectance, atol=1e-6)


def test_the_footprint_of_a_patch_lies_where_its_pixels_are(run):
    table = geopandas.read_parquet(run.folder / "data/patches.parquet")
    assert table.crs == CRS_UTM33
    assert set(table["scene"]) == {SCENE}
    assert len(table) > 200
    with Raster.open(run.folder / f"data/scenes/{SCENE}.tif") as source:
        where = decode(source.read_reflectance(run.grid.whole, ["G", "N"]).astype(float))
    across = (np.arange(12) + 0.5) / 12
    right, down = np.meshgrid(across, across)
    for patch in table.itertuples():
        assert patch.patch == f"{SCENE}/{patch.row}/{patch.column}"
        corners = shapely.get_coordinates(patch.geometry)[:4]  # of the first pixel, then clockwise in the image
        weights = np.stack([(1 - right) * (1 - down), right * (1 - down), right * down, (1 - right) * down])
        truth = np.tensordot(corners.T, weights, axes=1)
        place = slice(patch.row, patch.row + 12), slice(patch.column, patch.column + 12)
        valid = run.valid[place]
        distance = np.abs(where[(slice(None), *place)] - truth).max(axis=0)
        assert (distance[valid] <= run.tolerance_m[place][valid] + 1e-3).all()
        assert patch.valid == valid.mean()
        assert np.abs(truth.mean(axis=(1, 2)) - [patch.x, patch.y]).max() < 1e-3 * run.place.resolution_m


def test_labels_of_another_crs_land_on_the_right_pixels(run):
    table = geopandas.read_parquet(run.folder / "data/patches.parquet")
    odd = run.odd(positions(run.grid))
    clear = 0
    for patch in table.itertuples():
        share = odd[patch.row + 3 : patch.row + 9, patch.column + 3 : patch.column + 9].mean()
        assert patch.purity == pytest.approx(max(share, 1 - share), abs=1.01 / 36)  # a centre upon an edge
        if abs(share - 0.5) > 0.03:
            assert patch.label == ("odd" if share > 0.5 else "even")
            clear += share in (0, 1)
    assert clear > 0.3 * len(table)


class Compass:
    """A classifier that reads where the centre of its window is and tells the colour of the checkerboard there."""

    device = "cpu"

    def __init__(self, run, size_px):
        self.card = make_card(channels=["N", "G", "NDWI"], classes=list(CLASSES), size_px=size_px, core_px=size_px)
        self.run = run
        statistics = SceneStatistics.load(run.folder / f"data/statistics/{SCENE}.json").channels
        self.low = np.array([[statistics[name].low] for name in ("G", "N")])
        self.high = np.array([[statistics[name].high] for name in ("G", "N")])

    def probabilities(self, windows):
        size = self.card.size_px
        middle = slice((size - 1) // 2, size // 2 + 1)
        north, green = windows[:, :2, middle, middle].astype(float).mean(axis=(2, 3)).T
        odd = self.run.odd(decode(np.stack([green, north]) * (self.high - self.low) + self.low))
        return np.stack([0.9 - 0.8 * odd, 0.1 + 0.8 * odd], axis=1).astype(np.float32)


@pytest.mark.parametrize(
    ("size", "stride", "offsets"),
    [(16, 8, 1), (12, 12, 1), (15, 5, 1), (9, 1, 1), (4, 2, 1), (16, 8, 2), (15, 5, 3)],
)
def test_the_map_shows_every_place_where_it_is(run, tmp_path, size, stride, offsets):
    content = params(export__stride_px=stride, export__offsets=offsets)["export"]
    if stride > 8:
        content["polygons"]["formats"] = []
    with Raster.open(run.folder / f"data/normalized/{SCENE}.tif") as source:
        cells = -(-run.grid.height // stride), -(-run.grid.width // stride)
        settings, colours = ExportSettings.model_validate(content), [(255, 255, 255), (9, 9, 9)]
        scene = NormalizedScene(SCENE, source, "", "2020-01-01")
        write_scene_map(tmp_path, scene, MapModels([Compass(run, size)], colours, ""), settings)
    with rasterio.open(tmp_path / f"{SCENE}_class.tif") as file:
        found, grid = file.read(1), Grid.of(file)
    assert grid.crs == run.grid.crs
    assert grid.shape == cells
    assert grid.transform == run.grid.transform @ Affine.scale(stride)
    where = positions(grid)
    near = np.pad(run.tolerance_m, ((0, stride * cells[0] - run.grid.height), (0, stride * cells[1] - run.grid.width)))
    near = np.where(near == 0, np.inf, near)
    blocks = near.reshape(cells[0], stride, cells[1], stride).swapaxes(1, 2)
    shift = max(shifts_px(stride, offsets))
    middle = slice((stride - 1) // 2 - shift, stride // 2 + 1 + shift)
    allowed = blocks[:, :, middle, middle].max(axis=(2, 3))  # infinite where the centre is not all data
    allowed += shift * run.place.resolution_m
    sure = (found > 0) & (run.from_edge(where) > allowed + 1e-3)
    assert (
        sure.sum()
        > (0.85 - 0.15 * shift) * (found > 0).sum()
        > 0.5 * (0.5 if run.place.inner_px > 0.01 else 0.9) * found.size
    )
    np.testing.assert_array_equal(found[sure], run.odd(where)[sure] + 1)
    if stride < 9:
        check_polygons(tmp_path / f"{SCENE}.gpkg", grid, found)


def check_polygons(path, grid, found):
    """The polygons cover the cells of their class and no others."""
    table = geopandas.read_file(path)
    assert table.crs == grid.crs
    columns, rows = np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5)
    x, y = grid.transform @ (columns, rows)
    painted = np.zeros(found.shape, dtype=int)
    for number, name in enumerate(CLASSES, 1):
        ground = shapely.union_all(table.loc[table["class"] == name, "geometry"].to_numpy())
        shapely.prepare(ground)
        painted[shapely.contains_xy(ground, x, y)] += number
    np.testing.assert_array_equal(painted, found)
    cell = abs(grid.transform.determinant)
    assert table["area_m2"].sum() == pytest.approx((found > 0).sum() * cell)
