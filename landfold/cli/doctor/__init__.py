"""`landfold doctor`: what would make `dvc repro` or experiments fail, before they run. Nothing is changed."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

_ABOUT = """\
Check what makes `dvc repro` or experiments (`dvc exp run`, queued, temporary) fail: settings, data, DVC's lock
and cache, Python and its packages, disk, GPU, MLflow's database. Nothing is changed."""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "doctor",
        help="check what would make `dvc repro` or experiments fail",
        description=_ABOUT,
        epilog="Exit code: 1 if `dvc repro` would fail, else 0.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print the result of each check as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Check and print, each line as soon as it is known; the exit code is returned."""
    from rich.console import Console
    from rich.text import Text

    from landfold.cli.doctor.checks import CHECKS, checkout

    root, diagnoses = checkout(Path.cwd()), []
    console = Console(quiet=options.json)
    for check in CHECKS:
        for diagnosis in check(root):
            diagnoses.append(diagnosis)
            console.print(
                Text(
                    f"{diagnosis.level:<8}", style={"error": "bold red", "warning": "yellow"}.get(diagnosis.level, "")
                ),
                f"{diagnosis.check}: {diagnosis.message}" + (f" -> {diagnosis.fix}" if diagnosis.fix else ""),
                soft_wrap=True,
                markup=False,
                highlight=False,
            )
    fails = any(diagnosis.level == "error" for diagnosis in diagnoses)
    if options.json:
        content = {"runs": not fails, "checks": [asdict(diagnosis) for diagnosis in diagnoses]}
        print(json.dumps(content, indent=2, ensure_ascii=False), flush=True)
    elif fails:
        print("`dvc repro` would fail", file=sys.stderr)
    return int(fails)
