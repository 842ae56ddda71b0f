from xml.etree import ElementTree

import pytest

from landfold.maps.style import write_class_styles, write_share_style
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


def test_a_second_write_gives_the_same_bytes(folder):
    first = tree(folder)
    write_class_styles(folder / "a.b_class.tif", LEGEND)
    assert tree(folder) == first
