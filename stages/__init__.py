"""The stages of dvc.yaml: thin scripts that read, call the package, and write.

Each is run from the root of the repository as ``python -m stages.NAME``.
"""

import errno
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from landfold.console.progress import bar
from landfold.core.errors import LandfoldError
from landfold.params import Params, read_params

__all__ = ["PARAMS", "Params", "bar", "run"]

PARAMS = Path("params.yaml")

# Threads that wait by spinning take the cores from each other: two trainings on two cores took ten times as long. It
# must be said before torch is imported, and changes no number.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def run(main: Callable[[Params], str]) -> None:
    """Run a stage on params.yaml, which is read once and checked whole: a wrong value of any section is refused now.

    Prints the stage's closing line on success, one clear error on a user's mistake, and then ends with exit code 1.
    """
    stage = Path(sys.argv[0]).stem
    start = time.perf_counter()
    try:
        summary = main(read_params(PARAMS))
    except LandfoldError as error:
        sys.exit(f"{stage}: {error}")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        where = error.filename or "writing"
        sys.exit(f"{stage}: {where}: {error.strerror}; repair this and run again, nothing is half-written")
    print(f"{stage}: {summary} ({time.perf_counter() - start:.1f} s)", flush=True)
