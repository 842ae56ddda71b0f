"""Area of applicability: where a map's ground is like that on which its models were trained and scored.

After Meyer and Pebesma (2021), "Predicting into unknown space?", doi:10.1111/2041-210X.13650, with the
definitions of their package CAST (trainDI, aoa). Predictors are the band statistics of a window. They
are standardized by the mean and the standard deviation of the training patches and multiplied by their
importance. The dissimilarity index (DI) of a window is its Euclidean distance to the nearest training
patch, divided by the mean distance of all pairs of training patches. The DI of a training patch is its
distance to the patches that its fold trains on, as its score is of that fold. The threshold is the upper
whisker of those indices; ground above it is outside, and the cross-validated accuracy does not apply there.

A CNN has no importance of a band's mean, so the weights are those of a random forest fitted on the same
patches. Cost is bounded: at most `MOST_PATCHES` training patches (a seeded sample of more), one search of a
k-d tree for each window, the mean distance from at most `PAIRS` pairs beyond `EXACT_PATCHES` patches. Memory
holds one tree for each fold and one strip of the map.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from rasterio.windows import Window
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist

from landfold.core.errors import LandfoldError
from landfold.folds.lists import read_fold_list
from landfold.geo.grid import Grid
from landfold.geo.raster import Raster
from landfold.maps.inference import map_grid
from landfold.patches.features import cell_features, patch_features

METHOD = "area of applicability, Meyer and Pebesma 2021, doi:10.1111/2041-210X.13650"
MOST_PATCHES = 30_000
EXACT_PATCHES = 4_000
"""Up to here the mean distance is that of all pairs, 64 MB of them."""

PAIRS = 1_000_000
"""Random pairs beyond: the standard error is a thousandth of the spread of the distances."""

TREES, PATCHES_OF_TREE = 100, 2_000
"""Of the forest behind the weights: about a second, however many patches there are."""

SEED = 0


class ApplicabilityError(LandfoldError):
    """Training patches that define no area of applicability."""


@dataclass(frozen=True)
class Applicability:
    """The training patches as points in feature space, and the index at which the area of applicability ends.

    Attributes:
        names: of the features that differ between training patches; a constant one has no standard deviation.
        used: their columns.
        weights: their importance.
        centre: their means.
        factor: their weights over their standard deviations.
        patches: number of training patches.
        mean_distance: of all pairs of training patches.
        training: (patch,) float32, the index of the training patches, each in the fold that validates it.
        threshold: the largest index inside the area.
        folds: the patches that each fold trains on.
        ensemble: the training patches of all folds.
        size_px: side of the patches.
    """

    names: list[str]
    used: np.ndarray
    weights: np.ndarray
    centre: np.ndarray
    factor: np.ndarray
    patches: int
    mean_distance: float
    training: np.ndarray
    threshold: float
    folds: list[cKDTree]
    ensemble: cKDTree
    size_px: int

    @classmethod
    def of(
        cls, features: pandas.DataFrame, labels: np.ndarray, sides: Sequence[pandas.Series], *, size_px: int
    ) -> "Applicability":
        """Learn the area of applicability from the training patches.

        Args:
            features: of every patch, as `landfold.patches.features.patch_features` has them.
            labels: class of every patch, in the same order.
            sides: for each fold ``train`` or another word for the patches, with their ids as index; a patch
                that no fold trains on is not used.
            size_px: side of the patches in pixels.

        Raises:
            ApplicabilityError: fewer than two training patches, one without a valid pixel, a fold that
                trains on none, no patch that was validated, or patches that are all alike.
        """
        chosen, train, validation = _training_patches(features, sides)
        values = features.to_numpy(np.float64)[chosen]
        used = np.flatnonzero(values.max(axis=0) > values.min(axis=0))
        if not len(used):
            raise ApplicabilityError("all training patches have the same band statistics; is data/normalized empty?")
        values = values[:, used]
        weights = _importances(values, np.asarray(labels)[chosen])
        centre, factor = values.mean(axis=0), weights / values.std(axis=0, ddof=1)
        points = _points(values, centre, factor)
        mean_distance = _mean_distance(points)
        trees = [cKDTree(points[mine]) for mine in train]
        distances = [tree.query(points[mine])[0] for tree, mine in zip(trees, validation, strict=True)]
        training = (np.concatenate(distances) / mean_distance).astype(np.float32)
        return cls(
            names=[features.columns[i] for i in used],
            used=used,
            weights=weights,
            centre=centre,
            factor=factor,
            patches=len(chosen),
            mean_distance=mean_distance,
            training=training,
            threshold=float(np.float32(upper_whisker(training))),
            folds=trees,
            ensemble=cKDTree(points),
            size_px=size_px,
        )

    @classmethod
    def of_folds(cls, folds: Path, k: int, *, patches: Path, normalized: Path) -> "Applicability":
        """Learn the training patches of all ``k`` folds of a folder of folds.

        Args:
            folds: the folder of fold_0.parquet, fold_1.parquet, ...
            k: their number.
            patches: the table of patches.
            normalized: the folder of the normalized scenes.
        """
        table = pandas.read_parquet(patches)
        lists = [read_fold_list(folds / f"fold_{fold}.parquet", table["patch"]) for fold in range(k)]
        sides = [fold.set_index("patch")["side"] for fold in lists]
        features, size_px = patch_features(table, normalized), int(table["size_px"].iloc[0])
        return cls.of(features, table["label"].to_numpy(), sides, size_px=size_px)

    def dissimilarity(self, values: np.ndarray, folds: np.ndarray | None = None) -> np.ndarray:
        """The dissimilarity index of windows: (window,) float32, NaN where a feature is.

        Args:
            values: (window, feature), features in the order of the patches' table.
            folds: (window,), the fold whose training patches count; -1, or without ``folds``, those of all folds.
        """
        index = np.full(len(values), np.nan, dtype=np.float32)
        values = values[:, self.used]
        folds = np.full(len(values), -1) if folds is None else folds
        known = np.isfinite(values).all(axis=1)
        points = _points(values, self.centre, self.factor)
        for fold in np.unique(folds[known]):
            here = known & (folds == fold)
            tree = self.ensemble if fold < 0 else self.folds[fold]
            index[here] = tree.query(points[here], workers=-1)[0] / self.mean_distance
        return index

    def applicable(self, dissimilarity: np.ndarray) -> np.ndarray:
        """1 inside the area of applicability, 0 outside, NaN where there is no data: float32."""
        inside = (dissimilarity <= np.float32(self.threshold)).astype(np.float32)
        return np.where(np.isnan(dissimilarity), np.float32(np.nan), inside)

    def summary(self) -> dict[str, Any]:
        """Method, threshold and weights for a report."""
        weights = {name: round(float(w), 6) for name, w in zip(self.names, self.weights, strict=True)}
        return {
            "method": METHOD,
            "patches": self.patches,
            "mean_distance": self.mean_distance,
            "threshold": self.threshold,
            "training_outside": float((self.training > np.float32(self.threshold)).mean()),
            "weights": weights,
        }


@dataclass(frozen=True)
class DissimilarityStrip:
    """Dissimilarity of some rows of cells of a map, (row, column) float32 each, NaN where the map has no data.

    Attributes:
        window: their place on the map's grid.
        out_of_fold: to the training patches of the fold that predicted the cell, of all folds where no fold held its
            zone out.
        ensemble: to the training patches of all folds.
    """

    window: Window
    out_of_fold: np.ndarray
    ensemble: np.ndarray


def map_dissimilarity(
    raster: Raster,
    area: Applicability,
    folds: Callable[[Window], np.ndarray],
    data: Callable[[Window], np.ndarray],
    *,
    stride_px: int,
    cell_px: int,
) -> Iterator[DissimilarityStrip]:
    """The dissimilarity of the ground of every cell of a map, some rows of cells at a time.

    It is that of the window of `Applicability.size_px` pixels around the block of pixels that the cell lies in.

    Args:
        raster: the normalized scene.
        area: what `Applicability.of` learned.
        folds: gives for a window of the map the fold that held out the zone of each cell, (row, column); -1: none.
        data: gives for a window of the map which cells have a class, (row, column) bool.
        stride_px: side of a block in pixels of the scene.
        cell_px: side of a cell of the map, by which blocks are divisible.
    """
    cells = stride_px // cell_px
    for block, values in cell_features(raster, size_px=area.size_px, stride_px=stride_px):
        window = _cells_of(block, cells, map_grid(raster.grid, cell_px))
        here, fold = data(window), folds(window)
        with_data = _any_in_blocks(here, cells)
        to_all = _of_blocks(area, values, with_data, -1)
        ensemble = np.where(here, _to_cells(to_all, cells, here.shape), np.float32(np.nan))
        out_of_fold = ensemble.copy()
        for number in np.unique(fold[here & (fold >= 0)]):
            own = here & (fold == number)
            index = _of_blocks(area, values, _any_in_blocks(own, cells), int(number))
            out_of_fold[own] = _to_cells(index, cells, here.shape)[own]
        yield DissimilarityStrip(window, out_of_fold, ensemble)


def _cells_of(block: Window, cells: int, grid: Grid) -> Window:
    """The cells of a map in a window of blocks of ``cells`` x ``cells`` each."""
    top, left = block.row_off * cells, block.col_off * cells
    bottom = min(top + block.height * cells, grid.height)
    right = min(left + block.width * cells, grid.width)
    return Window(left, top, right - left, bottom - top)


def _of_blocks(area: Applicability, values: np.ndarray, chosen: np.ndarray, fold: int) -> np.ndarray:
    """The index of the chosen blocks, (row, column) float32, NaN elsewhere."""
    index = np.full(chosen.shape, np.nan, dtype=np.float32)
    index[chosen] = area.dissimilarity(values[chosen], np.full(int(chosen.sum()), fold))
    return index


def _to_cells(blocks: np.ndarray, cells: int, shape: tuple[int, ...]) -> np.ndarray:
    """The value of its block for each cell."""
    return blocks.repeat(cells, axis=0).repeat(cells, axis=1)[: shape[0], : shape[1]]


def _any_in_blocks(cells: np.ndarray, side: int) -> np.ndarray:
    """Whether any cell of each block is true."""
    padded = np.pad(cells, [(0, -length % side) for length in cells.shape])
    return padded.reshape(padded.shape[0] // side, side, -1, side).any(axis=(1, 3))


def upper_whisker(indices: np.ndarray) -> float:
    """The 75th percentile plus 1.5 times the interquartile range, at most the maximum."""
    low, high = np.percentile(np.asarray(indices, dtype=np.float64), [25, 75])
    return float(min(high + 1.5 * (high - low), np.max(indices)))


def _training_patches(
    features: pandas.DataFrame, sides: Sequence[pandas.Series]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of the patches that a fold trains on, or of a sample of them, and which of these each fold uses.

    Returns:
        Rows in order; (fold, row) bool, those that the fold trains on; (fold, row) bool, those that it validates.
    """
    train, validation = (
        np.stack([(side.reindex(features.index) == name).to_numpy() for side in sides])
        for name in ("train", "validation")
    )
    rows = np.flatnonzero(train.any(axis=0))
    if len(rows) < 2:
        raise ApplicabilityError(f"{len(rows)} training patches; an area of applicability needs at least two")
    empty = rows[~np.isfinite(features.to_numpy()[rows]).all(axis=1)]
    if len(empty):
        raise ApplicabilityError(
            f"patch {features.index[empty[0]]}: not a valid pixel in data/normalized; run dvc repro patches"
        )
    if len(rows) > MOST_PATCHES:
        rows = np.sort(np.random.default_rng(SEED).choice(rows, MOST_PATCHES, replace=False))
    train, validation = train[:, rows], validation[:, rows]
    if not train.any(axis=1).all():
        fold = int(np.flatnonzero(~train.any(axis=1))[0])
        raise ApplicabilityError(f"fold {fold} trains on no patch; lower zones.buffer_m or zones.k")
    if not validation.any():
        raise ApplicabilityError("no training patch is validated in any fold, so there is no threshold")
    return rows, train, validation


