import json
import os
import pickle
import re
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file

from landfold.errors import LandfoldError
from landfold.model import Classifier, ModelCard, ModelError, ModelSettings, build, inflate, pick_device
from landfold.settings import SettingsError, validate

torch.set_num_threads(1)

SETTINGS: dict[str, Any] = {
    "backbone": "resnet18",
    "weights": "none",
    "stem": "averaged",
    "kernel_px": 3,
    "stride_px": 2,
    "pooling": True,
    "blocks": 1,
    "dropout": 0.0,
}
"""The smallest network."""

TORCHVISION = {"kernel_px": 7, "stride_px": 2, "pooling": True, "blocks": 4}
"""The network as torchvision has it."""


def make_settings(**changes) -> ModelSettings:
    return ModelSettings.model_validate(SETTINGS | changes)


def make_card(**changes) -> ModelCard:
    card = {
        "model": make_settings(),
        "channels": ["R", "G", "N"],
        "bands": ["R", "G", "N"],
        "indices": [],
        "classes": ["water", "field", "wood"],
        "size_px": 16,
        "core_px": 8,
        "resolution_m": 10,
        "k": 2,
        "fold": 0,
        "fold_digest": "f" * 64,
        "patches_digest": "p" * 64,
        "statistics_digest": "s" * 64,
        "train": {"seed": 0},
    }
    return ModelCard.model_validate(card | changes)


def make_classifier(seed: int = 0, **changes) -> Classifier:
    """An untrained classifier whose normalization statistics are not those of a fresh network."""
    card = make_card(**changes)
    torch.manual_seed(seed)
    network = build(card.model, card.channels, len(card.classes))
    randomize_statistics(network)
    return Classifier(network, card)


def randomize_statistics(network: torch.nn.Module) -> None:
    for name, tensor in network.state_dict().items():
        if name.endswith("running_mean"):
            tensor.uniform_(-0.1, 0.1)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)


def random_windows(count: int, channels: int = 3, size_px: int = 16) -> np.ndarray:
    return np.random.default_rng(5).random((count, channels, size_px, size_px), dtype=np.float32)


@pytest.fixture(scope="module")
def rgb() -> torch.nn.Module:
    """A network for R, G and B as torchvision makes it, with weights of its own."""
    torch.manual_seed(1)
    network = torchvision.models.resnet18(weights=None)
    randomize_statistics(network)
    return network.eval().to(memory_format=torch.channels_last)


@pytest.fixture
def checkpoint(rgb, tmp_path):
    path = tmp_path / "rgb.safetensors"
    save_file(plain(rgb.state_dict()), path)
    return path


def plain(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.contiguous() for name, tensor in state.items()}


def features(network: torch.nn.Module, windows: torch.Tensor) -> torch.Tensor:
    """What reaches the last layer."""
    seen = []
    hook = network.avgpool.register_forward_hook(lambda module, given, output: seen.append(output))
    with torch.inference_mode():
        network.eval()(windows.contiguous(memory_format=torch.channels_last))
    hook.remove()
    return seen[0]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_by_name_on_r_g_b_is_the_rgb_network_itself(rgb, tmp_path, suffix):
    path = tmp_path / f"rgb{suffix}"
    (torch.save if suffix == ".pth" else save_file)(plain(rgb.state_dict()), path)
    network = build(make_settings(weights=str(path), stem="by_name", **TORCHVISION), ["R", "G", "B"], 4)
    windows = torch.from_numpy(random_windows(3, size_px=64))
    expected = features(rgb, windows)
    assert (expected > 0).any()
    assert torch.equal(features(network, windows), expected)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 13])
def test_averaged_sees_grey_as_the_rgb_network_does(rgb, checkpoint, count):
    network = build(make_settings(weights=str(checkpoint), **TORCHVISION), [f"C{i}" for i in range(count)], 4)
    grey = torch.from_numpy(random_windows(2, channels=1, size_px=32))
    with torch.inference_mode():
        expected = rgb.conv1(grey.expand(-1, 3, -1, -1))
        assert torch.allclose(network.conv1(grey.expand(-1, count, -1, -1)), expected, atol=1e-5)


