"""A model folder is data: what is not, or not what it says, is refused with one sentence, before memory is taken."""

import ast
import io
import json
import os
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from safetensors.torch import load_file, save_file

import landfold
from landfold.core.digests import file_sha256
from landfold.core.errors import LandfoldError
from landfold.deploy.bundle import Bundle, write_bundle
from landfold.deploy.bundlecard import MAX_CARD_BYTES, BundleError, read_card
from landfold.geo.bands import STANDARD_NAMES
from landfold.maps.applicability import Applicability
from landfold.network.errors import ModelError
from landfold.network.model import Classifier
from landfold.pixels.calibration import scale
from tests.factories import tree
from tests.served import KINDS, classifiers, make_bundle

PACKAGE = Path(landfold.__file__).parent


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("models") / "landfold")


@pytest.fixture(scope="module")
def pixel_pristine(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("models of pixels") / "landfold", kind="surroundings")


@pytest.fixture
def folder(pristine, tmp_path):
    return shutil.copytree(pristine, tmp_path / "model")


@pytest.fixture
def pixel_folder(pixel_pristine, tmp_path):
    return shutil.copytree(pixel_pristine, tmp_path / "model of pixels")


def edit(folder: Path, change) -> None:
    """Change the content of model.json, as whoever means harm would."""
    path = folder / "model.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def setting(*where):
    *parents, last, value = where

    def change(content):
        for parent in parents:
            content = content[parent]
        content[last] = value

    return change


def test_what_was_written_is_what_is_loaded(pristine):
    bundle = Bundle.load(pristine)
    single = [Classifier(model.network, model.card) for model in bundle.models]
    windows = np.random.default_rng(0).random((3, 5, 8, 8), dtype=np.float32)
    mean = np.mean([model.probabilities(windows) for model in single], axis=0)
    np.testing.assert_array_equal(bundle.probabilities(windows), scale(mean, 1.5, 0.05, 0.4).astype(np.float32))
    np.testing.assert_allclose(bundle.probabilities(windows).sum(axis=1), 1, rtol=1e-6)
    assert [model.card.fold for model in bundle.models] == [0, 1]
    assert bundle.models[1].card.fold_digest == bundle.card.fold_digests[1]
    assert bundle.card.rgb[0] == (0x11, 0x11, 0x11)
    assert bundle.area is None


@pytest.mark.parametrize(("kind", "size_px", "core_px"), [("surroundings", 68, 64), ("segmentation", 32, 16)])
def test_what_was_written_of_pixels_is_what_is_loaded(tmp_path, kind, size_px, core_px):
    bundle, made = Bundle.load(make_bundle(tmp_path / "model", kind=kind)), classifiers(2, model=KINDS[kind])
    windows = np.random.default_rng(0).random((2, 5, size_px, size_px), dtype=np.float32)
    windows[0, :, :20] = 0
    found = bundle.probabilities(windows)
    assert found.shape == (2, 3, core_px, core_px)
    mean = np.mean([model.probabilities(windows) for model in made], axis=0)
    scaled = scale(np.ascontiguousarray(np.moveaxis(mean, 1, -1)), 1.5, 0.05, 0.4).astype(np.float32)
    np.testing.assert_array_equal(found, np.moveaxis(scaled, -1, 1))
    assert [model.card for model in bundle.models] == [model.card for model in made]
    assert (bundle.card.unit, bundle.card.patch_px) == ("pixel", 8)
    with pytest.raises(ModelError, match=rf"shape \(2, 5, 8, 8\); the model expects \(n, 5, {size_px}, {size_px}\)"):
        bundle.probabilities(windows[..., :8, :8])


def test_a_model_that_is_not_calibrated_gives_the_plain_mean(folder):
    def change(content):
        content["calibration"], content["export"]["calibrated"] = None, False

    edit(folder, change)
    bundle, windows = Bundle.load(folder), np.random.default_rng(0).random((3, 5, 8, 8), dtype=np.float32)
    mean = np.mean([model.probabilities(windows) for model in bundle.models], axis=0)
    np.testing.assert_array_equal(bundle.probabilities(windows), mean)


