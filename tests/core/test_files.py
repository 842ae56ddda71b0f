import json
import os

import pytest

from landfold.core.digests import file_sha256
from landfold.core.files import main_checkout, read_json, write_json, writing, writing_folder
from tests.factories import leftovers, tree


def test_a_file_appears_only_when_its_block_succeeds(tmp_path):
    path = tmp_path / "new" / "map.tif"
    with writing(path) as temporary:
        temporary.write_text("whole")
        assert temporary.suffix == ".tif"
        assert temporary.parent == path.parent
        assert not path.exists()
    assert path.read_text() == "whole"
    assert leftovers(tmp_path) == []


def test_a_failure_leaves_the_earlier_file_and_nothing_else(tmp_path):
    path = tmp_path / "map.tif"
    path.write_text("earlier")
    with pytest.raises(RuntimeError, match="in the middle"), writing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("in the middle")
    assert tree(tmp_path) == {"map.tif": file_sha256(path)}
    assert path.read_text() == "earlier"


def test_a_folder_replaces_the_earlier_one_as_a_whole(tmp_path):
    path = tmp_path / "data" / "scenes"
    with writing_folder(path) as temporary:
        (temporary / "old.txt").write_text("old")
    with writing_folder(path) as temporary:
        assert list(temporary.iterdir()) == []
        (temporary / "new.txt").write_text("new")
        assert [p.name for p in path.iterdir()] == ["old.txt"]
    assert [p.name for p in path.iterdir()] == ["new.txt"]
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_the_earlier_folder_and_nothing_else(tmp_path, error):
    path = tmp_path / "scenes"
    with writing_folder(path) as temporary:
        (temporary / "a.txt").write_text("a")
    before = tree(tmp_path)
    with pytest.raises(error, match="in the middle"), writing_folder(path) as temporary:
        (temporary / "b.txt").write_text("b")
        raise error("in the middle")
    assert tree(tmp_path) == before
    assert leftovers(tmp_path) == []


def test_the_earlier_folder_comes_back_when_the_last_rename_fails(tmp_path, monkeypatch):
    path = tmp_path / "scenes"
    with writing_folder(path) as temporary:
        (temporary / "a.txt").write_text("a")
    before = tree(tmp_path)
    rename = os.replace

    def refuse_new(source, target):
        if ".partial-" in str(source):
            raise OSError("refused")
        rename(source, target)

    monkeypatch.setattr("landfold.core.files.os.replace", refuse_new)
    with pytest.raises(OSError, match="refused"), writing_folder(path) as temporary:
        (temporary / "b.txt").write_text("b")
    assert tree(tmp_path) == before
    assert leftovers(tmp_path) == []


def test_json_is_sorted_readable_and_equal_for_equal_content(tmp_path):
    first, second = tmp_path / "1.json", tmp_path / "2.json"
    write_json(first, {"b": [1, 2.5], "a": "größe"})
    write_json(second, {"a": "größe", "b": [1, 2.5]})
    assert first.read_bytes() == second.read_bytes()
    assert first.read_text(encoding="utf-8").startswith('{\n  "a": "größe",\n  "b"')
    assert first.read_text(encoding="utf-8").endswith("}\n")
    assert read_json(first) == {"a": "größe", "b": [1, 2.5]}


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_json_without_meaning_is_refused_and_not_written(tmp_path, number):
    path = tmp_path / "1.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"a": number})
    assert json.loads(path.read_text()) == {"a": 1}


@pytest.mark.parametrize(
    ("workspace", "expected"),
    [
        ("repo/.dvc/tmp/exps/standalone/tmp1", "repo"),
        ("repo/.dvc/tmp/exps/tmp2/data", "repo"),
        ("repo", "repo"),
        ("repo/.dvc/tmp", "repo/.dvc/tmp"),
    ],
)
def test_the_main_checkout_of_a_workspace(tmp_path, workspace, expected):
    assert main_checkout(tmp_path / workspace) == tmp_path / expected
