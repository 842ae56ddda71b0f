import json
import pickle
import re
from typing import Any

import numpy as np
import pytest
import torch
import torchvision

from landfold.core.errors import LandfoldError
from landfold.network.card import ModelCard
from landfold.network.errors import ModelError
from landfold.network.model import Classifier, build, pick_device, single_threaded
from landfold.network.settings import ModelSettings

torch.set_num_threads(1)

SETTINGS: dict[str, Any] = {
    "kind": "classifier",
    **dict.fromkeys(("boxes_px", "bins", "hidden", "noise", "decoder", "depth", "window_px")),
    "backbone": "resnet18",
    "weights": "none",
    "partial_weights": False,
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

NO_RESNET = dict.fromkeys(TORCHVISION)
"""What settings of ResNets are for other backbones."""


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


def test_the_seed_makes_the_same_default_network_as_ever():
    """torchvision's own, then the first convolution, then the last layer; another order would move every score."""
    torch.manual_seed(0)
    network = build(make_settings(), ["R", "G"], 3, size_px=16)
    torch.manual_seed(0)
    first = torchvision.models.resnet18(weights=None)
    assert all(torch.equal(t, first.layer1.state_dict()[name]) for name, t in network.layer1.state_dict().items())
    conv = torch.nn.Conv2d(2, 64, 3, bias=False)
    torch.nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    assert torch.equal(network.conv1.weight, conv.weight)
    assert torch.equal(network.fc[1].weight, torch.nn.Linear(64, 3).weight)


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
    whole = classifier.probabilities(windows)
    assert (whole.shape, whole.dtype) == ((11, 3), np.float32)
    assert np.abs(whole.sum(axis=1) - 1).max() < 1e-6
    for batch in (1, 2, 5, 11):
        assert np.abs(classifier.probabilities(windows, batch=batch) - whole).max() < 1e-5
    assert classifier.probabilities(windows[:0]).shape == (0, 3)


@pytest.mark.parametrize("shape", [(4, 2, 16, 16), (4, 3, 16, 17), (4, 3, 8, 8), (3, 16, 16)])
def test_refuses_windows_of_another_shape(shape):
    with pytest.raises(ModelError, match=rf"shape {re.escape(str(shape))}; the model expects \(n, 3, 16, 16\)"):
        make_classifier().probabilities(np.zeros(shape, dtype=np.float32))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"stride_px": 1, "pooling": False, "blocks": 2},
        TORCHVISION,
        {"backbone": "resnet34", "blocks": 2},
        {"backbone": "resnet50", "blocks": 2},
        {"backbone": "mobilenet_v3_small", **NO_RESNET},
        {"backbone": "shufflenet_v2_x0_5", **NO_RESNET, "dropout": 0.5},
    ],
)
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
    with pytest.raises(ModelError, match=r"machine.device or --device is cuda, but torch finds no GPU here"):
        pick_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert (pick_device("auto"), pick_device("cpu"), pick_device("cuda")) == ("cuda", "cpu", "cuda")


def test_the_last_to_leave_restores_the_number_of_threads():
    """Requests to a server overlap: the first may leave before the second."""
    torch.set_num_threads(2)
    try:
        first, second = single_threaded(), single_threaded()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert torch.get_num_threads() == 1
        second.__exit__(None, None, None)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
