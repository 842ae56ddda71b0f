"""The accuracy of a class map by reference points: which points a design allows, and what they give."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from landfold.accuracy.estimators import AccuracyError, Estimates, estimate, standard_errors
from landfold.accuracy.points import MAP_DIGEST, REFERENCE, ReferencePoints
from landfold.core.errors import first_ten
from landfold.maps.classmap import NO_CLASS, ClassMap, MapLookup

DESIGNS = {
    "stratified": "stratified random, the strata are the classes of the map",
    "simple": "simple random or systematic, post-stratified by the classes of the map",
}
FEW_POINTS = 50
"""Olofsson et al. 2014 give each rare class 50 to 100 points."""


@dataclass(frozen=True)
class Assessment:
    """The accuracy of a map by a sample, of the classes that the map or the sample has.

    Attributes:
        map_path: the map.
        points_path: the file of the points.
        attribute: of the reference class.
        design: one of DESIGNS.
        level: of the intervals.
        cell_m2: ground of a cell.
        numbers: of the classes in the map.
        names: of the classes.
        counts: number of points, (map class, reference class).
        mapped_m2: (class,) area in the map.
        left_out: number of points outside the map and on its nodata, which only a design of the whole region has.
        estimates: accuracies, and areas in m2.
    """

    map_path: Path
    points_path: Path
    attribute: str
    design: str
    level: float
    cell_m2: float
    numbers: list[int]
    names: list[str]
    counts: np.ndarray
    mapped_m2: np.ndarray
    left_out: dict[str, int]
    estimates: Estimates

    @property
    def width(self) -> float:
        """Half width of the intervals in standard errors."""
        return standard_errors(self.level)

    @property
    def notes(self) -> list[str]:
        """What to know before using the numbers, a sentence or two each."""
        points, notes = self.counts.sum(axis=1), []
        if any(self.left_out.values()):
            notes.append(
                f"{self.left_out['outside']} points outside the map and {self.left_out['nodata']} on its nodata are "
                "left out: the estimates are of the mapped ground alone."
            )
        if self.design == "simple":
            notes.append(
                "Post-stratified: same formulae as for a stratified sample, given the points that fell into each class "
                "(Cochran 1977, 5A.9). For a systematic sample the standard errors are approximate, mostly too large."
            )
        few = [f"{n} ({p})" for n, p, m in zip(self.names, points, self.mapped_m2, strict=True) if m and p < FEW_POINTS]
        if few:
            notes.append(
                f"Fewer than {FEW_POINTS} points: {first_ten(few)}. Intervals of these classes, and of what is often "
                "confused with them, are rough."
            )
        right = [n for n, k, p in zip(self.names, np.diagonal(self.counts), points, strict=True) if k == p > 0]
        if right:
            notes.append(
                f"No point was wrong where the map says {first_ten(right)}: the formula then gives an interval of 0, "
                "which is not certainty."
            )
        absent = [n for n, column in zip(self.names, self.counts.T, strict=True) if not column.any()]
        if absent:
            notes.append(
                f"Not in the reference: {first_ten(absent)}. The estimated area is 0, and there is no producer's "
                "accuracy."
            )
        return notes


def assess(
    map_path: Path,
    points_path: Path,
    *,
    design: str | None,
    attribute: str = REFERENCE,
    strata: str | None = None,
    layer: str | None = None,
    level: float = 0.95,
) -> Assessment:
    """Estimate the accuracy of a class map from reference points.

    Args:
        map_path: a class map, see `ClassMap`.
        points_path: points in any CRS.
        design: one of DESIGNS, as the points were drawn.
        attribute: of the reference class, by the map's names.
        strata: attribute of the class that each point was drawn in, to be checked against the map.
        layer: of the points, where the file has several.
        level: of the intervals.

    Raises:
        AccuracyError, VectorError: the points are no probability sample of this map, or leave an estimate open.
        ClassMapError, RasterError, GridError: the map cannot be used.
    """
    standard_errors(level)
    points = ReferencePoints.read(points_path, layer)
    _check_design(points, design, strata)
    with ClassMap.open(map_path) as classes:
        reference = points.classes(attribute, classes.names, option="--attribute")
        lookup = classes.look_up(*points.coordinates(classes.grid.crs))
        used = lookup.classes != NO_CLASS
        left_out = {"outside": int((~lookup.inside).sum()), "nodata": int((lookup.inside & ~used).sum())}
        _check_location(points, classes, used, left_out, design)
        if design == "stratified":
            _check_strata(points, strata, classes, lookup)
        counts = np.zeros((len(classes.names), len(classes.names)), dtype=np.int64)
        np.add.at(counts, (lookup.classes[used] - 1, reference[used]), 1)
        _check_counts(points, classes.names, lookup.cells, counts, design)
        present = (lookup.cells > 0) | counts.any(axis=0)
        counts, mapped_m2 = counts[np.ix_(present, present)], lookup.cells[present] * classes.cell_m2
        names = [name for name, here in zip(classes.names, present, strict=True) if here]
        return Assessment(
            map_path, points_path, attribute, design, level, classes.cell_m2, classes.numbers[present].tolist(), names,
            counts, mapped_m2, left_out, estimate(counts, mapped_m2),
        )  # fmt: skip


def _check_design(points: ReferencePoints, design: str | None, strata: str | None) -> None:
    if design not in DESIGNS:
        raise AccuracyError(
            f"{points.path}: say how the points were drawn; points that were not drawn at random (those at hand, along "
            "the road, in easy places) give no accuracy of the map: --design stratified (at random within each class "
            "of this map) or --design simple (at random or on a regular grid over all of it)"
        )
    if design == "simple" and MAP_DIGEST in points.table:
        raise AccuracyError(
            f"{points.path}: drawn by `landfold sample` (attribute {MAP_DIGEST}), which gives rare classes more points "
            "than their share; give --design stratified"
        )
    if strata is not None and design != "stratified":
        raise AccuracyError(f"--strata {strata}: a {design} sample has none; leave it out, or give --design stratified")


def _check_location(
    points: ReferencePoints, classes: ClassMap, used: np.ndarray, left_out: dict[str, int], design: str
) -> None:
    if not used.any() or (design == "stratified" and not used.all()):
        raise AccuracyError(
            f"{points.path}: of {len(points)} points {left_out['outside']} lie outside {classes.path} and "
            f"{left_out['nodata']} on its nodata (row {points.rows(~used)}); points drawn in its classes lie on them: "
            "is this the map that they were drawn from, and is the file's CRS right?"
        )


def _check_strata(points: ReferencePoints, strata: str | None, classes: ClassMap, lookup: MapLookup) -> None:
    """Refuse points that were drawn in the classes of another map."""
    remedy = (
        "the strata must be the classes of the map that is assessed: give that map, or draw a new sample (strata of "
        "another map need the estimators of Stehman 2014, doi:10.1080/01431161.2014.930207, which are not here)"
    )
    if points.map_digests - {lookup.digest}:
        raise AccuracyError(
            f"{points.path}: drawn from another map than {classes.path} ({MAP_DIGEST} "
            f"{first_ten(sorted(points.map_digests))}, not {lookup.digest}); {remedy}"
        )
    if strata is None:
        return
    drawn, mapped = points.classes(strata, classes.names, option="--strata"), lookup.classes - 1
    other = drawn != mapped
    if other.any():
        row = int(np.flatnonzero(other)[0])
        raise AccuracyError(
            f"{points.path}: {int(other.sum())} points have another class in '{strata}' than {classes.path} has there, "
            f"row {row} '{classes.names[drawn[row]]}', not '{classes.names[mapped[row]]}'; {remedy}"
        )


def _check_counts(
    points: ReferencePoints, names: list[str], cells: np.ndarray, counts: np.ndarray, design: str
) -> None:
    drawn = counts.sum(axis=1)
    lacking = [f"{name} ({n})" for name, n, mapped in zip(names, drawn, cells, strict=True) if mapped and n < 2]
    if lacking:
        remedy = (
            "draw at least 2 in each, better 50"
            if design == "stratified"
            else "draw more points over the whole map, or a sample with --design stratified"
        )
        raise AccuracyError(
            f"{points.path}: too few points in map class {first_ten(lacking)}: its variance, and so every interval, is "
            f"unknown with fewer than 2; {remedy} (`landfold sample` does), or merge the class with another in the map"
        )
