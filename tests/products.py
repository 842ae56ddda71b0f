"""Small Sentinel-2 and Landsat products, shaped as ESA and USGS deliver them, shared by all tests.

The metadata are cut from real ones (S2A_MSIL2A_20221005T115411_N0400_R023_T29UNU, LC08_L2SP_001062_20201031); the
pixels are those of `tests.factories`: each carries its own coordinates, and the upper left corner is 0.
"""

import json
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from landfold.geo.bands import SENTINEL2
from landfold.scenes.sensors.scene_files import SceneFiles
from tests.factories import centres, make_grid, write_band

SAFE_NAME = "S2A_MSIL2A_20221005T115411_N0400_R023_T29UNU_20221005T164454"
LANDSAT_NAME = "LC08_L2SP_001062_20201031_20201106_02_T2"
GROUND_M = (720.0, 960.0)
"""Height and width that 10, 20, 30 and 60 m pixels divide."""

L2A_FILES = {"B02": (10, 20), "B03": (10,), "B04": (10,), "B08": (10,), "B8A": (20, 60), "B01": (60,), "SCL": (60, 20)}
L1C_FILES = {band: (10 if band in ("B02", "B03", "B04", "B08") else 20,) for band in SENTINEL2}


def safe_xml(
    *,
    level: str = "L2A",
    baseline: str = "04.00",
    quantification: float = 10000,
    offsets: Mapping[int, float] | None = None,
    tag: str | None = None,
) -> str:
    """Product metadata of Sentinel-2; without ``offsets`` as before baseline 04.00."""
    add = "BOA_ADD_OFFSET" if level == "L2A" else "RADIO_ADD_OFFSET"
    group = "BOA_ADD_OFFSET_VALUES_LIST" if level == "L2A" else "Radiometric_Offset_List"
    tag = tag or ("BOA_QUANTIFICATION_VALUE" if level == "L2A" else "QUANTIFICATION_VALUE")
    lines = "".join(f'<{add} band_id="{i}">{value}</{add}>' for i, value in (offsets or {}).items())
    spectral = "".join(
        f'<Spectral_Information bandId="{i}" physicalBand="{band.replace("B0", "B")}"/>'
        for i, band in enumerate(SENTINEL2)
    )
    return f"""<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-{level[1:]}_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-{level[1:]}.xsd">
  <n1:General_Info>
    <Product_Info>
      <PRODUCT_START_TIME>2022-10-05T11:54:11.024Z</PRODUCT_START_TIME>
      <PROCESSING_LEVEL>Level-{level[1:]}</PROCESSING_LEVEL>
      <PROCESSING_BASELINE>{baseline}</PROCESSING_BASELINE>
      <Datatake datatakeIdentifier="GS2A_20221005T115411_038058_N04.00">
        <DATATAKE_SENSING_START>2022-10-05T11:54:11.024Z</DATATAKE_SENSING_START>
      </Datatake>
    </Product_Info>
    <Product_Image_Characteristics>
      <Special_Values>
        <SPECIAL_VALUE_TEXT>NODATA</SPECIAL_VALUE_TEXT><SPECIAL_VALUE_INDEX>0</SPECIAL_VALUE_INDEX>
      </Special_Values>
      <Special_Values>
        <SPECIAL_VALUE_TEXT>SATURATED</SPECIAL_VALUE_TEXT><SPECIAL_VALUE_INDEX>65535</SPECIAL_VALUE_INDEX>
      </Special_Values>
      <QUANTIFICATION_VALUES_LIST><{tag} unit="none">{quantification}</{tag}></QUANTIFICATION_VALUES_LIST>
      {f"<{group}>{lines}</{group}>" if lines else ""}
      <Spectral_Information_List>{spectral}</Spectral_Information_List>
    </Product_Image_Characteristics>
  </n1:General_Info>
</n1:Level-{level[1:]}_User_Product>
"""


def pixels(path: Path, resolution_m: float, base: float) -> Path:
    """One band of uint16 numbers that tell their place, with a 60 m corner of 0."""
    grid = make_grid(round(GROUND_M[0] / resolution_m), round(GROUND_M[1] / resolution_m), resolution_m)
    east, south = centres(grid)
    numbers = np.where((east < 60) & (south < 60), 0, base + east / 10 + south / 5)
    return write_band(path, grid, np.round(numbers).astype("uint16"))


def write_safe(
    folder: Path,
    name: str = SAFE_NAME,
    *,
    level: str = "L2A",
    files: Mapping[str, Iterable[int]] | None = None,
    xml: str | None = None,
    granule: str = "L2A_T29UNU_A038058_20221005T115407",
) -> Path:
    """A .SAFE folder of JP2 files, level 2A with its offset of -1000 unless told; returns the folder."""
    root = folder / f"{name}.SAFE"
    images = root / "GRANULE" / granule / "IMG_DATA"
    files = files if files is not None else (L2A_FILES if level == "L2A" else L1C_FILES)
    for i, (band, resolutions) in enumerate(files.items()):
        for metres in resolutions:
            place = images / f"R{metres}m" if level == "L2A" else images
            suffix = f"_{metres}m" if level == "L2A" else ""
            pixels(place / f"T29UNU_20221005T115411_{band}{suffix}.jp2", metres, 5 if band == "SCL" else 1100 + 10 * i)
    xml = xml if xml is not None else safe_xml(level=level, offsets=dict.fromkeys(range(13), -1000))
    (root / f"MTD_MSI{level}.xml").write_text(xml, encoding="utf-8")
    (root / "manifest.safe").write_text("<x/>", encoding="utf-8")
    quality = root / "GRANULE" / granule / "QI_DATA"
    quality.mkdir()
    (quality / "MSK_DETFOO_B02.jp2").touch()  # called as a band file is, and none
    return root


