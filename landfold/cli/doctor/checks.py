"""The checks of `landfold doctor`, in their order, and those of settings, pipeline and data."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from landfold.cli.doctor import machine
from landfold.cli.doctor.diagnosis import Diagnosis
from landfold.core.errors import LandfoldError, first_ten
from landfold.core.settings import SettingsError
from landfold.params import read_params

DVC_TIMEOUT_S = 600
"""`dvc status` hashes what has changed since the last run, which takes minutes for large data."""

EXPERIMENT_CODE = ("landfold", "stages", "dvc.yaml", "params.yaml")
"""What queued and temporary experiments take from git."""


class DoctorError(LandfoldError):
    """There is nothing to check."""


def checkout(folder: Path) -> Path:
    """The root of the checkout of Landfold that a folder is in.

    Raises:
        DoctorError: if it is in none.
    """
    folder = folder.resolve()
    names = ("dvc.yaml", "params.yaml", "stages")
    for root in (folder, *folder.parents):
        if all((root / name).exists() for name in names):
            return root
    raise DoctorError(
        f"{folder}: not in a checkout of Landfold; expected {', '.join(names)} here or above; "
        "change to the folder that you have cloned"
    )


def params(root: Path) -> list[Diagnosis]:
    """params.yaml is valid as a whole."""
    try:
        content = read_params(root / "params.yaml")
    except SettingsError as error:
        lines = str(error).replace(f"{root}/", "").splitlines()
        return [Diagnosis("settings", "error", line, "change it in params.yaml") for line in lines]
    return [Diagnosis("settings", "ok", f"params.yaml is valid; {len(content.zones.folds)} folds")]


def pipeline(root: Path) -> list[Diagnosis]:
    """dvc.yaml and dvc.lock can be read, no other DVC command runs, data is there, and dvc.lock is up to date."""
    if conflicts := _conflict_markers(root):
        fix = "keep one side of each and `git add` it; for dvc.lock then run `dvc repro`"
        return [Diagnosis("pipeline", "error", f"git conflict markers in {first_ten(conflicts)}", fix)]
    if holder := _lock_holder(root):
        return [Diagnosis("pipeline", "error", holder, "wait until it ends, or end it")]
    done = _run(root, sys.executable, "-m", "dvc", "status", "--json", timeout_s=DVC_TIMEOUT_S)
    if done.returncode:
        reason = " ".join((done.stderr or done.stdout).replace("ERROR: ", "").split())[:300]
        return [
            Diagnosis("pipeline", "error", f"`dvc status` fails: {reason}", "correct that file, or restore it from git")
        ]
    return _stages(json.loads(done.stdout))


def _stages(status: dict[str, list[Any]]) -> list[Diagnosis]:
    """What `dvc status --json` says: outputs that are lost, and stages that would run for other reasons."""
    outputs: dict[str, list[str]] = {"deleted": [], "not in cache": []}
    changed: dict[str, str] = {}
    entries = [(name, kind, entry) for name, reasons in status.items() for kind, entry in _entries(reasons)]
    for _, kind, (path, state) in entries:
        if kind == "changed outs" and state in outputs:
            outputs[state].append(path)
    lost = {path for paths in outputs.values() for path in paths}
    for name, _, (path, state) in entries:
        if path not in lost:
            changed.setdefault(name, path if isinstance(state, str) else next(iter(state)))
    diagnoses = []
    for state, fix in (("deleted", "dvc checkout"), ("not in cache", "dvc pull, if there is a remote; else dvc repro")):
        if paths := outputs[state]:
            message = f"{len(paths)} outputs are {state}: {first_ten(sorted(paths))}"
            diagnoses.append(Diagnosis("data", "warning", message, fix))
    if changed:
        names = first_ten([f"{name} ({first})" for name, first in changed.items()])
        message = f"{len(changed)} stages differ from dvc.lock, and every experiment would run them: {names}"
        diagnoses.append(Diagnosis("pipeline", "warning", message, "dvc repro and git commit before experiments"))
    return diagnoses or [Diagnosis("pipeline", "ok", "data, code and settings are those of dvc.lock")]


def _entries(reasons: list[Any]) -> Iterator[tuple[str, tuple[str, Any]]]:
    """Of one stage: "changed deps" or "changed outs", path, and state: a text, or states of settings by their names."""
    for reason in reasons:
        for kind, states in reason.items() if isinstance(reason, dict) else ():
            for entry in states.items():
                yield kind, entry


def _conflict_markers(root: Path) -> list[str]:
    """Places of git's conflict markers in the files that DVC reads, such as ``dvc.lock line 4``."""
    places = []
    for name in ("dvc.lock", "dvc.yaml", "params.yaml"):
        path = root / name
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
        places += [f"{name} line {i}" for i, line in enumerate(lines, 1) if line.startswith("<<<<<<< ")]
    return places


def _lock_holder(root: Path) -> str:
    """Which process keeps other DVC commands from running, "" if none does. A stopped one (Ctrl-Z) holds locks, too."""
    import psutil

    path = root / ".dvc/tmp/lock"
    try:
        import fcntl

        with path.open("r+b") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(stream, fcntl.LOCK_UN)
    except BlockingIOError:
        pid = path.read_text(encoding="utf-8").strip()
        try:
            process = psutil.Process(int(pid))
            return f".dvc/tmp/lock is held by process {pid}, {process.status()}: {' '.join(process.cmdline())[:100]}"
        except (ValueError, psutil.Error):
            return ".dvc/tmp/lock is held by another process"
    except (ImportError, OSError):  # no such lock on Windows; no DVC command has run yet
        pass
    return ""


def experiments(root: Path) -> list[Diagnosis]:
    """Queued and temporary experiments have all that they need: they run on a copy of what git and DVC know."""
    lacking = []
    fetched = re.search("^  fetch:", (root / "dvc.yaml").read_text(encoding="utf-8"), flags=re.MULTILINE)
    if not (root / "data/raw.dvc").is_file() and not fetched:
        lacking.append("data/raw (dvc add data/raw)")
    listed = _run(root, "git", "status", "--porcelain", "-uall", "--", *EXPERIMENT_CODE).stdout.splitlines()
    lacking += [f"{line[3:]} (git add)" for line in listed if line.startswith("??")]
    if lacking:
        message = f"queued and temporary experiments would lack {first_ten(lacking)}"
        return [Diagnosis("experiments", "warning", message, "add them; a commit is not needed")]
    return [Diagnosis("experiments", "ok", "git and DVC have all code and data that experiments need")]


def _run(root: Path, *command: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    """A finished command; exit code 127 if it is not installed, 124 if it takes too long."""
    try:
        return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=timeout_s)
    except FileNotFoundError:
        return subprocess.CompletedProcess(command, 127, "", f"{command[0]}: not installed")
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"no answer in {timeout_s:.0f} s")


CHECKS: list[Callable[[Path], list[Diagnosis]]] = [
    machine.packages,
    params,
    pipeline,
    experiments,
    machine.disk,
    machine.gpu,
    machine.database,
]
