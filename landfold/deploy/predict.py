"""Maps of unlabelled scenes from a model folder, read, scaled and mapped by the functions of training.

A scene is checked against the model before any pixel is read, and its numbers before it is mapped. All files are made
in a hidden folder in the target; the outputs are renamed into place at the end, SCENE_predict.json last. That record
says what a map was made from, so that a scene is not mapped twice. The networks, and with them torch, are loaded for
the first scene that needs a new map.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from landfold import __version__
from landfold.core.digests import code_digest, library_versions, model_digest
from landfold.core.errors import LandfoldError
from landfold.core.settings import validate
from landfold.deploy.bundlecard import BundleCard, bundle_digest, read_card
from landfold.deploy.compatibility import PredictError
from landfold.deploy.scenejob import PredictOptions, PredictRequest, Progress, SceneJob, metric_crs
from landfold.maps.export import MAP_ROOMS, MapModels
from landfold.maps.inference import check_cells
from landfold.maps.settings import ExportSettings
from landfold.patches.delivery import isolate_file
from landfold.scenes.sensors import SceneFiles, find_scenes

if TYPE_CHECKING:
    from landfold.deploy.bundle import Bundle

Bar = Callable[[str], AbstractContextManager[Progress]]


@dataclass(frozen=True)
class SceneOutcome:
    """The outcome for a scene, or for a path without one: ``record`` is SCENE_predict.json, None if it failed."""

    scene: str
    outcome: Literal["mapped", "unchanged", "failed"]
    record: dict[str, Any] | None
    reason: str | None
    seconds: float

    def as_data(self) -> dict[str, Any]:
        """For --json."""
        data = {"scene": self.scene, "outcome": self.outcome, "seconds": round(self.seconds, 2)}
        return data | (self.record or {"reason": self.reason})


def predict_scenes(
    paths: Sequence[Path],
    model: "Path | Bundle",
    target: Path,
    options: PredictOptions,
    *,
    device: str = "auto",
    bar: Bar,
) -> Iterator[SceneOutcome]:
    """Map every scene at the paths into ``target``; the others go on when one fails.

    Args:
        paths: scenes or folders of scenes, as `landfold.scenes.sensors.find_scenes` knows them.
        model: the model folder, or what was loaded from one.
        target: the folder of the maps.
        options: what is asked for beside the model's own settings.
        device: auto, cpu or cuda, for a model folder.
        bar: shows the progress of a scene.

    Raises:
        LandfoldError: the model or the request cannot be used for any scene.
    """
    request = _request(model if isinstance(model, Path) else model.folder, target, options)
    models: MapModels | None = None
    with ExitStack() as stack:
        for item in _find(paths, request, stack):
            step = item.prepare(request) if isinstance(item, _FoundScene) else item
            if isinstance(step, SceneJob):
                models = models or _load(model, device, request)
                step = item.map(step, models, bar)
            yield step


def _request(model: Path, target: Path, options: PredictOptions) -> PredictRequest:
    """Check what is asked for as far as no scene is needed for it, and make the target folder."""
    card = read_card(model)
    export = validate(card.export.model_dump() | options.export, ExportSettings, where="landfold predict")
    if card.unit == "pixel" and export.stride_px is not None:
        raise PredictError(
            f"--stride {export.stride_px} (stride_px): the model maps a scene's own pixels and has no cells of another "
            "size; leave it out"
        )
    check_cells(card, export.stride_px)
    if options.crs:
        metric_crs(options.crs)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PredictError(f"{target}: no folder can be made there ({error.strerror}); give -o another") from None
    if not os.access(target, os.W_OK | os.X_OK):
        raise PredictError(f"{target}: you may not write into this folder; give -o another")
    code = [__version__, code_digest(*MAP_ROOMS, "scenes", "deploy"), library_versions()]
    return PredictRequest(card, bundle_digest(model), target, options, export, code)


def _load(model: "Path | Bundle", device: str, request: PredictRequest) -> MapModels:
    from landfold.deploy.bundle import Bundle
    from landfold.network.model import pick_device

    bundle = Bundle.load(model, pick_device(device)) if isinstance(model, Path) else model
    area = bundle.area if request.export.applicability else None
    weights, calibrations = model_digest(bundle.card.weights), bundle.card.calibration
    return MapModels(bundle.models, bundle.card.rgb, weights, area=area, calibrations=calibrations)


@dataclass(frozen=True)
class _FoundScene:
    """A scene that was found at a path; ``folder`` is read in the place of the path, ``first`` is an earlier path."""

    scene: SceneFiles
    path: Path
    folder: Path
    first: Path

    def prepare(self, request: PredictRequest) -> SceneJob | SceneOutcome:
        """The job that maps the scene; an outcome if there is nothing to map."""
        start = time.perf_counter()
        try:
            if self.first is not self.path:
                raise PredictError(
                    f"scene {self.scene.name}: found in {self.first} and in {self.path}; rename one of them"
                )
            job = SceneJob(self.scene, request)
            if record := job.unchanged():
                return SceneOutcome(self.scene.name, "unchanged", record, None, time.perf_counter() - start)
            job.compare_with_training()
            return job
        except (LandfoldError, OSError) as error:
            return _failed(self.scene.name, error, self.folder, self.path, start)

    def map(self, job: SceneJob, models: MapModels, bar: Bar) -> SceneOutcome:
        start = time.perf_counter()
        try:
            record = job.map(models, bar)
        except (LandfoldError, OSError) as error:
            return _failed(self.scene.name, error, self.folder, self.path, start)
        return SceneOutcome(self.scene.name, "mapped", record, None, time.perf_counter() - start)


def _failed(name: str, error: Exception, folder: Path, path: Path, start: float) -> SceneOutcome:
    return SceneOutcome(name, "failed", None, _explain(error, folder, path), time.perf_counter() - start)


def _find(paths: Sequence[Path], request: PredictRequest, stack: ExitStack) -> Iterator[_FoundScene | SceneOutcome]:
    """Every scene at the paths once, and a failure for a path without one; temporary folders live with the stack."""
    seen: dict[str, tuple[Path, Path]] = {}
    for path in paths:
        start, folder = time.perf_counter(), path
        try:
            if not path.exists():
                raise PredictError(
                    f"{path}: not found; give a scene (a .SAFE folder, an archive, a GeoTIFF, ...) or a folder"
                )
            folder = stack.enter_context(isolate_file(path))
            scenes = _scenes(folder, request.card, request.options)
        except (LandfoldError, OSError) as error:
            yield _failed(str(path), error, folder, path, start)
            continue
        for scene in scenes:
            origin = next((band.path for band in scene.bands.values()), scene.folder).resolve()
            first, known = seen.setdefault(scene.name.casefold(), (path, origin))
            if first is path or known != origin:  # else two files of one scene, as a shell makes of *.tif
                yield _FoundScene(scene, path, folder, first)


def _scenes(folder: Path, card: BundleCard, options: PredictOptions) -> list[SceneFiles]:
    place = folder / "scenes" if (folder / "scenes").is_dir() else folder
    order = options.band_order or card.ingest.band_order
    return find_scenes(place, band_order=order, mask_file=card.ingest.mask_file)


def _explain(error: Exception, folder: Path, path: Path) -> str:
    """A message with the options of the command in the place of settings, which are the model's here."""
    system = f"{getattr(error, 'filename', None) or 'writing'}: {getattr(error, 'strerror', None) or error}"
    text = system if isinstance(error, OSError) else str(error)
    if folder != path:
        text = text.replace(str(folder), str(path.parent))
    for setting, option in (
        ("set ingest.crs_policy: reproject", "give --crs and a CRS of the area, its UTM zone say"),
        ("ingest.band_order", "--band-order"),
        ("ingest.area", "--area"),
        ("export.stride_px", "--stride"),
    ):
        text = text.replace(setting, option)
    mentions = any(f"{section}." in text for section in ("ingest", "normalize", "project"))
    return f"{text} (these settings are the model's own, in its model.json)" if mentions else text
