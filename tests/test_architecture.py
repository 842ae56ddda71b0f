"""The rooms of the package: who may import whom, and that dvc.yaml knows what each stage runs."""

import ast
import re

import pytest
import yaml

from tests.closure import (
    PACKAGES,
    ROOT,
    closure,
    file_of,
    imported_modules,
    imported_names,
    main,
    name_of,
    stage_names,
)

FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

LAYERS = {
    0: {"", "errors", "files", "lineage", "settings"},
    1: {"grid", "bands", "project", "vector", "colours", "fetch", "scratch", "progress"}
    | {"maps", "maps.style", "maps.regions"},
    2: {"raster", "sensors", "indices", "statistics"}
    | {f"sensors.{part}" for part in ("scenes", "metadata", "safe", "landsat", "band_files", "multiband", "remote")},
    3: {
        "ingest",
        "labels",
        "patches",
        "zones",
        "folds",
        "accuracy",
        "classmap",
        "sample",
        "features",
        "sides",
        "windows",
        "leakage",
        "applicability",
        "metrics",
        "calibration",
        "scores",
        "plots",
        "charts",
        "predictions",
    }
    | {f"labels.{part}" for part in ("classes", "files", "rasters", "scenes", "vectors")}
    | {f"maps.{part}" for part in ("polygons", "stac", "mosaic", "picture")},
    4: {"recipe", "dataset", "augment", "backbones", "weights", "model", "engine", "checkpoints", "inner", "training"}
    | {"maps.inference", "maps.export", "report", "tracking", "inspection"}
    | {f"tracking.{part}" for part in ("artifacts", "completion", "database", "describe", "library", "live", "origin")}
    | {f"tracking.{part}" for part in ("redaction", "result", "runs", "store", "ui", "view")}
    | {"sections", "sweep", "doctor"}
    | {f"doctor.{part}" for part in ("checkout", "repository", "settings", "machine", "services")}
    | {f"inspection.{part}" for part in ("places", "scenes", "labels", "proposal", "params_text", "report")},
    5: {"deploy", "deploy.serving"}
    | {
        f"deploy.{part}"
        for part in ("bundlecard", "bundle", "modelcard", "fitness", "predict", "onnx_export", "registry")
    }
    | {f"deploy.serving.{part}" for part in ("scoring", "pyfunc", "script", "package", "server")},
    6: {"cli"} | {f"cli.{part}" for part in ("__main__", "accuracy", "deploy", "experiments", "inspect", "predict")},
}
"""A module may import from its own layer and from those of lower numbers. "" is landfold itself."""

LAYER = {f"landfold.{name}".rstrip("."): layer for layer, names in LAYERS.items() for name in names}

ONLY_IN = {
    "torch": {"recipe", "dataset", "augment", "backbones", "weights", "model", "engine", "checkpoints", "training"}
    | {"maps.inference", "maps.export", "deploy.bundle", "deploy.onnx_export", "doctor.machine"},
    "torchvision": {"backbones", "weights", "model"},
    "lightning_fabric": {"engine", "training"},
    "mlflow": {f"tracking.{part}" for part in ("completion", "database", "library", "live", "store")}
    | {"deploy.registry"}
    | {f"deploy.serving.{part}" for part in ("pyfunc", "script", "package", "server")},
    "onnx": {"deploy.onnx_export"},
    "onnxruntime": {"deploy.onnx_export"},
    "spyndex": {"indices"},
    "matplotlib": {"plots", "charts", "maps.picture"},
}
"""Libraries that are slow to import or have one room: the modules of landfold that may import them."""

RASTERIO_VALUES = {"rasterio.crs", "rasterio.windows", "rasterio.enums", "rasterio.errors"}
"""Types and names without pixels, free to use everywhere."""

RASTERIO_IN = {
    "ingest": {"rasterio.vrt", "rasterio.warp"},
    "labels.vectors": {"rasterio.features"},
    "labels.rasters": {"rasterio.vrt"},
    "maps.polygons": {"rasterio.features"},
    "report": {"rasterio"},
}
"""Beside landfold.raster: warping band files, polygons to pixels, pixels to polygons, and the version of GDAL."""


def modules():
    return [path for path in FILES if path.relative_to(ROOT).parts[0] == "landfold"]


def test_every_module_has_its_layer():
    unlisted = [name_of(path) for path in modules() if name_of(path) not in LAYER]
    assert unlisted == [], "put these into LAYERS of this test, and into docs/architecture.md"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_a_module_imports_only_from_its_own_layer_or_lower_ones(path):
    module = name_of(path)
    upwards = sorted(
        name for name in imported_modules(path) if name.startswith("stages") or LAYER[name] > LAYER[module]
    )
    assert upwards == [], f"{module} is in layer {LAYER[module]} and must not know these"


