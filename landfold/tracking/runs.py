"""What the tags of a run mean, and which live runs are given up."""

import json
import socket
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

PARENT = "mlflow.parentRunId"
FOLD_DIGEST = "dvc.fold_digest"
"""Of the fold's folder: by it a live run is known as the one that made a fold."""

KEY, COMPLETE = "landfold.key", "landfold.complete"
"""On a parent: the digest of its result, and "true" when nothing is missing."""

FOLD, K, STATE = "landfold.fold", "landfold.k", "landfold.state"
"""On a fold's run; state is live or restored: written while it trained, or from its files."""

ADOPTED, LIFE = "landfold.adopted", "landfold.live"
"""On a live run until it has a parent: "false", and the signs of life of its process as JSON."""

ABANDONED_AFTER_S = 7 * 24 * 3600
"""A live run whose process cannot be asked is given up after this long without a sign of life."""


@dataclass(frozen=True)
class Run:
    """What is asked of a run, wherever it was read."""

    id: str
    status: str
    start_ms: int
    tags: dict[str, str]

    @cached_property
    def life(self) -> dict[str, Any]:
        """Host, process, workspace and heartbeat of a live run; empty for another."""
        try:
            found = json.loads(self.tags.get(LIFE, "{}"))
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


def now_ms() -> int:
    """Milliseconds since 1970, as MLflow counts time."""
    return time.time_ns() // 1_000_000


def signs_of_life(workspace: Path) -> dict[str, Any]:
    """Who trains, where, and when it was last heard of."""
    import psutil

    process = psutil.Process()
    return {
        "host": socket.gethostname(),
        "process": f"{process.pid} {process.create_time():.2f}",
        "workspace": str(workspace),
        "heartbeat": now_ms(),
    }


def is_orphan(run: Run, workspace: Path) -> bool:
    """Whether a live run that no result has adopted will never be adopted.

    That of another workspace (a queued experiment, say) is left alone: it may be part of a result
    in the making. So is that of another host, until it has been silent for a week.
    """
    silent = now_ms() - int(run.life.get("heartbeat", run.start_ms)) > ABANDONED_AFTER_S * 1000
    if silent or run.life.get("host") != socket.gethostname():
        return silent
    if run.status == "RUNNING":
        return not _is_alive(run.life.get("process", ""))
    theirs = Path(run.life.get("workspace", ""))
    return theirs == workspace or not theirs.is_dir()


def _is_alive(identity: str) -> bool:
    """Whether a process is the one that was noted as "pid start", not a later one of the same number."""
    import psutil

    pid, _, started = identity.partition(" ")
    try:
        return abs(psutil.Process(int(pid)).create_time() - float(started)) < 2
    except psutil.AccessDenied:
        return True
    except (psutil.NoSuchProcess, ValueError):
        return False
