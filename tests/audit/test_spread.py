"""The spread of scores over partitions of the zones and over random deals."""

import numpy as np

from landfold.audit.spread import DRAWS, spread
from landfold.scores.metrics import HEADLINE


def problem(of_zone: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows whose class shifts by zone as much as ``of_zone``."""
    random = np.random.default_rng(0)
    zone = np.repeat(np.arange(24), 30)
    label = random.integers(0, 3, len(zone))
    shift = random.normal(0, of_zone, (24, 2))[zone]
    features = np.stack([label == 0, label == 1], axis=1) + shift + random.normal(0, 0.5, (len(zone), 2))
    return features, np.array(["a", "b", "c"])[label], zone.astype(str)


def test_equal_seeds_give_equal_spreads_and_others_others():
    rows = problem(0.3)
    assert spread(*rows, k=4, seed=0) == spread(*rows, k=4, seed=0)
    assert spread(*rows, k=4, seed=0) != spread(*rows, k=4, seed=DRAWS)


def test_partitions_matter_more_where_zones_differ():
    alike, different = (spread(*problem(size), k=4, seed=1) for size in (0.0, 4.0))
    assert set(alike) == {"partitions", "deals"}
    assert set(alike["deals"]) == set(HEADLINE)
    assert different["partitions"]["accuracy"] > 2 * different["deals"]["accuracy"]
    assert alike["partitions"]["accuracy"] < 0.02


def test_as_few_zones_as_folds_have_one_partition():
    features, labels, zones = problem(0.5)
    few = np.char.mod("%d", zones.astype(int) % 3)
    assert spread(features, labels, few, k=3, seed=0)["partitions"]["accuracy"] == 0


def test_classes_with_fewer_rows_than_folds_are_dealt_all_the_same():
    features, labels, zones = problem(0.5)
    few = slice(None, None, 60)
    found = spread(features[few], np.arange(len(labels[few])) // 2, zones[few], k=4, seed=0)
    assert all(np.isfinite(list(part.values())).all() for part in found.values())
