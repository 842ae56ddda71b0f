"""The ONNX graph tells what torch does, for any number of windows, and says what it is."""

import json

import numpy as np
import onnx
import pytest

from landfold.classical.selection import CANDIDATES
from landfold.cli import main
from landfold.core.digests import file_sha256
from landfold.deploy import onnx_export
from landfold.deploy.bundle import Bundle
from landfold.deploy.onnx_export import OPSET, TOLERANCE, OnnxError, check, runtime, write_onnx
from landfold.network.classical import ClassicalNetwork
from landfold.network.model import Classifier
from landfold.pixels.surroundings import feature_count
from tests.factories import leftovers
from tests.network.pixel_problem import make_pixel_card, model_settings, settings_of
from tests.served import CHANNELS, CLASSES, RESNET, SIZE_PX, UNET, classifiers, make_bundle


def export(folder, kind):
    model = make_bundle(folder / "landfold", kind=kind)
    assert main(["onnx", "-m", str(model), "-o", str(folder / "landfold.onnx")]) == 0
    return Bundle.load(model), folder / "landfold.onnx"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return export(tmp_path_factory.mktemp("onnx"), "classifier")


@pytest.fixture(scope="module")
def exported_pixels(tmp_path_factory):
    return export(tmp_path_factory.mktemp("onnx of pixels"), "surroundings")


def windows(count, size_px=SIZE_PX):
    """The first rows hold no data."""
    values = np.random.default_rng(1).random((count, len(CHANNELS), size_px, size_px), dtype=np.float32)
    values[:, :, :2] = 0
    return values


@pytest.mark.parametrize("count", [1, 2, 7, 300])
def test_onnxruntime_tells_what_torch_does(exported, count):
    bundle, path = exported
    (found,) = runtime(path.read_bytes()).run(["probabilities"], {"windows": windows(count)})
    assert found.dtype == np.float32
    expected = bundle.probabilities(windows(count))
    assert count == 1 or expected.std(axis=0).min() > 1e-4
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("count", [1, 5])
def test_onnxruntime_tells_what_torch_does_of_pixels(exported_pixels, count):
    bundle, path = exported_pixels
    given = windows(count, 68)
    given[:, :, 30:, 30:] = 0.37  # the deviation of a constant box is where rounding is worst
    given[:, :, 40:50, 40:50] = 0
    (found,) = runtime(path.read_bytes()).run(["probabilities"], {"windows": given})
    expected = bundle.probabilities(given)
    assert found.shape == expected.shape == (count, len(CLASSES), 64, 64)
    assert expected.std(axis=(0, 2, 3)).min() > 0.01
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_folds_share_the_features_of_pixels(exported_pixels):
    graph = onnx.load(exported_pixels[1])
    kinds = [node.op_type for node in graph.graph.node]
    assert kinds.count("AveragePool") == 2 * 2 * 3, "along rows and columns, of two boxes, of data, means and squares"
    shapes = [[d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim] for value in graph.graph.output]
    assert shapes == [["n", len(CLASSES), 64, 64]]


@pytest.mark.parametrize("candidate", CANDIDATES, ids=lambda candidate: candidate.name)
def test_a_classical_model(candidate, tmp_path):
    random = np.random.default_rng(0)
    settings = model_settings("classical")
    network = ClassicalNetwork(feature_count(3, settings.boxes_px), 3)
    rows = random.random((400, network.weight.shape[1]), dtype=np.float32)
    network.take(candidate.make(0).fit(rows, (3 * rows[:, :6].mean(axis=1)).astype(np.int64)))
    model = Classifier(network, make_pixel_card(settings, settings_of("classical")))
    assert write_onnx([model], tmp_path / "model.onnx", properties={}) <= TOLERANCE


