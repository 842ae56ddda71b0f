import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from landfold.network.backbones import find_layers
from landfold.network.errors import ModelError
from landfold.network.model import build
from landfold.network.settings import CLASSIFIERS, RESNETS
from tests.network.test_model import NO_RESNET, TORCHVISION, make_settings, random_windows

torch.set_num_threads(1)


def other(name: str, **changes):
    """Settings of a backbone that is no ResNet."""
    return make_settings(backbone=name, **NO_RESNET, **changes)


@pytest.mark.parametrize(
    ("name", "stem", "head"),
    [
        ("resnet34", "conv1", "fc"),
        ("resnet50", "conv1", "fc"),
        ("regnet_y_400mf", "stem.0", "fc"),
        ("densenet121", "features.conv0", "classifier"),
        ("efficientnet_b0", "features.0.0", "classifier.1"),
        ("convnext_tiny", "features.0.0", "classifier.2"),
        ("mobilenet_v3_small", "features.0.0", "classifier.3"),
        ("shufflenet_v2_x0_5", "conv1.0", "fc"),
    ],
)
def test_any_channels_go_in_and_any_classes_come_out(name, stem, head):
    settings = make_settings(backbone=name, **(TORCHVISION if name in RESNETS else NO_RESNET))
    network = build(settings, list("ABCDE"), 4, size_px=32)
    own = find_layers(torchvision.models.get_model(name, weights=None), name)
    assert own == (stem, head)
    first = network.get_submodule(stem)
    assert (first.in_channels, first.weight.shape[1]) == (5, 5)
    if first.bias is not None:
        assert not first.bias.any()
    windows = torch.from_numpy(random_windows(2, channels=5, size_px=32))
    outputs = network.train()(windows)
    assert outputs.shape == (2, 4)
    outputs.logsumexp(dim=1).sum().backward()
    assert (first.weight.grad.abs().amax(dim=(0, 2, 3)) > 0).all(), "every channel is looked at"


@pytest.mark.parametrize(("name", "channels"), [("resnet18", 256), ("resnet50", 1024), ("resnext50_32x4d", 1024)])
def test_blocks_are_cut_from_every_resnet(name, channels):
    network = build(make_settings(backbone=name, blocks=3), ["R"], 3)
    assert name in RESNETS
    assert network.fc[1].in_features == channels
    assert list(network.layer4.parameters()) == []
    assert network.eval()(torch.zeros(1, 1, 16, 16)).shape == (1, 3)


def test_dropout_is_that_of_the_settings_alone():
    network = build(other("mobilenet_v3_small", dropout=0.0), ["R"], 3)
    assert [m.p for m in network.modules() if isinstance(m, nn.Dropout)] == [0.0]
    network = build(other("mobilenet_v3_small", dropout=0.4), ["R"], 3)
    assert [m.p for m in network.modules() if isinstance(m, nn.Dropout)] == [0.4]


@pytest.mark.parametrize(
    ("name", "size_px", "message"),
    [
        ("densenet121", 16, r"densenet121 cannot take windows of 16 px \(.*size.*\); set patches.size_px"),
        ("vit_b_32", 32, r"vit_b_32 cannot take windows of 32 px \(Wrong image height! Expected 224 but got 32"),
    ],
)
def test_refuses_a_window_that_the_network_cannot_take(name, size_px, message):
    with pytest.raises(ModelError, match=message):
        build(other(name), ["R", "G"], 3, size_px=size_px)


def test_looking_at_the_window_changes_nothing():
    states = []
    for size_px in (None, 16):
        torch.manual_seed(0)
        network = build(make_settings(), ["R", "G"], 3, size_px=size_px)
        assert network.training
        states.append((network.state_dict(), torch.rand(1)))
    (one, after_one), (two, after_two) = states
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())
    assert torch.equal(after_one, after_two)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("squeezenet1_1", "squeezenet1_1 has no linear layer at its end"),
        ("googlenet", "googlenet has auxiliary outputs"),
    ],
)
@pytest.mark.filterwarnings("ignore:The default weight initialization of GoogleNet:FutureWarning")
def test_refuses_a_network_whose_layers_cannot_be_adapted(name, message):
    with pytest.raises(ModelError, match=message):
        build(other(name), ["R"], 3)


def test_every_classifier_of_torchvision_is_known_and_nothing_else():
    known = torchvision.models.list_models(module=torchvision.models)
    assert set(known) == CLASSIFIERS
    modules = {name: torchvision.models.get_model_builder(name).__module__ for name in known}
    assert {name for name, module in modules.items() if module == "torchvision.models.resnet"} == RESNETS


def test_random_stems_keep_the_size_of_activations_whatever_the_channels():
    spread = []
    for count in (3, 13):
        torch.manual_seed(0)
        network = build(make_settings(), [f"C{i}" for i in range(count)], 3)
        spread.append(network.conv1.weight.std().item())
    assert np.isclose(*spread, rtol=0.05)
