"""A small project through the real stages up to the model folder, and that folder alone against scenes."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
import yaml
from affine import Affine
from filelock import FileLock

import stages.audit
import stages.evaluate
import stages.export
import stages.indices
import stages.ingest
import stages.normalize
import stages.package
import stages.patches
import stages.train
import stages.zones
from landfold import cli
from landfold.deploy import scenejob
from landfold.deploy.bundle import Bundle
from landfold.deploy.bundlecard import read_card
from landfold.deploy.compatibility import differences_from_training
from landfold.folds.split import FoldError
from landfold.geo.bands import Radiometry
from landfold.params import read_params
from tests import factories
from tests.network.test_model import SETTINGS as MODEL
from tests.network.tiny import SETTINGS as TRAIN
from tests.products import write_safe
from tests.served import SURROUNDINGS

SCENE = "T33UUU_20170216T102101"
BANDS = {"B02": (800, 700, 10), "B03": (1000, 900, 10), "B04": (1200, 500, 10), "B08": (3000, 900, 10),
         "B11": (2500, 100, 20)}  # fmt: skip


def bands(factor: float = 1.0, *, coarse: bool = False, leave_out: str = ""):
    """Fields in the west, a lake in the east; ``coarse`` makes 10 m bands 30 m ones."""

    def of(land, water, resolution):
        random = np.random.default_rng(land)
        return (
            30 if coarse and resolution == 10 else resolution,
            lambda east, south: factor * (np.where(east > 600, water, land) + random.integers(0, 60, east.shape)),
        )

    return {name: of(*numbers) for name, numbers in BANDS.items() if name != leave_out}


def deliver(folder: Path, name: str = SCENE, *, ground_m=(900.0, 1240.0), **changes) -> Path:
    options = {key: changes.pop(key) for key in ("dtype", "crs", "suffix") if key in changes}
    return factories.write_scene(
        folder / name, name, bands(**changes), ground_m=ground_m, nodata_corner_m=100.0, **options
    )


def run_stages(patch, *, folds=(0, 1)):
    steps = [stages.ingest, stages.indices, stages.normalize, stages.patches, stages.zones, stages.audit]
    for stage in steps:
        stage.main(read_params())
    for fold in folds:
        patch.setattr(sys, "argv", ["stages/train.py", str(fold)])
        stages.train.main(read_params())
        factories_random = Path(f"models/random/k2/fold_{fold}")
        factories_random.mkdir(parents=True)
        (factories_random / "off.json").write_text('{"audit.network": false}')
    for stage in (stages.evaluate, stages.export, stages.package):
        stage.main(read_params())


def make_project(folder: Path, model: dict, train: dict, **changes) -> Path:
    """What `dvc repro` leaves of a scene of 90 x 124 px, which no cell of the map divides."""
    content = factories.params(
        ingest__bands=["B", "G", "R", "N", "S1"],
        export__applicability=True,
        export__calibrated=True,
        export__layers=["margin", "set_size", "probabilities"],
        project__name="fields & <lakes>",
        **changes,
    )
    content |= {"model": model, "train": TRAIN | {"epochs": 3} | train, "colours": None}
    content |= {"track": {"enabled": False, "maps_mb": 0, "system_metrics": False}}
    content |= {"card": {"licence": "(c) Nobody", "limits": ["Only *toys*."]}}
    (folder / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    deliver(folder / "data/raw/scenes")
    factories.write_labels(
        folder / "data/raw/labels/l.gpkg",
        [("crop", factories.box(0, 0, 600, 900)), ("lake", factories.box(600, 0, 1240, 900))],
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_stages(patch)
    torch.use_deterministic_algorithms(False)
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("project"), MODEL, {})


@pytest.fixture(scope="module")
def pixel_project(tmp_path_factory):
    """The same of a network of pixels."""
    train = {"max_pixels": 4000, "batch_size": 256, "flips_and_rotations": False}
    units = {"labels__unit": "pixel", "export__stride_px": None}
    return make_project(tmp_path_factory.mktemp("pixels"), SURROUNDINGS.model_dump(), train, **units)


@pytest.fixture(scope="module")
def model(project):
    return project / "models/landfold"


@pytest.fixture
def away(tmp_path, monkeypatch):
    """Another machine: a folder without settings and data."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys, *arguments) -> tuple[int, str, str]:
    code = cli.main(["predict", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def arrays(path: Path) -> dict[str, np.ndarray]:
    with rasterio.open(path) as dataset:
        found = {name: dataset.read(i) for i, name in enumerate(dataset.descriptions, start=1)}
        return found | {"transform": np.array(dataset.transform), "crs": np.array(dataset.crs.to_wkt())}


def same(one: np.ndarray, other: np.ndarray) -> bool:
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


@pytest.mark.parametrize("which", ["project", "pixel_project"])
def test_the_map_of_a_training_scene_is_the_exported_one_bit_by_bit(request, which, away, capsys):
    project = request.getfixturevalue(which)
    model = project / "models/landfold"
    capsys.readouterr()  # of the stages
    shutil.copytree(project / "data/raw/scenes" / SCENE, away / "elsewhere" / SCENE)
    code, out, err = run(capsys, "elsewhere", "-m", model, "-o", "maps", "--device", "cpu")
    assert (code, err) == (0, "")
    assert out.startswith(f"{SCENE}: ")
    exported = project / "data/maps"
    pairs = {
        f"{SCENE}_class.tif": f"{SCENE}_ensemble_class.tif",
        f"{SCENE}_confidence.tif": f"{SCENE}_ensemble_confidence.tif",
        f"{SCENE}_applicability.tif": f"{SCENE}_ensemble_applicability.tif",
    }
    compared = 0
    for mine, theirs in pairs.items():
        made, told = arrays(away / "maps" / mine), arrays(exported / theirs)
        for name in made.keys() & told.keys():
            assert same(made[name], told[name]), (mine, name)
            compared += 1
        lineage = [rasterio.open(path).tags() for path in (away / "maps" / mine, exported / theirs)]
        assert len({tags["MODEL_SHA256"] + tags["STATISTICS_SHA256"] + tags["PARAMS_SHA256"] for tags in lineage}) == 1
    assert compared >= 11, "class, confidence, disagreement, dissimilarity, applicable, and where they lie"
    classes = arrays(away / "maps" / f"{SCENE}_class.tif")["class"]
    assert classes.shape == ((90, 124) if which == "pixel_project" else (12, 16))
    assert len(np.unique(classes)) == 3
    assert factories.leftovers(away) == []


def test_a_scene_is_mapped_once_until_model_files_or_request_change(project, model, away, capsys):
    scene = shutil.copytree(project / "data/raw/scenes" / SCENE, away / SCENE)
    command = [scene, "-m", model, "-o", "maps", "--json"]
    code, out, _ = run(capsys, *command)
    (first,) = json.loads(out)["scenes"]
    assert (code, first["outcome"]) == (0, "mapped")
    assert sum(first["classes"].values()) == pytest.approx(1, abs=1e-5)
    assert set(first["classes"]) == {"field", "water"}
    assert 0.9 < first["valid_fraction"] < 1
    assert first["cloud_fraction"] is None, "no mask tells"
    assert 0 <= first["outside_share"] <= 1
    assert first["model"] == Bundle.load(model).digest
    assert set(first["outputs"]) == {p.name for p in (away / "maps").iterdir()} - {f"{SCENE}_predict.json"}
    before = factories.tree(away / "maps")

    def outcome(*more):
        return json.loads(run(capsys, *command, *more)[1])["scenes"][0]["outcome"]

    assert outcome() == "unchanged"
    assert factories.tree(away / "maps") == before
    assert outcome("--force") == "mapped"
    assert factories.tree(away / "maps") == before, "the same scene, the same bytes"
    assert outcome("--stride", "16") == "mapped"
    assert arrays(away / f"maps/{SCENE}_class.tif")["class"].shape == (6, 8)
    assert (away / f"maps/{SCENE}_probabilities.tif").exists()
    assert outcome("--layers", "-") == "mapped"
    assert not (away / f"maps/{SCENE}_probabilities.tif").exists(), "of the earlier map, and not of this one"
    (away / f"maps/{SCENE}_class.tif").unlink()
    assert outcome("--layers", "-") == "mapped", "a file of its outputs is gone"
    path = next(scene.glob("*_B04.tif"))
    with rasterio.open(path, "r+") as dataset:
        dataset.write(dataset.read(1) + 1, 1)
    assert outcome("--layers", "-") == "mapped", "a file of the scene has changed"


def test_several_scenes_go_on_after_one_fails(model, away, capsys):
    deliver(away / "in", "good", ground_m=(300.0, 620.0))
    deliver(away / "in", "bad", leave_out="B11", ground_m=(300.0, 620.0))
    code, out, err = run(capsys, "nothing", "in", "-m", model, "-o", "maps", "--json")
    told = json.loads(out)
    assert code == 1
    assert [(s["scene"], s["outcome"]) for s in told["scenes"]] == [
        ("nothing", "failed"), ("bad", "failed"), ("good", "mapped"),
    ]  # fmt: skip
    assert err.splitlines() == [
        "landfold predict: 2 of 3 failed:",
        "  nothing: not found; give a scene (a .SAFE folder, an archive, a GeoTIFF, ...) or a folder",
        "  scene bad: the model needs band S1 (short-wave infrared 1), which the scene lacks; it has B, G, R, N",
    ]
    assert not list((away / "maps").glob("bad*"))
    code, out, err = run(capsys, "in/good", "-m", model, "-o", "maps")
    assert (code, err) == (0, "")
    assert out.startswith("good: unchanged, ")
    files = sorted((away / "in/good").glob("*.tif"))
    code, out, _ = run(capsys, *files, "-m", model, "-o", "maps")
    assert (code, len(out.splitlines())) == (0, 1), "files of one scene are one scene"
    shutil.copytree("in/good", "again/good")
    code, _, err = run(capsys, "in/good", "again/good", "-m", model, "-o", "maps")
    assert code == 1
    assert "scene good: found in in/good and in again/good; rename one of them" in err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"coarse": True},
            r"scene S2A_new: other pixel sizes than in training: band B has 30 m, trained on 10 m; band G ",
        ),
        ({"dtype": "float32"}, r"about 1e\+04 times those trained on \(band B: .*, so they are not in the same unit"),
        ({"factor": 0.01, "dtype": "float32", "scale": 0.0001}, r"about 0\.01 times those trained on"),
    ],
)
def test_what_does_not_fit_the_model_is_refused_by_name(model, away, capsys, changes, message):
    scale = changes.pop("scale", None)
    deliver(away, "S2A_new", ground_m=(600.0, 600.0), **changes)
    for path in away.glob("S2A_new/*.tif") if scale else []:
        with rasterio.open(path, "r+") as dataset:
            dataset.scales = [scale]
    code, _, err = run(capsys, "S2A_new", "-m", model, "-o", "maps")
    assert code == 1
    assert re.search(message, err), err
    assert list((away / "maps").iterdir()) == []


