"""Accuracy of a class map and areas of its classes, from a probability sample of reference points.

Estimators of Olofsson et al. (2013, doi:10.1016/j.rse.2012.10.031; 2014, doi:10.1016/j.rse.2014.02.015) for
a stratified random sample whose strata are the classes of the map. After simple random or systematic
sampling the same formulae are those of post-stratification by map class (Card 1982, Photogrammetric
Engineering and Remote Sensing 48; Cochran 1977, Sampling Techniques, section 5A.9).
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas
from scipy.stats import norm

from landfold.core.errors import LandfoldError, did_you_mean, first_ten
from landfold.geo.vector import POINTS, check_attribute, check_features, check_rows, read_layer
from landfold.maps.classmap import NODATA, ClassMap, Survey
from landfold.patches.settings import value_text

DESIGNS = {
    "stratified": "stratified random, the strata are the classes of the map",
    "simple": "simple random or systematic, post-stratified by the classes of the map",
}
REFERENCE = "reference"
"""Attribute of the reference class in the points that `landfold.sample` draws."""
MAP_DIGEST = "map_digest"
"""Attribute by which such points know the map that they were drawn from."""

WIDTH = 100
FEW_POINTS = 50
"""Olofsson et al. 2014 give each rare class 50 to 100 points."""

_PATCH_ID = r".+/\d+/\d+"
"""SCENE/ROW/COLUMN, in the column patch of data/patches.parquet and of what is made of it."""


class AccuracyError(LandfoldError):
    """Points from which no accuracy of the map can be estimated."""


@dataclass(frozen=True)
class Estimate:
    """Estimates and their standard errors, arrays of one shape or single numbers; NaN where there is none."""

    value: np.ndarray
    standard_error: np.ndarray


@dataclass(frozen=True)
class Estimates:
    """What a sample tells of a map.

    ``overall`` is a single accuracy; ``users``, ``producers`` and ``areas`` have one entry for each class;
    ``areas`` has the unit in which the mapped areas were given. ``proportions`` (map class, reference class) is
    the estimated share of each pair in the map's ground.
    """

    overall: Estimate
    users: Estimate
    producers: Estimate
    areas: Estimate
    proportions: np.ndarray


def estimate(counts: np.ndarray, mapped: np.ndarray) -> Estimates:
    """Area-adjusted accuracies and areas.

    The user's accuracy of a class that is not mapped and the producer's accuracy of one that the sample never met
    are NaN, and so is everything that rests on a mapped class with no point, or on the variance of one with a
    single point.

    Args:
        counts: points, (map class, reference class).
        mapped: area of each map class in any unit, cells, say.
    """
    points = counts.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        q = np.where(mapped[:, None] > 0, counts / points[:, None], 0.0)
        spread = np.where(mapped[:, None] > 0, q * (1 - q) / (points[:, None] - 1), 0.0)
        weights = mapped / mapped.sum()
        proportions = weights[:, None] * q
        truth = proportions.sum(axis=0)
        hits, hit_spread = np.diagonal(proportions), np.diagonal(spread)
        users = np.where(mapped > 0, np.diagonal(q), np.nan)
        producers = hits / truth
        others = spread - np.diag(hit_spread)
        # In shares of the map instead of areas: numerator and denominator are divided by its area squared.
        omitted = producers**2 * (weights[:, None] ** 2 * others).sum(axis=0)
        producers_variance = (weights**2 * (1 - producers) ** 2 * hit_spread + omitted) / truth**2
        areas_variance = (weights[:, None] ** 2 * spread).sum(axis=0)
    return Estimates(
        overall=Estimate(hits.sum(), np.sqrt((weights**2 * hit_spread).sum())),
        users=Estimate(users, np.where(mapped > 0, np.sqrt(hit_spread), np.nan)),
        producers=Estimate(producers, np.sqrt(producers_variance)),
        areas=Estimate(mapped.sum() * truth, mapped.sum() * np.sqrt(areas_variance)),
        proportions=proportions,
    )


def standard_errors(level: float) -> float:
    """Half width of an interval in standard errors; 1.96 at 95 %, as the sources have it.

    Raises:
        AccuracyError: for a level that is no share between 0 and 1.
    """
    if not 0 < level < 1:
        raise AccuracyError(f"level {level:g}: expected a share between 0 and 1, such as 0.95")
    return 1.96 if level == 0.95 else float(norm.ppf(0.5 + level / 2))


@dataclass(frozen=True)
class Assessment:
    """The accuracy of a map by a sample, of the classes that the map or the sample has.

    ``counts`` is (map class, reference class); ``mapped_m2`` (class); ``left_out`` tells how many points lie off the
    map or on nodata, which only a design of the whole region may have.
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
        """What the reader should know before using the numbers."""
        points = self.counts.sum(axis=1)
        found = []
        if any(self.left_out.values()):
            found.append(
                f"{self.left_out['outside']} points outside the map and {self.left_out['nodata']} on its nodata are "
                "left out: the estimates speak of the mapped ground alone."
            )
        if self.design == "simple":
            found.append(
                "Post-stratified: same formulae as for a stratified sample, given the points that fell into each class "
                "(Cochran 1977, 5A.9). For a systematic sample the standard errors are approximate, mostly too large."
            )
        few = [f"{n} ({p})" for n, p, m in zip(self.names, points, self.mapped_m2, strict=True) if m and p < FEW_POINTS]
        if few:
            found.append(
                f"Fewer than {FEW_POINTS} points: {first_ten(few)}. Intervals of these classes, and of what is often "
                "confused with them, are rough."
            )
        sure = [n for n, k, p in zip(self.names, np.diagonal(self.counts), points, strict=True) if k == p > 0]
        if sure:
            found.append(
                f"No point was wrong where the map says {first_ten(sure)}: the formula then gives an interval of 0, "
                "which is not certainty."
            )
        unseen = [n for n, column in zip(self.names, self.counts.T, strict=True) if not column.any()]
        if unseen:
            found.append(
                f"Never met in the reference: {first_ten(unseen)}. The estimated area is 0, and there is no producer's "
                "accuracy."
            )
        return found


