"""`landfold doctor` and `landfold sweep`: before experiments, and many of them from one line."""

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

PARAMS = Path("params.yaml")

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


def add(commands: Any) -> None:
    """Add the commands to the parser."""
    _add_doctor(commands)
    _add_sweep(commands)


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


def _doctor(options: argparse.Namespace) -> int:
    from landfold.cli.doctor import as_data, as_text, diagnose, stops

    found = diagnose(Path.cwd(), ask_remote=options.remote)
    print(json.dumps(as_data(found), indent=2, ensure_ascii=False) if options.json else as_text(found), flush=True)
    return 1 if stops(found) else 0


def _sweep(options: argparse.Namespace) -> int:
    from landfold.cli.sweep import command, incomparable, plan, queue, taken

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
