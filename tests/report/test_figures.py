import re
from xml.etree import ElementTree

import matplotlib
from matplotlib.figure import Figure

from landfold.report.figures import chart, png, styled, svg


def figure(title="A title") -> Figure:
    drawing, (axes,) = chart(width=2, height=1)
    axes.set_title(title)
    return drawing


def test_svg_has_equal_bytes_and_no_address():
    text = svg(figure()).decode()
    assert text == svg(figure()).decode() != svg(figure("Another")).decode()
    assert ElementTree.fromstring(text).tag.endswith("svg")  # noqa: S314 - our own
    assert not re.search(r"<dc:date|20\d\d-\d\d-\d\d", text)
    assert not re.search(r"<image|<script", text)
    assert not re.search('href="(?!#)', text)
    assert len(text) < 20_000


def test_png_depends_on_its_content_alone():
    assert png(figure()) == png(figure()) != png(figure("Another"))
    assert png(figure()).startswith(b"\x89PNG")


def test_the_style_is_that_of_the_figures_alone():
    outside = matplotlib.rcParams["axes.grid"]

    @styled
    def inside():
        return matplotlib.rcParams["axes.grid"]

    assert (inside(), inside()) == (True, True)
    assert matplotlib.rcParams["axes.grid"] == outside
