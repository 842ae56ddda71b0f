import numpy as np
import pandas
import pytest
import torch

from landfold.folds.lists import read_fold
from landfold.folds.split import FoldError
from landfold.geo.raster import Raster
from landfold.geo.windows import WindowError
from landfold.network.dataset import ArrayExamples, load_windows
from landfold.network.errors import DatasetError
from tests import factories

SIZE = 16


def scene(folder, name, *, height=70, width=90, channels=("R", "N"), base=0.0):
    """A normalized scene whose pixels tell scene, channel, row and column."""
    rows, columns = np.mgrid[:height, :width]
    values = {c: (base + i * 0.25 + rows / 1000 + columns / 100_000).astype(np.float32) for i, c in enumerate(channels)}
    valid = ~((rows < 10) & (columns < 10))
    factories.write_raster(folder / f"{name}.tif", values, valid=valid)
    return np.stack(list(values.values()))


def places(rows):
    """A table of patches: (scene, row, column)."""
    scenes, row, column = zip(*rows, strict=True)
    table = pandas.DataFrame({"scene": scenes, "row": row, "column": column, "size_px": SIZE})
    return table.assign(patch=[f"{s}/{r}/{c}" for s, r, c in rows])


def test_windows_are_the_pixels_of_the_table_in_its_order(tmp_path):
    pixels = {"b": scene(tmp_path, "b"), "a": scene(tmp_path, "a", height=50, width=120, base=0.5)}
    table = places([("b", 54, 74), ("a", 0, 104), ("b", 0, 0), ("a", 34, 3), ("b", 7, 55), ("a", 34, 2)])
    table.index = [40, 30, 20, 10, 0, 50]
    windows, channels = load_windows(table, tmp_path)
    assert channels == ["R", "N"]
    assert (windows.shape, windows.dtype) == ((6, 2, SIZE, SIZE), np.float32)
    for window, place in zip(windows, table.itertuples(), strict=True):
        rows, columns = (slice(start, start + SIZE) for start in (place.row, place.column))
        assert np.array_equal(window, pixels[place.scene][:, rows, columns])


def test_refuses_a_scene_that_is_absent(tmp_path):
    scene(tmp_path, "a")
    with pytest.raises(WindowError, match=r"b.tif: not found, but patches were cut .*; run dvc repro normalize"):
        load_windows(places([("a", 0, 0), ("b", 0, 0)]), tmp_path)


@pytest.mark.parametrize("other", [("N", "R"), ("R", "N", "S1"), ("R",)])
def test_refuses_scenes_of_other_channels(tmp_path, other):
    scene(tmp_path, "a")
    scene(tmp_path, "b", channels=other)
    with pytest.raises(WindowError, match=rf"b.tif: channels {', '.join(other)}, other scenes have R, N"):
        load_windows(places([("b", 0, 0), ("a", 0, 0)]), tmp_path)


def test_refuses_an_empty_table(tmp_path):
    with pytest.raises(WindowError, match="no patches; expected a table"):
        load_windows(places([("a", 0, 0)])[:0], tmp_path)


def fold_files(folder, patches, listed):
    table = places([("a", 0, i) for i in patches]).assign(label="water")
    table.to_parquet(folder / "patches.parquet", index=False)
    sides = pandas.DataFrame({"patch": [f"a/0/{i}" for i in listed], "zone": [f"z{i}" for i in listed]})
    sides.assign(side=["train", "validation", "buffer"][: len(listed)]).to_parquet(
        folder / "fold_0.parquet", index=False
    )
    return folder / "patches.parquet", folder / "fold_0.parquet"


def test_a_fold_gives_each_patch_its_zone_and_side(tmp_path):
    table = read_fold(*fold_files(tmp_path, [5, 3, 8], [5, 3, 8]))
    assert list(table["patch"]) == ["a/0/5", "a/0/3", "a/0/8"]
    assert list(table["zone"]) == ["z5", "z3", "z8"]
    assert list(table["side"]) == ["train", "validation", "buffer"]
    assert list(table["label"]) == ["water"] * 3


@pytest.mark.parametrize("listed", [[3, 5, 8], [5, 3], [5, 3, 9]])
def test_refuses_a_fold_of_other_patches(tmp_path, listed):
    files = fold_files(tmp_path, [5, 3, 8], listed)
    with pytest.raises(FoldError, match=r"fold_0.parquet: does not list the patches of .*; run dvc repro zones"):
        read_fold(*files)


