"""`landfold inspect`: what a delivery holds, before any run."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

PARAMS = Path("params.yaml")
WIDTH = 100
"""Columns of the output in a file or a pipe; on a terminal it is as wide as that."""

_ABOUT = """\
Show what Landfold recognises at PATH, before any run: scenes with their sensor, date, CRS, grid, bands
and masks; labels with their classes; the patches of each class and the folds that they make; what would
be refused and why; and sections of params.yaml that fit, where yours do not. Without --write nothing is
written."""

_EPILOG = """\
PATH is one of
  a delivery            a folder with scenes/ and labels/ below it, as data/raw
  scenes                a folder of them, or one: a .SAFE folder, a zip archive, a GeoTIFF, an MTL file
  labels                a folder or a file of polygons, points, class values, or a table of classes

Exit code: 0 if all of it would be taken; 1 if something would be refused, or PATH cannot be inspected.

examples:
  landfold inspect data/raw
  landfold inspect data/raw --write
  landfold inspect ~/Downloads/S2A_MSIL2A_20221005T115411_N0400_R023_T29UNU_20221005T164454.SAFE
  landfold inspect data/raw --json > inspection.json"""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "inspect",
        help="show what is recognised in a delivery, what would be refused, and settings that fit",
        description=_ABOUT,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("path", metavar="PATH", type=Path, help="a delivery, scenes or labels (see below)")
    parser.add_argument(
        "--params",
        metavar="FILE",
        type=Path,
        help="judge by the settings of this file (default: params.yaml, if it is in the current folder; else the "
        "proposed settings)",
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument(
        "--write",
        action="store_true",
        help="put the proposed settings into params.yaml (or the file of --params), whose comments and other settings "
        "stay, and judge by them; a second time changes nothing more",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Inspect; the exit code is returned."""
    # imported here, since GDAL and geopandas take a second that --help does not need
    from rich.console import Console

    from landfold.cli.inspection import inspect, write
    from landfold.cli.inspection.presentation import report_data, show

    params = options.params or (PARAMS if options.write or PARAMS.is_file() else None)
    inspection, changed, written = inspect(options.path, params), [], None
    if options.write:
        changed = write(inspection, params)
        if changed:
            written, inspection = inspection.proposal, inspect(options.path, params)
        print(f"{params}: " + (f"changed {', '.join(changed)}" if changed else "nothing to change"), file=sys.stderr)
    if options.json:
        data = report_data(inspection) | {"changed": changed}
        print(json.dumps(data, indent=2, ensure_ascii=False), flush=True)
    else:
        show(inspection, Console(width=None if sys.stdout.isatty() else WIDTH), written=written)
    return 0 if inspection.taken else 1
