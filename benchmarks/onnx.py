"""The ensemble as ONNX beside torch: time for some windows on all cores, and the sizes of the files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from landfold.deploy.onnx_export import runtime, write_onnx
from landfold.maps.pixels import predict_cores
from landfold.network.model import Classifier

FOLDS = 5


def compared(
    folder: Path, network: Callable[[], tuple], windows: int
) -> tuple[Callable[[], object], Callable[[], object], str]:
    """What onnxruntime and torch do for so many windows, and both sizes in words."""
    folder.mkdir()
    models = [Classifier(*network()) for _ in range(FOLDS)]
    target = folder / "ensemble.onnx"
    write_onnx(models, target, properties={})
    for fold, model in enumerate(models):
        (folder / f"fold_{fold}").mkdir()
        model.save(folder / f"fold_{fold}")
    weights = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    sizes = f"{target.stat().st_size / 2**20:.1f} MiB of ONNX, {weights / 2**20:.1f} MiB of safetensors"
    card = models[0].card
    shape = (windows, len(card.channels), card.size_px, card.size_px)
    values = np.random.default_rng(0).random(shape, dtype=np.float32)
    session = runtime(target.read_bytes())

    def ours() -> object:
        return session.run(["probabilities"], {"windows": values})

    def reference() -> object:
        if card.model.of_pixels:
            return predict_cores(models, values)
        return np.mean([model.probabilities(values) for model in models], axis=0)

    ours(), reference()  # what is done once is not measured
    return ours, reference, sizes
