"""A ResNet for any number of bands, and the trained classifier as a folder of weights and a card."""

import pickle
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
import torchvision
from pydantic import Field, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import nn

from landfold.errors import LandfoldError
from landfold.files import read_json, write_json
from landfold.settings import Settings, validate

RGB = ("R", "G", "B")
"""The order of the channels that torchvision's ImageNet weights were trained on."""


class ModelError(LandfoldError):
    """Weights that cannot be had or do not fit, or input that does not fit the model."""


class ModelSettings(Settings):
    """Section ``model`` of params.yaml."""

    backbone: Literal["resnet18"]
    """torchvision's name of the network"""
    weights: str = Field(min_length=1)
    """none: random; imagenet: torchvision's own; else the path of a checkpoint (.pth or .safetensors)"""
    stem: Literal["averaged", "by_name"]
    """how pretrained RGB kernels fill the first convolution: their mean in every channel, or R, G and B
    kernels at those bands and the mean elsewhere; both scaled by 3/C"""
    kernel_px: Literal[3, 7]
    """side of the first convolution's kernels; 7 is torchvision's, and what pretrained weights need"""
    stride_px: Literal[1, 2]
    """step of the first convolution; 2 is torchvision's, 1 keeps more detail for four times the work"""
    pooling: bool
    """halve the resolution after the first convolution, as torchvision does"""
    blocks: int = Field(ge=1, le=4)
    """groups of residual blocks; 4 is torchvision's, fewer suit small windows and few patches"""
    dropout: float = Field(ge=0, lt=1)
    """share of features dropped before the last layer while training"""

    @model_validator(mode="after")
    def _kernels_fit_weights(self) -> Self:
        if self.weights != "none" and self.kernel_px != 7:
            raise ValueError(
                "pretrained weights have kernels of 7 px: set model.kernel_px to 7 or model.weights to none"
            )
        return self


class ModelCard(Settings):
    """All that is needed to rebuild and to use a trained classifier; stored as model.json beside its weights."""

    model: ModelSettings
    """settings of the network"""
    channels: list[str]
    """names of the input channels, in order: bands, then indices"""
    bands: list[str]
    """standard names of the bands"""
    indices: list[str]
    """names of the spectral indices"""
    classes: list[str]
    """class names, in the order of the outputs"""
    size_px: int
    """side of the input window in pixels"""
    core_px: int
    """side of the core that the class speaks of"""
    resolution_m: float
    """pixel size in metres"""
    k: int
    """number of folds"""
    fold: int
    """the fold that was held out"""
    fold_digest: str
    """digest of the fold's lists of patches, from the folds' index.json"""
    patches_digest: str
    """digest of the table of patches"""
    statistics_digest: str
    """digest of the scene statistics that normalized its input"""
    train: dict[str, Any]
    """settings of the training"""

    def save(self, folder: Path) -> None:
        """Write model.json into an existing folder."""
        write_json(folder / "model.json", self.model_dump())


def pick_device(wanted: str) -> str:
    """The device for ``auto``, ``cpu`` or ``cuda``.

    Raises:
        ModelError: if a GPU is demanded and there is none.
    """
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise ModelError("train.device is cuda, but torch finds no GPU here; set it to auto or cpu")
    return "cuda" if available and wanted != "cpu" else "cpu"


def build(settings: ModelSettings, channels: list[str], classes: int) -> nn.Module:
    """The network with a first convolution for the named channels and one output a class.

    Raises:
        ModelError: if pretrained weights are asked for and cannot be had or do not fit.
    """
    network = torchvision.models.get_model(settings.backbone, weights=None)
    if settings.weights != "none":
        _load_pretrained(network, settings)
    network.conv1 = _stem(network.conv1, settings, channels)
    if not settings.pooling:
        network.maxpool = nn.Identity()
    features = getattr(network, f"layer{settings.blocks}")[-1].bn2.num_features
    for group in range(settings.blocks + 1, 5):
        setattr(network, f"layer{group}", nn.Identity())
    network.fc = nn.Sequential(nn.Dropout(settings.dropout), nn.Linear(features, classes))
    return network.to(memory_format=torch.channels_last)


