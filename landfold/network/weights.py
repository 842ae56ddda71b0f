"""Weights to start from: torchvision's ImageNet weights or a checkpoint, fitted to any number of channels."""

import pickle
import re
import socket
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torchvision.models import get_model_weights

from landfold.core.digests import file_sha256
from landfold.core.errors import first_ten
from landfold.core.files import read_json
from landfold.network.backbones import InputOutputLayers
from landfold.network.errors import ModelError

RGB = ("R", "G", "B")
"""The order of the channels that torchvision's ImageNet weights were trained on."""

TIMEOUT_S = 10
"""A download is given up after so many seconds without an answer."""


class Pretrained(NamedTuple):
    """Weights of a network, and the channels that it takes."""

    state: dict[str, torch.Tensor]
    """tensors by torchvision's names"""
    channels: Sequence[str]
    """names of the channels of its first convolution"""
    source: str
    """its name in messages"""


def read_weights(weights: str, backbone: str) -> Pretrained:
    """Read the weights that ``imagenet`` or the path of a checkpoint names; loads data only, never code.

    Raises:
        ModelError: they are not there, cannot be downloaded, or are not weights alone.
    """
    if weights == "imagenet":
        file = _imagenet(backbone)
        return Pretrained(_read_state(file), RGB, "ImageNet weights")
    path = Path(weights)
    if not path.is_file():
        raise ModelError(f"model.weights: {path}: no such file; expected none, imagenet or the path of a checkpoint")
    return Pretrained(_read_state(path), _channels_beside(path), str(path))


def load_pretrained(
    network: nn.Module,
    pretrained: Pretrained,
    channels: Sequence[str],
    layers: InputOutputLayers,
    *,
    by_name: bool,
    partial: bool,
    unused: Collection[str],
) -> None:
    """Load weights into all layers of a network but its head.

    Args:
        network: with a first convolution for the named channels.
        pretrained: as `read` returns them.
        channels: names of the network's channels, in order.
        layers: the first convolution and the head.
        by_name: see `adapt_input_weights`.
        partial: layers that the weights lack stay as they are, and those that the network lacks are left out.
        unused: names that the weights may have though the network does not.

    Raises:
        ModelError: the weights are of another network.
    """
    head, stem = f"{layers.head}.", f"{layers.stem}.weight"
    counters = ".num_batches_tracked"  # older checkpoints, also torchvision's, lack them, and nothing uses them
    wanted = {name: tensor.shape for name, tensor in network.state_dict().items() if not name.startswith(head)}
    state = {name: tensor for name, tensor in pretrained.state.items() if not name.startswith(head)}
    if stem in state:
        state[stem] = _fit_stem(state[stem], pretrained, channels, wanted[stem], by_name=by_name)
    missing = [name for name in wanted if name not in state and not name.endswith(counters)]
    unexpected = [name for name in state if name not in wanted and name not in unused]
    shapes = [
        f"{name} {tuple(state[name].shape)} for {tuple(shape)}"
        for name, shape in wanted.items()
        if name in state and state[name].shape != shape
    ]
    nothing = len(missing) == sum(not name.endswith(counters) for name in wanted)
    if shapes or nothing or ((missing or unexpected) and not partial):
        raise ModelError(
            f"model.weights: {pretrained.source} does not fit model.backbone: missing {first_ten(missing) or 'none'}; "
            f"unexpected {first_ten(unexpected) or 'none'}; of another shape {first_ten(shapes) or 'none'}"
            + ("" if shapes or nothing else "; to use what fits, set model.partial_weights to true")
        )
    network.load_state_dict({name: tensor for name, tensor in state.items() if name in wanted}, strict=False)


def adapt_input_weights(
    kernels: torch.Tensor, channels: Sequence[str], source: Sequence[str] = RGB, *, by_name: bool
) -> torch.Tensor:
    """Kernels for other channels than those of the source, scaled so that activations keep their size.

    timm's ``adapt_input_conv`` (Wightman 2019) scales in the same way.

    Args:
        kernels: (out, S, y, x) for the channels of the source.
        channels: names of the C channels wanted.
        source: names of the S channels of the source.
        by_name: channels that the source has get their own kernel and the others the mean; else all get the mean.

    Returns:
        (out, C, y, x), scaled by S / C.
    """
    mean = kernels.mean(dim=1)
    own = {name: kernels[:, position] for position, name in enumerate(source)} if by_name else {}
    return torch.stack([own.get(name, mean) for name in channels], dim=1) * (len(source) / len(channels))


