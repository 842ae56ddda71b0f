"""Colours of the classes in maps, plots and report: the setting, and defaults for classes without one."""

import colorsys
import itertools
import re
from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from landfold.core.settings import Settings

Rgb = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

USUAL: dict[str, str] = {
    "#2f7fd1": "water, waterbody, lake, sea lake, open water, inland water, permanent water, permanent water body, "
    "water body, reservoir",
    "#62b5e8": "river, stream, canal, running water",
    "#1b4f9c": "sea, ocean, marine water",
    "#1f6f3a": "forest, tree, tree cover, tree canopy, wood, woodland, forest and semi natural area",
    "#5b9e4d": "deciduous forest, broadleaf forest, broadleaved forest, broad leaved forest, deciduous, broadleaf",
    "#0f4d38": "evergreen forest, coniferous forest, needleleaf forest, conifer, coniferous",
    "#3f8a6b": "mixed forest",
    "#f2d16b": "farm, farmland, crop, cropland, annual crop, cultivated crop, arable, arable land, agriculture, "
    "agricultural area, agricultural land, cultivated, field",
    "#d98f3f": "permanent crop, orchard, plantation",
    "#a34f86": "vineyard",
    "#2fa8a0": "rice, paddy, rice paddy, rice field",
    "#a8d95b": "grass, grassland, herbaceous, herbaceous vegetation, natural grassland, rangeland",
    "#d9e8a0": "meadow, pasture, hay, hay pasture, pasture hay",
    "#8a8f3c": "scrub, shrub, shrubland, scrubland, shrub and scrub, shrub scrub, bush",
    "#b58ab0": "heath, heathland, moor, moorland",
    "#d7443e": "residential, built up, built up area, built, urban, urban area, settlement, building, developed, "
    "artificial, artificial land, artificial surface, impervious, impervious surface, village, town, city",
    "#8e5aa8": "industrial, industry, commercial, retail",
    "#5c5c66": "road, highway, motorway, street, transport, railway, rail, paved",
    "#c2a98b": "bare, bare ground, bare land, bare soil, soil, barren, barren land, bare sparse vegetation, "
    "bare and sparse vegetation, sparse vegetation, bareland",
    "#efe0b0": "sand, beach, dune, desert",
    "#948a80": "rock, bare rock, quarry, mine",
    "#6fc3b8": "wetland, herbaceous wetland, woody wetland, emergent herbaceous wetland, marsh, swamp, bog, mire, "
    "peatland, peat bog, flooded vegetation",
    "#12a37a": "mangrove",
    "#bfe3f2": "snow, ice, snow and ice, snow ice, ice snow, permanent snow and ice, perennial ice snow, glacier",
    "#cfc48f": "moss and lichen, lichen, moss, tundra",
    "#d8d8dc": "cloud",
    "#3d3d4a": "shadow, cloud shadow",
}
"""Colours of usual names of land cover, in the singular; among them those of EuroSAT, ESA WorldCover, Dynamic World,
NLCD and LUCAS. Pale, as nothing is white: that is ground without data."""

SEQUENCE = (
    "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7",
    "#332288", "#88ccee", "#44aa99", "#117733", "#999933", "#ddcc77", "#cc6677", "#882255", "#aa4499",
)  # fmt: skip
"""For other names, in turn: Okabe and Ito's colours (https://jfly.uni-koeln.de/color/), then Tol's muted ones
(https://sronpersonalpages.nl/~pault/), made to be distinguishable with every kind of colour vision."""

APART = 0.12
"""Distance in Oklab, 0 to 1, below which two colours are taken for one as long as there are others."""


def _quoted(value: object) -> object:
    """YAML takes an unquoted ``#2f7fd1`` for a comment and leaves nothing."""
    if value is None:
        raise ValueError('write the colour in quotes, such as "#2f7fd1": YAML reads a bare # as a comment')
    return value


Hex = Annotated[str, BeforeValidator(_quoted), Field(pattern="^#[0-9a-fA-F]{6}$")]


class ColourSettings(Settings):
    """Section ``colours`` of params.yaml: class name to "#rrggbb"; each key is a class."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Hex] = Field(init=False)

    @model_validator(mode="before")
    @classmethod
    def _empty(cls, values: Any) -> Any:
        """A section whose lines are all commented out is an empty one."""
        return {} if values is None else values

    def rgb(self, names: list[str]) -> list[Rgb]:
        """Red, green and blue (0 to 255) of the classes, in the order of ``names``.

        A class that the section does not list has the colour that is usual for its name (see USUAL), if no
        class before it has that one, and else the next of SEQUENCE that none resembles. These depend on
        the names alone. A colour of a class that is not in ``names`` is allowed, so that leaving
        a class out of ``labels.classes`` needs one edit only.
        """
        colours = self.__pydantic_extra__
        chosen = {name: _rgb(colours[name]) for name in names if name in colours}
        for name in names:
            usual = _usual(name)
            if name not in chosen and usual and usual not in chosen.values():
                chosen[name] = usual
        for name in names:
            if name not in chosen:
                chosen[name] = _unlike(list(chosen.values()))
        return [chosen[name] for name in names]


def _rgb(text: str) -> Rgb:
    red, green, blue = bytes.fromhex(text[1:])
    return red, green, blue


_BY_NAME = {name: _rgb(colour) for colour, names in USUAL.items() for name in names.split(", ")}


def _usual(name: str) -> Rgb | None:
    """The usual colour of a name as it may be written: ``SeaLake``, ``built-up``, ``Bare / sparse vegetation``."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = re.sub(r"[\W_]+", " ", apart.replace("&", " and ")).casefold().strip()
    singulars = (words, words.removesuffix("s"), words.removesuffix("es"), re.sub("ies$", "y", words))
    return next((_BY_NAME[word] for word in singulars if word in _BY_NAME), None)


def _unlike(used: list[Rgb]) -> Rgb:
    """The first colour that resembles none of those in use; the more there are, the more alike they may be."""
    candidates = [*map(_rgb, SEQUENCE), *itertools.islice(_hues(), 300)]
    positions = oklab(np.array(candidates))
    if not used:
        return candidates[0]
    nearest = np.linalg.norm(positions[:, None] - oklab(np.array(used)), axis=2).min(axis=1)
    least = APART
    while not (nearest >= least).any():
        least /= 2
    return candidates[int(np.argmax(nearest >= least))]


def _hues() -> Iterator[Rgb]:
    """Hues a golden section apart, so that any first few are spread, in three lightnesses; without end."""
    for i in itertools.count():
        parts = colorsys.hls_to_rgb((i * 0.618034) % 1, (0.45, 0.7, 0.3)[i % 3], 0.6)
        red, green, blue = (round(255 * part) for part in parts)
        yield red, green, blue


def oklab(colours: np.ndarray) -> np.ndarray:
    """Colours (n, 3) in 0..255 in a space where distances are those that the eye sees: (n, 3), lightness in 0..1.

    Ottosson 2020, https://bottosson.github.io/posts/oklab/.
    """
    part = colours / 255
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    to_cones = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    to_lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return np.cbrt(linear @ np.array(to_cones).T) @ np.array(to_lab).T
