"""Section ``export`` of params.yaml."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from landfold.core.settings import Settings


class PolygonSettings(Settings):
    """Setting ``export.polygons`` of params.yaml."""

    formats: list[Literal["gpkg", "geojson", "flatgeobuf"]]
    """files of polygons: gpkg and flatgeobuf in the scene's CRS, geojson in WGS 84; []: none"""
    min_area_m2: float = Field(ge=0, le=1e15)
    """smallest mapping unit, square metres: a smaller region is merged into its largest neighbour; 0: none is"""
    simplify_m: float = Field(ge=0, le=1e6)
    """edges have fewer corners: those that span less than the square of so many metres go; neighbours still fit, and
    areas add up; 0: edges follow the map's cells"""

    @field_validator("formats")
    @classmethod
    def _each_once(cls, formats: list[str]) -> list[str]:
        if len(set(formats)) < len(formats):
            raise ValueError("expected each format once")
        return formats


class ExportSettings(Settings):
    """Section ``export`` of params.yaml."""

    stride_px: int | None = Field(ge=1, le=100_000)
    """side of a map cell in pixels of the scene; even if patches.size_px is even, odd if it is odd"""
    offsets: int = Field(ge=1, le=100)
    """n: n x n windows in each cell, spread about its centre, whose probabilities are averaged; 1: one, centred"""
    flips_and_rotations: bool
    """test-time augmentation: whether to average over the eight flips and rotations (D4) of each window"""
    min_valid: float = Field(ge=0, le=1)
    """a cell with a smaller share of valid pixels is nodata"""
    sieve_px: int = Field(ge=0, le=1_000_000)
    """groups of fewer map cells of one class, side by side, take the class of their largest neighbour; 0: none do"""
    calibrated: bool
    """whether probabilities are scaled by what stage evaluate has fitted on held-out predictions"""
    layers: list[Literal["margin", "entropy", "set_size", "probabilities"]]
    """layers beside class and confidence: bands margin, entropy and set_size (number of classes in the prediction set,
    which needs ``calibrated``), a raster of all classes' probabilities"""
    applicability: bool
    """whether to map the dissimilarity of the ground to the training patches, and where it is too large"""
    polygons: PolygonSettings
    """class polygons"""
    mosaic: Literal["none", "first", "confidence"]
    """one map of all scenes, if there are several: from which scene a cell is taken where they overlap"""

    @field_validator("layers")
    @classmethod
    def _each_once(cls, layers: list[str]) -> list[str]:
        if len(set(layers)) < len(layers):
            raise ValueError("expected each layer once")
        return layers

    @model_validator(mode="after")
    def _sets_are_of_calibrated_probabilities(self) -> Self:
        if "set_size" in self.layers and not self.calibrated:
            raise ValueError("layers: set_size needs calibrated: true")
        return self
