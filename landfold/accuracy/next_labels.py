"""Where to label next: squares of a map, ranked by how little its model knows of them.

A square has four measures: the dissimilarity of its ground to the training patches (Meyer and Pebesma 2021,
https://doi.org/10.1111/2041-210X.13650), the share of the networks that disagree with their mean (query by committee,
Seung et al. 1992, https://doi.org/10.1145/130385.130417), its distance to the nearest label, and the margin between the
probabilities of its first two classes (margin sampling, Scheffer et al. 2001, https://doi.org/10.1007/3-540-44816-0_31).
Each is taken as a rank among all squares, so that units do not matter. Half of the score is the rank of a small margin,
half the mean of the three others: ``python -m benchmarks.next`` compares it with chance. Points are taken from the
highest score down, none closer to another than the spacing.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import geopandas
import numpy as np
import pandas
import shapely
from rasterio.windows import Window
from scipy.spatial import cKDTree

from landfold.core.errors import LandfoldError
from landfold.geo.raster import Raster
from landfold.geo.vector import check_features, read_layer, write_geopackage
from landfold.maps.classmap import NO_CLASS, ClassMap

SIDE_M = 160.0
"""Side of a square, about: as long as a patch of the default. Single pixels are noisier."""

STRIP_CELLS = 512
"""Rows of cells that are read at once, about."""

MEASURES = {
    "dissimilarity": "unlike the training patches",
    "disagreement": "the networks disagree",
    "distance_m": "far from labels",
    "margin": "two classes are about as probable",
}
"""What a square is scored by, and the words for one whose rank is high."""

OF_OTHERS = ("_ensemble_class.tif", "mosaic_class.tif")
"""Class rasters in a folder of maps that are of the same ground as those of the scenes."""

HIGH = 0.9
"""A measure is a reason for a point if so large a share of the squares lies below; else the highest measure is."""


class NextError(LandfoldError):
    """Places to label that cannot be found."""


@dataclass(frozen=True)
class MapLayers:
    """The rasters of one scene's map that tell what its model does not know."""

    classes: Path
    confidence: Path
    applicability: Path

    @classmethod
    def of(cls, classes: Path) -> "MapLayers":
        """The rasters beside SCENE_class.tif: those of the ensemble where there are any.

        Raises:
            NextError: one of them is not there.
        """
        scene = classes.name.removesuffix("_class.tif")
        found = []
        remedies = {"confidence": "map the scene again", "applicability": "set export.applicability: true"}
        for part, remedy in remedies.items():
            names = [f"{scene}{kind}_{part}.tif" for kind in ("_ensemble", "")]
            paths = [path for path in map(classes.with_name, names) if path.is_file()]
            if not paths:
                raise NextError(f"{classes.with_name(names[1])}: not found, and needed beside {classes.name}; {remedy}")
            found.append(paths[0])
        return cls(classes, *found)


