"""docs/your-data.md is true: every example's files are made, its settings pasted, and what is printed compared.

Each goes on to its map, with networks of pixels and of patches where its labels allow both.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
import yaml

import stages.indices
import stages.ingest
import stages.normalize
import stages.patches
from landfold.geo.grid import Grid
from tests import factories, in_process, products
from tests.kinds import switched
from tests.server import Server

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/your-data.md"
SCENE_STAGES = (stages.ingest, stages.indices, stages.normalize, stages.patches)
SMALL: dict[str, dict[str, Any]] = {
    "zones": {"k": 2, "folds": [0, 1], "block_size_m": 240, "assignment": "group", "buffer_m": 0},
    "audit": {"pixels": 200, "trees": 5, "prediction_points": 20, "network": False},
    "train": {"epochs": 1},
    "track": {"enabled": False},
}
"""What the examples need to be folded, and to be trained in no time."""


class Example(NamedTuple):
    title: str
    files: list[str]
    texts: dict[str, str]
    changes: dict[str, dict[str, Any]]
    printed: list[str]

    @property
    def units(self) -> list[str]:
        """What can have a label: patches, and pixels unless a label is one of a whole scene."""
        return ["patch"] if self.changes["labels"]["kind"] in ("table", "folder") else ["pixel", "patch"]


def examples() -> list[Example]:
    """The sections of the page that begin with ###: a tree of files, texts of some, a YAML block, what is printed."""
    found = []
    for section in re.split(r"^### ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        title, _, text = section.partition("\n")
        blocks = re.findall(r"^```([^\n]*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
        (_, listing), *texts, (kind, settings), (_, printed) = blocks
        assert kind == "yaml", title
        own = {name.removeprefix("text "): content for name, content in texts}
        found.append(Example(title, paths(listing), own, yaml.safe_load(settings), printed.splitlines()))
    return found


def paths(listing: str) -> list[str]:
    """The files of a tree in which two more spaces lead one folder down."""
    folders: list[str] = []
    files = []
    for line in listing.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        folders = [*folders[:depth], line.strip()]
        if not line.endswith("/"):
            files.append("".join(folders))
    return sorted(files)


def halves(path: Path, values: tuple[str, str] = ("crop", "lake"), *, to: str | None = None) -> None:
    """Two polygons side by side over the ground of the products."""
    west, east = factories.box(0, 0, 480, 720), factories.box(480, 0, 960, 720)
    factories.write_labels(path, list(zip(values, (west, east), strict=True)), to=to)


def stack(path: Path, grid: Grid, count: int, names: list[str] | None = None, *, slope: int = 3) -> None:
    """A file of many bands whose numbers tell their place, and rise by ``slope`` from column to column."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns, rows = np.meshgrid(np.arange(grid.width), np.arange(grid.height))
    profile = {"driver": "GTiff", "dtype": "uint16", "count": count, "height": grid.height, "width": grid.width}
    with rasterio.open(path, "w", **profile, crs=grid.crs, transform=grid.transform) as dataset:
        for i in range(1, count + 1):
            dataset.write((1000 * i + slope * columns + 5 * rows).astype("uint16"), i)
        if names:
            dataset.descriptions = names


def safe(raw: Path) -> None:
    product = products.write_safe(raw.parent / "unzipped")
    (raw / "scenes").mkdir(parents=True)
    products.zipped(product, raw / f"scenes/{products.SAFE_NAME}.zip")
    halves(raw / "labels/fields.geojson", to="EPSG:4326")


def landsat(raw: Path) -> None:
    folder = products.write_landsat(raw / "scenes" / products.LANDSAT_NAME, ["SR_B2", "SR_B4", "SR_B5"])
    quality = np.full((24, 32), 21824, dtype="uint16")  # clear
    quality[:5, 25:] = 22280  # cloud, with high confidence
    factories.write_band(folder / f"{products.LANDSAT_NAME}_QA_PIXEL.TIF", factories.make_grid(24, 32, 30.0), quality)
    grid = factories.make_grid(80, 100, 10.0, x_px=-2, y_px=-4)
    east, _ = factories.centres(grid)
    factories.write_band(raw / "labels/landcover.tif", grid, np.where(east < 480, 2, 11).astype("uint8"))


def bands_and_points(raw: Path) -> None:
    factories.write_scene(
        raw / "scenes/summer",
        "summer_20200701",
        {
            band: (10.0, lambda east, south, i=i: 1000 * i + east + south)
            for i, band in enumerate(["B", "G", "R", "N"], 1)
        },
        ground_m=products.GROUND_M,
    )
    grid = factories.make_grid(72, 96)
    clouds = np.zeros(grid.shape, dtype="uint8")
    clouds[40:, 80:] = 2
    factories.write_band(raw / "scenes/summer/summer_20200701_clouds.tif", grid, clouds)
    places = [(east, south) for east in range(85, 960, 160) for south in range(85, 720, 160)]
    points = [shapely.Point(factories.ORIGIN_X + east, factories.ORIGIN_Y - south) for east, south in places]
    table = geopandas.GeoDataFrame(
        {"kind": ["crop" if east < 480 else "lake" for east, _ in places]}, geometry=points, crs=factories.CRS_UTM33
    )
    (raw / "labels").mkdir()
    table.to_file(raw / "labels/field visits.gpkg")


def two_zones(raw: Path) -> None:
    names = ["blue", "green", "red", "nir"]
    stack(raw / "scenes/west_20210614.tif", factories.make_grid(72, 96), 4, names)
    there = geopandas.GeoSeries([factories.box(0, 0, 960, 720)], crs=factories.CRS_UTM33).to_crs("EPSG:32632")
    x_min, _, _, y_max = there.total_bounds
    x, y = (round((a - b) / 10) for a, b in ((x_min, factories.ORIGIN_X), (factories.ORIGIN_Y, y_max)))
    crs = rasterio.crs.CRS.from_epsg(32632)
    stack(raw / "scenes/east_20210614.tif", factories.make_grid(90, 100, crs=crs, x_px=x, y_px=y), 4, names)
    halves(raw / "labels/fields.gpkg")


def tiles(raw: Path) -> None:
    for i, name in enumerate(["Forest/Forest_1", "Forest/Forest_2", "SeaLake/SeaLake_1", "SeaLake/SeaLake_2"]):
        crs = rasterio.crs.CRS.from_epsg(32631 + i)
        stack(raw / f"scenes/{name}.tif", factories.make_grid(64, 64, crs=crs, x_px=100 * i), 13, slope=2 * i)


def table_of_tiles(raw: Path) -> None:
    for i in range(1, 6):
        stack(raw / f"scenes/tile_{i}.tif", factories.make_grid(64, 64, x_px=100 * i), 4, slope=2 * i)
    (raw / "labels").mkdir()
    (raw / "labels/classes.csv").write_text(
        "file,class\ntile_1.tif,wood\ntile_2.tif,water\ntile_3,wood\ntile_4,water\ntile_5,unclear\n"
    )


def far_away(raw: Path) -> None:
    """The files of the two remote examples, which a server on this machine offers; here only the labels."""
    halves(raw / "labels/fields.gpkg")


BUILDERS: dict[str, Callable[[Path], None]] = {
    "Sentinel-2 as ESA delivers it, polygons": safe,
    "Landsat Collection 2, a label raster": landsat,
    "One file a band, points": bands_and_points,
    "Multi-band files in two UTM zones, polygons": two_zones,
    "Many small tiles in folders of classes (EuroSAT)": tiles,
    "Small tiles and a table": table_of_tiles,
    "Remote files by URL, polygons": far_away,
    "Remote files from a catalogue (STAC), polygons": far_away,
}


def prepare(example: Example, folder: Path, server: Server, unit: str) -> None:
    """The delivery and params.yaml of an example; example.org is a server here, with files of four bands."""
    BUILDERS[example.title](folder / "data/raw")
    products_far_away(server)
    for name, text in example.texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("https://example.org/", server.url("")), encoding="utf-8")
    content = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    if unit == "patch":
        content = switched("classifier", folder)
    change(content, example.changes)
    (folder / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def change(content: dict[str, Any], changes: dict[str, dict[str, Any]]) -> None:
    for section, values in changes.items():
        assert set(values) <= set(content[section]), section
        for name, value in values.items():
            own = content[section][name]
            content[section][name] = own | value if name == "masks" else value


def products_far_away(server: Server) -> None:
    bands = {f"B0{i}": (10.0, lambda east, south, i=i: 1000 * i + east + south / 2) for i in (3, 4, 8)}
    factories.write_scene(server.root, "T33UUU_20170216T102101", bands, ground_m=(1200, 1500))


def test_every_example_is_run():
    assert [example.title for example in examples()] == list(BUILDERS)


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.title)
def test_an_example_is_true(example: Example, tmp_path: Path, stage: Callable[..., str], server: Server) -> None:
    prepare(example, tmp_path, server, example.units[0])
    delivered = [p.relative_to(tmp_path).as_posix() for p in (tmp_path / "data/raw").rglob("*") if p.is_file()]
    assert sorted(delivered) == example.files
    printed = "".join(stage(module) for module in SCENE_STAGES)
    assert re.sub(r" \(\d+\.\d s\)$", "", printed, flags=re.MULTILINE).splitlines() == example.printed


@pytest.mark.parametrize(
    ("example", "unit"),
    [(example, unit) for example in examples() for unit in example.units],
    ids=lambda part: part if isinstance(part, str) else part.title,
)
def test_an_example_runs_to_its_map(
    example: Example, unit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    prepare(example, tmp_path, server, unit)
    monkeypatch.chdir(tmp_path)
    content = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    change(content, SMALL)
    if unit == "pixel":
        content["train"] |= {"epoch_size": 512, "max_pixels": 1000}
    Path("params.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    params = in_process.to_maps(monkeypatch)
    scenes = sorted(path.stem for path in Path("data/scenes").glob("*.tif"))
    for scene in scenes:
        with rasterio.open(f"data/maps/{scene}_class.tif") as classes, rasterio.open(f"data/scenes/{scene}.tif") as own:
            assert classes.read(1).any()
            assert classes.res[0] == own.res[0] * (params.export.stride_px or 1)
