"""The command ``landfold``: what can be asked without running the pipeline."""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from landfold import __version__, cli_deploy, cli_predict
from landfold.errors import LandfoldError

PARAMS = Path("params.yaml")

_INSPECT = """\
Show what Landfold recognises at PATH, before any run: scenes with their sensor, date, CRS, grid, bands
and masks; labels with their classes; what would be refused and why; and sections of params.yaml that
fit, ready to paste. Nothing is written."""

_EPILOG = """\
PATH is one of
  a delivery            a folder with scenes/ and labels/ below it, as data/raw
  scenes                a folder of them, or one: a .SAFE folder, a zip archive, a GeoTIFF, an MTL file
  labels                a folder or a file of polygons, points, class values, or a table of classes

Exit code: 0 if all of it would be taken; 1 if something would be refused, or PATH cannot be inspected.

examples:
  landfold inspect data/raw
  landfold inspect ~/Downloads/S2A_MSIL2A_20221005T115411_N0400_R023_T29UNU_20221005T164454.SAFE
  landfold inspect data/raw --json > inspection.json"""

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


_DOCTOR = """\
Tell what would go wrong with `dvc repro` and with experiments (`dvc exp run`, queued, temporary) before it
does: git and DVC, settings, packages, disk, memory, GPU, remote, MLflow, the queue. Nothing is changed."""

_SWEEP = """\
Queue one experiment for each combination of values, or N at random. All values are checked by the settings
that own them before anything is queued. `dvc queue start` then runs them."""

_SWEEP_EPILOG = """\
NAME=VALUES  a setting of params.yaml by its dotted name, and one of
  0.001,0.003      these values: without -n every combination is queued, with -n they are drawn from
  0:0.5            with -n: a number between the two, evenly; a whole number if both are
  log:1e-4:1e-2    with -n: the same, evenly over orders of magnitude

examples:
  landfold sweep train.learning_rate=0.0003,0.001,0.003 model.blocks=3,4
  landfold sweep -n 20 train.learning_rate=log:1e-4:1e-2 model.dropout=0:0.5 train.class_weights=none,sqrt"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is returned."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except LandfoldError as error:
        print(f"landfold {options.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"landfold {options.command}: interrupted; nothing is half-written", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read the output has seen enough, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"landfold {options.command}: {error.filename or 'reading'}: {error.strerror}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="landfold",
        description="Land-cover maps with honest accuracy from multi-band satellite scenes.",
        epilog="The pipeline itself is run by `dvc repro`. `landfold COMMAND --help` tells more.",
    )
    parser.add_argument("--version", action="version", version=f"landfold {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    inspect = commands.add_parser(
        "inspect",
        help="show what is recognised in a delivery, what would be refused, and settings that fit",
        description=_INSPECT,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    inspect.add_argument("path", metavar="PATH", type=Path, help="a delivery, scenes or labels (see below)")
    inspect.add_argument(
        "--params",
        metavar="FILE",
        type=Path,
        help="judge by the settings of this file (default: params.yaml, if it is in the current folder; else the "
        "proposed settings)",
    )
    inspect.add_argument("--json", action="store_true", help="print everything as JSON")
    inspect.set_defaults(run=_inspect)
    _add_accuracy(commands)
    _add_sample(commands)
    cli_predict.add(commands)
    cli_deploy.add(commands)
    _add_doctor(commands)
    _add_sweep(commands)
    return parser


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


def _add_doctor(commands: Any) -> None:
    parser = commands.add_parser(
        "doctor",
        help="tell what would go wrong with `dvc repro` and with experiments, before it does",
        description=_DOCTOR,
        epilog="Exit code: 1 if `dvc repro` would fail, else 0.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--remote", action="store_true", help="ask the DVC remote, too, whether it answers")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.set_defaults(run=_doctor)


def _add_sweep(commands: Any) -> None:
    parser = commands.add_parser(
        "sweep",
        help="queue a grid or a random sample of experiments",
        description=_SWEEP,
        epilog=_SWEEP_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("values", metavar="NAME=VALUES", nargs="+", help="a setting and its values (see below)")
    parser.add_argument("-n", metavar="N", dest="count", type=int, help="draw N experiments at random")
    parser.add_argument("--seed", metavar="S", type=int, default=0, help="another seed, other draws (default: 0)")
    parser.add_argument("--dry-run", action="store_true", help="print the commands and queue nothing")
    parser.set_defaults(run=_sweep)


def _inspect(options: argparse.Namespace) -> int:
    # Here and not above: GDAL and geopandas take a second that --help need not wait for.
    from landfold.inspection import inspect
    from landfold.inspection.report import as_data, as_text

    params = options.params or (PARAMS if PARAMS.is_file() else None)
    found = inspect(options.path, params)
    print(json.dumps(as_data(found), indent=2, ensure_ascii=False) if options.json else as_text(found), flush=True)
    return 0 if found.taken else 1


def _expectation(text: str) -> tuple[str, float]:
    name, _, share = text.rpartition("=")
    try:
        return name, float(share)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}': expected a class and a share, such as water=0.9") from None


def _accuracy(options: argparse.Namespace) -> int:
    from landfold.accuracy import as_data, as_text, assess

    found = assess(
        options.map,
        options.points,
        attribute=options.attribute,
        design=options.design,
        strata=options.strata,
        layer=options.layer,
        level=options.level,
    )
    print(json.dumps(as_data(found), indent=2, ensure_ascii=False) if options.json else as_text(found), flush=True)
    return 0


def _sample(options: argparse.Namespace) -> int:
    from landfold.sample import SampleError, draw, points_needed

    if options.points is None:
        options.points = points_needed(options.map, options.standard_error, dict(options.expect))
    elif options.expect:
        raise SampleError("--expect goes with --standard-error, not with -n: leave one of them out")
    given = draw(
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


def _doctor(options: argparse.Namespace) -> int:
    from landfold.doctor import as_data, as_text, diagnose, stops

    found = diagnose(Path.cwd(), ask_remote=options.remote)
    print(json.dumps(as_data(found), indent=2, ensure_ascii=False) if options.json else as_text(found), flush=True)
    return 1 if stops(found) else 0


def _sweep(options: argparse.Namespace) -> int:
    from landfold.sweep import command, incomparable, plan, queue, taken

    planned = plan(PARAMS, options.values, count=options.count, seed=options.seed)
    names = taken()
    experiments = [experiment for experiment in planned if experiment.name not in names]
    for warning in incomparable(experiments):
        print(f"landfold sweep: {warning}", file=sys.stderr)
    for experiment in experiments:
        print(shlex.join(command(experiment)), flush=True)
        if not options.dry_run:
            queue(experiment)
    if not options.dry_run:
        skipped = len(planned) - len(experiments)
        told = f", {skipped} are there already" if skipped else ""
        print(f"{len(experiments)} experiments queued{told}; run them by: dvc queue start", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
