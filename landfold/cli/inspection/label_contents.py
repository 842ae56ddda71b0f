"""The contents of label files of every kind: attributes, values and their counts."""

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas
from rasterio.crs import CRS
from rasterio.enums import ColorInterp

from landfold.cli.inspection.raster_names import value_names
from landfold.cli.inspection.scene_headers import crs_name
from landfold.core.errors import LandfoldError
from landfold.geo.dataset import open_dataset, reading
from landfold.geo.grid import Grid
from landfold.geo.vector import POINTS, VectorError, layers, read_layer
from landfold.patches.delivery import Delivery
from landfold.patches.settings import value_text
from landfold.scenes.sensors.scene_files import SceneFiles

MAX_VALUES = 50
"""An attribute with more distinct values does not hold classes."""

MAX_PIXEL_VALUES = 255
"""The largest number of classes in a map of 8 bits."""

LIKELY = ("class", "label", "landcover", "land_cover", "lulc", "cover", "type", "kind", "category", "code", "name")
"""Parts of the names of attributes that hold classes, the most likely first."""


@dataclass(frozen=True)
class Attribute:
    """An attribute that may hold classes: how often each value occurs, and how many features have none."""

    name: str
    text: bool
    values: Counter[str]
    empty: int

    @property
    def rank(self) -> tuple[bool, int, bool, int]:
        """Sorts the most likely attribute first: without empty values, named like a class, of text, of few values."""
        name = self.name.lower()
        hint = next((i for i, part in enumerate(LIKELY) if part in name), len(LIKELY))
        return self.empty > 0, hint, not self.text, len(self.values)


@dataclass(frozen=True)
class LabelView:
    """Labels of one kind.

    Attributes:
        kind: value of ``labels.kind`` that fits.
        unit: what ``values`` counts: polygons, points, pixels or scenes.
        path: the file; None for classes by folder.
        values: how often each value occurs that may become a class.
        names: of the values of a raster, where a table beside it has them.
        grid: of a raster with a CRS.
        others: files that may be labels as well.
        fault: why the values are not known; None if they are.
    """

    kind: str
    unit: str
    path: Path | None = None
    crs: str | None = None
    layer: str | None = None
    layers: tuple[str, ...] = ()
    features: int | None = None
    invalid: int = 0
    attributes: tuple[Attribute, ...] = ()
    all_attributes: tuple[str, ...] = ()
    values: Counter[str] = field(default_factory=Counter)
    names: dict[str, str] = field(default_factory=dict)
    grid: Grid | None = None
    others: tuple[Path, ...] = ()
    fault: str | None = None

    @property
    def attribute(self) -> Attribute | None:
        """The most likely attribute."""
        return self.attributes[0] if self.attributes else None


def read_label_contents(delivery: Delivery, *, kind: str | None, layer: str | None) -> LabelView | None:
    """The labels of a delivery; None if there are none.

    Args:
        delivery: its files.
        kind: which kind to prefer where there are several; None: vector files, then tables, then rasters.
        layer: which layer of a vector file to read, if the file has it.
    """
    files = delivery.labels
    asked = {"polygons": "vector", "points": "vector"}.get(kind or "", kind)
    order = sorted(("vector", "table", "raster"), key=lambda what: what != asked)
    folders = _folders(delivery.scenes, delivery.scenes_root)
    if folders is not None and (asked == "folder" or not any(files.values())):
        return folders
    for what in order:
        if files[what]:
            path, *rest = files[what]
            others = (*rest, *(p for other in order if other != what for p in files[other]))
            view = {"vector": _vector, "table": _table, "raster": _raster}[what](path, layer)
            return replace(view, others=others)
    return folders


def _vector(path: Path, layer: str | None) -> LabelView:
    try:
        names = tuple(layers(path))
        layer = layer if layer in names else next(iter(names), None)
        table = read_layer(path, layer, setting="labels.layer")
    except VectorError as error:
        return LabelView("polygons", "polygons", path, fault=str(error).removeprefix(f"{path}: "))
    if not isinstance(table, geopandas.GeoDataFrame):
        return LabelView("polygons", "polygons", path, fault="a table without geometry")
    shapes = table.geometry
    kind = "points" if shapes.geom_type.isin(POINTS).mean() > 0.5 else "polygons"
    columns = [str(c) for c in table.columns if c != shapes.name]
    attributes = sorted((a for c in columns if (a := _attribute(table, c))), key=lambda a: a.rank)
    return LabelView(
        kind,
        kind,
        path,
        crs=_crs(table),
        layer=layer if len(names) > 1 else None,
        layers=names if len(names) > 1 else (),
        features=len(table),
        invalid=int((~shapes.is_valid & shapes.notna()).sum()) if kind == "polygons" else 0,
        attributes=tuple(attributes),
        all_attributes=tuple(columns),
        values=attributes[0].values if attributes else Counter(),
    )


