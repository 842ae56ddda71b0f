"""Which stages run again after an edit, as DVC sees it: real dvc.yaml, params.yaml and code, stand-ins for the data."""

import contextlib
import shutil

import pytest
import yaml
from dvc.repo import Repo

from tests.projects import ROOT, repository

FOLDS = range(5)
TRAININGS = {f"{kind}@{fold}" for kind in ("train", "random") for fold in FOLDS}
NETWORK = TRAININGS | {"package", "export"}


@pytest.fixture(scope="module")
def committed(tmp_path_factory):
    """A checkout in which every stage has just run, as far as DVC knows."""
    project = repository(tmp_path_factory.mktemp("reruns") / "checkout")
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, project.folder / name)
    with contextlib.chdir(project.folder), Repo() as repo:
        for stage in repo.index.stages:
            for out in stage.outs:
                path = project.folder / str(out)
                path.parent.mkdir(parents=True, exist_ok=True)
                if path.suffix:
                    path.write_text(str(out))
                else:
                    path.mkdir(exist_ok=True)
                    (path / "content").write_text(str(out))
        for name in ("scenes/report.json", "folds/k5/index.json", "maps/applicability.json"):
            (project.folder / "data" / name).write_text(name)
        for fold in FOLDS:
            for kind in ("fold", "random"):
                (project.folder / f"data/folds/k5/{kind}_{fold}.parquet").write_text(kind)
            (project.folder / f"models/k5/fold_{fold}/model.json").write_text("{}")
        for path in ("data/raw/scenes", "data/raw/labels"):
            (project.folder / path).mkdir(exist_ok=True)
            (project.folder / path / "file").write_text("x")
        repo.commit(force=True)
    return project.folder


@pytest.fixture
def checkout(committed, monkeypatch):
    monkeypatch.chdir(committed)
    return committed


def behind():
    """Stages whose code, settings or data are not those of their last run; track is always one of them and left out."""
    with Repo() as repo:
        status = repo.status()
    return {name.removeprefix("dvc.yaml:") for name, why in status.items() if why != ["always changed"]}


def edit(folder, name):
    """Add a comment to a file; gives back how to undo it."""
    path = folder / name
    text = path.read_text(encoding="utf-8")
    path.write_text(f"{text}# a remark\n", encoding="utf-8")
    return lambda: path.write_text(text, encoding="utf-8")


def change(folder, setting, value):
    path = folder / "params.yaml"
    text = path.read_text(encoding="utf-8")
    content = yaml.safe_load(text)
    *sections, last = setting.split(".")
    place = content
    for section in sections:
        place = place[section]
    assert place[last] != value
    place[last] = value
    path.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return lambda: path.write_text(text, encoding="utf-8")


def test_nothing_reruns_without_an_edit(checkout):
    assert behind() == set()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("landfold/tracking/live.py", set()),
        ("landfold/console/progress.py", set()),
        ("landfold/params.py", set()),
        ("landfold/cli/inspect.py", set()),
        ("stages/__init__.py", set()),
        ("landfold/network/training.py", NETWORK),
        ("landfold/pixels/ground.py", NETWORK | {"audit", "evaluate"}),
        ("stages/train.py", TRAININGS),
        ("landfold/maps/mosaic.py", {"package", "export", "report"}),
        ("landfold/report/charts.py", {"report"}),
        ("landfold/scores/metrics.py", {"audit", "evaluate", "package", "report"}),
        ("landfold/audit/audit.py", {"audit"}),
        ("landfold/fetch/wheel.py", {"fetch"}),
        ("landfold/deploy/modelcard.md.j2", {"package"}),
    ],
)
def test_an_edit_of_code_reruns_the_stages_of_its_room(checkout, name, expected):
    undo = edit(checkout, name)
    try:
        assert behind() == expected
    finally:
        undo()


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("machine.device", "cpu", set()),
        ("machine.cache_gb", 1, set()),
        ("track.enabled", False, set()),
        ("track.maps_mb", 1, set()),
        ("train.epochs", 11, TRAININGS | {"package", "report"}),
        ("audit.network", False, {f"random@{fold}" for fold in FOLDS} | {"report"}),
        ("audit.trees", 20, {"audit", "report"}),
        ("export.stride_px", 4, {"package", "export", "report"}),
        ("project.name", "renamed", {"package", "report"}),
        ("zones.buffer_m", 200, {"zones", "audit", "package", "export", "report"} | TRAININGS),
        ("colours.water", "#0000ff", {"package", "export", "report"}),
        ("indices.names", ["NDVI"], {"indices", "package", "report"} | TRAININGS),
    ],
)
def test_a_setting_reruns_the_stages_that_read_it(checkout, setting, value, expected):
    undo = change(checkout, setting, value)
    try:
        assert behind() == expected
    finally:
        undo()
