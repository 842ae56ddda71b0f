"""Styles beside a raster: colours and names of classes for QGIS (QML), GeoServer (SLD) and GDAL (PAM).

QGIS loads SCENE_class.qml by itself, as it has the raster's name. The colours are in the raster too, as a colour table,
but there is no place for names that all of them read.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from landfold.core.files import writing

_QML_DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
_SLD = "http://www.opengis.net/sld"


def write_class_styles(raster: Path, legend: Mapping[str, tuple[int, int, int]]) -> list[Path]:
    """Write RASTER.qml, RASTER.sld and RASTER.tif.aux.xml for a class raster.

    Args:
        raster: its path, which ends in .tif.
        legend: name to red, green and blue (0 to 255) of the classes 1, 2, ...

    Returns:
        The three files.
    """
    entries = [(str(number), name, _hex(colour)) for number, (name, colour) in enumerate(legend.items(), 1)]
    return [
        _write(raster.with_suffix(".qml"), _paletted(entries), _QML_DOCTYPE),
        _write(raster.with_suffix(".sld"), _sld(raster.stem, entries), '<?xml version="1.0" encoding="UTF-8"?>\n'),
        _write(raster.with_name(raster.name + ".aux.xml"), _categories(legend)),
    ]


def write_share_style(raster: Path) -> Path:
    """Write RASTER.qml for a raster whose first band goes from 0 to 1, shown from black to white.

    Without it, QGIS would show three bands of any meaning as red, green and blue.
    """
    renderer = Element("rasterrenderer", _common(type="singlebandgray", grayBand="1", gradient="BlackToWhite"))
    stretch = SubElement(renderer, "contrastEnhancement")
    for name, value in {"minValue": "0", "maxValue": "1", "algorithm": "StretchToMinimumMaximum"}.items():
        SubElement(stretch, name).text = value
    return _write(raster.with_suffix(".qml"), _qgis(renderer), _QML_DOCTYPE)


def _hex(colour: tuple[int, int, int]) -> str:
    return "#" + bytes(colour).hex()


def _common(**attributes: str) -> dict[str, str]:
    """Attributes of every renderer of QGIS."""
    return {**attributes, "opacity": "1", "alphaBand": "-1", "nodataColor": ""}


def _paletted(entries: list[tuple[str, str, str]]) -> Element:
    renderer = Element("rasterrenderer", _common(type="paletted", band="1"))
    SubElement(renderer, "rasterTransparency")
    palette = SubElement(renderer, "colorPalette")
    for value, label, color in entries:
        SubElement(palette, "paletteEntry", {"value": value, "color": color, "alpha": "255", "label": label})
    return _qgis(renderer)


def _qgis(renderer: Element) -> Element:
    """A style of the long-term release 3.22 and later with this renderer."""
    root = Element("qgis", {"version": "3.22.0", "styleCategories": "Symbology"})
    pipe = SubElement(root, "pipe")
    pipe.append(renderer)
    SubElement(pipe, "brightnesscontrast", {"brightness": "0", "contrast": "0", "gamma": "1"})
    SubElement(pipe, "rasterresampler", {"maxOversampling": "2"})
    SubElement(root, "blendMode").text = "0"
    return root


def _sld(layer: str, entries: list[tuple[str, str, str]]) -> Element:
    root = Element("StyledLayerDescriptor", {"version": "1.0.0", "xmlns": _SLD})
    named = SubElement(root, "NamedLayer")
    SubElement(named, "Name").text = layer
    rule = SubElement(SubElement(SubElement(named, "UserStyle"), "FeatureTypeStyle"), "Rule")
    table = SubElement(SubElement(rule, "RasterSymbolizer"), "ColorMap", {"type": "values"})
    for value, label, color in entries:
        SubElement(table, "ColorMapEntry", {"color": color, "quantity": value, "label": label, "opacity": "1"})
    return root


def _categories(names: Iterable[str]) -> Element:
    root = Element("PAMDataset")
    categories = SubElement(SubElement(root, "PAMRasterBand", {"band": "1"}), "CategoryNames")
    for name in ("nodata", *names):
        SubElement(categories, "Category").text = name
    return root


def _write(path: Path, root: Element, heading: str = "") -> Path:
    indent(root)
    with writing(path) as temporary:
        temporary.write_text(heading + tostring(root, encoding="unicode") + "\n", encoding="utf-8")
    return path
