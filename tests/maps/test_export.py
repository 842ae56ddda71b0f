import tracemalloc

import geopandas
import numpy as np
import pandas
import pytest
import rasterio
from rio_cogeo.cogeo import cog_validate

from landfold import __version__
from landfold.core.settings import SettingsError, validate
from landfold.geo.grid import Grid
from landfold.geo.raster import Raster
from landfold.maps.applicability import METHOD, Applicability
from landfold.maps.export import ExportError, MapModels, NormalizedScene, write_scene_map
from landfold.maps.files import STEPS
from landfold.maps.inference import InferenceError
from landfold.maps.settings import ExportSettings
from landfold.network.model import REPRODUCIBLE
from landfold.patches.features import cell_features, feature_names
from landfold.pixels.calibration import Calibrations
from tests import factories
from tests.network.test_model import make_card
from tests.network.tiny import pixel_classifier

CLASSES = ["water", 'corn "&" <rye>', "Grünland, naß"]
COLOURS = [(47, 127, 209), (242, 209, 107), (31, 111, 58)]
RASTERS = ["s_class.tif", "s_confidence.tif", "s_ensemble_class.tif", "s_ensemble_confidence.tif"]
STYLES = ["class.qml", "class.sld", "class.tif.aux.xml", "confidence.qml"]
FILES = sorted(
    ["s.gpkg", "s.qml", *RASTERS, *(f"s_{name}" for name in STYLES), *(f"s_ensemble_{name}" for name in STYLES)]
)
LINEAGE = {"MODEL_SHA256": "a" * 64, "STATISTICS_SHA256": "b" * 64}


def export_settings(**changes) -> ExportSettings:
    content = factories.params(**{f"export__{name}": value for name, value in changes.items()})["export"]
    return validate(content, ExportSettings, where="export")


class Known:
    """A classifier of a fold that tells the probabilities of a table, (row, column, class), of the cell it is shown.

    Scenes of `coded` hold the number of their cell in both channels.
    """

    def __init__(self, table: np.ndarray, names: list[str], fold: int = 0, k: int = 2) -> None:
        self.card = make_card(
            channels=["row", "column"], bands=["row", "column"], classes=names, size_px=1, core_px=1, fold=fold, k=k
        )
        self.device = "cpu"
        self.table = table.astype(np.float32)

    def probabilities(self, windows: np.ndarray) -> np.ndarray:
        row, column = windows[:, :, 0, 0].astype(int).T
        return self.table[row, column]


def coded(path, height, width, *, valid=None, resolution_m=80.0, crs=factories.CRS_UTM33, at=(3, 5)):
    """A scene whose pixels hold their row and column, ``at`` so many pixels east and south of the common origin."""
    values = dict(zip(("row", "column"), np.mgrid[:height, :width].astype(np.float32), strict=True))
    grid = factories.make_grid(height, width, resolution_m, crs=crs, x_px=at[0], y_px=at[1])
    valid = np.ones((height, width), bool) if valid is None else valid
    return factories.write_raster(path, values, grid=grid, valid=valid)


