import numpy
import pyproj  # noqa: F401 - library_versions tells of what is loaded
import pytest
import rasterio

from landfold.core.digests import data_digest, digest, library_versions, model_digest, params_digest


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


def test_digest_changes_with_content_and_with_name_and_with_nothing_else(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder / "sub").mkdir(parents=True)
        (tmp_path / folder / "sub" / "x").write_text("x")
        (tmp_path / folder / "y").write_text("y")
    one, two = tmp_path / "one", tmp_path / "two"
    same = digest(one)
    assert digest(two) == same
    (two / "y").write_text("Y")
    assert digest(two) != same
    (two / "y").write_text("y")
    (two / "y").rename(two / "z")
    assert digest(two) != same
    (two / "z").rename(two / "y")
    assert digest(two) == same
    assert digest(one / "y") != digest(one / "sub" / "x")
    assert digest(one, two) != digest(one)


def test_digest_of_swapped_contents_differs(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_text("1")
    b.write_text("2")
    before = digest(a, b)
    a.write_text("2")
    b.write_text("1")
    assert digest(a, b) != before


def test_versions_are_those_of_the_libraries_with_gdal_and_proj():
    versions = library_versions()
    expected = {"numpy.__version__": numpy.__version__, "rasterio.__gdal_version__": rasterio.__gdal_version__}
    assert expected.items() <= versions.items()
    assert "pyproj.proj_version_str" in versions
    assert all(any(c.isdigit() for c in text) for text in versions.values())
