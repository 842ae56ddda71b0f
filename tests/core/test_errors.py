import pytest

from landfold.core.errors import did_you_mean, first_ten


def test_ten_names_are_shown_and_no_more():
    assert first_ten([]) == ""
    assert first_ten(["a", 2]) == "a, 2"
    assert first_ten(range(10)).endswith("8, 9")
    assert first_ten(range(11)).endswith("8, 9, ...")


@pytest.mark.parametrize(
    ("name", "hint"), [("zoness", " (did you mean 'zones'?)"), ("ndvi", " (did you mean 'NDVI'?)"), ("quite other", "")]
)
def test_the_known_name_most_alike_is_suggested_whatever_its_case(name, hint):
    assert did_you_mean(name, ["patches", "zones", "NDVI"]) == hint
    assert did_you_mean(name, []) == ""
