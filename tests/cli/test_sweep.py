"""`landfold sweep`: what is drawn, what is refused before anything is queued, and the queue of real DVC."""

import copy
import random
import shutil
import subprocess

import pytest
import yaml

from landfold.cli import main, sweep
from landfold.cli.sweep import Experiment, SweepError, draw_experiments, incomparable, parse_space
from landfold.core.settings import read
from landfold.params import OWNERS, faults
from tests.imports import ROOT

PARAMS = ROOT / "params.yaml"
RATE = "train.learning_rate"


def values(experiments, name=RATE):
    return [dict(experiment.changes)[name] for experiment in experiments]


def test_every_section_has_an_owner_that_takes_params_yaml():
    assert faults(read(PARAMS), OWNERS, where="params.yaml") == []


def test_a_fault_names_its_setting_and_a_section_that_is_missing():
    content = copy.deepcopy(read(PARAMS))
    content["normalize"]["low_percentile"] = -1
    del content["indices"]
    missing, refused = faults(content, ["indices", "normalize"], where="params.yaml")
    assert missing == "params.yaml: section 'indices' is missing"
    assert refused.startswith("params.yaml: normalize.low_percentile: found -1: ")


def test_a_grid_is_left_to_dvc(capsys):
    assert main(["sweep", f"{RATE}=1e-5,0.001", "indices.names=[NDVI]"]) == 1
    command = f"dvc exp run --queue -S {RATE}=1e-5,0.001 -S 'indices.names=[NDVI]'"
    assert capsys.readouterr().err == (
        f"landfold sweep: -n N is missing; for all combinations of listed values use DVC itself: {command}\n"
    )


def test_names_and_commands_have_the_values():
    (experiment,) = draw_experiments(
        PARAMS, [f"{RATE}=1e-5", "indices.names=[NDVI, NDWI]", "zones.clusters=null"], count=1
    )
    assert experiment.name == "learning_rate-1e-05_names--NDVI-NDWI-_clusters-null"
    assert experiment.command == [
        *("dvc", "exp", "run", "--queue", "-n", experiment.name),
        *("-S", "train.learning_rate=1e-05", "-S", 'indices.names=["NDVI", "NDWI"]', "-S", "zones.clusters=null"),
    ]


def test_draws_are_of_the_range_and_of_the_seed():
    texts = [f"{RATE}=log:1e-4:1e-2", "train.weight_decay=0:0.5", "train.epochs=2:4", "train.class_weights=none,sqrt"]
    found = draw_experiments(PARAMS, texts, count=200, seed=3)
    assert found == draw_experiments(PARAMS, texts, count=200, seed=3)
    assert draw_experiments(PARAMS, texts, count=50, seed=3) == found[:50], (
        "a longer sweep goes on where a shorter ended"
    )
    assert draw_experiments(PARAMS, texts, count=200, seed=4) != found
    assert len({experiment.name for experiment in found}) == 200
    rates = [float(rate) for rate in values(found)]
    assert 1e-4 <= min(rates) < 1.5e-4
    assert 7e-3 < max(rates) <= 1e-2
    assert 70 < sum(rate < 1e-3 for rate in rates) < 130, "half of the draws are in the lower of two decades"
    decays = [float(decay) for decay in values(found, "train.weight_decay")]
    assert 70 < sum(decay < 0.25 for decay in decays) < 130
    assert set(values(found, "train.epochs")) == {2, 3, 4}
    assert set(values(found, "train.class_weights")) == {"none", "sqrt"}


def test_rounding_never_leaves_the_range():
    _, draw = parse_space("a.b=0.12345:0.12349")
    drawn = {draw(random.Random(seed)) for seed in range(20)}  # noqa: S311
    assert drawn <= {0.12345, 0.12349}


def test_names_are_references_that_git_takes_and_differ():
    texts = ["indices.names=[],[NDVI,NDWI],[NDVI]", "train.seed=1,2", "audit.seed=8"]
    names = {experiment.name for experiment in draw_experiments(PARAMS, texts, count=6)}
    assert "names--NDVI-_train.seed-2_audit.seed-8" in names
    for name in names:
        assert subprocess.run(["git", "check-ref-format", f"refs/exps/{name}"]).returncode == 0