def assess(
    map_path: Path,
    points_path: Path,
    *,
    attribute: str = REFERENCE,
    design: str | None,
    strata: str | None = None,
    layer: str | None = None,
    level: float = 0.95,
) -> Assessment:
    """Estimate the accuracy of a class map from reference points.

    Args:
        map_path: a class map, see `ClassMap`.
        points_path: points in any CRS.
        attribute: of the reference class, by the map's names.
        design: one of DESIGNS, as the points were drawn.
        strata: attribute of the class that each point was drawn in, to be checked against the map.
        layer: of the points, where the file has several.
        level: of the intervals.

    Raises:
        AccuracyError: if the points are no probability sample of this map, or one that leaves an estimate open.
        ClassMapError, RasterError, GridError: for the map.
    """
    standard_errors(level)
    points = read_points(points_path, layer)
    _check_design(points_path, points, design, strata)
    with ClassMap.open(map_path) as classes:
        reference = _reference(points_path, points, attribute, classes.names)
        there = points.to_crs(classes.grid.crs).geometry
        survey = classes.at(there.x.to_numpy(), there.y.to_numpy())
        used = _used(points_path, points, classes, survey, design)
        if design == "stratified":
            _check_strata(points_path, points, strata, classes, survey)
        counts = np.zeros((len(classes.names), len(classes.names)), dtype=np.int64)
        np.add.at(counts, (survey.places[used], reference[used]), 1)
        _check_counts(points_path, classes, survey.cells, counts, design)
        present = (survey.cells > 0) | counts.any(axis=0)
        counts, mapped = counts[np.ix_(present, present)], survey.cells[present] * classes.cell_m2
        return Assessment(
            map_path=map_path,
            points_path=points_path,
            attribute=attribute,
            design=design,
            level=level,
            cell_m2=classes.cell_m2,
            numbers=classes.numbers[present].tolist(),
            names=[name for name, here in zip(classes.names, present, strict=True) if here],
            counts=counts,
            mapped_m2=mapped,
            left_out={"outside": int((~survey.inside).sum()), "nodata": int((survey.inside & ~used).sum())},
            estimates=estimate(counts, mapped),
        )


