"""Git and DVC: what experiments would lack, and what stands in the way of `dvc repro`."""

import json
from pathlib import Path

import psutil

from landfold.cli.doctor.checkout import Checkout, Finding, some

LARGE_BYTES = 50_000_000
"""GitHub warns of files above this size and refuses them above 100 MB."""

NEEDED = ("landfold/", "stages/", ".dvc/", "dvc.yaml", "dvc.lock", "params.yaml", "data/")
"""What an experiment in a folder of its own must have from git."""

CONFLICTS = {"DD", "AU", "UD", "UA", "DU", "AA", "UU"}


def git(checkout: Checkout) -> Finding:
    """A git repository with a commit, and DVC in it."""
    done = checkout.run("git", "rev-parse", "--show-toplevel")
    if done.returncode == 127:
        return Finding("git", "error", "git is not installed", "install it, such as with apt install git")
    if done.returncode:
        return Finding(
            "git", "error", "not a git repository; DVC refuses to work", "git init, git add -A, git commit -m start"
        )
    if not (checkout.root / ".dvc/config").is_file():
        return Finding(
            "git", "error", ".dvc/config: not found; DVC knows no repository here", "git add .dvc, or dvc init"
        )
    commit = checkout.git("rev-parse", "--short", "HEAD").strip()
    if not commit:
        return Finding(
            "git", "warning", "no commit yet; experiments of DVC start from one", "git add -A, git commit -m start"
        )
    branch = checkout.git("branch", "--show-current").strip()
    return Finding("git", "ok", f"commit {commit}" + (f" of {branch}" if branch else ", no branch"))


def conflicts(checkout: Checkout) -> list[Finding]:
    """Files of a merge that is not over."""
    names = sorted(name for name, state in checkout.changes.items() if state in CONFLICTS)
    if not names:
        return []
    found = f"a merge has left conflicts in {some(names)}"
    mend = "mend them and git add them; of dvc.lock take one side and run dvc repro"
    return [
        Finding("merge", "error" if {"dvc.yaml", "params.yaml", "dvc.lock"} & set(names) else "warning", found, mend)
    ]


def raw_data(checkout: Checkout) -> Finding:
    """data/raw is made by a stage or is under DVC, so that experiments elsewhere have it."""
    raw, pointer = checkout.root / "data/raw", checkout.root / "data/raw.dvc"
    makers = [name for name, stage in checkout.pipeline.items() if "data/raw" in stage.get("outs", [])]
    hidden = checkout.run("git", "check-ignore", "--verbose", "--no-index", "data/raw.dvc").stdout.partition("\t")[0]
    if makers and pointer.is_file():
        return Finding(
            "raw data", "error", f"data/raw is both of stage {makers[0]} and of data/raw.dvc", "dvc remove fetch"
        )
    if makers:
        return Finding("raw data", "ok", f"made by stage {makers[0]}")
    if hidden:
        file, line, _ = hidden.split(":", 2)
        return Finding(
            "raw data",
            "warning",
            f"{file} hides data/raw.dvc from git and DVC by its line {line}; queued and temporary experiments fail",
            "ignore /data/raw, not /data/*; then dvc add data/raw and git add data/raw.dvc",
        )
    if not pointer.is_file():
        if not raw.is_dir():
            return Finding(
                "raw data", "error", "data/raw: not found, and no stage makes it", "put your scenes and labels there"
            )
        return Finding(
            "raw data",
            "warning",
            "data/raw is not under DVC; queued and temporary experiments would not have it",
            "dvc add data/raw, git add data/raw.dvc, git commit",
        )
    if not raw.is_dir():
        return Finding(
            "raw data",
            "error",
            "data/raw: not here, only data/raw.dvc is",
            "dvc pull data/raw, or dvc checkout data/raw",
        )
    return Finding("raw data", "ok", "under DVC by data/raw.dvc")


def untracked(checkout: Checkout) -> Finding:
    """Files that queued and temporary experiments would not have, since git does not."""
    names = [name for name, state in checkout.changes.items() if state == "??" and name.startswith(NEEDED)]
    weights = str(checkout.param("model.weights", ""))
    kept = (checkout.root / f"{weights}.dvc").is_file() or checkout.git("ls-files", "--", weights)
    if (checkout.root / weights).is_file() and not kept:
        names.append(weights)
    if not names:
        return Finding("files", "ok", "git has all that an experiment needs")
    return Finding(
        "files",
        "warning",
        f"not in git, so not in queued and temporary experiments: {some(sorted(set(names)))}",
        "git add them (large ones: dvc add); a commit is not needed",
    )


