"""The checks of `landfold doctor` that are about the machine: packages, disk, GPU and MLflow's database."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sqlite3
import tempfile
import tomllib
from contextlib import closing
from pathlib import Path

import yaml
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet

from landfold.cli.doctor.diagnosis import Diagnosis
from landfold.core import settings
from landfold.core.errors import first_ten
from landfold.core.settings import SettingsError
from landfold.tracking import sqlite_file, store_uri
from landfold.tracking.database import read_only

LEAST_FREE_BYTES = 200_000_000
"""Metrics, MLflow's database and temporary files may not fit into less."""

GROWTH = 30
"""Bytes that a run writes for one byte of raw data, where dvc.lock does not say; 29 for the default data set."""


def packages(root: Path) -> list[Diagnosis]:
    """Python and the installed packages are those that pyproject.toml and requirements.txt ask for."""
    fix = "make repro installs them; elsewhere: pip install -r requirements.txt"
    python = platform.python_version()
    required = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"]
    if not SpecifierSet(required).contains(python):
        return [
            Diagnosis("packages", "error", f"Python {python}, but Landfold needs {required}", "make repro PYTHON=...")
        ]
    pinned = _requirements(root / "requirements.txt")
    absent, other = [], []
    for requirement in pinned:
        try:
            installed = importlib.metadata.version(requirement.name).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            absent.append(requirement.name)
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            other.append(f"{requirement.name} {installed} instead of {str(requirement.specifier).removeprefix('==')}")
    diagnoses = []
    if absent:
        diagnoses.append(Diagnosis("packages", "warning", f"not installed: {first_ten(absent)}", fix))
    if other:
        message = f"not as in requirements.txt: {first_ten(other)}; results may differ in the last digits"
        diagnoses.append(Diagnosis("packages", "warning", message, fix))
    return diagnoses or [Diagnosis("packages", "ok", f"Python {python}; {len(pinned)} packages as in requirements.txt")]


def _requirements(path: Path) -> list[Requirement]:
    """The requirements of a file that apply to this machine; comments and options are left out."""
    requirements = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            requirements.append(Requirement(line.partition(" #")[0]))
        except InvalidRequirement:
            continue
    return [r for r in requirements if r.marker is None or r.marker.evaluate()]


def disk(root: Path) -> list[Diagnosis]:
    """The disk of the repository has space for another set of outputs, that of temporary files for those of a run."""
    needed = max(_output_bytes(root), LEAST_FREE_BYTES)
    temporary = Path(tempfile.gettempdir())
    diagnoses = []
    for path, least in {root: needed, temporary: LEAST_FREE_BYTES}.items():
        free = shutil.disk_usage(path).free
        if free < least:
            level = "error" if free < LEAST_FREE_BYTES else "warning"
            message = f"{_size(free)} free in {path}, and a run may write {_size(least)} there"
            fix = "dvc gc --workspace --all-branches --all-experiments frees DVC's cache; TMPDIR names another folder"
            diagnoses.append(Diagnosis("disk", level, message, fix))
    free = _size(shutil.disk_usage(root).free)
    return diagnoses or [Diagnosis("disk", "ok", f"{free} free; a whole run writes about {_size(needed)}")]


def _output_bytes(root: Path) -> int:
    """The size of all outputs by dvc.lock; estimated from the raw data where nothing has run yet."""
    try:
        lock = yaml.safe_load((root / "dvc.lock").read_text(encoding="utf-8"))
        outs = [out for stage in lock["stages"].values() for out in stage.get("outs", [])]
        return sum(out.get("size", 0) for out in outs)
    except (OSError, yaml.YAMLError, TypeError, KeyError, AttributeError):
        return GROWTH * sum(path.stat().st_size for path in (root / "data/raw").rglob("*") if path.is_file())


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def gpu(root: Path) -> list[Diagnosis]:
    """The GPUs that machine.device and train.devices ask for exist. torch is imported only where there may be one."""
    try:
        content = settings.read(root / "params.yaml")
        device, count = content["machine"]["device"], content["train"]["devices"]
    except (SettingsError, KeyError, TypeError):
        return []  # the check of the settings reports it
    if device == "cpu" or (device == "auto" and not _has_driver()):
        return [Diagnosis("GPU", "ok", "not used (machine.device: cpu)" if device == "cpu" else "none; the CPU trains")]
    names, cuda = torch_gpus()
    if not names:
        reason = "torch finds no GPU" if cuda else "torch is installed without CUDA"
        asked, level = (
            ("machine.device is cuda", "error") if device == "cuda" else ("there is an NVIDIA driver", "warning")
        )
        fix = "update the NVIDIA driver" if cuda else "install the torch of requirements.txt"
        return [Diagnosis("GPU", level, f"{asked}, but {reason}", f"{fix}, or set machine.device to cpu")]
    if isinstance(count, int) and count > len(names):
        message = f"train.devices is {count}, but torch finds {len(names)} GPUs"
        return [Diagnosis("GPU", "error", message, "lower train.devices, or set it to auto")]
    return [Diagnosis("GPU", "ok", first_ten(names))]


def _has_driver() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def torch_gpus() -> tuple[list[str], bool]:
    """Names of the GPUs that torch finds, and whether it is installed with CUDA."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return [torch.cuda.get_device_name(i) for i in range(count)], torch.version.cuda is not None


def database(root: Path) -> list[Diagnosis]:
    """MLflow's sqlite database can be read and written and is of the installed MLflow's version."""
    file = sqlite_file(store_uri(root))
    if file is None or not file.is_file():
        return [Diagnosis("MLflow", "ok", "no local database yet" if file else "MLFLOW_TRACKING_URI names a server")]
    if not os.access(file, os.W_OK):
        return [Diagnosis("MLflow", "error", f"{file}: not writable", f"chmod u+w {file}")]
    try:
        with closing(read_only(file)) as connection:
            revision, *_ = connection.execute("SELECT version_num FROM alembic_version").fetchone() or [None]
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            return [Diagnosis("MLflow", "error", f"{file}: locked by another program", "end that program")]
        revision = None
    except sqlite3.DatabaseError as error:
        fix = f"mv {file} {file}.broken; the next dvc repro creates it anew"
        return [Diagnosis("MLflow", "error", f"{file}: not a sqlite database ({error})", fix)]
    newest, known = _mlflow_revisions()
    if revision is None or revision == newest:
        return [Diagnosis("MLflow", "ok", f"{file.name} is of the installed version")]
    if revision in known:
        fix = f"mlflow db upgrade sqlite:///{file}"
        return [Diagnosis("MLflow", "error", f"{file}: made by an older MLflow", fix)]
    return [
        Diagnosis("MLflow", "error", f"{file}: made by a newer MLflow", "install that MLflow, or move the file away")
    ]


def _mlflow_revisions() -> tuple[str | None, set[str]]:
    """The newest and all revisions of a database that the installed MLflow knows; mlflow itself is not imported."""
    from alembic.script import ScriptDirectory

    package = Path(importlib.util.find_spec("mlflow").origin).parent
    scripts = ScriptDirectory(str(package / "store/db_migrations"))
    return scripts.get_current_head(), {script.revision for script in scripts.walk_revisions()}
