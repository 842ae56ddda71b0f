"""The rooms of the package: who may import whom, and that dvc.yaml names the rooms that each stage uses."""

import ast
import re

import pytest
import yaml

from tests.imports import PACKAGES, ROOT, closure, file_of, imported_modules, imported_names, name_of, stage_names

ROOMS = (
    "core",
    "console",
    "geo",
    "fetch",
    "scenes",
    "patches",
    "folds",
    "pixels",
    "classical",
    "scores",
    "audit",
    "network",
    "maps",
    "accuracy",
    "tracking",
    "deploy",
    "library",
    "report",
    "params",
    "cli",
)
"""In import order: a room imports from itself and from those before it. docs/architecture.md says what each holds."""

OBSERVERS = {"console", "params", "tracking", "cli"}
"""Rooms that cannot change an output: progress bars, the check of params.yaml as a whole, records of runs. Stages use
them without depending on them; `tests/pipeline/test_observers.py` shows that the bytes are the same."""

ONLY_IN = {
    "torch": {
        "network",
        "pixels.rows",
        "pixels.surroundings",
        "deploy.bundle",
        "deploy.onnx_export",
        "cli.doctor.machine",
    },
    "torchvision": {"network"},
    "lightning_fabric": {"network"},
    "segmentation_models_pytorch": {"network.segmentation"},
    "timm": {"network.segmentation"},
    "mlflow": {"tracking", "deploy.registry", "deploy.serving"},
    "onnx": {"deploy.onnx_export"},
    "onnxruntime": {"deploy.onnx_export"},
    "spyndex": {"scenes.indices", "scenes.settings"},
    "matplotlib": {"report"},
}
"""Libraries that are slow to import: the rooms and modules that may import them."""

PIXELS_IN = {
    "geo": {"rasterio", "rasterio.shutil", "rasterio.vrt"},
    "patches.labels.vectors": {"rasterio.features"},
    "pixels.ground": {"rasterio.features"},
    "maps.files": {"rasterio.features"},
    "maps.polygons": {"rasterio.features"},
    "report.page": {"rasterio"},
}
"""Parts of rasterio that read, write or warp pixels: the rooms and modules that may import them."""

PIXEL_FREE = {"rasterio.crs", "rasterio.windows", "rasterio.enums", "rasterio.errors"}
"""Parts of rasterio that every module may import."""

FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MODULES = [path for path in FILES if path.relative_to(ROOT).parts[0] == "landfold"]


def room_of(module):
    """The room of ``landfold.ROOM.module``; "" of landfold itself."""
    return module.removeprefix("landfold").removeprefix(".").partition(".")[0]


def is_within(module, places):
    return any(f"{module}.".startswith(f"landfold.{place}.") for place in places)


def test_every_module_is_in_a_room():
    assert {room_of(name_of(path)) for path in MODULES} == {"", *ROOMS}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_rooms_import_in_one_direction(path):
    room = room_of(name_of(path))
    allowed = {"", *ROOMS[: ROOMS.index(room) + 1]} if room else {""}
    upwards = {name for name in imported_modules(path) if name.startswith("stages") or room_of(name) not in allowed}
    assert upwards == set()