def test_modules_do_not_import_each_other_in_a_circle():
    """At import time; landfold.sensors.scenes looks up its readers when it is called."""
    graph = {name_of(path): imported_modules(path, inside_functions=False) for path in FILES}
    done, trail = set(), []

    def visit(module):
        assert module not in trail, " -> ".join([*trail[trail.index(module) :], module])
        if module in done:
            return
        trail.append(module)
        for name in sorted(graph[module]):
            if not module.startswith(f"{name}."):  # a package that runs before its own part
                visit(name)
        done.add(trail.pop())

    for module in graph:
        visit(module)
    assert done == set(graph)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_heavy_libraries_stay_in_their_rooms(path):
    used = {name.split(".")[0] for name in imported_names(path)}
    module = name_of(path).removeprefix("landfold.")
    misplaced = {library for library, rooms in ONLY_IN.items() if library in used and module not in rooms}
    assert misplaced == set()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_pixels_are_read_and_written_in_one_place(path):
    module = name_of(path).removeprefix("landfold.")
    if module == "raster":
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    used = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    used |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    pixels = {name for name in used if name.split(".")[0] == "rasterio"} - RASTERIO_VALUES
    assert pixels <= RASTERIO_IN.get(module, set()), "go through landfold.raster"


def test_nothing_below_the_network_loads_torch():
    """Through any chain of imports, so that the scene stages start without its seconds."""
    for stage in ("fetch", "ingest", "indices", "normalize", "patches", "zones"):
        heavy = [f for f in closure(stage) if {"torch", "mlflow"} & {n.split(".")[0] for n in imported_names(ROOT / f)}]
        assert heavy == [], stage


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_check_disappears_under_minus_o(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    asserts = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    assert asserts == [], "raise a typed error instead"


@pytest.mark.parametrize("stage", stage_names())
def test_a_stage_script_is_short(stage):
    lines = (ROOT / "stages" / f"{stage}.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 100, "about 60 lines are the habit: what is about pixels belongs in the package"


def pipeline():
    """Stages of dvc.yaml that run a script of ours: name, script, deps."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    for name, stage in stages.items():
        stage = stage.get("do", stage)
        script = re.search(r"python -m stages\.(\w+)", str(stage["cmd"]))
        if script:
            yield pytest.param(script[1], stage.get("deps", []), id=name)


@pytest.mark.parametrize(("script", "deps"), list(pipeline()))
def test_a_stage_depends_on_the_code_it_runs(script, deps):
    paths = [next(iter(dep)) if isinstance(dep, dict) else dep for dep in deps]
    listed = {path for path in paths if path.endswith(".py")}
    needed = set(closure(script))
    problems = [f"missing from dvc.yaml: {path}" for path in sorted(needed - listed)]
    problems += [f"superfluous in dvc.yaml: {path}" for path in sorted(listed - needed)]
    advice = f"deps of {script}: paste what `python tests/closure.py {script}` prints"
    assert not problems, "\n".join([advice, *problems])


def test_every_script_is_in_the_pipeline():
    assert sorted({script for script, _ in (parameters.values for parameters in pipeline())}) == stage_names()


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_the_closure_follows_every_form_of_import(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.closure.ROOT", tmp_path)
    write(
        tmp_path,
        {
            "stages/__init__.py": "import os, landfold.errors\n",
            "stages/one.py": "from landfold import a\nfrom landfold.rooms import thing\n",
            "landfold/__init__.py": "",
            "landfold/errors.py": "",
            "landfold/a.py": "def f():\n    import landfold.late\n",
            "landfold/late.py": "if True:\n    from landfold.rooms.deep import thing\n",
            "landfold/unused.py": "from landfold import errors\n",
            "landfold/rooms/__init__.py": "thing = 1\n",
            "landfold/rooms/deep.py": "import numpy\n",
            "landfold/rooms/unused.py": "",
        },
    )
    assert closure("one") == [
        "landfold/__init__.py",
        "landfold/a.py",
        "landfold/errors.py",
        "landfold/late.py",
        "landfold/rooms/__init__.py",
        "landfold/rooms/deep.py",
        "stages/__init__.py",
        "stages/one.py",
    ]
    assert imported_modules(tmp_path / "landfold/a.py", inside_functions=False) == set()
    assert file_of("numpy") is None
    (tmp_path / "landfold/errors.py").write_text("from . import a\n")
    with pytest.raises(ValueError, match=r"errors\.py:1: a relative import"):
        closure("one")


def test_the_command_line_prints_the_lists(capsys):
    main(["zones"])
    out = capsys.readouterr().out
    assert out.startswith("zones:\n        landfold/__init__.py, ")
    assert " ".join(out.split()[1:]).split(", ") == closure("zones")
