"""Scenes that stay on a server, by lists of URLs; their windows are read over HTTP.

``NAME.urls`` is a text file with one URL a line (blank lines and ``#`` comments aside). Each URL is taken as though
the file of its name lay in a folder: names like SCENE_B02.tif make scenes of band files, others are files of many
bands (see `landfold.scenes.sensors.band_files` and `landfold.scenes.sensors.multiband`).

In hashes and reports the list stands for its files: a remote file that changes under its URL is not noticed.
"""

from dataclasses import replace
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote, urlsplit

from landfold.geo.remote import REMOTE, redact_url
from landfold.scenes.sensors import band_files, landsat, metadata, multiband
from landfold.scenes.sensors.scene_files import SceneError, SceneFiles

USE_HTTP = "give an http or https URL (s3://BUCKET/KEY is mostly also https://BUCKET.s3.amazonaws.com/KEY)"


def find(files: list[Path], band_order: list[str | None] | None) -> tuple[list[SceneFiles], list[Path]]:
    """Scenes of the lists of URLs among ``files``, and the files and listed names that belong to none.

    What is wrong with a list is the fault of a scene.

    Raises:
        SceneError: if an entry of ``band_order`` names no band.
    """
    scenes, left = [], []
    for path in files:
        if path.suffix.lower() != ".urls":
            left.append(path)
            continue
        listed, others = _of_list(path, band_order)
        scenes += listed
        left += others
    return scenes, left


def _of_list(path: Path, band_order: list[str | None] | None) -> tuple[list[SceneFiles], list[Path]]:
    """Scenes of a list of URLs, and its names that belong to none."""
    try:
        urls = _urls(path)
    except SceneError as error:
        return [SceneFiles.faulty(path.stem, "unknown", path, error)], []
    remedy = "that file is not read over the network: put the files here, or a STAC item file of the product"
    faults, left = landsat.without_metadata(list(urls), remedy=remedy)
    scenes, left = band_files.find(left, urls.__getitem__)
    taken = {path} if scenes or faults else set()
    stacks, left = multiband.find(left, taken, band_order, urls.__getitem__)
    return [_listed(scene, path, urls) for scene in (*faults, *scenes, *stacks)], left


def _urls(path: Path) -> dict[Path, str]:
    """What GDAL opens, by the name that an entry of a list would have if the list were a folder."""
    urls: dict[Path, str] = {}
    for number, text in enumerate(metadata.read_text(path).splitlines(), start=1):
        line = text.strip()
        if not line or line.startswith("#"):
            continue
        where = f"{path}: line {number}"
        url, name = remote_file(line, where), path / file_name(line)
        if name in urls:
            raise SceneError(
                f"{where}: a second URL of a file {name.name}; a list is like a folder: put it into another list"
            )
        urls[name] = url
    if not urls:
        raise SceneError(f"{path}: holds no URL; write one a line, or remove the file")
    return urls


def _listed(scene: SceneFiles, path: Path, urls: dict[Path, str]) -> SceneFiles:
    """A scene of a list with the list as its file, and URLs as what GDAL opens."""
    bands = {name: replace(band, path=path, source=urls[band.path]) for name, band in scene.bands.items()}
    masks = tuple(replace(mask, path=path, source=urls[mask.path]) for mask in scene.masks)
    return replace(scene, folder=path, bands=bands, masks=masks)


def file_name(url: str) -> str:
    """The name of the file behind a URL."""
    return unquote(PurePosixPath(urlsplit(url).path).name).replace("/", "_")


def quoted(url: str) -> str:
    """A URL with the signs quoted that may not stand in one."""
    return quote(url.strip(), safe="%/:?#[]@!$&()*+,;=~")


def remote_file(url: str, where: str) -> str:
    """What GDAL opens for a URL.

    Raises:
        SceneError: if it is not one of http or https that names a file; ``where`` begins the message.
    """
    text = quoted(url).split("#")[0]
    try:
        parts = urlsplit(text)
        is_http = parts.scheme.lower() in ("http", "https") and bool(parts.hostname)
        usable = is_http and file_name(text) not in ("", "..")
    except ValueError:
        usable = False
    if not usable:
        raise SceneError(f"{where}: '{redact_url(text)}' cannot be read over the network; {USE_HTTP}")
    return REMOTE + text