def write_known_map(
    folder, tables, names=CLASSES, *, valid=None, resolution_m=80.0, crs=factories.CRS_UTM33, scene="s", at=(3, 5),
    folds=None, k=None, colours=None, settings=None, area=None, acquired=None, calibrations=None, **options,
):  # fmt: skip
    """Write a map of cells of one pixel with these probabilities, one table (row, column, class) for each model."""
    path = coded(folder / "scene.tif", *tables[0].shape[:2], valid=valid, resolution_m=resolution_m, crs=crs, at=at)
    models = [Known(table, names, fold, k or len(tables)) for fold, table in enumerate(tables)]
    colours = colours or [(50 + i % 200, i // 200, 9) for i in range(len(names))]
    settings = settings or export_settings(stride_px=1)
    with Raster.open(path) as raster:
        held_out = None if folds is None else lambda part: folds[place(raster.grid, part)]
        used = MapModels(models, colours, LINEAGE["MODEL_SHA256"], held_out, area, calibrations)
        mapped = NormalizedScene(scene, raster, LINEAGE["STATISTICS_SHA256"], acquired)
        written = write_scene_map(folder, mapped, used, settings, **options)
    path.unlink()
    return written


def place(whole, part):
    """Where a part lies on a grid of the same cells."""
    column, row = (round(edge) for edge in ~whole.transform @ part.transform @ (0, 0))
    return slice(row, row + part.height), slice(column, column + part.width)


def random_tables(seed=0, models=3, shape=(14, 23), classes=3):
    random = np.random.default_rng(seed)
    return random.dirichlet(np.ones(classes), size=(models, *shape)).astype(np.float32)


FOLDS = np.arange(14 * 23).reshape(14, 23) % 4 - 1
VALID = ~((np.mgrid[:14, :23][0] < 3) & (np.mgrid[:14, :23][1] < 5))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("map")
    settings = export_settings(stride_px=1, layers=["entropy", "probabilities", "margin"])
    told = []
    result = write_known_map(
        folder, random_tables(), valid=VALID, folds=FOLDS, colours=COLOURS, settings=settings,
        acquired="2017-02-16", progress=told.append,
    )  # fmt: skip
    assert told[-1] == 1
    assert told == sorted(told)
    return result, folder


def read(path):
    with rasterio.open(path) as dataset:
        return dataset.read(), dataset.descriptions


def test_writes_what_it_says_and_nothing_else(written):
    result, folder = written
    more = ["s_stac.json", "s_probabilities.tif", "s_ensemble_probabilities.tif"]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*FILES, *more])
    assert result.files == sorted(folder.iterdir())
    assert (result.cells, result.outside, result.ensemble_outside) == (VALID.sum(), None, None)


def test_every_raster_is_a_valid_cog_on_the_maps_grid_with_its_lineage(written):
    _, folder = written
    found = sorted(folder.glob("*.tif"))
    assert len(found) == 6
    for path in found:
        assert cog_validate(path, strict=True, quiet=True) == (True, [], [])
        with rasterio.open(path) as dataset:
            assert Grid.of(dataset) == factories.make_grid(14, 23, 80.0, x_px=3, y_px=5)
            tags = dataset.tags()
        assert LINEAGE.items() <= tags.items()
        assert tags["CLOUD_FRACTION"] == "unknown"
        assert (tags["LANDFOLD_VERSION"], len(tags["CODE_SHA256"]), len(tags["PARAMS_SHA256"])) == (__version__, 64, 64)
        assert tags["ARITHMETIC"] == REPRODUCIBLE, "of every x86-64 with AVX2, whatever else it has"


def test_every_number_is_that_of_the_probabilities(written):
    _, folder = written
    tables = random_tables()
    mean = tables.mean(axis=0)
    own = np.where(FOLDS[..., None] < 0, mean, np.take_along_axis(tables, np.maximum(FOLDS, 0)[None, ..., None], 0)[0])
    votes = (tables.argmax(3) != mean.argmax(2)).mean(0)
    extra = {"": ("padded", 1.0 - VALID), "ensemble_": ("disagreement", votes)}
    for kind, p in {"": own, "ensemble_": mean}.items():
        (classes,), described = read(folder / f"s_{kind}class.tif")
        assert (classes.dtype, described) == (np.uint8, ("class",))
        assert np.array_equal(classes, np.where(VALID, p.argmax(2) + 1, 0))
        bands, described = read(folder / f"s_{kind}confidence.tif")
        assert described == ("confidence", extra[kind][0], "margin", "entropy")
        first, second = np.sort(p, axis=2)[..., :-3:-1].transpose(2, 0, 1)
        known = np.stack([first, extra[kind][1], first - second, -(p * np.log(p)).sum(2) / np.log(3)])
        assert bands.dtype == np.float32
        assert np.array_equal(bands * 4096, np.rint(bands * 4096), equal_nan=True)
        assert np.allclose(bands, np.where(VALID, known, np.nan), rtol=0, atol=0.5001 / 4096, equal_nan=True)
        percent, described = read(folder / f"s_{kind}probabilities.tif")
        assert (percent.dtype, described) == (np.uint8, tuple(CLASSES))
        assert np.abs(percent[:, VALID] - 100 * p[VALID].T).max() <= 0.5001
        assert (percent[:, ~VALID] == 255).all()
        with Raster.open(folder / f"s_{kind}probabilities.tif") as raster:
            assert {(r.scale, r.offset) for r in raster.radiometry} == {(0.01, 0)}
            assert raster.dataset.nodata == 255