def test_the_digest_is_that_of_the_content_wherever_it_lies(pristine, folder):
    before = Bundle.load(pristine).digest
    (folder / "README.md").write_text("read me")
    assert Bundle.load(folder).digest == before
    edit(folder, setting("name", "other"))
    assert Bundle.load(folder).digest != before


def test_equal_content_is_equal_bytes(pristine, tmp_path):
    card = json.loads((pristine / "model.json").read_text())
    again = tmp_path / "again"
    again.mkdir()
    fields = {name: value for name, value in card.items() if name not in ("format", "weights", "applicability")}
    write_bundle(again, fields, [pristine / "fold_0.safetensors", pristine / "fold_1.safetensors"], None)
    assert tree(again) == tree(pristine)


def test_the_area_of_applicability_survives(pristine, tmp_path):
    random = np.random.default_rng(0)
    names = [f"{channel}_{statistic}" for channel in ("B", "G", "R", "N", "NDVI") for statistic in ("mean", "std")]
    features = pandas.DataFrame(random.random((40, 10)).astype(np.float32), columns=names)
    sides = [pandas.Series(np.where(np.arange(40) % 2 == fold, "train", "validation")) for fold in (0, 1)]
    area = Applicability.of(features, np.arange(40) % 2, sides, size_px=8)
    card = json.loads((pristine / "model.json").read_text())
    folder = tmp_path / "with area"
    folder.mkdir()
    fields = {name: value for name, value in card.items() if name not in ("format", "weights", "applicability")}
    write_bundle(folder, fields, [pristine / "fold_0.safetensors", pristine / "fold_1.safetensors"], area)
    loaded = Bundle.load(folder).area
    values = random.random((7, 10)).astype(np.float32)
    np.testing.assert_array_equal(loaded.dissimilarity(values), area.dissimilarity(values))
    assert (loaded.threshold, loaded.size_px) == (area.threshold, 8)
    assert loaded.summary() == area.summary()