def _stem(rgb: nn.Conv2d, settings: ModelSettings, channels: list[str]) -> nn.Conv2d:
    """The first convolution for C channels.

    Pretrained kernels are scaled by 3/C, so that activations keep their size (Wightman 2019, timm,
    has the same factor in ``adapt_input_conv``); without them the usual initialization is right for any C.
    """
    size = settings.kernel_px
    conv = nn.Conv2d(len(channels), rgb.out_channels, size, settings.stride_px, size // 2, bias=False)
    if settings.weights == "none":
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        return conv
    kernels = inflate(rgb.weight.detach(), channels, by_name=settings.stem == "by_name")
    with torch.no_grad():
        conv.weight.copy_(kernels)
    return conv


def inflate(rgb: torch.Tensor, channels: list[str], *, by_name: bool) -> torch.Tensor:
    """Kernels (out, 3, h, w) for R, G, B become (out, C, h, w) for the named channels, scaled by 3/C."""
    mean = rgb.mean(dim=1)
    picked = [rgb[:, RGB.index(name)] if by_name and name in RGB else mean for name in channels]
    return torch.stack(picked, dim=1) * (len(RGB) / len(channels))


def _load_pretrained(network: nn.Module, settings: ModelSettings) -> None:
    if settings.weights == "imagenet":
        state = _imagenet(settings.backbone)
        source = "ImageNet weights"
    else:
        path = Path(settings.weights)
        state = _checkpoint(path)
        source = str(path)
    state = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    wanted = {name: tensor.shape for name, tensor in network.state_dict().items() if not name.startswith("fc.")}
    # counters of batches seen, which older checkpoints (torchvision's own among them) do not have and nothing uses
    missing = sorted(name for name in set(wanted) - set(state) if not name.endswith(".num_batches_tracked"))
    unexpected = sorted(set(state) - set(wanted))
    shapes = [name for name in wanted if name in state and state[name].shape != wanted[name]]
    if missing or unexpected or shapes:
        raise ModelError(
            f"model.weights: {source} does not fit {settings.backbone}: "
            f"missing {missing or 'none'}, unexpected {unexpected or 'none'}, of another shape {shapes or 'none'}"
        )
    network.load_state_dict(state, strict=False)


def _imagenet(backbone: str) -> dict[str, torch.Tensor]:
    url = torchvision.models.get_model_weights(backbone)["IMAGENET1K_V1"].url
    cached = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    try:
        return torch.hub.load_state_dict_from_url(url, progress=False, weights_only=True, check_hash=True)
    except OSError as error:  # urllib's URLError is one
        raise ModelError(
            f"model.weights: imagenet: {url} cannot be reached ({error}); put that file at {cached}, "
            "or set model.weights to none or to the path of a checkpoint"
        ) from None


def _checkpoint(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise ModelError(f"model.weights: {path}: no such file; expected none, imagenet or the path of a checkpoint")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelError(f"model.weights: {path}: not a checkpoint of weights alone ({reason})") from None
    if not isinstance(state, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        raise ModelError(f"model.weights: {path}: expected a state dict, names to tensors; save that part of it alone")
    return state


class Classifier:
    """A trained network with its card: normalized windows in, class probabilities out."""

    def __init__(self, network: nn.Module, card: ModelCard, device: str = "cpu") -> None:
        """Take a network that `build` made."""
        self.network = network.to(device).eval()
        self.card = card
        self.device = device

    def save(self, folder: Path) -> None:
        """Write model.safetensors and model.json into an existing folder."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.network.state_dict().items()}
        (folder / "model.safetensors").write_bytes(serialize(tensors))  # safetensors' own file has mode 600
        self.card.save(folder)

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> "Classifier":
        """Rebuild a classifier from what `save` wrote; loads data only, never code.

        Raises:
            ModelError: if a file is absent or weights and card do not belong together.
            SettingsError: if the card lacks something.
        """
        weights, description = folder / "model.safetensors", folder / "model.json"
        for path in (weights, description):
            if not path.is_file():
                raise ModelError(f"{path}: not found; expected a folder with model.safetensors and model.json")
        card = validate(read_json(description), ModelCard, where=str(description))
        plain = card.model.model_copy(update={"weights": "none"})
        network = build(plain, card.channels, len(card.classes))
        try:
            network.load_state_dict(load_file(weights))
        except (SafetensorError, RuntimeError) as error:
            raise ModelError(f"{weights}: does not belong to {description.name} beside it: {error}") from None
        return cls(network, card, device)

    def probabilities(self, windows: np.ndarray, batch: int = 256) -> np.ndarray:
        """Class probabilities of windows.

        Args:
            windows: (n, channel, size_px, size_px) float32 in [0, 1], 0 where nodata.
            batch: windows that go through the network at once.

        Returns:
            (n, class) float32; rows sum to 1.

        Raises:
            ModelError: if the windows have another shape than the card says.
        """
        expected = (len(self.card.channels), self.card.size_px, self.card.size_px)
        if windows.ndim != 4 or windows.shape[1:] != expected:
            raise ModelError(
                f"windows of shape {windows.shape}; the model expects (n, {', '.join(map(str, expected))})"
            )
        found = [np.empty((0, len(self.card.classes)), dtype=np.float32)]
        with torch.inference_mode():
            for start in range(0, len(windows), batch):
                # channels last in one copy, also where the windows are views that overlap
                part = np.array(windows[start : start + batch].transpose(0, 2, 3, 1), dtype=np.float32, order="C")
                logits = self.network(torch.from_numpy(part).to(self.device).permute(0, 3, 1, 2))
                found.append(torch.softmax(logits.float(), dim=1).cpu().numpy())
        return np.concatenate(found)
