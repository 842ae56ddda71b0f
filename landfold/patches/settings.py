"""Sections ``labels`` and ``patches`` of params.yaml."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import BeforeValidator, Field, model_validator

from landfold.core.errors import LandfoldError
from landfold.core.settings import Settings

UNLABELLED = 0
"""Number of what has no class or an excluded one; class i of the settings is i + 1."""


class LabelError(LandfoldError):
    """Labels that cannot be read or do not fit the settings or the scenes."""


def value_text(value: Any) -> str:
    """A value as text, so that 3, 3.0 and "3" are one value in settings, attributes and rasters."""
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        value = int(value)
    return str(value)


def _setting_text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError("expected text or a number; put yes, no, on, off, true, false and null in quotes")
    return value_text(value)


Value = Annotated[str, BeforeValidator(_setting_text)]


class LabelSettings(Settings):
    """Section ``labels`` of params.yaml. A field that the kind has no use for is null, so that none is ignored."""

    USES: ClassVar[dict[str, dict[str, bool]]] = {
        "polygons": {"attribute": True, "layer": False, "invalid": True, "zone_attribute": False},
        "points": {"attribute": True, "layer": False},
        "raster": {"resampling": True},
        "table": {},
        "folder": {},
    }
    """kind: the fields that it uses, and whether it needs them"""

    kind: Literal["polygons", "points", "raster", "table", "folder"]
    """what the labels are"""
    unit: Literal["patch", "pixel"]
    """what has a label: each patch, the class of its core; or each pixel of a scene, which polygons, points and
    rasters can tell"""
    attribute: str | None
    """polygons, points: attribute that holds their class"""
    layer: str | None
    """polygons, points: layer of the file, where it has several"""
    invalid: Literal["repair", "refuse"] | None
    """polygons: what to do with invalid geometries, such as rings that cross themselves"""
    resampling: Literal["nearest", "mode"] | None
    """raster: the class of a scene's pixel is that at its centre (nearest) or of most of its ground (mode)"""
    zone_attribute: str | None
    """polygons: attribute whose value in a patch's core is its zone, for zones.kind: label"""
    classes: dict[str, list[Value]] = Field(min_length=2, max_length=255)
    """class name: the values (of the attribute, of pixels, names in a table or of folders) that belong to it;
    the order numbers the classes"""
    exclude: list[Value]
    """values to leave out, as if they were not labelled"""

    @model_validator(mode="after")
    def _each_value_once(self) -> "LabelSettings":
        values = [value for merged in self.classes.values() for value in merged] + self.exclude
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise ValueError(f"listed more than once: {', '.join(twice)}")
        return self

    @model_validator(mode="after")
    def _fields_of_the_kind(self) -> "LabelSettings":
        uses = self.USES[self.kind]
        for field in ("attribute", "layer", "invalid", "resampling", "zone_attribute"):
            value = getattr(self, field)
            if uses.get(field) and value is None:
                raise ValueError(f"kind: {self.kind} needs {field}; it is null")
            if field not in uses and value is not None:
                raise ValueError(f"kind: {self.kind} has no use for {field}; set it to null")
        return self

    @model_validator(mode="after")
    def _pixels_differ(self) -> "LabelSettings":
        if self.unit == "pixel" and self.kind in ("table", "folder"):
            raise ValueError(
                f"kind: {self.kind} has one class for a whole scene and none for each pixel; set unit to patch, or "
                "bring polygons, points or a raster"
            )
        return self

    @property
    def names(self) -> list[str]:
        """Class names in the order of their numbers."""
        return list(self.classes)

    def numbers(self, values: Iterable[Any], where: Path | str) -> dict[Any, int]:
        """The class number of each value, UNLABELLED for an excluded one.

        Raises:
            LabelError: values that no list names, all of them.
        """
        number_of = {value: number for number, merged in enumerate(self.classes.values(), 1) for value in merged}
        number_of |= dict.fromkeys(self.exclude, UNLABELLED)
        texts = {value: value_text(value) for value in values}
        unknown = sorted({text for text in texts.values() if text not in number_of})
        if unknown:
            raise LabelError(
                f"{where}: class {', '.join(unknown)} is in neither labels.classes nor labels.exclude; "
                "add it to one of them"
            )
        return {value: number_of[text] for value, text in texts.items()}


class PatchSettings(Settings):
    """Section ``patches`` of params.yaml."""

    size_px: int = Field(ge=1, le=4096)
    """side of a patch in pixels: what the network sees"""
    core_px: int = Field(ge=1, le=4096)
    """side of the central core in pixels: the area that the label describes"""
    stride_px: int = Field(ge=1, le=100_000)
    """distance between neighbouring patches in pixels"""
    min_purity: float = Field(gt=0, le=1)
    """least share of the core's pixels, or of the points in it, that its majority class must have"""
    max_invalid: float = Field(ge=0, lt=1)
    """a patch with a larger share of nodata or cloud is dropped"""

    @model_validator(mode="after")
    def _core_is_central(self) -> Self:
        if self.core_px > self.size_px or (self.size_px - self.core_px) % 2:
            raise ValueError("core_px must be at most size_px and differ from it by an even number, to be central")
        return self

    @property
    def margin_px(self) -> int:
        """Pixels between the edge of a patch and its core."""
        return (self.size_px - self.core_px) // 2