def test_refuses_a_fold_that_is_absent(tmp_path):
    patches, sides = fold_files(tmp_path, [5], [5])
    with pytest.raises(FoldError, match=r"fold_7.parquet: not found; expected the list of a fold"):
        read_fold(patches, sides.with_name("fold_7.parquet"))


TABLE = [("b", 54, 74), ("a", 0, 104), ("b", 0, 0), ("a", 34, 3)]
TABLE_GB = 4 * 4 * 2 * SIZE**2 / 1e9


def test_windows_above_the_limit_are_memory_mapped_from_a_file_without_a_name(tmp_path):
    scene(tmp_path, "b"), scene(tmp_path, "a", height=50, width=120, base=0.5)
    scratch = tmp_path / "scratch"
    held, _ = load_windows(places(TABLE), tmp_path, cache_gb=TABLE_GB, scratch=scratch)
    assert not isinstance(held, np.memmap)
    assert not scratch.exists()
    mapped, channels = load_windows(places(TABLE), tmp_path, cache_gb=TABLE_GB * 0.99, scratch=scratch)
    assert isinstance(mapped, np.memmap)
    assert list(scratch.iterdir()) == []
    assert np.array_equal(mapped, held)
    assert channels == ["R", "N"]


def test_a_file_that_is_asked_for_is_written_and_mapped_by_others(tmp_path):
    scene(tmp_path, "b"), scene(tmp_path, "a", height=50, width=120, base=0.5)
    held, _ = load_windows(places(TABLE), tmp_path)
    file = tmp_path / "windows"
    load_windows(places(TABLE), tmp_path, file=file)
    assert np.array_equal(np.memmap(file, np.float32, "r", shape=held.shape), held)


def test_each_scene_is_opened_once(tmp_path, monkeypatch):
    scene(tmp_path, "b"), scene(tmp_path, "a", height=50, width=120, base=0.5)
    opened, real = [], Raster.open
    monkeypatch.setattr(Raster, "open", lambda path: opened.append(path.name) or real(path))
    load_windows(places(TABLE), tmp_path, cache_gb=0, scratch=tmp_path)
    assert opened == ["a.tif", "b.tif"]


def test_too_little_memory_names_the_setting(tmp_path, monkeypatch):
    scene(tmp_path, "a")

    real = np.empty

    def full(shape, *arguments, **options):
        if np.ndim(shape) and len(shape) == 4:
            raise MemoryError
        return real(shape, *arguments, **options)

    monkeypatch.setattr(np, "empty", full)
    with pytest.raises(DatasetError, match=r"the patches take 0.0 GB, .*lower machine.cache_gb \(2\)"):
        load_windows(places([("a", 0, 0)]), tmp_path, cache_gb=2)


def test_examples_share_the_windows_and_give_batches_of_them_in_order():
    windows = np.arange(10 * 2 * 2 * 2, dtype=np.float32).reshape(10, 2, 2, 2)
    labels = np.arange(10) * 11
    examples = ArrayExamples(windows, labels, labels % 2 == 0)
    assert len(examples) == 5
    assert examples.targets.tolist() == [0, 22, 44, 66, 88]
    parts = [torch.tensor([4, 0]), torch.tensor([1]), torch.tensor([2, 3])]
    batches = list(examples.batches(parts, torch.device("cpu")))
    assert [target.tolist() for _, target in batches] == [[88, 0], [22], [44, 66]]
    for batch, target in batches:
        assert np.array_equal(batch.numpy(), windows[target.numpy() // 11])
    assert list(examples.batches([], torch.device("cpu"))) == []
    assert list(ArrayExamples(windows, labels).targets) == list(labels)
    windows[4] = -1
    assert (examples.gather(torch.tensor([2]))[0] == -1).all()


def test_a_failure_while_a_batch_is_gathered_is_raised():
    windows = np.zeros((3, 1, 2, 2), dtype=np.float32)
    examples = ArrayExamples(windows, np.zeros(3, dtype=np.int64))
    with pytest.raises(IndexError, match="out of"):
        list(examples.batches([torch.tensor([0]), torch.tensor([7])], torch.device("cpu")))
