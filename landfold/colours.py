"""Colours of the classes: one setting for the maps, the plots and the report."""

from typing import Annotated

from pydantic import BeforeValidator, ConfigDict, Field

from landfold.errors import LandfoldError
from landfold.settings import Settings


class ColourError(LandfoldError):
    """A class without a colour."""


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

    def rgb(self, names: list[str]) -> list[tuple[int, int, int]]:
        """Red, green and blue (0 to 255) of the classes, in the order of ``names``.

        A colour of a class that is not in ``names`` is allowed, so that leaving a class out of
        ``labels.classes`` needs one edit only.

        Raises:
            ColourError: naming every class that has no colour.
        """
        colours = self.__pydantic_extra__
        absent = [name for name in names if name not in colours]
        if absent:
            raise ColourError(
                f"params.yaml: colours: no colour for class {', '.join(absent)}; "
                f"add a line such as '{absent[0]}: \"#2f7fd1\"' (there are colours for {', '.join(colours) or 'none'})"
            )
        return [_rgb(colours[name]) for name in names]


def _rgb(text: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(text[1:])
    return red, green, blue
