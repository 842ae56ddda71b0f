"""The command ``landfold``: what can be asked without running the pipeline."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from landfold import __version__
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is returned."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except LandfoldError as error:
        print(f"landfold {options.command}: {error}", file=sys.stderr)
        return 1
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
    return parser


def _inspect(options: argparse.Namespace) -> int:
    # Here and not above: GDAL and geopandas take a second that --help need not wait for.
    from landfold.inspection import inspect
    from landfold.inspection.report import as_data, as_text

    params = options.params or (PARAMS if PARAMS.is_file() else None)
    found = inspect(options.path, params)
    print(json.dumps(as_data(found), indent=2, ensure_ascii=False) if options.json else as_text(found), flush=True)
    return 0 if found.taken else 1


if __name__ == "__main__":
    sys.exit(main())
