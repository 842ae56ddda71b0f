import numpy as np
import pytest
import torch
from torch import nn

from landfold.network.model import Classifier, pixel_probabilities, row_probabilities
from landfold.network.surroundings import SAMPLE, Dropout, SurroundingsNetwork
from tests.network.test_model import randomize_statistics
from tests.network.tiny import pixel_classifier


def network(features: int = 2, *, bins: int = 2, noise: float = 0.0, dropout: float = 0.0) -> SurroundingsNetwork:
    torch.manual_seed(0)
    return SurroundingsNetwork(features, 3, bins=bins, hidden=[8, 5], dropout=dropout, noise=noise)


def coded(plain: SurroundingsNetwork, rows) -> np.ndarray:
    """What the layers get of pixels, (pixel, coded feature)."""
    plain.layers = nn.Identity()
    return plain.eval()(torch.tensor(rows, dtype=torch.float32)).numpy()


def test_a_feature_fills_the_bins_below_it_and_its_share_of_its_own():
    plain = network(1, bins=3)
    plain.low.copy_(torch.tensor([[0.0], [1.0], [3.0]]))
    plain.gain.copy_(torch.tensor([[1.0], [0.5], [0.25]]))  # to 1, 3 and 7
    found = coded(plain, [[-1.0], [0.0], [0.25], [1.0], [2.0], [5.0], [7.0], [9.0]])
    expected = [[0, 0, 0], [0, 0, 0], [0.25, 0, 0], [1, 0, 0], [1, 0.5, 0], [1, 1, 0.5], [1, 1, 1], [1, 1, 1]]
    assert found.tolist() == expected


def test_each_feature_has_bins_of_its_own():
    plain = network(2, bins=2)
    plain.low.copy_(torch.tensor([[0.0, 10.0], [1.0, 20.0]]))
    plain.gain.copy_(torch.tensor([[1.0, 0.1], [1.0, 0.1]]))
    found = coded(plain, [[0.5, 22.0], [1.5, 14.0]])
    assert found == pytest.approx(np.array([[0.5, 1.0, 0.0, 0.2], [1.0, 0.4, 0.5, 0.0]]))


def test_bins_are_between_quantiles_of_the_training_pixels():
    random = np.random.default_rng(0)
    features = np.column_stack([random.normal(5, 2, 4000), random.random(4000) ** 3, np.full(4000, 0.25)])
    plain = network(3, bins=4, noise=0.5)
    plain.learn_bins(features.astype(np.float32))
    edges = np.quantile(features, [0.01, 0.255, 0.5, 0.745, 0.99], axis=0)
    assert plain.low.numpy() == pytest.approx(edges[:-1], rel=1e-5)
    assert plain.gain[:, :2].numpy() == pytest.approx(1 / np.diff(edges, axis=0)[:, :2], rel=1e-3)
    assert plain.gain[:, 2].tolist() == pytest.approx([1e4] * 4)
    assert plain.spread.tolist() == pytest.approx([*0.5 * features[:, :2].std(axis=0), 0], rel=1e-4)
    values = coded(plain, features[:400])
    assert (values.min(), values.max()) == (0, 1)


def test_bins_of_very_many_pixels_are_of_a_sample_all_over_them():
    ramp = np.arange(20 * SAMPLE, dtype=np.float32)[:, None] / (20 * SAMPLE)
    plain = network(1, bins=2)
    plain.learn_bins(ramp)
    assert plain.low.ravel().tolist() == pytest.approx([0.01, 0.5], abs=1e-3)


@pytest.mark.parametrize("count", [1, 16, 37, 48, 1024])
def test_pixels_as_rows_have_the_scores_of_pixels_side_by_side(count):
    plain = network(4, bins=3)
    features = torch.rand(count, 4, generator=torch.Generator().manual_seed(1))
    plain.learn_bins(features.numpy() if count > 1 else np.random.default_rng(0).random((50, 4)))
    randomize_statistics(plain)
    plain.eval()
    with torch.inference_mode():
        rows = plain(features)
        image = plain.scores(features.T.reshape(1, 4, 1, count))
        column = plain.scores(features.T.reshape(1, 4, count, 1))
    assert rows.shape == (count, 3)
    assert rows.numpy() == pytest.approx(image[0, :, 0].T.numpy(), abs=1e-5)
    assert rows.numpy() == pytest.approx(column[0, :, :, 0].T.numpy(), abs=1e-5)


