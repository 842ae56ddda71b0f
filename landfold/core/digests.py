"""SHA-256 digests of what a result was made from: data, settings, models, code, and versions of libraries."""

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

DATA_DIGESTS = ("patches_digest", "statistics_digest", "fold_digest")
"""Fields of model.json."""

LIBRARIES = ("numpy", "rasterio", "spyndex", "shapely", "geopandas", "pandas", "pyproj", "pyogrio")
"""Libraries that make pixels and footprints."""

VERSIONS = ("__version__", "__gdal_version__", "__proj_version__", "__geos_version__", "proj_version_str")
"""Attributes by which a library gives its version and those of the C libraries inside it."""


def data_digest(cards: Iterable[Mapping[str, Any]]) -> str:
    """SHA-256 of the data that a result's folds are trained and scored on, from their model.json.

    It covers the labelled patches, the statistics of the scenes' pixels, and the split of every fold, but no settings
    of the network and the training. Scores under spatial folds are comparable where it is equal.

    Args:
        cards: the content of model.json of each fold, in the order of the folds.
    """
    return _sha256([[card[name] for name in DATA_DIGESTS] for card in cards])


def model_digest(weights: Iterable[str]) -> str:
    """SHA-256 of a model, from those of the weights of its folds, in their order: the tag MODEL_SHA256 of its maps."""
    return _sha256(list(weights))


def params_digest(params: Mapping[str, Any]) -> str:
    """SHA-256 of settings, whatever their order in the file."""
    return _sha256(params)


def _sha256(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def digest(*paths: Path) -> str:
    """SHA-256 over files and folders: names below each folder and content, in sorted order."""
    total = hashlib.sha256()
    for path in paths:
        members = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for member in members:
            name = member.relative_to(path).as_posix() if path.is_dir() else path.name
            total.update(name.encode() + b"\0" + file_sha256(member).encode() + b"\n")
    return total.hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, as hexadecimal text."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def code_digest(*rooms: str, scripts: Iterable[Path] = ()) -> str:
    """SHA-256 over the source files of folders of the package, such as ``"geo"``, and of scripts.

    Name the folders that a result depends on: those that dvc.yaml lists for its stage.
    """
    package = Path(__file__).parents[1]
    files = [path for room in rooms for path in sorted((package / room).rglob("*.py"))]
    total = hashlib.sha256()
    for path in files:
        total.update(path.relative_to(package).as_posix().encode() + b"\0" + file_sha256(path).encode() + b"\n")
    for path in scripts:
        total.update(path.name.encode() + b"\0" + file_sha256(path).encode() + b"\n")
    return total.hexdigest()


def library_versions() -> dict[str, str]:
    """Versions of `LIBRARIES`, GDAL's and PROJ's among them, of those that are loaded."""
    loaded = {name: sys.modules[name] for name in LIBRARIES if name in sys.modules}
    return {
        f"{name}.{attribute}": str(getattr(module, attribute))
        for name, module in loaded.items()
        for attribute in VERSIONS
        if hasattr(module, attribute)
    }
