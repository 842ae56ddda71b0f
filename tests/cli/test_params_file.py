import difflib
import os
import shutil
import stat
from pathlib import Path

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landfold.cli.inspection.commented_yaml import commented
from landfold.cli.inspection.params_file import ParamsFileError, write_settings
from landfold.core import settings
from tests.factories import leftovers

REPOSITORY = Path(__file__).parents[2] / "params.yaml"


def copy(folder, text=None):
    path = folder / "params.yaml"
    if text is None:
        shutil.copy(REPOSITORY, path)
    else:
        path.write_text(text, encoding="utf-8")
    return path


def section(name, /, **values):
    content = settings.read(REPOSITORY)[name] | values
    return {name: commented((key, value, "") for key, value in content.items())}


def changed_lines(path, before=None):
    before = (before or REPOSITORY.read_text(encoding="utf-8")).splitlines()
    diff = list(difflib.unified_diff(before, path.read_text(encoding="utf-8").splitlines(), n=0, lineterm=""))[2:]
    return [line for line in diff if not line.startswith("@@")]


def test_what_is_equal_is_not_touched(tmp_path):
    path = copy(tmp_path)
    written = path.stat().st_mtime_ns
    assert write_settings(path, section("ingest") | section("zones") | section("card")) == []
    assert path.stat().st_mtime_ns == written


def test_comments_and_the_place_of_lines_are_kept(tmp_path):
    path = copy(tmp_path)
    new = section("project", name="x: y") | section("patches", max_invalid=0.5) | section("ingest", bands=["B", "G"])
    assert write_settings(path, new) == ["project.name", "patches.max_invalid", "ingest.bands"]
    assert changed_lines(path) == [
        "-  name: landfold-brandenburg  # the MLflow experiment",
        '+  name: "x: y"                # the MLflow experiment',
        "-  bands: [A, B, G, R, RE1, RE2, RE3, N, N2, WV, CIRRUS, S1, S2]",
        "+  bands: [B, G]",
        "-  max_invalid: 0.20           # a patch with a larger share of nodata or cloud is dropped, and counted",
        "+  max_invalid: 0.5            # a patch with a larger share of nodata or cloud is dropped, and counted",
    ]
    assert write_settings(path, new) == []
    assert leftovers(tmp_path) == []


def test_other_classes_take_the_place_of_the_former_ones(tmp_path):
    path = copy(tmp_path)
    classes = commented([("crop", ["crop", "no"], ""), ("water", ["water"], "")], depth=2)
    new = section("labels", classes=classes) | {"colours": commented([("crop", "#ffffff", "")])}
    assert write_settings(path, new) == ["labels.classes", "colours"]
    added = [line for line in changed_lines(path) if line.startswith("+")]
    assert added == ['+    crop: [crop, "no"]', '+  crop: "#ffffff"']
    text = path.read_text(encoding="utf-8")
    assert "    water: [water]\n  exclude: []" in text
    assert '  crop: "#ffffff"\n\ntrack:' in text
    assert settings.read(path)["labels"]["classes"] == {"crop": ["crop", "no"], "water": ["water"]}


def test_folded_text_and_lists_of_lines_keep_their_comments(tmp_path):
    path = copy(tmp_path)
    assert write_settings(path, section("card", licence="CC-BY 4.0: ours", limits=[])) == [
        "card.licence",
        "card.limits",
    ]
    tail = path.read_text(encoding="utf-8").partition("card:")[2].splitlines()[1:]
    assert [line.partition("#")[0].rstrip() for line in tail] == [
        "  licence: >-",
        "    CC-BY 4.0: ours",
        "  limits: []",
    ]
    assert all("  # " in tail[i] for i in (0, 2))


def test_what_stands_below_a_list_of_lines_stays(tmp_path):
    path = copy(tmp_path, "card:\n  limits: # each\n    - one\n    - two\n\n  # on the licence\n  licence: a\n# end\n")
    assert write_settings(path, {"card": commented([("limits", [], ""), ("licence", "b", "")])})
    text = path.read_text(encoding="utf-8")
    assert text == "card:\n  limits: [] # each\n\n  # on the licence\n  licence: b\n# end\n"


def test_a_section_that_is_absent_comes_to_the_end_with_its_comments(tmp_path):
    path = copy(tmp_path, "project:\n  name: a\n")
    assert write_settings(path, {"colours": commented([("crop", "#ffffff", "of fields")])}) == ["colours"]
    assert path.read_text(encoding="utf-8").startswith("project:\n  name: a\ncolours:\n")
    assert "# of fields" in path.read_text(encoding="utf-8")


def test_line_ends_permissions_and_links_are_kept(tmp_path):
    (tmp_path / "real").mkdir()
    path = tmp_path / "real/params.yaml"
    path.write_bytes(b"project:\r\n  name: a  # one\r\n")
    path.chmod(0o640)
    link = tmp_path / "params.yaml"
    link.symlink_to(path)
    assert write_settings(link, {"project": commented([("name", "b", "")])}) == ["project.name"]
    assert link.is_symlink()
    assert path.read_bytes() == b"project:\r\n  name: b  # one\r\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_refusals(tmp_path, monkeypatch):
    new = {"project": commented([("name", "b", "")])}
    with pytest.raises(settings.SettingsError, match=r"absent\.yaml: not found"):
        write_settings(tmp_path / "absent.yaml", new)
    with pytest.raises(settings.SettingsError, match="not valid YAML"):
        write_settings(copy(tmp_path, "a: ["), new)
    path = copy(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # a superuser may write anything
    with pytest.raises(ParamsFileError, match=r"params\.yaml: may not be written; change its permissions"):
        write_settings(path, new)
    assert changed_lines(path) == []


@hypothesis.settings(deadline=None, max_examples=40)
@given(st.dictionaries(st.text(max_size=8), st.lists(st.text(max_size=8), max_size=3), min_size=1, max_size=4))
def test_any_classes_come_back_and_are_written_once(tmp_path_factory, classes):
    text = "labels: # a\n  classes: # b\n    a: [a]\n    b: [b] # c\n\n  # d\n  exclude: []\n"
    path = copy(tmp_path_factory.mktemp("any"), text)
    lists = commented(((name, values, "") for name, values in classes.items()), depth=2)
    new = {"labels": commented([("classes", lists, ""), ("exclude", [], "")])}
    write_settings(path, new)
    assert settings.read(path) == {"labels": {"classes": classes, "exclude": []}}
    assert path.read_text(encoding="utf-8").endswith("\n\n  # d\n  exclude: []\n")
    assert write_settings(path, new) == []