def find_maps(paths: Sequence[Path]) -> list[MapLayers]:
    """The maps of folders, as stage export or `landfold predict` writes them, and of single files SCENE_class.tif.

    Raises:
        NextError: a path that is neither, a folder without a map, or layers that are not there.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            own = [file for file in sorted(path.glob("*_class.tif")) if not file.name.endswith(OF_OTHERS)]
        else:
            own = [path] if path.is_file() and path.name.endswith("_class.tif") else []
        if not own:
            raise NextError(f"{path}: no map; expected a folder with SCENE_class.tif, or such a file")
        files += own
    return [MapLayers.of(file) for file in files]


def write_next(
    maps: Sequence[MapLayers], labels: Path, target: Path, *, points: int, spacing_m: float
) -> pandas.DataFrame:
    """Write the places to label next as a GeoPackage with a layer of points, the first to be labelled first.

    Its columns are rank, scene, class (of most cells of the square), score, dissimilarity, disagreement, distance_m,
    margin, reason, x and y.

    Args:
        maps: in one CRS, in metres.
        labels: a vector file of what is labelled, in any CRS, such as data/patches.parquet.
        target: a new file, which ends in .gpkg.
        points: how many; there are fewer where the spacing leaves no more.
        spacing_m: least distance between two of them, metres.

    Returns:
        The table of the points.

    Raises:
        NextError: the target exists, maps of several CRSs, no square that is not labelled, or layers of other grids.
        ClassMapError, RasterError, VectorError: a file cannot be used.
    """
    if target.exists() or target.suffix.lower() != ".gpkg":
        raise NextError(f"{target}: exists, or is no GeoPackage; give -o a new name that ends in .gpkg")
    if points < 1 or not spacing_m >= 0:
        raise NextError(f"-n {points}, --spacing {spacing_m:g}: expected 1 or more points and metres of 0 or more")
    parts = [read_squares(layers) for layers in maps]
    crs = parts[0].crs
    other = [layers.classes for layers, part in zip(maps, parts, strict=True) if part.crs != crs]
    if other:
        raise NextError(f"{other[0]}: another CRS than {maps[0].classes}; give the maps of one CRS at a time")
    labelled = read_layer(labels, setting=None)
    check_features(labels, labelled, "labelled polygons, patches or points")
    squares = pandas.concat(parts, ignore_index=True)
    near = labelled.to_crs(crs).sindex.nearest(squares.geometry, return_all=False, return_distance=True)[1]
    squares = squares.assign(distance_m=near)[near > 0].reset_index(drop=True)
    if squares.empty:
        raise NextError(f"{labels}: all squares of the maps are labelled")
    ranks = measure_ranks(squares)
    score = scores(ranks)
    x, y = squares.geometry.x.to_numpy(), squares.geometry.y.to_numpy()
    chosen = choose(score, x, y, points=points, spacing_m=spacing_m)
    table = squares.iloc[chosen].reset_index(drop=True)
    table.insert(0, "rank", np.arange(1, len(table) + 1))
    table = table.assign(score=score[chosen], reason=reasons(ranks.iloc[chosen]), x=x[chosen], y=y[chosen])
    write_geopackage(target, {"next": table.round(dict.fromkeys(("score", *MEASURES), 4) | {"distance_m": 1})})
    return table


def measure_ranks(squares: pandas.DataFrame) -> pandas.DataFrame:
    """The share of the squares that lie below each, or above its margin, ties halved, for every one of `MEASURES`."""
    high = squares[list(MEASURES)].assign(margin=-squares["margin"])
    return (high.rank() - 0.5) / len(squares)


def scores(ranks: pandas.DataFrame) -> np.ndarray:
    """Half the rank of the margin, half the mean of the others: (square,), 0 to 1."""
    return ((ranks["margin"] + ranks.drop(columns="margin").mean(axis=1)) / 2).to_numpy()


def reasons(ranks: pandas.DataFrame) -> list[str]:
    """In words what makes each square worth a label."""
    limits = np.minimum(ranks.max(axis=1), HIGH)
    return [
        ", ".join(words for name, words in MEASURES.items() if row[name] >= limit)
        for (_, row), limit in zip(ranks.iterrows(), limits, strict=True)
    ]


def choose(score: np.ndarray, x: np.ndarray, y: np.ndarray, *, points: int, spacing_m: float) -> np.ndarray:
    """Positions of at most so many places, from the highest score down, none closer to another than the spacing.

    Args:
        score: (place,).
        x: (place,) metres.
        y: (place,) metres.
        points: how many.
        spacing_m: metres.
    """
    places = np.column_stack([x, y])
    tree, free, chosen = cKDTree(places), np.ones(len(score), dtype=bool), []
    for place in np.argsort(-score, kind="stable"):
        if free[place]:
            chosen.append(place)
            free[tree.query_ball_point(places[place], np.nextafter(spacing_m, 0))] = False
            if len(chosen) == points:
                break
    return np.array(chosen)


def read_squares(layers: MapLayers) -> geopandas.GeoDataFrame:
    """The squares of a map of which at least half of the cells have a class.

    Returns:
        ``scene``, ``class`` of most cells, and means of ``dissimilarity``, ``disagreement`` and ``margin``, at their
        centres.

    Raises:
        NextError: layers of other grids, or without the band that is needed.
        ClassMapError, RasterError: a file cannot be used.
    """
    with ExitStack() as stack:
        classes = stack.enter_context(ClassMap.open(layers.classes))
        confidence = stack.enter_context(Raster.open(layers.confidence))
        applicability = stack.enter_context(Raster.open(layers.applicability))
        measures = {"dissimilarity": applicability, "disagreement": confidence, "margin": confidence}
        for name, raster in measures.items():
            if name not in raster.names:
                raise NextError(f"{raster.dataset.name}: no band {name}; map the scene with margin in export.layers")
            difference = raster.grid.difference(classes.grid)
            if difference:
                raise NextError(f"{raster.dataset.name}: another grid than {layers.classes}: {difference}")
        grid, side = classes.grid, max(1, round(SIDE_M / classes.grid.resolution[0]))
        rows = max(1, STRIP_CELLS // side) * side
        windows = [Window(0, row, grid.width, min(rows, grid.height - row)) for row in range(0, grid.height, rows)]
        parts = [_squares_of_strip(classes, measures, window, ranks, side) for window, ranks in classes.scan(windows)]
    table = pandas.concat(parts, ignore_index=True)
    table.insert(0, "scene", layers.classes.name.removesuffix("_class.tif"))
    return table


def _squares_of_strip(
    classes: ClassMap, measures: Mapping[str, Raster], window: Window, ranks: np.ndarray, side: int
) -> geopandas.GeoDataFrame:
    """The squares of some rows of a map, of so many cells a side; ``ranks`` as `ClassMap.scan` gives them."""
    counts = np.stack([_sums(ranks == number, side) for number in range(1, len(classes.names) + 1)])
    cells, all_cells = counts.sum(axis=0), _sums(np.ones(ranks.shape), side)
    used = np.nonzero(2 * cells >= all_cells)
    columns: dict[str, np.ndarray] = {"class": np.array(classes.names, dtype=object)[counts.argmax(axis=0)[used]]}
    for name, raster in measures.items():
        values = np.where(ranks == NO_CLASS, 0, np.nan_to_num(raster.read_raw(window, [name])[0]))
        columns[name] = _sums(values, side)[used] / cells[used]
    y, x = np.indices(ranks.shape) + 0.5
    centre_y, centre_x = (_sums(values, side)[used] / all_cells[used] for values in (y + window.row_off, x))
    points = shapely.points(*(classes.grid.transform @ (centre_x, centre_y)))
    return geopandas.GeoDataFrame(columns, geometry=points, crs=classes.grid.crs)


def _sums(values: np.ndarray, side: int) -> np.ndarray:
    """Sums over squares of so many cells, smaller at the lower and right edge: (y, x) to (row, column)."""
    rows, columns = (range(0, length, side) for length in values.shape)
    return np.add.reduceat(np.add.reduceat(values.astype(np.float64), rows, axis=0), columns, axis=1)
