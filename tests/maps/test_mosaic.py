import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.warp import transform
from rio_cogeo.cogeo import cog_validate

from landfold.geo.grid import Grid
from landfold.maps import mosaic
from landfold.maps.mosaic import MosaicError, write_mosaic
from tests import factories
from tests.maps.test_export import CLASSES, COLOURS, export_settings, random_tables, write_known_map

NAMED = dict(zip(CLASSES, COLOURS, strict=True))
NONE = export_settings(stride_px=1, polygons={"formats": [], "min_area_m2": 0, "simplify_m": 0})
FAR = CRS.from_epsg(32632)


def two(folder, *, at=((3, 5), (13, 9)), crs=(factories.CRS_UTM33, factories.CRS_UTM33), cell_m=80.0):
    """Maps of two scenes, a and b, 14 x 23 cells each, a corner of each without data: (class, confidence, grid)."""
    valid = np.ones((14, 23), bool)
    valid[:3, -6:] = False
    for number, name in enumerate("ab"):
        write_known_map(
            folder, random_tables(number, models=1), valid=valid, scene=name, at=at[number], crs=crs[number],
            colours=COLOURS, settings=NONE, resolution_m=cell_m,
        )  # fmt: skip
    return [read(folder, name) for name in "ab"]


def read(folder, name):
    with (
        rasterio.open(folder / f"{name}_class.tif") as first,
        rasterio.open(folder / f"{name}_confidence.tif") as second,
    ):
        return first.read(1), second.read(1), Grid.of(first)


def write(folder, rule="confidence", *, crs=factories.CRS_UTM33, cell_m=80.0, scenes=("a", "b"), acquired=()):
    tags = {"MODEL_SHA256": "a" * 64}
    dated = dict(zip(scenes, acquired or [None] * len(scenes), strict=True))
    return write_mosaic(folder, dated, rule, NAMED, crs=crs, cell_m=cell_m, tags=tags)


def expected(maps, grid, rule):
    """By hand, cell by cell."""
    classes, confidence = np.zeros(grid.shape, dtype=int), np.full(grid.shape, np.nan, dtype=np.float32)
    for row in range(grid.height):
        for column in range(grid.width):
            x, y = grid.transform @ (column + 0.5, row + 0.5)
            for values, sure, own in maps:
                (there_x,), (there_y,) = transform(grid.crs, own.crs, [x], [y])
                c, r = (int(np.floor(edge)) for edge in ~own.transform @ (there_x, there_y))
                if not (0 <= r < own.height and 0 <= c < own.width and values[r, c]):
                    continue
                if classes[row, column] == 0 or (rule == "confidence" and sure[r, c] > confidence[row, column]):
                    classes[row, column], confidence[row, column] = values[r, c], sure[r, c]
    return classes, confidence


def test_of_equally_confident_scenes_the_first_is_taken(tmp_path):
    maps = two(tmp_path)
    for name, (classes, _, _) in zip("ab", maps, strict=True):
        with rasterio.open(tmp_path / f"{name}_confidence.tif", "r+", IGNORE_COG_LAYOUT_BREAK="YES") as dataset:
            dataset.write(np.where(classes > 0, 0.5, np.nan).astype(np.float32), 1)
    write(tmp_path, "confidence")
    by_confidence = read(tmp_path, "mosaic")[0]
    write(tmp_path, "first")
    np.testing.assert_array_equal(by_confidence, read(tmp_path, "mosaic")[0])
    write(tmp_path, "first", scenes=("b", "a"))
    assert (by_confidence != read(tmp_path, "mosaic")[0]).any(), "the order must matter for this to tell anything"