# The points


def read_points(path: Path, layer: str | None = None) -> geopandas.GeoDataFrame:
    """Points with a CRS, one a feature, no two at one place.

    Raises:
        AccuracyError: for Landfold's own patches, and for points that share their place.
        VectorError: for a file that cannot be read, and for features that are no points with a CRS.
    """
    table = read_layer(path, layer, setting="--layer", geometry="Point")
    _refuse_patches(path, table)
    check_features(path, table, "reference points")
    kinds = table.geometry.geom_type
    wrong = ~kinds.isin(POINTS) | table.geometry.is_empty | (table.geometry.count_coordinates() != 1)
    check_rows(path, wrong, "features are not single points", "expected one point for each place that was drawn")
    table = table.explode(ignore_index=True)
    check_rows(
        path,
        table.geometry.duplicated(keep=False),
        "points share their place with another",
        "counted twice they would narrow the intervals: keep one reference class for each place",
    )
    return table


def _refuse_patches(path: Path, table: pandas.DataFrame) -> None:
    own = [name for name in table.columns if str(name).lower() == "patch"]
    if len(table) and any(table[name].astype(str).str.fullmatch(_PATCH_ID).all() for name in own):
        raise AccuracyError(
            f"{path}: these are patches of Landfold, a convenience sample: they lie where labels happened to be, not "
            "where chance put them, so no estimator makes the accuracy of the map of them. What they can tell is the "
            "score on zones held out, with its interval from resampled zones, in metrics/summary.json; for the map "
            "draw a sample with `landfold sample`"
        )


def _reference(path: Path, points: geopandas.GeoDataFrame, attribute: str, names: Sequence[str]) -> np.ndarray:
    """Place in ``names`` of each point's value of an attribute."""
    check_attribute(path, points, attribute, "--attribute")
    texts = points[attribute].map(value_text, na_action="ignore").str.strip()
    check_rows(
        path,
        texts.isna() | (texts == ""),
        f"of {len(points)} points have no '{attribute}'",
        "interpret them too: without those that are hard to tell the accuracy comes out too high",
    )
    unknown = sorted(set(texts) - set(names))
    if unknown:
        told = [f"'{text}'{did_you_mean(text, names)}" for text in unknown]
        raise AccuracyError(
            f"{path}: '{attribute}' has values that are no class of the map: {first_ten(told)}; its classes are "
            f"{', '.join(names)}"
        )
    return texts.map({name: place for place, name in enumerate(names)}).to_numpy(np.int64)


# The design


def _check_design(path: Path, points: geopandas.GeoDataFrame, design: str | None, strata: str | None) -> None:
    if design not in DESIGNS:
        raise AccuracyError(
            f"{path}: say how the points were drawn, since points that chance did not choose (the ones at hand, by the "
            "road, in sure places) give no accuracy of the map: --design stratified (at random within each class of "
            "this map) or --design simple (at random or on a regular grid over all of it)"
        )
    if design == "simple" and MAP_DIGEST in points:
        raise AccuracyError(
            f"{path}: drawn by `landfold sample` (attribute {MAP_DIGEST}), which gives rare classes more points than "
            "chance would; give --design stratified"
        )
    if strata is not None and design != "stratified":
        raise AccuracyError(f"--strata {strata}: a {design} sample has none; leave it out, or give --design stratified")


def _used(
    path: Path, points: geopandas.GeoDataFrame, classes: ClassMap, survey: Survey, design: str | None
) -> np.ndarray:
    """Which points have a class in the map, (point) bool."""
    used = survey.places != NODATA
    off = int((~survey.inside).sum()), int((survey.inside & ~used).sum())
    if not used.any() or (design == "stratified" and not used.all()):
        raise AccuracyError(
            f"{path}: of {len(points)} points {off[0]} lie outside {classes.path} and {off[1]} on its nodata (row "
            f"{first_ten(points.index[~used])}); points drawn in its classes lie on them: is this the map that they "
            "were drawn from, and is the file's CRS right?"
        )
    return used


