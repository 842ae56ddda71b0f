"""torchvision's classifiers with a first convolution for any channels and a last layer for any classes."""

from typing import NamedTuple

import torch
from torch import nn

from landfold.network.errors import ModelError


class InputOutputLayers(NamedTuple):
    """Names of the two layers of a network that depend on its channels and its classes."""

    stem: str
    """the first convolution"""
    head: str
    """the last linear layer"""


def find_layers(network: nn.Module, name: str) -> InputOutputLayers:
    """The first convolution and the last linear layer of a network of torchvision.

    Raises:
        ModelError: it lacks one of them, or has auxiliary outputs.
    """
    if hasattr(network, "aux_logits"):
        raise ModelError(f"model.backbone: {name} has auxiliary outputs, which Landfold does not support")
    layers = dict(network.named_modules())
    stems = [layer for layer, module in layers.items() if isinstance(module, nn.Conv2d) and module.in_channels == 3]
    heads = [layer for layer, module in layers.items() if isinstance(module, nn.Linear) and module.out_features == 1000]
    if not stems or not heads:
        lacking = "linear layer at its end" if stems else "convolution of 3 channels at its start"
        raise ModelError(f"model.backbone: {name} has no {lacking}, which Landfold could adapt")
    return InputOutputLayers(stems[0], heads[-1])


def replace_input_conv(
    network: nn.Module, stem: str, channels: int, *, kernel_px: int | None, stride_px: int | None
) -> None:
    """Replace the first convolution by a newly initialized one for ``channels``.

    The initialization for rectified units (He et al. 2015, arXiv:1502.01852) does not depend on the number of
    channels. Kernel and stride are torchvision's where None.
    """
    rgb = network.get_submodule(stem)
    conv = nn.Conv2d(
        channels,
        rgb.out_channels,
        kernel_px or rgb.kernel_size,
        stride_px or rgb.stride,
        kernel_px // 2 if kernel_px else rgb.padding,
        bias=rgb.bias is not None,
    )
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    network.set_submodule(stem, conv)


def truncate_stages(network: nn.Module, *, pooling: bool, blocks: int) -> int:
    """Keep the first ``blocks`` groups of a ResNet, and its pooling or not; returns the number of features."""
    if not pooling:
        network.maxpool = nn.Identity()
    for group in range(blocks + 1, 5):
        setattr(network, f"layer{group}", nn.Identity())
    return network.fc.in_features >> (4 - blocks)  # each group doubles them


def replace_head(network: nn.Module, head: str, features: int, classes: int, dropout: float) -> None:
    """Replace the last layer by dropout and one output for each class, and remove a dropout just before it."""
    network.set_submodule(head, nn.Sequential(nn.Dropout(dropout), nn.Linear(features, classes)))
    parent, _, position = head.rpartition(".")
    if position.isdigit() and int(position) > 0:
        siblings = network.get_submodule(parent)
        if isinstance(siblings[int(position) - 1], nn.Dropout):
            siblings[int(position) - 1] = nn.Identity()


def check_window(network: nn.Module, name: str, channels: int, size_px: int) -> None:
    """Refuse a network that cannot take windows of ``size_px``, by passing one of zeros through it.

    Raises:
        ModelError: with torch's own reason.
    """
    device = next(network.parameters()).device
    training = network.training
    try:
        with torch.inference_mode():
            network.eval()(torch.zeros(1, channels, size_px, size_px, device=device))
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"model.backbone: {name} cannot take windows of {size_px} px ({reason}); set patches.size_px to what it "
            "takes (torchvision's classifiers were made for 224) or model.backbone to resnet18, which takes any"
        ) from None
    finally:
        network.train(training)
