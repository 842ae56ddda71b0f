"""Labels of whole scenes: a table of files and classes, or the folder that a scene was delivered in."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pandas
from rasterio.windows import Window

from landfold.core.errors import first_ten
from landfold.geo.grid import Grid
from landfold.patches.labels.classes import Labels, PixelLabels
from landfold.patches.labels.files import one_file
from landfold.patches.settings import LabelError, LabelSettings
from landfold.scenes.sensors.scene_files import SceneFiles


class OneClass(PixelLabels):
    """One class, or none, in all pixels."""

    def __init__(self, number: int, classes: int) -> None:
        """The class number of all pixels."""
        super().__init__(classes)
        self.number = number

    def classes(self, window: Window) -> np.ndarray:
        """Class numbers of a window, (y, x) uint8."""
        return np.full((int(window.height), int(window.width)), self.number, dtype=np.uint8)


@dataclass(frozen=True)
class SceneClasses(Labels):
    """A class number for each scene; it holds for all of its pixels."""

    number_of: dict[str, int]
    names: list[str]

    @contextmanager
    def on(self, scene: str, grid: Grid) -> Iterator[OneClass]:
        """The class of a scene.

        Raises:
            LabelError: the scene is not among those delivered.
        """
        if scene not in self.number_of:
            raise LabelError(f"scene {scene}: it is not among the delivered ones, so it has no label; run ingest again")
        yield OneClass(self.number_of[scene], len(self.names))

    def fingerprint_for_scene(self, scene: str, grid: Grid) -> object:
        """The class of the scene."""
        return self.number_of.get(scene)

    def summary(self, crs: object) -> dict[str, int]:
        """The number of labelled scenes."""
        return {"labelled_scenes": sum(number > 0 for number in self.number_of.values())}


def read_table(folder: Path, settings: LabelSettings, delivered: Sequence[SceneFiles], root: Path) -> SceneClasses:
    """Read the one CSV file in ``folder``: columns ``file`` and ``class``, one row a scene.

    ``file`` is a scene's name, or the path below ``root`` of its folder or of one of its files, with or
    without suffix, or the bare name of a file.

    Raises:
        LabelError: no file or several; a column or a value is absent; a path that leads out of ``root``;
            a row that names no scene, or several; a scene that no row names, or several; an unknown class.
    """
    path = one_file(folder, {".csv"}, "CSV file of labels")
    table = _read_csv(path)
    number_of = settings.numbers(table["class"].unique(), path)
    scenes_of: dict[str, set[str]] = {}
    for scene in delivered:
        for name in _names(scene, root):
            scenes_of.setdefault(name, set()).add(scene.name)
    class_of: dict[str, int] = {}
    lines: dict[str, int] = {}
    for line, file, value in zip(table.index, table["file"], table["class"], strict=True):
        scene = _scene(f"{path}: line {line}", file, scenes_of, root)
        if scene in class_of:
            raise LabelError(f"{path}: scene {scene} is listed in lines {lines[scene]} and {line}; keep one of them")
        class_of[scene], lines[scene] = number_of[value], line
    unlisted = [scene.name for scene in delivered if scene.name not in class_of and not scene.fault]
    if unlisted:
        raise LabelError(
            f"{path}: {len(unlisted)} of {len(delivered)} scenes are not listed ({first_ten(unlisted)}); add a line "
            "for each, with a class of labels.exclude for those to leave out"
        )
    return SceneClasses(class_of, settings.names)


def _read_csv(path: Path) -> pandas.DataFrame:
    """Columns file and class as text, indexed by the line of the file."""
    try:
        table = pandas.read_csv(path, dtype=str, keep_default_na=False, skip_blank_lines=False, encoding="utf-8")
    except (ValueError, pandas.errors.EmptyDataError) as error:
        raise LabelError(f"{path}: no CSV file in UTF-8 ({error})") from None
    if not {"file", "class"} <= set(table):
        raise LabelError(
            f"{path}: expected columns file and class, separated by commas; found {', '.join(map(str, table))}"
        )
    table.index = table.index + 2  # the header is line 1
    table = table[["file", "class"]].apply(lambda column: column.str.strip())
    table = table[(table != "").any(axis=1)]
    empty = table.index[(table == "").any(axis=1)]
    if len(empty):
        raise LabelError(f"{path}: no file or no class in line {first_ten(empty)}; fill in or delete")
    return table


def _names(scene: SceneFiles, root: Path) -> set[str]:
    """What a table may call a scene."""
    held = {band.path for band in scene.bands.values()} or {path for path in [scene.folder] if path.is_file()}
    files = {path.relative_to(root) for path in held if path.is_relative_to(root)}
    paths = files | {file.with_suffix("") for file in files}
    if len(files) != 1 and scene.folder.is_relative_to(root):
        paths.add(scene.folder.relative_to(root))
    return {scene.name} | {path.as_posix() for path in paths} | {path.name for path in paths}


def _scene(where: str, file: str, scenes_of: dict[str, set[str]], root: Path) -> str:
    path = PurePosixPath(file.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or path.as_posix().split("/")[0].endswith(":"):
        raise LabelError(f"{where}: '{file}' leads out of {root}; give a path below it, or the name of a scene")
    scenes = sorted(scenes_of.get(path.as_posix(), ()))
    if not scenes:
        raise LabelError(f"{where}: '{file}' is no scene or file below {root}; add it there or delete the line")
    if len(scenes) > 1:
        raise LabelError(f"{where}: '{file}' may be scene {' or '.join(scenes)}; give its path below {root}")
    return scenes[0]


def read_folders(settings: LabelSettings, delivered: Sequence[SceneFiles]) -> SceneClasses:
    """The class of a scene of one file is the name of the folder that holds the file.

    A scene of several files may have a folder of its own: where that is no class, the one above it counts.
    A scene that was found but cannot be used has no files, and gets no class.

    Raises:
        LabelError: a folder that is no class.
    """
    known = {value for merged in settings.classes.values() for value in merged} | set(settings.exclude)
    class_of = {}
    for scene in delivered:
        files = sorted({band.path for band in scene.bands.values()})
        if not files:
            continue
        folder = files[0].parent if len(files) == 1 else scene.folder
        if len(files) > 1 and folder.name not in known:
            folder = folder.parent
        class_of[scene.name] = settings.numbers([folder.name], f"scene {scene.name} in {folder}")[folder.name]
    return SceneClasses(class_of, settings.names)
