import hashlib
import json
import os
import time
from contextlib import contextmanager

import pytest

from landfold.scenes.cache import SceneTask, run_cached

OLD = time.time() - 3600


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A repository with one input and a folder for outputs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "in.txt").write_text("one")
    return tmp_path


@contextmanager
def silent(_):
    yield lambda fraction: None


def task(folder, *, name="s", source="in.txt", facts=None, result="done", made=None):
    """A scene whose output is its input in capitals; ``made`` takes the names of those worked on."""
    target = folder / f"out/{name}.txt"

    def make(progress):
        if made is not None:
            made.append(name)
        temporary = target.with_name(".partial-x")
        temporary.write_text((folder / source).read_text().upper())
        os.replace(temporary, target)
        return result

    return SceneTask(name, [folder / source], [target], make, facts)


@pytest.mark.parametrize("result", [None, {"a": [1.5, "ü"], "b": None}, b"\x00\xff", ""])
def test_a_result_comes_back_as_it_was(folder, result):
    first = run_cached("x", [task(folder, result=result)], {}, code="", bar=silent)
    again = run_cached("x", [task(folder, result="other")], {}, code="", bar=silent)
    assert (first.tally, again.tally) == ("1 computed, 0 unchanged", "0 computed, 1 unchanged")
    assert first.results == again.results == {"s": result}


def test_a_kept_file_is_a_link_of_the_output(folder):
    for _ in range(2):
        run_cached("x", [task(folder)], {}, code="", bar=silent)
        (kept,) = (folder / ".dvc/tmp/landfold/x").glob("*/s.txt")
        assert kept.samefile(folder / "out/s.txt")
        assert kept.read_text() == "ONE"


def test_without_links_copies_serve(folder, monkeypatch):
    def refuse(*_):
        raise OSError("no links here")

    monkeypatch.setattr("landfold.scenes.cache.os.link", refuse)
    made = []
    for _ in range(2):
        run_cached("x", [task(folder, made=made)], {}, code="", bar=silent)
        (folder / "out/s.txt").write_text("edited")  # is nothing to the copy that is kept
    run_cached("x", [task(folder, made=made)], {}, code="", bar=silent)
    assert (folder / "out/s.txt").read_text() == "ONE"
    assert made == ["s"]
    assert [path.name for path in folder.rglob(".partial*")] == []