def test_averaged_has_one_kernel_for_all_and_by_name_those_of_the_names(rgb):
    kernels = rgb.conv1.weight.detach()
    names = ["N", "B", "R", "NDVI", "G"]
    named = inflate(kernels, names, by_name=True) * 5 / 3
    for position, source in {1: 2, 2: 0, 4: 1}.items():
        assert torch.allclose(named[:, position], kernels[:, source])
    for position in (0, 3):
        assert torch.allclose(named[:, position], kernels.mean(dim=1))
    averaged = inflate(kernels, names, by_name=False)
    assert torch.allclose(averaged, (kernels.mean(dim=1) * 3 / 5)[:, None].expand_as(averaged))


def test_by_name_follows_names_not_positions(checkpoint):
    settings = make_settings(weights=str(checkpoint), stem="by_name", **TORCHVISION)
    names, order = ["R", "N", "B", "G"], [2, 0, 3, 1]
    windows = torch.from_numpy(random_windows(2, channels=4, size_px=32))
    straight = features(build(settings, names, 4), windows)
    shuffled = features(build(settings, [names[i] for i in order], 4), windows[:, order])
    assert torch.allclose(straight, shuffled, atol=1e-4)
    assert not torch.allclose(straight, features(build(settings, names, 4), windows[:, order]), atol=1e-2)


def test_a_checkpoint_of_another_head_or_without_batch_counters_fits(rgb, tmp_path):
    state = {name: t for name, t in plain(rgb.state_dict()).items() if not name.endswith("num_batches_tracked")}
    save_file(state | {"fc.weight": torch.zeros(7, 512)}, tmp_path / "old.safetensors")
    settings = make_settings(weights=str(tmp_path / "old.safetensors"), stem="by_name", **TORCHVISION)
    network = build(settings, ["R", "G", "B"], 4)
    assert torch.equal(network.layer4[1].bn2.running_var, rgb.layer4[1].bn2.running_var)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("bn1.weight"), r"missing \['bn1.weight'\], unexpected none, of another shape none"),
        (lambda state: state.update(more=torch.zeros(1)), r"missing none, unexpected \['more'\], of another"),
        (lambda state: state.update({"conv1.weight": torch.zeros(64, 4, 7, 7)}), r"another shape \['conv1.weight'\]"),
    ],
)
def test_refuses_a_checkpoint_that_does_not_fit(rgb, tmp_path, change, message):
    state = plain(rgb.state_dict())
    change(state)
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match=rf"other.safetensors does not fit resnet18: .*{message}"):
        build(make_settings(weights=str(tmp_path / "other.safetensors"), **TORCHVISION), ["R"], 2)


def test_refuses_a_checkpoint_that_is_absent(tmp_path):
    settings = make_settings(weights=str(tmp_path / "absent.pth"), **TORCHVISION)
    with pytest.raises(ModelError, match=r"absent.pth: no such file; expected none, imagenet or the path"):
        build(settings, ["R"], 2)


class Intruder:
    """Code that a pickle would run."""

    def __reduce__(self):
        return os.system, ("echo intruder >> intruder",)


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("a.pth", lambda path: path.write_bytes(b"<html>not found</html>"), "not a checkpoint of weights alone"),
        ("a.pth", lambda path: path.write_bytes(b""), "not a checkpoint of weights alone"),
        ("a.pth", lambda path: torch.save({"conv1.weight": Intruder()}, path), "not a checkpoint of weights alone"),
        ("a.safetensors", lambda path: path.write_bytes(b"PK\x03\x04 a zip"), "not a checkpoint of weights alone"),
        ("a.pth", lambda path: torch.save({"state_dict": {"a": torch.zeros(1)}}, path), "expected a state dict"),
        ("a.pth", lambda path: torch.save(torch.zeros(3), path), "expected a state dict"),
    ],
)
def test_refuses_a_file_that_is_no_checkpoint(tmp_path, monkeypatch, name, write, message):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / name)
    with pytest.raises(ModelError, match=rf"{name}: {message}"):
        build(make_settings(weights=str(tmp_path / name), **TORCHVISION), ["R"], 2)
    assert not (tmp_path / "intruder").exists()


