"""`landfold accuracy` and `landfold sample`: how right a map is, by a probability sample of points."""

import argparse
import json
from pathlib import Path
from typing import Any

_ACCURACY = """\
Estimate how right a class map is, and how much ground each class really has, from reference points that
chance has drawn: overall, user's and producer's accuracy and areas, weighted by what the map says covers
how much ground, with intervals (Olofsson et al. 2014). Nothing is written."""

_ACCURACY_EPILOG = """\
MAP      a class map such as data/maps/SCENE_class.tif: numbers from 1, 0 for nodata, names of the classes
         in the tags CLASS_1, CLASS_2, ..., in a projected CRS in metres
POINTS   a vector file of points in any CRS, with the reference class of each, by the map's names

designs (how the points were drawn; there is no default, since only you know)
  stratified   at random within each class of this very map, as `landfold sample` does
  simple       at random, or on a regular grid, over the whole map; then the estimator is post-stratified
Points that nobody drew at random are no such sample, and Landfold's own patches are refused.

examples:
  landfold sample data/maps/S_class.tif -n 600 -o points.gpkg      then fill in the attribute reference
  landfold accuracy data/maps/S_class.tif points.gpkg --design stratified
  landfold accuracy data/maps/S_class.tif plots.shp --attribute cover --design simple --json"""

_SAMPLE = """\
Draw a stratified random sample of the cells of a class map, for `landfold accuracy`: points at the centres
of cells, in proportion to the cells of each class, but at least --minimum in each. Fill in the attribute
"reference" of each with the name of a class, without looking at the map."""


def add(commands: Any) -> None:
    """Add the commands to the parser."""
    _add_accuracy(commands)
    _add_sample(commands)


def _add_accuracy(commands: Any) -> None:
    parser = commands.add_parser(
        "accuracy",
        help="accuracy of a map and areas of its classes, with intervals, from a probability sample of points",
        description=_ACCURACY,
        epilog=_ACCURACY_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("map", metavar="MAP", type=Path, help="a class map (see below)")
    parser.add_argument("points", metavar="POINTS", type=Path, help="reference points (see below)")
    parser.add_argument(
        "--design", metavar="DESIGN", help="how the points were drawn: stratified or simple (see below)"
    )
    parser.add_argument(
        "--attribute", metavar="NAME", default="reference", help="attribute of the reference class (default: reference)"
    )
    parser.add_argument(
        "--strata",
        metavar="NAME",
        help="attribute of the class that a point was drawn in, to be checked against the map (stratified only)",
    )
    parser.add_argument("--layer", metavar="NAME", help="layer of the points, if the file has several")
    parser.add_argument(
        "--level", metavar="SHARE", type=float, default=0.95, help="level of the intervals (default: 0.95)"
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON, areas in m2")
    parser.set_defaults(run=_accuracy)


def _add_sample(commands: Any) -> None:
    parser = commands.add_parser(
        "sample",
        help="draw the points that `landfold accuracy` needs",
        description=_SAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("map", metavar="MAP", type=Path, help="a class map such as data/maps/SCENE_class.tif")
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("-n", metavar="N", dest="points", type=int, help="number of points in all")
    size.add_argument(
        "--standard-error",
        metavar="S",
        type=float,
        help="as many points as give the overall accuracy this standard error (Olofsson et al. 2014, equation 13)",
    )
    parser.add_argument(
        "--expect",
        metavar="CLASS=U",
        action="append",
        type=_expectation,
        default=[],
        help="with --standard-error: the user's accuracy that you expect of a class (default: 0.8); may be repeated",
    )
    parser.add_argument("-o", metavar="FILE", dest="target", type=Path, required=True, help="a new GeoPackage")
    parser.add_argument(
        "--minimum", metavar="M", type=int, default=50, help="least number of points in each class (default: 50)"
    )
    parser.add_argument("--seed", metavar="S", type=int, default=0, help="another seed, another sample (default: 0)")
    parser.add_argument(
        "--with-map-class",
        action="store_true",
        help="write the attribute map_class too; keep it from whoever interprets the points",
    )
    parser.set_defaults(run=_sample)


def _expectation(text: str) -> tuple[str, float]:
    name, _, share = text.rpartition("=")
    try:
        return name, float(share)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}': expected a class and a share, such as water=0.9") from None


def _accuracy(options: argparse.Namespace) -> int:
    from landfold.accuracy.assessment import assess
    from landfold.accuracy.tables import assessment_data, assessment_text

    assessment = assess(
        options.map,
        options.points,
        attribute=options.attribute,
        design=options.design,
        strata=options.strata,
        layer=options.layer,
        level=options.level,
    )
    if options.json:
        print(json.dumps(assessment_data(assessment), indent=2, ensure_ascii=False), flush=True)
    else:
        print(assessment_text(assessment), flush=True)
    return 0


def _sample(options: argparse.Namespace) -> int:
    from landfold.accuracy.sample import SampleError, draw_sample, points_needed

    if options.points is None:
        options.points = points_needed(options.map, options.standard_error, dict(options.expect))
    elif options.expect:
        raise SampleError("--expect goes with --standard-error, not with -n: leave one of them out")
    given = draw_sample(
        options.map,
        options.target,
        points=options.points,
        minimum=options.minimum,
        seed=options.seed,
        with_map_class=options.with_map_class,
    )
    counts = ", ".join(f"{name} {count}" for name, count in given.items())
    print(f"{options.target}: {options.points} points ({counts}); fill in the attribute reference", flush=True)
    return 0
