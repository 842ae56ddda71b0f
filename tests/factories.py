"""Small synthetic scenes, labels and settings whose truth is known, shared by all tests.

Everything lies in UTM zone 33N around (ORIGIN_X, ORIGIN_Y), is not square and not at the origin
of anything. Pixels carry their own coordinates, so a shift, a flip or a transposed axis shows.
"""

import copy
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import rasterio
import shapely
import yaml
from affine import Affine
from rasterio.crs import CRS

from landfold.cli.inspection.networks import NETWORKS
from landfold.core.digests import file_sha256
from landfold.geo.bands import Radiometry
from landfold.geo.grid import Grid
from landfold.geo.writer import create

ROOT = Path(__file__).parents[1]
CRS_UTM33 = CRS.from_epsg(32633)
ORIGIN_X, ORIGIN_Y = 399_960.0, 5_800_020.0
"""Upper left corner of every synthetic scene, metres; a multiple of 60 m, as Sentinel-2's are."""

PARAMS: dict[str, dict[str, Any]] = {
    "project": {"name": "test", "crs": "EPSG:32633"},
    "dataset": {
        "package": "landfold-testdata",
        "version": "1.0.1",
        "sha256": "0" * 64,
        "scenes": {"T33UUU_20170216T102101": "testdata/scene"},
        "labels": ["testdata/labels.gpkg"],
    },
    "ingest": {
        "bands": ["B", "G", "R", "N"],
        "band_order": None,
        "crs_policy": "error",
        "area": None,
        "resolution_m": 10,
        "resampling": "bilinear",
        "scale": 0.0001,
        "offset": 0.0,
        "nodata": 0,
        "masks": {
            "scl": [0, 1, 3, 8, 9, 10],
            "qa_pixel": ["fill", "dilated_cloud", "cirrus", "cloud", "cloud_shadow"],
            "fmask": [2, 3, 4, 255],
            "file": [1],
            "l1c": None,
        },
        "mask_file": None,
        "min_valid": 0.05,
        "on_refusal": "error",
    },
    "indices": {"names": ["NDVI", "NDWI"]},
    "normalize": {"low_percentile": 2, "high_percentile": 98, "min_valid_px": 100},
    "labels": {
        "kind": "polygons",
        "unit": "patch",
        "attribute": "kind",
        "layer": None,
        "invalid": "refuse",
        "resampling": None,
        "zone_attribute": None,
        "classes": {"field": ["crop", "meadow"], "water": ["lake"]},
        "exclude": ["road"],
    },
    "patches": {"size_px": 16, "core_px": 8, "stride_px": 8, "min_purity": 0.5, "max_invalid": 0.2},
    "zones": {
        "k": 2,
        "folds": [0, 1],
        "repeats": 1,
        "kind": "grid",
        "block_size_m": 480,
        "origin_m": [0, 0],
        "clusters": None,
        "file": None,
        "attribute": None,
        "overlaps": "buffer",
        "assignment": "stratified",
        "tries": None,
        "test_region": None,
        "buffer_m": 0,
        "seed": 0,
    },
    "audit": {
        "baseline": "random_forest",
        "trees": 10,
        "prediction_points": 50,
        "seed": 0,
        "network": False,
    },
    "model": NETWORKS["patch"]["model"],
    "train": NETWORKS["patch"]["train"],
    "export": {
        "stride_px": 8,
        "offsets": 1,
        "flips_and_rotations": False,
        "min_valid": 0.5,
        "sieve_px": 0,
        "calibrated": False,
        "layers": [],
        "applicability": False,
        "polygons": {"formats": ["gpkg"], "min_area_m2": 0, "simplify_m": 0},
        "mosaic": "confidence",
    },
}
"""What a tiny project has otherwise than the repository."""

PIXELS: dict[str, Any] = {
    **{"labels__unit": "pixel", "train__max_pixels": 1000, "export__stride_px": None, "model__kind": "surroundings"},
    **{"model__boxes_px": [3, 5], "model__bins": 3, "model__hidden": [8], "model__noise": 0.1},
    **dict.fromkeys(
        [f"model__{name}" for name in ("backbone", "weights", "partial_weights", "stem")]
        + [f"model__{name}" for name in ("kernel_px", "stride_px", "pooling", "blocks")]
    ),
    "train__flips_and_rotations": False,
}
"""What makes the tiny project of patches one of pixels."""

BAND_VALUES = {"B02": 800, "B03": 1000, "B04": 1200, "B08": 3000}
"""Base numbers of the four bands of `small_scene`; each adds its own mixture of row and column."""


