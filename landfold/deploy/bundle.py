"""The model folder: all that is needed to map a scene on another machine, as data without code.

A folder holds ``model.json`` (`BundleCard`), ``fold_I.safetensors`` for the network of each fold, and, if an area of
applicability was made, ``applicability.safetensors``, the training patches in feature space. README.md is for people.
Names of files follow from the number of folds and are never read from a file. What is read is checked against limits
before memory is taken for it, so that a folder from a stranger may be refused but cannot run code.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save as arrays_as_bytes
from safetensors.torch import load_file
from scipy.spatial import cKDTree
from torch.overrides import TorchFunctionMode

from landfold.core.digests import file_sha256
from landfold.core.files import write_json
from landfold.core.settings import validate
from landfold.deploy.bundlecard import (
    CARD,
    FORMAT,
    MAX_CHANNELS,
    BundleCard,
    BundleError,
    bundle_digest,
    limited_file,
    read_card,
)
from landfold.maps.applicability import MOST_PATCHES, Applicability
from landfold.maps.pixels import predict_cores
from landfold.network.card import ModelCard
from landfold.network.model import Classifier, build
from landfold.patches.features import feature_names
from landfold.scenes.indices import compute
from landfold.scenes.normalize import ChannelStatistics, SceneStatistics, float_percentiles

README, AREA = "README.md", "applicability.safetensors"

MAX_WEIGHTS_BYTES = 8 * 2**30
"""Of one fold; torchvision's largest classifier has 2.6 GB."""