def test_noise_and_dropout_are_for_training_alone():
    rows = torch.rand(64, 2, generator=torch.Generator().manual_seed(1))
    for options in ({"noise": 0.5}, {"dropout": 0.5}, {}):
        noisy = network(**options)
        noisy.learn_bins(rows.numpy())
        assert not torch.equal(noisy.train()(rows), noisy(rows)), "a share of the coded features is always dropped"
        noisy.eval()
        assert torch.equal(noisy(rows), noisy(rows))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_dropout_drops_its_share_and_keeps_the_mean(share):
    torch.manual_seed(0)
    features = torch.rand(7, 13, 11, 23) + 0.5
    dropout = Dropout(share)
    found = dropout.train()(features)
    kept = found != 0
    assert 1 - kept.double().mean().item() == pytest.approx(share, abs=0.01)
    assert kept.double().mean(dim=(0, 2, 3)).tolist() == pytest.approx([1 - share] * 13, abs=0.05)
    assert found[kept].numpy() == pytest.approx((features[kept] * 256 / (256 - round(256 * share))).numpy(), rel=1e-6)
    assert found.mean().item() == pytest.approx(features.mean().item(), rel=0.1)
    assert torch.equal(dropout.eval()(features), features)


def test_the_largest_dropout_leaves_something():
    torch.manual_seed(0)
    found = Dropout(0.9999).train()(torch.ones(64, 16, 8, 8))
    assert torch.isfinite(found).all()
    assert (found != 0).double().mean().item() == pytest.approx(1 / 256, rel=0.2)


def test_noise_has_the_share_of_each_feature_s_spread():
    plain = network(2, noise=0.5)
    plain.layers = nn.Identity()
    plain.low.zero_()
    plain.gain.fill_(1e-3)
    plain.spread.copy_(torch.tensor([2.0, 6.0]))
    rows = torch.full((6400, 2), 500.0)
    seen = 1000 * plain.train()(rows)[:, :2]
    assert seen.mean(dim=0).tolist() == pytest.approx([500, 500], abs=0.4)
    assert seen.std(dim=0).tolist() == pytest.approx([2, 6], rel=0.05)


def test_a_saved_network_comes_back_to_the_bit_with_its_bins(tmp_path):
    model = pixel_classifier()
    model.save(tmp_path)
    again = Classifier.load(tmp_path)
    assert again.card == model.card
    windows = np.random.default_rng(0).random((2, 3, 12, 12), dtype=np.float32)
    found = model.probabilities(windows)
    assert found.shape == (2, 2, 8, 8)
    assert found.sum(axis=1) == pytest.approx(np.ones((2, 8, 8)), abs=1e-6)
    assert np.array_equal(again.probabilities(windows), found)
    assert model.probabilities(windows[:0]).shape == (0, 2, 8, 8)


def test_a_pixel_has_the_same_bits_in_any_order_and_company():
    model = pixel_classifier()
    features = np.random.default_rng(0).random((3000, 15), dtype=np.float32)
    whole = row_probabilities(model, features)
    order = np.random.default_rng(1).permutation(3000)
    assert np.array_equal(row_probabilities(model, features[order]), whole[order])
    for count in (1, 5, 16, 1023, 1025):
        assert np.array_equal(row_probabilities(model, features[:count]), whole[:count])


def test_the_device_may_have_a_number():
    features = np.random.default_rng(0).random((20, 15), dtype=np.float32)
    plain = pixel_classifier()
    numbered = Classifier(plain.network, plain.card, "cpu:0")
    assert np.array_equal(row_probabilities(numbered, features), row_probabilities(plain, features))


def test_networks_with_other_boxes_predict_the_same_pixels_each_by_its_own():
    models = [pixel_classifier(), pixel_classifier(1, boxes_px=[5]), pixel_classifier(2)]
    values = np.random.default_rng(0).random((3, 20, 24), dtype=np.float32)
    chosen = np.random.default_rng(1).random((16, 20)) < 0.4
    together = pixel_probabilities(models, values, chosen)
    assert together.shape == (3, chosen.sum(), 2)
    for model, found in zip(models, together, strict=True):
        assert np.array_equal(pixel_probabilities([model], values, chosen)[0], found)
    assert not np.array_equal(together[0], together[2])
