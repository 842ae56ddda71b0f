"""params.yaml as a whole: the unit of the labels, the kind of network and the map go together."""

import pytest

from landfold.core.settings import SettingsError
from landfold.params import read_params
from tests import factories


def test_both_units_are_whole(tmp_path):
    assert read_params(factories.write_params(tmp_path)).model.kind == "classifier"
    assert read_params(factories.write_params(tmp_path, **factories.PIXELS)).model.of_pixels


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels__unit": "patch"}, "model.kind is surroundings, but labels.unit: patch needs classifier"),
        ({"export__stride_px": 8}, "labels.unit: pixel has no use for export.stride_px; set it to null"),
        ({"train__max_pixels": None}, "labels.unit: pixel needs train.max_pixels; it is null"),
        ({"export__offsets": 2}, "export.offsets averages windows of patches; with labels.unit: pixel set it to 1"),
        ({"train__band_dropout": 0.1}, "train.band_dropout: model.kind: surroundings sees"),
        ({"export__flips_and_rotations": True}, "export.flips_and_rotations: model.kind: surroundings sees"),
    ],
    ids=["unit", "cells", "pixels", "offsets", "augmentation", "averaging"],
)
def test_what_does_not_go_together_is_refused_in_one_line_that_names_the_file(tmp_path, changes, message):
    path = factories.write_params(tmp_path, **factories.PIXELS | changes)
    with pytest.raises(SettingsError) as refusal:
        read_params(path)
    assert str(refusal.value).startswith(f"{path}: {message}")
    assert "\n" not in str(refusal.value)