def test_imagenet_without_network_is_refused_in_one_sentence(monkeypatch, tmp_path):
    def offline(url, **options):
        raise URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = tmp_path / "hub/checkpoints/resnet18-f37072fd.pth"
    with pytest.raises(
        ModelError, match=rf"cannot be reached .*; put that file at {re.escape(str(file))}, or"
    ) as caught:
        build(make_settings(weights="imagenet", **TORCHVISION), ["R", "G", "B"], 2)
    assert "\n" not in str(caught.value)


def test_imagenet_uses_the_file_where_the_refusal_wants_it(monkeypatch, tmp_path, rgb):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *a, **b: pytest.fail("it has the file"))
    file = tmp_path / "hub/checkpoints/resnet18-f37072fd.pth"
    file.parent.mkdir(parents=True)
    torch.save(rgb.state_dict(), file)
    network = build(make_settings(weights="imagenet", stem="by_name", **TORCHVISION), ["R", "G", "B"], 2)
    assert torch.equal(network.conv1.weight, rgb.conv1.weight)


def test_pretrained_weights_need_their_kernels():
    with pytest.raises(SettingsError, match=r"pretrained weights have kernels of 7 px: set model.kernel_px to 7"):
        validate(SETTINGS | {"weights": "imagenet", "kernel_px": 3}, ModelSettings, where="params.yaml: model")


@pytest.mark.parametrize(
    ("changes", "stem", "last"),
    [
        ({}, (8, 4), (64, 4)),
        ({"kernel_px": 7}, (8, 4), (64, 4)),
        ({"stride_px": 1}, (16, 8), (64, 8)),
        ({"pooling": False}, (8, 8), (64, 8)),
        ({"stride_px": 1, "pooling": False}, (16, 16), (64, 16)),
        ({"stride_px": 1, "blocks": 2}, (16, 8), (128, 4)),
        ({"stride_px": 1, "blocks": 3}, (16, 8), (256, 2)),
        ({"stride_px": 1, "blocks": 4}, (16, 8), (512, 1)),
    ],
)
def test_every_setting_of_the_shape_does_what_it_says(changes, stem, last):
    network = build(make_settings(**changes), ["R", "G"], 3)
    seen = {}
    for name in ("conv1", "maxpool", "layer4"):
        getattr(network, name).register_forward_hook(lambda m, given, out, name=name: seen.update({name: out.shape}))
    assert network.eval()(torch.zeros(2, 2, 16, 16)).shape == (2, 3)
    assert (seen["conv1"][2], seen["maxpool"][2]) == stem
    assert (seen["layer4"][1], seen["layer4"][2]) == last
    assert network.conv1.weight.shape[1:] == (2, changes.get("kernel_px", 3), changes.get("kernel_px", 3))


def test_dropout_drops_features_while_training_only():
    torch.manual_seed(0)
    network = build(make_settings(dropout=0.5), ["R"], 3)
    windows = torch.from_numpy(random_windows(4, channels=1))
    with torch.inference_mode():
        network.train()
        assert not torch.equal(network(windows), network(windows))
        network.eval()
        assert torch.equal(network(windows), network(windows))