@pytest.mark.parametrize(
    "change",
    [
        {"stage": "y"},
        {"settings": {"a": 2}},
        {"facts": [2]},
        {"name": "t"},
        {"content": "two"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_key_holds_all_that_an_output_is_made_from(folder, change):
    made = []

    def run(stage="x", settings=None, facts=(1,), name="s", content="one"):
        (folder / "in.txt").write_text(content)
        run_cached(stage, [task(folder, facts=facts, name=name, made=made)], settings or {"a": 1}, code="", bar=silent)

    run()
    run()
    assert len(made) == 1
    run(**change)
    assert len(made) == 2
    run()
    assert len(made) == 2


def test_a_missing_input_is_for_the_maker_to_refuse(folder, capsys):
    with pytest.raises(FileNotFoundError, match=r"absent\.txt"):
        run_cached("x", [task(folder, source="absent.txt")], {}, code="", bar=silent)
    outcome = run_cached(
        "x", [task(folder, source="absent.txt"), task(folder)], {}, code="", bar=silent, refusals=(FileNotFoundError,)
    )
    assert list(outcome.results) == ["s"]
    assert "absent.txt" in outcome.refusals["s"]
    assert capsys.readouterr().err == ""


def test_digests_are_noted_but_of_files_changed_a_moment_ago(folder, monkeypatch):
    read = []

    def counting(path):
        if path.suffix == ".txt":
            read.append(path.name)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    monkeypatch.setattr("landfold.scenes.cache.file_sha256", counting)
    for _ in range(2):
        run_cached("x", [task(folder)], {}, code="", bar=silent)
    assert read == ["in.txt"] * 2, "it is fresh"
    os.utime(folder / "in.txt", (OLD, OLD))
    for stage in ("x", "x", "y"):
        run_cached(stage, [task(folder)], {}, code="", bar=silent)
    assert read == ["in.txt"] * 3
    (folder / "in.txt").write_text("two")
    os.utime(folder / "in.txt", (OLD + 1, OLD + 1))
    run_cached("x", [task(folder)], {}, code="", bar=silent)
    assert read == ["in.txt"] * 4
    assert (folder / "out/s.txt").read_text() == "TWO"


def test_a_link_in_another_place_needs_no_reading(folder, monkeypatch):
    os.utime(folder / "in.txt", (OLD, OLD))
    run_cached("x", [task(folder)], {}, code="", bar=silent)
    os.link(folder / "in.txt", folder / "linked.txt")
    monkeypatch.setattr("landfold.scenes.cache.file_sha256", lambda path: pytest.fail(f"read {path}"))
    run_cached("x", [task(folder, source="linked.txt")], {}, code="", bar=silent)


def test_a_folder_counts_with_all_that_is_in_it(folder):
    (folder / "labels/deep").mkdir(parents=True)
    made = []

    def run():
        scene = task(folder, made=made)
        scene = SceneTask(scene.name, [*scene.inputs, folder / "labels"], scene.outputs, scene.make)
        run_cached("x", [scene], {}, code="", bar=silent)
        return len(made)

    assert [run(), run()] == [1, 1]
    (folder / "labels/deep/a.dbf").write_text("a")
    assert [run(), run()] == [2, 2]
    (folder / "labels/deep/a.dbf").rename(folder / "labels/deep/b.dbf")
    assert run() == 3


def test_what_no_run_has_used_for_long_is_removed(folder):
    for path in ("old.txt", "used.txt"):
        (folder / path).write_text(path)
        os.utime(folder / path, (OLD, OLD))
    old, used = (task(folder, name=name, source=f"{name}.txt") for name in ("old", "used"))
    run_cached("x", [old, used], {}, code="", bar=silent)
    run_cached("y", [task(folder, name="other")], {}, code="", bar=silent)
    cache = folder / ".dvc/tmp/landfold"
    (cache / "x/.partial-1-a").mkdir()
    (cache / "x/young").mkdir()
    digests = json.loads((cache / "digests.json").read_text())
    assert len(digests) == 2
    (cache / "digests.json").write_text(json.dumps({file: [sha256, 0] for file, (sha256, _) in digests.items()}))
    for place in [*cache.glob("*/*")]:
        if place.name != "young":
            os.utime(place, (0, 0))
    assert run_cached("x", [used], {}, code="", bar=silent).unchanged == 1
    assert {path.name for path in cache.glob("x/*/*")} == {"used.txt", "result"}
    assert {path.name for path in (cache / "x").iterdir() if not any(path.iterdir())} == {"young"}
    assert len([*cache.glob("y/*")]) == 1, "other stages remove their own"
    assert len(json.loads((cache / "digests.json").read_text())) == 1
    assert run_cached("x", [used], {}, code="", bar=silent).unchanged == 1


def test_a_fault_of_the_store_is_told_once_and_costs_its_use_alone(folder, capsys):
    (folder / ".dvc/tmp").touch()
    outcome = run_cached("x", [task(folder), task(folder, name="t")], {}, code="", bar=silent)
    assert list(outcome.results) == ["s", "t"]
    err = capsys.readouterr().err
    assert err.startswith("x: warning: the scene cache is not used: ")
    assert err.count("\n") == 1


def test_a_store_that_fails_half_way_costs_its_use_alone(folder, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("landfold.scenes.cache._link", full)
    outcome = run_cached("x", [task(folder), task(folder, name="t")], {}, code="", bar=silent)
    assert list(outcome.results) == ["s", "t"]
    assert capsys.readouterr().err.count("No space left on device") == 1


@pytest.mark.parametrize("name", ["digests.json", "x/*/result", "x/*/s.txt"])
@pytest.mark.parametrize("content", [b"", b"\0garbage" * 9, None])
def test_a_damaged_cache_is_made_anew(folder, name, content, capsys):
    def run():
        unchanged = run_cached("x", [task(folder)], {}, code="", bar=silent).unchanged
        assert (folder / "out/s.txt").read_text() == "ONE"
        return unchanged

    run()
    (folder / "out/s.txt").unlink()
    [path] = (folder / ".dvc/tmp/landfold").glob(name)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert run() == (name == "digests.json")
    assert run() == 1
    assert capsys.readouterr().err == ""


def test_without_dvc_there_is_no_store(folder):
    (folder / ".dvc").rmdir()
    for _ in range(2):
        assert run_cached("x", [task(folder)], {}, code="", bar=silent).unchanged == 0
    assert sorted(path.name for path in folder.iterdir()) == ["in.txt", "out"]