def whole(sections: Mapping[str, Any]) -> dict[str, Any]:
    """The repository's own settings, with these sections over them, key by key."""
    content = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for section, values in sections.items():
        partial = isinstance(values, Mapping) and section != "colours"
        content[section] = content[section] | copy.deepcopy(dict(values)) if partial else values
    return content


def params(**changes: Any) -> dict[str, Any]:
    """All settings of a tiny project, with changes such as ``zones__k=3``."""
    content = whole(PARAMS)
    for name, value in changes.items():
        section, key = name.split("__")
        content[section][key] = value
    return content


def write_params(folder: Path, **changes: Any) -> Path:
    """Write params.yaml into a folder; ``changes`` as for `params`."""
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(params(**changes), sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def make_grid(
    height: int = 90,
    width: int = 120,
    resolution_m: float = 10.0,
    *,
    crs: CRS = CRS_UTM33,
    x_px: int = 0,
    y_px: int = 0,
) -> Grid:
    """A north-up grid whose corner is ``x_px`` and ``y_px`` pixels east and south of the common origin."""
    x, y = ORIGIN_X + x_px * resolution_m, ORIGIN_Y - y_px * resolution_m
    return Grid(crs, Affine(resolution_m, 0.0, x, 0.0, -resolution_m, y), height, width)


def centres(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Metres east and south of the common origin of every pixel's centre, (y, x) each."""
    columns, rows = np.meshgrid(np.arange(grid.width) + 0.5, np.arange(grid.height) + 0.5)
    x, y = grid.transform @ (columns, rows)
    return x - ORIGIN_X, ORIGIN_Y - y


def write_band(
    path: Path,
    grid: Grid,
    values: np.ndarray,
    *,
    nodata: float | None = None,
    mask: np.ndarray | None = None,
    scale: float | None = None,
    offset: float | None = None,
    crs: CRS | None | str = "grid",
    transform: Affine | None = None,
) -> Path:
    """Write one band as .jp2 (lossless) or .tif, as a data provider would; ``values`` is (y, x)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lossless = {"QUALITY": "100", "REVERSIBLE": "YES", "YCBCR420": "NO"}
    profile: dict[str, Any] = {
        "driver": "JP2OpenJPEG" if path.suffix.lower() == ".jp2" else "GTiff",
        "dtype": values.dtype,
        "count": 1,
        "height": values.shape[0],
        "width": values.shape[1],
        "crs": grid.crs if crs == "grid" else crs,
        "transform": transform or grid.transform,
        "nodata": nodata,
    }
    if path.suffix.lower() == ".jp2":
        profile |= lossless
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **profile) as dataset:
        dataset.write(values, 1)
        if mask is not None:
            dataset.write_mask(mask)
        if scale is not None:
            dataset.scales = [scale]
        if offset is not None:
            dataset.offsets = [offset]
    return path


def write_scene(
    folder: Path,
    name: str,
    bands: Mapping[str, tuple[float, Callable[[np.ndarray, np.ndarray], np.ndarray]]],
    *,
    ground_m: tuple[float, float] = (900.0, 1200.0),
    suffix: str = ".tif",
    dtype: str = "uint16",
    nodata_corner_m: float = 0.0,
    **options: Any,
) -> Path:
    """Write SCENE_BAND files of several resolutions over one ground of (height, width) metres.

    Each band is (resolution in metres, function of metres east and south of the origin, at pixel
    centres). The upper left corner of ``nodata_corner_m`` is 0 in every band.
    """
    for band, (resolution, value) in bands.items():
        grid = make_grid(round(ground_m[0] / resolution), round(ground_m[1] / resolution), resolution)
        east, south = centres(grid)
        numbers = np.asarray(value(east, south))
        numbers = np.where((east < nodata_corner_m) & (south < nodata_corner_m), 0, numbers)
        if np.issubdtype(np.dtype(dtype), np.integer):
            numbers = np.round(numbers)
        write_band(folder / f"{name}_{band}{suffix}", grid, numbers.astype(dtype), **options)
    return folder


def small_scene(folder: Path, name: str = "T33UUU_20170216T102101", **options: Any) -> Path:
    """A scene of four 10 m bands, 90 x 120 px, with a 100 m nodata corner and numbers that tell the pixel."""
    bands = {
        band: (10.0, lambda east, south, base=base, i=i: base + (i + 1) * east / 10 + (5 - i) * south / 10)
        for i, (band, base) in enumerate(BAND_VALUES.items())
    }
    return write_scene(folder / name, name, bands, nodata_corner_m=100.0, **options)


def write_raster(
    path: Path,
    channels: Mapping[str, np.ndarray],
    *,
    grid: Grid | None = None,
    valid: np.ndarray | None = None,
    radiometry: Radiometry | None = None,
    nodata: float | None = None,
) -> Path:
    """Write a raster as Landfold's own stages do: named channels of (y, x) numbers, one mask."""
    values = np.stack(list(channels.values()))
    grid = grid or make_grid(*values.shape[1:])
    own = [radiometry] * len(channels) if radiometry else None
    with create(path, grid, list(channels), dtype=str(values.dtype), radiometry=own, nodata=nodata) as writer:
        for window in grid.blocks():
            rows, columns = window.toslices()
            writer.write(window, values[:, rows, columns], None if valid is None else valid[rows, columns])
    return path


def write_labelled_scene(
    folder: Path,
    name: str,
    values: np.ndarray,
    labels: np.ndarray,
    *,
    grid: Grid | None = None,
    valid: np.ndarray | None = None,
) -> np.ndarray:
    """Write normalized/NAME.tif and labels/NAME.tif below a folder, as normalize and patches do.

    Args:
        folder: such as data.
        name: of the scene.
        values: (channel, y, x) in [0, 1]; channels are called c0, c1, ...
        labels: (y, x) class numbers from 1, 0 unlabelled.
        grid: where they lie.
        valid: (y, x) bool, which pixels hold data; by default all.

    Returns:
        The values as they are in the file, 0 without data.
    """
    values = values.astype(np.float32)
    if valid is not None:
        values = np.where(valid, values, np.float32(0))
    channels = {f"c{number}": channel for number, channel in enumerate(values)}
    for part in ("normalized", "labels"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    write_raster(folder / f"normalized/{name}.tif", channels, grid=grid, valid=valid)
    write_raster(folder / f"labels/{name}.tif", {"class": labels.astype(np.uint8)}, grid=grid, nodata=0)
    return values


def box(left: float, top: float, right: float, bottom: float) -> shapely.Polygon:
    """A rectangle in metres east and south of the common origin."""
    return shapely.box(ORIGIN_X + left, ORIGIN_Y - bottom, ORIGIN_X + right, ORIGIN_Y - top)


def write_labels(
    path: Path,
    polygons: list[tuple[str | None, shapely.Geometry]],
    *,
    crs: CRS | None = CRS_UTM33,
    to: str | None = None,
) -> Path:
    """Write a label file with the attribute ``kind``; ``to`` is a CRS to reproject into."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kinds, shapes = zip(*polygons, strict=True)
    table = geopandas.GeoDataFrame({"kind": list(kinds)}, geometry=list(shapes), crs=crs)
    (table.to_crs(to) if to else table).to_file(path)
    return path


def halves(path: Path) -> Path:
    """Labels of `small_scene`: fields in the west half, a lake in the east half."""
    return write_labels(path, [("crop", box(0, 0, 600, 900)), ("lake", box(600, 0, 1200, 900))])


def footprint_table(
    x: np.ndarray, y: np.ndarray, zone: np.ndarray, fold: np.ndarray, *, size_m: float = 1.0, labels: Any = "a"
) -> geopandas.GeoDataFrame:
    """A table of square patches around points, as the zones stage has it."""
    half = size_m / 2
    return geopandas.GeoDataFrame(
        {"patch": [f"s/{i}" for i in range(len(x))], "zone": zone, "fold": fold, "label": labels},
        geometry=shapely.box(x - half, y - half, x + half, y + half),
        crs=CRS_UTM33,
    )


def wheel(
    folder: Path, members: Mapping[str, bytes], *, name: str = "landfold_testdata", version: str = "1.0.1"
) -> Path:
    """A wheel that pip can download, with the given files inside."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    own = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in {**members, **own}.items():
            archive.writestr(member, content)
        record = "".join(f"{member},,\n" for member in [*members, *own]) + f"{info}/RECORD,,\n"
        archive.writestr(f"{info}/RECORD", record)
    return path


def tree(folder: Path) -> dict[str, str]:
    """Relative names and digests of all files below a folder: what must not change."""
    return {p.relative_to(folder).as_posix(): file_sha256(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def leftovers(folder: Path) -> list[str]:
    """Temporary names that no run may leave behind."""
    marks = (".partial-", ".earlier-")
    return [p.name for p in folder.rglob("*") if p.name.startswith(marks)]


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))