def test_probabilities_sum_to_one_whatever_the_batch():
    classifier = make_classifier()
    windows = random_windows(11)
    found = classifier.probabilities(windows)
    assert (found.shape, found.dtype) == ((11, 3), np.float32)
    assert np.abs(found.sum(axis=1) - 1).max() < 1e-6
    for batch in (1, 2, 5, 11):
        assert np.abs(classifier.probabilities(windows, batch=batch) - found).max() < 1e-5
    assert classifier.probabilities(windows[:0]).shape == (0, 3)


@pytest.mark.parametrize("shape", [(4, 2, 16, 16), (4, 3, 16, 17), (4, 3, 8, 8), (3, 16, 16)])
def test_refuses_windows_of_another_shape(shape):
    with pytest.raises(ModelError, match=rf"shape {re.escape(str(shape))}; the model expects \(n, 3, 16, 16\)"):
        make_classifier().probabilities(np.zeros(shape, dtype=np.float32))


@pytest.mark.parametrize("changes", [{}, {"stride_px": 1, "pooling": False, "blocks": 2}, TORCHVISION])
def test_a_saved_classifier_comes_back_to_the_bit(tmp_path, changes):
    classifier = make_classifier(model=make_settings(**changes))
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    classifier.save(first)
    again = Classifier.load(first)
    assert again.card == classifier.card
    windows = random_windows(5)
    assert np.array_equal(again.probabilities(windows), classifier.probabilities(windows))
    again.save(second)
    for name in ("model.safetensors", "model.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    assert sorted(path.name for path in first.iterdir()) == ["model.json", "model.safetensors"]


def test_a_classifier_from_pretrained_weights_loads_without_them(tmp_path, checkpoint):
    card = make_card(model=make_settings(weights=str(checkpoint), **TORCHVISION))
    classifier = Classifier(build(card.model, card.channels, 3), card)
    classifier.save(tmp_path)
    checkpoint.unlink()
    windows = random_windows(2)
    assert np.array_equal(Classifier.load(tmp_path).probabilities(windows), classifier.probabilities(windows))


def test_loading_unpickles_nothing(tmp_path, monkeypatch):
    make_classifier().save(tmp_path)
    for module, name in ((torch, "load"), (pickle, "load"), (pickle, "loads"), (pickle, "Unpickler")):
        monkeypatch.setattr(module, name, lambda *a, **b: pytest.fail("unpickled"))
    assert Classifier.load(tmp_path).card.channels == ["R", "G", "N"]


def test_refuses_a_pickle_in_the_place_of_weights(tmp_path):
    classifier = make_classifier()
    classifier.save(tmp_path)
    torch.save(classifier.network.state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"model.safetensors: does not belong to model.json beside it"):
        Classifier.load(tmp_path)


def test_refuses_weights_of_another_card(tmp_path):
    make_classifier(channels=["R", "G", "N", "S1"]).save(tmp_path)
    content = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(content | {"channels": ["R", "G"]}))
    with pytest.raises(ModelError, match=r"(?s)model.safetensors: does not belong to model.json.*conv1.weight"):
        Classifier.load(tmp_path)


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_refuses_a_folder_that_lacks_a_file(tmp_path, name):
    make_classifier().save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(
        ModelError, match=rf"{name}: not found; expected a folder with model.safetensors and model.json"
    ):
        Classifier.load(tmp_path)


def test_refuses_a_card_that_lacks_something(tmp_path):
    make_classifier().save(tmp_path)
    content = json.loads((tmp_path / "model.json").read_text())
    del content["channels"]
    (tmp_path / "model.json").write_text(json.dumps(content))
    with pytest.raises(LandfoldError, match=r"model.json.channels: missing; add it \(names of the input channels"):
        Classifier.load(tmp_path)


def test_the_device_is_a_gpu_only_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert (pick_device("auto"), pick_device("cpu")) == ("cpu", "cpu")
    with pytest.raises(ModelError, match=r"train.device is cuda, but torch finds no GPU here"):
        pick_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert (pick_device("auto"), pick_device("cpu"), pick_device("cuda")) == ("cuda", "cpu", "cuda")
