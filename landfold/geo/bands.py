"""Names of bands: the standard ones and the sensors' own; and how stored numbers become reflectance.

Standard names are the codes of the Awesome Spectral Indices list (Montero et al. 2023,
doi:10.1038/s41597-023-02096-0), so that an index finds its bands by name.
"""

import re
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

THERMAL = ("T", "T1", "T2")
"""Bands that hold no reflectance."""

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

# Landsat 8-9 Collection 2 Data Format Control Book (LSDS-1822), and Landsat 8 Data Users Handbook (LSDS-1574),
# table 2-1. Band 8 is panchromatic: a pixel of another size and of no standard name.
LANDSAT_OLI = {
    "B1": "A",
    "B2": "B",
    "B3": "G",
    "B4": "R",
    "B5": "N",
    "B6": "S1",
    "B7": "S2",
    "B9": "CIRRUS",
    "B10": "T1",
    "B11": "T2",
}

# Landsat 7 Data Users Handbook (LSDS-1927), table 2-1; Landsat 4-7 Collection 2 DFCB (LSDS-1414).
LANDSAT_TM = {"B1": "B", "B2": "G", "B3": "R", "B4": "N", "B5": "S1", "B6": "T", "B7": "S2"}

# Words that name one band, without spaces. "red edge", "swir" and "Band 4" may be several bands and are not here.
WORDS = {
    "coastal": "A",
    "coastalaerosol": "A",
    "aerosol": "A",
    "blue": "B",
    "green": "G",
    "yellow": "Y",
    "red": "R",
    "rededge1": "RE1",
    "rededge2": "RE2",
    "rededge3": "RE3",
    "nir": "N",
    "nearinfrared": "N",
    "narrownir": "N2",
    "nirnarrow": "N2",
    "watervapour": "WV",
    "watervapor": "WV",
    "cirrus": "CIRRUS",
    "swir1": "S1",
    "swir2": "S2",
}

# Common names of STAC's eo extension (github.com/stac-extensions/eo, version 1.1) that name one band. nir08 is N2 of
# Sentinel-2 and N of Landsat, nir09 its WV; "rededge" alone may be three.
COMMON_NAMES = {
    "coastal": "A",
    "blue": "B",
    "green": "G",
    "yellow": "Y",
    "red": "R",
    "rededge071": "RE1",
    "rededge075": "RE2",
    "rededge078": "RE3",
    "nir": "N",
    "cirrus": "CIRRUS",
    "swir16": "S1",
    "swir22": "S2",
}


def standard_name(text: str) -> str | None:
    """The standard name of a band that is called ``text``; None where the text may mean several bands, or none.

    It may be a standard name (R, N, S1), or in any case a Sentinel-2 name of three signs (B02, b8a) or one of WORDS,
    with spaces, ``_`` or ``-`` in it. "B2" has no standard name: it is blue of Sentinel-2, green of Landsat 7.
    """
    text = text.strip()
    if text in STANDARD_NAMES:
        return text
    return SENTINEL2.get(text.upper()) or WORDS.get(re.sub(r"[\s_-]+", "", text.lower()))


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
