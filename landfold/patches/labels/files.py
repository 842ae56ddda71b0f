"""The one file of labels in the folder of labels."""

from pathlib import Path

from landfold.patches.settings import LabelError


def one_file(folder: Path, suffixes: set[str], what: str) -> Path:
    """The one file below ``folder`` with one of the suffixes, whatever their case.

    Raises:
        LabelError: if there is none, or there are several.
    """
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in suffixes) if folder.is_dir() else []
    if len(files) != 1:
        listed = ", ".join(p.relative_to(folder).as_posix() for p in files) or "none"
        raise LabelError(f"{folder}: expected one {what}, found {listed}; put the labels there, or correct labels.kind")
    return files[0]
