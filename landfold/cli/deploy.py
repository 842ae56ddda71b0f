"""The commands that hand a model on: ``landfold serve``, ``mlflow-model``, ``onnx`` and ``register``."""

import argparse
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

_SERVE = """\
Answer class probabilities over HTTP, on this machine alone unless --host says otherwise, within limits of size and
time. There is no password: put a proxy that asks for one before other hosts may ask."""

_SERVE_EPILOG = """\
POST /predict {"inputs": {"reflectance": [n, band, y, x]}, "params": {...}} with reflectance of about 0 to 1 and null
where there is no data; docs/deploy.md has requests to copy. /invocations is another name of it.
  {"low": [...], "high": [...]}   windows, with their scene's statistics: answers [n, class], or of a model of pixels
                                  [n, row, column, class], the pixels at their centres
  {"sets": true}                  prediction sets in the place of probabilities: 1 for each class that is in the set
  {"mode": "scene"}               whole scenes, with statistics of their own: answers [n, row, column, class]
GET /metadata has classes, bands, units, window size and accuracy, GET /health whether the server is up, and GET
/openapi.json the description for programs.

examples:
  landfold serve -m models/landfold
  landfold serve -m models/landfold --port 8080 --max-mb 64"""

_MLFLOW = """\
Write a model folder as an MLflow model with a signature, for `mlflow models serve` and mlflow.pyfunc.load_model.
Whoever loads it needs Landfold installed; the packages are in its requirements.txt."""

_ONNX = """\
Write the mean of the folds' networks as one ONNX graph and check it against torch. Its input are normalized windows:
indices and the scaling by a scene's statistics come before it. Its output are the calibrated probabilities of the
classes, for a model of pixels those of each pixel at the centre. Names of channels and classes are in its metadata, and
the least probability of a class in a prediction set."""

_REGISTER = """\
Register a model folder in the registry of the MLflow store (MLFLOW_TRACKING_URI, else mlflow.db of this folder).
The alias moves to it if there is none yet, or if its spatial CV accuracy of patches is higher than the champion's and
their 95 % intervals do not overlap. Where they overlap, --promote decides; where it is not higher, the alias stays."""

_REGISTER_EPILOG = """\
Exit code: 0 if the model is registered, with or without the alias; 1 if it is refused.

examples:
  landfold register --dry-run
  landfold register -m models/landfold
  MLFLOW_TRACKING_URI=sqlite:///mlflow.db \\
      mlflow models serve -m models:/landfold-brandenburg@champion --env-manager local"""


def add(commands: Any) -> None:
    """Add the commands to the parser."""
    serve = _parser(commands, "serve", "answer class probabilities over HTTP, on loopback", _SERVE, _SERVE_EPILOG)
    serve.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1)")
    serve.add_argument("--port", type=int, default=5001, help="port to listen at (default: 5001)")
    serve.add_argument("--max-mb", type=int, default=256, help="longest body of a request (default: 256)")
    serve.add_argument("--max-seconds", type=int, default=60, help="longest time for an answer (default: 60)")
    _add_limits(serve)
    serve.set_defaults(run=_serve)

    packed = _parser(commands, "mlflow-model", "write a model folder as an MLflow model", _MLFLOW)
    packed.add_argument("-o", metavar="DIR", dest="target", type=Path, required=True, help="the MLflow model's folder")
    _add_limits(packed)
    packed.set_defaults(run=_mlflow_model)

    graph = _parser(commands, "onnx", "write a model folder as one ONNX graph", _ONNX)
    graph.add_argument("-o", metavar="FILE", dest="target", type=Path, required=True, help="such as landfold.onnx")
    graph.set_defaults(run=_onnx)

    register = _parser(commands, "register", "register a model folder in MLflow", _REGISTER, _REGISTER_EPILOG)
    register.add_argument("--name", help="of the registered model (default: the project's name)")
    register.add_argument("--alias", default="champion", help="the alias of the best (default: champion)")
    register.add_argument("--promote", action="store_true", help="move the alias where the intervals overlap")
    register.add_argument("--other-data", action="store_true", help="register although the champion is of other data")
    register.add_argument("--dry-run", action="store_true", help="tell what would happen, and write nothing")
    register.set_defaults(run=_register)