@dataclass(frozen=True)
class Bundle:
    """A loaded model folder.

    Attributes:
        folder: where it lies.
        card: its card.
        models: the networks of all folds.
        area: the area of applicability of their ensemble; None where the folder has none.
        digest: see `bundle_digest`.
    """

    folder: Path
    card: BundleCard
    models: list[Classifier]
    area: Applicability | None
    digest: str

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> "Bundle":
        """Read a model folder; data only, never code.

        Raises:
            BundleError: a file is missing, too large, or not what the card says; or see `read_card`.
        """
        card = read_card(folder)
        files = [folder / f"fold_{fold}.safetensors" for fold in range(len(card.weights))]
        models = []
        for fold, path in enumerate(files):
            _check_digest(path, card.weights[fold])
            models.append(_classifier(card.of_fold(fold), path, device))
        area = None
        if card.applicability:
            _check_digest(folder / AREA, card.applicability)
            area = _read_area(folder / AREA, card)
        # The card holds the digests of all other files, which were just checked.
        return cls(folder, card, models, area, bundle_digest(folder))

    @property
    def classes(self) -> list[str]:
        """Class names, in the order of the outputs."""
        return self.card.classes

    def probabilities(self, windows: np.ndarray, batch: int = 256) -> np.ndarray:
        """Mean over the folds' networks, scaled as the card says.

        Args:
            windows: (n, channel, size_px, size_px) float32 in [0, 1], 0 where there is no data.
            batch: windows that go through a network of patches at once.

        Returns:
            (n, class) float32, or (n, class, core_px, core_px) for a model of pixels.

        Raises:
            ModelError: if the windows have another shape than the card says.
        """
        if self.card.unit == "pixel":
            found = predict_cores(self.models, windows)
        else:
            found = np.stack([model.probabilities(windows, batch) for model in self.models]).mean(axis=0)
        return np.moveaxis(self.scaled(np.moveaxis(found, 1, -1)), -1, 1)

    def scaled(self, mean: np.ndarray) -> np.ndarray:
        """Mean probabilities of the networks, (..., class), scaled as the card says: (..., class) float32."""
        calibration = self.card.calibration
        return calibration.scale(np.ascontiguousarray(mean)).astype(np.float32) if calibration else mean

    def statistics_of(self, reflectance: Mapping[str, np.ndarray]) -> SceneStatistics:
        """Statistics of a whole scene in memory: bands of (y, x) reflectance, NaN where not valid.

        Files are read with `landfold.scenes.normalize.scene_statistics` instead, which is exact to the last digit of
        integers; here percentiles are those of the float32 reflectance.
        """
        settings, channels = self.card.normalize, {}
        for name, values in self._channels(reflectance).items():
            wanted = (settings.low_percentile, settings.high_percentile)
            (low, high), count = float_percentiles(lambda values=values: [values], wanted)
            if count < settings.min_valid_px:
                raise BundleError(
                    f"scene: channel {name} has {count} valid pixels, the model asks for {settings.min_valid_px} to "
                    "take a scene's statistics from; give a larger part of the scene, or its statistics"
                )
            channels[name] = ChannelStatistics(low, high, count)
        return SceneStatistics("scene", settings.low_percentile, settings.high_percentile, channels)

    def channels_of(self, reflectance: Mapping[str, np.ndarray], statistics: SceneStatistics) -> np.ndarray:
        """The network's input: bands of (..., y, x) reflectance, NaN where not valid -> (channel, ..., y, x).

        Raises:
            BundleError: a band is missing.
            StatisticsError: the statistics are of other channels.
        """
        return statistics.apply(self._channels(reflectance))

    def _channels(self, reflectance: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        missing = [band for band in self.card.bands if band not in reflectance]
        if missing:
            raise BundleError(
                f"no band {', '.join(missing)}; the model needs {', '.join(self.card.bands)}, found "
                f"{', '.join(reflectance) or 'none'}"
            )
        bands = {name: np.asarray(reflectance[name], dtype=np.float32) for name in self.card.bands}
        return bands | {name: compute(name, bands) for name in self.card.indices}


def write_bundle(
    folder: Path,
    card: Mapping[str, Any],
    weights: Sequence[Path],
    area: Applicability | None,
) -> BundleCard:
    """Write a model folder without its README.md into an existing empty folder; equal content is equal bytes.

    Args:
        folder: the empty folder.
        card: the fields of `BundleCard` except ``format`` and the digests of files.
        weights: the model.safetensors of each fold, in order.
        area: the area of applicability, if there is one.

    Raises:
        SettingsError: the card is not one.
    """
    for fold, path in enumerate(weights):
        shutil.copyfile(path, folder / f"fold_{fold}.safetensors")
    if area:
        (folder / AREA).write_bytes(_area_as_bytes(area))
    content = {
        **card,
        "format": FORMAT,
        "weights": [file_sha256(folder / f"fold_{fold}.safetensors") for fold in range(len(weights))],
        "applicability": file_sha256(folder / AREA) if area else None,
    }
    written = validate(content, BundleCard, where=CARD)
    write_json(folder / CARD, written.model_dump(mode="json"))
    return written


def _check_digest(path: Path, expected: str) -> None:
    if file_sha256(limited_file(path, MAX_WEIGHTS_BYTES)) != expected:
        raise BundleError(f"{path}: changed since {CARD} beside it was written; fetch the model folder again")


class _Unallocated(TorchFunctionMode):
    """Layers made in the block have shapes and take no memory; torch.device("meta") is too much for RegNet."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call, with what layers make their tensors of on the device without memory."""
        made = func in (torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn)
        return func(*args, **(kwargs or {}) | ({"device": "meta"} if made else {}))


def _classifier(card: ModelCard, path: Path, device: str) -> Classifier:
    """The network of a fold; shapes are compared before memory is taken for any."""
    with _Unallocated():
        expected = build(card.model, card.channels, len(card.classes)).state_dict()
    _check_shapes(path, {name: tuple(tensor.shape) for name, tensor in expected.items()})
    network = build(card.model, card.channels, len(card.classes))
    try:
        network.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        raise BundleError(f"{path}: does not belong to {CARD} beside it: {error}") from None
    broken = next((name for name, tensor in network.state_dict().items() if not tensor.isfinite().all()), None)
    if broken:
        raise BundleError(f"{path}: {broken} has numbers that are not finite and predicts nothing; train again")
    return Classifier(network, card, device)


def _check_shapes(path: Path, expected: Mapping[str, tuple[int, ...]]) -> None:
    try:
        with safe_open(path, "numpy") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no dict
    except SafetensorError as error:
        raise BundleError(f"{path}: no safetensors file ({error}); fetch the model folder again") from None
    wrong = sorted(name for name in {*shapes, *expected} if shapes.get(name) != expected.get(name))
    if wrong:
        name = wrong[0]
        raise BundleError(
            f"{path}: does not belong to {CARD} beside it: tensor {name[:100]} is {shapes.get(name, 'absent')}, "
            f"expected {expected.get(name, 'none')}"
        )


def _area_as_bytes(area: Applicability) -> bytes:
    arrays = {
        "used": np.asarray(area.used, dtype=np.int64),
        "weights": np.asarray(area.weights, dtype=np.float64),
        "centre": np.asarray(area.centre, dtype=np.float64),
        "factor": np.asarray(area.factor, dtype=np.float64),
        "training": np.asarray(area.training, dtype=np.float32),
        "points": np.asarray(area.ensemble.data, dtype=np.float32),  # which they were before the tree
        "scalars": np.array([area.mean_distance, area.threshold], dtype=np.float64),
    }
    return arrays_as_bytes(arrays)


def _read_area(path: Path, card: BundleCard) -> Applicability:
    """The area of applicability of the ensemble: that of single folds is not kept."""
    limited_file(path, 4 * MOST_PATCHES * 2 * MAX_CHANNELS + 2**20)
    try:
        arrays = load_arrays(path)
    except (SafetensorError, TypeError, KeyError) as error:  # the latter of types that NumPy has not, such as bfloat16
        raise BundleError(f"{path}: no safetensors file of arrays ({error}); fetch the model folder again") from None
    names = feature_names(card.channels)
    used, points = arrays.get("used", np.empty(0)), arrays.get("points", np.empty(0))
    count = len(used) if used.ndim == 1 else 0
    shapes = dict.fromkeys(("used", "weights", "centre", "factor"), (count,)) | {"scalars": (2,)}
    shapes |= {"points": (len(points), count)}
    fits = (
        count > 0
        and len(points) >= 2
        and all(name in arrays and arrays[name].shape == shape for name, shape in shapes.items())
        and arrays.get("training", np.empty((0, 0))).ndim == 1
        and np.issubdtype(used.dtype, np.integer)
        and used.min() >= 0
        and used.max() < len(names)
        and all(np.isfinite(values).all() for values in arrays.values())
        and (arrays["scalars"] > 0).all()
    )
    if not fits:
        raise BundleError(f"{path}: does not belong to {CARD} beside it; fetch the model folder again")
    mean_distance, threshold = (float(value) for value in arrays["scalars"])
    return Applicability(
        names=[names[i] for i in used],
        used=used,
        weights=arrays["weights"],
        centre=arrays["centre"],
        factor=arrays["factor"],
        patches=len(points),
        mean_distance=mean_distance,
        training=arrays["training"],
        threshold=threshold,
        folds=[],
        ensemble=cKDTree(points),
        size_px=card.patch_px,
    )
