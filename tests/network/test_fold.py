from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from landfold.core.digests import file_sha256
from landfold.network.callbacks import TrainingCallbacks
from landfold.network.checkpoints import Checkpoint
from landfold.network.errors import TrainingError
from landfold.network.fold import predictions_table, write_fold
from landfold.network.model import Classifier
from tests.network.test_model import make_settings
from tests.network.tiny import CLASSES, Killed, problem, same, stop_after, train_settings, trained


def test_the_same_again_is_the_same_to_the_bit_and_the_byte(base, tmp_path):
    again = trained()
    assert same(again, base)
    for name, result in {"first": base, "second": again}.items():
        (tmp_path / name).mkdir()
        write_fold(tmp_path / name, result)
    files = ["history.csv", "model.json", "model.safetensors", "predictions.parquet"]
    assert sorted(path.name for path in (tmp_path / "first").iterdir()) == files
    for name in files:
        assert file_sha256(tmp_path / "first" / name) == file_sha256(tmp_path / "second" / name)


def test_the_classifier_is_ready_for_use_and_keeps_its_card(base, tmp_path):
    write_fold(tmp_path, base)
    table, windows = problem()
    held_out = windows[table["side"] == "validation"]
    probabilities = Classifier.load(tmp_path).probabilities(held_out)
    assert np.array_equal(probabilities, base.predictions.validation[[f"p_{name}" for name in CLASSES]].to_numpy())
    assert base.classifier.card.train == train_settings().model_dump()


def test_predictions_are_the_validation_patches_in_the_order_of_the_table(base):
    table, _ = problem()
    held_out = table[table["side"] == "validation"]
    predictions = base.predictions.validation
    assert list(predictions["patch"]) == list(held_out["patch"])
    assert list(predictions["label"]) == list(held_out["label"])
    assert list(predictions.columns) == ["patch", "label", "predicted", "confidence", "p_water", "p_field", "p_wood"]
    probabilities = predictions[["p_water", "p_field", "p_wood"]]
    assert set(probabilities.dtypes) == {np.dtype("float32")}
    assert np.array_equal(predictions["confidence"], probabilities.max(axis=1))
    assert list(predictions["predicted"]) == [CLASSES[i] for i in probabilities.to_numpy().argmax(axis=1)]


def test_the_test_region_is_predicted_apart(base, tmp_path):
    assert len(base.predictions.test) == 0
    table, windows = problem()
    table.loc[table["side"] == "buffer", "side"] = "test"
    result = trained(table, windows)
    assert same(result, base)
    assert list(result.predictions.test["patch"]) == list(table["patch"][table["side"] == "test"])
    expected = base.classifier.probabilities(windows[table["side"] == "test"])
    assert np.array_equal(result.predictions.test[[f"p_{name}" for name in CLASSES]].to_numpy(), expected)
    write_fold(tmp_path, result, weights=False)
    files = ["history.csv", "model.json", "predictions.parquet", "test.parquet"]
    assert sorted(path.name for path in tmp_path.iterdir()) == files


def test_the_last_validation_row_is_of_the_predictions(base):
    predictions = base.predictions.validation
    probabilities = predictions[[f"p_{name}" for name in CLASSES]].to_numpy()
    truth = [CLASSES.index(name) for name in predictions["label"]]
    last = base.history.iloc[-1]
    assert last["validation_accuracy"] == (predictions["label"] == predictions["predicted"]).mean()
    assert last["validation_loss"] == pytest.approx(-np.log(probabilities[range(12), truth]).mean(), rel=1e-4)


def test_a_class_without_a_training_patch_is_reported_and_does_no_harm():
    notices = []
    for kind in ("none", "sqrt", "balanced"):
        result = trained(class_weights=kind, sampling="balanced", callbacks=TrainingCallbacks(on_notice=notices.append))
        assert np.isfinite(result.history).all(axis=None)
    text = "fold 0: no training patch of class wood: the network cannot learn it, and all of it in the "
    assert notices == [text + "validation fold counts as wrong"] * 3


