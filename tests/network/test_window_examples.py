from dataclasses import replace

import numpy as np
import pytest
import torch

from landfold.core.settings import SettingsError
from landfold.network.dataset import IGNORED
from landfold.network.sampling import epoch_order
from landfold.network.window_examples import WindowExamples
from landfold.params import read_params
from tests import factories
from tests.network.pixel_problem import (
    HEIGHT,
    WIDTH,
    fold_pixels,
    images,
    make_ground,
    make_pixel_card,
    model_settings,
    settings_of,
    write_problem,
)

SIZE = 16
SPARE = SIZE - 1


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return write_problem(tmp_path_factory.mktemp("problem"))


def examples_of(pixels, *, options=None, **changes) -> WindowExamples:
    settings = settings_of("segmentation", **changes)
    return WindowExamples(pixels, make_pixel_card(model_settings(), settings), settings, **(options or {}))


def seen() -> tuple[np.ndarray, np.ndarray]:
    """What may be seen of the scene with its margin, and the classes of its pixels, `IGNORED` elsewhere."""
    values, labels = images()
    hidden = make_ground().blocked(factories.make_grid(HEIGHT, WIDTH))
    hidden[-9:, -13:] = True  # nodata
    around = ((SPARE, SPARE), (SPARE, SPARE))
    values = np.pad(np.where(hidden, 0, values), ((0, 0), *around))
    classes = np.where(hidden | (labels == 0), IGNORED, labels.astype(np.int64) - 1)
    return values, np.pad(classes, around, constant_values=IGNORED)


def test_a_window_lies_around_its_pixel_and_shows_nothing_that_is_held_out(scenes):
    train = examples_of(fold_pixels(scenes), max_pixels=10**6).data.train
    values, classes = seen()
    assert len(train) == (classes != IGNORED).sum()
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:300]
    views = train.views(order, torch.Generator().manual_seed(1))
    assert torch.equal(views[:, 0], order)
    assert set(views[:, 1].tolist()) == set(views[:, 2].tolist()) == set(range(SIZE))
    windows, targets = train.gather(views)
    rows, columns = np.divmod(train.places[order], WIDTH + 2 * SPARE)
    for number, (_, row, column) in enumerate(views.tolist()):
        part = slice(rows[number] - row, rows[number] - row + SIZE), slice(columns[number] - column, None)
        part = part[0], slice(part[1].start, part[1].start + SIZE)
        assert np.array_equal(windows[number], values[:, *part])
        assert np.array_equal(targets[number], classes[part])
        assert targets[number, row, column] == train.targets[order[number]]
    assert (targets == IGNORED).any()


def test_no_more_pixels_are_learned_from_than_max_pixels(scenes):
    train = examples_of(fold_pixels(scenes), max_pixels=500).data.train
    assert len(train) == 500
    assert (train.copy[:, -1] > 0).sum() == 500


def test_a_random_fold_learns_from_as_many_pixels_as_the_spatial_one(scenes):
    spatial = fold_pixels(scenes)
    ground = make_ground(zones=frozenset(), buffer_m=0.0)
    random = replace(spatial, ground=ground, spatial=spatial.ground)
    counts = [len(examples_of(pixels, max_pixels=10**6).data.train) for pixels in (spatial, random)]
    assert counts[0] == counts[1]


def test_shifts_come_from_the_generator_alone(scenes):
    train = examples_of(fold_pixels(scenes)).data.train
    order = torch.arange(20)
    one, two = (train.views(order, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(one, two)
    random = torch.Generator().manual_seed(5)
    assert not torch.equal(train.views(order, random), train.views(order, random))


def test_balanced_sampling_shows_rare_classes(scenes):
    train = examples_of(fold_pixels(scenes)).data.train
    targets = torch.from_numpy(train.targets)
    shares = {}
    for sampling in ("shuffled", "balanced"):
        order = epoch_order(targets, sampling, 300, torch.Generator().manual_seed(0))
        shares[sampling] = (targets[order] == 2).float().mean().item()
    assert shares["shuffled"] < 0.15
    assert 0.28 < shares["balanced"] < 0.39


def test_scenes_beyond_the_cache_are_mapped_from_a_file(scenes, tmp_path):
    pixels = fold_pixels(scenes)
    small = examples_of(pixels, options={"cache_gb": 1e-6, "scratch": tmp_path / "scratch"}).data.train
    assert isinstance(small.copy, np.memmap)
    assert list((tmp_path / "scratch").iterdir()) == []
    train = examples_of(pixels).data.train
    assert not isinstance(train.copy, np.memmap)
    views = train.views(torch.arange(0, len(train), 97), torch.Generator().manual_seed(0))
    assert all(torch.equal(*pair) for pair in zip(small.gather(views), train.gather(views), strict=True))


def test_curves_are_of_held_out_pixels_in_the_cores_of_the_map(scenes):
    held_out = examples_of(fold_pixels(scenes)).data.validation
    windows, targets = held_out.gather(torch.arange(len(held_out)))
    values, labels = images()
    assert len(held_out) == 36, "cores of 8 px in a zone of 48 px"
    margin = 4
    padded = np.pad(values, ((0, 0), (margin, 0), (margin, 0)))
    for number, (row, column) in enumerate(np.ndindex(6, 6)):
        top, left = row * 8, column * 8
        assert np.array_equal(windows[number], padded[:, top : top + SIZE, left : left + SIZE])
        core = np.where(labels == 0, IGNORED, labels.astype(np.int64) - 1)[top : top + 8, left : left + 8]
        assert np.array_equal(targets[number, margin : margin + 8, margin : margin + 8], core)
    assert (targets != IGNORED).sum() == 46 * 48


def test_early_stopping_hides_the_inner_zones_and_scores_them_blind_to_held_out_ground(scenes):
    pixels = fold_pixels(scenes)
    plain = examples_of(pixels, max_pixels=10**6).data
    early = examples_of(pixels, max_pixels=10**6, early_stopping=2, inner_folds=3).data
    assert plain.inner is None
    assert len(early.inner) > 0
    assert len(early.train) < len(plain.train)
    windows, targets = early.inner.gather(torch.arange(len(early.inner)))
    assert (targets != IGNORED).flatten(1).any(1).all()
    assert torch.equal(early.validation.gather(torch.arange(3))[0], plain.validation.gather(torch.arange(3))[0])
    values = torch.from_numpy(seen()[0][:, SPARE:-SPARE, SPARE:-SPARE].copy())
    shown = set(map(tuple, values.permute(1, 2, 0).reshape(-1, 3).tolist()))
    assert set(map(tuple, windows.permute(0, 2, 3, 1).reshape(-1, 3).tolist())) <= shown


def test_an_epoch_of_all_pixels_is_refused(tmp_path):
    changes = {f"model__{name}": value for name, value in model_settings().model_dump().items()}
    changes |= {"labels__unit": "pixel", "train__max_pixels": 100, "export__stride_px": None}
    with pytest.raises(SettingsError, match="epoch_size: null would show a window around every labelled pixel"):
        read_params(factories.write_params(tmp_path, train__epoch_size=None, **changes))
    read_params(factories.write_params(tmp_path, train__epoch_size=100, **changes))