def _crs(table: geopandas.GeoDataFrame) -> str | None:
    return None if table.crs is None else crs_name(CRS.from_wkt(table.crs.to_wkt()))


def _attribute(table: geopandas.GeoDataFrame, name: str) -> Attribute | None:
    """The attribute, where it may hold classes: text or whole numbers with 2 to MAX_VALUES distinct values."""
    column = table[name]
    numeric = pandas.api.types.is_numeric_dtype(column)
    if not numeric and not pandas.api.types.is_string_dtype(column.dropna()):
        return None
    if pandas.api.types.is_bool_dtype(column) or (numeric and not (column.dropna() % 1 == 0).all()):
        return None
    values = Counter(value_text(value) for value in column.dropna())
    few = 2 <= len(values) <= MAX_VALUES and (len(values) < column.notna().sum() or len(values) < 10)
    return Attribute(name, not numeric, _sorted(values), int(column.isna().sum())) if few else None


def _table(path: Path, layer: str | None) -> LabelView:
    try:
        table = pandas.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except (ValueError, pandas.errors.EmptyDataError) as error:
        return LabelView("table", "scenes", path, fault=f"no CSV file in UTF-8 ({error})")
    columns = tuple(map(str, table.columns))
    if not {"file", "class"} <= set(columns):
        fault = f"expected columns file and class, separated by commas; found {', '.join(columns)}"
        return LabelView("table", "scenes", path, features=len(table), all_attributes=columns, fault=fault)
    values = Counter(text for text in table["class"].str.strip() if text)
    return LabelView("table", "scenes", path, features=len(table), all_attributes=columns, values=_sorted(values))


def _raster(path: Path, layer: str | None) -> LabelView:
    try:
        with open_dataset(path) as dataset:
            crs = None if dataset.crs is None else crs_name(dataset.crs)
            view = LabelView("raster", "pixels", path, crs=crs, grid=Grid.of(dataset) if crs else None)
            bands = [kind for kind in dataset.colorinterp if kind != ColorInterp.alpha]
            if len(bands) != 1:
                return replace(view, fault=f"{len(bands)} bands; expected one, of class values")
            values, names = _pixel_values(path, dataset), value_names(path, dataset.tags(1))
    except LandfoldError as error:
        return LabelView("raster", "pixels", path, fault=str(error))
    if values is None:
        return replace(view, fault=f"more than {MAX_PIXEL_VALUES} distinct values, which are no classes")
    return replace(view, values=values, names=names)


def _pixel_values(path: Path, dataset: Any) -> Counter[str] | None:
    """How many valid pixels have each value; None if there are too many values for classes."""
    totals: Counter[float] = Counter()
    grid = Grid(dataset.crs, dataset.transform, dataset.height, dataset.width)
    for window in grid.blocks(1024):
        with reading(path):
            values = dataset.read(1, window=window)
            values = values[dataset.read_masks(1, window=window) > 0]
        if np.issubdtype(values.dtype, np.floating):
            values = values[~np.isnan(values)]
        numbers, counts = np.unique(values, return_counts=True)
        totals.update(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))
        if len(totals) > MAX_PIXEL_VALUES:
            return None
    return Counter({value_text(number): count for number, count in sorted(totals.items())})


def _folders(scenes: list[SceneFiles], root: Path | None) -> LabelView | None:
    """Classes by folder, where scenes lie in several folders and some folder holds several scenes."""
    own = Counter(scene.folder for scene in scenes if len({file.path for file in scene.bands.values()}) > 1)
    alone = all(count == 1 for count in own.values())  # each scene of several files in a folder of its own
    folders = []
    for scene in scenes:
        files = {file.path for file in scene.bands.values()} or {scene.folder / "file"}
        if not scene.bands and scene.folder.is_file():
            files = {scene.folder}
        folder = next(iter(files)).parent if len(files) == 1 else scene.folder
        folders.append(folder.parent if len(files) > 1 and alone and folder != root else folder)
    counts = Counter(folder.name for folder in folders)
    if root in folders or len(counts) < 2 or len(counts) == len(scenes):
        return None
    return LabelView("folder", "scenes", values=_sorted(counts))


def _sorted(values: Counter[str]) -> Counter[str]:
    """Counts in the order of the values: numbers by their size, then text."""
    return Counter({text: values[text] for text in sorted(values, key=_order)})


def _order(text: str) -> tuple[bool, float, str]:
    try:
        return False, float(text), text
    except ValueError:
        return True, 0.0, text