def test_modules_do_not_import_each_other_in_a_circle():
    """At import time; landfold.scenes.sensors.scene_files looks up its readers when it is called."""
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


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_slow_libraries_are_imported_where_they_are_needed_alone(path):
    used = {name.split(".")[0] for name in imported_names(path)}
    assert {
        library for library, places in ONLY_IN.items() if library in used and not is_within(name_of(path), places)
    } == set()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_pixels_are_read_and_written_in_one_room(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    used = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    used |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    pixels = {name for name in used if name and name.split(".")[0] == "rasterio"} - PIXEL_FREE
    allowed = set().union(*(parts for place, parts in PIXELS_IN.items() if is_within(name_of(path), [place])))
    assert pixels <= allowed, "go through landfold.geo"


@pytest.mark.parametrize("stage", ["fetch", "ingest", "indices", "normalize", "patches", "zones", "evaluate"])
def test_only_networks_load_torch(stage):
    """Through any chain of imports, the check of params.yaml included: these stages start without its seconds."""
    heavy = {"torch", "torchvision", "lightning_fabric", "mlflow"}
    names = {file: imported_names(ROOT / file, inside_functions=False) for file in closure(stage)}
    assert [file for file, imported in names.items() if heavy & {name.split(".")[0] for name in imported}] == []


def test_one_stage_draws():
    """A changed chart or colour of a chart reruns it alone."""
    drawing = {stage for stage in stage_names() if any(file.startswith("landfold/report/") for file in closure(stage))}
    assert drawing == {"report"}


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
def test_a_stage_depends_on_its_script_and_the_rooms_that_it_uses(script, deps):
    listed = {dep for dep in deps if dep.startswith(("landfold", "stages"))}
    files = [file for file in closure(script, without=OBSERVERS) if file.startswith("landfold/")]
    used = {room_of(name_of(ROOT / file)) for file in files}
    assert listed == {f"stages/{script}.py", *(f"landfold/{room}" for room in used - {""})}


@pytest.mark.parametrize("stage", ["ingest", "indices", "normalize", "patches", "train", "export"])
def test_work_that_is_kept_is_of_the_code_that_its_stage_depends_on(stage):
    """The scene cache and checkpoints are found by a digest of code: of the rooms that dvc.yaml names."""
    (deps,) = [deps for script, deps in (parameters.values for parameters in pipeline()) if script == stage][:1]
    rooms = {dep.removeprefix("landfold/") for dep in deps if dep.startswith("landfold/")}
    module = {"train": "landfold.network.checkpoints", "export": "landfold.maps.export"}.get(stage, f"stages.{stage}")
    tree = ast.parse(file_of(module).read_text(encoding="utf-8"))
    values = {node.targets[0].id: node.value for node in tree.body if isinstance(node, ast.Assign)}
    named = values["CODE"].args if "CODE" in values else values.get("ROOMS", values.get("MAP_ROOMS")).elts
    assert {node.value for node in named} | ({"report"} & rooms) == rooms


def test_every_script_is_in_the_pipeline():
    assert sorted({script for script, _ in (parameters.values for parameters in pipeline())}) == stage_names()


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_the_closure_follows_every_form_of_import(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.imports.ROOT", tmp_path)
    write(
        tmp_path,
        {
            "stages/__init__.py": "import os, landfold.console\n",
            "stages/one.py": "from landfold import a\nfrom landfold.rooms import thing\n",
            "landfold/__init__.py": "",
            "landfold/console/__init__.py": "import landfold.errors\n",
            "landfold/errors.py": "",
            "landfold/a.py": "def f():\n    import landfold.late\n",
            "landfold/late.py": "if True:\n    from landfold.rooms.deep import thing\n",
            "landfold/unused.py": "from landfold import errors\n",
            "landfold/rooms/__init__.py": "thing = 1\n",
            "landfold/rooms/deep.py": "import numpy\n",
            "landfold/rooms/unused.py": "",
        },
    )
    without = [
        "landfold/__init__.py",
        "landfold/a.py",
        "landfold/late.py",
        "landfold/rooms/__init__.py",
        "landfold/rooms/deep.py",
        "stages/one.py",
    ]
    assert closure("one", without={"console"}) == without
    added = ["landfold/console/__init__.py", "landfold/errors.py", "stages/__init__.py"]
    assert closure("one") == sorted([*without, *added])
    assert imported_modules(tmp_path / "landfold/a.py", inside_functions=False) == set()
    assert file_of("numpy") is None
    (tmp_path / "landfold/a.py").write_text("from . import errors\n")
    with pytest.raises(ValueError, match=r"a\.py:1: a relative import"):
        closure("one")
