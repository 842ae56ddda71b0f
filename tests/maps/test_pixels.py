import numpy as np
import pytest
import torch

from landfold.geo.raster import Raster
from landfold.maps import pixels
from landfold.maps.inference import InferenceError
from landfold.maps.pixels import predict_pixels
from landfold.network.model import Classifier, pixel_probabilities
from tests.factories import write_raster
from tests.network.tiny import pixel_classifier

HEIGHT, WIDTH, MARGIN = 61, 83, 2


@pytest.fixture(scope="module")
def models():
    """Two networks of the same windows, one with a box less."""
    return [pixel_classifier(), pixel_classifier(1, boxes_px=[5])]


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A scene of noise without data in a corner, in a block and in single pixels: its path, values and valid pixels."""
    random = np.random.default_rng(0)
    values = random.random((3, HEIGHT, WIDTH), dtype=np.float32) * 0.9 + 0.05
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    valid = ~((rows < 9) & (columns < 14)) & ~((rows > 40) & (rows < 50) & (columns > 60))
    valid &= random.random((HEIGHT, WIDTH)) < 0.95
    values[:, ~valid] = 0
    channels = {f"c{number}": channel for number, channel in enumerate(values)}
    return write_raster(tmp_path_factory.mktemp("scene") / "s.tif", channels, valid=valid), values, valid


def mapped(path, models, **options):
    """The whole map: probabilities (model, row, column, class), valid, padded; each pixel is predicted once."""
    with Raster.open(path) as raster:
        strips = list(predict_pixels(raster, models, **options))
    seen = np.zeros((HEIGHT, WIDTH), dtype=int)
    whole = np.full((len(models), HEIGHT, WIDTH, 2), np.nan, dtype=np.float32)
    valid, padded = (np.full((HEIGHT, WIDTH), np.nan) for _ in range(2))
    for strip in strips:
        place = strip.window.toslices()
        seen[place] += 1
        whole[:, *place], valid[place], padded[place] = strip.probabilities, strip.valid, strip.padded
    assert (seen == 1).all()
    return whole, valid, padded


@pytest.fixture(scope="module")
def whole(scene, models):
    return mapped(scene[0], models)


def test_every_pixel_has_its_own_probabilities_and_ground_without_data_has_none(scene, models, whole):
    _, values, valid = scene
    probabilities, share, _ = whole
    padded = np.pad(values, ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)))
    everywhere = np.ones((HEIGHT, WIDTH), dtype=bool)
    expected = pixel_probabilities(models, padded, everywhere).reshape(2, HEIGHT, WIDTH, 2)
    assert np.array_equal(probabilities[:, valid], expected[:, valid])
    assert (probabilities[:, ~valid] == 0).all()
    assert np.array_equal(share, valid)
    assert probabilities[:, valid].sum(axis=-1) == pytest.approx(1, abs=1e-6)
    assert not np.array_equal(probabilities[0], probabilities[1])


def test_pixels_at_edges_and_beside_nodata_are_those_of_their_own_window(scene, models, whole):
    _, values, valid = scene
    padded = np.pad(values, ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)))
    beside = [(0, 30), (0, WIDTH - 1), (HEIGHT - 1, 0), (HEIGHT - 1, WIDTH - 1), (30, 0), (9, 5), (8, 14), (40, 70)]
    beside = [place for place in beside if valid[place]]
    assert len(beside) >= 6
    for row, column in beside:
        window = padded[:, row : row + 2 * MARGIN + 1, column : column + 2 * MARGIN + 1]
        alone = pixel_probabilities(models, window, np.ones((1, 1), dtype=bool))[:, 0]
        assert np.array_equal(whole[0][:, row, column], alone)


@pytest.mark.parametrize("tile", [(8, 8), (8, 2048), (16, 40), (24, 16), (128, 8), (3, 5), (1000, 5000)])
def test_tiles_of_any_size_give_the_same_bits(monkeypatch, scene, models, whole, tile):
    monkeypatch.setattr(pixels, "TILE_ROWS", tile[0])
    monkeypatch.setattr(pixels, "TILE_COLUMNS", tile[1])
    for found, expected in zip(mapped(scene[0], models), whole, strict=True):
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_side_by_side_give_the_same_bits_and_leave_torch_as_it_was(monkeypatch, scene, models, whole, workers):
    monkeypatch.setattr(pixels, "cpu_count", lambda: workers)
    monkeypatch.setattr(pixels, "TILE_ROWS", 8)
    monkeypatch.setattr(pixels, "TILE_COLUMNS", 16)
    before = torch.get_num_threads()
    for found, expected in zip(mapped(scene[0], models), whole, strict=True):
        assert np.array_equal(found, expected)
    assert torch.get_num_threads() == before


def test_padded_is_the_share_of_the_window_that_holds_no_data(scene, whole):
    empty = np.pad(~scene[2], MARGIN, constant_values=True)
    windows = np.lib.stride_tricks.sliding_window_view(empty, (5, 5))
    assert whole[2] == pytest.approx(windows.mean(axis=(2, 3)), abs=1e-6)
    assert whole[2][30, 30] < 0.5 < whole[2][0, 0] == 1


def test_the_map_is_that_of_the_windows_that_are_served(scene, models, whole):
    _, values, valid = scene
    core = models[0].card.core_px
    window = values[:, 18 : 18 + core + 2 * MARGIN, 30 : 30 + core + 2 * MARGIN]
    inside = (slice(20, 20 + core), slice(32, 32 + core))
    for model, probabilities in zip(models, whole[0], strict=True):
        served = model.probabilities(window[None])[0]
        assert np.array_equal(np.moveaxis(served, 0, -1)[valid[inside]], probabilities[inside][valid[inside]])


def test_flips_and_rotations_are_all_the_same_to_a_network_of_surroundings(scene, models, whole):
    assert np.array_equal(mapped(scene[0], models, flips_and_rotations=True)[0], whole[0])


def test_a_scene_without_data_is_mapped_as_that(tmp_path, models):
    channels = {f"c{number}": np.zeros((HEIGHT, WIDTH), dtype=np.float32) for number in range(3)}
    path = write_raster(tmp_path / "s.tif", channels, valid=np.zeros((HEIGHT, WIDTH), dtype=bool))
    probabilities, valid, padded = mapped(path, models)
    assert not probabilities.any()
    assert not valid.any()
    assert (padded == 1).all()


def test_refuses_models_of_other_channels_or_windows(scene, models):
    other = models[0].card.model_copy(update={"channels": ["c0", "c2", "c1"], "fold": 3})
    with pytest.raises(InferenceError, match=r"the model of fold 3 expects c0, c2, c1"):
        mapped(scene[0], [models[0], Classifier(models[0].network, other)])
    with pytest.raises(InferenceError, match=r"the models of folds 0 and 0 differ in classes or size_px"):
        mapped(scene[0], [models[0], pixel_classifier(boxes_px=[3, 7])])
