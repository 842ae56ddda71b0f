"""The command ``landfold predict``: its options, what it prints, and its exit code."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

_ABOUT = """\
Map scenes with a model folder: nothing else of the project is needed. Each scene is read, scaled by its own
statistics and mapped as in training; one that does not fit the model is refused by name, and the others go on."""

_EPILOG = """\
SCENE is a .SAFE folder or its zip archive, a Landsat product, a GeoTIFF of many bands, a file of one band (those
beside it belong to it), a .urls list, a STAC item, or a folder of such scenes.

Into DIR go SCENE_class.tif, SCENE_confidence.tif and what else the model's settings ask for, and
SCENE_predict.json, which says what they were made from: a scene whose maps were made by this very model from the
same files is left as it is. A scene's files appear at its end, whole or not at all.

A scene keeps its own grid unless it is in the CRS of the model's project, or the model was trained on warped
scenes: then it is put on the grid of training. --crs warps it into another.

Exit code: 0 if every scene has its map; 1 if one or more have not (the reasons are listed at the end);
130 after Ctrl-C.

examples:
  landfold predict S2B_MSIL2A_20230615T102559_N0509_R108_T33UUU_20230615T134855.SAFE -m models/landfold -o maps
  landfold predict downloads/ -m models/landfold -o maps --json > summary.json"""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "predict",
        help="map scenes with a model folder",
        description=_ABOUT,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scenes", metavar="SCENE", nargs="+", type=Path, help="a scene or a folder of them (see below)")
    parser.add_argument(
        "-m", "--model", metavar="MODEL", type=Path, required=True, help="a model folder such as models/landfold"
    )
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, required=True, help="folder of the maps")
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: a GPU if there is one (default)"
    )
    parser.add_argument(
        "--stride", metavar="PX", type=int, help="side of a map cell in pixels (default: the model's export.stride_px)"
    )
    parser.add_argument(
        "--layers",
        metavar="NAMES",
        help="what to tell beside class and confidence, separated by commas: margin, entropy, probabilities; '-' for "
        "nothing (default: the model's export.layers)",
    )
    parser.add_argument("--crs", metavar="CRS", help="warp scenes into this metric CRS, such as EPSG:32633")
    parser.add_argument(
        "--area",
        metavar=("X_MIN", "Y_MIN", "X_MAX", "Y_MAX"),
        type=float,
        nargs=4,
        help="read only this ground, in the CRS of the map; statistics are then of this ground, too",
    )
    parser.add_argument(
        "--band-order",
        metavar="NAMES",
        help="names of the bands of multi-band files that do not tell them, in the order of the file, separated by "
        "commas, '-' for one to leave out: B,G,R,N",
    )
    parser.add_argument(
        "--other-pixels", action="store_true", help="take bands of other pixel sizes than trained on, with a warning"
    )
    parser.add_argument("--force", action="store_true", help="make maps anew that are there already")
    parser.add_argument("--json", action="store_true", help="print what became of every scene as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Predict; the exit code is returned."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # see stages/__init__.py: before torch is imported
    from landfold.console.progress import bar
    from landfold.deploy.bundle import Bundle
    from landfold.deploy.predict import Options, predict
    from landfold.network.model import pick_device

    area, order, changes = options.area, options.band_order, {}
    if options.stride is not None:
        changes["stride_px"] = options.stride
    if options.layers is not None:
        changes["layers"] = [name.strip() for name in options.layers.split(",") if name.strip() not in ("", "-")]
    asked = Options(
        crs=options.crs,
        area=tuple(area) if area else None,
        band_order=[name.strip() or None for name in order.split(",")] if order else None,
        export=changes,
        other_pixels=options.other_pixels,
        force=options.force,
    )
    model = Bundle.load(options.model, pick_device(options.device))
    outcomes = []
    for outcome in predict(options.scenes, model, options.output, asked, bar=bar):
        outcomes.append(outcome)
        if not options.json and outcome.outcome != "failed":
            print(_line(outcome), flush=True)
    failed = [outcome for outcome in outcomes if outcome.outcome == "failed"]
    if options.json:
        told = {"model": model.digest, "scenes": [outcome.as_data() for outcome in outcomes], "failed": len(failed)}
        print(json.dumps(told, indent=2, ensure_ascii=False), flush=True)
    if failed:
        print(f"landfold predict: {len(failed)} of {len(outcomes)} failed:", file=sys.stderr)
        for outcome in failed:
            known = outcome.reason.startswith((f"scene {outcome.scene}", outcome.scene))
            print(f"  {outcome.reason}" if known else f"  {outcome.scene}: {outcome.reason}", file=sys.stderr)
    return 1 if failed else 0


def _line(outcome: Any) -> str:
    """One scene in a few lines."""
    record = outcome.record
    if outcome.outcome == "unchanged":
        return f"{outcome.scene}: unchanged, {len(record['outputs'])} files are there"
    common = sorted(record["classes"].items(), key=lambda item: -item[1])[:3]
    shares = ", ".join(f"{name} {100 * share:.1f} %" for name, share in common)
    outside = record["outside_share"]
    beyond = "" if outside is None else f"; {100 * outside:.1f} % outside the area of applicability"
    line = f"{outcome.scene}: {len(record['outputs'])} files, {shares}{beyond} ({outcome.seconds:.1f} s)"
    return "\n".join([line, *(f"  warning: {warning}" for warning in record["warnings"])])
