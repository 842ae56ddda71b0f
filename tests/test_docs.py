"""What the documentation names is there: files that it links to, commands, and targets of make."""

import re
from argparse import _SubParsersAction
from urllib.parse import unquote

import pytest

from landfold.cli import _parser
from landfold.core.settings import read, validate
from landfold.network.settings import ModelSettings
from landfold.params import Params
from tests.imports import ROOT
from tests.kinds import switched

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = next(set(action.choices) for action in _parser()._actions if isinstance(action, _SubParsersAction))
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), flags=re.MULTILINE))


def code(text: str) -> str:
    """Blocks and spans of code, one a line: prose may say "landfold reads" or "make sure"."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    return "\n".join([*blocks, *spans])


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8"))
    local = [unquote(link.partition("#")[0]) for link in links if not re.match(r"[a-z]+:|#", link)]
    assert [link for link in local if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_commands_and_targets_exist(page):
    text = code(page.read_text("utf-8"))
    named = set(re.findall(r"(?:^|[|&;(] *)landfold ([a-z][\w-]*)", text, flags=re.MULTILINE))
    assert named <= COMMANDS
    assert set(re.findall(r"(?:^|[|&;(] *)make ([a-z]+)", text, flags=re.MULTILINE)) <= TARGETS


def test_every_picture_is_shown_and_small():
    pictures = sorted((ROOT / "docs/images").glob("*.png"))
    text = "".join(page.read_text("utf-8") for page in PAGES)
    assert pictures
    assert [path.name for path in pictures if f"images/{path.name})" not in text] == []
    assert max(path.stat().st_size for path in pictures) < 150_000


def test_the_default_network_is_one_of_pixels():
    params = validate(read(ROOT / "params.yaml"), Params, where="params.yaml:")
    assert (params.labels.unit, params.model.kind) == ("pixel", "surroundings")
    assert set(ModelSettings.USES) == {"surroundings", "classical", "segmentation", "classifier"}


@pytest.mark.parametrize(("kind", "unit"), [("classifier", "patch"), ("classical", "pixel"), ("segmentation", "pixel")])
def test_the_settings_that_lead_to_another_kind_are_complete(kind, unit, tmp_path):
    params = validate(switched(kind, tmp_path), Params, where="params.yaml:")
    assert (params.labels.unit, params.model.kind) == (unit, kind)


def test_what_the_tests_look_for_is_found():
    text = code((ROOT / "README.md").read_text("utf-8"))
    assert {"inspect", "predict", "doctor"} <= COMMANDS
    assert {"repro", "test", "ui"} <= TARGETS
    assert "landfold predict" in text
    assert "make repro" in text
