"""Styles beside a file: colours and names of classes for QGIS (QML), GeoServer (SLD) and GDAL (PAM).

QGIS loads SCENE_class.qml by itself, as it has the raster's name. The colours are in the raster too, as a colour table,
but there is no place for names that all of them read. Characters that XML 1.0 has no way to write become U+FFFD.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np

from landfold.core.files import writing

_QML_DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
_VERSION = {"version": "3.22.0", "styleCategories": "Symbology"}
"""Of QGIS: that long-term release and later."""

_SLD = "http://www.opengis.net/sld"
_NO_XML = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")

INSIDE, AT_THRESHOLD, BEYOND, FAR_BEYOND = "#f7fcf5", "#41ab5d", "#fdae61", "#a50026"
"""Colours of dissimilarity: green inside the area of applicability, orange to red outside."""


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


def write_dissimilarity_style(raster: Path, threshold: float) -> Path:
    """Write RASTER.qml for a raster whose first band is a dissimilarity index, with a break of colour at the threshold.

    Args:
        raster: its path.
        threshold: the largest index inside the area of applicability, a float32.
    """
    above, end = float(np.nextafter(np.float32(threshold), np.float32(np.inf))), 2 * threshold or 1.0
    inside, outside = f"inside, up to {threshold:.4g}", f"outside, above {threshold:.4g}"
    entries = [
        (0.0, INSIDE, "0"),
        (threshold, AT_THRESHOLD, inside),
        (above, BEYOND, outside),
        (end, FAR_BEYOND, f"{end:.4g} and more"),
    ]
    limits = {"classificationMin": "0", "classificationMax": repr(end)}
    renderer = Element("rasterrenderer", _common(type="singlebandpseudocolor", band="1", **limits))
    SubElement(renderer, "rasterTransparency")
    options = {"colorRampType": "INTERPOLATED", "classificationMode": "1", "clip": "0", "labelPrecision": "4"}
    options |= {"minimumValue": "0", "maximumValue": repr(end)}
    ramp = SubElement(SubElement(renderer, "rastershader"), "colorrampshader", options)
    for value, color, label in entries:
        SubElement(ramp, "item", {"value": repr(value), "color": color, "alpha": "255", "label": label})
    return _write(raster.with_suffix(".qml"), _qgis(renderer), _QML_DOCTYPE)


def write_polygon_style(path: Path, attribute: str, legend: Mapping[str, tuple[int, int, int]]) -> Path:
    """Write a QML file for polygons that are coloured by class; QGIS loads it with polygons of the same file name.

    An edge has the colour of its polygon: without edges the background shines through between neighbours.

    Args:
        path: its path, which ends in .qml.
        attribute: of the polygons, the name of the class.
        legend: name to red, green and blue (0 to 255) of the classes.
    """
    root = Element("qgis", _VERSION)
    common = {"type": "categorizedSymbol", "attr": attribute, "symbollevels": "0", "forceraster": "0"}
    renderer = SubElement(root, "renderer-v2", common | {"enableorderby": "0"})
    categories, symbols = SubElement(renderer, "categories"), SubElement(renderer, "symbols")
    for symbol, (name, colour) in enumerate(legend.items()):
        entry = {"value": name, "label": name, "type": "string", "symbol": str(symbol), "render": "true"}
        SubElement(categories, "category", entry)
        fill = SubElement(symbols, "symbol", {"type": "fill", "name": str(symbol), "alpha": "1"})
        layer = SubElement(fill, "layer", {"class": "SimpleFill", "enabled": "1", "locked": "0", "pass": "0"})
        options, rgba = SubElement(layer, "Option", {"type": "Map"}), ",".join(map(str, (*colour, 255)))
        edge = {"outline_color": rgba, "outline_style": "solid", "outline_width": "0.1", "outline_width_unit": "MM"}
        for key, value in {"color": rgba, "style": "solid", **edge}.items():
            SubElement(options, "Option", {"name": key, "type": "QString", "value": value})
    return _write(path, root, _QML_DOCTYPE)


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
    """The style of a raster with this renderer."""
    root = Element("qgis", _VERSION)
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
    text = _NO_XML.sub("\N{REPLACEMENT CHARACTER}", tostring(root, encoding="unicode"))
    with writing(path) as temporary:
        temporary.write_text(f"{heading}{text}\n", encoding="utf-8")
    return path
