"""The first experiment of README.md, command by command, on a clone whose machine ends in other digits.

Real git, DVC and `landfold show`; trainings are stubs (tests/projects.py), and so are the scores, which depend on the
number of epochs, on the fold and on the machine (`DIGITS`).
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from landfold.cli.sweep import draw_experiments
from landfold.core.settings import read
from tests.projects import ROOT, TRAINER, Project, ran, small_project

SCORER = '''"""What stage evaluate does for this test: tables of two folds with two zones each."""
from pathlib import Path

from landfold.core.files import read_json, write_json

fold_accuracy, rows, zones = [], [], []
for fold, path in enumerate(sorted(Path("models").glob("k*/fold_*/model.json"))):
    epochs, digits = read_json(path)["train"]["epochs"], float(path.with_name("model.safetensors").read_text())
    accuracy = round(0.5 + epochs * (fold + 1) / 100 + digits, 4)
    fold_accuracy.append(accuracy)
    rows.append({"fold": fold, "repeat": 0, "patches": 20, "accuracy": accuracy, "macro_f1": accuracy,
                 "balanced_accuracy": accuracy})
    zones += [{"zone": f"{fold}{side}", "fold": fold, "patches": 10, "accuracy": accuracy, "distance_m": 100.0}
              for side in "ab"]
pooled = round(sum(fold_accuracy) / len(fold_accuracy), 4)
score = {"pooled": pooled, "low": round(pooled - 0.1, 4), "high": round(pooled + 0.1, 4)}
headline = {name: score for name in ("accuracy", "balanced_accuracy", "macro_f1")}
per_class = [{"class": "a", "support": 40, "f1": score, "precision": score, "recall": score}]
summary = {"worst": zones[0], "median_accuracy": pooled, "least_patches": 10}
scores = {"classes": ["a"], "repeats": 1, "patches": 40, "warnings": [], "comparisons": [], "headline": headline,
          "per_class": per_class, "per_fold": rows, "per_zone": zones, "zone_summary": summary}
write_json(Path("metrics/scores.json"), scores)
write_json(Path("metrics/summary.json"), {"zoned": headline, "pixels": headline | {"count": 4000}, "zones": 4})
'''
HERE, THERE = {"DIGITS": "0"}, {"DIGITS": "0.002"}


def first_experiment() -> list[str]:
    """The commands of the section, in order, without their comments."""
    section = (ROOT / "README.md").read_text("utf-8").partition("\n## A first experiment\n")[2].partition("\n## ")[0]
    (block,) = re.findall(r"^```\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)
    return [line.partition("  #")[0].strip() for line in block.splitlines()]


def test_its_settings_are_those_of_params_yaml() -> None:
    params = ROOT / "params.yaml"
    changes = re.findall(r"-S (\S+)", "\n".join(first_experiment()))
    assert len(changes) == 3
    for change in changes:
        draw_experiments(params, [change], count=1)  # refuses what their owners refuse
    assert read(params)["train"]["epochs"] == 10, "README asks whether three do as well as ten"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A fresh clone, without DVC's cache, of a repository with the result of another machine."""
    origin = small_project(tmp_path_factory.mktemp("hour") / "origin")
    weights = 'f"{fold} {rate}"'
    assert weights in TRAINER
    (origin.folder / "trainer.py").write_text(TRAINER.replace(weights, 'os.environ["DIGITS"]'), encoding="utf-8")
    (origin.folder / "scorer.py").write_text(SCORER, encoding="utf-8")
    pipeline = yaml.safe_load((origin.folder / "dvc.yaml").read_text("utf-8"))
    pipeline["stages"]["evaluate"]["outs"] = [{"metrics/scores.json": {"cache": False}}]
    (origin.folder / "dvc.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=False), encoding="utf-8")
    origin.set(train__epochs=10)
    origin("dvc repro", **THERE)
    origin.commit("theirs")
    project = origin.clone("clone")
    (project.folder / "data/raw").mkdir()
    (project.folder / "data/raw/scene.txt").write_text("pixels", encoding="utf-8")
    yield project
    project.end()
    origin.end()


def typed(project: Project, line: str) -> str:
    """What a shell prints for a line; ``landfold`` is the project's."""
    script = re.sub(r"\blandfold (?=show)", "python -m landfold.cli ", line)
    (project.folder.parent / "line.sh").write_text(script, encoding="utf-8")
    return project("sh ../line.sh", **HERE)


def epochs(project: Project) -> set[int]:
    """Epochs of params.yaml and of both models."""
    folder = project.folder
    cards = [json.loads(path.read_text("utf-8")) for path in folder.glob("models/k2/fold_*/model.json")]
    assert len(cards) == 2
    return {yaml.safe_load((folder / "params.yaml").read_text("utf-8"))["train"]["epochs"]} | {
        card["train"]["epochs"] for card in cards
    }


def row(text: str, name: str) -> str:
    """The line of a table that begins with a name, its spaces made one."""
    (line,) = [" ".join(line.split()) for line in text.splitlines() if line.startswith(f"{name}  ")]
    return line.removeprefix(f"{name} ")


def test_every_command_in_order(project: Project) -> None:
    lines = iter(first_experiment())

    assert ran(typed(project, next(lines))) == ["train@0", "train@1", "evaluate", "track"]
    typed(project, next(lines))
    assert project("git status --porcelain") == "", "the base is committed"
    theirs = typed(project, "landfold show HEAD~1 HEAD")
    assert row(theirs, "HEAD minus HEAD~1").startswith("-0.002 ("), "another machine, no experiment"
    base = Path(project.folder / "metrics/scores.json").read_text("utf-8")

    experiment = next(lines)
    assert ran(typed(project, experiment)) == ["train@0", "train@1", "evaluate", "track"]
    assert epochs(project) == {3}

    compared = next(lines)
    text = typed(project, compared)
    assert row(text, "40 patches of 4 zones") == "accuracy macro F1"
    assert row(text, "HEAD") == "0.650 (0.550 to 0.750) 0.650 (0.550 to 0.750)"
    assert row(text, "shorter") == "0.545 (0.445 to 0.645) 0.545 (0.445 to 0.645)"
    assert row(text, "shorter minus HEAD").startswith("-0.105 (-0.")
    assert row(text, "mean over folds").startswith("-0.105 (-0.")
    assert row(text, "0").startswith("20 0.600 0.530 -0.070")
    assert row(text, "1").startswith("20 0.700 0.560 -0.140")

    columns = typed(project, next(lines))
    assert {"Experiment", "pixels.accuracy.pooled", "train.epochs"} == set(columns.splitlines()[1].split())
    assert "shorter" in columns

    typed(project, next(lines))
    assert epochs(project) == {10}
    assert project("git status --porcelain") == ""
    assert Path(project.folder / "metrics/scores.json").read_text("utf-8") == base
    assert set(json.loads(project("dvc status --json"))) == {"track"}
    assert project("dvc exp list --name-only").split() == ["shorter"], "the way back forgets nothing"

    typed(project, next(lines))
    assert epochs(project) == {3}
    assert ran(typed(project, next(lines))) == ["track"], "nothing but what the random folds change"
    typed(project, next(lines))
    assert project("git status --porcelain") == ""
    assert next(lines, None) is None
    kept = typed(project, compared.replace("HEAD shorter", "HEAD~1 HEAD"))
    assert row(kept, "HEAD minus HEAD~1") == row(text, "shorter minus HEAD")
