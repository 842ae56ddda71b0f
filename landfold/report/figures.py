"""What all figures share: style, colours, and how they become bytes that depend on their content alone.

Functions of `landfold.report.maps` and `landfold.report.charts` return a matplotlib ``Figure``: a notebook shows it,
`png` and `svg` turn it into a file.
"""

from io import BytesIO

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

TRAINING, HELD_OUT = "#8c8c8c", "#0072b2"
"""Of patches that were trained on, and of patches that were held out."""

SPLITS = {"random": ("random CV", "#d55e00", "s"), "zoned": ("spatial CV", HELD_OUT, "o")}
"""Label, colour and marker of the two kinds of folds. The colours are of Okabe and Ito's palette
(https://jfly.uni-koeln.de/color/), told apart by every kind of colour vision."""

PIXEL_SPLITS = {
    "random_pixels": ("random pixels", "#e69f00", "D"),
    "random_patches": ("random patches", *SPLITS["random"][1:]),
    "zones": ("zones", *SPLITS["zoned"][1:]),
}
"""The same of the ways to split labelled pixels, of the same palette: what is held out is a pixel, patch or zone."""

INK = "#333b43"

styled = matplotlib.rc_context(
    {
        "svg.hashsalt": "landfold",  # ids are random without it
        "svg.fonttype": "path",
        "font.family": "DejaVu Sans",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": "#8a949e",
        "axes.labelcolor": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "axes.grid": True,
        "grid.color": "#e3e7ea",
        "axes.axisbelow": True,
        "legend.frameon": False,
    }
)
"""Decorator of functions that draw or save: within them matplotlib has this style."""


@styled
def png(figure: Figure) -> bytes:
    """The figure as PNG, cropped to what is drawn, in 256 colours: the files are in git, and imagery is large.

    The octree keeps flat colours, those of the classes, within 1 of 255; maximum coverage, slower, within 20.
    """
    pixels, content = BytesIO(), BytesIO()
    figure.savefig(pixels, format="png", dpi=110, bbox_inches="tight", pad_inches=0.1)
    reduced = Image.open(pixels).convert("RGB").quantize(256, Image.Quantize.FASTOCTREE)
    reduced.save(content, "PNG", optimize=True)
    return content.getvalue()


@styled
def svg(figure: Figure) -> bytes:
    """The figure as an SVG element, without the document type, which names an address."""
    content = BytesIO()
    figure.savefig(content, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    whole = content.getvalue()
    return whole[whole.index(b"<svg") :]


def chart(*, width: float = 5.4, height: float = 3.6, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of the given size in inches, and its axes side by side with a common y axis."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(1, columns, sharey=True, squeeze=False)[0])
