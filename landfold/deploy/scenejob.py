"""One scene on its way to a map: how it is read, what its map is made from, and the files in the target folder."""

import glob
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock
from filelock import Timeout as LockTimeout
from rasterio.crs import CRS

from landfold.core.digests import file_sha256
from landfold.core.files import read_json, write_json
from landfold.core.settings import validate
from landfold.deploy.bundlecard import BundleCard
from landfold.deploy.compatibility import (
    PredictError,
    check_resolution,
    check_scene_bands,
    check_units,
    differences_from_training,
)
from landfold.geo.dataset import open_dataset
from landfold.geo.grid import GridError
from landfold.geo.raster import Raster
from landfold.geo.settings import ProjectSettings
from landfold.maps.classmap import ClassMap
from landfold.maps.export import MapModels, NormalizedScene, write_scene_map
from landfold.maps.settings import ExportSettings
from landfold.scenes.indices import write_indices
from landfold.scenes.ingest import check_scene, ingest_scene, lattice_origin
from landfold.scenes.normalize import SceneStatistics, normalize_scene
from landfold.scenes.sensors import BandFile, MaskFile, SceneFiles
from landfold.scenes.settings import IndexSettings, IngestSettings

Progress = Callable[[float], None]


@dataclass(frozen=True)
class PredictOptions:
    """What a user asks for beside the model's own settings; None: as the model has it.

    Attributes:
        crs: warp scenes into this CRS.
        area: x_min, y_min, x_max, y_max in the CRS of the map: only that ground is read.
        band_order: names of the bands of files that do not name them.
        export: changes of section export.
        other_pixels: whether bands of other pixel sizes than in training are allowed.
        force: whether maps are made anew that exist already.
    """

    crs: str | None = None
    area: tuple[float, float, float, float] | None = None
    band_order: list[str | None] | None = None
    export: dict[str, Any] = field(default_factory=dict)
    other_pixels: bool = False
    force: bool = False


@dataclass(frozen=True)
class PredictRequest:
    """What all scenes of a request share.

    Attributes:
        card: the model's.
        digest: of the model folder.
        target: the folder of the maps.
        options: what is asked for.
        export: section export with the changes that are asked for.
        code: versions of code and libraries.
    """

    card: BundleCard
    digest: str
    target: Path
    options: PredictOptions
    export: ExportSettings
    code: list[Any]


def metric_crs(text: str) -> CRS:
    """The CRS of the option ``--crs``.

    Raises:
        SettingsError: it is not a projected one in metres.
    """
    return validate({"name": "predict", "crs": text}, ProjectSettings, where="--crs").metric_crs