def test_an_area_of_types_that_numpy_has_not_is_refused(folder):
    save_file({"used": torch.zeros(2, dtype=torch.bfloat16)}, folder / "applicability.safetensors")
    edit(folder, setting("applicability", file_sha256(folder / "applicability.safetensors")))
    # NumPy knows the type where another library, such as ml_dtypes, has told it
    with pytest.raises(BundleError, match=r"applicability\.safetensors: (no safetensors file|does not belong)"):
        Bundle.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (setting("format", 1), r"model\.json: format '1'; this Landfold reads format 4"),
        (setting("secret", "x"), r"model\.json\.secret: unknown setting"),
        (lambda card: card.pop("bands"), r"model\.json\.bands: missing"),
        (setting("size_px", 10**9), r"model\.json\.size_px: found 1000000000: .*less than or equal to 2048"),
        (setting("size_px", "wide"), r"model\.json\.size_px: found 'wide': .*integer"),
        (setting("channels", [f"c{i}" for i in range(10**5)]), r"model\.json\.channels: .*at most 256"),
        (setting("classes", [f"c{i}" for i in range(70_000)]), r"model\.json\.classes: .*at most 65534"),
        (setting("classes", ["a\nb", "c", "d"]), r"model\.json\.classes\.0"),
        (setting("classes", ["a", "a", "d"]), r"classes: a name is there twice"),
        (setting("colours", ["#111111"]), r"colours: 1 for 3 classes"),
        (setting("bands", ["B", "../../x", "R", "N"]), r"bands"),
        (setting("calibration", None), r"calibration: expected one where export\.calibrated is true, else null"),
        (setting("calibration", "ensemble", "temperature", 1e-9), r"calibration\.ensemble\.temperature: found 1e-09"),
        (setting("indices", ["__import__('os')"]), r"channels: expected the bands, then the indices"),
        (setting("model", "backbone", "../../x"), r"model: backbone: torchvision has no classifier '\.\./\.\./x'"),
        (setting("ingest", "resolution_m", -1), r"ingest\.resolution_m"),
        (setting("crs", "not a CRS"), r"not a CRS"),
        (setting("weights", []), r"weights: "),
        (setting("patch_px", 16), r"size_px 8: expected patch_px, 16, and core_px in it"),
        (setting("core_px", 9), r"size_px 8: expected patch_px, 8, and core_px in it"),
        (setting("export", "stride_px", None), r"model\.kind: classifier needs export\.stride_px; it is null"),
        (setting("origin", "bands", []), r"bands: differ from ingest\.bands or origin\.bands"),
        (setting("fold_digests", ["../../x"]), r"fold_digests"),
        (setting("origin", "acquired", ["soon"]), r"origin\.acquired\.0: found 'soon'"),
        (setting("origin", "acquired", ["2020-02-31"]), r"origin\.acquired\.0: found '2020-02-31': .*day"),
    ],
)
def test_a_card_with_odd_content_is_refused_by_name(folder, change, message):
    edit(folder, change)
    with pytest.raises(BundleError, match=message) as caught:
        read_card(folder)
    assert len(str(caught.value)) < 4000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (setting("core_px", 62), r"size_px and core_px are \(68, 62\); kind surroundings has \(68, 64\)"),
        (
            setting("model", "boxes_px", [3, 255]),
            r"size_px and core_px are \(68, 64\); kind surroundings has \(318, 64\)",
        ),
        (setting("model", "weights", "none"), r"kind: surroundings has no use for weights"),
        (setting("export", "stride_px", 8), r"model\.kind: surroundings has no use for export\.stride_px"),
        (setting("model", "bins", 10**6), r"model\.bins: found 1000000"),
        (setting("model", "hidden", [1] * 10**5), r"25 features of a pixel, coded by 75 numbers, and 100000 hidden"),
    ],
)
def test_a_card_of_pixels_with_odd_content_is_refused_by_name(pixel_folder, change, message):
    edit(pixel_folder, change)
    with pytest.raises(BundleError, match=message) as caught:
        read_card(pixel_folder)
    assert len(str(caught.value)) < 4000


def test_the_work_for_a_pixel_is_bounded(pixel_folder):
    """Little files could otherwise ask for much memory where a map is made."""

    def ask(channels, boxes, bins, hidden):
        def change(card):
            bands = list(STANDARD_NAMES)[:channels]
            origin = [card["origin"]["bands"][0] | {"name": band} for band in bands]
            card |= {"channels": bands, "bands": bands, "indices": [], "size_px": 64 + boxes[-1] - 1}
            card["ingest"]["bands"], card["origin"]["bands"] = bands, origin
            card["model"] |= {"boxes_px": boxes, "bins": bins, "hidden": hidden}

        edit(pixel_folder, change)
        with pytest.raises(BundleError) as caught:
            read_card(pixel_folder)
        return str(caught.value)

    told = "model: 266 features of a pixel, coded by 17024 numbers, and 100 hidden layers; at most 4096, 65536 and 64"
    assert told in ask(14, [3, 5, 7, 9, 11, 13, 15, 17, 19], 64, [1] * 100)
    assert "model: 3570 features of a pixel, coded by 228480 numbers" in ask(14, list(range(3, 257, 2)), 64, [1])
    assert "model: 4335 features of a pixel, coded by 4335 numbers" in ask(17, list(range(3, 257, 2)), 1, [1])


