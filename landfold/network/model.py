"""The network for any number of bands, and the trained network as a folder of weights and a card."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

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
from landfold.network.surroundings import SurroundingsNetwork
from landfold.pixels.surroundings import feature_count, surroundings

ROWS_AT_ONCE = {"cpu": 1024, "cuda": 2**18}
"""Pixels that go through a network at once: what fits the caches of a processor."""

WINDOWS_AT_ONCE = 16
"""Windows of a network of kind segmentation that go through it at once."""


def pick_device(wanted: str) -> str:
    """The device, ``cpu`` or ``cuda``, for ``auto``, ``cpu`` or ``cuda``.

    Raises:
        ModelError: a GPU is required and there is none.
    """
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise ModelError("machine.device or --device is cuda, but torch finds no GPU here; set it to auto or cpu")
    return "cuda" if available and wanted != "cpu" else "cpu"


REPRODUCIBLE = "cpu AVX2"
"""What `arithmetic` says where results are the same bytes on all machines."""


def arithmetic(device: str) -> str:
    """What computes on a device, and decides the last digits: ``cpu AVX2``, or the name of a GPU."""
    if device != "cpu":
        return torch.cuda.get_device_name(device)
    return f"cpu {torch.backends.cpu.get_cpu_capability()}"


def build(settings: ModelSettings, channels: list[str], classes: int, *, size_px: int | None = None) -> nn.Module:
    """The network with a first convolution for the named channels and one output for each class.

    Args:
        settings: the network and its initial weights.
        channels: names of the input's channels, in order.
        classes: number of outputs.
        size_px: side of the windows, to refuse a network that cannot take them; None: not checked.

    Raises:
        ModelError: the network cannot be adapted, or pretrained weights are not there or do not fit.
    """
    if settings.kind == "surroundings":
        return SurroundingsNetwork(
            feature_count(len(channels), settings.boxes_px),
            classes,
            bins=settings.bins,
            hidden=settings.hidden,
            dropout=settings.dropout,
            noise=settings.noise,
        )
    if settings.kind == "classical":
        from landfold.network.classical import ClassicalNetwork  # scikit-learn takes a second to import

        return ClassicalNetwork(feature_count(len(channels), settings.boxes_px), classes)
    if settings.kind == "segmentation":
        from landfold.network.segmentation import build_segmentation  # its library takes a second to import

        return build_segmentation(settings, channels, classes)
    return _build_classifier(settings, channels, classes, size_px)


def _build_classifier(settings: ModelSettings, channels: list[str], classes: int, size_px: int | None) -> nn.Module:
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
    """A trained network with its card: normalized windows in, class probabilities of each, or of their pixels, out."""

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
            (n, class) float32, or (n, class, core_px, core_px) for a network of pixels: of those of the core. They add
            up to 1 over the classes.

        Raises:
            ModelError: the windows have another shape than in the card.
        """
        self.check(windows)
        if self.card.model.of_pixels:
            return np.stack([self._of_pixels(window) for window in windows]) if len(windows) else self._none()
        probabilities = [np.empty((0, len(self.card.classes)), dtype=np.float32)]
        with torch.inference_mode():
            for start in range(0, len(windows), batch):
                # channels last in one copy, also where the windows are views that overlap
                part = np.array(windows[start : start + batch].transpose(0, 2, 3, 1), dtype=np.float32, order="C")
                logits = self.network(torch.from_numpy(part).to(self.device).permute(0, 3, 1, 2))
                probabilities.append(torch.softmax(logits.float(), dim=1).cpu().numpy())
        return np.concatenate(probabilities)

    def check(self, windows: np.ndarray) -> None:
        """Refuse windows of another shape than in the card.

        Raises:
            ModelError: with both shapes.
        """
        expected = (len(self.card.channels), self.card.size_px, self.card.size_px)
        if windows.ndim != 4 or windows.shape[1:] != expected:
            raise ModelError(
                f"windows of shape {windows.shape}; the model expects (n, {', '.join(map(str, expected))})"
            )

    def _of_pixels(self, window: np.ndarray) -> np.ndarray:
        """(class, core_px, core_px) of a window."""
        core = self.card.core_px
        rows = pixel_probabilities([self], window, np.ones((core, core), dtype=bool))[0]
        return rows.T.reshape(-1, core, core)

    def _none(self) -> np.ndarray:
        return np.empty((0, len(self.card.classes), self.card.core_px, self.card.core_px), dtype=np.float32)


