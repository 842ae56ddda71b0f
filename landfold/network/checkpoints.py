"""The state of a training after its last finished epoch, saved apart from DVC's outputs until the fold is written."""

import hashlib
import json
import pickle
import shutil
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from filelock import FileLock
from filelock import Timeout as LockTimeout

from landfold.core.digests import code_digest
from landfold.core.files import MAX_AGE_S, cache_dir, writing

STATE = "state.pt"

ROOMS = ("core", "geo", "patches", "folds", "pixels", "classical", "network")
"""Folders of code that decide the weights: the same as in dvc.yaml."""


def checkpoint_dir(output: Path) -> Path:
    """The folder for the states of trainings that write ``output``.

    It is below ``.dvc/tmp/landfold`` of the main checkout or, without ``.dvc``, beside the output under a name that
    git and DVC ignore.
    """
    folder = cache_dir(Path.cwd())
    return folder / "train" if folder else output.with_name(f".partial-{output.name}-training")


def training_fingerprint(facts: object, arrays: Iterable[np.ndarray], tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of all that decides the result of a training.

    Args:
        facts: settings and digests, as JSON.
        arrays: the data to learn from.
        tensors: the initial weights.

    Returns:
        Hexadecimal digits, also of the code and torch's version.
    """
    total = hashlib.sha256(json.dumps([facts, torch.__version__, code_digest(*ROOMS)], sort_keys=True).encode())
    for array in arrays:
        for start in range(0, len(array), 4096):
            total.update(np.ascontiguousarray(array[start : start + 4096]))
    for name, tensor in sorted(tensors.items()):
        total.update(name.encode() + b"\0" + tensor.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


class Checkpoint:
    """The saved state of one training; a `Checkpoint` of None saves nothing.

    As a context manager, it deletes the state when the block succeeds.
    """

    def __init__(self, home: Path | None) -> None:
        """Save states below the folder ``home``; those that no training has used for two weeks are deleted."""
        self.home = home
        self.folder: Path | None = None
        self._lock: FileLock | None = None
        for old in _older_than(home, MAX_AGE_S) if home else ():
            shutil.rmtree(old, ignore_errors=True) if old.is_dir() else old.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self.close(discard=error is None)

    def open(self, fingerprint: str) -> dict[str, Any] | None:
        """The saved state of the training with this fingerprint, or None.

        While another process runs the same training, nothing is read or saved.
        """
        if self.home is None:
            return None
        folder = self.home / fingerprint[:32]
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / "lock")
        try:
            self._lock.acquire(timeout=0)
        except LockTimeout:
            return None
        self.folder = folder
        (folder / f".partial-{STATE}").unlink(missing_ok=True)
        try:
            return torch.load(folder / STATE, "cpu", weights_only=True)
        except (FileNotFoundError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError):
            return None  # none yet, or damaged by a power cut: the training starts anew

    def save(self, state: dict[str, Any]) -> None:
        """Replace the saved state by this one of tensors and plain values, wholly or not at all."""
        if self.folder is not None:
            with writing(self.folder / STATE) as temporary:
                torch.save(state, temporary)

    @property
    def file(self) -> Path | None:
        """The saved state, if there is one."""
        path = self.folder / STATE if self.folder else None
        return path if path and path.is_file() else None

    def close(self, *, discard: bool) -> None:
        """Release the state, and delete it with ``discard``: its fold is written."""
        if self._lock is not None:
            self._lock.release()
        if self.home is None:
            return
        if self.folder is not None and (discard or self.file is None):
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder = None
        with suppress(OSError):  # it does not exist, or has other states
            self.home.rmdir()


def _older_than(folder: Path, seconds: float) -> Iterable[Path]:
    now = time.time()
    for path in folder.glob("*"):
        with suppress(OSError):
            if now - max(part.stat().st_mtime for part in (path, *path.glob("*"))) > seconds:
                yield path
