import numpy as np
import pandas
import pytest
from rasterio.windows import Window

from landfold.pixels.counts import COLUMNS, SAMPLE_PIXELS, PatchMeans, PixelCounts, PixelSample, is_boundary

CLASSES = ["field", "water"]


def test_a_boundary_pixel_has_another_label_or_none_among_its_eight_neighbours():
    labels = np.ones((7, 8), dtype=np.uint8)
    labels[1, 1] = 0
    labels[5:, 6:] = 2
    expected = np.zeros((5, 6), dtype=bool)
    expected[:2, :2] = True  # around the pixel without a label, which is the first that is asked for
    expected[3:, 4:] = True
    assert np.array_equal(is_boundary(labels), expected)
    assert not is_boundary(np.full((5, 5), 2, dtype=np.uint8)).any()


def known() -> tuple[np.ndarray, ...]:
    """Zones, boundary, labels and probabilities of six pixels."""
    first = np.array([0.95, 0.93, 0.45, 0.95, 1.0, 0.875], dtype=np.float32)
    return (
        np.array(["E1", "E1", "E1", "E0", "E1", "E1"], dtype=object),
        np.array([False, False, False, False, False, True]),
        np.array([0, 0, 0, 0, 1, 0]),
        np.column_stack([first, 1 - first]),
    )


def test_pixels_are_counted_by_zone_boundary_class_and_prediction():
    counts = PixelCounts(CLASSES)
    counts.add(*known())
    table = counts.table()
    assert list(table.columns) == [*COLUMNS, "pixels"]
    assert sorted(table.itertuples(index=False, name=None)) == [
        ("E0", False, "field", "field", 1),
        ("E1", False, "field", "field", 2),
        ("E1", False, "field", "water", 1),
        ("E1", False, "water", "field", 1),
        ("E1", True, "field", "field", 1),
    ]


def numbered(first: int, count: int) -> tuple[np.ndarray, ...]:
    """Zones, labels and probabilities of pixels that tell their number."""
    numbers = np.arange(first, first + count)
    share = (numbers / 1e6).astype(np.float32)
    return np.array([f"E{n % 7}" for n in numbers], dtype=object), numbers % 2, np.column_stack([share, 1 - share])


def test_a_sample_holds_pixels_as_they_came_and_each_is_as_likely():
    total = 4 * SAMPLE_PIXELS
    sample, again = (PixelSample(CLASSES, seed=(0, 1)) for _ in range(2))
    for first in range(0, total, 10_000):
        sample.add(*numbered(first, 10_000))
        again.add(*numbered(first, 10_000))
    table = sample.table()
    pandas.testing.assert_frame_equal(again.table(), table)
    assert list(table.columns) == ["zone", "label", "p_field", "p_water"]
    numbers = np.rint(1e6 * table["p_field"].to_numpy(np.float64)).astype(int)
    assert len(np.unique(numbers)) == len(table) == SAMPLE_PIXELS
    assert table["p_field"].dtype == np.float32
    np.testing.assert_array_equal(table["zone"], [f"E{n % 7}" for n in numbers])
    np.testing.assert_array_equal(table["label"], [CLASSES[n % 2] for n in numbers])
    for part in (numbers, numbers[:2000]):  # the first rows are a sample, too
        quarters = np.bincount(4 * part // total) / len(part)
        np.testing.assert_allclose(quarters, 0.25, atol=0.03)
    other = PixelSample(CLASSES, seed=(0, 2))
    other.add(*numbered(0, total))
    assert not np.array_equal(other.table()["p_field"], table["p_field"])


def test_few_pixels_are_all_in_the_sample():
    sample = PixelSample(CLASSES, seed=(0,))
    sample.add(*numbered(0, 30))
    sample.add(*numbered(30, 0))
    assert sorted(sample.table()["p_field"]) == pytest.approx(np.arange(30) / 1e6)


def test_parts_add_up_to_the_whole():
    whole, parts = PixelCounts(CLASSES), PixelCounts(CLASSES)
    whole.add(*known())
    for chosen in ([5, 1], [0], [2, 3, 4]):
        parts.add(*(values[chosen] for values in known()))
    pandas.testing.assert_frame_equal(parts.table(), whole.table())


def test_no_pixels_are_an_empty_table():
    counts = PixelCounts(CLASSES)
    assert list(counts.table().columns) == [*COLUMNS, "pixels"]
    counts.add(*(values[:0] for values in known()))
    assert len(counts.table()) == 0


def patches(*places: tuple[str, int, int]) -> pandas.DataFrame:
    scene, row, column = zip(*places, strict=True)
    return pandas.DataFrame({"scene": scene, "row": row, "column": column, "size_px": 6})


def strips(height: int, of: int):
    return [Window(0, row, 20, min(of, height - row)) for row in range(0, height, of)]


@pytest.mark.parametrize("rows", [1, 3, 4, 30])
def test_a_patch_has_the_mean_over_the_pixels_of_its_core_that_have_data(rows):
    random = np.random.default_rng(0)
    first = {name: random.random((24, 20), dtype=np.float32) for name in "ab"}
    first["a"][3:9, 4:6] = np.nan
    first["b"][:] = np.nan
    table = patches(("a", 2, 3), ("b", 0, 0), ("a", 10, 14), ("a", 4, 5))
    means = PatchMeans(table, 4, 2)
    for name, values in first.items():
        for strip in strips(24, rows):
            part = values[strip.toslices()]
            means.add(name, strip, np.stack([part, 1 - part], axis=-1))
    found = means.means()
    assert found.dtype == np.float32
    cores = [first["a"][3:7, 4:8], None, first["a"][11:15, 15:19], first["a"][5:9, 6:10]]
    expected = [0.5 if core is None else np.nanmean(core.astype(np.float64)) for core in cores]
    assert found[:, 0] == pytest.approx(expected, abs=1e-6)
    assert found.sum(axis=1) == pytest.approx([1] * 4)


def test_the_pixels_that_are_wanted_are_those_of_cores():
    means = PatchMeans(patches(("a", 2, 3), ("a", 4, 5), ("b", 0, 0)), 4, 2)
    expected = np.zeros((12, 20), dtype=bool)
    expected[3:7, 4:8] = expected[5:9, 6:10] = True
    found = [means.wanted("a", strip) for strip in strips(12, 5)]
    assert np.array_equal(np.concatenate(found), expected)
    assert not means.wanted("c", Window(0, 0, 20, 12)).any()
