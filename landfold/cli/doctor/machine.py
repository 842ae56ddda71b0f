"""The machine: versions, disk, memory, links between cache and workspace, a GPU."""

import importlib.metadata
import json
import os
import platform
import shutil
import tempfile
import tomllib
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from landfold.cli.doctor.checkout import Checkout, Finding, some

LEAST_FREE_BYTES = 200_000_000
"""With less, even metrics, MLflow's database and temporary files may not fit."""

GROWTH = 30
"""Bytes written for one byte of raw data where no run tells: the default data set's is 29."""

TRAINING_BYTES = 1_500_000_000
"""What a training takes beside its patches: Python, torch, a small network and its batches."""


def versions(checkout: Checkout) -> list[Finding]:
    """Python and the installed packages are those that the repository asks for."""
    project = tomllib.loads((checkout.root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    python, wanted = platform.python_version(), project["requires-python"]
    if not SpecifierSet(wanted).contains(python):
        return [
            Finding(
                "versions", "error", f"Python {python}, but Landfold needs {wanted}", "make repro PYTHON=python3.12"
            )
        ]
    pinned = _requirements(checkout.root / "requirements.txt")
    direct = {canonicalize_name(r.name) for r in _requirements(checkout.root / "requirements.in")}
    absent, other = [], []
    for requirement in pinned:
        installed = _installed(requirement.name)
        if installed is None:
            absent.append(requirement.name)
        elif not requirement.specifier.contains(installed.partition("+")[0], prereleases=True):
            other.append(f"{requirement.name} {installed} instead of {str(requirement.specifier).removeprefix('==')}")
    mend = "make repro installs them; elsewhere: pip install -r requirements.txt"
    findings = []
    if vital := [name for name in absent if canonicalize_name(name) in direct]:
        findings.append(Finding("versions", "error", f"not installed: {some(vital, 6)}", mend))
    if rest := [name for name in absent if name not in vital]:
        findings.append(Finding("versions", "warning", f"not installed: {some(rest, 6)}", mend))
    if other:
        found = f"not as in requirements.txt: {some(other)}; results may differ in the last digits"
        findings.append(Finding("versions", "warning", found, mend))
    return findings or [
        Finding("versions", "ok", f"Python {python}, all {len(pinned)} packages as in requirements.txt")
    ]


def _requirements(path: Path) -> list[Requirement]:
    """Those of a file that apply to this machine; options and comments are passed over."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            found.append(Requirement(line.partition(" #")[0]))
        except InvalidRequirement:
            continue
    return [r for r in found if r.marker is None or r.marker.evaluate()]


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def disk(checkout: Checkout) -> list[Finding]:
    """Room for one more set of outputs, and for the temporary files of training."""
    need = _to_write(checkout)
    places = {"the repository": checkout.root, "DVC's cache": _existing(checkout.cache)}
    places["the temporary folder"] = Path(tempfile.gettempdir())
    findings, seen = [], set()
    for name, path in places.items():
        device = path.stat().st_dev
        if device in seen:
            continue
        seen.add(device)
        free, wanted = shutil.disk_usage(path).free, need if name != "the temporary folder" else LEAST_FREE_BYTES
        if free >= max(wanted, LEAST_FREE_BYTES):
            continue
        findings.append(
            Finding(
                "disk",
                "error" if free < LEAST_FREE_BYTES else "warning",
                f"{_size(free)} free for {name} ({path}), a run may write {_size(max(wanted, LEAST_FREE_BYTES))}",
                "dvc gc --all-branches --all-experiments frees the cache; TMPDIR, dvc cache dir: other disks",
            )
        )
    free = shutil.disk_usage(checkout.root).free
    return findings or [Finding("disk", "ok", f"{_size(free)} free, a whole run writes about {_size(need)}")]


def _to_write(checkout: Checkout) -> int:
    """Bytes of all outputs by dvc.lock, in proportion to the raw data of now."""
    sizes = {path: entry.get("size", 0) for path, entry in checkout.outputs.items()}
    deps = (dep for stage in checkout.lock.values() for dep in stage.get("deps", []))
    then = next((dep.get("size", 0) for dep in deps if dep["path"] == "data/raw"), 0)
    now = _folder_size(checkout.root / "data/raw") or then
    return round(sum(sizes.values()) * now / then) if then and sizes else GROWTH * now


def _folder_size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())


def links(checkout: Checkout) -> Finding:
    """Outputs are shared between cache and workspace, not kept twice."""
    from dvc_objects.fs.system import hardlink, reflink

    wanted = checkout.dvc_config.get("cache.type", "reflink,copy").split(",")
    ways = {"reflink": reflink, "hardlink": hardlink}
    possible = [way for way in wanted if way in ways and _can(ways[way], checkout)]
    if possible:
        return Finding("links", "ok", f"cache and workspace share files by {possible[0]}")
    if "symlink" in wanted:
        return Finding("links", "ok", "the workspace has symbolic links into the cache")
    return Finding(
        "links",
        "warning",
        f"cache ({checkout.cache}) and workspace cannot share files (cache.type {','.join(wanted)}): all is kept twice",
        "put both on one file system, or dvc config cache.type symlink --local",
    )


def _can(link: Any, checkout: Checkout) -> bool:
    """Whether a file of the cache's file system can be linked into the workspace's."""
    here = partial(tempfile.TemporaryDirectory, prefix=".partial-doctor-")
    try:
        with here(dir=_existing(checkout.cache)) as source, here(dir=checkout.root) as target:
            file = Path(source) / "file"
            file.write_bytes(b"x")
            link(str(file), str(Path(target) / "file"))
            return True
    except OSError:
        return False


def memory(checkout: Checkout) -> Finding:
    """One training fits; more side by side are told of."""
    need, free = _training_bytes(checkout), psutil.virtual_memory().available
    sides = max(1, int(free // need))
    if free < need:
        return Finding(
            "memory",
            "warning",
            f"{_size(free)} available, one training takes about {_size(need)}",
            "lower machine.cache_gb (patches then lie in a temporary file) or train.batch_size, or close programs",
        )
    cores = os.cpu_count() or 1
    return Finding(
        "memory",
        "ok",
        f"{_size(free)} available for about {_size(need)} a training; {cores} cores, so at most -j {min(sides, cores)}",
    )


def _training_bytes(checkout: Checkout) -> int:
    """Windows of all patches in float32, or machine.cache_gb if that is less, and a constant."""
    try:
        patches = json.loads((checkout.root / "metrics/patches.json").read_text(encoding="utf-8"))["kept"]
        channels = len(checkout.param("ingest.bands", [])) + len(checkout.param("indices.names", []))
        windows = patches * channels * checkout.param("patches.size_px", 0) ** 2 * 4
        return TRAINING_BYTES + round(min(windows, checkout.param("machine.cache_gb", 0) * 1e9))
    except (OSError, ValueError, KeyError, TypeError):
        return TRAINING_BYTES


def gpu(checkout: Checkout) -> Finding:
    """What machine.device and train.devices and precision ask for is here. torch is imported only to look for a GPU."""
    device, precision = checkout.param("machine.device", "auto"), checkout.param("train.precision", "32-true")
    count = checkout.param("train.devices", 1)
    if device == "cpu" or (device == "auto" and not _has_driver()):
        if precision != "32-true":
            return Finding(
                "GPU",
                "warning",
                f"train.precision is {precision}, but training is on the CPU: slower, not faster",
                "set it to 32-true",
            )
        return Finding("GPU", "ok", "not asked for" if device == "cpu" else "none here, training is on the CPU")
    names = gpus()
    if not names and (device == "cuda" or _has_driver()):
        level, found = (
            ("error", "machine.device is cuda") if device == "cuda" else ("warning", "there is an NVIDIA driver")
        )
        return Finding(
            "GPU",
            level,
            f"{found}, but torch finds no GPU",
            "set machine.device to cpu, or install a driver that torch's CUDA takes",
        )
    if isinstance(count, int) and count > len(names):
        return Finding(
            "GPU",
            "error",
            f"train.devices is {count}, but torch finds {len(names)} GPUs",
            "lower it, or set it to auto",
        )
    return Finding("GPU", "ok", f"{some(names)}; precision {precision}")


def gpus() -> list[str]:
    """Names of the GPUs that torch finds."""
    import torch

    return (
        [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    )


def _has_driver() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