def test_a_network_of_pixels_too_large_for_memory_is_refused_by_its_file(pixel_folder, monkeypatch):
    monkeypatch.setattr("landfold.deploy.bundle.load_file", lambda path: pytest.fail("loaded"))
    edit(pixel_folder, setting("model", "hidden", [65_536] * 64))  # 1 TB
    with pytest.raises(
        BundleError, match=r"fold_0\.safetensors: does not belong to model\.json beside it: tensor layers"
    ):
        Bundle.load(pixel_folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[1, 2]", "no model card: expected an object"),
        (b"[" * 100_000, "nested too deeply|no JSON"),
        (b'{"format": 3, "resolution_m": NaN}', "no JSON .NaN is no number"),
        (b'{"format": 3, "resolution_m": -Infinity}', "no JSON .-Infinity is no number"),
        (pickle.dumps({"format": 3}), "no JSON"),
    ],
)
def test_what_is_no_card_is_refused(folder, content, message):
    (folder / "model.json").write_bytes(content)
    with pytest.raises(BundleError, match=rf"model\.json: ({message})"):
        Bundle.load(folder)


def test_a_huge_card_is_not_even_read(folder, monkeypatch):
    with (folder / "model.json").open("r+b") as file:
        file.truncate(2**30)
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail("read"))
    with pytest.raises(BundleError, match=rf"model\.json: 1073741824 bytes; at most {MAX_CARD_BYTES} are read"):
        Bundle.load(folder)


def test_names_that_lead_out_of_the_folder_are_never_followed(folder, tmp_path):
    """The card names no file; what looks like a path in it is text, and stays so."""
    outside = tmp_path / "outside.safetensors"
    shutil.move(folder / "fold_0.safetensors", outside)
    edit(folder, setting("model", "weights", str(outside)))
    with pytest.raises(BundleError, match=r"fold_0\.safetensors: not found, or no file"):
        Bundle.load(folder)


def test_weights_that_the_card_names_are_not_opened(folder):
    edit(folder, setting("model", "weights", "/etc/passwd"))
    assert len(Bundle.load(folder).models) == 2


class Planted:
    """Code that would run if anything unpickled it."""

    def __reduce__(self):
        return os.mkdir, (os.environ["PLANTED"],)


def test_code_in_the_folder_never_runs(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("PLANTED", str(tmp_path / "it ran"))
    for name in ("model.pkl", "model.joblib", "fold_0.pt", "fold_2.safetensors"):
        (folder / name).write_bytes(pickle.dumps(Planted()))
    for name in ("__init__.py", "model.py", "sitecustomize.py"):
        (folder / name).write_text(f"import os; os.mkdir({str(tmp_path / 'it ran')!r})")
    Bundle.load(folder)
    for content in (pickle.dumps(Planted()), zipped_pickle()):
        (folder / "fold_0.safetensors").write_bytes(content)
        edit(folder, lambda card: card["weights"].__setitem__(0, file_sha256(folder / "fold_0.safetensors")))
        with pytest.raises(BundleError, match=r"fold_0\.safetensors: no safetensors file"):
            Bundle.load(folder)
    assert not (tmp_path / "it ran").exists()


def zipped_pickle() -> bytes:
    """What torch.save writes."""
    stream = io.BytesIO()
    torch.save({"weight": Planted()}, stream)
    return stream.getvalue()


def test_changed_weights_are_seen(folder):
    tensors = load_file(folder / "fold_1.safetensors")
    tensors["conv1.weight"] += 1
    save_file(tensors, folder / "fold_1.safetensors")
    with pytest.raises(BundleError, match=r"fold_1\.safetensors: changed since model\.json beside it was written"):
        Bundle.load(folder)


def test_weights_that_are_no_numbers_are_refused(folder):
    tensors = load_file(folder / "fold_0.safetensors")
    tensors["conv1.weight"][0] = float("nan")
    save_file(tensors, folder / "fold_0.safetensors")
    edit(folder, lambda card: card["weights"].__setitem__(0, file_sha256(folder / "fold_0.safetensors")))
    with pytest.raises(BundleError, match=r"fold_0\.safetensors: conv1\.weight has numbers that are not finite"):
        Bundle.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.update({"conv1.weight": torch.zeros(64, 4, 3, 3)}), r"tensor conv1\.weight is \(64, 4, 3, 3\)"),
        (lambda t: t.pop("bn1.weight"), r"tensor bn1\.weight is absent, expected \(64,\)"),
        (lambda t: t.update({"more": torch.zeros(1)}), r"tensor more is \(1,\), expected none"),
    ],
)
def test_tensors_of_another_shape_are_refused_before_they_are_loaded(folder, monkeypatch, change, message):
    tensors = load_file(folder / "fold_0.safetensors")
    change(tensors)
    save_file(tensors, folder / "fold_0.safetensors")
    edit(folder, lambda card: card["weights"].__setitem__(0, file_sha256(folder / "fold_0.safetensors")))
    monkeypatch.setattr("landfold.deploy.bundle.load_file", lambda path: pytest.fail("loaded"))
    with pytest.raises(BundleError, match=message):
        Bundle.load(folder)


