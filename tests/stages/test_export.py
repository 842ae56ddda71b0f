import json

import numpy as np
import pandas
import pyogrio
import pytest
import rasterio
import torch

from landfold.core.digests import file_sha256, model_digest
from landfold.core.files import write_json
from landfold.geo.grid import Grid
from landfold.geo.raster import Raster
from landfold.maps.files import STEPS
from landfold.network.model import ModelError
from landfold.params import read_params
from stages import export
from tests import factories
from tests.stages.test_train import SCENE, project, project_again, run_train

PRODUCTS = sorted(
    [
        f"{SCENE}.gpkg",
        f"{SCENE}.qml",
        f"{SCENE}_stac.json",
        *(f"{SCENE}_{kind}class.{end}" for kind in ("", "ensemble_") for end in ("tif", "tif.aux.xml", "qml", "sld")),
        *(f"{SCENE}_{kind}confidence.{end}" for kind in ("", "ensemble_") for end in ("tif", "qml")),
    ]
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A project with both folds trained until they know fields from water."""
    folder = tmp_path_factory.mktemp("export")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        project(folder, train__epochs=8, train__class_weights="balanced")
        write_json(folder / "data/scenes/report.json", {"scenes": [{"scene": SCENE, "acquired": "2017-02-16"}]})
        for fold in (0, 1):
            run_train(patch, fold)
    torch.use_deterministic_algorithms(False)
    return folder


@pytest.fixture(scope="module")
def default(trained):
    """The maps of the default settings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(trained)
        export.main(read_params())
    return {part: read(trained / f"data/maps/{SCENE}_{part}.tif")[0] for part in ("class", "confidence")}


@pytest.fixture
def root(trained, monkeypatch):
    monkeypatch.chdir(trained)
    before = (trained / "params.yaml").read_text()
    yield trained
    (trained / "params.yaml").write_text(before)


def read(path):
    with rasterio.open(path) as dataset:
        return dataset.read(), Grid.of(dataset)


def test_products_exist_align_with_the_scene_and_show_what_is_there(root):
    line = export.main(read_params())
    assert line == "1 scenes mapped in cells of 80 m"
    assert sorted(path.name for path in (root / "data/maps").iterdir()) == PRODUCTS
    assert not (root / "metrics").exists(), "the stage report draws"
    assert factories.leftovers(root) == []
    scene = read(root / f"data/normalized/{SCENE}.tif")[1]
    for name in PRODUCTS:
        if name.endswith(".tif"):
            values, grid = read(root / "data/maps" / name)
            assert values.shape[1:] == (12, 15)
            assert grid.crs == scene.crs
            assert grid.transform @ (0, 0) == scene.transform @ (0, 0)
            assert grid.transform @ (15, 11) == scene.transform @ (120, 88)
    honest = read(root / f"data/maps/{SCENE}_class.tif")[0][0]
    assert honest[0, 0] == 0
    assert (honest[-1] == 0).all()  # 2 of 8 rows of pixels
    truth = np.where(np.arange(15) * 8 + 4 < 60, 1, 2)
    right = (honest == truth)[:-1]
    assert right[:, [2, 3, 4, 5, 9, 10, 11, 12]].mean() > 0.9
    layers = pyogrio.list_layers(root / f"data/maps/{SCENE}.gpkg")
    assert [tuple(layer) for layer in layers] == [("classes", "Polygon"), ("layer_styles", None)]


def test_the_map_says_what_each_fold_said_of_the_patches_it_held_out(root):
    project_again(root, export__stride_px=16)
    export.main(read_params())
    honest = read(root / f"data/maps/{SCENE}_class.tif")[0][0]
    confidence, padded = read(root / f"data/maps/{SCENE}_confidence.tif")[0][:2]
    table = pandas.concat([pandas.read_parquet(root / f"models/k2/fold_{i}/predictions.parquet") for i in (0, 1)])
    compared = 0
    for patch in table.itertuples():
        row, column = (int(part) for part in patch.patch.split("/")[1:])
        if row % 16 or column % 16:
            continue
        cell = row // 16, column // 16
        assert ["field", "water"][honest[cell] - 1] == patch.predicted
        assert confidence[cell] == pytest.approx(patch.confidence, abs=0.5 / STEPS + 1e-5)
        assert padded[cell] == 0
        compared += 1
    assert compared == 4 * 6


def test_a_second_run_writes_the_same_bytes(root):
    export.main(read_params())
    first = factories.tree(root / "data/maps")
    export.main(read_params())
    assert factories.tree(root / "data/maps") == first


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("stride_px", 4, "class"),
        ("min_valid", 0.1, "class"),
        ("offsets", 2, "confidence"),
        ("flips_and_rotations", True, "confidence"),
        ("layers", ["margin"], "confidence"),
    ],
)
def test_every_setting_changes_the_map(root, default, name, value, part):
    project_again(root, **{f"export__{name}": value})
    export.main(read_params())
    assert not np.array_equal(read(root / f"data/maps/{SCENE}_{part}.tif")[0], default[part], equal_nan=True)


