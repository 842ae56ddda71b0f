"""What is outside the folder: the DVC remote, MLflow's store, the environment, the workers of the queue."""

import json
import os
import sqlite3
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from landfold.cli.doctor.checkout import Checkout, Finding, some
from landfold.tracking import shown, sqlite_file, store_uri
from landfold.tracking.redaction import redacted

PATIENCE_S = 5.0
"""How long a tracking server may take to answer."""

REMOTE_PATIENCE_S = 60.0

DVCS_OWN = (
    "DVC_EXP_NAME",
    "DVC_EXP_BASELINE_REV",
    "DVC_ROOT",
    "DVC_STAGE",
    "MLFLOW_RUN_ID",
    "GIT_DIR",
    "GIT_INDEX_FILE",
)
"""Set while a stage or a hook runs; in a shell they send experiments and runs astray."""


def remote(checkout: Checkout) -> Finding:
    """A DVC remote is set; with --remote it is asked what it lacks."""
    urls = {
        key.removeprefix("remote.").removesuffix(".url"): url
        for key, url in checkout.dvc_config.items()
        if key.startswith("remote.") and key.endswith(".url")
    }
    if not urls:
        return Finding(
            "remote", "ok", "none set, so data and models are on this machine alone (dvc remote add -d NAME URL)"
        )
    name = checkout.dvc_config.get("core.remote", "")
    if name not in urls:
        return Finding(
            "remote", "warning", f"no default among {some(sorted(urls))}", f"dvc remote default {sorted(urls)[0]}"
        )
    told = f"{name}, {shown(urls[name])}"
    if not checkout.ask_remote:
        return Finding("remote", "ok", f"{told}; --remote asks whether it answers")
    done = checkout.run("dvc", "status", "--cloud", "--json", timeout_s=REMOTE_PATIENCE_S)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [
            f"exit code {done.returncode}"
        ]
        reason = shown_in(lines[0].removeprefix("ERROR: "), urls[name])
        return Finding(
            "remote", "warning", f"{told}: {reason}", "dvc push and dvc pull fail; see dvc remote modify --help"
        )
    lacks = sum(state == "new" for state in json.loads(done.stdout or "{}").values())
    if lacks:
        return Finding("remote", "warning", f"{told}: answers, lacks {lacks} outputs that are here", "dvc push")
    return Finding("remote", "ok", f"{told}: answers, has what is here")


def shown_in(text: str, url: str) -> str:
    """A message without the secrets of a URL, and without those that the environment holds."""
    text = redacted(text.replace(url, shown(url)))
    try:
        password = urlsplit(url).password
    except ValueError:  # no URL that could be taken apart
        return text
    return text.replace(password, "***") if password else text


def store(checkout: Checkout) -> Finding:
    """MLflow's database can be used, or its server answers."""
    if checkout.param("track.enabled") is False:
        return Finding("MLflow", "ok", "off (track.enabled: false)")
    uri = store_uri(checkout.root)
    file = sqlite_file(uri)
    if file:
        return _database(file)
    if urlsplit(uri).scheme not in ("http", "https"):
        return Finding("MLflow", "ok", f"{shown(uri)} (not asked)")
    try:
        with urllib.request.urlopen(f"{shown(uri).rstrip('/')}/health", timeout=PATIENCE_S):  # noqa: S310 - http(s) only
            pass
    except urllib.error.HTTPError:
        pass  # it answers; who may log in is between it and mlflow
    except OSError as error:
        reason = getattr(error, "reason", error)
        return Finding(
            "MLflow",
            "warning",
            f"{shown(uri)} does not answer ({reason}); training goes on, and the record is completed later",
            "start the server, or unset MLFLOW_TRACKING_URI for a database here",
        )
    return Finding("MLflow", "ok", f"{shown(uri)} answers")


def _database(file: Path) -> Finding:
    if not file.is_file():
        return Finding("MLflow", "ok", f"{file.name} will be made")
    if not os.access(file, os.W_OK):
        return Finding("MLflow", "error", f"{file}: not writable", f"chmod u+w {file}")
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=PATIENCE_S)) as connection:
            runs = connection.execute("SELECT count(*) FROM runs WHERE lifecycle_stage = 'active'").fetchone()[0]
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            return Finding("MLflow", "error", f"{file.name}: locked by another program", "close that")
        return Finding("MLflow", "ok", f"{file.name} has no tables yet")
    except sqlite3.DatabaseError as error:
        mend = f"mv {file.name} {file.name}.broken; the next dvc repro rebuilds it"
        return Finding("MLflow", "error", f"{file.name}: no sqlite database ({error})", mend)
    return Finding("MLflow", "ok", f"{file.name} with {runs} runs")


def environment(checkout: Checkout) -> Finding:
    """Variables that a queue's workers keep from the shell in which they are started."""
    names = sorted(name for name in os.environ if name.startswith(("DVC_", "MLFLOW_")))
    astray = [name for name in DVCS_OWN if name in os.environ]
    if astray:
        return Finding(
            "environment",
            "warning",
            f"{some(astray)} set in this shell; meant for DVC's own stages",
            f"unset {' '.join(astray)}",
        )
    if names:
        return Finding("environment", "ok", f"{some(names, 6)}; dvc queue start takes them along as they are now")
    return Finding("environment", "ok", "no DVC_ or MLFLOW_ variables")


def queue(checkout: Checkout) -> Finding:
    """Experiments that wait, workers that are at work, and those that were killed."""
    waiting = len(checkout.git("log", "-g", "--format=%gd", "refs/exps/celery/stash").splitlines())
    alive, dead = [], []
    for path in sorted((checkout.root / ".dvc/tmp/exps/celery").glob("dvc-exp-worker-*.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            continue
        if content.get("returncode") is None:
            (alive if psutil.pid_exists(content["pid"]) else dead).append(content["pid"])
    told = f"{waiting} waiting, {len(alive)} workers"
    if dead and not alive:
        return Finding(
            "queue",
            "warning",
            f"{told}; {len(dead)} workers have died, what they ran still shows as running",
            "dvc queue status; dvc queue remove --all, then queue them again",
        )
    if (uri := _workers_store(alive)) != (here := os.environ.get("MLFLOW_TRACKING_URI", "")) and alive:
        found = (
            f"{told}, which record to {shown(uri) or 'mlflow.db'}, not to {shown(here) or 'mlflow.db'} as this shell"
        )
        return Finding("queue", "warning", found, "dvc queue stop, then dvc queue start")
    if waiting and not alive:
        return Finding(
            "queue", "warning", f"{told}: nothing runs them", "dvc queue start, or dvc queue remove --queued"
        )
    return Finding("queue", "ok", told if waiting or alive else "empty")


def _workers_store(pids: list[int]) -> str:
    for pid in pids:
        try:
            return psutil.Process(pid).environ().get("MLFLOW_TRACKING_URI", "")
        except psutil.Error:
            continue
    return os.environ.get("MLFLOW_TRACKING_URI", "")
