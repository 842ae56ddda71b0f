from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from torch import nn

from landfold.errors import LandfoldError
from landfold.files import file_sha256
from landfold.model import Classifier
from landfold.training import (
    Examples,
    TrainingError,
    TrainSettings,
    class_weights,
    fit,
    launch,
    predictions_table,
    rate_at,
    train_fold,
    write_fold,
)
from tests.test_model import make_card, make_settings

SETTINGS: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 16,
    "learning_rate": 0.003,
    "weight_decay": 0.01,
    "schedule": "one-cycle",
    "label_smoothing": 0.0,
    "class_weights": "none",
    "flips_and_turns": True,
    "device": "cpu",
    "precision": "32-true",
    "deterministic": True,
    "seed": 0,
}
CLASSES = ["water", "field", "wood"]
COUNTS = {"train": 40, "validation": 12, "buffer": 4}


def recipe(**changes) -> TrainSettings:
    return TrainSettings.model_validate(SETTINGS | changes)


def problem() -> tuple[pandas.DataFrame, np.ndarray]:
    """Patches of two unequal classes, each bright in its own channel; sides and classes are mixed in the table."""
    random = np.random.default_rng(3)
    side = random.permutation(np.repeat(list(COUNTS), list(COUNTS.values())))
    label = random.choice(CLASSES[:2], size=len(side), p=[0.35, 0.65])
    windows = random.random((len(side), 3, 16, 16), dtype=np.float32) * 0.3
    windows[label == "water", 0] += 0.6
    windows[label == "field", 1] += 0.6
    windows[:, 2, :8] += 0.1  # no window looks the same when turned
    return pandas.DataFrame({"patch": [f"s/{i * 7 % 56}" for i in range(56)], "label": label, "side": side}), windows


def trained(table=None, windows=None, fold=0, model=None, **changes):
    own, pixels = problem()
    settings = recipe(**changes)
    card = make_card(fold=fold, classes=CLASSES, model=model or make_settings(), train=settings.model_dump())
    return train_fold(own if table is None else table, pixels if windows is None else windows, card, settings)


def same(first, second) -> bool:
    """Whether two trainings gave the same weights to the bit and the same history."""
    mine, other = (result.classifier.network.state_dict() for result in (first, second))
    return first.history.equals(second.history) and all(torch.equal(mine[name], other[name]) for name in mine)


@pytest.fixture(scope="module")
def base():
    return trained()


@pytest.fixture(autouse=True)
def _restore_torch():
    yield
    torch.use_deterministic_algorithms(False)


def test_learns_what_is_easy():
    result = trained(epochs=6)
    history = result.history
    assert history["train_accuracy"].iloc[-1] > 0.9
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0]
    assert (result.predictions["label"] == result.predictions["predicted"]).mean() > 0.9
    assert list(history["epoch"]) == [1, 2, 3, 4, 5, 6]
    assert list(history.columns) == [
        "epoch",
        "learning_rate",
        "train_loss",
        "train_accuracy",
        "validation_loss",
        "validation_accuracy",
    ]


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


CHANGES: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 8,
    "learning_rate": 0.001,
    "weight_decay": 0.5,
    "schedule": "cosine",
    "label_smoothing": 0.2,
    "class_weights": "balanced",
    "flips_and_turns": False,
    "precision": "bf16-mixed",
    "seed": 1,
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_setting_changes_the_result(base, name):
    assert not same(trained(**{name: CHANGES[name]}), base)


def test_no_setting_is_without_a_test():
    assert set(CHANGES) | {"device", "deterministic"} == set(TrainSettings.model_fields)


def test_the_fold_number_and_the_network_change_the_result(base):
    assert not same(trained(fold=1), base)
    launch(recipe(seed=3), fold=4)
    assert torch.initial_seed() == 7
    assert not same(trained(model=make_settings(dropout=0.5)), base)


def test_deterministic_is_told_to_torch():
    launch(recipe(deterministic=True), fold=0)
    assert torch.are_deterministic_algorithms_enabled()
    launch(recipe(deterministic=False), fold=0)
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_gpu_that_is_demanded_and_absent_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(LandfoldError, match=r"train.device is cuda, but torch finds no GPU here"):
        trained(device="cuda")


