"""The vocabulary of bands: standard names, the sensors' own names, and DN to reflectance.

Standard names are the codes of the Awesome Spectral Indices list (Montero et al. 2023,
doi:10.1038/s41597-023-02096-0), so that an index finds its bands by name.
"""

from dataclasses import dataclass

import numpy as np

STANDARD_NAMES = {
    "A": "coastal aerosol",
    "B": "blue",
    "G1": "green 1",
    "G": "green",
    "Y": "yellow",
    "R": "red",
    "RE1": "red edge 1",
    "RE2": "red edge 2",
    "RE3": "red edge 3",
    "N": "near infrared",
    "N2": "near infrared, narrow",
    "WV": "water vapour",
    "CIRRUS": "cirrus",  # not in the list, which has no index that uses it
    "S1": "short-wave infrared 1",
    "S2": "short-wave infrared 2",
    "T": "thermal infrared",
    "T1": "thermal infrared 1",
    "T2": "thermal infrared 2",
}

# Sentinel-2 User Handbook, section 1.5 (spectral bands of the MultiSpectral Instrument).
SENTINEL2 = {
    "B01": "A",
    "B02": "B",
    "B03": "G",
    "B04": "R",
    "B05": "RE1",
    "B06": "RE2",
    "B07": "RE3",
    "B08": "N",
    "B8A": "N2",
    "B09": "WV",
    "B10": "CIRRUS",
    "B11": "S1",
    "B12": "S2",
}


@dataclass(frozen=True)
class Radiometry:
    """How stored numbers become reflectance: ``reflectance = number * scale + offset``."""

    scale: float
    offset: float

    def reflectance(self, numbers: np.ndarray) -> np.ndarray:
        """Reflectance as float32, of any shape; NaN stays NaN."""
        # The offset first, in numbers: what means reflectance 0 then becomes exactly 0, and 0/0 is seen.
        shifted = numbers + np.float32(self.offset / self.scale)
        return (shifted * np.float32(self.scale)).astype(np.float32, copy=False)