def test_a_network_too_large_for_memory_is_refused_by_its_file(folder, monkeypatch):
    """The card asks for a network of 2.6 GB; the file beside it holds a small one."""
    monkeypatch.setattr("landfold.deploy.bundle.load_file", lambda path: pytest.fail("loaded"))

    def grow(card):
        own = dict.fromkeys(("kernel_px", "stride_px", "pooling", "blocks"))
        card["model"] |= {"backbone": "regnet_y_128gf"} | own

    edit(folder, grow)
    with pytest.raises(BundleError, match=r"fold_0\.safetensors: does not belong to model\.json beside it"):
        Bundle.load(folder)


def test_links_to_files_are_read_and_other_links_refused(folder, tmp_path):
    """DVC may keep files as links into its cache; a link to a folder, a pipe or nothing is no model."""
    kept = tmp_path / "cache"
    shutil.move(folder / "fold_0.safetensors", kept)
    (folder / "fold_0.safetensors").symlink_to(kept)
    assert len(Bundle.load(folder).models) == 2
    (folder / "fold_0.safetensors").unlink()
    os.mkfifo(tmp_path / "pipe")
    for target in (tmp_path, tmp_path / "nothing", tmp_path / "pipe", Path("/dev/zero")):
        (folder / "fold_0.safetensors").symlink_to(target)
        with pytest.raises(BundleError, match=r"fold_0\.safetensors: not found, or no file"):
            Bundle.load(folder)
        (folder / "fold_0.safetensors").unlink()


def test_bands_that_lack_are_named(pristine):
    bundle = Bundle.load(pristine)
    bands = {name: np.full((4, 4), 0.1) for name in ("B", "G", "R")}
    with pytest.raises(BundleError, match="no band N; the model needs B, G, R, N, found B, G, R"):
        bundle.statistics_of(bands)
    with pytest.raises(BundleError, match="scene: channel B has 16 valid pixels, the model asks for 100"):
        bundle.statistics_of(bands | {"N": bands["B"]})


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def test_no_path_from_file_to_model_unpickles():
    """Neither pickle's loaders nor what calls them; torch.load with weights_only alone, for checkpoints."""
    faults = []
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            where = f"{path.relative_to(PACKAGE)}:{getattr(node, 'lineno', 0)}"
            if ast.unparse(node) == "from joblib import cpu_count":
                continue
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name.split(".")[0] for alias in node.names} | {getattr(node, "module", None)}
                faults += [
                    f"{where}: {name}" for name in names & {"joblib", "cloudpickle", "dill", "shelve", "marshal"}
                ]
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if called == "torch.load" and given.get("weights_only") != "True":
                faults.append(f"{where}: torch.load without weights_only=True")
            if re.fullmatch(r"(pickle\.(load|loads|Unpickler)|pandas\.read_pickle|eval|exec|__import__)", called):
                faults.append(f"{where}: {called}")
            if re.fullmatch(r"(np|numpy)\.load", called) and given.get("allow_pickle", "False") != "False":
                faults.append(f"{where}: numpy.load with pickles")
            if called == "yaml.load" and "SafeLoader" not in ast.unparse(node):
                faults.append(f"{where}: yaml.load without the safe loader")
    assert faults == []
    assert len(sources()) > 60


def test_every_fault_of_a_folder_is_one_for_the_user():
    assert issubclass(BundleError, LandfoldError)
