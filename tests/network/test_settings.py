from typing import Any

import pytest

from landfold.core.settings import SettingsError, validate
from landfold.network.settings import MachineSettings, ModelSettings, TrainSettings
from tests.network.test_model import NO_RESNET
from tests.network.test_model import SETTINGS as MODEL
from tests.network.tiny import SETTINGS


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
        ({"backbone": "ResNet-18"}, r"model.backbone: found 'ResNet-18': .* no classifier of this name \(did you mean"),
        ({"backbone": "xyzzy"}, "no classifier of this name; resnet18, resnet34 and resnet50 are three"),
        ({"backbone": "fcn_resnet50"}, "no classifier of this name"),
        ({"backbone": "r3d_18"}, "no classifier of this name"),
        ({"backbone": "quantized_resnet18"}, "no classifier of this name"),
        ({"blocks": None}, "backbone: resnet18 needs blocks, which is null"),
        ({"backbone": "vgg11", **NO_RESNET, "kernel_px": 3}, "vgg11 has no use for kernel_px: set it to null"),
        ({"backbone": "vgg11", **NO_RESNET, "pooling": False}, "vgg11 has no use for pooling: set it to null"),
    ],
)
def test_settings_of_a_network_that_do_not_agree_are_refused(changes, message):
    with pytest.raises(SettingsError, match=message):
        validate(MODEL | changes, ModelSettings, where="params.yaml: model")


@pytest.mark.parametrize(("changes", "message"), [({"device": "tpu"}, "'auto'"), ({"cache_gb": -1}, "equal to 0")])
def test_settings_of_the_machine_are_checked(changes, message):
    with pytest.raises(SettingsError, match=rf"params.yaml: machine.{next(iter(changes))}: .*{message}"):
        validate({"device": "auto", "cache_gb": 4} | changes, MachineSettings, where="params.yaml: machine")