@pytest.mark.parametrize("rule", ["first", "confidence"])
def test_scenes_on_one_lattice_are_put_together_cell_for_cell(tmp_path, rule):
    maps = two(tmp_path)
    files = write(tmp_path, rule, crs=FAR, cell_m=55, acquired=["2020-01-02", "2019-01-02"])  # no such CRS is needed
    assert [path.name for path in files] == [
        "mosaic_class.qml", "mosaic_class.sld", "mosaic_class.tif", "mosaic_class.tif.aux.xml",
        "mosaic_confidence.qml", "mosaic_confidence.tif", "mosaic_stac.json",
    ]  # fmt: skip
    assert factories.read_json(files[-1])["properties"]["end_datetime"] == "2020-01-02T23:59:59Z"
    classes, confidence, grid = read(tmp_path, "mosaic")
    assert grid == factories.make_grid(18, 33, 80.0, x_px=3, y_px=5)
    known = expected(maps, grid, rule)
    np.testing.assert_array_equal(classes, known[0])
    np.testing.assert_array_equal(confidence, known[1])
    assert (classes == 0).any()
    for path in files:
        if path.suffix == ".tif":
            assert cog_validate(path, strict=True, quiet=True) == (True, [], [])
    with rasterio.open(tmp_path / "mosaic_class.tif") as dataset:
        tags = dataset.tags()
        assert (tags["MOSAIC_RULE"], tags["SCENES"], tags["MODEL_SHA256"]) == (rule, "a, b", "a" * 64)
        assert dataset.tags(1)["CLASS_2"] == CLASSES[1]
        assert dataset.colormap(1)[3][:3] == COLOURS[2]


def test_the_rules_differ_and_the_first_is_first(tmp_path):
    maps = two(tmp_path)
    write(tmp_path, "first")
    first = read(tmp_path, "mosaic")[0]
    inside = maps[0][0] > 0
    np.testing.assert_array_equal(first[:14, :23][inside], maps[0][0][inside])
    write(tmp_path, "first", scenes=("b", "a"))
    assert (read(tmp_path, "mosaic")[0] != first).any()
    write(tmp_path, "confidence", scenes=("b", "a"))
    surest = read(tmp_path, "mosaic")
    write(tmp_path, "confidence")
    np.testing.assert_array_equal(read(tmp_path, "mosaic")[1], surest[1])
    assert (read(tmp_path, "mosaic")[0] != surest[0]).sum() <= 1, "equals alone, which there are few of"


@pytest.mark.parametrize(
    ("change", "size"),
    [
        ({"crs": (factories.CRS_UTM33, FAR)}, None),
        ({"at": ((3, 5), (13.4, 9.2))}, None),
        ({"crs": (factories.CRS_UTM33, FAR)}, 7),
    ],
    ids=["two zones", "off the lattice", "two zones in blocks"],
)
def test_other_scenes_are_put_on_the_projects_lattice(tmp_path, monkeypatch, change, size):
    if "crs" in change:  # the same ground, told in the neighbouring zone
        (x,), (y,) = transform(factories.CRS_UTM33, FAR, [399_960 + 900], [5_800_020 - 700])
        change = change | {"at": ((3, 5), ((x - 399_960) / 80, (5_800_020 - y) / 80))}
    if size:
        monkeypatch.setattr(Grid, "blocks", lambda self, original=Grid.blocks: original(self, size))
    maps = two(tmp_path, **change)
    write(tmp_path)
    classes, confidence, grid = read(tmp_path, "mosaic")
    assert grid.crs == factories.CRS_UTM33
    assert grid.resolution == (80, 80)
    assert grid.transform.c % 80 == grid.transform.f % 80 == 0
    known = expected(maps, grid, "confidence")
    np.testing.assert_array_equal(classes, known[0])
    np.testing.assert_array_equal(confidence, known[1])
    assert (classes > 0).sum() > 0.8 * 14 * 23
    for _, _, own in maps:
        for edge in own.footprint(own.whole).exterior.coords:
            (x,), (y,) = transform(own.crs, grid.crs, *([part] for part in edge))
            assert grid.bounds[0] <= x <= grid.bounds[2]
            assert grid.bounds[1] <= y <= grid.bounds[3]


def test_twice_gives_the_same_bytes(tmp_path):
    trees = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        two(tmp_path / name)
        write(tmp_path / name)
        trees.append(factories.tree(tmp_path / name))
    assert trees[0] == trees[1]


def test_refuses_scenes_too_far_apart_and_a_scene_of_its_name(tmp_path, monkeypatch):
    two(tmp_path)
    with pytest.raises(MosaicError, match="a scene is named mosaic"):
        write(tmp_path, scenes=("a", "mosaic"))
    monkeypatch.setattr(mosaic, "MOST_CELLS", 33 * 18 - 1)
    with pytest.raises(MosaicError, match=r"33 x 18 cells, most of them empty; set export.mosaic to none"):
        write(tmp_path)
