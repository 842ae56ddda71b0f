import hashlib
import os
import sqlite3
import time
from contextlib import closing, contextmanager

import pytest

from landfold.scenes.cache import SceneTask, library_versions, run_cached

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


def rows(folder, query):
    with closing(sqlite3.connect(folder / ".dvc/tmp/landfold/store.sqlite")) as connection:
        found = connection.execute(query).fetchall()
        connection.commit()
    return found


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
    run_cached("x", [task(folder, name="old"), task(folder, name="used")], {}, code="", bar=silent)
    run_cached("y", [task(folder, name="other")], {}, code="", bar=silent)
    rows(folder, "UPDATE scenes SET used = 0")
    rows(folder, "UPDATE digests SET used = 0")
    store = folder / ".dvc/tmp/landfold"
    (store / "x/orphan").mkdir()
    (store / "x/young-orphan").mkdir()
    for place in [*store.glob("*/*")]:
        if place.name != "young-orphan":
            os.utime(place, (0, 0))
    run_cached("x", [task(folder, name="used")], {}, code="", bar=silent)
    kept = {path.name for path in store.glob("x/*/*")}
    assert kept == {"used.txt"}
    assert {path.name for path in (store / "x").iterdir() if not any(path.iterdir())} == {"young-orphan"}
    assert len(rows(folder, "SELECT * FROM scenes")) == 1
    assert run_cached("x", [task(folder, name="used")], {}, code="", bar=silent).unchanged == 1


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


def test_a_damaged_database_is_made_anew(folder):
    run_cached("x", [task(folder)], {}, code="", bar=silent)
    (folder / ".dvc/tmp/landfold/store.sqlite").write_bytes(b"\0garbage" * 4096)
    assert run_cached("x", [task(folder)], {}, code="", bar=silent).unchanged == 0
    assert run_cached("x", [task(folder)], {}, code="", bar=silent).unchanged == 1


def test_without_dvc_there_is_no_store(folder):
    (folder / ".dvc").rmdir()
    for _ in range(2):
        assert run_cached("x", [task(folder)], {}, code="", bar=silent).unchanged == 0
    assert sorted(path.name for path in folder.iterdir()) == ["in.txt", "out"]


def test_libraries_are_told_with_gdal_and_proj():
    versions = library_versions()
    assert {"numpy.__version__", "rasterio.__gdal_version__", "rasterio.__proj_version__"} <= set(versions)
    assert all(any(c.isdigit() for c in text) for text in versions.values())
