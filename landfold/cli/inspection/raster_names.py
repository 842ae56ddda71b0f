"""Names of the values of a label raster, from the tables that may come with it."""

from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import pandas

from landfold.core.errors import LandfoldError
from landfold.geo.vector import read_layer
from landfold.patches.settings import value_text
from landfold.scenes.sensors.metadata import parse_xml, read_text

VALUE_USAGES, NAME_USAGE = ("5", "3"), "2"
"""GDALRATFieldUsage: MinMax or Min of a value, and its name (gdal.h)."""

NAME_COLUMNS = ("class_name", "classname", "class", "name", "label", "category", "landcover", "legend", "descriptio")
"""Usual names of the column with names in a value attribute table, the likeliest first."""


def value_names(path: Path, tags: dict[str, str]) -> dict[str, str]:
    """The name of each value that has one, by the text of the value.

    From the band's own tags ``CLASS_1``, ...; from the category names or the attribute table of ``FILE.aux.xml``, where
    GDAL puts them; or from a value attribute table ``FILE.vat.dbf``. A table that cannot be read has no names.
    """
    own = {key.removeprefix("CLASS_"): name for key, name in tags.items() if key.startswith("CLASS_")}
    try:
        names = own or _auxiliary(path.with_name(f"{path.name}.aux.xml")) or _attributes(path)
    except (LandfoldError, OSError, ValueError):
        return {}
    return {value: name.strip() for value, name in names.items() if name and name.strip()}


def _auxiliary(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    band = next((b for b in parse_xml(read_text(path), path).iter("PAMRasterBand") if b.get("band", "1") == "1"), None)
    if band is None:
        return {}
    categories = band.find("CategoryNames")
    if categories is not None:
        return {str(value): category.text or "" for value, category in enumerate(categories)}
    return _rat(band)


def _rat(band: Element) -> dict[str, str]:
    """Value and name columns of a GDALRasterAttributeTable."""
    fields = [(field.findtext("Usage"), (field.findtext("Name") or "").casefold()) for field in band.iter("FieldDefn")]
    value = next((i for i, (usage, name) in enumerate(fields) if usage in VALUE_USAGES or name == "value"), None)
    name = next((i for i, (usage, _) in enumerate(fields) if usage == NAME_USAGE), None)
    if name is None:
        name = _named([text for _, text in fields])
    if value is None or name is None:
        return {}
    rows = [[part.text or "" for part in row.findall("F")] for row in band.iter("Row")]
    return {value_text(float(row[value])): row[name] for row in rows if len(row) == len(fields)}


def _attributes(path: Path) -> dict[str, str]:
    """Column Value and one of names of an ArcGIS value attribute table."""
    table = next(
        (p for p in (path.with_name(f"{path.name}.vat.dbf"), path.with_suffix(".vat.dbf")) if p.is_file()), None
    )
    if table is None:
        return {}
    rows: Any = pandas.DataFrame(read_layer(table, setting=None))
    columns = {str(column).casefold(): column for column in rows}
    name = _named(list(columns))
    if "value" not in columns or name is None:
        return {}
    values, names = rows[columns["value"]], rows[columns[list(columns)[name]]]
    return {value_text(value): str(text) for value, text in zip(values, names, strict=True) if isinstance(text, str)}


def _named(columns: list[str]) -> int | None:
    """The place of the column whose name is the likeliest for names."""
    return next((columns.index(likely) for likely in NAME_COLUMNS if likely in columns), None)
