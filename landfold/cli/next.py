"""``landfold next``: where to label next, as points for a GIS."""

import argparse
from pathlib import Path
from typing import Any

_NEXT = """\
Find the places of a map where labels would help its model most: where two classes are about as probable, the networks
disagree, the ground is unlike the training patches, and labels are far. The four are ranked over squares of some 160 m:
half of the score is the first, half the mean of the others. No two points are closer than the spacing."""

_EPILOG = """\
MAPS are folders of maps or files SCENE_class.tif, with SCENE_confidence.tif and SCENE_applicability.tif beside them,
as `dvc repro` and `landfold predict` write them with export.applicability: true and margin in export.layers.

The GeoPackage has the points in the CRS of the maps: rank (1 first), class (as mapped), score, the four measures,
reason, x and y. Digitize what you find there, add it to the labels, and run `dvc repro`.

examples:
  landfold next data/maps -n 50 -o next.gpkg
  landfold next maps/S2A_class.tif -n 20 -o next.gpkg --labels polygons.gpkg --spacing 1000"""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "next",
        help="where to label next, as points for a GIS",
        description=_NEXT,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("maps", metavar="MAPS", nargs="+", type=Path, help="folders of maps, or SCENE_class.tif")
    parser.add_argument("-n", metavar="N", dest="points", type=int, required=True, help="number of points")
    parser.add_argument("-o", metavar="FILE", dest="target", type=Path, required=True, help="a new GeoPackage")
    parser.add_argument(
        "--labels",
        metavar="FILE",
        type=Path,
        default=Path("data/patches.parquet"),
        help="what is labelled: polygons, points or patches, in any CRS (default: data/patches.parquet)",
    )
    parser.add_argument(
        "--spacing", metavar="M", type=float, default=500.0, help="least metres between two points (default: 500)"
    )
    parser.set_defaults(run=_next)


def _next(options: argparse.Namespace) -> int:
    from landfold.accuracy.next_labels import find_maps, write_next  # geopandas takes a second to import

    maps = find_maps(options.maps)
    table = write_next(maps, options.labels, options.target, points=options.points, spacing_m=options.spacing)
    fewer = "" if len(table) == options.points else f" ({options.points} asked for; a smaller --spacing gives more)"
    print(f"{options.target}: {len(table)} points{fewer}")
    for row in table.head(5).itertuples():
        print(f"  {row.rank}. {row.x:.0f} {row.y:.0f}: {row.reason}")
    return 0
