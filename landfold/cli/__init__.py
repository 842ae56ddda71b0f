"""The command ``landfold``: everything beside the pipeline itself, which `dvc repro` runs."""

import argparse
import os
import sys
from collections.abc import Sequence

from landfold import __version__
from landfold.cli import accuracy, deploy, doctor, inspect, predict, show, sweep
from landfold.cli import next as next_labels
from landfold.core.errors import LandfoldError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except LandfoldError as error:
        print(f"landfold {options.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"landfold {options.command}: interrupted; nothing is half-written", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of the output has ended, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"landfold {options.command}: {error.filename or 'reading'}: {error.strerror}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="landfold",
        description="Land-cover maps from multi-band satellite scenes, with accuracy from spatial cross-validation.",
        epilog="The pipeline itself is run by `dvc repro`. `landfold COMMAND --help` tells more.",
    )
    parser.add_argument("--version", action="version", version=f"landfold {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in (inspect, doctor, show, sweep, accuracy, next_labels, predict, deploy):
        module.add(commands)
    return parser
