"""Classical models in torch give what scikit-learn gives."""

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from landfold.classical.selection import CANDIDATES, fit_best
from landfold.network.classical import ClassicalNetwork

FEATURES = 12


def problem(classes: list[int], count: int = 900) -> tuple[np.ndarray, np.ndarray]:
    """Rows of float32 in steps, so that many lie exactly on thresholds, and their classes."""
    random = np.random.default_rng(3)
    features = (random.integers(0, 40, (count, FEATURES)) / np.float32(40)).astype(np.float32)
    order = np.digitize(features[:, 0] + features[:, 1] * features[:, 2], np.linspace(0.2, 1.2, len(classes) - 1))
    return features, np.array(classes)[order]


@pytest.mark.parametrize("candidate", CANDIDATES, ids=lambda candidate: candidate.name)
@pytest.mark.parametrize("classes", [[0, 1, 2, 3], [0, 2, 3], [1, 3]], ids=["all", "one absent", "two"])
def test_probabilities_are_those_of_scikit_learn(candidate, classes):
    features, labels = problem(classes)
    model = candidate.make(0).fit(features, labels)
    network = ClassicalNetwork(FEATURES, 4)
    network.take(model)
    loaded = ClassicalNetwork(FEATURES, 4)
    loaded.load_state_dict(load(save(network.state_dict())))
    unseen, _ = problem(classes, 2000)
    for module in (network, loaded):
        found = torch.softmax(module(torch.from_numpy(unseen)), dim=1).numpy()
        expected = np.zeros_like(found)
        expected[:, model.classes_] = model.predict_proba(unseen)
        assert np.abs(found - expected).max() < 1e-5
        assert found[:, classes].std(axis=0).min() > 0.02


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [("below", (0, 0), 0), ("below", (0, 1), 10**6), ("feature", 0, FEATURES), ("roots", 1, -1)],
)
def test_nodes_that_are_no_trees_are_refused(name, place, value):
    network = ClassicalNetwork(FEATURES, 3)
    network.take(CANDIDATES[0].make(0).fit(*problem([0, 1, 2])))
    state = {key: part.clone() for key, part in network.state_dict().items()}
    state[name][place] = value
    with pytest.raises(RuntimeError, match="decision trees do not fit together"):
        ClassicalNetwork(FEATURES, 3).load_state_dict(state)


def test_pixels_side_by_side_have_the_scores_of_rows():
    features, labels = problem([0, 1, 2])
    network = ClassicalNetwork(FEATURES, 3)
    network.take(CANDIDATES[0].make(0).fit(features, labels))
    rows = torch.from_numpy(features[:60])
    images = rows.reshape(2, 5, 6, FEATURES).permute(0, 3, 1, 2)
    assert torch.equal(network.scores(images).permute(0, 2, 3, 1).reshape(60, 3), network(rows))


def test_one_class_alone_is_always_predicted():
    features, _ = problem([0, 1])
    chosen = fit_best(features, np.full(len(features), 2), np.full(len(features), "zone"), seed=0)
    network = ClassicalNetwork(FEATURES, 4)
    network.take(chosen.model)
    found = torch.softmax(network(torch.from_numpy(features)), dim=1)
    assert (found[:, 2] == 1).all()
