import itertools

import numpy as np
import pandas
import pytest
import torch

from landfold.dataset import DatasetError, load_windows, read_fold, turned
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
    with pytest.raises(DatasetError, match=r"b.tif: not found, but patches were cut .*; run dvc repro normalize"):
        load_windows(places([("a", 0, 0), ("b", 0, 0)]), tmp_path)


@pytest.mark.parametrize("other", [("N", "R"), ("R", "N", "S1"), ("R",)])
def test_refuses_scenes_of_other_channels(tmp_path, other):
    scene(tmp_path, "a")
    scene(tmp_path, "b", channels=other)
    with pytest.raises(DatasetError, match=rf"b.tif: channels {', '.join(other)}, other scenes have R, N"):
        load_windows(places([("b", 0, 0), ("a", 0, 0)]), tmp_path)


def test_refuses_an_empty_table(tmp_path):
    with pytest.raises(DatasetError, match="no patches to load"):
        load_windows(places([("a", 0, 0)])[:0], tmp_path)


def test_the_eight_symmetries_are_those_of_the_square():
    window = torch.arange(2 * 25).reshape(1, 2, 5, 5)
    found = turned(window.expand(8, -1, -1, -1), torch.arange(8)).numpy()
    plain = window[0].numpy()
    for number in range(8):
        start = plain[:, :, ::-1] if number >= 4 else plain
        assert np.array_equal(found[number], np.rot90(start, number % 4, axes=(1, 2)))
    assert len({image.tobytes() for image in found}) == 8
    assert np.array_equal(found[0], plain)


def test_the_symmetries_are_a_group():
    window = torch.arange(9).reshape(1, 1, 3, 3)
    images = {turned(window, torch.tensor([number])).numpy().tobytes() for number in range(8)}
    for first, second in itertools.product(range(8), repeat=2):
        both = turned(turned(window, torch.tensor([first])), torch.tensor([second]))
        assert both.numpy().tobytes() in images


def test_each_window_is_turned_by_its_own_number_and_the_input_stays():
    windows = torch.rand(20, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    before = windows.clone()
    turns = torch.tensor([7, 0, 3, 3, 5] * 4)
    together = turned(windows, turns)
    for i in range(20):
        assert torch.equal(together[i : i + 1], turned(windows[i : i + 1], turns[i : i + 1]))
    assert torch.equal(windows, before)


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
    with pytest.raises(DatasetError, match=r"fold_0.parquet: does not list the patches of .*; run dvc repro zones"):
        read_fold(*files)


def test_refuses_a_fold_that_is_absent(tmp_path):
    patches, sides = fold_files(tmp_path, [5], [5])
    with pytest.raises(DatasetError, match=r"fold_7.parquet: not found; expected the list of a fold"):
        read_fold(patches, sides.with_name("fold_7.parquet"))
