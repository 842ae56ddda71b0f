"""Maps of scenes that nobody labelled: read, scaled and mapped by the very functions of training, from a model folder.

A scene is checked against the model before any pixel is read, and its numbers before it is mapped. All is made in a
hidden folder in the target; the outputs are renamed into place at the end, SCENE_predict.json last. That record says
what a map was made from, so that a scene is not mapped twice.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from filelock import FileLock
from filelock import Timeout as LockTimeout
from rasterio.crs import CRS

from landfold import __version__
from landfold.core.digests import code_digest, file_sha256, library_versions, model_digest
from landfold.core.errors import LandfoldError
from landfold.core.files import read_json, write_json
from landfold.core.settings import validate
from landfold.deploy.bundle import Bundle
from landfold.deploy.bundlecard import BundleCard
from landfold.deploy.fitness import PredictError, check_bands, check_units, foreign, other_pixels
from landfold.geo.dataset import open_dataset
from landfold.geo.grid import GridError
from landfold.geo.raster import Raster
from landfold.geo.settings import ProjectSettings
from landfold.maps.export import ROOMS as MAP_ROOMS
from landfold.maps.export import write_scene_map
from landfold.maps.inference import check_stride
from landfold.maps.settings import ExportSettings
from landfold.patches.delivery import stand_in
from landfold.scenes.indices import write_indices
from landfold.scenes.ingest import check_scene, ingest_scene
from landfold.scenes.normalize import SceneStatistics, normalize_scene
from landfold.scenes.sensors import BandFile, MaskFile, SceneFiles, find_scenes
from landfold.scenes.settings import IndexSettings, IngestSettings

Progress = Callable[[float], None]


@dataclass(frozen=True)
class Options:
    """What is asked for beside the model's own settings; None: as the model has it.

    ``crs`` is the CRS to warp scenes into, ``area`` x_min, y_min, x_max, y_max in the CRS of the map: only that
    ground is read. ``export`` are changes of section export, ``other_pixels`` takes bands of other pixel sizes.
    """

    crs: str | None = None
    area: tuple[float, float, float, float] | None = None
    band_order: list[str | None] | None = None
    export: dict[str, Any] = field(default_factory=dict)
    other_pixels: bool = False
    force: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a scene, or of a path without one: ``record`` is SCENE_predict.json, None if it failed."""

    scene: str
    outcome: Literal["mapped", "unchanged", "failed"]
    record: dict[str, Any] | None
    reason: str | None
    seconds: float

    def as_data(self) -> dict[str, Any]:
        """For --json."""
        told = {"scene": self.scene, "outcome": self.outcome, "seconds": round(self.seconds, 2)}
        return told | (self.record or {"reason": self.reason})


def predict(
    paths: Sequence[Path],
    model: Bundle,
    target: Path,
    options: Options,
    *,
    bar: Callable[[str], AbstractContextManager[Progress]],
) -> Iterator[Outcome]:
    """Map every scene at the paths into ``target``; one that fails does not keep the others.

    Args:
        paths: scenes or folders of scenes, as `landfold.scenes.sensors.find_scenes` knows them.
        model: a loaded model folder.
        target: the folder of the maps.
        options: what is asked for beside the model's own settings.
        bar: shows the progress of a scene.

    Raises:
        LandfoldError: a request that no scene could meet.
    """
    card = model.card
    export = validate(card.export.model_dump() | options.export, ExportSettings, where="landfold predict")
    check_stride(card.size_px, export.stride_px)
    if options.crs:
        _metric(options.crs)
    _make_folder(target)
    taken: dict[str, tuple[Path, Path]] = {}
    with ExitStack() as stack:
        for path in paths:
            start = time.perf_counter()
            folder = path
            try:
                folder = _folder(path, stack)
                scenes = _scenes(folder, card, options)
            except (LandfoldError, OSError) as error:
                yield Outcome(str(path), "failed", None, _shown(error, folder, path), time.perf_counter() - start)
                continue
            for scene in scenes:
                start = time.perf_counter()
                first, origin = taken.setdefault(scene.name.casefold(), (path, _origin(scene)))
                if first is not path and origin == _origin(scene):
                    continue  # two files of one scene, as a shell makes of *.tif
                try:
                    if first is not path:
                        raise PredictError(f"scene {scene.name}: found in {first} and in {path}; rename one of them")
                    job = _Job(scene, model, target, options, export, stack)
                    made, record = job.run(bar)
                    yield Outcome(scene.name, "mapped" if made else "unchanged", record, None, _since(start))
                except (LandfoldError, OSError) as error:
                    yield Outcome(scene.name, "failed", None, _shown(error, folder, path), _since(start))


def _since(start: float) -> float:
    return time.perf_counter() - start


def _origin(scene: SceneFiles) -> Path:
    """Where a scene really lies, whatever stands in for it."""
    return next((band.path for band in scene.bands.values()), scene.folder).resolve()


