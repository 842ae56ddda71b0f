"""What identifies a result."""

import pytest

from landfold.tracking import TrackingError
from tests.tracking.results import (
    K,
    result_in,
    rich,
    write_fold,
)


@pytest.mark.parametrize(
    "change", [{"params": {"train": {"lr": 0.02}}}, {"summary": {"zones": 8}}, {"experiment": "forests"}]
)
def test_key_depends_on_everything(tmp_path, change):
    assert result_in(tmp_path).key == result_in(tmp_path).key
    assert result_in(tmp_path, **change).key != result_in(tmp_path).key


def test_key_depends_on_the_folds(tmp_path):
    before = result_in(tmp_path).key
    write_fold(tmp_path / "models/k3/fold_1", 1, 3, weights="b")
    assert result_in(tmp_path).key != before


def test_a_fold_that_does_not_tell_its_data_is_refused(tmp_path):
    result = rich(tmp_path)
    (tmp_path / f"models/k{K}/fold_0/model.json").write_text('{"k": 2}')
    with pytest.raises(TrackingError, match=r"fold_0/model\.json: 'patches_digest' is missing; run `dvc repro`"):
        _ = result.data_digest