@pytest.mark.parametrize(
    ("texts", "count", "words"),
    [
        (["train.epochs"], 1, r"'train.epochs': expected NAME=VALUES"),
        (["train.epoch=1"], 1, r"train.epoch: no such setting in params.yaml \(did you mean 'train.epochs'\?\)"),
        (["train=1"], 1, r"train: no such setting in params.yaml"),
        (["train.epochs=1", "train.epochs=2"], 1, r"train.epochs is given twice"),
        (["train.weight_decay=1:0"], 3, r"the first number must be the smaller one"),
        (["train.weight_decay=log:0:1"], 3, r"must be the smaller one and more than 0"),
        (["train.weight_decay=a:b"], 3, r"expected two numbers"),
        (["train.weight_decay=0:1"], 0, r"-n 0: expected 1 or more"),
        (["train.epochs=1:3"], 4, r"-n 4: there are only 3 different experiments"),
        (["indices.names=["], 1, r"not values that YAML can read"),
        (["train.epochs=0,5,ten"], 3, r"(?s)nothing is queued:\n.*epochs: found 'ten': "),
        (["train.epochs=0,5,ten"], 3, r"(?s)nothing is queued:\n.*epochs: found 0: "),
        (["zones.k=3"], 1, r"nothing is queued:\nparams.yaml: zones.*folds must be \[0, 1, 2\]"),
    ],
)
def test_what_is_refused(texts, count, words):
    with pytest.raises(SweepError, match=words):
        draw_experiments(PARAMS, texts, count=count)


def test_settings_that_change_what_is_scored():
    names = [RATE, "ingest.bands", "ingest.area", "zones.seed", "model.blocks"]
    warnings = incomparable(names)
    assert [warning.split()[1] for warning in warnings] == ["ingest.area", "zones.seed"]


def test_a_dry_run_prints_lines_for_a_shell(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    shutil.copy(PARAMS, "params.yaml")
    assert main(["sweep", "--dry-run", "-n", "2", "indices.names=[NDVI]", "zones.seed=1,2"]) == 0
    captured = capsys.readouterr()
    assert sorted(captured.out.splitlines()) == [
        f"dvc exp run --queue -n names--NDVI-_seed-{seed} -S 'indices.names=[\"NDVI\"]' -S zones.seed={seed}"
        for seed in (1, 2)
    ]
    assert captured.err.startswith("landfold sweep: warning: zones.seed changes the patches")


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A repository of real git and DVC with a pipeline that does nothing."""
    folder = tmp_path / "clone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name, home in (("DVC_SITE_CACHE_DIR", "site"), ("DVC_GLOBAL_CONFIG_DIR", "global")):
        monkeypatch.setenv(name, str(tmp_path / home))
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    shutil.copy(PARAMS, folder)
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"train": {"cmd": "true", "params": ["train"]}}}))
    for line in ("git init -q", "git config user.email a@example.org", "git config user.name A", "dvc init -q"):
        subprocess.run(line.split(), check=True)
    for line in ("git add -A", "git commit -q -m one"):
        subprocess.run(line.split(), check=True)
    return folder


def test_the_queue_of_real_dvc(clone, capsys):
    assert main(["sweep", "-n", "2", f"{RATE}=1e-05,0.003", "indices.names=[NDVI]"]) == 0
    assert capsys.readouterr().out.endswith("2 experiments queued; run them by: dvc queue start\n")
    assert sweep.existing_names() == {f"learning_rate-{rate}_names--NDVI" for rate in (1e-05, 0.003)}
    queued = subprocess.run(
        ["git", "log", "-g", "--format=%H", "refs/exps/celery/stash"], capture_output=True, text=True
    )
    rates = set()
    for stash in queued.stdout.split():
        text = subprocess.run(
            ["git", "show", f"{stash}:params.yaml"], capture_output=True, text=True, check=True
        ).stdout
        (clone / "queued.yaml").write_text(text)
        rates.add(read(clone / "queued.yaml")["train"]["learning_rate"])
        assert "# highest learning rate of AdamW" in text, "comments stay"
    assert rates == {1e-05, 0.003}
    assert main(["sweep", "-n", "1", f"{RATE}=0.003", "indices.names=[NDVI]", "--dry-run"]) == 0
    assert capsys.readouterr().out == "", "what is queued already is not queued again"


def test_what_dvc_refuses_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    with pytest.raises(SweepError, match=r"^a: ERROR: .*; see landfold doctor$"):
        sweep.queue(Experiment("a", {}))