def _make_folder(target: Path) -> None:
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PredictError(f"{target}: no folder can be made there ({error.strerror}); give -o another") from None
    if not os.access(target, os.W_OK | os.X_OK):
        raise PredictError(f"{target}: you may not write into this folder; give -o another")


def _folder(path: Path, stack: ExitStack) -> Path:
    """The folder that stands for a path, as long as the stack is open."""
    if not path.exists():
        raise PredictError(f"{path}: not found; give a scene (a .SAFE folder, an archive, a GeoTIFF, ...) or a folder")
    return stack.enter_context(stand_in(path))


def _scenes(folder: Path, card: BundleCard, options: Options) -> list[SceneFiles]:
    place = folder / "scenes" if (folder / "scenes").is_dir() else folder
    order = options.band_order or card.ingest.band_order
    return find_scenes(place, band_order=order, mask_file=card.ingest.mask_file)


def _shown(error: Exception, folder: Path, path: Path) -> str:
    """A message in words of the command: it speaks of settings, which are the model's here."""
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


@contextmanager
def _workplace(target: Path, name: str) -> Iterator[Path]:
    """A hidden folder that is gone at the end; what a killed process left of it is removed first.

    Raises:
        PredictError: another process is at this scene: two in one folder would mix their files.
    """
    folder, lock = target / f".partial-{name}", FileLock(target / f".partial-{name}.lock", timeout=0)
    try:
        lock.acquire()
    except LockTimeout:
        raise PredictError(
            f"scene {name}: another process maps it into {target}; wait for that, or give another -o"
        ) from None
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