def uncommitted(checkout: Checkout) -> Finding:
    """Changes that every experiment would take along."""
    names = sorted(name for name, state in checkout.changes.items() if state != "??" and state not in CONFLICTS)
    if not names:
        return Finding("changes", "ok", "all is committed")
    return Finding(
        "changes",
        "warning",
        f"not committed: {some(names)}; every experiment takes that along beside what its -S lines say",
        "git commit before experiments that are to be compared",
    )


def large_files(checkout: Checkout) -> list[Finding]:
    """Files that git would take in and should not."""
    sizes = {name: _size(checkout.root / name) for name in checkout.changes}
    large = sorted(name for name, size in sizes.items() if size > LARGE_BYTES)
    if not large:
        return []
    found = f"git would take in {some([f'{name} ({sizes[name] / 1e6:.0f} MB)' for name in large])}"
    return [Finding("large files", "warning", found, "dvc add them, or put them into .gitignore")]


def _size(path: Path) -> int:
    return path.lstat().st_size if path.is_file() else 0


def lock_file(checkout: Checkout) -> Finding:
    """dvc.lock has what params.yaml and the code say."""
    if not checkout.lock:
        return Finding("dvc.lock", "warning", "nothing has run yet", "dvc repro, and git commit, before experiments")
    if not checkout.behind:
        return Finding("dvc.lock", "ok", "settings and code are those of the last run")
    reasons = [f"{name} ({reason})" for name, reason in checkout.behind.items()]
    return Finding(
        "dvc.lock",
        "warning",
        f"{len(reasons)} stages differ from the last run: {some(reasons)}; every experiment would run them again",
        "dvc repro, and git commit, before experiments",
    )


def cached_outputs(checkout: Checkout) -> list[Finding]:
    """What dvc.lock names is in the cache, where experiments elsewhere take it from."""
    entries = {path: entry for path, entry in checkout.outputs.items() if "md5" in entry}
    files = checkout.cache / "files/md5"
    lost = sorted(
        path for path, entry in entries.items() if not (files / entry["md5"][:2] / entry["md5"][2:]).is_file()
    )
    if not entries:
        return []
    if not lost:
        return [Finding("cache", "ok", f"has all {len(entries)} outputs")]
    return [
        Finding(
            "cache",
            "warning",
            f"lacks {len(lost)} of {len(entries)} outputs: {some(lost)}; experiments elsewhere make them anew",
            "dvc pull if there is a remote, else dvc repro, before experiments",
        )
    ]


def held_lock(checkout: Checkout) -> Finding:
    """No other DVC command is at work here."""
    holder = _flock_holder(checkout.root / ".dvc/tmp/lock")
    if holder is not None:
        return Finding("DVC lock", "error", f".dvc/tmp/lock is held by {holder}", "wait until it ends, or end it")
    path = checkout.root / ".dvc/tmp/rwlock"
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (ValueError, UnicodeDecodeError):
        return Finding(
            "DVC lock", "error", ".dvc/tmp/rwlock: no JSON, as a killed process may leave it", "rm .dvc/tmp/rwlock"
        )
    writers = list(content.get("write", {}).values())
    holders = writers + [info for infos in content.get("read", {}).values() for info in infos]
    alive = sorted({(info["pid"], info["cmd"]) for info in holders if psutil.pid_exists(info["pid"])})
    if alive:
        pid, command = alive[0]
        return Finding(
            "DVC lock", "error", f"`{command}` (process {pid}) is at work here", "wait until it ends, or end it"
        )
    return Finding("DVC lock", "ok", "free")


def _flock_holder(path: Path) -> str | None:
    """Who holds an advisory lock, None if nobody does or this system has no such locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    try:
        with path.open("r+b") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(stream, fcntl.LOCK_UN)
    except BlockingIOError:
        pid = path.read_text(encoding="utf-8").strip()
        return f"process {pid}" if pid else "another process"
    except OSError:
        pass
    return None