def _importances(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Importance of each feature in a random forest of the labels; 1 for each where the forest has no split."""
    from sklearn.ensemble import RandomForestClassifier  # seconds, which `landfold predict` does not need

    drawn = min(PATCHES_OF_TREE, len(values))
    forest = RandomForestClassifier(TREES, max_samples=drawn, random_state=SEED, n_jobs=-1)
    importances = forest.fit(values, labels).feature_importances_
    return importances if importances.any() else np.ones(values.shape[1])


def _points(values: np.ndarray, centre: np.ndarray, factor: np.ndarray) -> np.ndarray:
    return ((values - centre) * factor).astype(np.float32)


def _mean_distance(points: np.ndarray) -> float:
    """Mean over all pairs of points, or over `PAIRS` random ones."""
    if len(points) <= EXACT_PATCHES:
        return float(pdist(points).mean())
    random = np.random.default_rng(SEED)
    first = random.integers(len(points), size=PAIRS)
    second = (first + random.integers(1, len(points), size=PAIRS)) % len(points)  # never the same point
    steps = range(0, PAIRS, PAIRS // 20)
    parts = ((first[i : i + PAIRS // 20], second[i : i + PAIRS // 20]) for i in steps)
    return float(np.concatenate([np.linalg.norm(points[a] - points[b], axis=1) for a, b in parts]).mean(dtype=float))
