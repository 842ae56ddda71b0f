"""The ensemble of a model's folds as one ONNX graph, for runtimes without Python or without torch.

The graph takes normalized windows and gives what `landfold.network.model.Classifier.probabilities` gives: indices and
the scaling by a scene's statistics come before it and are not in it. The features of pixels by their surroundings,
which all folds share, softmax, the mean over the folds and its calibration are.
"""

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from landfold.core.errors import LandfoldError
from landfold.core.files import writing
from landfold.network.model import Classifier
from landfold.pixels.calibration import CLIP, Calibration, scale
from landfold.pixels.surroundings import surroundings

OPSET = 20
"""Version of ONNX's operators; onnxruntime runs it since 1.17."""

TOLERANCE = 1e-4
"""Largest difference to torch in a probability: rounding gives some 1e-7, of pixels 1e-6, a wrong operator far more."""

BATCHES = (1, 2, 7)
"""Numbers of windows that are compared: a graph with a constant number of windows fails."""

MOST_BYTES = 2**31 - 2**20
"""Of the weights: a file of ONNX is one message of protocol buffers, which ends at 2 GiB."""


class OnnxError(LandfoldError):
    """A model that cannot be exported to ONNX, or whose graph differs from torch."""


class Ensemble(nn.Module):
    """The calibrated mean of the class probabilities of the folds' networks, of windows or pixels of their cores."""

    def __init__(self, models: Sequence[Classifier], calibration: Calibration | None) -> None:
        """Take classifiers in the order of the folds, and what their mean is scaled by."""
        super().__init__()
        self.calibration = calibration
        self.networks = nn.ModuleList([model.network for model in models])
        self.card = models[0].card

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """(n, channel, size, size) float32 in [0, 1] to (n, class), or (n, class, core, core), float32."""
        mean = torch.stack([torch.softmax(scores, dim=1) for scores in self._scores(windows)]).mean(dim=0)
        if self.calibration is None:
            return mean
        temperature, uniform, unscaled = self.calibration.scaling
        logits = mean.clamp(min=CLIP).log()
        mixed = (1 - unscaled) * torch.softmax(logits / temperature, dim=1) + unscaled * torch.softmax(logits, dim=1)
        return (1 - uniform) * mixed + uniform / len(self.card.classes)

    def _scores(self, windows: torch.Tensor) -> list[torch.Tensor]:
        """Class scores by each network."""
        kind, core, margin = self.card.model.kind, self.card.core_px, self.card.margin_px
        if self.card.model.by_features:
            features = surroundings(windows, self.card.model.boxes_px)
            return [network.scores(features) for network in self.networks]
        scores = [network(windows) for network in self.networks]
        if kind == "segmentation":
            return [found[..., margin : margin + core, margin : margin + core] for found in scores]
        return scores


def write_onnx(
    models: Sequence[Classifier],
    target: Path,
    *,
    properties: Mapping[str, str],
    calibration: Calibration | None = None,
) -> float:
    """Write the ensemble of ``models`` as ONNX: input ``windows``, output ``probabilities``, any number of windows.

    Equal weights give equal bytes on one machine. Nothing is written unless onnxruntime agrees with torch.

    Args:
        models: classifiers of the folds, on the CPU.
        target: the file.
        properties: text by name, kept in the graph's metadata.
        calibration: what the mean of the probabilities is scaled by; None: it is not.

    Returns:
        The largest difference to torch.

    Raises:
        OnnxError: if the network has no counterpart in ONNX, is too large, or onnxruntime disagrees.
    """
    size = sum(tensor.nbytes for model in models for tensor in model.network.state_dict().values())
    if size > MOST_BYTES:
        raise OnnxError(f"{len(models)} folds of {size / 2**20:.0f} MiB in all: an ONNX file holds at most 2 GiB")
    graph = _graph(models, calibration)
    _describe(graph, properties)
    content = graph.SerializeToString(deterministic=True)
    difference = check(content, models, calibration)
    with writing(target) as temporary:
        temporary.write_bytes(content)
    return difference


def _graph(models: Sequence[Classifier], calibration: Calibration | None) -> onnx.ModelProto:
    card = models[0].card
    example = torch.rand(2, len(card.channels), card.size_px, card.size_px, generator=torch.Generator().manual_seed(0))
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore")  # of torch about itself
            program = torch.onnx.export(
                Ensemble(models, calibration).eval(),
                (example,),
                dynamo=True,
                dynamic_shapes={"windows": {0: torch.export.Dim.DYNAMIC}},
                input_names=["windows"],
                output_names=["probabilities"],
                opset_version=OPSET,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise OnnxError(
            f"{card.model.backbone or card.model.kind}: torch cannot export it to ONNX: {str(error).splitlines()[0]}"
        ) from None
    finally:
        logger.setLevel(level)
    return program.model_proto


def _describe(graph: onnx.ModelProto, properties: Mapping[str, str]) -> None:
    """Names for people instead of torch's notes, which hold paths of this machine."""
    for part in (graph.graph, *graph.graph.node, *graph.graph.input, *graph.graph.output, *graph.graph.initializer):
        part.ClearField("metadata_props")
    for part in graph.graph.value_info:
        part.ClearField("metadata_props")
    for value in (*graph.graph.input, *graph.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    graph.graph.name = "landfold"
    onnx.helper.set_model_props(graph, dict(sorted(properties.items())))
    onnx.checker.check_model(graph)


def check(content: bytes, models: Sequence[Classifier], calibration: Calibration | None = None) -> float:
    """The largest difference between onnxruntime and torch on random windows, a third of which has no data.

    Raises:
        OnnxError: if it is above TOLERANCE.
    """
    session = runtime(content)
    card, random = models[0].card, np.random.default_rng(0)
    worst = 0.0
    for batch in BATCHES:
        windows = random.random((batch, len(card.channels), card.size_px, card.size_px), dtype=np.float32)
        windows[:, :, : card.size_px // 3] = 0
        expected = np.mean([model.probabilities(windows) for model in models], axis=0)
        if calibration is not None:
            by_class = np.moveaxis(expected, 1, -1)
            expected = np.moveaxis(scale(by_class, *calibration.scaling), -1, 1)
        (result,) = session.run(["probabilities"], {"windows": windows})
        if result.shape != expected.shape:
            raise OnnxError(f"onnxruntime gives shape {result.shape}, torch {expected.shape}; nothing is written")
        worst = max(worst, float(np.abs(result - expected).max()))
    if not worst <= TOLERANCE:
        raise OnnxError(f"onnxruntime differs from torch by {worst:.2g} (at most {TOLERANCE:g}); nothing is written")
    return worst


def runtime(content: bytes) -> onnxruntime.InferenceSession:
    """A session of onnxruntime on all cores of the CPU."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