def test_other_pixels_are_taken_if_asked_for(model, away, capsys):
    deliver(away, "S2A_new", ground_m=(600.0, 600.0), coarse=True)
    code, out, _ = run(capsys, "S2A_new", "-m", model, "-o", "maps", "--other-pixels")
    assert code == 0
    assert "warning: band B has 30 m, trained on 10 m" in out


def test_a_product_is_read_with_its_own_radiometry_and_season(model, away, capsys):
    """A .SAFE folder of level 2A: its offset of -1000 counts, its date is October."""
    safe = write_safe(away, files={"B02": (10,), "B03": (10,), "B04": (10,), "B08": (10,), "B11": (20,), "SCL": (20,)})
    code, out, err = run(capsys, safe, "-m", model, "-o", "maps", "--json")
    assert (code, err) == (0, "")
    (told,) = json.loads(out)["scenes"]
    assert told["acquired"] == "2022-10-05"
    assert [w for w in told["warnings"] if "another season" in w]


def test_what_sets_a_scene_apart_is_told(model):
    card = read_card(model)
    entry = {"sensor": "landsat8", "processing": {"level": "L1"}, "acquired": "2020-07-01"}
    origin = card.origin.model_copy(update={"processing": [{"level": "L2A", "baseline": "05.09"}]})
    assert differences_from_training(entry, card.model_copy(update={"origin": origin})) == [
        "sensor landsat8, but the model was trained on sentinel2",
        "processing level L1, but the model was trained on L2A",
        "acquired 2020-07-01, 136 days of the year from the nearest of the scenes trained on: another season",
    ]
    close = {"sensor": "sentinel2", "processing": {}, "acquired": "2019-12-30"}
    assert differences_from_training(close, card) == []


