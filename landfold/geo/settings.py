"""Section ``project`` of params.yaml."""

from pydantic import Field, field_validator
from rasterio.crs import CRS
from rasterio.errors import CRSError

from landfold.core.settings import Settings
from landfold.geo.crs import is_metric


class ProjectSettings(Settings):
    """Section ``project`` of params.yaml."""

    name: str = Field(min_length=1)
    """name of the MLflow experiment"""
    crs: str
    """metric CRS of footprints, zones and distances, the UTM zone of the area, say"""

    @field_validator("crs")
    @classmethod
    def _metric(cls, text: str) -> str:
        try:
            crs = CRS.from_user_input(text)
        except CRSError as error:
            raise ValueError(f"not a CRS that PROJ knows ({error})") from None
        if not is_metric(crs):
            raise ValueError("zones and buffers are in metres: choose a projected CRS in metres")
        return text

    @property
    def metric_crs(self) -> CRS:
        """The project's CRS."""
        return CRS.from_user_input(self.crs)
