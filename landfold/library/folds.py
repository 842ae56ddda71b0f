"""Spatial folds of any table of footprints, for a notebook and for scikit-learn: those of the pipeline, without files.

`spatial_folds` brings a table into the form of data/patches.parquet, folds it with
`landfold.folds.assignment.fold_patches`, and proves the result with `landfold.folds.check.check_splits`.
"""

import dataclasses
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import geopandas
import numpy as np

from landfold.core.errors import LandfoldError
from landfold.core.settings import validate
from landfold.folds.assignment import fold_patches
from landfold.folds.settings import ZoneSettings
from landfold.folds.split import FoldError, random_splits
from landfold.folds.summary import random_warnings
from landfold.library.cross_validators import RandomFolds, SpatialFolds, as_arguments
from landfold.library.inputs import footprints_in_metres, location_points, read_zones, row_values, rows_in_region

TRIES = 1000
"""Random assignments of which ``assignment="balanced"`` takes the best."""


class FoldWarning(UserWarning):
    """Folds that are sound but poor, such as a class that lies in one zone alone."""


def spatial_folds(
    table: geopandas.GeoDataFrame | geopandas.GeoSeries,
    *,
    k: int = 5,
    block_size_m: float | None = None,
    zones: str | Sequence[Any] | geopandas.GeoDataFrame | None = None,
    kind: Literal["grid", "hexagon", "kmeans"] | None = None,
    clusters: int | None = None,
    label: str | Sequence[Any] | None = None,
    buffer_m: float = 0,
    overlaps: Literal["buffer", "merge"] = "buffer",
    assignment: Literal["stratified", "group", "balanced", "knndm"] | None = None,
    prediction_locations: Any = None,
    test_region: Any = None,
    origin_m: tuple[float, float] = (0, 0),
    crs: Any = None,
    seed: int = 0,
) -> SpatialFolds:
    """Spatial cross-validation folds: whole zones of ground, and training that shares no ground with test rows.

    Rows go to the zone that holds the centre of their footprint, and zones go to folds. In each fold, training rows
    whose footprint shares ground with a test row, or lies within ``buffer_m`` of one, are dropped. The result is then
    proved by another algorithm; see `SpatialFolds.check`.

    Args:
        table: footprints, polygons or points, in a projected CRS in metres (see ``crs``). A polygon is all the ground
            that the features of a row were taken from: the window of an image, say, not its centre. Points have no
            area; two samples at one point share ground.
        k: number of folds.
        block_size_m: side of a square block, or width of a hexagon from flat to flat, in metres: larger than the
            range over which errors resemble each other (`audit_folds` measures it).
        zones: instead of blocks: a column of the table, or a value for each row, that names its zone; or a table of
            polygons, each of which is a zone (with a column ``zone``, polygons of one name are one zone).
        kind: ``grid`` (default), ``hexagon``, or ``kmeans``: clusters of the rows, which all move with new data.
        clusters: kmeans: number of clusters.
        label: column of the table, or a value for each row: the class. It balances the folds, and is counted.
        buffer_m: width of the buffer around test rows, metres from edge to edge.
        overlaps: rows of two zones that share ground are dropped next to another fold (``buffer``), or their zones
            become one (``merge``), so that no row is dropped for that.
        assignment: ``stratified`` balances the classes over the folds (default with ``label``), ``group`` the number
            of rows (default without), ``balanced`` takes the best of 1000 random assignments, by classes, ``knndm``
            holds out rows as far from training as ``prediction_locations`` are from rows.
        prediction_locations: knndm: where the classifier is to predict, a table of geometries, or (x, y) pairs in the
            CRS of the folds.
        test_region: ground for a last score, whose rows no fold trains on or tests: polygons (a table or a geometry)
            or (x_min, y_min, x_max, y_max) in the CRS of the folds.
        origin_m: x and y of a corner where four blocks meet, or of the centre of a hexagon. Zones never move when
            rows are added.
        crs: brings the footprints into this CRS first; ``"utm"``: into the UTM zone of the table.
        seed: of the assignment and the clusters.

    Returns:
        Folds to pass to scikit-learn as ``cv=``.

    Raises:
        FoldError: footprints without CRS, in degrees, or that are missing or invalid; fewer zones than folds; a
            buffer that leaves no training; and what else cannot be folded.
        SettingsError: a value that is out of its range.

    Warns:
        FoldWarning: folds that are sound but poor; see `SpatialFolds.warnings`.

    Examples:
        >>> import geopandas, shapely
        >>> left = [500000 + 100 * i for i in range(12)]
        >>> windows = geopandas.GeoSeries([shapely.box(x, 0, x + 120, 120) for x in left], crs="EPSG:32633")
        >>> folds = spatial_folds(windows, k=2, block_size_m=600, origin_m=(500000, 0))
        >>> for train, test in folds:
        ...     print("train", train, "test", test)
        train [0 1 2 3 4] test [ 6  7  8  9 10 11]
        train [ 7  8  9 10 11] test [0 1 2 3 4 5]
        >>> folds.buffer.tolist()  # windows 5 and 6 overlap
        [1, 1]
    """
    footprints = footprints_in_metres(table, crs)
    kind, names, polygons = read_zones(table, zones, kind, footprints.crs)
    blocks = kind in ("grid", "hexagon")
    if blocks and block_size_m is None:
        raise FoldError(
            "block_size_m is missing: the side of a block in metres, larger than the range over which errors resemble "
            "each other; or name zones of your own with zones="
        )
    assignment = assignment or ("group" if label is None else "stratified")
    values = {
        "k": k,
        "folds": list(range(k)),
        "repeats": 1,
        "kind": kind,
        "block_size_m": block_size_m,
        "origin_m": origin_m if blocks else None,
        "clusters": clusters,
        "file": "zones" if polygons is not None else None,
        "attribute": "zone" if polygons is not None else None,
        "overlaps": overlaps,
        "assignment": assignment,
        "tries": TRIES if assignment == "balanced" else None,
        "test_region": None,
        "buffer_m": buffer_m,
        "seed": seed,
    }
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()}
    settings = validate(plain, ZoneSettings, where="spatial_folds")
    columns = {
        "patch": [str(row) for row in table.index],
        "label": "all" if label is None else row_values(table, label, "label").astype(str),
        "x": footprints.centroid.x,
        "y": footprints.centroid.y,
    }
    locations = None if prediction_locations is None else location_points(prediction_locations, footprints.crs)
    if (assignment == "knndm") != (locations is not None):
        raise FoldError("assignment='knndm' and prediction_locations go together; pass both, or neither")
    patches = geopandas.GeoDataFrame(columns | ({} if names is None else {"zone_value": names}), geometry=footprints)
    try:
        folds = fold_patches(patches, settings, rows_in_region(footprints, test_region), polygons, locations)
    except LandfoldError as error:
        raise FoldError(as_arguments(str(error))) from None
    folds = dataclasses.replace(folds, random=[])  # `random_folds` makes them where they are asked for
    result = SpatialFolds(index=table.index, masks=folds.spatial, folds=folds, settings=settings)
    result.check()
    if result.warnings:
        warnings.warn("\n".join(result.warnings), FoldWarning, stacklevel=2)
    return result


def random_folds(folds: SpatialFolds, *, seed: int = 0) -> RandomFolds:
    """Random folds of the same rows, each with as many training rows as the spatial fold of its number.

    What a score under them has over that under spatial folds is the optimism of random cross-validation. They are
    stratified by class.

    Args:
        folds: the spatial folds.
        seed: of the draws.

    Warns:
        FoldWarning: a fold in which all other rows are fewer than the spatial fold trains on.
    """
    table = folds.folds.table
    test = (table["fold"] == -1).to_numpy()
    masks = random_splits(table["label"].to_numpy(), test, folds.masks, seed=(seed, 0))
    for message in random_warnings(folds.masks, masks):
        warnings.warn(as_arguments(message), FoldWarning, stacklevel=2)
    return RandomFolds(index=folds.index, masks=masks)