class SceneJob:
    """One scene: `unchanged` says whether its map exists already; if not, `compare_with_training`, then `map`."""

    def __init__(self, scene: SceneFiles, request: PredictRequest) -> None:
        """Check that the scene fits the model, and decide how it is read.

        Raises:
            PredictError, SceneError, GridError, RasterError: the scene cannot be mapped.
        """
        check_scene_bands(scene, request.card)
        self.scene, self.request, self.card = scene, request, request.card
        self.warnings: list[str] = []
        self.ingest, self.crs, self.entry = self._reading()
        self.made_from = self._key()
        self.record_path = request.target / f"{scene.name}_predict.json"

    def unchanged(self) -> dict[str, Any] | None:
        """The record of the map that was made from the same, if all of its files are still there."""
        if self.request.options.force:
            return None
        try:
            record = read_json(self.record_path)
            whole = record["made_from"] == self.made_from and all(
                (self.record_path.parent / name).stat().st_size == size for name, size in record["outputs"].items()
            )
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None
        return record if whole else None

    def compare_with_training(self) -> None:
        """Refuse other pixel sizes than in training, and warn of other differences.

        Raises:
            PredictError: see `check_resolution`.
        """
        allowed = self.request.options.other_pixels
        self.warnings += check_resolution(self.entry, self.card, allowed=allowed)
        self.warnings += differences_from_training(self.entry, self.card)

    def map(self, models: MapModels, bar: Callable[[str], AbstractContextManager[Progress]]) -> dict[str, Any]:
        """Map the scene; its record is returned."""
        target = self.request.target
        with bar(f"predict {self.scene.name}") as progress, _workplace(target, self.scene.name) as folder:
            outputs = folder / "outputs"
            outputs.mkdir()
            record = self._map(folder, outputs, models, progress)
            files = sorted(outputs.iterdir())
            sizes = {path.name: path.stat().st_size for path in files}
            for name in earlier_outputs(self.record_path) - sizes.keys():  # of other layers, or of another model
                (target / name).unlink(missing_ok=True)
            self.record_path.unlink(missing_ok=True)
            for path in files:
                os.replace(path, target / path.name)
            record |= {"outputs": sizes, "made_from": self.made_from}
            write_json(self.record_path, record)
        return record

    def _reading(self) -> tuple[IngestSettings, CRS, dict[str, Any]]:
        """How to read the scene: as in training where it lies as training scenes did, else on its own grid.

        Returns:
            Settings, CRS, and the entry of `check_scene` for the scene so read.
        """
        scene, card, options = self.scene, self.card, self.request.options
        ingest = card.ingest.model_copy(update={"area": options.area, "on_refusal": "error"})
        if card.ingest.area and not options.area:
            self.warnings.append(
                f"the model was trained on scenes cut to {card.ingest.area} of {card.crs}; here the whole scene is "
                "read and gives the statistics: --area cuts it"
            )
        if ingest.mask_file and not any(mask.kind == "file" for mask in scene.masks):
            name = ingest.mask_file.replace("{scene}", scene.name)
            self.warnings.append(f"no mask file {name}, as training scenes had: nothing is hidden by one")
            ingest = ingest.model_copy(update={"mask_file": None})
        if options.crs:
            return self._checked(ingest.model_copy(update={"crs_policy": "reproject"}), metric_crs(options.crs))
        project, own = CRS.from_user_input(card.crs), _own_crs(scene, card)
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
        return ingest, crs, check_scene(self.scene, ingest, crs, origin=lattice_origin([self.scene], ingest, crs))

    def _key(self) -> str:
        """SHA-256 of all that the map is made from: model, settings, and the scene's files."""
        scene = self.scene
        needed = [scene.bands[band] for band in self.card.bands]
        content = {
            "code": self.request.code,
            "model": self.request.digest,
            "read": [self.ingest.model_dump(mode="json"), self.crs.to_wkt()],
            "export": self.request.export.model_dump(mode="json"),
            "scene": [scene.name, scene.sensor, scene.acquired, scene.processing],
            "files": [_file_facts(file) for file in (*needed, *scene.masks)],
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def _map(self, folder: Path, outputs: Path, models: MapModels, progress: Progress) -> dict[str, Any]:
        """Read, scale, check and map; the record of it without its outputs."""
        name, card = self.scene.name, self.card
        bands, indices, normalized = (folder / step / f"{name}.tif" for step in ("scenes", "indices", "normalized"))
        statistics = folder / "statistics" / f"{name}.json"
        origin = lattice_origin([self.scene], self.ingest, self.crs)
        report = ingest_scene(
            self.scene, self.ingest, self.crs, bands, origin=origin, progress=_part(progress, 0.0, 0.3)
        )
        if card.indices:
            write_indices(bands, IndexSettings(names=card.indices), indices, progress=_part(progress, 0.3, 0.4))
        reads = [bands, indices] if card.indices else [bands]
        normalize_scene(reads, card.normalize, statistics, normalized, progress=_part(progress, 0.4, 0.5))
        check_units(name, SceneStatistics.load(statistics), card)
        with Raster.open(normalized) as raster:
            told = {key: report[key] for key in ("acquired", "cloud_fraction")}
            scene = NormalizedScene(name, raster, file_sha256(statistics), **told)
            result = write_scene_map(outputs, scene, models, self.request.export, progress=_part(progress, 0.5, 1.0))
        return {
            "scene": name,
            "model": self.request.digest,
            "sensor": report["sensor"],
            "acquired": report["acquired"],
            "crs": report["crs"],
            "valid_fraction": report["valid_fraction"],
            "cloud_fraction": report["cloud_fraction"],
            "classes": _class_shares(outputs / f"{name}_class.tif"),
            "outside_share": result.outside,
            "warnings": [*report["warnings"], *self.warnings],
        }


@contextmanager
def _workplace(target: Path, name: str) -> Iterator[Path]:
    """A hidden folder that is gone at the end; what a killed process left of it is removed first.

    Raises:
        PredictError: another process maps this scene: two in one folder would mix their files.
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


def earlier_outputs(record: Path) -> set[str]:
    """Names of the files of an earlier map, by its record; only those of the scene beside it are taken."""
    try:
        names = [str(name) for name in read_json(record)["outputs"]]
    except (OSError, ValueError, TypeError, KeyError):
        return set()
    scene = record.name.removesuffix("_predict.json")
    return {name for name in names if Path(name).name == name and name.startswith((f"{scene}_", f"{scene}."))}


def _own_crs(scene: SceneFiles, card: BundleCard) -> CRS | None:
    file = scene.bands[card.bands[0]]
    with open_dataset(file.source or file.path) as dataset:
        return dataset.crs


def _file_facts(file: BandFile | MaskFile) -> list[Any]:
    """A file wherever it lies: its content, that of its sidecars, and what its product says of it."""
    sidecars = sorted(p for p in file.path.parent.glob(f"{glob.escape(file.path.stem)}.*") if p.is_file())
    digests = {path.name: file_sha256(path) for path in {file.path, *sidecars}}
    fields = {name: value for name, value in asdict(file).items() if name not in ("path", "source")}
    return [file.shown, fields, digests]


def _class_shares(path: Path) -> dict[str, float]:
    """Share of each class in the cells with data, of a class map."""
    with ClassMap.open(path, for_areas=False) as classes:
        cells = classes.look_up().cells
    total = max(1, int(cells.sum()))
    return {name: round(int(count) / total, 6) for name, count in zip(classes.names, cells, strict=True)}


def _part(progress: Progress, start: float, end: float) -> Progress:
    return lambda fraction: progress(start + (end - start) * fraction)
