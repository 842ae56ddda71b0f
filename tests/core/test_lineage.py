import pytest

from landfold.core.digests import data_digest, model_digest, params_digest


def cards(**changes):
    first = {"patches_digest": "p", "statistics_digest": "s", "fold_digest": "f0", "fold": 0, "train": {"epochs": 10}}
    return [first | changes, first | {"fold_digest": "f1", "fold": 1}]


def test_the_data_alone_decide_the_digest_of_the_data():
    assert data_digest(cards()) == data_digest(cards(train={"epochs": 20}))


@pytest.mark.parametrize("name", ["patches_digest", "statistics_digest", "fold_digest"])
def test_other_patches_pixels_or_folds_are_other_data(name):
    assert data_digest(cards()) != data_digest(cards(**{name: "other"}))


def test_the_number_of_folds_counts():
    assert data_digest(cards()) != data_digest(cards()[:1])


def test_the_order_of_settings_does_not_count_but_their_values_do():
    assert params_digest({"a": 1, "b": {"c": [1, 2], "d": None}}) == params_digest(
        {"b": {"d": None, "c": [1, 2]}, "a": 1}
    )
    assert params_digest({"a": [1, 2]}) != params_digest({"a": [2, 1]})


def test_a_model_is_its_folds_in_their_order():
    assert model_digest(["a", "b"]) == model_digest(iter(["a", "b"]))
    assert len({model_digest(weights) for weights in (["a", "b"], ["b", "a"], ["a"], ["ab"])}) == 4
