"""What made a run: the commit of the code, the DVC experiment, Python and its packages."""

import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path

COMMIT, BRANCH, DIRTY, CHANGED = (
    "mlflow.source.git.commit",
    "mlflow.source.git.branch",
    "landfold.dirty",
    "landfold.changed_files",
)
EXPERIMENT = "dvc.exp_name"

CODE = ("landfold", "stages", "params.yaml", "dvc.yaml", "requirements.txt", "data/raw.dvc")
"""What a result is made from. The pipeline itself rewrites dvc.lock and metrics; documentation changes no result."""


def origin(workspace: Path, source: str) -> dict[str, str]:
    """Tags of a run: commit, branch, whether code or settings differ from the commit, and the DVC experiment.

    New files count as differences, ignored ones do not. Outside of git there is no commit.

    Args:
        workspace: the folder in which the pipeline runs.
        source: the script that writes the run.
    """
    tags = {"mlflow.source.name": source, "mlflow.source.type": "LOCAL", **_git(workspace)}
    if name := os.environ.get("DVC_EXP_NAME"):
        tags[EXPERIMENT] = name
    return tags


def _git(workspace: Path) -> dict[str, str]:
    command = ["git", "-C", str(workspace), "status", "--porcelain=v2", "--branch", "--no-renames", "--", *CODE]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return {}
    head = dict(re.findall(r"^# branch\.(oid|head) (.+)$", answer.stdout, flags=re.MULTILINE))
    if head.get("oid", "(initial)") == "(initial)":
        return {}
    # 1 XY sub mH mI mW hH hI PATH, u XY sub m1 m2 m3 mW h1 h2 h3 PATH, ? PATH
    changed = re.findall(r"^(?:1(?: \S+){7}|u(?: \S+){9}|\?) (.+)$", answer.stdout, flags=re.MULTILINE)
    tags = {COMMIT: head["oid"], DIRTY: "true" if changed else "false"}
    if head["head"] != "(detached)":
        tags[BRANCH] = head["head"]
    if changed:
        tags[CHANGED] = ", ".join(changed)[:500]
    return tags


def environment(workspace: Path) -> str:
    """Python, the platform, and the installed versions of the packages in requirements.txt, one a line.

    Where another version is installed than requirements.txt asks for, the line says both. Packages that are not
    installed, such as those of other platforms, are left out.
    """
    lines = [f"# {platform.python_implementation()} {platform.python_version()} on {platform.platform()}"]
    requirements = workspace / "requirements.txt"
    pinned = re.findall(
        r"^([\w.-]+)(?:\[[^\]]*\])?==([^\s;]+)",
        requirements.read_text(encoding="utf-8") if requirements.is_file() else "",
        flags=re.MULTILINE,
    )
    for name, required in sorted(set(pinned)):
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        lines.append(f"{name}=={installed}" + ("" if installed == required else f"  # requirements.txt: {required}"))
    return "\n".join(lines) + "\n"