@dataclass
class _Job:
    """One scene on its way to a map."""

    scene: SceneFiles
    model: Bundle
    target: Path
    options: Options
    export: ExportSettings
    stack: ExitStack
    warnings: list[str] = field(default_factory=list)

    def run(self, bar: Callable[[str], AbstractContextManager[Progress]]) -> tuple[bool, dict[str, Any]]:
        """Whether the map was made anew, and its record."""
        scene, card = self.scene, self.model.card
        check_bands(scene, card)
        ingest, crs, entry = self._reading()
        made_from = self._key(ingest, crs)
        place = self.target / f"{scene.name}_predict.json"
        if not self.options.force:
            record = _record(place, made_from)
            if record:
                return False, record
        self.warnings += other_pixels(entry, card, allowed=self.options.other_pixels) + foreign(entry, card)
        with bar(f"predict {scene.name}") as progress, _workplace(self.target, scene.name) as folder:
            outputs = folder / "outputs"
            outputs.mkdir()
            record = self._map(folder, outputs, ingest, crs, progress)
            files = sorted(outputs.iterdir())
            sizes = {path.name: path.stat().st_size for path in files}
            for name in _outputs(place) - sizes.keys():  # of other layers, or of another model
                (self.target / name).unlink(missing_ok=True)
            place.unlink(missing_ok=True)
            for path in files:
                os.replace(path, self.target / path.name)
            record |= {"outputs": sizes, "made_from": made_from}
            write_json(place, record)
        return True, record

    def _reading(self) -> tuple[IngestSettings, CRS, dict[str, Any]]:
        """How to read the scene: as in training where it lies as training scenes did, else on its own grid.

        The last is what `check_scene` tells of the scene so read.
        """
        card, options = self.model.card, self.options
        ingest = card.ingest.model_copy(update={"area": options.area, "on_refusal": "error"})
        if card.ingest.area and not options.area:
            self.warnings.append(
                f"the model was trained on scenes cut to {card.ingest.area} of {card.crs}; here the whole scene is "
                "read and gives the statistics: --area cuts it"
            )
        if ingest.mask_file and not any(mask.kind == "file" for mask in self.scene.masks):
            name = ingest.mask_file.replace("{scene}", self.scene.name)
            self.warnings.append(f"no mask file {name}, as training scenes had: nothing is hidden by one")
            ingest = ingest.model_copy(update={"mask_file": None})
        if options.crs:
            return self._checked(ingest.model_copy(update={"crs_policy": "reproject"}), _metric(options.crs))
        project, own = CRS.from_user_input(card.crs), _own_crs(self.scene, card)
        if own is None:
            return self._checked(ingest, project)
        if own == project or ingest.crs_policy == "reproject":
            try:
                return self._checked(ingest, project)
            except GridError:
                why = "is off the grid of training" if own == project else f"lies where {card.crs} is not true to scale"
                self.warnings.append(f"{why}, so it stays on its own grid")
        return self._checked(ingest.model_copy(update={"crs_policy": "keep"}), own)

    def _checked(self, ingest: IngestSettings, crs: CRS) -> tuple[IngestSettings, CRS, dict[str, Any]]:
        return ingest, crs, check_scene(self.scene, ingest, crs)

    def _key(self, ingest: IngestSettings, crs: CRS) -> str:
        """SHA-256 of all that the map is made from: model, settings, and the scene's files."""
        scene = self.scene
        content = {
            "code": [__version__, code_digest(*MAP_ROOMS, "scenes", "deploy"), library_versions()],
            "model": self.model.digest,
            "read": [ingest.model_dump(mode="json"), crs.to_wkt()],
            "export": self.export.model_dump(mode="json"),
            "scene": [scene.name, scene.sensor, scene.acquired, scene.processing],
            "files": [_facts(file) for file in (*_needed(scene, self.model.card), *scene.masks)],
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def _map(self, folder: Path, outputs: Path, ingest: IngestSettings, crs: CRS, progress: Progress) -> dict[str, Any]:
        """Read, scale, check and map; the record of it but for its outputs."""
        name, card = self.scene.name, self.model.card
        bands, indices, normalized = (folder / step / f"{name}.tif" for step in ("scenes", "indices", "normalized"))
        statistics_file = folder / "statistics" / f"{name}.json"
        report = ingest_scene(self.scene, ingest, crs, bands, progress=_part(progress, 0.0, 0.3))
        if card.indices:
            wanted = IndexSettings(names=card.indices)
            write_indices(bands, wanted, indices, progress=_part(progress, 0.3, 0.4))
        reads = [bands, indices] if card.indices else [bands]
        normalize_scene(reads, card.normalize, statistics_file, normalized, progress=_part(progress, 0.4, 0.5))
        check_units(name, SceneStatistics.load(statistics_file), card)
        with Raster.open(normalized) as raster:
            written = write_scene_map(
                outputs,
                name,
                raster,
                self.model.models,
                self.export,
                card.rgb,
                area=self.model.area if self.export.applicability else None,
                lineage={
                    "MODEL_SHA256": model_digest(self.model.card.weights),
                    "STATISTICS_SHA256": file_sha256(statistics_file),
                },
                acquired=report["acquired"],
                progress=_part(progress, 0.5, 1.0),
            )
        return {
            "scene": name,
            "model": self.model.digest,
            "sensor": report["sensor"],
            "acquired": report["acquired"],
            "crs": report["crs"],
            "valid_fraction": report["valid_fraction"],
            "classes": _shares(outputs / f"{name}_class.tif", card.classes),
            "outside_share": written.outside,
            "warnings": [*report["warnings"], *self.warnings],
        }


def _metric(text: str) -> CRS:
    return validate({"name": "predict", "crs": text}, ProjectSettings, where="--crs").metric_crs


def _own_crs(scene: SceneFiles, card: BundleCard) -> CRS | None:
    file = scene.bands[card.bands[0]]
    with open_dataset(file.source or file.path) as dataset:
        return dataset.crs


def _needed(scene: SceneFiles, card: BundleCard) -> list[BandFile]:
    return [scene.bands[band] for band in card.bands]


def _facts(file: BandFile | MaskFile) -> list[Any]:
    """What a file tells, wherever it lies: its content, that of its sidecars, and what was read of its product."""
    sidecars = sorted(p for p in file.path.parent.glob(f"{_escaped(file.path.stem)}.*") if p.is_file())
    digests = {path.name: file_sha256(path) for path in {file.path, *sidecars}}
    told = {name: value for name, value in asdict(file).items() if name not in ("path", "source")}
    return [file.shown, told, digests]


def _escaped(name: str) -> str:
    """A name without a meaning to glob."""
    return "".join(f"[{sign}]" if sign in "*?[" else sign for sign in name)


def _record(place: Path, made_from: str) -> dict[str, Any] | None:
    """The record of a map that was made from the same, if all of its files are still there."""
    try:
        record = read_json(place)
        whole = record["made_from"] == made_from and all(
            (place.parent / name).stat().st_size == size for name, size in record["outputs"].items()
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return record if whole else None


def _outputs(place: Path) -> set[str]:
    """Names of the files of an earlier map of the scene, by its record; only those that lie beside it are told."""
    try:
        names = [str(name) for name in read_json(place)["outputs"]]
    except (OSError, ValueError, TypeError, KeyError):
        return set()
    scene = place.name.removesuffix("_predict.json")
    return {name for name in names if Path(name).name == name and name.startswith((f"{scene}_", f"{scene}."))}


def _part(progress: Progress, start: float, end: float) -> Progress:
    return lambda fraction: progress(start + (end - start) * fraction)


def _shares(path: Path, classes: Sequence[str]) -> dict[str, float]:
    """Share of each class in the cells with data, of a class map."""
    counts = np.zeros(len(classes) + 1, dtype=np.int64)
    with Raster.open(path) as raster:
        for window in raster.grid.blocks():
            counts += np.bincount(raster.read_raw(window).ravel(), minlength=len(counts))
    total = max(1, int(counts[1:].sum()))
    return {name: round(int(count) / total, 6) for name, count in zip(classes, counts[1:], strict=True)}
