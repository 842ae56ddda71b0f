import numpy as np
import pytest

from landfold.maps.files import entropy, margin


def test_margin_and_entropy_of_known_probabilities():
    known = np.array([[[1, 0, 0, 0], [0.25] * 4, [0.5, 0.5, 0, 0]]])
    assert margin(known).tolist() == [[1, 0, 0]]
    assert entropy(known) == pytest.approx(np.array([[0, 1, 0.5]]))
    alone = np.ones((2, 3, 1))
    assert (margin(alone) == 1).all()
    assert (entropy(alone) == 0).all()
