"""The settings that lead from one kind of network to another, as docs/training.md lists them."""

import re
import shutil
from pathlib import Path
from typing import Any

from dvc.utils.hydra import apply_overrides

from landfold.core.settings import read
from tests.imports import ROOT

PAGE = ROOT / "docs/training.md"


def documented(kind: str) -> list[str]:
    """The settings of the command ``dvc exp run -n KIND`` in docs/training.md, as DVC takes them."""
    (command,) = re.findall(rf"^dvc exp run -n {kind} (.*?[^\\])$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    parts = command.replace("\\\n", " ").split()
    assert parts[::2] == ["-S"] * (len(parts) // 2)
    return parts[1::2]


def switched(kind: str, folder: Path) -> dict[str, Any]:
    """The repository's params.yaml after DVC has set what docs/training.md lists for this kind."""
    path = folder / "params.yaml"
    shutil.copy(ROOT / "params.yaml", path)
    apply_overrides(path, documented(kind))
    content = read(path)
    path.unlink()
    return content
