"""The result of one check of `landfold doctor`."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Diagnosis:
    """One line of the doctor: an error makes `dvc repro` fail, a warning is about experiments or results."""

    check: str
    level: Literal["ok", "warning", "error"]
    message: str
    fix: str = ""
