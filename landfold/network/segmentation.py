"""Networks that give each pixel of a window a class: an encoder and a decoder of segmentation-models-pytorch."""

import copy
from collections.abc import Collection, Mapping

import segmentation_models_pytorch as smp
import timm
import torch
from torch import nn

from landfold.core.errors import did_you_mean
from landfold.network import weights
from landfold.network.backbones import InputOutputLayers
from landfold.network.errors import ModelError
from landfold.network.settings import TIMM, ModelSettings

WIDTHS = (256, 128, 64, 32, 16)
"""Features of the decoder at 1/16, 1/8, 1/4, 1/2 and all of the resolution, the library's own; a shallower network
lacks the first of them."""

ATROUS = 16
"""Deeplabv3plus: the encoder's last features are at no less than 1/16 of the resolution."""

HEAD = "segmentation_head"
"""The layers of a network that depend on its classes."""

CLASSIFIER_HEADS = ("fc.", "classifier.", "head.", "last_linear.")
"""What the layers are called that a classifier has and its encoder lacks."""


def build_segmentation(settings: ModelSettings, channels: list[str], classes: int) -> nn.Module:
    """The network for windows (n, channel, window_px, window_px) that gives (n, class, window_px, window_px) scores.

    Layers of the encoder that its depth leaves unused are taken out. Random kernels of the first convolution do not
    depend on the number of channels (He et al. 2015, arXiv:1502.01852); pretrained ones reach it by ``model.stem``.

    Args:
        settings: of kind segmentation.
        channels: names of the input's channels, in order.
        classes: number of outputs.

    Raises:
        ModelError: the encoder is unknown, does not fit the decoder or the window, or its weights are not there or do
            not fit.
    """
    network = _assemble(settings, len(channels), classes)
    complete = set(network.encoder.state_dict())
    _remove_unused(network, _used(network, settings, len(channels), classes))
    network.segmentation_head.insert(0, nn.Dropout2d(settings.dropout))
    stem = _stem(network.encoder, len(channels))
    if stem is not None:
        conv = network.encoder.get_submodule(stem)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)
    if settings.weights != "none":
        if stem is None:
            raise ModelError(
                f"model.backbone: {settings.backbone} has no convolution of its channels at its start, to which "
                "weights could be fitted; set model.weights to none"
            )
        _load(network, settings, channels, stem, complete)
    return network.to(memory_format=torch.channels_last)


def _assemble(settings: ModelSettings, channels: int, classes: int) -> nn.Module:
    """The library's own network, with random weights and no dropout."""
    depth = settings.depth
    make, options = {
        "unet": (smp.Unet, {"decoder_channels": WIDTHS[-depth:]}),
        "unetplusplus": (smp.UnetPlusPlus, {"decoder_channels": WIDTHS[-depth:]}),
        "manet": (smp.MAnet, {"decoder_channels": WIDTHS[-depth:]}),
        "linknet": (smp.Linknet, {}),
        "fpn": (smp.FPN, {"decoder_dropout": 0.0, "upsampling": 2 ** (depth - 3)}),
        "deeplabv3plus": (smp.DeepLabV3Plus, {"decoder_aspp_dropout": 0.0, "encoder_output_stride": ATROUS}),
    }[settings.decoder]
    timm_name = settings.backbone.removeprefix(TIMM)
    if settings.backbone.startswith(TIMM) and not timm.is_model(timm_name.partition(".")[0]):
        hint = did_you_mean(timm_name, timm.list_models())
        raise ModelError(f"model.backbone: timm has no network '{timm_name}'{hint}; its own names follow {TIMM}")
    try:
        return make(
            settings.backbone,
            encoder_depth=depth,
            encoder_weights=None,
            in_channels=channels,
            classes=classes,
            **options,
        )
    except (ValueError, RuntimeError, AssertionError, TypeError, NotImplementedError, KeyError, IndexError) as error:
        raise _refusal(settings, "cannot be built", error) from None


