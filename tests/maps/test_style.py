from xml.etree import ElementTree

import numpy as np
import pytest

from landfold.maps.style import (
    write_class_styles,
    write_dissimilarity_style,
    write_polygon_style,
    write_share_style,
)
from tests.factories import tree

NAMES = ["water", 'corn "&" <rye>', "Grünland, naß"]
LEGEND = dict(zip(NAMES, [(47, 127, 209), (242, 209, 7), (0, 0, 255)], strict=True))
HEX = ["#2f7fd1", "#f2d107", "#0000ff"]
EXPECTED = [(str(number), colour, name) for number, (colour, name) in enumerate(zip(HEX, NAMES, strict=True), 1)]


def parsed(path):
    return ElementTree.fromstring(path.read_text(encoding="utf-8").encode())  # noqa: S314


@pytest.fixture
def folder(tmp_path):
    files = write_class_styles(tmp_path / "a.b_class.tif", LEGEND)
    assert [path.name for path in files] == ["a.b_class.qml", "a.b_class.sld", "a.b_class.tif.aux.xml"]
    assert sorted(tmp_path.iterdir()) == sorted(files)
    return tmp_path


def test_qgis_finds_value_colour_and_label_of_every_class(folder):
    root = parsed(folder / "a.b_class.qml")
    assert root.tag == "qgis"
    assert (folder / "a.b_class.qml").read_text(encoding="utf-8").startswith("<!DOCTYPE qgis PUBLIC ")
    renderer = root.find("pipe/rasterrenderer")
    assert {"type": "paletted", "band": "1", "opacity": "1", "alphaBand": "-1"}.items() <= renderer.attrib.items()
    entries = renderer.findall("colorPalette/paletteEntry")
    assert [(e.get("value"), e.get("color"), e.get("label")) for e in entries] == EXPECTED
    assert {e.get("alpha") for e in entries} == {"255"}


def test_geoserver_finds_them_too(folder):
    root, space = parsed(folder / "a.b_class.sld"), "{http://www.opengis.net/sld}"
    assert (root.tag, root.get("version")) == (f"{space}StyledLayerDescriptor", "1.0.0")
    assert root.find(f"{space}NamedLayer/{space}Name").text == "a.b_class"
    (table,) = root.iter(f"{space}ColorMap")
    assert table.get("type") == "values"
    assert [(e.get("quantity"), e.get("color"), e.get("label")) for e in table] == EXPECTED


def test_gdal_finds_the_names_of_all_numbers(folder):
    root = parsed(folder / "a.b_class.tif.aux.xml")
    assert root.find("PAMRasterBand").get("band") == "1"
    assert [node.text for node in root.findall("PAMRasterBand/CategoryNames/Category")] == ["nodata", *NAMES]


def test_a_share_is_shown_from_black_to_white(tmp_path):
    root = parsed(write_share_style(tmp_path / "s_confidence.tif"))
    renderer = root.find("pipe/rasterrenderer")
    assert (renderer.get("type"), renderer.get("grayBand"), renderer.get("gradient")) == (
        "singlebandgray",
        "1",
        "BlackToWhite",
    )
    assert [node.text for node in renderer.find("contrastEnhancement")] == ["0", "1", "StretchToMinimumMaximum"]


@pytest.mark.parametrize("threshold", [0.53125, 1.7e-5, 0.0])
def test_the_threshold_of_dissimilarity_is_a_break_of_colour(tmp_path, threshold):
    threshold = float(np.float32(threshold))
    path = write_dissimilarity_style(tmp_path / "s_applicability.tif", threshold)
    assert path.name == "s_applicability.qml"
    renderer = parsed(path).find("pipe/rasterrenderer")
    assert {"type": "singlebandpseudocolor", "band": "1"}.items() <= renderer.attrib.items()
    (ramp,) = renderer.iter("colorrampshader")
    assert (ramp.get("colorRampType"), ramp.get("clip")) == ("INTERPOLATED", "0")
    items = [(float(item.get("value")), item.get("color"), item.get("label")) for item in ramp]
    values = [value for value, _, _ in items]
    assert values == sorted(values)
    assert values[1] == threshold
    assert np.float32(values[2]) == np.nextafter(np.float32(threshold), np.float32(9)), "nothing lies in between"
    assert len({colour for _, colour, _ in items}) == 4
    assert items[1][2].startswith("inside, up to ")
    assert items[2][2].startswith("outside, above ")
    assert float(renderer.get("classificationMax")) == float(ramp.get("maximumValue")) == values[3]


def test_polygons_are_coloured_by_their_class(tmp_path):
    root = parsed(write_polygon_style(tmp_path / "s.qml", "class", LEGEND))
    assert (root.tag, root.get("version")) == ("qgis", "3.22.0")
    renderer = root.find("renderer-v2")
    assert (renderer.get("type"), renderer.get("attr")) == ("categorizedSymbol", "class")
    categories = renderer.findall("categories/category")
    assert [(entry.get("value"), entry.get("label")) for entry in categories] == [(name, name) for name in NAMES]
    symbols = {symbol.get("name"): symbol for symbol in renderer.findall("symbols/symbol")}
    for entry, colour in zip(categories, LEGEND.values(), strict=True):
        symbol = symbols.pop(entry.get("symbol"))
        assert (symbol.get("type"), symbol.find("layer").get("class")) == ("fill", "SimpleFill")
        options = {option.get("name"): option.get("value") for option in symbol.find("layer/Option")}
        assert options["color"] == options["outline_color"] == ",".join(map(str, (*colour, 255)))
    assert symbols == {}


def test_characters_that_xml_does_not_know_are_replaced(tmp_path):
    names = ["bell\x07 \x00\ufffe", "tab\tline\nreturn\r \U0001f333"]
    legend = dict.fromkeys(names, (1, 2, 3))
    written = [
        *write_class_styles(tmp_path / "s_class.tif", legend),
        write_polygon_style(tmp_path / "s.qml", "c", legend),
    ]
    labels = [[node.get("label") for node in parsed(path).iter() if node.get("label")] for path in written]
    expected = ["bell\ufffd \ufffd\ufffd", names[1]]
    assert labels == [expected, expected, [], expected]
    texts = [node.text for node in parsed(written[2]).iter("Category")]
    assert texts[1] == expected[0]


def test_a_second_write_gives_the_same_bytes(folder):
    first = tree(folder)
    write_class_styles(folder / "a.b_class.tif", LEGEND)
    assert tree(folder) == first