def test_a_scene_in_another_crs_keeps_its_grid_unless_asked(model, away, capsys):
    """Zone 32 of the same ground: its own pixels as they are, or the lattice of the CRS that is asked for."""
    for name, resolution in (("B02", 10), ("B03", 10), ("B04", 10), ("B08", 10), ("B11", 20)):
        land, water, _ = BANDS[name]
        values = np.full((600 // resolution, 620 // resolution), land, dtype=np.uint16)
        values[:, 30 * 10 // resolution :] = water
        values += np.random.default_rng(0).integers(0, 60, values.shape).astype(np.uint16)
        grid = factories.make_grid(*values.shape, resolution)
        place = Affine(resolution, 0, 811_203, 0, -resolution, 5_800_017)
        factories.write_band(away / f"new/new_{name}.tif", grid, values, crs="EPSG:32632", transform=place)
    assert run(capsys, "new", "-m", model, "-o", "own")[0] == 0
    with rasterio.open("own/new_class.tif") as dataset:
        assert dataset.crs.to_epsg() == 32632
        assert (dataset.transform.c, dataset.transform.f) == (811_203, 5_800_017)
    assert run(capsys, "new", "-m", model, "-o", "warped", "--crs", "EPSG:32633")[0] == 0
    with rasterio.open("warped/new_class.tif") as dataset:
        assert dataset.crs.to_epsg() == 32633
        assert dataset.transform.c % 10 == 0
        x, y, *_ = dataset.bounds
    assert run(capsys, "new", "-m", model, "-o", "cut", "--crs", "EPSG:32633", "--area", x + 200, y + 200, x + 500,
               y + 500)[0] == 0  # fmt: skip
    with rasterio.open("cut/new_class.tif") as dataset:
        assert dataset.shape == (4, 4)


def test_a_scene_off_the_grid_of_training_keeps_its_own(model, away, capsys):
    """As tiles that were cut in another program, with pixels of 9.96 m."""
    for name, resolution in (("B02", 10), ("B03", 10), ("B04", 10), ("B08", 10), ("B11", 20)):
        side = 0.996 * resolution
        values = np.random.default_rng(0).integers(500, 3000, (600 // resolution, 620 // resolution)).astype(np.uint16)
        grid, place = factories.make_grid(*values.shape, resolution), Affine(side, 0, 330_003, 0, -side, 5_820_007)
        factories.write_band(away / f"new/new_{name}.tif", grid, values, transform=place)
    code, out, _ = run(capsys, "new", "-m", model, "-o", "own")
    assert code == 0
    assert "warning: is off the grid of training, so it stays on its own grid" in out
    with rasterio.open("own/new_class.tif") as dataset:
        assert dataset.transform[:6] == pytest.approx((8 * 9.96, 0, 330_003, 0, -8 * 9.96, 5_820_007))


def test_requests_that_no_scene_can_meet_are_refused_at_once(model, away, capsys):
    code, out, err = run(capsys, "x", "-m", model, "-o", "maps", "--stride", "7")
    assert (code, out) == (1, "")
    assert "choose a stride of at most 16 that is even" in err
    assert "--crs.crs" in run(capsys, "x", "-m", model, "-o", "maps", "--crs", "EPSG:4326")[2]
    assert "landfold predict.layers.0" in run(capsys, "x", "-m", model, "-o", "maps", "--layers", "clouds")[2]
    assert "nowhere: no such folder" in run(capsys, "x", "-m", "nowhere", "-o", "maps")[2]
    fold = "the model of a single fold; give the folder that stage package writes"
    assert fold in run(capsys, "x", "-m", model.parent / "k2/fold_0", "-o", "maps")[2]
    (away / "file").write_text("")
    assert "file: no folder can be made there (File exists)" in run(capsys, "x", "-m", model, "-o", "file")[2]
    assert not (away / "maps").exists()


def test_pixels_have_no_stride(pixel_project, away, capsys):
    code, out, err = run(capsys, "x", "-m", pixel_project / "models/landfold", "-o", "maps", "--stride", "8")
    told = "--stride 8 (stride_px): the model maps a scene's own pixels and has no cells of another size; leave it out"
    assert (code, out, err) == (1, "", f"landfold predict: {told}\n")
    assert not (away / "maps").exists()


def test_an_interrupted_run_leaves_nothing_half_written(model, away, capsys, monkeypatch):
    deliver(away, "new", ground_m=(300.0, 620.0))

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(scenejob, "write_scene_map", interrupted)
    code, _, err = run(capsys, "new", "-m", model, "-o", "maps")
    assert code == 130
    assert err == "landfold predict: interrupted; nothing is half-written\n"
    assert list((away / "maps").iterdir()) == []


def test_two_processes_do_not_mix_their_files(model, away, capsys):
    deliver(away, "new", ground_m=(300.0, 620.0))
    (away / "maps").mkdir()
    with FileLock(away / "maps/.partial-new.lock"):
        code, _, err = run(capsys, "new", "-m", model, "-o", "maps")
    assert code == 1
    assert "scene new: another process maps it into maps; wait for that, or give another -o" in err
    assert run(capsys, "new", "-m", model, "-o", "maps")[0] == 0
    assert factories.leftovers(away) == []


def test_only_files_beside_a_record_are_removed_by_it(tmp_path):
    record = {"outputs": {"s_class.tif": 1, "s.gpkg": 2, "../s_x.tif": 3, "/etc/s_y": 4, "other.tif": 5, "s2.tif": 6}}
    (tmp_path / "s_predict.json").write_text(json.dumps(record))
    assert scenejob.earlier_outputs(tmp_path / "s_predict.json") == {"s_class.tif", "s.gpkg"}
    (tmp_path / "s_predict.json").write_text("[]")
    assert scenejob.earlier_outputs(tmp_path / "s_predict.json") == set()


ENDLESS = """
import sys, time
from landfold.cli import main
from landfold.deploy import predict, scenejob
predict._load = lambda *_: None  # torch would take seconds
scenejob.ingest_scene = lambda *_, **__: (print("reading", flush=True), time.sleep(600))
sys.exit(main(["predict", "new", "-m", sys.argv[1], "-o", "maps"]))
"""


def test_the_command_ends_on_control_c_without_a_traceback(model, away):
    deliver(away, "new", ground_m=(300.0, 620.0))
    environment = os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[2])}
    command = [sys.executable, "-c", ENDLESS, str(model)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as made:
        assert made.stdout.readline() == "reading\n"
        assert (away / "maps/.partial-new/outputs").exists()
        made.send_signal(2)
        _, err = made.communicate(timeout=60)
    assert made.returncode == 130
    assert "Traceback" not in err
    assert list((away / "maps").iterdir()) == []


def test_options_become_a_request():
    arguments = "predict x -m m -o o --band-order B,-,N --area 1 2 3 4 --layers margin --stride 4 --force"
    asked = cli.predict._asked(cli._parser().parse_args(arguments.split()))
    export = {"stride_px": 4, "layers": ["margin"]}
    assert asked == scenejob.PredictOptions(None, (1, 2, 3, 4), ["B", "-", "N"], export, False, True)


def numbers(text: str) -> list[float]:
    """Numbers with digits behind a point, such as scores."""
    return [float(found) for found in re.findall(r"(?<![\w.])-?\d+\.\d+(?![\w.])", text)]


@pytest.mark.parametrize("which", ["project", "pixel_project"])
def test_every_number_of_the_model_card_is_a_metric(request, which):
    project = request.getfixturevalue(which)
    model = project / "models/landfold"
    page = (model / "README.md").read_text()
    files = ("summary", "scores", "patches")
    metrics = {name: json.loads((project / f"metrics/{name}.json").read_text()) for name in files}
    zoned = metrics["summary"]["zoned"]

    def interval(score):
        return f"{score['pooled']:.3f} ({score['low']:.3f} to {score['high']:.3f})"

    for label, name in (("Overall accuracy", "accuracy"), ("Macro F1", "macro_f1")):
        assert f"| {label} | {interval(zoned[name])} | - | - |" in page, "no network was trained under random folds"
    for name, score in (read_card(model).zoned_pixels or {}).items():
        assert interval(score.model_dump()) == interval(metrics["summary"]["pixels"][name])
        assert interval(score.model_dump()) in page
    shown = metrics["scores"].get("pixels", metrics["scores"])
    assert ("pixels" in metrics["scores"]) == (which == "pixel_project")
    for row in shown["per_class"]:
        cells = " | ".join(interval(row[name]) for name in ("precision", "recall", "f1"))
        assert f"| {row['class']} | {row['support']} | {cells} |" in page
    known = {round(value, 3) for value in leaves(metrics)} | {0.0001}  # the scale of the bands
    area = Bundle.load(model).area.summary()
    known |= {round(area["threshold"], 3), round(area["training_outside"], 3)}
    assert "No mask tells of the clouds of 1 of them" in page
    told = page.split("## Limits")[0].replace("doi:10.1111", "")
    assert [number for number in numbers(told) if number not in known] == []
    assert "# fields & \\<lakes\\>: a land-cover model" in page
    assert "| S1 | short-wave infrared 1 | B11 | 20 | 0.0001, 0 |" in page
    assert "**Licence and attribution of the data**: (c) Nobody" in page
    assert "- Only \\*toys\\*." in page
    assert Bundle.load(model).digest in page


def leaves(content) -> list[float]:
    if isinstance(content, dict | list):
        parts = content.values() if isinstance(content, dict) else content
        return [value for part in parts for value in leaves(part)]
    return [float(content)] if isinstance(content, int | float) else []


def test_the_model_folder_is_the_same_bytes_again_and_knows_what_it_came_from(project, model, monkeypatch):
    monkeypatch.chdir(project)
    before = factories.tree(model)
    assert "models/landfold, 2 networks" in stages.package.main(read_params())
    assert factories.tree(model) == before
    assert set(before) == {
        "README.md", "applicability.safetensors", "fold_0.safetensors", "fold_1.safetensors", "model.json",
    }  # fmt: skip
    card = read_card(model)
    assert card.origin.acquired == ["2017-02-16"]
    assert [(band.name, band.resolution_m) for band in card.origin.bands][-1] == ("S1", [20.0])
    assert str(project) not in (model / "model.json").read_text()


def test_arrays_give_what_the_normalized_scene_holds(project, model):
    """Serving's way to the network's input is that of the stages, but for the last digits of the percentiles."""
    bundle = Bundle.load(model)
    with rasterio.open(project / f"data/scenes/{SCENE}.tif") as dataset:
        valid = dataset.dataset_mask() > 0
        stored = dict(zip(dataset.descriptions, dataset.read(), strict=True))
    radiometry = Radiometry(0.0001, 0.0)
    reflectance = {name: np.where(valid, radiometry.reflectance(band), np.nan) for name, band in stored.items()}
    found = bundle.channels_of(reflectance, bundle.statistics_of(reflectance))
    with rasterio.open(project / f"data/normalized/{SCENE}.tif") as dataset:
        np.testing.assert_allclose(found, dataset.read(), atol=2e-6)
    windows = found[None, :, 16:32, 16:32]
    each = [model.probabilities(windows) for model in bundle.models]
    np.testing.assert_array_equal(bundle.probabilities(windows), bundle.scaled(np.mean(each, axis=0)))


def test_a_stale_fold_is_not_packaged(project, model, monkeypatch):
    monkeypatch.chdir(project)
    index, before = project / "data/folds/k2/index.json", factories.tree(model)
    kept = index.read_text()
    content = json.loads(kept)
    index.write_text(json.dumps(content | {"digests": content["digests"] | {"1": "0" * 64}}))
    try:
        with pytest.raises(FoldError, match=r"fold_1/model\.json: fold 1 is stale"):
            stages.package.main(read_params())
    finally:
        index.write_text(kept)
    assert factories.tree(model) == before