def _used(network: nn.Module, settings: ModelSettings, channels: int, classes: int) -> set[str]:
    """Names of the parameters that the scores of a window depend on, found on a copy that has shapes but no memory.

    Raises:
        ModelError: the network cannot take windows of the size, or gives scores for others.
    """
    size, shapes = settings.window_px, copy.deepcopy(network).eval().to("meta")
    try:
        scores = shapes(torch.zeros(1, channels, size, size, device="meta"))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise _refusal(settings, f"cannot take windows of {size} px", error) from None
    if scores.shape != (1, classes, size, size):
        raise _refusal(settings, f"gives {tuple(scores.shape[2:])} px for windows of {size} px", ValueError("depth"))
    named = dict(shapes.named_parameters())
    gradients = torch.autograd.grad(scores.sum(), list(named.values()), allow_unused=True)
    return {name for name, gradient in zip(named, gradients, strict=True) if gradient is not None}


def _refusal(settings: ModelSettings, what: str, error: Exception) -> ModelError:
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return ModelError(
        f"model.backbone: {settings.backbone} with model.decoder {settings.decoder} and depth {settings.depth} {what} "
        f"({reason}); resnet18 with unet takes any"
    )


def _remove_unused(network: nn.Module, used: Collection[str]) -> None:
    """Replace layers that have parameters, but none that is used, by ones that do nothing."""
    removed: list[str] = []
    for name, layer in list(network.named_modules())[1:]:
        own = [f"{name}.{parameter}" for parameter, _ in layer.named_parameters()]
        if own and not any(parameter in used for parameter in own) and not name.startswith(tuple(removed)):
            network.set_submodule(name, _Unused())
            removed.append(f"{name}.")


class _Unused(nn.Module):
    """A layer whose output is not used, for encoders that compute all of it."""

    def forward(self, values: torch.Tensor, *_: object) -> torch.Tensor:
        """The values as they are."""
        return values


def _stem(encoder: nn.Module, channels: int) -> str | None:
    """The name of the first convolution, None if it does not see the channels themselves."""
    convolutions = ((name, layer) for name, layer in encoder.named_modules() if isinstance(layer, nn.Conv2d))
    name, first = next(convolutions)
    return name if first.in_channels == channels else None


def _load(
    network: nn.Module, settings: ModelSettings, channels: list[str], stem: str, complete: Collection[str]
) -> None:
    """Load weights of the encoder, or of a whole network of this kind but its head."""
    if settings.weights == "imagenet":
        pretrained = weights.Pretrained(_imagenet(settings), weights.RGB, "ImageNet weights")
    else:
        pretrained = weights.read_weights(settings.weights, settings.backbone)
    target, layers = network.encoder, InputOutputLayers(stem, HEAD)
    if any(name.startswith("encoder.") for name in pretrained.state):
        target, layers = network, InputOutputLayers(f"encoder.{stem}", HEAD)
        complete = {f"encoder.{name}" for name in complete}
    else:
        pretrained = pretrained._replace(state=_renamed(pretrained.state, target.state_dict()))
    heads = {name for name in pretrained.state if name.startswith(CLASSIFIER_HEADS)}
    weights.load_pretrained(
        target,
        pretrained,
        channels,
        layers,
        by_name=settings.stem == "by_name",
        partial=settings.partial_weights,
        unused={*complete, *heads},
    )


def _renamed(state: Mapping[str, torch.Tensor], wanted: Collection[str]) -> dict[str, torch.Tensor]:
    """Layers by timm's own names as its encoders here have them: ``stages.0`` as ``model.stages_0``."""
    own = {name.removeprefix("model.").replace("_", "."): name for name in wanted if name.startswith("model.")}
    return {own.get(name.replace("_", "."), name): tensor for name, tensor in state.items()}


def _imagenet(settings: ModelSettings) -> dict[str, torch.Tensor]:
    """The encoder's ImageNet weights, from the cache of huggingface_hub or downloaded into it."""
    is_timm = settings.backbone.startswith(TIMM)
    try:
        encoder = smp.encoders.get_encoder(
            settings.backbone, depth=settings.depth, weights=True if is_timm else "imagenet"
        )
    except (KeyError, RuntimeError) as error:
        raise ModelError(
            f"model.weights: there are no ImageNet weights of {settings.backbone} ({error}); set it to none or to a "
            "checkpoint"
        ) from None
    except (OSError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"model.weights: imagenet: the weights of {settings.backbone} are not in $HF_HOME (by default "
            f"~/.cache/huggingface) and cannot be fetched from huggingface.co ({reason}); copy that folder from a "
            "machine that has fetched them, or set model.weights to none or to a checkpoint"
        ) from None
    return encoder.state_dict()
