from typing import Any

import pytest

from landfold.core.settings import SettingsError, validate
from landfold.network.settings import MachineSettings, ModelSettings, TrainSettings
from tests.network.test_model import NO_RESNET
from tests.network.test_model import SETTINGS as MODEL
from tests.network.tiny import SETTINGS, SURROUNDINGS


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"warmup_epochs": 1}, "one-cycle warms up by itself: set train.warmup_epochs to 0"),
        ({"schedule": "cosine", "warmup_epochs": 2}, r"train.warmup_epochs must be below train.epochs \(2\)"),
        ({"average": "last", "early_stopping": 1}, "train.average: last cannot be combined with train.early_stopping"),
        ({"average": "last", "average_epochs": 3}, r"train.average_epochs must be at most train.epochs \(2\)"),
        ({"devices": 0}, "train.devices"),
    ],
)
def test_settings_of_a_training_that_do_not_agree_are_refused(changes: dict[str, Any], message):
    with pytest.raises(SettingsError, match=message):
        validate(SETTINGS | changes, TrainSettings, where="params.yaml: train")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": "imagenet"}, "ImageNet weights have kernels of 7 px: set model.kernel_px to 7"),
        ({"backbone": "ResNet-18"}, r"model: .*torchvision has no classifier 'ResNet-18' \(did you mean 'resnet18'"),
        ({"backbone": "xyzzy"}, "no classifier 'xyzzy'; resnet18, resnet34 and resnet50 are three"),
        ({"backbone": "fcn_resnet50"}, "no classifier 'fcn_resnet50'"),
        ({"backbone": "r3d_18"}, "no classifier 'r3d_18'"),
        ({"backbone": "quantized_resnet18"}, "no classifier 'quantized_resnet18'"),
        ({"backbone": None}, "kind: classifier needs backbone; it is null"),
        ({"stem": None}, "kind: classifier needs stem; it is null"),
        ({"bins": 4}, "kind: classifier has no use for bins; set it to null"),
        ({"window_px": 64}, "kind: classifier has no use for window_px; set it to null"),
        ({"blocks": None}, "backbone: resnet18 needs blocks; it is null"),
        ({"backbone": "vgg11", **NO_RESNET, "kernel_px": 3}, "vgg11 has no use for kernel_px; set it to null"),
        ({"backbone": "vgg11", **NO_RESNET, "pooling": False}, "vgg11 has no use for pooling; set it to null"),
    ],
)
def test_settings_of_a_network_that_do_not_agree_are_refused(changes, message):
    with pytest.raises(SettingsError, match=message):
        validate(MODEL | changes, ModelSettings, where="params.yaml: model")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden": None}, "kind: surroundings needs hidden; it is null"),
        ({"backbone": "resnet18"}, "kind: surroundings has no use for backbone; set it to null"),
        ({"blocks": 3}, "kind: surroundings has no use for blocks; set it to null"),
        ({"boxes_px": [3, 8]}, r"boxes_px: expected odd sides in rising order, such as \[3, 7, 15\], found \[3, 8\]"),
        ({"boxes_px": [7, 3]}, r"boxes_px: expected odd sides in rising order, .*found \[7, 3\]"),
        ({"boxes_px": [3, 3]}, r"boxes_px: expected odd sides in rising order, .*found \[3, 3\]"),
        ({"boxes_px": [1, 3]}, r"boxes_px.0: found 1: .*greater than or equal to 3"),
    ],
)
def test_settings_of_a_network_of_surroundings_that_do_not_agree_are_refused(changes, message):
    with pytest.raises(SettingsError, match=message):
        validate(SURROUNDINGS | changes, ModelSettings, where="params.yaml: model")


@pytest.mark.parametrize(("changes", "message"), [({"device": "tpu"}, "'auto'"), ({"cache_gb": -1}, "equal to 0")])
def test_settings_of_the_machine_are_checked(changes, message):
    with pytest.raises(SettingsError, match=rf"params.yaml: machine.{next(iter(changes))}: .*{message}"):
        validate({"device": "auto", "cache_gb": 4} | changes, MachineSettings, where="params.yaml: machine")
