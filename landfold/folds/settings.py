"""Section ``zones`` of params.yaml."""

from pathlib import PurePosixPath
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from landfold.core.settings import Box, Point, Settings, used_or_null


def _below_raw(path: str) -> str:
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise ValueError("expected a path below data/raw, such as zones/districts.gpkg")
    return path


RawPath = Annotated[str, AfterValidator(_below_raw)]


class ZoneSettings(Settings):
    """Section ``zones`` of params.yaml. A field that the kind has no use for is null, so that none is ignored."""

    USES: ClassVar[dict[str, set[str]]] = {
        "grid": {"block_size_m", "origin_m"},
        "hexagon": {"block_size_m", "origin_m"},
        "scene": set(),
        "label": set(),
        "kmeans": {"clusters"},
        "polygons": {"file", "attribute"},
    }
    """kind: the fields that it needs"""

    k: int = Field(ge=2, le=1000)
    """number of folds"""
    folds: list[int]
    """0, 1, ..., k * repeats - 1: DVC makes one training stage of each entry; fold i belongs to repeat i // k"""
    repeats: int = Field(ge=1, le=1000)
    """times that all patches are folded: with blocks elsewhere, other clusters, or zones assigned anew"""
    kind: Literal["grid", "hexagon", "scene", "label", "kmeans", "polygons"]
    """grid: square blocks; hexagon: hexagons; scene: each scene is a zone; label: labels.zone_attribute names it;
    kmeans: clusters of the patches; polygons: a file of them"""
    block_size_m: float | None = Field(gt=0, le=10_000_000)
    """grid: side of a block in metres; hexagon: its width from flat to flat; larger than the range over which
    the ground resembles itself"""
    origin_m: Point | None
    """grid: x and y in project.crs of a corner where four blocks meet; hexagon: centre of one;
    zones never move when data is added"""
    clusters: int | None = Field(ge=2, le=1_000_000)
    """kmeans: number of clusters; more data moves them all"""
    file: RawPath | None
    """polygons: vector file below data/raw, in any CRS"""
    attribute: str | None
    """polygons: attribute of the file that names the zone"""
    overlaps: Literal["buffer", "merge"]
    """patches that share ground: the buffer drops those next to another fold (buffer), or zones with such
    patches become one (merge)"""
    assignment: Literal["stratified", "group", "balanced", "knndm"]
    """how zones go to folds: balancing the classes (stratified) or the number of patches (group), the best balanced of
    many random assignments, or with held-out patches as far from training as the map is from the patches (knndm)"""
    tries: int | None = Field(ge=1, le=1_000_000)
    """balanced: number of random assignments"""
    test_region: Box | RawPath | None
    """ground whose patches no fold trains on or validates: [x_min, y_min, x_max, y_max] in project.crs, or a
    vector file of polygons below data/raw"""
    buffer_m: float = Field(ge=0, le=10_000_000)
    """training patches at most this far from a validation or test patch are dropped, edge to edge in metres;
    at 0 those that share ground with one"""
    seed: int = Field(ge=0, le=2**31 - 1)
    """seed of the assignment, the clusters and the random folds that the spatial ones are compared with"""

    @model_validator(mode="after")
    def _folds_are_range(self) -> "ZoneSettings":
        if self.folds != list(range(self.k * self.repeats)):
            repeated = f" and repeats: {self.repeats}" if self.repeats > 1 else ""
            raise ValueError(
                f"folds must be {list(range(self.k * self.repeats))} for k: {self.k}{repeated}, found {self.folds}"
            )
        return self

    @model_validator(mode="after")
    def _fields_of_the_kind(self) -> "ZoneSettings":
        for field in ("block_size_m", "origin_m", "clusters", "file", "attribute"):
            used_or_null(f"kind: {self.kind}", field, getattr(self, field), field in self.USES[self.kind])
        used_or_null(f"assignment: {self.assignment}", "tries", self.tries, self.assignment == "balanced")
        return self

    @model_validator(mode="after")
    def _repeats_differ(self) -> "ZoneSettings":
        if self.assignment == "knndm" and self.repeats > 1 and self.kind in ("scene", "label", "polygons"):
            raise ValueError(f"assignment: knndm and kind: {self.kind} are alike in all repeats; set repeats to 1")
        return self

    @model_validator(mode="after")
    def _region_is_a_box(self) -> "ZoneSettings":
        if isinstance(self.test_region, tuple):
            x_min, y_min, x_max, y_max = self.test_region
            if not (x_min < x_max and y_min < y_max):
                raise ValueError(f"test_region must be [x_min, y_min, x_max, y_max], found {list(self.test_region)}")
        return self