def _parser(commands: Any, name: str, line: str, about: str, epilog: str | None = None) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name, help=line, description=about, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "-m", "--model", metavar="MODEL", type=Path, default=Path("models/landfold"), help="default: models/landfold"
    )
    return parser


def _add_limits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--max-windows", type=int, default=4096, help="most windows in a request (default: 4096)")
    parser.add_argument(
        "--max-pixels", type=int, default=2**20, help="most pixels of the scenes in a request (default: 1048576)"
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: a GPU if there is one (default)"
    )


def _limits(options: argparse.Namespace) -> Any:
    from landfold.core.settings import validate
    from landfold.deploy.serving import ServingLimits

    names = ("max_windows", "max_pixels", "device")
    return validate({name: getattr(options, name) for name in names}, ServingLimits, where="limits")


def _serve(options: argparse.Namespace) -> int:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # see stages/__init__.py: before torch is imported
    from landfold.deploy.bundlecard import read_card
    from landfold.deploy.serving.server import ServerError, bound, make_server

    for name in ("max_mb", "max_seconds"):
        if getattr(options, name) < 1:
            raise ServerError(f"--{name.replace('_', '-')} {getattr(options, name)}: expected 1 or more")
    limits = _limits(options)
    with bound(options.host, options.port) as place:
        read_card(options.model)
        from landfold.deploy.bundle import Bundle
        from landfold.deploy.serving.app import create_app
        from landfold.network.model import pick_device

        bundle = Bundle.load(options.model, pick_device(options.device))
        app = create_app(bundle, limits, max_bytes=options.max_mb * 2**20, max_s=options.max_seconds)
        print(f"{options.model}: http://{options.host}:{options.port}/predict, until Ctrl-C", flush=True)
        with suppress(KeyboardInterrupt):
            make_server(app).run(sockets=[place])
    return 0


def _mlflow_model(options: argparse.Namespace) -> int:
    from landfold.deploy.serving.mlflow_model import write_mlflow_model

    write_mlflow_model(options.model, options.target, limits=_limits(options))
    print(f"{options.target}: mlflow models serve -m {options.target} --env-manager local -h 127.0.0.1", flush=True)
    return 0


def _onnx(options: argparse.Namespace) -> int:
    from landfold.deploy.bundlecard import read_card

    read_card(options.model)  # refused before torch is loaded
    from landfold.deploy.bundle import Bundle
    from landfold.deploy.onnx_export import OPSET, write_onnx

    bundle = Bundle.load(options.model)
    card = bundle.card
    properties = {name: json.dumps(getattr(card, name), ensure_ascii=False) for name in ("channels", "classes")}
    properties |= {"bundle_digest": bundle.digest, "resolution_m": f"{card.resolution_m:g}"}
    properties |= {"unit": card.unit, "size_px": str(card.size_px), "core_px": str(card.core_px)}
    named = ("data_digest", "params_digest", "patches_digest", "statistics_digest")
    properties |= {name: getattr(card, name) for name in named}
    if card.calibration:
        properties |= {"coverage": f"{card.calibration.coverage:g}"}
        properties |= {"least_probability": f"{card.calibration.ensemble.least_probability:g}"}
    calibration = card.calibration and card.calibration.ensemble
    difference = write_onnx(bundle.models, options.target, properties=properties, calibration=calibration)
    size = options.target.stat().st_size / 2**20
    print(
        f"{options.target}: {size:.1f} MiB, opset {OPSET}, differs from torch by at most {difference:.1g}", flush=True
    )
    return 0


def _register(options: argparse.Namespace) -> int:
    from landfold.deploy.registry import register

    asked = {name: getattr(options, name) for name in ("name", "alias", "promote", "other_data", "dry_run")}
    print(register(options.model, **asked), flush=True)
    return 0