def test_refuses_patches_of_no_class():
    table, windows = problem()
    table.loc[3, "label"] = "lava"
    with pytest.raises(TrainingError, match="patches of class lava; the model has water, field, wood"):
        trained(table, windows)


def test_predictions_table():
    probabilities = np.array([[0.2, 0.8], [0.75, 0.25]], dtype=np.float32)
    patches = pandas.DataFrame({"patch": ["b", "a"], "label": ["x", "x"]})
    table = predictions_table(patches, probabilities, ["x", "y"])
    assert table.to_dict("list") == {
        "patch": ["b", "a"],
        "label": ["x", "x"],
        "predicted": ["y", "x"],
        "confidence": [pytest.approx(0.8), 0.75],
        "p_x": [pytest.approx(0.2), 0.75],
        "p_y": [pytest.approx(0.8), 0.25],
    }


def test_history_is_written_as_it_was(base, tmp_path):
    write_fold(tmp_path, base)
    written = pandas.read_csv(Path(tmp_path / "history.csv"))
    assert np.allclose(written, base.history, rtol=1e-5)
    assert b"\r" not in (tmp_path / "history.csv").read_bytes()


KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "ema": {"average": "ema", "spectral_jitter": 0.1},
    "last": {"average": "last", "average_epochs": 2, "band_dropout": 0.2},
    "early": {"early_stopping": 3, "average": "ema", "sampling": "balanced"},
}


@pytest.fixture(scope="module")
def uninterrupted():
    """The training of each kind that nothing stops, made once."""
    return cache(lambda kind: trained(**KINDS[kind], epochs=3, model=make_settings(dropout=0.4)))


@pytest.mark.parametrize("stopped", [1, 2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_training_continues_to_the_same_bits_and_reports_all_epochs(
    tmp_path, uninterrupted, kind, stopped
):
    changes = KINDS[kind] | {"epochs": 3, "model": make_settings(dropout=0.4)}
    with pytest.raises(Killed), Checkpoint(tmp_path) as checkpoint:
        trained(checkpoint=checkpoint, callbacks=stop_after(stopped), **changes)
    steps, rows, notices = [], [], []
    callbacks = TrainingCallbacks(steps.append, rows.append, notices.append)
    with Checkpoint(tmp_path) as checkpoint:
        again = trained(checkpoint=checkpoint, callbacks=callbacks, **changes)
    whole = uninterrupted(kind)
    assert same(again, whole)
    assert again.predictions.validation.equals(whole.predictions.validation)
    assert {step.epoch for step in steps} == set(range(stopped + 1, 4))
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert notices[-1] == f"fold 0: continuing an interrupted training after epoch {stopped}"
    assert not tmp_path.exists()


def test_a_training_that_is_interrupted_after_its_best_epoch_remembers_it(tmp_path):
    changes = {"epochs": 12, "early_stopping": 2, "learning_rate": 0.03}
    whole = trained(**changes)
    best = int(whole.history["inner_loss"].argmin()) + 1
    with pytest.raises(Killed), Checkpoint(tmp_path) as checkpoint:
        trained(checkpoint=checkpoint, callbacks=stop_after(best + 1), **changes)
    with Checkpoint(tmp_path) as checkpoint:
        assert same(trained(checkpoint=checkpoint, **changes), whole)


def test_a_training_of_other_settings_or_patches_does_not_continue(tmp_path):
    with pytest.raises(Killed), Checkpoint(tmp_path) as checkpoint:
        trained(checkpoint=checkpoint, callbacks=stop_after(1))
    table, windows = problem()
    others = [{"learning_rate": 0.004}, {"windows": windows * 0.999}, {"model": make_settings(dropout=0.1)}]
    table["side"] = table["side"].to_numpy()[::-1]
    for other in [*others, {"table": table}]:
        notices = []
        callbacks = replace(stop_after(1), on_notice=notices.append)
        with pytest.raises(Killed), Checkpoint(tmp_path) as checkpoint:
            trained(checkpoint=checkpoint, callbacks=callbacks, **other)
        assert not any("continuing" in text for text in notices)
    assert len(list(tmp_path.glob("*/state.pt"))) == 5