def test_a_zone_in_no_fold_of_the_first_repeat_is_mapped_by_the_models_of_that_repeat(tmp_path):
    tables = random_tables(models=4)
    write_known_map(tmp_path, tables, folds=np.full(VALID.shape, -1), k=2)
    (classes,), _ = read(tmp_path / "s_class.tif")
    (ensemble,), _ = read(tmp_path / "s_ensemble_class.tif")
    assert np.array_equal(classes, tables[:2].mean(axis=0).argmax(axis=2) + 1)
    assert np.array_equal(ensemble, tables.mean(axis=0).argmax(axis=2) + 1)
    assert not np.array_equal(classes, ensemble)


def test_without_held_out_the_mean_has_the_plain_names(written, tmp_path):
    _, folder = written
    result = write_known_map(tmp_path, random_tables(), valid=VALID)
    plain = [name for name in FILES if "ensemble" not in name]
    assert [path.name for path in result.files] == plain
    assert read(tmp_path / "s_class.tif")[0].tolist() == read(folder / "s_ensemble_class.tif")[0].tolist()
    bands, described = read(tmp_path / "s_confidence.tif")
    assert described == ("confidence", "padded", "disagreement")
    ensemble = read(folder / "s_ensemble_confidence.tif")[0]
    assert np.array_equal(bands[[0, 2]], ensemble[:2], equal_nan=True)


SPOTTED = np.where(np.mgrid[:14, :23][1] < 11, 1, 2)
SPOTTED[4, 3] = SPOTTED[5:7, 20] = SPOTTED[10:12, 5:7] = SPOTTED[0, 7:10] = 3
SPOTTED[11:, 20:], SPOTTED[12, 21], SPOTTED[10, 22], SPOTTED[8, 10] = 0, 1, 1, 2
"""Two halves; in class 3 spots of 1, 2, 4 and 3 cells; cells of 1 amid no data and beside it; a longer edge of 2."""

SIEVED = np.where(np.mgrid[:14, :23][1] < 11, 1, 2)
SIEVED[10:12, 5:7], SIEVED[11:, 20:], SIEVED[12, 21], SIEVED[8, 10] = 3, 0, 1, 2