def test_the_rasters_and_the_item_tell_what_they_were_made_from(root):
    export.main(read_params())
    known = {
        "MODEL_SHA256": model_digest(file_sha256(root / f"models/k2/fold_{i}/model.safetensors") for i in (0, 1)),
        "STATISTICS_SHA256": file_sha256(root / f"data/statistics/{SCENE}.json"),
    }
    found = sorted((root / "data/maps").glob("*.tif"))
    assert len(found) == 4
    for path in found:
        with rasterio.open(path) as dataset:
            assert known.items() <= dataset.tags().items()
    told = factories.read_json(root / f"data/maps/{SCENE}_stac.json")["properties"]
    assert {f"landfold:{name.lower()}": value for name, value in known.items()}.items() <= told.items()
    assert told["start_datetime"] == "2017-02-16T00:00:00Z"


def test_several_scenes_have_a_mosaic(root):
    """The second lies a whole number of cells east of the first, upon the first's eastern third."""
    first = root / f"data/normalized/{SCENE}.tif"
    with Raster.open(first) as raster:
        values = dict(zip(raster.names, raster.read_raw(raster.grid.whole), strict=True))
    second = root / "data/normalized/second.tif"
    factories.write_raster(second, values, grid=factories.make_grid(90, 120, x_px=80), valid=np.ones((90, 120), bool))
    write_json(root / "data/statistics/second.json", {})
    try:
        assert export.main(read_params()) == "2 scenes mapped in cells of 80 m"
        (classes, *_), grid = read(root / "data/maps/mosaic_class.tif")
        confidence = read(root / "data/maps/mosaic_confidence.tif")[0][0]
        assert not (root / "data/maps/second_stac.json").exists()  # its date is not known
        maps = [
            read(root / f"data/maps/{name}_{part}.tif")
            for name in (SCENE, "second")
            for part in ("class", "confidence")
        ]
        project_again(root, export__mosaic="none")
        export.main(read_params())
        assert not (root / "data/maps/mosaic_class.tif").exists()
    finally:
        second.unlink()
        (root / "data/statistics/second.json").unlink()
    assert (classes.shape, grid.transform) == ((12, 25), maps[0][1].transform)
    sure = np.full((2, 12, 25), np.nan, dtype=np.float32)
    number = np.zeros((2, 12, 25), dtype=int)
    for i, columns in enumerate((slice(15), slice(10, 25))):
        number[i][:, columns], sure[i][:, columns] = maps[2 * i][0][0], maps[2 * i + 1][0][0]
    wins = np.nan_to_num(sure, nan=-1).argmax(axis=0)[None]
    np.testing.assert_array_equal(classes, np.take_along_axis(number, wins, 0)[0])
    np.testing.assert_array_equal(confidence, np.take_along_axis(sure, wins, 0)[0])


