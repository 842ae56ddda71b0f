"""What ``import landfold`` offers, and docs/library.md, whose blocks are run."""

import contextlib
import io
import re
import subprocess
import sys

import numpy as np
import pytest

import landfold
from tests.factories import make_grid, small_scene, write_raster
from tests.imports import ROOT
from tests.served import make_bundle

PAGE = ROOT / "docs/library.md"
BLOCK = re.compile(r"^```(python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120).stdout


def test_importing_it_imports_nothing_else():
    code = "import sys; before = set(sys.modules); import landfold; print(sorted(set(sys.modules) - before))"
    assert python(code) == "['landfold']\n"


def test_folds_need_neither_torch_nor_mlflow():
    heavy = ("torch", "mlflow", "matplotlib", "landfold.network", "landfold.scenes")
    code = "import sys, landfold; landfold.spatial_folds, landfold.audit_folds; print(*sys.modules)"
    assert not {*heavy} & {*python(code).split()}


@pytest.mark.parametrize("name", landfold.__all__)
def test_what_it_offers_is_there_and_documented(name):
    assert name in dir(landfold)
    assert name == "__version__" or getattr(landfold, name).__doc__
    if name != "__version__" and not name.endswith(("Error", "Warning")):
        assert f"`{name}(" in PAGE.read_text("utf-8")


def test_what_it_does_not_offer_is_named():
    with pytest.raises(
        AttributeError, match=r"module 'landfold' has no attribute 'spatial_fold'; it offers .*spatial_folds"
    ):
        landfold.spatial_fold  # noqa: B018


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """The files that the page names: a scene of the size of the default one, a delivery, and a model folder."""
    monkeypatch.chdir(tmp_path)
    grid = make_grid(768, 1536, x_px=-6996, y_px=-2202)
    scene = {name: np.full((768, 1536), 1000, dtype=np.uint16) for name in ("R", "N")}
    write_raster(tmp_path / "data/scenes/T33UUU_20170216T102101.tif", scene, grid=grid)
    small_scene(tmp_path / "downloads")
    make_bundle(tmp_path / "models/landfold")


def test_the_page_runs_and_prints_what_it_shows(workplace):
    blocks = BLOCK.findall(PAGE.read_text("utf-8"))
    namespace = {}
    for number, (kind, code) in enumerate(blocks):
        if kind == "text":
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, namespace)  # noqa: S102 - our own page
        shown = blocks[number + 1][1] if blocks[number + 1 : number + 2] and blocks[number + 1][0] == "text" else ""
        lines = [line.rstrip() for line in printed.getvalue().splitlines()]
        assert lines == shown.splitlines(), f"block {number} of {PAGE.name}"