def test_the_sieve_changes_the_classes_alone(tmp_path):
    tables = [np.eye(3)[SPOTTED - 1] * p + (1 - p) / 3 for p in (0.7, 0.8)]
    options = {"valid": SPOTTED > 0, "folds": np.zeros((14, 23), dtype=int), "colours": COLOURS}
    for least in (0, 4):
        (tmp_path / str(least)).mkdir()
        settings = export_settings(stride_px=1, layers=["margin", "probabilities"], sieve_px=least)
        write_known_map(tmp_path / str(least), tables, settings=settings, **options)
    for kind in ("", "ensemble_"):
        path = tmp_path / f"4/s_{kind}class.tif"
        assert cog_validate(path, strict=True, quiet=True) == (True, [], [])
        with rasterio.open(path) as sieved, rasterio.open(tmp_path / f"0/s_{kind}class.tif") as plain:
            assert np.array_equal(plain.read(1), SPOTTED)
            assert np.array_equal(sieved.read(1), SIEVED)
            assert (plain.tags()["SIEVE_PX"], sieved.tags()["SIEVE_PX"]) == ("0", "4")
            assert plain.tags()["PARAMS_SHA256"] != sieved.tags()["PARAMS_SHA256"]
            assert (sieved.colormap(1), sieved.tags(1)) == (plain.colormap(1), plain.tags(1))
        for part in ("confidence", "probabilities"):
            found, expected = (read(tmp_path / f"{least}/s_{kind}{part}.tif")[0] for least in (4, 0))
            assert np.array_equal(found, expected, equal_nan=part == "confidence")
            with rasterio.open(tmp_path / f"4/s_{kind}{part}.tif") as dataset:
                assert "SIEVE_PX" not in dataset.tags()
    table = geopandas.read_file(tmp_path / "4/s.gpkg", layer="classes")
    assert sorted(table["cells"]) == sorted([4, 1, (SIEVED == 1).sum() - 1, (SIEVED == 2).sum()])


def test_the_sieve_reads_more_than_255_classes(tmp_path):
    values = np.repeat(np.arange(300), 2)[None].repeat(2, axis=0)
    values[0, 7] = 299
    names = [f"class {i}" for i in range(300)]
    write_known_map(tmp_path, [np.eye(300)[values]], names, settings=export_settings(stride_px=1, sieve_px=3))
    values[0, 7] = 4  # of whose cells there are four, of 3 three
    assert np.array_equal(read(tmp_path / "s_class.tif")[0][0], values + 1)


@pytest.mark.parametrize(("count", "dtype"), [(254, "uint8"), (255, "uint16"), (300, "uint16")])
def test_many_classes(tmp_path, count, dtype):
    table = np.eye(count, dtype=np.float32)[np.arange(count).reshape(1, -1)]
    names = [f"class {i}" for i in range(count)]
    write_known_map(tmp_path, [table], names)
    path = tmp_path / "s_class.tif"
    assert cog_validate(path, strict=True, quiet=True) == (True, [], [])
    with rasterio.open(path) as dataset:
        assert (dataset.dtypes[0], dataset.nodata) == (dtype, 0)
        assert dataset.read(1).tolist() == [list(range(1, count + 1))]
        assert dataset.tags(1)[f"CLASS_{count}"] == names[-1]
        if dtype == "uint8":
            assert dataset.colormap(1)[count][:3] == (50 + 253 % 200, 1, 9)
    assert len(geopandas.read_file(tmp_path / "s.gpkg", layer="classes")) == count


def test_colours_and_names_are_in_the_class_raster(written):
    _, folder = written
    for kind in ("", "ensemble_"):
        with rasterio.open(folder / f"s_{kind}class.tif") as dataset:
            colours, tags = dataset.colormap(1), dataset.tags(1)
            assert dataset.colorinterp[0] == rasterio.enums.ColorInterp.palette
        assert [colours[i][:3] for i in (1, 2, 3)] == COLOURS
        assert [tags[f"CLASS_{i}"] for i in (1, 2, 3)] == CLASSES


