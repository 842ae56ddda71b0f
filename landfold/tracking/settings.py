"""Section ``track`` of params.yaml."""

from pydantic import Field

from landfold.core.settings import Settings


class TrackSettings(Settings):
    """Section ``track`` of params.yaml."""

    enabled: bool
    """record results in MLflow; false: neither train nor track uses it"""
    maps_mb: float = Field(ge=0, le=1_000_000)
    """map files are kept with the result, smallest first, as long as they make no more MB than this; 0: none"""
    system_metrics: bool
    """note CPU, memory, disk, network, and GPU if pynvml is installed, every 10 s while a fold trains"""