def test_the_classifier_is_ready_for_use_and_keeps_its_card(base, tmp_path):
    write_fold(tmp_path, base)
    table, windows = problem()
    held_out = windows[table["side"] == "validation"]
    found = Classifier.load(tmp_path).probabilities(held_out)
    assert np.array_equal(found, base.predictions[[f"p_{name}" for name in CLASSES]].to_numpy())
    assert base.classifier.card.train == recipe().model_dump()


def test_predictions_are_the_validation_patches_in_the_order_of_the_table(base):
    table, _ = problem()
    held_out = table[table["side"] == "validation"]
    found = base.predictions
    assert list(found["patch"]) == list(held_out["patch"])
    assert list(found["label"]) == list(held_out["label"])
    assert list(found.columns) == ["patch", "label", "predicted", "confidence", "p_water", "p_field", "p_wood"]
    probabilities = found[["p_water", "p_field", "p_wood"]]
    assert set(probabilities.dtypes) == {np.dtype("float32")}
    assert np.array_equal(found["confidence"], probabilities.max(axis=1))
    assert list(found["predicted"]) == [CLASSES[i] for i in probabilities.to_numpy().argmax(axis=1)]


def test_the_test_region_is_predicted_and_apart(base, tmp_path):
    assert len(base.test) == 0
    table, windows = problem()
    table.loc[table["side"] == "buffer", "side"] = "test"
    result = trained(table, windows)
    assert same(result, base)
    assert list(result.test["patch"]) == list(table["patch"][table["side"] == "test"])
    expected = base.classifier.probabilities(windows[table["side"] == "test"])
    assert np.array_equal(result.test[[f"p_{name}" for name in CLASSES]].to_numpy(), expected)
    write_fold(tmp_path, result, weights=False)
    files = ["history.csv", "model.json", "predictions.parquet", "test.parquet"]
    assert sorted(path.name for path in tmp_path.iterdir()) == files


def test_validation_and_buffer_patches_do_not_touch_the_weights(base):
    table, windows = problem()
    unseen = (table["side"] != "train").to_numpy()
    windows[unseen] = 1 - windows[unseen]
    table.loc[unseen, "label"] = "wood"
    result = trained(table, windows)
    state = base.classifier.network.state_dict()
    assert all(torch.equal(t, state[name]) for name, t in result.classifier.network.state_dict().items())
    seen = ["epoch", "learning_rate", "train_loss", "train_accuracy"]
    assert result.history[seen].equals(base.history[seen])
    assert not result.history["validation_loss"].equals(base.history["validation_loss"])


def test_the_last_validation_row_speaks_of_the_predictions(base):
    probabilities = base.predictions[[f"p_{name}" for name in CLASSES]].to_numpy()
    truth = [CLASSES.index(name) for name in base.predictions["label"]]
    last = base.history.iloc[-1]
    assert last["validation_accuracy"] == (base.predictions["label"] == base.predictions["predicted"]).mean()
    assert last["validation_loss"] == pytest.approx(-np.log(probabilities[range(12), truth]).mean(), rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "epoch"), [({"learning_rate": 1e30, "schedule": "constant"}, 1), ({"precision": "bf16-mixed"}, 1)]
)
def test_a_loss_that_is_no_number_names_fold_and_epoch(changes, epoch):
    table, windows = problem()
    if "learning_rate" not in changes:
        windows[(table["side"] == "train").to_numpy()] = np.nan
    with pytest.raises(
        TrainingError, match=rf"fold 1, epoch {epoch}: the loss is (nan|inf); lower train.learning_rate"
    ):
        trained(table, windows, fold=1, **changes)


def test_refuses_patches_of_no_class():
    table, windows = problem()
    table.loc[3, "label"] = "lava"
    with pytest.raises(TrainingError, match="patches of class lava; the model has water, field, wood"):
        trained(table, windows)


