"""What the tags of a run mean, and which live runs are stale."""

import json
import socket
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

PARENT = "mlflow.parentRunId"
FOLD_DIGEST = "dvc.fold_digest"
"""Digest of the fold's folder; it identifies the live run that made a fold."""

KEY, COMPLETE = "landfold.key", "landfold.complete"
"""On a parent: the digest of its result, and "true" when nothing is missing."""

FOLD, K, STATE = "landfold.fold", "landfold.k", "landfold.state"
"""On a fold's run; state is live or restored: written while it trained, or from its files."""

ATTACHED, HEARTBEAT = "landfold.attached", "landfold.heartbeat"
"""On a live run until it has a parent: "false", and host, process, workspace and time of the last epoch as JSON."""

STALE_AFTER_S = 7 * 24 * 3600
"""A live run whose process cannot be asked is stale after this long without a heartbeat."""


@dataclass(frozen=True)
class Run:
    """A run of MLflow, read through its client or from its database."""

    id: str
    status: str
    start_ms: int
    tags: dict[str, str]

    @cached_property
    def heartbeat(self) -> dict[str, Any]:
        """Host, process, workspace and time_ms of a live run; empty for any other run."""
        try:
            content = json.loads(self.tags.get(HEARTBEAT, "{}"))
        except ValueError:
            return {}
        return content if isinstance(content, dict) else {}


def now_ms() -> int:
    """Milliseconds since 1970, as MLflow counts time."""
    return time.time_ns() // 1_000_000


def heartbeat(workspace: Path) -> str:
    """The tag HEARTBEAT of a run that this process is training: host, process, workspace and time as JSON."""
    import psutil

    process = psutil.Process()
    return json.dumps(
        {
            "host": socket.gethostname(),
            "process": f"{process.pid} {process.create_time():.2f}",
            "workspace": str(workspace),
            "time_ms": now_ms(),
        }
    )


def is_stale(run: Run, workspace: Path) -> bool:
    """Whether a live run without a parent will never get one.

    A run of another workspace, such as a queued experiment's, is not stale: its result may be in the making. Nor is
    one of another host, until it has had no heartbeat for a week.
    """
    last = run.heartbeat
    silent = now_ms() - int(last.get("time_ms", run.start_ms)) > STALE_AFTER_S * 1000
    if silent or last.get("host") != socket.gethostname():
        return silent
    if run.status == "RUNNING":
        return not _is_alive(last.get("process", ""))
    its_workspace = Path(last.get("workspace", ""))
    return its_workspace == workspace or not its_workspace.is_dir()


def _is_alive(identity: str) -> bool:
    """Whether the process "pid start" still runs; a later process may have the same pid.

    The start is reckoned from the boot, whose time moves when the clock is set: a minute either way is the same start.
    """
    import psutil

    pid, _, started = identity.partition(" ")
    try:
        return abs(psutil.Process(int(pid)).create_time() - float(started)) < 60
    except psutil.AccessDenied:
        return True
    except (psutil.NoSuchProcess, ValueError):
        return False
