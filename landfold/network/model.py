"""The network for any number of bands, and the trained classifier as a folder of weights and a card."""

from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import nn
from torchvision.models import get_model

from landfold.core.files import read_json
from landfold.core.settings import validate
from landfold.network import backbones, weights
from landfold.network.card import ModelCard
from landfold.network.errors import ModelError
from landfold.network.settings import RESNETS, ModelSettings


def pick_device(wanted: str) -> str:
    """The device, ``cpu`` or ``cuda``, for ``auto``, ``cpu`` or ``cuda``.

    Raises:
        ModelError: a GPU is required and there is none.
    """
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise ModelError("machine.device or --device is cuda, but torch finds no GPU here; set it to auto or cpu")
    return "cuda" if available and wanted != "cpu" else "cpu"


def build(settings: ModelSettings, channels: list[str], classes: int, *, size_px: int | None = None) -> nn.Module:
    """The network with a first convolution for the named channels and one output for each class.

    Args:
        settings: the backbone and its initial weights.
        channels: names of the input's channels, in order.
        classes: number of outputs.
        size_px: side of the windows, to refuse a network that cannot take them; None: not checked.

    Raises:
        ModelError: the network cannot be adapted, or pretrained weights are not there or do not fit.
    """
    network = get_model(settings.backbone, weights=None)
    complete = set(network.state_dict())
    layers = backbones.find_layers(network, settings.backbone)
    features = network.get_submodule(layers.head).in_features
    backbones.replace_input_conv(
        network, layers.stem, len(channels), kernel_px=settings.kernel_px, stride_px=settings.stride_px
    )
    if settings.backbone in RESNETS:
        features = backbones.truncate_stages(network, pooling=settings.pooling, blocks=settings.blocks)
    backbones.replace_head(network, layers.head, features, classes, settings.dropout)
    if settings.weights != "none":
        weights.load_pretrained(
            network,
            weights.read_weights(settings.weights, settings.backbone),
            channels,
            layers,
            by_name=settings.stem == "by_name",
            partial=settings.partial_weights,
            unused=complete,
        )
    if size_px is not None:
        backbones.check_window(network, settings.backbone, len(channels), size_px)
    return network.to(memory_format=torch.channels_last)


class Classifier:
    """A trained network with its card: normalized windows in, class probabilities out."""

    def __init__(self, network: nn.Module, card: ModelCard, device: str = "cpu") -> None:
        """Take a network as `build` returns it."""
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
            ModelError: a file is absent, or weights and card do not belong together.
            SettingsError: the card is incomplete.
        """
        tensors, description = folder / "model.safetensors", folder / "model.json"
        for path in (tensors, description):
            if not path.is_file():
                raise ModelError(f"{path}: not found; expected a folder with model.safetensors and model.json")
        card = validate(read_json(description), ModelCard, where=str(description))
        plain = card.model.model_copy(update={"weights": "none"})
        network = build(plain, card.channels, len(card.classes))
        try:
            network.load_state_dict(load_file(tensors))
        except (SafetensorError, RuntimeError) as error:
            raise ModelError(f"{tensors}: does not belong to {description.name} beside it: {error}") from None
        return cls(network, card, device)

    def probabilities(self, windows: np.ndarray, batch: int = 256) -> np.ndarray:
        """Class probabilities of windows.

        Args:
            windows: (n, channel, size_px, size_px) float32 in [0, 1], 0 where nodata.
            batch: number of windows that go through the network at once.

        Returns:
            (n, class) float32; rows sum to 1.

        Raises:
            ModelError: the windows have another shape than in the card.
        """
        expected = (len(self.card.channels), self.card.size_px, self.card.size_px)
        if windows.ndim != 4 or windows.shape[1:] != expected:
            raise ModelError(
                f"windows of shape {windows.shape}; the model expects (n, {', '.join(map(str, expected))})"
            )
        probabilities = [np.empty((0, len(self.card.classes)), dtype=np.float32)]
        with torch.inference_mode():
            for start in range(0, len(windows), batch):
                # channels last in one copy, also where the windows are views that overlap
                part = np.array(windows[start : start + batch].transpose(0, 2, 3, 1), dtype=np.float32, order="C")
                logits = self.network(torch.from_numpy(part).to(self.device).permute(0, 3, 1, 2))
                probabilities.append(torch.softmax(logits.float(), dim=1).cpu().numpy())
        return np.concatenate(probabilities)