def _check_strata(
    path: Path, points: geopandas.GeoDataFrame, strata: str | None, classes: ClassMap, survey: Survey
) -> None:
    """Refuse points that were drawn in the classes of another map."""
    remedy = (
        "the strata must be the classes of the map that is judged: give that map, or draw a new sample (strata of "
        "another map need the estimators of Stehman 2014, doi:10.1080/01431161.2014.930207, which are not here)"
    )
    digests = set(points[MAP_DIGEST].dropna()) if MAP_DIGEST in points else set()
    if digests - {survey.digest}:
        raise AccuracyError(
            f"{path}: drawn from another map than {classes.path} ({MAP_DIGEST} {first_ten(sorted(map(str, digests)))}, "
            f"not {survey.digest}); {remedy}"
        )
    if strata is None:
        return
    drawn = _reference(path, points, strata, classes.names)
    other = drawn != survey.places
    if other.any():
        row = int(np.flatnonzero(other)[0])
        raise AccuracyError(
            f"{path}: {int(other.sum())} points have another class in '{strata}' than {classes.path} has there, row "
            f"{row} '{classes.names[drawn[row]]}', not '{classes.names[survey.places[row]]}'; {remedy}"
        )


def _check_counts(path: Path, classes: ClassMap, cells: np.ndarray, counts: np.ndarray, design: str | None) -> None:
    points = counts.sum(axis=1)
    lacking = (cells > 0) & (points < 2)
    if lacking.any():
        told = [f"{classes.names[place]} ({points[place]})" for place in np.flatnonzero(lacking)]
        remedy = (
            "draw at least 2 in each, better 50"
            if design == "stratified"
            else "draw more points over the whole map, or a sample with --design stratified"
        )
        raise AccuracyError(
            f"{path}: too few points in map class {first_ten(told)}: its variance, and so every interval, is unknown "
            f"with fewer than 2; {remedy} (`landfold sample` does), or merge the class with another in the map"
        )


# Output


def as_data(found: Assessment) -> dict[str, Any]:
    """Everything for machines: areas in m2, null where there is no estimate.

    ``low`` and ``high`` are cut at what is possible, shares at 0 and 1 and areas at 0 and the map's; the standard
    error is not.
    """
    total = float(found.mapped_m2.sum())
    by_class = found.estimates
    points, met = found.counts.sum(axis=1), found.counts.sum(axis=0)
    rows = []
    for place, name in enumerate(found.names):
        one = {
            key: _interval(Estimate(part.value[place], part.standard_error[place]), found.width, most)
            for key, part, most in (
                ("users_accuracy", by_class.users, 1.0),
                ("producers_accuracy", by_class.producers, 1.0),
                ("area_m2", by_class.areas, total),
            )
        }
        counted = {"map_points": int(points[place]), "reference_points": int(met[place])}
        rows.append(
            {"number": found.numbers[place], "name": name, "mapped_m2": float(found.mapped_m2[place])} | counted | one
        )
    return {
        "map": str(found.map_path),
        "points_file": str(found.points_path),
        "attribute": found.attribute,
        "design": found.design,
        "level": found.level,
        "standard_errors": found.width,
        "cell_m2": found.cell_m2,
        "total_m2": total,
        "points": int(points.sum()),
        "left_out": found.left_out,
        "overall_accuracy": _interval(by_class.overall, found.width, 1.0),
        "classes": rows,
        "matrix": {
            "rows": "map",
            "columns": "reference",
            "classes": found.names,
            "points": found.counts.tolist(),
            "proportions": by_class.proportions.tolist(),
        },
        "notes": found.notes,
    }


