"""What the checks look at: files of one checkout, each read once."""

import hashlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import yaml

from landfold.core.errors import LandfoldError
from landfold.core.settings import SettingsError, read

MARKS = ("dvc.yaml", "params.yaml", "stages", "landfold")
"""By these a checkout of Landfold is known."""

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""By libyaml where there is one: dvc.lock has thousands of lines."""


class DoctorError(LandfoldError):
    """Nothing to examine."""


@dataclass(frozen=True)
class Finding:
    """What a check found: error stops `dvc repro`, warning stops or spoils something else."""

    check: str
    level: Literal["ok", "warning", "error"]
    found: str
    mend: str = ""


@dataclass(frozen=True)
class Checkout:
    """One checkout; ``root`` is absolute. What cannot be read is empty here, and told by its own check."""

    root: Path
    ask_remote: bool = False

    @classmethod
    def of(cls, folder: Path, *, ask_remote: bool = False) -> Self:
        """The checkout that a folder is in.

        Raises:
            DoctorError: if there is none.
        """
        folder = folder.resolve()
        for root in (folder, *folder.parents):
            if all((root / mark).exists() for mark in MARKS):
                return cls(root, ask_remote)
        raise DoctorError(
            f"{folder}: not in a checkout of Landfold (expected {', '.join(MARKS)} here or above); "
            "change to the folder that you have cloned"
        )

    def run(self, *command: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """What a command prints here; exit code 127 if there is none of that name, 124 if it takes too long."""
        try:
            return subprocess.run(
                command, cwd=self.root, capture_output=True, text=True, check=False, timeout=timeout_s
            )
        except FileNotFoundError:
            return subprocess.CompletedProcess(command, 127, "", f"{command[0]}: not found")
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, 124, "", f"no answer in {timeout_s:.0f} s")

    def git(self, *arguments: str) -> str:
        """What git prints, nothing if it fails."""
        done = self.run("git", *arguments)
        return done.stdout if done.returncode == 0 else ""

    @cached_property
    def changes(self) -> dict[str, str]:
        """Path and git's two letters of all that is not committed: ``??`` untracked, ``UU`` in conflict."""
        parts = iter(self.git("status", "--porcelain=v1", "-z", "-uall", "--", ".").split("\0"))
        prefix = self.git("rev-parse", "--show-prefix").strip()
        found = {}
        for part in parts:
            if part:
                found[part[3:].removeprefix(prefix)] = part[:2]
            if part[:1] in ("R", "C"):
                next(parts, None)  # where it was before
        return found

    @cached_property
    def params(self) -> dict[str, Any]:
        """Content of params.yaml, {} if it is unreadable."""
        try:
            return read(self.root / "params.yaml")
        except (SettingsError, OSError, UnicodeDecodeError):
            return {}

    def param(self, name: str, default: Any = None) -> Any:
        """One value of params.yaml by its dotted name."""
        return dig(self.params, name, default)

    @cached_property
    def pipeline(self) -> dict[str, Any]:
        """The stages of dvc.yaml, {} if it is unreadable."""
        return _stages(self.root / "dvc.yaml")

    @cached_property
    def lock(self) -> dict[str, Any]:
        """The stages of dvc.lock, {} if there is none or it is unreadable."""
        return _stages(self.root / "dvc.lock")

    @cached_property
    def dvc_config(self) -> dict[str, str]:
        """DVC's settings of all levels, by dotted names."""
        lines = self.run("dvc", "config", "--list").stdout.splitlines()
        return dict(line.partition("=")[::2] for line in lines)

    @cached_property
    def cache(self) -> Path:
        """DVC's cache folder."""
        own = self.dvc_config.get("cache.dir")
        return (self.root / ".dvc" / own).resolve() if own else self.root / ".dvc/cache"

    def stage_names(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Names of all stages and their definitions: one for each fold, too."""
        for name, stage in self.pipeline.items():
            if "foreach" not in stage:
                yield name, stage
                continue
            items = stage["foreach"]
            if isinstance(items, str):
                items = self.param(items.strip("${} "), [])
            for item in items if isinstance(items, list) else []:
                yield f"{name}@{item}", stage.get("do", {})

    @cached_property
    def outputs(self) -> dict[str, dict[str, Any]]:
        """Path and entry in dvc.lock of all outputs that DVC keeps in its cache."""
        kept = {}
        for name, stage in self.stage_names():
            plain = {
                path
                for kind in ("outs", "metrics", "plots")
                for out in stage.get(kind, [])
                if isinstance(out, dict)
                for path, options in out.items()
                if isinstance(options, dict) and options.get("cache") is False
            }
            for out in self.lock.get(name, {}).get("outs", []):
                if out["path"] not in plain:
                    kept[out["path"]] = out
        return kept

    @cached_property
    def behind(self) -> dict[str, str]:
        """Stages whose settings or code differ from what dvc.lock has, and the first thing that does."""
        reasons = {}
        for name, stage in self.stage_names():
            if not stage.get("always_changed") and (reason := self._difference(self.lock.get(name))):
                reasons[name] = reason
        return reasons

    def _difference(self, locked: dict[str, Any] | None) -> str:
        if locked is None:
            return "not run yet"
        for name, value in locked.get("params", {}).get("params.yaml", {}).items():
            if not same(dig(self.params, name), value):
                return name
        for dep in locked.get("deps", []):
            if dep["path"].startswith(("landfold/", "stages/")) and self._md5(dep["path"]) != dep.get("md5"):
                return dep["path"]
        return ""

    def _md5(self, name: str) -> str:
        path = self.root / name
        return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() if path.is_file() else ""


def _stages(path: Path) -> dict[str, Any]:
    try:
        content = load_yaml(path)
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return {}
    stages = content.get("stages") if isinstance(content, dict) else None
    return {name: stage for name, stage in (stages or {}).items() if isinstance(stage, dict)}


def load_yaml(path: Path) -> Any:
    """The content of a YAML file."""
    return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - a SafeLoader


def dig(content: Any, name: str, default: Any = None) -> Any:
    """A nested value by its dotted name; a key that itself has dots, as in dvc.lock, comes first."""
    if isinstance(content, dict) and name in content:
        return content[name]
    for part in name.split("."):
        if not isinstance(content, dict) or part not in content:
            return default
        content = content[part]
    return content


def same(one: Any, other: Any) -> bool:
    """Whether two YAML values are equal; ``1e-05`` is text to one reader and a number to another."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, str) != isinstance(other, str):
        try:
            return float(one) == float(other)
        except (TypeError, ValueError):
            return False
    return one == other


def some(names: list[str], most: int = 3) -> str:
    """The first few of many names."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
