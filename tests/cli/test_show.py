"""`landfold show`: results of real score tables, named as git and DVC name them, and their paired difference."""

import dataclasses
import json
import subprocess

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from landfold.cli import main, show
from landfold.cli.results import Result, ResultError, compare_results, read_result
from landfold.core.files import write_json
from landfold.scores.intervals import compare
from landfold.scores.summary import score_tables
from tests.imports import ROOT
from tests.scores.test_summary import pool


def better(base):
    """The same patches, predicted by what was called the network under random folds: nine of ten are right."""
    return dataclasses.replace(base, table=base.table.assign(predicted=base.table["predicted_random"]))


def result(pool, name="base", **changes):
    return Result(name, score_tables(pool) | changes)


def git(*arguments):
    done = subprocess.run(["git", *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A commit with a result; `slower`, an experiment of it; a first commit without one; `old`, its experiment."""
    monkeypatch.chdir(tmp_path)
    git("init", "-q", "-b", "main")
    git("config", "user.email", "a@example.org")
    git("config", "user.name", "A")
    git("commit", "-q", "--allow-empty", "-m", "first")
    first = git("rev-parse", "HEAD")
    for name, content in (("better", better(pool())), ("base", pool())):
        write_json(tmp_path / "metrics/scores.json", score_tables(content))
        git("add", "-A")
        git("commit", "-q", "-m", name)
    base, experiment = git("rev-parse", "HEAD", "HEAD~1").split()
    for commit, name in ((base, "slower"), (first, "old"), (first, "slower")):
        git("update-ref", f"refs/exps/{commit[:2]}/{commit[2:]}/{name}", experiment if commit == base else commit)
    return tmp_path


def shown(capsys, *arguments):
    assert main(["show", *arguments]) == 0
    return capsys.readouterr().out


def test_the_workspace_is_shown_with_its_intervals(repository, capsys):
    scores = json.loads((repository / "metrics/scores.json").read_text())
    text = shown(capsys)
    for score in (scores["headline"]["accuracy"], scores["headline"]["macro_f1"], scores["per_class"][0]["f1"]):
        assert f"{score['pooled']:.3f} ({score['low']:.3f} to {score['high']:.3f})" in text
    assert f"240 patches of {scores['zones']} zones" in text
    assert "network minus baseline" in text
    assert f"worst zone: {scores['zone_summary']['worst']['zone']} in fold" in text
    assert next(line.split()[:3] for line in text.splitlines() if line.startswith("lava")) == ["lava", "0", "-"]


def test_a_result_of_pixels_has_rows_of_both(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    scores = json.loads((ROOT / "metrics/scores.json").read_text())
    rows = {row["of"]: row for row in json.loads(shown(capsys, "--json"))["scores"]}
    first, *_, last = rows.values()
    assert first["accuracy"] == scores["pixels"]["headline"]["accuracy"]
    assert last["macro_f1"] == scores["headline"]["macro_f1"]
    assert rows["interior pixels"]["accuracy"] == scores["pixels"]["interior"]["accuracy"]
    gap = next(row for row in scores["pixels"]["comparisons"] if row["comparison"] == "random_pixels")
    assert rows["random pixels minus zones"]["accuracy"]["pooled"] == gap["difference"]
    assert f"{gap['difference']:+.3f}" in shown(capsys)


def test_the_interval_over_zones_is_that_of_the_scores():
    """As from the confusion of each zone, but for the four digits of metrics/scores.json."""
    first, second = pool(), better(pool())
    *_, expected = compare(first.zone_confusions(), second.zone_confusions())
    found = compare_results(result(first), result(second, "other"))["scores"]["accuracy"]["difference"]
    assert found == pytest.approx(expected["accuracy"], abs=2e-4)
    assert found["low"] > 0


def test_the_interval_over_folds_is_wider_than_that_of_independent_folds():
    found = compare_results(result(pool()), result(better(pool()), "other"))
    for name in ("accuracy", "macro_f1"):
        differences = [row[name]["difference"] for row in found["per_fold"]]
        low, high = stats.t.interval(0.95, 2, np.mean(differences), stats.sem(differences))
        over = found["scores"][name]["over_folds"]
        assert over["pooled"] == pytest.approx(np.mean(differences), abs=1e-4)
        assert over["high"] - over["low"] == pytest.approx((high - low) * np.sqrt(3 * (1 / 3 + 1 / 2)), abs=2e-4)


def test_with_repeats_the_interval_is_one_over_folds(capsys):
    found = compare_results(result(pool(repeats=2)), result(better(pool(repeats=2)), "other"))
    assert found["scores"]["accuracy"]["difference"]["low"] is None
    assert found["scores"]["accuracy"]["over_folds"]["low"] > 0
    assert len(found["per_fold"]) == 6


def other_folds(pool):
    """Three folds of as many patches, dealt anew."""
    zones = pool.table["zone"].str[1:3].astype(int)
    return dataclasses.replace(pool, table=pool.table.assign(fold=(zones // 4)))


@pytest.mark.parametrize(
    ("other", "words", "zones"),
    [
        (result(pool(zones=11)), "zones differ", False),
        (result(pool(count=239)), "zones differ", False),
        (result(pool(), classes=["water", "farm", "bog", "ice"]), "classes differ", False),
        (result(other_folds(better(pool()))), "folds differ", True),
    ],
)
def test_what_is_not_of_the_same_ground_is_not_paired(other, words, zones, capsys):
    found = compare_results(result(pool()), Result("other", other.scores))
    (warning,) = found["warnings"]
    assert words in warning
    difference = found["scores"]["accuracy"]["difference"]
    assert (difference is not None and difference["low"] < difference["pooled"] < difference["high"]) == zones
    assert found["per_fold"] == []
    show._print_difference(found, Console(width=120))
    out = capsys.readouterr().out
    assert ("other minus base" in out) == zones
    assert f"warning: {warning}" in out.replace("\n", " ")


def test_networks_of_pixels_and_of_patches_are_compared_on_patches(monkeypatch):
    monkeypatch.chdir(ROOT)
    pixels = read_result("workspace")
    patches = Result("patches", {name: table for name, table in pixels.scores.items() if name != "pixels"})
    found = compare_results(pixels, patches)
    assert (found["unit"], found["count"]) == ("patches", pixels.scores["patches"])
    assert found["warnings"] == ["one network is of pixels, the other of patches: they are compared on patches"]


def test_an_experiment_is_compared_with_its_base(repository, capsys):
    text = shown(capsys, "HEAD", "slower")
    assert "slower minus HEAD" in text
    assert "mean over folds" in text
    assert "By the 95 % interval over zones, slower is better than HEAD in accuracy." in text
    assert "HEAD is worse than slower" in shown(capsys, "slower", "HEAD")
    rows = [line.split() for line in text.splitlines() if line[:1].isdigit()][1:]
    for row, fold in zip(rows, json.loads(shown(capsys, "HEAD", "slower", "--json"))["per_fold"], strict=True):
        assert row[2:5] == [f"{fold['accuracy'][part]:{style}.3f}" for part, style in PARTS]


PARTS = (("base", ""), ("other", ""), ("difference", "+"))


def test_equal_results_say_so(repository, capsys):
    text = shown(capsys, "HEAD", "workspace")
    assert "The accuracy is the same in every fold." in text
    assert "(-" not in text, "no interval of what does not differ"


def test_names_are_those_of_git_or_of_experiments(repository):
    branch, experiment = read_result("main"), read_result("slower")
    assert branch.scores == read_result("workspace").scores == read_result(git("rev-parse", "HEAD")[:8]).scores
    assert experiment.scores == read_result("HEAD~1").scores
    assert experiment.scores != branch.scores


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("slowr", r"slowr: no such commit, branch, tag or experiment \(did you mean 'slower'\?\)"),
        ("HEAD~2", r"HEAD~2:metrics/scores.json: not found; `git log --all -- metrics/scores.json`"),
        ("old", r"old:metrics/scores.json: not found"),
        ("--all", r"--all: no such commit"),
    ],
)
def test_a_result_that_is_not_there(repository, name, words):
    with pytest.raises(ResultError, match=words):
        read_result(name)


def test_an_experiment_of_several_commits(repository):
    git("commit", "-q", "--allow-empty", "-m", "next")
    with pytest.raises(ResultError, match=r"slower: experiments of several commits \(\w{7}, \w{7}\); give the hash"):
        read_result("slower")


def test_scores_that_cannot_be_read(repository, capsys):
    file = repository / "metrics/scores.json"
    file.write_text("<<<<<<< HEAD\n{}")
    with pytest.raises(ResultError, match=r"^metrics/scores.json: no JSON"):
        read_result("workspace")
    for content in ("{}", "[]"):
        file.write_text(content)
        with pytest.raises(ResultError, match=r"^metrics/scores.json: no classes, comparisons, .*of another version"):
            read_result("workspace")
    file.unlink()
    assert main(["show"]) == 1
    assert capsys.readouterr().err.startswith("landfold show: metrics/scores.json: not found; run `dvc repro`")


def test_outside_of_a_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(ResultError, match=r"^main: no git repository"):
        read_result("main")
