import itertools

import numpy as np
import pytest
import torch

from landfold.network.augment import AugmentationParams, augment, flip_rotate, jitter
from tests.network.tiny import train_settings

CHANNELS = 6


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draws(count: int = 4000, seed: int = 0, **changes) -> AugmentationParams:
    return AugmentationParams.draw(
        train_settings(**{"flips_and_rotations": False} | changes), count, CHANNELS, generator(seed)
    )


def augmented(windows: torch.Tensor, params: AugmentationParams) -> torch.Tensor:
    """The windows alone; the class of each, which is that of the whole window, must stay."""
    target = torch.arange(len(windows))
    changed, same = augment(windows, target, params)
    assert same is target
    return changed


def test_the_eight_symmetries_are_those_of_the_square():
    window = torch.arange(2 * 25).reshape(1, 2, 5, 5)
    images = flip_rotate(window.expand(8, -1, -1, -1), torch.arange(8)).numpy()
    plain = window[0].numpy()
    for number in range(8):
        start = plain[:, :, ::-1] if number >= 4 else plain
        assert np.array_equal(images[number], np.rot90(start, number % 4, axes=(1, 2)))
    assert len({image.tobytes() for image in images}) == 8
    assert np.array_equal(images[0], plain)


def test_the_symmetries_are_a_group():
    window = torch.arange(9).reshape(1, 1, 3, 3)
    images = {flip_rotate(window, torch.tensor([number])).numpy().tobytes() for number in range(8)}
    for first, second in itertools.product(range(8), repeat=2):
        both = flip_rotate(flip_rotate(window, torch.tensor([first])), torch.tensor([second]))
        assert both.numpy().tobytes() in images


def test_each_window_is_transformed_by_its_own_number_and_the_input_stays():
    windows = torch.rand(20, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    before = windows.clone()
    symmetries = torch.tensor([7, 0, 3, 3, 5] * 4)
    together = flip_rotate(windows, symmetries)
    for i in range(20):
        assert torch.equal(together[i : i + 1], flip_rotate(windows[i : i + 1], symmetries[i : i + 1]))
    assert torch.equal(windows, before)


def test_what_is_off_draws_nothing_and_changes_nothing():
    random = generator()
    before = random.get_state()
    nothing = AugmentationParams.draw(train_settings(flips_and_rotations=False), 8, CHANNELS, random)
    assert nothing == AugmentationParams()
    assert torch.equal(random.get_state(), before)
    windows, target = torch.rand(8, CHANNELS, 4, 4), torch.arange(8)
    assert augment(windows, target, nothing) == (windows, target)


def test_symmetries_alone_draw_as_they_always_have():
    params = AugmentationParams.draw(train_settings(), 50, CHANNELS, generator(3))
    assert torch.equal(params.symmetries, torch.randint(8, (50,), generator=generator(3)))
    windows = torch.rand(50, CHANNELS, 4, 4)
    assert torch.equal(augmented(windows, params), flip_rotate(windows, params.symmetries))
    assert torch.bincount(draws(flips_and_rotations=True).symmetries).tolist() == pytest.approx([500] * 8, rel=0.15)


def test_the_jitter_has_the_spread_that_was_asked_for_and_is_each_patch_and_channel_s_own():
    windows = torch.full((4000, CHANNELS, 2, 2), 0.5)
    changed = augmented(windows, draws(spectral_jitter=0.1))
    assert torch.equal(windows, torch.full_like(windows, 0.5))
    assert torch.equal(changed[:, :, :1, :1].expand_as(changed), changed)
    values = changed[:, :, 0, 0]
    assert values.mean(dim=0).tolist() == pytest.approx([0.5] * CHANNELS, abs=0.01)
    # gain about 1 on 0.5, and offset: sqrt(0.05 ** 2 + 0.1 ** 2)
    assert values.std(dim=0).tolist() == pytest.approx([0.1118] * CHANNELS, rel=0.05)
    correlation = np.corrcoef(values.numpy(), rowvar=False) - np.eye(CHANNELS)
    assert np.abs(correlation).max() < 0.06


def test_the_jitter_stays_in_range_and_leaves_nodata():
    windows = torch.rand(50, CHANNELS, 4, 4, generator=generator())
    windows[:, :, 0, 0] = 0
    windows[:, 0, 1, 1] = 0  # dark in one channel alone
    changed = jitter(windows, 1 + torch.randn(50, CHANNELS), torch.randn(50, CHANNELS))
    assert (changed.min(), changed.max()) == (0, 1)
    assert not changed[:, :, 0, 0].any()
    assert changed[:, 0, 1, 1].any()


def test_band_dropout_zeroes_its_share_of_whole_channels_and_never_all():
    windows = torch.rand(4000, CHANNELS, 2, 2) + 0.1
    changed = augmented(windows, draws(band_dropout=0.3))
    gone = (changed == 0).flatten(2)
    assert torch.equal(gone.all(dim=2), gone.any(dim=2))
    gone = gone.all(dim=2)
    assert gone.float().mean(dim=0).tolist() == pytest.approx([0.3] * CHANNELS, abs=0.03)
    assert torch.equal(changed[~gone], windows[~gone])
    most = augmented(windows, draws(band_dropout=0.99))
    assert (most.flatten(1) != 0).any(dim=1).all()


def test_a_part_of_a_batch_is_augmented_as_in_the_whole():
    params = draws(30, flips_and_rotations=True, spectral_jitter=0.1, band_dropout=0.2)
    windows = torch.rand(30, CHANNELS, 4, 4)
    whole = augmented(windows, params)
    parts = [augmented(windows[rows], params.subset(rows)) for rows in (slice(0, 11), slice(11, 30))]
    assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(whole, windows)


def test_classes_of_pixels_turn_with_their_window_and_change_in_no_other_way():
    params = draws(30, flips_and_rotations=True, spectral_jitter=0.1, band_dropout=0.2)
    windows = torch.rand(30, CHANNELS, 4, 4)
    target = torch.arange(30 * 16).reshape(30, 4, 4)
    _, turned = augment(windows, target, params)
    assert torch.equal(turned, flip_rotate(target, params.symmetries))
    assert turned.dtype == torch.int64
    one = torch.arange(16).reshape(1, 4, 4)
    assert torch.equal(flip_rotate(one, torch.tensor([1]))[0], torch.rot90(one[0]))