def _interval(one: Estimate, width: float, most: float) -> dict[str, float | None]:
    value, error = float(one.value), float(one.standard_error)
    numbers = {
        "estimate": value,
        "standard_error": error,
        "low": max(0.0, value - width * error),
        "high": min(most, value + width * error),
    }
    # All of them, since min and max would make a bound that looks real of NaN.
    return dict.fromkeys(numbers) if np.isnan(value + error) else numbers


def as_text(found: Assessment) -> str:
    """Everything in lines of at most WIDTH columns."""
    total, points = found.mapped_m2.sum(), int(found.counts.sum())
    head = [
        f"{found.map_path}: {len(found.names)} classes on {_hectares(total, total)} ha, "
        f"cells of {found.cell_m2:,.0f} m2",
        f"{found.points_path}: {points} points, attribute {found.attribute}",
        f"design: {DESIGNS[found.design]}",
    ]
    overall = (
        f"Overall accuracy  {_share(found.estimates.overall.value, found.estimates.overall.standard_error, found)}"
    )
    meaning = f"± is half of the {100 * found.level:g} % interval: {found.width:.4g} standard errors."
    parts = ["\n".join(_fold(head)), overall, "\n".join(_classes(found)), meaning, "\n".join(_matrix(found))]
    if found.notes:
        parts.append("\n".join(["Notes", *_fold(found.notes, "  - ", "    ")]))
    return "\n\n".join(parts)


def _fold(lines: Sequence[str], first: str = "", rest: str = "  ") -> list[str]:
    options = {"initial_indent": first, "subsequent_indent": rest, "break_on_hyphens": False}
    return [part for line in lines for part in textwrap.wrap(line, WIDTH, **options)]


def _share(value: float, error: float, found: Assessment) -> str:
    return "-" if np.isnan(value) else f"{value:.3f} ± {found.width * error:.3f}"


def _hectares(area_m2: float, total_m2: float) -> str:
    return f"{area_m2 / 10_000:,.{0 if total_m2 >= 1e7 else 2}f}"


def _classes(found: Assessment) -> list[str]:
    """The table of the classes."""
    e, total = found.estimates, found.mapped_m2.sum()
    rows = [("class", "points", "user's", "producer's", "mapped ha", "area ha", "± ha", "share")]
    for k, name in enumerate(found.names):
        rows.append(
            (
                f"{found.numbers[k]} {name}",
                str(found.counts[k].sum()),
                _share(e.users.value[k], e.users.standard_error[k], found),
                _share(e.producers.value[k], e.producers.standard_error[k], found),
                _hectares(found.mapped_m2[k], total),
                _hectares(e.areas.value[k], total),
                _hectares(found.width * e.areas.standard_error[k], total),
                f"{100 * e.areas.value[k] / total:.1f} %",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    widths[0] = min(widths[0], WIDTH - 2 - sum(widths[1:]) - 2 * (len(widths) - 1))
    return ["By class", *(_line(row, widths) for row in rows)]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """The first cell to the left, the others to the right."""
    first = cells[0] if len(cells[0]) <= widths[0] else cells[0][: widths[0] - 1] + "…"
    others = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
    return "  " + "  ".join([first.ljust(widths[0]), *others])


def _matrix(found: Assessment) -> list[str]:
    """The error matrix with the numbers of the classes as heads, in pieces that fit."""
    labels = [f"{number} {name}" for number, name in zip(found.numbers, found.names, strict=True)]
    heads = [*map(str, found.numbers), "sum"]
    table = np.column_stack([found.counts, found.counts.sum(axis=1)])
    table = np.vstack([table, table.sum(axis=0)])
    width = max(len(text) for text in (*heads, str(table.max())))
    first = min(max(map(len, labels)), 30)
    step = (WIDTH - 2 - first) // (width + 2)
    lines = ["Points by class in the map (rows) and in the reference (columns)"]
    for start in range(0, len(heads), step):
        part = slice(start, start + step)
        widths = [first] + [width] * len(heads[part])
        lines.append(_line(["", *heads[part]], widths))
        rows = zip([*labels, "sum"], table, strict=True)
        lines += [_line([label, *map(str, row[part])], widths) for label, row in rows]
    return lines
