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

Into DIR go SCENE_class.tif, SCENE_confidence.tif and the other files of the model's settings, and
SCENE_predict.json, which says what they were made from: a scene whose maps were made by this very model from the
same files is left as it is. The files of a scene appear at its end, all or none.

A scene keeps its own grid unless it is in the CRS of the model's project, or the model was trained on warped
scenes: then it is put on the grid of training. --crs warps it into another.

Exit code: 0 if every scene has its map; 1 if one or more have not (the reasons are listed at the end);
130 after Ctrl-C.

examples:
  landfold predict S2B_MSIL2A_20230615T102559_N0509_R108_T33UUU_20230615T134855.SAFE -m models/landfold -o maps
  landfold predict downloads/ -m models/landfold -o maps --json > summary.json"""


_DEVICES = {"choices": ("auto", "cpu", "cuda"), "default": "auto", "help": "auto: a GPU if there is one (default)"}


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "predict",
        help="map scenes with a model folder",
        description=_ABOUT,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    option = parser.add_argument
    option("scenes", metavar="SCENE", nargs="+", type=Path, help="a scene or a folder of them (see below)")
    option("-m", "--model", metavar="MODEL", type=Path, required=True, help="a model folder such as models/landfold")
    option("-o", "--output", metavar="DIR", type=Path, required=True, help="folder of the maps")
    option("--device", **_DEVICES)
    option(
        "--stride", metavar="PX", type=int, help="side of a map cell in pixels (default: the model's; none for pixels)"
    )
    option(
        "--layers",
        metavar="NAMES",
        help="layers beside class and confidence, separated by commas: margin, entropy, set_size, probabilities; "
        "'-' for none (default: the model's export.layers)",
    )
    option("--crs", metavar="CRS", help="warp scenes into this metric CRS, such as EPSG:32633")
    option(
        "--area",
        metavar=("X_MIN", "Y_MIN", "X_MAX", "Y_MAX"),
        type=float,
        nargs=4,
        help="read only this ground, in the CRS of the map; statistics are then of this ground, too",
    )
    option(
        "--band-order",
        metavar="NAMES",
        help="names of the bands of multi-band files that do not name them, in the order of the file, separated by "
        "commas, '-' for one to leave out: B,G,R,N",
    )
    option("--other-pixels", action="store_true", help="allow bands of other pixel sizes than in training, and warn")
    option("--force", action="store_true", help="make maps anew that exist already")
    option("--json", action="store_true", help="print the outcome for every scene as JSON")
    parser.set_defaults(run=_predict)


def _predict(options: argparse.Namespace) -> int:
    """Predict; the exit code is returned."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # see stages/__init__.py: before torch is imported
    from landfold.deploy.bundlecard import bundle_digest, read_card

    read_card(options.model)  # what predict reads first, before its other imports
    from landfold.console.progress import bar
    from landfold.deploy.predict import predict_scenes

    outcomes = []
    for outcome in predict_scenes(
        options.scenes, options.model, options.output, _asked(options), device=options.device, bar=bar
    ):
        outcomes.append(outcome)
        if not options.json and outcome.outcome != "failed":
            print(_line(outcome), flush=True)
    failed = [outcome for outcome in outcomes if outcome.outcome == "failed"]
    if options.json:
        scenes = [outcome.as_data() for outcome in outcomes]
        content = {"model": bundle_digest(options.model), "scenes": scenes, "failed": len(failed)}
        print(json.dumps(content, indent=2, ensure_ascii=False), flush=True)
    if failed:
        print(f"landfold predict: {len(failed)} of {len(outcomes)} failed:", file=sys.stderr)
        for outcome in failed:
            known = outcome.reason.startswith((f"scene {outcome.scene}", outcome.scene))
            print(f"  {outcome.reason}" if known else f"  {outcome.scene}: {outcome.reason}", file=sys.stderr)
    return 1 if failed else 0


def _asked(options: argparse.Namespace) -> Any:
    from landfold.deploy.scenejob import PredictOptions

    changes: dict[str, Any] = {}
    if options.stride is not None:
        changes["stride_px"] = options.stride
    if options.layers is not None:
        changes["layers"] = [name.strip() for name in options.layers.split(",") if name.strip() not in ("", "-")]
    order = [name.strip() or None for name in options.band_order.split(",")] if options.band_order else None
    return PredictOptions(
        crs=options.crs,
        area=tuple(options.area) if options.area else None,
        band_order=order,
        export=changes,
        other_pixels=options.other_pixels,
        force=options.force,
    )


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
