"""A class map and a sample of it whose truth is known."""

import geopandas
import numpy as np
import rasterio

from landfold.accuracy.sample import draw_sample
from landfold.geo.writer import create
from tests.factories import CRS_UTM33, make_grid

NAMES = ["water", "Grünland, naß", "field", "town"]


CELL_M = 80.0


SIZES = {"water": 0.03, "Grünland, naß": 0.07, "field": 0.6, "town": 0.3}


def mapped_classes(height=60, width=95):
    """Class numbers in bands of rows, 0 in a corner, and a class that is not the neighbour of its number."""
    bounds = np.cumsum([round(share * height) for share in SIZES.values()])
    rows = np.minimum(np.searchsorted(bounds, np.arange(height), side="right"), len(NAMES) - 1) + 1
    values = np.repeat(rows[:, None], width, axis=1).astype(np.uint8)
    values[:, -7:] = 1
    values[:5, :9] = 0
    return values


def write_class_map(path, values, *, names=NAMES, crs=CRS_UTM33):
    """As the export stage does, before it is copied into a COG."""
    grid = make_grid(*values.shape, CELL_M, crs=crs, x_px=3, y_px=5)
    with create(path, grid, ["class"], dtype="uint8", nodata=0) as writer:
        colours = dict.fromkeys(range(1, len(names) + 1), (1, 2, 3))
        writer.describe_classes(dict(enumerate(names, 1)), colours)
        writer.write(grid.whole, values[None])
    return path


def truth_of(values):
    """The reference class of every cell: the map's, but for every third column where a neighbour class is true."""
    truth = values.astype(int).copy()
    truth[:, ::3] = truth[:, ::3] % len(NAMES) + 1
    return truth


def cells_under(path, shapes):
    """Rows and columns of the map's cells in which points lie."""
    with rasterio.open(path) as dataset:
        columns, rows = ~dataset.transform @ (shapes.x.to_numpy(), shapes.y.to_numpy())
    return np.floor(rows).astype(int), np.floor(columns).astype(int)


def sample_file(path, class_map, *, points=200, minimum=20, truth=None, to="EPSG:4326", change=None, **options):
    """A drawn sample, interpreted by ``truth`` (row, column), in another CRS."""
    drawn = path.with_name(f"{path.stem}-drawn.gpkg")
    draw_sample(class_map, drawn, points=points, minimum=minimum, seed=3, with_map_class=True, **options)
    table = geopandas.read_file(drawn, layer="points")
    with rasterio.open(class_map) as dataset:
        numbers = (dataset.read(1) if truth is None else truth)[cells_under(class_map, table.geometry)]
    table["reference"] = [NAMES[number - 1] for number in numbers]
    if change is not None:
        table = change(table)
    table.to_crs(to).to_file(path)
    return path
