"""Section ``project`` of params.yaml."""

from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from landfold.core.settings import Settings

if TYPE_CHECKING:
    from rasterio.crs import CRS


class ProjectSettings(Settings):
    """Section ``project`` of params.yaml."""

    name: str = Field(min_length=1)
    """name of the MLflow experiment"""
    crs: str
    """metric CRS of footprints, zones and distances, the UTM zone of the area, say"""

    @field_validator("crs")
    @classmethod
    def _metric(cls, text: str) -> str:
        from pyproj import CRS  # rasterio takes seconds to import, and every stage checks this
        from pyproj.exceptions import CRSError

        try:
            crs = CRS.from_user_input(text)
        except CRSError as error:
            raise ValueError(f"not a CRS that PROJ knows ({error})") from None
        if not crs.is_projected or {axis.unit_conversion_factor for axis in crs.axis_info[:2]} != {1.0}:
            raise ValueError("zones and buffers are in metres: choose a projected CRS in metres")
        return text

    @property
    def metric_crs(self) -> "CRS":
        """The project's CRS."""
        from rasterio.crs import CRS

        return CRS.from_user_input(self.crs)
