"""What speaks for and against Sentinel-2, where names such as B02 alone say which band a file is.

B02 is blue of Sentinel-2, but many call bands of Landsat so, whose second one is green (TM) or blue (OLI), and whose
tenth is thermal.
"""

import re
from collections.abc import Iterable
from math import isclose
from typing import Any

SIZES_M = (10.0, 20.0, 60.0)
"""Pixels of Sentinel-2 (User Handbook, section 1.5)."""

SIZE_TOLERANCE = 0.05
"""Pixels in degrees, and tiles that were cut in another CRS, are not quite of these sizes."""

DEGREE_M = 111_320.0
"""Metres of a degree of latitude, exact enough for the size of a pixel."""

_SENTINEL2 = re.compile(r"(?<![A-Z0-9])(S2[A-D]?|T\d\d[A-Z]{3}|MSIL[12][AC]|SENTINEL[-_]?2[A-D]?)(?![A-Z0-9])", re.I)
_LANDSAT = re.compile(r"(?<![A-Z0-9])(L[COTEM]0[4-9]|L[COTEM]\d{14}[A-Z]{3}\d\d|LANDSAT[-_]?\d?|L30)(?![A-Z0-9])", re.I)


def pixel_size_m(dataset: Any) -> float | None:
    """The height of an open dataset's pixels in metres, about; None where its CRS does not tell."""
    crs, height = dataset.crs, dataset.res[1]
    if crs is None:
        return None
    if crs.is_geographic:
        return height * DEGREE_M
    return height * crs.linear_units_factor[1] if crs.is_projected else None


def contradiction(scene: str, bands: Iterable[str], sizes_m: Iterable[float | None]) -> str | None:
    """Why bands called as Sentinel-2's are not taken for them; None if they are.

    A name of Landsat in that of the scene contradicts, and pixels of another size do where no name of Sentinel-2 (S2A,
    T33UUU, MSIL2A) speaks for it. B8A is a name of Sentinel-2 alone.
    """
    landsat, sentinel2 = _LANDSAT.search(scene), _SENTINEL2.search(scene)
    known = [size for size in sizes_m if size is not None]
    others = sorted({size for size in known if not any(isclose(size, m, rel_tol=SIZE_TOLERANCE) for m in SIZES_M)})
    if landsat:
        against = f"'{landsat[0]}' in the name is Landsat's"
    elif others and not sentinel2 and "B8A" not in bands:
        sizes = ", ".join(f"{size:.3g}" for size in others)
        against = f"pixels of {sizes} m are none of Sentinel-2's (10, 20, 60 m), and no S2A or T33UUU is in the name"
    else:
        return None
    return (
        f"scene {scene}: bands are called {', '.join(bands)}, as Sentinel-2's are, but {against}; B02 of other sensors "
        "may be another band: call them by standard names (B, G, R, N, ...), or put S2A into the name"
    )
