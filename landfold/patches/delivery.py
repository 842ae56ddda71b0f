"""What lies at a path that a user names: a delivery of scenes and labels, scenes, or labels."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from landfold.core.errors import LandfoldError
from landfold.geo.vector import GEOPARQUET
from landfold.patches.labels.rasters import RASTERS
from landfold.patches.labels.vectors import GDAL_VECTORS
from landfold.scenes.sensors import find_scenes
from landfold.scenes.sensors.scene_files import SceneError, SceneFiles

LABEL_SUFFIXES = {"vector": GDAL_VECTORS | GEOPARQUET, "table": {".csv"}, "raster": RASTERS}
"""Suffixes of files that may be labels, by what they are."""

_PART = re.compile(
    r"(?P<scene>.+?)_(MTL|((SR|ST)_)?(B\d{1,2}|B8A|QA_\w+|SCL|FMASK|[A-Z]|[A-Z]{1,2}\d)(_\d+m)?)", re.IGNORECASE
)
"""Name of one file of a scene that has several."""

_AMBIGUOUS = {".json", ".zip", ".sqlite", ".kmz"}
"""Suffixes of labels that a product's own files have too: labels where nothing else is, never among scenes."""


class InspectionError(LandfoldError):
    """A path at which there is nothing to inspect."""


@dataclass(frozen=True)
class Delivery:
    """What was found at a path: its kind, its scenes, and its files of labels by kind.

    ``faults`` are messages of the search itself. ``labels_root`` is None where no labels are looked for.
    """

    kind: Literal["delivery", "scenes", "scene", "labels"]
    scenes_root: Path | None
    labels_root: Path | None
    scenes: list[SceneFiles]
    labels: dict[str, list[Path]]
    faults: list[str]


@contextmanager
def isolate_file(path: Path) -> Iterator[Path]:
    """A folder of links to a file and what belongs to it, and to nothing else; a folder is given as it is.

    Raises:
        InspectionError: if there is no such path.
    """
    if path.is_dir():
        yield path
        return
    if not path.is_file():
        raise InspectionError(f"{path}: not found; give a folder such as data/raw, or a file in it")
    with TemporaryDirectory(prefix="landfold-inspect-") as folder:
        part = _PART.fullmatch(path.stem)
        start, kind = part["scene"] if part else path.stem, _label_kind(path)
        for companion in [path, *sorted(path.parent.glob("*"))]:
            link = Path(folder) / companion.name
            belongs = companion.name.startswith((f"{start}_", f"{start}.")) and companion.is_file()
            rival = kind and _label_kind(companion) not in (kind, None)  # labels of another kind beside those asked for
            if belongs and not rival and not link.is_symlink():
                link.symlink_to(companion.resolve())
        yield Path(folder)


def _label_kind(path: Path) -> str | None:
    return next((kind for kind, suffixes in LABEL_SUFFIXES.items() if path.suffix.lower() in suffixes), None)


def explore(path: Path, *, band_order: list[str | None] | None, mask_file: str | None) -> Delivery:
    """Find out what lies in a folder.

    Raises:
        InspectionError: if it holds neither scenes nor labels.
    """
    if (path / "scenes").is_dir() or (path / "labels").is_dir():
        scenes, faults = _scenes(path / "scenes", band_order, mask_file)
        labels = _labels(path / "labels", scenes, among_scenes=False)
        return Delivery("delivery", path / "scenes", path / "labels", scenes, labels, faults)
    scenes, faults = _scenes(path, band_order, mask_file)
    if scenes:
        labels = _labels(path, scenes, among_scenes=True)
        return Delivery("scene" if len(scenes) == 1 else "scenes", path, path, scenes, labels, faults)
    labels = _labels(path, [], among_scenes=False)
    if not any(labels.values()):
        raise InspectionError("\n".join(faults))
    return Delivery("labels", None, path, [], labels, [])


def _scenes(
    root: Path, band_order: list[str | None] | None, mask_file: str | None
) -> tuple[list[SceneFiles], list[str]]:
    """The scenes of a folder, and what is wrong with the whole; then those that are found without it."""
    try:
        return find_scenes(root, band_order=band_order, mask_file=mask_file), []
    except SceneError as error:
        faults = [str(error)]
    if band_order is not None:
        try:
            return find_scenes(root, mask_file=mask_file), faults
        except SceneError:
            pass
    scenes: list[SceneFiles] = []
    for folder in sorted(p for p in root.glob("*") if p.is_dir() and not p.name.startswith(".")):
        try:
            scenes += find_scenes(folder, mask_file=mask_file)
        except SceneError:
            continue  # `faults` has that of the whole
    return scenes, faults


def _labels(root: Path, scenes: list[SceneFiles], *, among_scenes: bool) -> dict[str, list[Path]]:
    """Files that may be labels by their suffix: vectors, tables and rasters."""
    kinds = LABEL_SUFFIXES
    owned = {file.path for scene in scenes for file in [*scene.bands.values(), *scene.masks]}
    owned |= {scene.folder for scene in scenes}  # of a scene with a fault it may be its file
    if among_scenes:
        kinds = {"vector": kinds["vector"] - _AMBIGUOUS, "table": kinds["table"], "raster": set()}
    paths = [p for p in root.rglob("*") if p not in owned and not p.name.startswith(".")] if root.is_dir() else []
    return {kind: sorted(p for p in paths if p.suffix.lower() in suffixes) for kind, suffixes in kinds.items()}