def test_windows_through_encoder_and_decoder(tmp_path):
    assert write_onnx(classifiers(1, model=UNET), tmp_path / "other.onnx", properties={}) <= TOLERANCE
    (output,) = onnx.load(tmp_path / "other.onnx").graph.output
    assert [d.dim_value for d in output.type.tensor_type.shape.dim][1:] == [len(CLASSES), 16, 16]


def test_the_graph_describes_itself(exported):
    bundle, path = exported
    graph = onnx.load(path)
    assert [(part.domain, part.version) for part in graph.opset_import] == [("", OPSET)]
    (given,), (made,) = graph.graph.input, graph.graph.output
    shapes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim] for value in (given, made)
    }
    assert shapes == {"windows": ["n", len(CHANNELS), SIZE_PX, SIZE_PX], "probabilities": ["n", len(CLASSES)]}
    told = {part.key: part.value for part in graph.metadata_props}
    assert (json.loads(told["channels"]), json.loads(told["classes"])) == (CHANNELS, CLASSES)
    assert (told["unit"], told["size_px"], told["core_px"]) == ("patch", str(SIZE_PX), str(SIZE_PX))
    assert (told["bundle_digest"], told["data_digest"]) == (bundle.digest, bundle.card.data_digest)
    assert not any(node.metadata_props or node.doc_string for node in graph.graph.node)  # paths of this machine


def test_equal_weights_are_equal_bytes(exported, tmp_path):
    bundle, path = exported
    told = {part.key: part.value for part in onnx.load(path).metadata_props}
    calibration = bundle.card.calibration.ensemble
    assert (told["coverage"], told["least_probability"]) == ("0.9", "0.2")
    write_onnx(bundle.models, tmp_path / "again.onnx", properties=told, calibration=calibration)
    assert file_sha256(tmp_path / "again.onnx") == file_sha256(path)


def test_a_network_that_is_no_resnet(tmp_path):
    own = {"backbone": "shufflenet_v2_x0_5", **dict.fromkeys(("kernel_px", "stride_px", "pooling", "blocks"))}
    models = classifiers(1, model=RESNET.model_copy(update=own), size_px=32)
    assert write_onnx(models, tmp_path / "other.onnx", properties={}) <= TOLERANCE
    assert (tmp_path / "other.onnx").is_file()


def test_nothing_is_written_unless_it_agrees(exported, tmp_path, monkeypatch):
    bundle, path = exported
    with pytest.raises(
        OnnxError, match=r"onnxruntime differs from torch by 0\.\d+ \(at most 0.0001\); nothing is written"
    ):
        check(path.read_bytes(), classifiers(2, seed=5), bundle.card.calibration.ensemble)
    with pytest.raises(OnnxError, match="nothing is written"):
        check(path.read_bytes(), bundle.models)  # which are not calibrated
    monkeypatch.setattr(onnx_export, "_graph", lambda *_: onnx.load(path))
    with pytest.raises(OnnxError, match="nothing is written"):
        write_onnx(classifiers(2, seed=5), tmp_path / "x.onnx", properties={})
    monkeypatch.setattr(onnx_export, "MOST_BYTES", 1000)
    with pytest.raises(OnnxError, match=r"2 folds of \d+ MiB in all: an ONNX file holds at most 2 GiB"):
        write_onnx(bundle.models, tmp_path / "x.onnx", properties={})
    assert list(tmp_path.iterdir()) == leftovers(tmp_path) == []


def test_the_command_says_what_it_wrote(exported, tmp_path, monkeypatch, capsys):
    bundle, path = exported
    monkeypatch.setattr(onnx_export, "_graph", lambda *_: onnx.load(path))
    assert main(["onnx", "-m", str(bundle.folder), "-o", str(tmp_path / "a.onnx")]) == 0
    assert f"MiB, opset {OPSET}, differs from torch by at most" in capsys.readouterr().out
    assert main(["onnx", "-m", str(tmp_path / "nothing"), "-o", str(tmp_path / "a.onnx")]) == 1
    assert "nothing: no such folder" in capsys.readouterr().err