def test_applicability_adds_its_files_and_changes_no_other(root):
    export.main(read_params())
    plain = factories.tree(root / "data/maps")
    project_again(root, export__applicability=True)
    line = export.main(read_params())
    first = factories.tree(root / "data/maps")
    added = [f"{SCENE}_{kind}applicability.{end}" for kind in ("", "ensemble_") for end in ("tif", "qml")]
    added.append("applicability.json")
    assert sorted(path.name for path in (root / "data/maps").iterdir()) == sorted([*PRODUCTS, *added])
    changed = {name for name in plain if first[name] != plain[name]}
    assert changed == {f"{SCENE}_stac.json"}
    told = factories.read_json(root / "data/maps/applicability.json")
    (own, applicable), grid = read(root / f"data/maps/{SCENE}_applicability.tif")
    ensemble = read(root / f"data/maps/{SCENE}_ensemble_applicability.tif")[0]
    honest, scene = read(root / f"data/maps/{SCENE}_class.tif")
    assert grid == scene
    data = honest[0] > 0
    assert np.array_equal(np.isfinite(own), data)
    assert np.array_equal(applicable[data] == 1, own[data] <= np.float32(told["threshold"]))
    assert (ensemble[0][data] <= own[data]).all()
    assert (ensemble[0][data] < own[data]).any()
    outside = {"outside": (applicable[data] == 0).mean(), "ensemble_outside": (ensemble[1][data] == 0).mean()}
    assert told["scenes"] == {SCENE: {"cells": data.sum(), **outside}}
    trained = [pandas.read_parquet(root / f"data/folds/k2/fold_{i}.parquet")["side"] == "train" for i in (0, 1)]
    assert told["patches"] == np.any(trained, axis=0).sum()
    assert line == (
        f"1 scenes mapped in cells of 80 m; {100 * outside['outside']:.1f} % of the ground is outside the area of "
        "applicability"
    )
    export.main(read_params())
    assert factories.tree(root / "data/maps") == first


def test_a_cell_on_a_patch_is_in_the_area_of_the_ensemble(root):
    """The cell's window is the patch's, which is a training patch of some fold."""
    project_again(root, export__stride_px=16, export__applicability=True)
    export.main(read_params())
    ensemble = read(root / f"data/maps/{SCENE}_ensemble_applicability.tif")[0]
    patches = pandas.read_parquet(root / "data/patches.parquet")
    cells = [(p.row // 16, p.column // 16) for p in patches.itertuples() if p.row % 16 == 0 and p.column % 16 == 0]
    assert len(cells) == 4 * 6
    for cell in cells:
        assert ensemble[:, cell[0], cell[1]].tolist() == [0, 1]


def test_a_refusal_is_one_line_and_leaves_the_earlier_maps(root, stage, monkeypatch):
    monkeypatch.chdir(root)
    export.main(read_params())
    before = factories.tree(root / "data/maps")
    project_again(root, export__stride_px=5)
    assert "export.stride_px is 5, but windows are 16 px" in stage(export, refused=True)
    assert factories.tree(root / "data/maps") == before
    assert factories.leftovers(root) == []


def test_refuses_a_fold_of_another_split(root, stage, monkeypatch):
    monkeypatch.chdir(root)
    path = root / "models/k2/fold_1/model.json"
    before = path.read_text(encoding="utf-8")
    path.write_text(before.replace(json.loads(before)["fold_digest"], "0" * 64), encoding="utf-8")
    try:
        assert "fold_1/model.json: fold 1 is stale" in stage(export, refused=True)
    finally:
        path.write_text(before, encoding="utf-8")


def test_refuses_a_fold_that_was_not_trained(root):
    folder = root / "models/k2/fold_1"
    away = folder.rename(root / "away")
    try:
        with pytest.raises(
            ModelError, match=r"fold_1/model.json: not found, so the model of fold 1 is missing; run `dvc repro"
        ):
            export.main(read_params())
    finally:
        away.rename(folder)
