"""The command ``landfold doctor``: what would go wrong with `dvc repro` and with experiments, before it does.

Each check is a function of a `Checkout` that gives one finding or several; nothing is changed anywhere.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from landfold.cli.doctor import machine, repository, services, settings
from landfold.cli.doctor.checkout import Checkout, DoctorError, Finding

__all__ = ["CHECKS", "Checkout", "DoctorError", "Finding", "as_data", "as_text", "diagnose", "stops"]

Check = Callable[[Checkout], Finding | list[Finding]]

CHECKS: list[Check] = [
    repository.git,
    repository.conflicts,
    settings.pipeline,
    settings.params,
    repository.raw_data,
    repository.untracked,
    repository.uncommitted,
    repository.large_files,
    repository.lock_file,
    repository.cached_outputs,
    repository.held_lock,
    machine.versions,
    machine.disk,
    machine.links,
    machine.memory,
    machine.gpu,
    services.remote,
    services.store,
    services.environment,
    services.queue,
]

LEVELS = ("error", "warning", "ok")


def diagnose(folder: Path, *, ask_remote: bool = False) -> list[Finding]:
    """All findings about the checkout that owns a folder, in the order of CHECKS.

    Raises:
        DoctorError: if the folder is in no checkout of Landfold.
    """
    checkout = Checkout.of(folder, ask_remote=ask_remote)
    findings: list[Finding] = []
    for check in CHECKS:
        found = check(checkout)
        findings += [found] if isinstance(found, Finding) else found
        if findings and findings[0].level == "error" and check is repository.git:
            break  # without a repository nothing else can be said
    return findings


def stops(findings: list[Finding]) -> bool:
    """Whether `dvc repro` would fail."""
    return any(finding.level == "error" for finding in findings)


def as_text(findings: list[Finding]) -> str:
    """A line a finding, and below it how to mend it; a closing line that counts."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.level:<8} {finding.check}: {finding.found}")
        if finding.mend:
            lines.append(f"{'':<8} -> {finding.mend}")
    errors, warnings, _ = (sum(finding.level == level for finding in findings) for level in LEVELS)
    if errors:
        lines.append(f"{_count(errors, 'error')}, {_count(warnings, 'warning')}: `dvc repro` would fail.")
    elif warnings:
        lines.append(f"{_count(warnings, 'warning')}: `dvc repro` would run; mind them before queueing experiments.")
    else:
        lines.append("Nothing found that would go wrong.")
    return "\n".join(lines)


def as_data(findings: list[Finding]) -> dict[str, Any]:
    """The same for programs."""
    return {"runs": not stops(findings), "findings": [vars(finding) for finding in findings]}


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