def test_large_maps_have_overviews(tmp_path):
    rows, columns = np.mgrid[:530, :600]
    classes = (columns // 64 + rows // 64) % 3
    valid = ~((rows < 40) & (columns < 64))
    settings = export_settings(
        stride_px=1, layers=["probabilities"], polygons={"formats": [], "min_area_m2": 0, "simplify_m": 0}
    )
    write_known_map(tmp_path, [np.eye(3)[classes]], valid=valid, settings=settings)
    for part in ("class", "confidence", "probabilities"):
        path = tmp_path / f"s_{part}.tif"
        assert cog_validate(path, strict=True, quiet=True) == (True, [], [])
        with rasterio.open(path) as dataset:
            assert dataset.overviews(1)[0] == 2
    with rasterio.open(tmp_path / "s_class.tif") as dataset:
        assert np.array_equal(dataset.read(1), np.where(valid, classes + 1, 0))
        assert np.array_equal(dataset.read(1, out_shape=(265, 300)), np.where(valid, classes + 1, 0)[::2, ::2])


def test_a_second_write_gives_the_same_bytes_and_only_what_bears_on_numbers_changes_rasters(tmp_path):
    trees = []
    changes = [{}, {}, {"mosaic": "none", "applicability": True}, {"min_valid": 0.6}]
    for number, change in enumerate(changes):
        folder = tmp_path / f"anywhere {number}"
        folder.mkdir()
        settings = export_settings(stride_px=1, **change)
        write_known_map(folder, random_tables(), valid=VALID, folds=FOLDS, settings=settings, acquired="2020-01-01")
        trees.append(factories.tree(folder))
    assert trees[0] == trees[1] == trees[2]
    assert {name for name in trees[0] if trees[0][name] != trees[3][name]} == {*RASTERS, "s_stac.json"}


def test_a_scene_without_a_date_has_no_stac_item(tmp_path):
    result = write_known_map(tmp_path, random_tables())
    assert not [path for path in result.files if path.suffix == ".json"]


def test_a_map_without_data_is_written_empty(tmp_path):
    result = write_known_map(tmp_path, random_tables(), valid=np.zeros((14, 23), bool))
    assert result.cells == 0
    assert (read(tmp_path / "s_class.tif")[0] == 0).all()
    assert np.isnan(read(tmp_path / "s_confidence.tif")[0]).all()
    assert len(geopandas.read_file(tmp_path / "s.gpkg", layer="classes")) == 0


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (3, 50), (50, 3)])
@pytest.mark.parametrize(("stride", "offsets"), [(16, 1), (8, 3), (2, 1)])
def test_scenes_smaller_than_a_window(tmp_path, shape, stride, offsets):
    model = Fixed(0, [[0.7, 0.2, 0.1], [0.6, 0.3, 0.1]])
    with Raster.open(write_scene(tmp_path / "scene.tif", height=shape[0], width=shape[1], corner=0)) as raster:
        settings = export_settings(stride_px=stride, offsets=offsets, min_valid=0)
        write_scene_map(tmp_path, NormalizedScene("s", raster, ""), MapModels([model], COLOURS, ""), settings)
    (classes,), _ = read(tmp_path / "s_class.tif")
    assert classes.shape == tuple(-(-side // stride) for side in shape)
    assert (classes == 1).all()
    padded = read(tmp_path / "s_confidence.tif")[0][1]
    assert (padded > 0).all()
    assert (padded < 1).all()


def test_memory_does_not_grow_with_the_scene(tmp_path):
    settings = export_settings(stride_px=4, layers=["margin", "entropy", "probabilities"])
    settings = settings.model_copy(update={"polygons": settings.polygons.model_copy(update={"formats": []})})
    peaks = []
    for height in (300, 300, 1800):  # the first run fills what is kept for good
        with Raster.open(write_scene(tmp_path / "scene.tif", height=height, width=92)) as raster:
            tracemalloc.start()
            constant = lambda part: np.zeros(part.shape, dtype=int)  # noqa: E731
            used = MapModels(models(), COLOURS, "", constant)
            write_scene_map(tmp_path, NormalizedScene("s", raster, ""), used, settings)
            peaks.append(tracemalloc.get_traced_memory()[1] / 2**20)
            tracemalloc.stop()
    assert peaks[2] - peaks[1] < 0.2  # the map of the larger scene alone has 1.5 MB of floats


def write_scene(path, *, height=70, width=92, names=("R", "G", "B"), corner=1):
    rows, columns = np.mgrid[:height, :width]
    values = [rows / height, columns / width, (rows + columns) / (height + width)]
    channels = {name: part.astype(np.float32) for name, part in zip(names, values, strict=False)}
    return factories.write_raster(path, channels, valid=~((rows < 16 * corner) & (columns < 24 * corner)))


class Fixed:
    """A classifier of a fold whose probabilities follow the column in the centre of the window."""

    device = "cpu"

    def __init__(self, fold: int, table: list[list[float]]) -> None:
        self.card = make_card(channels=["R", "G", "B"], classes=CLASSES, size_px=16, fold=fold)
        self.table = np.array(table, dtype=np.float32)

    def probabilities(self, windows: np.ndarray) -> np.ndarray:
        column = windows[:, 1, 7:9, 7:9].mean(axis=(1, 2)) * 92
        return self.table[(column > 46).astype(int)]


def models():
    """Three folds; west of column 46 all but fold 2 say class 1, east of it all say something else."""
    return [
        Fixed(0, [[0.7, 0.2, 0.1], [0.6, 0.3, 0.1]]),
        Fixed(1, [[0.5, 0.4, 0.1], [0.1, 0.8, 0.1]]),
        Fixed(2, [[0.1, 0.1, 0.8], [0.1, 0.2, 0.7]]),
    ]


def predict(folder, *, min_valid=0.5, stride_px=8, found=None, fold=0):
    with Raster.open(write_scene(folder / "scene.tif")) as raster:
        settings = export_settings(stride_px=stride_px, min_valid=min_valid)
        constant = lambda part: np.full(part.shape, fold)  # noqa: E731
        used = MapModels(found or models(), COLOURS, "", constant)
        return write_scene_map(folder, NormalizedScene("s", raster, ""), used, settings)


def test_a_cell_with_too_few_valid_pixels_is_nodata(tmp_path):
    # the last row of cells holds 6 of 8 rows of pixels, the last column 4 of 8 columns
    shares = {0.0: (True, True, True), 0.3: (True, True, True), 0.4: (True, True, False), 0.6: (True, False, False)}
    for min_valid, (below, right, corner) in shares.items():
        predict(tmp_path, min_valid=min_valid)
        honest = read(tmp_path / "s_class.tif")[0][0]
        assert (honest[8, 5] > 0, honest[4, 11] > 0, honest[8, 11] > 0) == (below, right, corner)
        assert (honest[:2, :3] == 0).all()


def test_the_stride_is_the_side_of_a_cell(tmp_path):
    predict(tmp_path, stride_px=4)
    with Raster.open(tmp_path / "s_class.tif") as raster:
        assert raster.grid.shape == (18, 23)
        assert raster.grid.resolution == (40, 40)
        assert raster.grid.transform @ (0, 0) == (factories.ORIGIN_X, factories.ORIGIN_Y)


def calibration(temperature, share, least, unscaled=0.0):
    shares = {"uniform_share": share, "unscaled_share": unscaled}
    return {"temperature": temperature, "least_probability": least} | shares


CALIBRATIONS = Calibrations(
    coverage=0.9,
    folds=[calibration(0.5, 0.1, 0.2), calibration(2.0, 0.0, 0.3), calibration(0.6, 0.2, 0.9, 0.5)],
    ensemble=calibration(1.5, 0.05, 0.25),
)


@pytest.mark.parametrize("held_out", [True, False])
def test_each_zone_is_scaled_by_the_calibration_of_its_fold_and_no_class_changes(tmp_path, held_out):
    tables, folds = random_tables(), FOLDS if held_out else None
    settings = export_settings(stride_px=1, calibrated=True, layers=["margin", "set_size"])
    write_known_map(tmp_path, tables, valid=VALID, folds=folds, settings=settings, calibrations=CALIBRATIONS)
    (tmp_path / "plain").mkdir()
    write_known_map(tmp_path / "plain", tables, valid=VALID, folds=folds)
    mean = tables.mean(axis=0)
    own = np.where(FOLDS[..., None] < 0, mean, np.choose(FOLDS.clip(min=0)[..., None], tables))
    of_mean = (mean, np.full_like(FOLDS, -1))
    maps = {"s_ensemble": of_mean, "s": (own, FOLDS)} if held_out else {"s": of_mean}
    for stem, (probabilities, chosen) in maps.items():
        np.testing.assert_array_equal(
            read(tmp_path / f"{stem}_class.tif")[0], read(tmp_path / f"plain/{stem}_class.tif")[0]
        )
        values, names = read(tmp_path / f"{stem}_confidence.tif")
        bands = dict(zip(names, values, strict=True))
        for fold, fitted in enumerate([*CALIBRATIONS.folds, CALIBRATIONS.ensemble]):
            here = VALID & (chosen == (fold if fold < 3 else -1))
            power = probabilities[here].astype(np.float64) ** (1 / fitted.temperature)
            power /= power.sum(axis=1, keepdims=True)
            mixed = (1 - fitted.unscaled_share) * power + fitted.unscaled_share * probabilities[here]
            scaled = (1 - fitted.uniform_share) * mixed + fitted.uniform_share / 3
            np.testing.assert_allclose(bands["confidence"][here], scaled.max(axis=1), atol=0.5 / STEPS + 1e-6)
            sets = np.maximum((scaled >= fitted.least_probability).sum(axis=1), 1)
            np.testing.assert_array_equal(bands["set_size"][here], sets)
        assert np.isnan(bands["set_size"][~VALID]).all()
        assert len(np.unique(bands["set_size"][VALID])) == 3


def test_refuses_a_calibration_of_other_folds(tmp_path):
    fewer = CALIBRATIONS.model_copy(update={"folds": CALIBRATIONS.folds[:2]})
    with pytest.raises(ExportError, match="calibration of 2 folds; expected 3; run dvc repro evaluate"):
        write_known_map(tmp_path, random_tables(), folds=FOLDS, calibrations=fewer)


@pytest.mark.parametrize("order", [[1, 0, 2], [0, 2], [1, 2]])
def test_refuses_models_that_are_not_one_of_each_fold(tmp_path, order):
    found = [models()[i] for i in order]
    with pytest.raises(ExportError, match=r"models of the folds \[.*\]; expected \[0, 1"):
        predict(tmp_path, found=found)


def test_a_refusal_leaves_no_half_raster(tmp_path):
    with pytest.raises(InferenceError, match=r"export.stride_px is 7, but windows are 16 px"):
        predict(tmp_path, stride_px=7)
    broken = models()
    broken[1].probabilities = lambda windows: 1 / 0
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        predict(tmp_path, found=broken)
    assert [path.name for path in tmp_path.iterdir()] == ["scene.tif"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layers": ["margin", "margin"]}, "expected each layer once"),
        ({"layers": ["variance"]}, "margin"),
        ({"layers": ["set_size"], "calibrated": False}, "set_size needs calibrated: true"),
        ({"sieve_px": -1}, "greater than or equal to 0"),
        ({"offsets": 0}, "greater than or equal to 1"),
        ({"mosaic": "last"}, "confidence"),
    ],
)
def test_refuses_settings(change, words):
    with pytest.raises(SettingsError, match=words):
        export_settings(**change)


def make_area(rows, columns):
    """Training patches as rows and columns; the first two are each validated in a fold of its own."""
    features = pandas.DataFrame(
        {"row_mean": rows, "row_std": 0.0, "column_mean": columns, "column_std": 0.0},
        index=pandas.Index([f"s/{i}" for i in range(len(rows))], name="patch"),
    )
    numbers = np.arange(len(rows))
    sides = [pandas.Series(np.where(numbers == i, "validation", "train"), index=features.index) for i in (0, 1)]
    return Applicability.of(features, np.where(numbers % 2, "a", "b"), sides, size_px=1)


@pytest.mark.parametrize("honest", [True, False])
def test_applicability_is_in_the_file_with_its_threshold(tmp_path, honest):
    area = make_area([0.0, 5, 9, 13], [1.0, 8, 12, 22])
    folds = FOLDS.clip(max=1) if honest else None
    result = write_known_map(tmp_path, random_tables(models=2), valid=VALID, folds=folds, area=area)
    place = np.stack(np.mgrid[:14, :23], axis=2).reshape(-1, 2).astype(np.float32)
    values = np.insert(place, [1, 2], 0, axis=1)
    known = {"ensemble_": area.dissimilarity(values), "": area.dissimilarity(values, FOLDS.clip(max=1).ravel())}
    if not honest:
        known = {"": known["ensemble_"]}
    shares = {}
    for kind, index in known.items():
        path = tmp_path / f"s_{kind}applicability.tif"
        assert path in result.files
        assert cog_validate(path, strict=True, quiet=True) == (True, [], [])
        with rasterio.open(path) as dataset:
            tags, (dissimilarity, applicable) = dataset.tags(), dataset.read()
            assert dataset.descriptions == ("dissimilarity", "applicable")
        assert tags["METHOD"] == METHOD
        assert repr(area.threshold) in path.with_suffix(".qml").read_text(encoding="utf-8")
        assert path.with_suffix(".qml") in result.files
        assert float(np.float32(tags["THRESHOLD"])) == area.threshold
        assert np.array_equal(dissimilarity, np.where(VALID, index.reshape(14, 23), np.nan), equal_nan=True)
        assert np.array_equal(applicable[VALID], dissimilarity[VALID] <= np.float32(area.threshold))
        shares[kind] = (applicable[VALID] == 0).mean()
    assert 0 < shares[""] < 1
    assert (result.outside, result.ensemble_outside) == (shares[""], shares.get("ensemble_", shares[""]))


@pytest.mark.parametrize(("size_px", "block_px"), [(16, 4), (15, 3), (5, 3), (2, 2), (1, 1)])
def test_applicability_of_a_map_of_pixels_is_that_of_windows_around_blocks(tmp_path, size_px, block_px):
    random = np.random.default_rng(0)
    values = random.random((3, 37, 50), dtype=np.float32)
    valid = random.random((37, 50)) < 0.9
    channels = {f"c{number}": channel for number, channel in enumerate(values)}
    factories.write_raster(tmp_path / "scene.tif", channels, valid=valid)
    names = pandas.Index([f"s/{i}" for i in range(30)], name="patch")
    features = pandas.DataFrame(
        random.random((30, 6), dtype=np.float32), columns=feature_names(list(channels)), index=names
    )
    sides = [pandas.Series(np.where(np.arange(30) % 2 == i, "validation", "train"), index=names) for i in (0, 1)]
    area = Applicability.of(features, np.arange(30) % 3, sides, size_px=size_px)
    models = [pixel_classifier(), pixel_classifier(1, fold=1)]
    with Raster.open(tmp_path / "scene.tif") as raster:
        used = MapModels(models, COLOURS[:2], "", held_out=lambda part: np.zeros(part.shape, dtype=int), area=area)
        settings = export_settings(
            stride_px=None, layers=[], polygons=factories.PARAMS["export"]["polygons"] | {"formats": []}
        )
        write_scene_map(tmp_path, NormalizedScene("s", raster, ""), used, settings)
        own = np.concatenate([part for _, part in cell_features(raster, size_px=size_px, stride_px=block_px)])
    (found, _), _ = read(tmp_path / "s_applicability.tif")
    index = area.dissimilarity(own.reshape(-1, 6), np.zeros(own.shape[0] * own.shape[1], dtype=int)).reshape(
        own.shape[:2]
    )
    expected = index.repeat(block_px, axis=0).repeat(block_px, axis=1)[:37, :50]
    assert np.array_equal(found, np.where(valid, expected, np.nan), equal_nan=True)