def test_refuses_a_single_training_patch():
    table, windows = problem()
    table["side"] = ["train"] + ["validation"] * 55
    with pytest.raises(TrainingError, match="fold 0: 1 training patches; at least 2 are needed"):
        trained(table, windows)


class Recorder(nn.Module):
    """A network that notes the batches it is given while training."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(1, 2)
        self.batches: list[list[float]] = []

    def forward(self, windows):
        if self.training:
            self.batches.append(windows[:, 0, 0, 0].tolist())
        return self.last(windows[:, 0, 0, :1])


@pytest.mark.parametrize("batch_size", [2, 3, 5, 8])
def test_every_epoch_shows_every_patch_once_and_never_one_alone(batch_size):
    for count in range(2, 20):
        network = Recorder()
        windows = np.broadcast_to(np.arange(count, dtype=np.float32)[:, None, None, None], (count, 1, 2, 2)).copy()
        examples = Examples(windows, np.arange(count) % 2)
        settings = recipe(batch_size=batch_size, epochs=2, flips_and_turns=False)
        fit(network, examples, examples, settings, launch(settings, fold=0), classes=2, fold=0)
        sizes = [len(batch) for batch in network.batches]
        assert min(sizes) >= 2
        assert max(sizes) <= max(batch_size, 3)
        epochs = np.concatenate(network.batches).reshape(2, count)
        assert [sorted(epoch) for epoch in epochs] == [list(range(count))] * 2


def test_progress_and_rows_are_told():
    table, windows = problem()
    steps, rows = [], []
    card = make_card(classes=CLASSES)
    result = train_fold(table, windows, card, recipe(), on_step=steps.append, on_epoch=rows.append)
    assert steps == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1])
    assert pandas.DataFrame(rows).equals(result.history)
    assert list(result.history["learning_rate"]) == [rate_at(recipe(), 2, 6), rate_at(recipe(), 5, 6)]


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 10, 11, 100])
def test_one_cycle_is_that_of_torch(steps):
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=0.003)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.003, total_steps=steps)
    for step in range(steps):
        assert rate_at(recipe(), step, steps) == pytest.approx(schedule.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        if step + 1 < steps:
            schedule.step()


@pytest.mark.parametrize("steps", [1, 2, 50])
def test_cosine_is_that_of_torch(steps):
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=0.003)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    for step in range(steps):
        assert rate_at(recipe(schedule="cosine"), step, steps) == pytest.approx(schedule.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        schedule.step()


def test_where_the_schedules_begin_peak_and_end():
    rates = {kind: [rate_at(recipe(schedule=kind), step, 100) for step in range(100)] for kind in KINDS}
    assert rates["constant"] == [0.003] * 100
    assert rates["cosine"][0] == 0.003
    assert rates["cosine"] == sorted(rates["cosine"], reverse=True)
    assert rates["cosine"][50] == pytest.approx(0.0015)
    assert rates["one-cycle"][0] == pytest.approx(0.003 / 25)
    assert np.argmax(rates["one-cycle"]) == 29
    assert rates["one-cycle"][29] == pytest.approx(0.003)
    assert rates["one-cycle"][99] == pytest.approx(0.003 / 250_000)


KINDS = ("one-cycle", "cosine", "constant")


def test_class_weights():
    labels = np.array([0] * 9 + [1] * 1)
    assert class_weights(labels, 2, "none").tolist() == [1, 1]
    assert class_weights(labels, 2, "balanced") == pytest.approx([10 / 18, 10 / 2])
    assert class_weights(labels, 2, "sqrt") == pytest.approx([10 / 4 / 3, 10 / 4])


@pytest.mark.parametrize("kind", ["none", "sqrt", "balanced"])
def test_class_weights_have_mean_1_over_the_patches_and_bear_an_absent_class(kind):
    labels = np.array([0, 0, 0, 2, 2, 3] * 5)
    weights = class_weights(labels, 5, kind)
    assert weights.dtype == np.float32
    assert weights[labels].mean() == pytest.approx(1)
    assert (weights[1], weights[4]) == (1, 1)


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