def zipped(root: Path, target: Path, *, inside: str | None = None) -> Path:
    """A product folder as a zip archive, in a folder ``inside`` it ("" for none)."""
    inside = root.name if inside is None else inside
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(p for p in root.rglob("*") if p.is_file()):
            archive.write(path, str(Path(inside) / path.relative_to(root)))
    return target


def mtl(**changes: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """The groups of a Landsat 8 level 2 MTL; ``changes`` add to a group, or remove it with None."""
    bands = range(1, 8)
    groups: dict[str, dict[str, Any]] = {
        "PRODUCT_CONTENTS": {
            "LANDSAT_PRODUCT_ID": LANDSAT_NAME,
            "PROCESSING_LEVEL": "L2SP",
            "COLLECTION_NUMBER": "02",
            **{f"FILE_NAME_BAND_{i}": f"{LANDSAT_NAME}_SR_B{i}.TIF" for i in bands},
            "FILE_NAME_BAND_ST_B10": f"{LANDSAT_NAME}_ST_B10.TIF",
            "FILE_NAME_QUALITY_L1_PIXEL": f"{LANDSAT_NAME}_QA_PIXEL.TIF",
        },
        "IMAGE_ATTRIBUTES": {
            "SPACECRAFT_ID": "LANDSAT_8",
            "SENSOR_ID": "OLI_TIRS",
            "DATE_ACQUIRED": "2020-10-31",
            "SUN_ELEVATION": 64.45083205,
        },
        "LEVEL2_PROCESSING_RECORD": {"LANDSAT_PRODUCT_ID": LANDSAT_NAME},
        "LEVEL2_SURFACE_REFLECTANCE_PARAMETERS": {
            **{f"REFLECTANCE_MULT_BAND_{i}": "2.75e-05" for i in bands},
            **{f"REFLECTANCE_ADD_BAND_{i}": "-0.2" for i in bands},
        },
        "LEVEL1_PROCESSING_RECORD": {"LANDSAT_PRODUCT_ID": "LC08_L1GT_001062_20201031_20201106_02_T2"},
        "LEVEL1_RADIOMETRIC_RESCALING": {
            "RADIANCE_MULT_BAND_1": "1.2744E-02",
            "RADIANCE_MULT_BAND_10": "3.3420E-04",
            "RADIANCE_ADD_BAND_1": "-63.71959",
            "RADIANCE_ADD_BAND_10": "0.10000",
            **{f"REFLECTANCE_MULT_BAND_{i}": "2.0000E-05" for i in range(1, 10)},
            **{f"REFLECTANCE_ADD_BAND_{i}": "-0.100000" for i in range(1, 10)},
        },
    }
    for title, change in changes.items():
        groups[title] = {} if change is None else {**groups.get(title, {}), **change}
    return {title: group for title, group in groups.items() if group}


def mtl_text(groups: Mapping[str, Mapping[str, Any]], form: str = "txt") -> str:
    """An MTL in one of its three forms."""
    if form == "json":
        return json.dumps({"LANDSAT_METADATA_FILE": {t: {k: str(v) for k, v in g.items()} for t, g in groups.items()}})
    if form == "xml":
        inner = "".join(
            f"<{title}>{''.join(f'<{key}>{value}</{key}>' for key, value in group.items())}</{title}>"
            for title, group in groups.items()
        )
        return f'<?xml version="1.0" encoding="UTF-8"?><LANDSAT_METADATA_FILE>{inner}</LANDSAT_METADATA_FILE>'
    lines = ["GROUP = LANDSAT_METADATA_FILE"]
    for title, group in groups.items():
        lines += [f"  GROUP = {title}"]
        lines += [f'    {k} = "{v}"' if isinstance(v, str) else f"    {k} = {v}" for k, v in group.items()]
        lines += [f"  END_GROUP = {title}"]
    return "\n".join([*lines, "END_GROUP = LANDSAT_METADATA_FILE", "END", ""])


def write_landsat(
    folder: Path,
    files: Iterable[str] = ("SR_B2", "SR_B4", "SR_B5", "ST_B10", "QA_PIXEL", "QA_RADSAT"),
    *,
    product: str = LANDSAT_NAME,
    groups: Mapping[str, Mapping[str, Any]] | None = None,
    forms: Iterable[str] = ("txt",),
) -> Path:
    """A folder with PRODUCT_FILE.TIF for each of ``files``, and the MTL; returns the folder."""
    for i, file in enumerate(files):
        pixels(folder / f"{product}_{file}.TIF", 30, 8000 + 100 * i)
    for form in forms:
        text = mtl_text(mtl() if groups is None else groups, form)
        (folder / f"{product}_MTL.{form}").write_text(text, encoding="utf-8")
    return folder


def assert_fault(found: Iterable[SceneFiles], message: str, *, name: str | None = None) -> None:
    """Exactly one of the scenes found has a fault, it says ``message`` (a pattern), and nothing of it can be used."""
    [faulty] = [scene for scene in found if scene.fault]
    assert re.search(message, faulty.fault), faulty.fault
    assert (faulty.bands, faulty.masks) == ({}, ())
    assert name is None or faulty.name == name
