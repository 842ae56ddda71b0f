"""Sections ``dataset``, ``ingest``, ``indices`` and ``normalize`` of params.yaml."""

from typing import Literal, Self

import spyndex
from pydantic import Field, field_validator, model_validator

from landfold.core.errors import did_you_mean
from landfold.core.settings import Box, Settings
from landfold.geo.bands import STANDARD_NAMES


class L1cThresholds(Settings):
    """Reflectance above which Sentinel-2 level 1C is taken for cloud (see `landfold.scenes.ingest.screen`)."""

    coastal: float = Field(gt=0)
    """of band A, where the pixel is no snow: opaque cloud"""
    cirrus: float = Field(gt=0)
    """of band CIRRUS: cirrus"""


class MaskSettings(Settings):
    """What makes a pixel invalid, for each kind of mask file that a product may carry; [] switches one off."""

    scl: list[int]
    """classes of Sentinel-2's scene classification, 0 to 11"""
    qa_pixel: list[Literal["fill", "dilated_cloud", "cirrus", "cloud", "cloud_shadow", "snow", "clear", "water"]]
    """names of the bits of Landsat Collection 2's QA_PIXEL"""
    fmask: list[int]
    """values of Fmask"""
    file: list[int]
    """values of the mask files that ingest.mask_file names, 0 to 255"""
    l1c: L1cThresholds | None
    """reflectance above which pixels of Sentinel-2 level 1C, which has no mask, are cloud; null: not looked for"""

    @field_validator("scl", "fmask", "file")
    @classmethod
    def _bytes(cls, classes: list[int]) -> list[int]:
        for number in classes:
            if not 0 <= number <= 255:
                raise ValueError(f"{number} is no class: they are 0 to 255")
        return classes


class IngestSettings(Settings):
    """Section ``ingest`` of params.yaml."""

    bands: list[str] = Field(min_length=1)
    """standard names of the bands to use, in the order of the channels"""
    band_order: list[str | None] | None
    """names of the bands of multi-band files whose descriptions name none, in the order of the file, '-' for one to
    leave out; null if none is needed"""
    crs_policy: Literal["error", "reproject", "keep"]
    """a scene that is not in project.crs and north-up is refused (error), is warped onto one lattice in project.crs
    (reproject: that of the scenes which are in it with pixels of resolution_m, if they agree), or stays on its own
    grid, which must be north-up and in metres (keep)"""
    area: Box | None
    """x_min, y_min, x_max, y_max in metres of project.crs: only the pixels that meet this ground are read and
    written; a scene in another CRS (keep) is cut to the rectangle around it; null: whole scenes"""
    resolution_m: float = Field(gt=0, le=100_000)
    """pixel size of the common grid in metres; with crs_policy keep, a scene whose own pixels are within 1 % of
    it keeps them, unchanged"""
    resampling: Literal["nearest", "bilinear", "cubic"]
    """how bands of another grid are put on the common one"""
    scale: float = Field(gt=0, le=1e6)
    """reflectance = DN * scale + offset, for integer files where product and tags give neither"""
    offset: float
    """reflectance = DN * scale + offset, for integer files where product and tags give neither"""
    nodata: int | None
    """number that means no data in files that declare none; null: all numbers are data, even what looks like fill"""
    masks: MaskSettings
    """which classes of a mask make a pixel invalid: scl, qa_pixel, fmask, file; [] switches one off"""
    mask_file: str | None
    """name of a mask file beside each scene, such as '{scene}_clouds.tif', with {scene} for the scene's name; its
    classes are those of masks.file. A scene without one is refused; null: no such files"""
    min_valid: float = Field(ge=0, le=1)
    """a scene with a smaller fraction of valid pixels is refused"""
    on_refusal: Literal["error", "skip"]
    """a scene that is refused ends the run (error), or is left out and listed in the report (skip)"""

    @field_validator("bands")
    @classmethod
    def _known(cls, bands: list[str]) -> list[str]:
        for band in bands:
            if band not in STANDARD_NAMES:
                raise ValueError(f"'{band}' is no standard band name; known are {', '.join(STANDARD_NAMES)}")
        if len(set(bands)) < len(bands):
            raise ValueError("a band is named twice")
        return bands

    @field_validator("area")
    @classmethod
    def _encloses(cls, area: Box | None) -> Box | None:
        if area is not None and not (area[0] < area[2] and area[1] < area[3]):
            raise ValueError("expected [x_min, y_min, x_max, y_max] in metres, each minimum below its maximum")
        return area

    @model_validator(mode="after")
    def _mask_file_is_used(self) -> Self:
        if self.mask_file is not None and not self.masks.file:
            raise ValueError("mask_file is set, but masks.file is []: list the values that make a pixel invalid")
        return self


class IndexSettings(Settings):
    """Section ``indices`` of params.yaml."""

    names: list[str]
    """indices to add as channels, by their names in the Awesome Spectral Indices list; [] for none"""

    @field_validator("names")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        for name in names:
            if name not in spyndex.indices:
                hint = did_you_mean(name, spyndex.indices)
                raise ValueError(f"'{name}' is not in the Awesome Spectral Indices list{hint}")
        if len(set(names)) < len(names):
            raise ValueError("an index is named twice")
        return names


class NormalizeSettings(Settings):
    """Section ``normalize`` of params.yaml."""

    low_percentile: float = Field(ge=0, lt=100)
    """percentile of a channel's valid pixels that becomes 0"""
    high_percentile: float = Field(gt=0, le=100)
    """percentile of a channel's valid pixels that becomes 1"""
    min_valid_px: int = Field(ge=1, le=10**12)
    """a channel with fewer valid pixels in a scene is refused"""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low_percentile >= self.high_percentile:
            raise ValueError("low_percentile must be below high_percentile")
        return self
