"""A trained classifier and its maps, for a notebook: the commands' work with plain arguments."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from landfold.console.progress import bar
from landfold.deploy.bundle import Bundle
from landfold.deploy.compatibility import PredictError
from landfold.deploy.predict import SceneOutcome, predict_scenes
from landfold.deploy.scenejob import PredictOptions
from landfold.network.model import pick_device


def load_classifier(folder: Path | str, *, device: str = "auto") -> Bundle:
    """The classifier in a model folder, such as models/landfold.

    Args:
        folder: a model folder; it is data, and no code of it is run.
        device: ``auto`` (a GPU if there is one), ``cpu`` or ``cuda``.

    Returns:
        ``classes`` and ``card`` describe it; ``probabilities`` takes windows, (n, channel, y, x), that
        ``channels_of`` has made of reflectance, and gives (n, class), or of a model of pixels (``card.unit``)
        (n, class, row, column), the pixels at their centres.

    Raises:
        BundleError: the folder is incomplete or not what its card says.
    """
    return Bundle.load(Path(folder), pick_device(device))


def predict(
    scenes: Path | str | Sequence[Path | str],
    model: Bundle | Path | str,
    folder: Path | str,
    *,
    stride_px: int | None = None,
    layers: Sequence[str] | None = None,
    crs: str | None = None,
    area: tuple[float, float, float, float] | None = None,
    band_order: Sequence[str | None] | None = None,
    other_pixels: bool = False,
    force: bool = False,
    device: str = "auto",
) -> list[SceneOutcome]:
    """Map scenes into a folder, as the command ``landfold predict`` does.

    Args:
        scenes: scenes or folders of scenes.
        model: what `load_classifier` gave, or a model folder.
        folder: where the maps go.
        stride_px: side of a map cell in pixels; None: the model's. A model of pixels has no cells.
        layers: of margin, entropy, set_size and probabilities, what is written beside class and confidence; None:
            the model's.
        crs: metric CRS to warp the scenes into; None: they keep theirs.
        area: (x_min, y_min, x_max, y_max) in the CRS of the map: only this ground is read.
        band_order: names of the bands of files that do not tell them, in their order, None for one to leave out.
        other_pixels: takes bands of other pixel sizes than trained on.
        force: makes maps anew that are there already.
        device: ``auto``, ``cpu`` or ``cuda``.

    Returns:
        For each scene its name, whether it was mapped now or earlier, and the record of its map.

    Raises:
        PredictError: scenes that could not be mapped, with the reasons, after all others were; or a stride for a model
            of pixels.
    """
    changes: dict[str, Any] = {} if stride_px is None else {"stride_px": stride_px}
    if layers is not None:
        changes["layers"] = list(layers)
    asked = PredictOptions(
        crs=crs,
        area=area,
        band_order=None if band_order is None else list(band_order),
        export=changes,
        other_pixels=other_pixels,
        force=force,
    )
    paths = [Path(scene) for scene in ([scenes] if isinstance(scenes, Path | str) else scenes)]
    trained = model if isinstance(model, Bundle) else Path(model)
    outcomes = list(predict_scenes(paths, trained, Path(folder), asked, device=device, bar=bar))
    failed = [outcome for outcome in outcomes if outcome.outcome == "failed"]
    if failed:
        reasons = "\n".join(f"{outcome.scene}: {outcome.reason}" for outcome in failed)
        raise PredictError(f"{len(failed)} of {len(outcomes)} scenes have no map:\n{reasons}")
    return outcomes
