import numpy as np
import pytest
import torch

from landfold.pixels.surroundings import feature_count, margin_px, surroundings

SHAPE = (3, 17, 23)


def scene(seed: int = 0) -> np.ndarray:
    """Channels with pixels that are dark in one of them, and some without data."""
    random = np.random.default_rng(seed)
    values = random.random(SHAPE, dtype=np.float32)
    values[1, 5:8] = 0
    values[:, :6, :4] = 0
    values[:, random.random(SHAPE[1:]) < 0.2] = 0
    return values


def features(values: np.ndarray, boxes: list[int]) -> np.ndarray:
    """Those of all pixels of a scene, (feature, y, x), which has no data around it."""
    margin = margin_px(boxes)
    padded = np.pad(values, ((0, 0), (margin, margin), (margin, margin)))
    return surroundings(torch.from_numpy(padded)[None], boxes)[0].numpy()


def test_features_are_the_channels_and_means_and_deviations_of_the_pixels_with_data():
    values, boxes = scene(), [3, 7]
    found = features(values, boxes)
    assert found.shape == (feature_count(3, boxes), *SHAPE[1:]) == (15, 17, 23)
    assert np.array_equal(found[:3], values)
    seen = (values != 0).any(axis=0)
    counted = 0
    for number, side in enumerate(boxes):
        reach = side // 2
        for y, x in np.ndindex(*SHAPE[1:]):
            rows, columns = slice(max(y - reach, 0), y + reach + 1), slice(max(x - reach, 0), x + reach + 1)
            inside = values[:, rows, columns][:, seen[rows, columns]].astype(np.float64)
            mean, deviation = found[3 + 6 * number : 9 + 6 * number, y, x].reshape(2, 3)
            if inside.shape[1] == 0:
                assert (mean == 0).all()
                assert deviation == pytest.approx([1e-4] * 3)
                continue
            counted += 1
            assert mean == pytest.approx(inside.mean(axis=1), abs=1e-6)
            assert deviation == pytest.approx(np.maximum(inside.std(axis=1), 1e-4), abs=4e-4)
    assert counted > 700


def test_a_constant_box_has_a_deviation_next_to_none():
    found = features(np.full((1, 9, 9), 0.3, dtype=np.float32), [3, 5])
    assert found[1] == pytest.approx(np.full((9, 9), 0.3), abs=1e-6)
    assert (found[[2, 4]] >= 0.99e-4).all()
    assert found[[2, 4]].max() < 6e-4


def test_ground_without_data_beside_a_pixel_changes_nothing_of_it():
    values = np.full((2, 9, 9), 0.25, dtype=np.float32)
    values[1] = 0.75
    values[:, :, 5:] = 0
    found = features(values, [3, 7])
    assert found[2:4, :, :5].ravel() == pytest.approx(np.repeat([0.25, 0.75], 45), abs=1e-6)
    assert found[6:8, :, :5].ravel() == pytest.approx(np.repeat([0.25, 0.75], 45), abs=1e-6)


def test_without_boxes_a_pixel_is_seen_by_itself():
    values = scene()
    assert (margin_px([]), feature_count(3, [])) == (0, 3)
    assert np.array_equal(features(values, []), values)


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_pixel_has_the_same_bits_in_any_window(channels_last):
    boxes = [3, 5, 9]
    values = torch.from_numpy(np.random.default_rng(1).random((1, 4, 60, 70), dtype=np.float32))
    values[..., 20:30, 30:50] = 0
    if channels_last:
        values = values.contiguous(memory_format=torch.channels_last)
    whole, margin, random = surroundings(values, boxes), margin_px(boxes), np.random.default_rng(2)
    for _ in range(40):
        top, left = random.integers(0, 50), random.integers(0, 60)
        height, width = random.integers(9, 61 - top), random.integers(9, 71 - left)
        part = surroundings(values[..., top : top + height, left : left + width], boxes)
        there = whole[..., top : top + height - 2 * margin, left : left + width - 2 * margin]
        assert torch.equal(part, there)
