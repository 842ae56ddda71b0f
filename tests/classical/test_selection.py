"""The choice of a classical model."""

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.tree import DecisionTreeClassifier

from landfold.classical.selection import CANDIDATES, Candidate, compare, fit_best

CONSTANT = Candidate("constant", lambda seed: DummyClassifier())
TREE = Candidate("tree", lambda seed: DecisionTreeClassifier(max_depth=2, random_state=seed))
BY_HEART = Candidate("by heart", lambda seed: DecisionTreeClassifier(random_state=seed))


def rows(zones: int = 12, of_zone: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features that tell the class, and one that tells the zone and, within it, the class: of no use elsewhere."""
    random = np.random.default_rng(0)
    zone = np.repeat(np.arange(zones), of_zone)
    label = random.integers(0, 2, len(zone))
    honest = label + random.normal(0, 0.8, len(zone))
    leaky = 10.0 * zone + np.where(random.permutation(zones)[zone] % 2, label, 1 - label) * 4
    return np.stack([honest, leaky], axis=1), label, zone.astype(str)


def test_the_best_on_other_zones_is_chosen_and_trained_on_all_rows():
    features, labels, zones = rows()
    chosen = fit_best(features, labels, zones, seed=0, candidates=[CONSTANT, TREE])
    assert chosen.name == "tree"
    assert chosen.scores["tree"] > chosen.scores["constant"] + 0.1
    assert chosen.model.tree_.n_node_samples[0] == len(labels)
    assert chosen.table()["model"].tolist() == ["tree", "constant"]
    assert chosen.table()["chosen"].tolist() == [True, False]


def test_what_is_learned_of_a_zone_counts_in_others_alone():
    features, labels, zones = rows()
    own = BY_HEART.make(0).fit(features, labels).score(features, labels)
    assert own == 1.0
    assert compare([BY_HEART], features, labels, zones, seed=0)["by heart"] < 0.85


def test_labels_of_other_rows_change_nothing_and_equal_seeds_give_equal_choices():
    features, labels, zones = rows()
    first, again = (compare(CANDIDATES[2:], features, labels, zones, seed=1) for _ in range(2))
    assert first == again
    assert set(first) == {"extra trees", "logistic regression"}


@pytest.mark.parametrize("zones", [1, 2])
def test_too_few_zones_leave_the_first(zones):
    features, labels, names = rows(zones=2)
    names = names if zones == 2 else np.full(len(names), "one")
    chosen = fit_best(features, labels, names, seed=0, candidates=[TREE, CONSTANT])
    assert chosen.name == "tree"
    assert bool(chosen.scores) == (zones == 2)
    assert len(chosen.table()) == (2 if zones == 2 else 1)


@pytest.mark.parametrize("candidate", CANDIDATES, ids=lambda candidate: candidate.name)
def test_every_candidate_learns(candidate):
    features, labels, zones = rows()
    assert compare([candidate], features, labels, zones, seed=0)[candidate.name] > 0.55


def test_names_are_unique():
    assert len({candidate.name for candidate in CANDIDATES}) == len(CANDIDATES)


def test_classes_of_one_row_each_leave_the_first():
    features, _, zones = rows()
    chosen = fit_best(features[::60], np.arange(8), zones[::60], seed=0, candidates=[TREE, CONSTANT])
    assert (chosen.name, chosen.scores) == ("tree", {})