def _fit_stem(
    kernels: torch.Tensor, pretrained: Pretrained, channels: Sequence[str], wanted: torch.Size, *, by_name: bool
) -> torch.Tensor:
    if kernels.ndim != 4 or kernels.shape[1] != len(pretrained.channels):
        raise ModelError(
            f"model.weights: {pretrained.source}: its first convolution is {tuple(kernels.shape)}, expected "
            f"{len(pretrained.channels)} channels ({', '.join(pretrained.channels)}); name those it has in a file of "
            'the same name that ends in .json: {"channels": ["R", ...]}'
        )
    if kernels.shape[2:] != wanted[2:]:
        raise ModelError(
            f"model.weights: {pretrained.source}: its first convolution has kernels of {kernels.shape[-1]} px, "
            f"that of model has {wanted[-1]}; set model.kernel_px to {kernels.shape[-1]}"
        )
    return adapt_input_weights(kernels.float(), channels, pretrained.channels, by_name=by_name)


def _channels_beside(path: Path) -> Sequence[str]:
    """Channels that a JSON file beside a checkpoint lists, as model.json does beside Landfold's own; else RGB."""
    description = path.with_suffix(".json")
    if not description.is_file():
        return RGB
    try:
        content = read_json(description)
    except ValueError as error:
        raise ModelError(f"{description}: not valid JSON ({error}); correct it or move it") from None
    channels = content.get("channels", RGB) if isinstance(content, dict) else RGB
    if not channels or isinstance(channels, str) or not all(isinstance(name, str) for name in channels):
        raise ModelError(f'{description}: channels: found {channels!r}, expected names: ["R", "G", "B"]')
    return channels


def _imagenet(backbone: str) -> Path:
    """The file of torchvision's weights in torch's cache, downloaded if it is not there."""
    versions = get_model_weights(backbone).__members__
    if "IMAGENET1K_V1" not in versions:
        raise ModelError(f"model.weights: torchvision has no IMAGENET1K_V1 weights of {backbone}; set it to none")
    url = versions["IMAGENET1K_V1"].url
    name = url.rsplit("/", 1)[1]
    file = Path(torch.hub.get_dir()) / "checkpoints" / name
    expected = name.rpartition("-")[2].removesuffix(".pth")  # torchvision's names end in the start of the SHA-256
    if not file.is_file():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with _timeout(TIMEOUT_S):
                torch.hub.download_url_to_file(url, str(file), hash_prefix=expected, progress=False)
        except (OSError, HTTPException, RuntimeError) as error:  # urllib's URLError is an OSError
            raise ModelError(
                f"model.weights: imagenet: {file} is not there and {url} cannot be fetched ({error}); get {name} from "
                f"that address elsewhere and put it into {file.parent}, or set model.weights to none or to a checkpoint"
            ) from None
    start = file_sha256(file)[: len(expected)]
    if start != expected:
        raise ModelError(
            f"model.weights: {file} is incomplete or another file: its SHA-256 begins with {start}, expected "
            f"{expected}; delete it and run again, or put the file of {url} there"
        )
    return file


@contextmanager
def _timeout(seconds: float) -> Iterator[None]:
    """Limit the wait of new connections; torch's download has no such option."""
    earlier = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(earlier)


def _read_state(path: Path) -> dict[str, torch.Tensor]:
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelError(f"model.weights: {path}: not a checkpoint of weights alone ({reason})") from None
    if not isinstance(state, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        raise ModelError(f"model.weights: {path}: expected a state dict, names to tensors; save that part of it alone")
    # torchvision's files of DenseNets have older names of layers, with a dot that today's names lack
    return {re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", name): t for name, t in state.items()}