def pixel_probabilities(
    models: Sequence[Classifier], values: np.ndarray, chosen: np.ndarray, *, flips_and_rotations: bool = False
) -> np.ndarray:
    """Class probabilities of some pixels of a part of a scene by several networks of pixels.

    A pixel's are the same bits whatever part it is in, if the parts of a network of windows (kind segmentation) begin
    at multiples of ``core_px``.

    Args:
        models: with equal channels, classes, ``size_px`` and ``core_px``.
        values: (channel, y, x) float32 in [0, 1], 0 where there is no data, with a margin of ``card.margin_px``.
        chosen: (y, x) bool without the margin, the pixels to predict.
        flips_and_rotations: whether to average over the eight flips and rotations (D4) of each window; a network of
            surroundings gives the same for all of them.

    Returns:
        (model, pixel, class) float32.
    """
    card, device = models[0].card, models[0].device
    window = torch.from_numpy(np.ascontiguousarray(np.moveaxis(values, 0, -1))).to(device)[None].permute(0, 3, 1, 2)
    picked = torch.from_numpy(chosen).to(device)
    with torch.inference_mode():
        if card.model.kind == "segmentation":
            views = range(8) if flips_and_rotations else range(1)
            whole = [_of_windows(model, window, chosen, views) for model in models]
            return np.stack([part[:, picked].T.cpu().numpy() for part in whole])
        shared: dict[tuple[int, ...], torch.Tensor] = {}
        for boxes in {tuple(model.card.model.boxes_px) for model in models}:
            shared[boxes] = surroundings(window, boxes)[0].permute(1, 2, 0)[picked]
        return np.stack([_of_rows(model, shared[tuple(model.card.model.boxes_px)]).cpu().numpy() for model in models])


_THREADS: list[int] = []
"""What those who are in `single_threaded` have found, in the order in which they came."""

_THREADS_LOCK = Lock()


@contextmanager
def single_threaded() -> Iterator[None]:
    """One thread for each operation of torch in the block, for callers that predict parts side by side.

    A server has several callers at once: the last to leave restores what the first has found.
    """
    with _THREADS_LOCK:
        _THREADS.append(torch.get_num_threads())
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _THREADS_LOCK:
            first = _THREADS[0]
            _THREADS.pop()
            if not _THREADS:
                torch.set_num_threads(first)


def row_probabilities(model: Classifier, features: np.ndarray) -> np.ndarray:
    """Class probabilities of pixels by their features (kind surroundings), (pixel, feature) to (pixel, class)."""
    with torch.inference_mode():
        return _of_rows(model, torch.from_numpy(features).to(model.device)).cpu().numpy()


def _of_rows(model: Classifier, features: torch.Tensor) -> torch.Tensor:
    """Class probabilities of pixels by their features, (pixel, class); equal bits in any order of the pixels."""
    size = ROWS_AT_ONCE[features.device.type]
    scores = features.new_empty((len(features), len(model.card.classes)))
    for start in range(0, len(features), size):
        part = features[start : start + size]
        padded = nn.functional.pad(part, (0, 0, 0, size - len(part)))
        scores[start : start + size] = model.network(padded)[: len(part)]
    return torch.softmax(scores, dim=1)


def _of_windows(model: Classifier, values: torch.Tensor, chosen: np.ndarray, views: Sequence[int]) -> torch.Tensor:
    """Class probabilities of all pixels of a part, (class, y, x): those of each core from the window around it.

    Cores without a chosen pixel are not predicted. Windows go through the network by `WINDOWS_AT_ONCE`.
    """
    size, core, margin = model.card.size_px, model.card.core_px, model.card.margin_px
    height, width = chosen.shape
    values = nn.functional.pad(values, (0, -width % core, 0, -height % core))
    windows = values[0].unfold(1, size, core).unfold(2, size, core)  # (channel, row, column, y, x)
    found = values.new_zeros((len(model.card.classes), windows.shape[1] * core, windows.shape[2] * core))
    places = [
        (row, column)
        for row in range(windows.shape[1])
        for column in range(windows.shape[2])
        if chosen[row * core : (row + 1) * core, column * core : (column + 1) * core].any()
    ]
    for start in range(0, len(places), WINDOWS_AT_ONCE):
        part = places[start : start + WINDOWS_AT_ONCE]
        batch = torch.stack([windows[:, row, column] for row, column in part])
        batch = nn.functional.pad(batch, (0, 0, 0, 0, 0, 0, 0, WINDOWS_AT_ONCE - len(part)))
        mean = sum(_turned_and_back(model.network, batch, view) for view in views) / len(views)
        cores = mean[: len(part), :, margin : margin + core, margin : margin + core]
        for (row, column), window in zip(part, cores, strict=True):
            found[:, row * core : (row + 1) * core, column * core : (column + 1) * core] = window
    return found[:, :height, :width]


def _turned_and_back(network: nn.Module, windows: torch.Tensor, view: int) -> torch.Tensor:
    """Class probabilities of windows that the network sees in a flip and rotation, as they lie: (n, class, y, x)."""
    shown = torch.rot90(windows.flip(-1) if view >= 4 else windows, view % 4, dims=(-2, -1))
    scores = network(shown.contiguous(memory_format=torch.channels_last))
    back = torch.rot90(torch.softmax(scores.float(), dim=1), -(view % 4), dims=(-2, -1))
    return back.flip(-1) if view >= 4 else back
