import sys
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from torch import nn

from landfold.network import training
from landfold.network.callbacks import TrainingCallbacks
from landfold.network.checkpoints import Checkpoint
from landfold.network.dataset import ArrayExamples
from landfold.network.distributed import launch
from landfold.network.errors import TrainingError
from landfold.network.inner import inner_split
from landfold.network.schedule import learning_rate
from landfold.network.settings import TrainSettings
from landfold.network.training import FoldData, fit
from tests.network.test_model import make_settings
from tests.network.tiny import CLASSES, problem, same, train_settings, trained


def test_learns_what_is_easy():
    result = trained(epochs=6)
    history = result.history
    assert history["train_accuracy"].iloc[-1] > 0.9
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0]
    assert (result.predictions.validation["label"] == result.predictions.validation["predicted"]).mean() > 0.9
    assert list(history["epoch"]) == [1, 2, 3, 4, 5, 6]
    assert list(history.columns) == [
        "epoch",
        "learning_rate",
        "train_loss",
        "train_accuracy",
        "validation_loss",
        "validation_accuracy",
    ]


CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "epochs": ({}, {"epochs": 3}),
    "epoch_size": ({}, {"epoch_size": 30}),
    "batch_size": ({}, {"batch_size": 8}),
    "learning_rate": ({}, {"learning_rate": 0.001}),
    "weight_decay": ({}, {"weight_decay": 0.5}),
    "schedule": ({}, {"schedule": "cosine"}),
    "warmup_epochs": ({"schedule": "cosine"}, {"warmup_epochs": 1}),
    "clip_norm": ({}, {"clip_norm": 0.01}),
    "label_smoothing": ({}, {"label_smoothing": 0.2}),
    "class_weights": ({}, {"class_weights": "balanced"}),
    "sampling": ({}, {"sampling": "balanced"}),
    "average": ({}, {"average": "ema"}),
    "ema_decay": ({"average": "ema"}, {"ema_decay": 0.3}),
    "average_epochs": ({"average": "last"}, {"average_epochs": 1}),
    "early_stopping": ({}, {"early_stopping": 1}),
    "inner_folds": ({"early_stopping": 1}, {"inner_folds": 2}),
    "flips_and_rotations": ({}, {"flips_and_rotations": False}),
    "spectral_jitter": ({}, {"spectral_jitter": 0.1}),
    "band_dropout": ({}, {"band_dropout": 0.3}),
    "precision": ({}, {"precision": "bf16-mixed"}),
    "seed": ({}, {"seed": 1}),
}
"""What a setting needs of others to have an effect, and another value of it."""


@pytest.mark.parametrize("name", CHANGES)
def test_every_setting_changes_the_result(base, name):
    needs, change = CHANGES[name]
    assert list(change) == [name]
    before = trained(**needs) if needs else base
    assert not same(trained(**needs | change), before)


def test_no_setting_is_without_a_test():
    """The others have tests of their own."""
    elsewhere = {"devices", "nodes", "compile", "deterministic", "max_pixels"}
    assert set(CHANGES) | elsewhere == set(TrainSettings.model_fields)


def test_the_fold_number_and_the_network_change_the_result(base):
    assert not same(trained(fold=1), base)
    launch(train_settings(seed=3), "cpu", fold=4)
    assert torch.initial_seed() == 7
    assert not same(trained(model=make_settings(dropout=0.5)), base)


def test_deterministic_reaches_torch():
    launch(train_settings(deterministic=True), "cpu", fold=0)
    assert torch.are_deterministic_algorithms_enabled()
    launch(train_settings(deterministic=False), "cpu", fold=0)
    assert not torch.are_deterministic_algorithms_enabled()


def test_validation_and_buffer_patches_have_no_influence_on_the_weights(base):
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


@pytest.mark.parametrize(
    ("changes", "epoch"), [({"learning_rate": 1e30, "schedule": "constant"}, 1), ({"precision": "bf16-mixed"}, 1)]
)
def test_a_loss_that_is_not_finite_names_fold_and_epoch(changes, epoch):
    table, windows = problem()
    if "learning_rate" not in changes:
        windows[(table["side"] == "train").to_numpy()] = np.nan
    with pytest.raises(
        TrainingError, match=rf"fold 1, epoch {epoch}: the loss is (nan|inf); lower train.learning_rate"
    ):
        trained(table, windows, fold=1, **changes)


def test_weights_that_are_not_finite_after_the_last_step_are_noticed():
    with pytest.raises(TrainingError, match=r"fold 0, epoch 1: .* is not finite after the last step; lower"):
        trained(epochs=1, batch_size=64, learning_rate=1.03e37, weight_decay=33, schedule="constant")


def test_a_diverged_training_saves_its_last_good_state_and_says_where(tmp_path, base):
    state = tmp_path.glob("*/state.pt")
    with Checkpoint(tmp_path) as checkpoint:
        with pytest.raises(
            TrainingError, match=r"fold 0, epoch 2: the loss is nan; .*after epoch 1 is saved in "
        ) as error:
            trained(checkpoint=checkpoint, callbacks=TrainingCallbacks(on_epoch=spoil))
        saved = torch.load(next(state), weights_only=True)
        assert str(error.value).endswith(str(next(tmp_path.glob("*/state.pt"))))
        assert pandas.DataFrame(saved["rows"]).equals(base.history[:1])
        assert all(torch.isfinite(tensor).all() for tensor in saved["network"].values())


def spoil(row):
    """Make all further losses NaN."""
    frame = sys._getframe()
    while "run" not in frame.f_locals:
        frame = frame.f_back
    frame.f_locals["run"].loss.weights.fill_(np.nan)
    frame.f_locals["run"].loss.criterion.weight.fill_(np.nan)


EARLY: dict[str, Any] = {"epochs": 12, "early_stopping": 2, "learning_rate": 0.03}


@pytest.fixture(scope="module")
def early():
    """A training that early stopping ends."""
    return trained(**EARLY)


def test_early_stopping_ends_in_the_best_epoch_of_the_inner_patches(early):
    history = early.history
    assert list(history.columns)[4:] == ["inner_loss", "inner_accuracy", "validation_loss", "validation_accuracy"]
    best = int(history["inner_loss"].argmin())
    assert len(history) == best + 3 < 12
    accuracy = (early.predictions.validation["label"] == early.predictions.validation["predicted"]).mean()
    assert accuracy == history["validation_accuracy"][best]
    probabilities = early.predictions.validation[[f"p_{name}" for name in CLASSES]].to_numpy()
    truth = [CLASSES.index(name) for name in early.predictions.validation["label"]]
    loss = -np.log(probabilities[range(12), truth]).mean()
    assert loss == pytest.approx(history["validation_loss"][best], rel=1e-4)
    assert loss != pytest.approx(history["validation_loss"].iloc[-1], rel=1e-4)


def test_the_validation_fold_has_no_part_in_early_stopping(early):
    table, windows = problem()
    unseen = (table["side"] != "train").to_numpy()
    windows[unseen] = 1 - windows[unseen]
    table.loc[unseen, ["label", "zone"]] = ["wood", "elsewhere"]
    second = trained(table, windows, **EARLY)
    seen = [name for name in early.history if not name.startswith("validation")]
    assert early.history[seen].equals(second.history[seen])
    assert not early.history.equals(second.history)
    mine, other = (result.classifier.network.state_dict() for result in (early, second))
    assert all(torch.equal(mine[name], other[name]) for name in mine)


def test_inner_patches_are_not_learned_from():
    table, windows = problem()
    train = (table["side"] == "train").to_numpy()
    learn, choose = inner_split(table, train, parts=4, seed=0)
    assert choose.any()
    assert not (learn & choose).any()
    changes = {"epochs": 2, "early_stopping": 5}
    first = trained(**changes)
    windows[choose] = 1 - windows[choose]
    second = trained(table, windows, **changes)
    seen = ["train_loss", "train_accuracy"]
    assert first.history[seen].equals(second.history[seen])
    assert not first.history["inner_loss"].equals(second.history["inner_loss"])


@pytest.mark.parametrize("average", ["ema", "last"])
def test_the_averaged_weights_are_validated_and_used(average):
    result = trained(average=average, epochs=3)
    probabilities = result.predictions.validation[[f"p_{name}" for name in CLASSES]].to_numpy()
    truth = [CLASSES.index(name) for name in result.predictions.validation["label"]]
    loss = -np.log(probabilities[range(12), truth]).mean()
    assert loss == pytest.approx(result.history["validation_loss"].iloc[-1], rel=1e-4)
    plain = trained(epochs=3)
    learning = ["train_loss", "train_accuracy"]
    assert result.history[learning].equals(plain.history[learning])
    assert not result.history["validation_loss"].equals(plain.history["validation_loss"])


@pytest.mark.parametrize(
    ("error", "precision", "message"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "32-true", r"lower train.batch_size \(16\) or machine.cache_gb"),
        (MemoryError(), "bf16-mixed", r"lower train.batch_size \(16\)"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 1 bytes"), "32-true", r"lower train.batch_size"),
    ],
)
def test_memory_that_runs_out_names_the_setting_to_lower(monkeypatch, error, precision, message):
    def full(*arguments):
        raise error

    monkeypatch.setattr(training, "augment", full)
    with pytest.raises(TrainingError, match=rf"fold 0, epoch 1: this machine ran out of memory; {message}"):
        trained(precision=precision)


def test_compile_reaches_torch_and_gives_the_same(base, monkeypatch):
    compiled, real = [], torch.compile

    def eagerly(network, **options):
        compiled.append(network)
        return real(network, **options | {"backend": "eager"})

    monkeypatch.setattr(torch, "compile", eagerly)
    result = trained(compile=True)
    assert [type(network).__name__ for network in compiled[:1]] == ["ResNet"]
    assert result.history.to_numpy() == pytest.approx(base.history.to_numpy(), rel=1e-4)
    assert list(result.classifier.network.state_dict()) == list(base.classifier.network.state_dict())


def test_refuses_a_single_training_patch():
    table, windows = problem()
    table["side"] = ["train"] + ["validation"] * 55
    with pytest.raises(TrainingError, match="fold 0: 1 training examples; at least 2 are needed"):
        trained(table, windows)


class Recorder(nn.Module):
    """A network that records the batches that it is trained on."""

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
    settings = train_settings(batch_size=batch_size, epochs=2, flips_and_rotations=False)
    fabric = launch(settings, "cpu", fold=0)
    for count in range(2, 20):
        network = Recorder()
        windows = np.broadcast_to(np.arange(count, dtype=np.float32)[:, None, None, None], (count, 1, 2, 2)).copy()
        examples = ArrayExamples(windows, np.arange(count) % 2)
        fit(network, FoldData(0, 2, examples, examples), settings, fabric)
        sizes = [len(batch) for batch in network.batches]
        assert min(sizes) >= 2
        assert max(sizes) <= max(batch_size, 3)
        epochs = np.concatenate(network.batches).reshape(2, count)
        assert [sorted(epoch) for epoch in epochs] == [list(range(count))] * 2


def test_progress_and_rows_are_reported():
    table, windows = problem()
    steps, rows = [], []
    result = trained(table, windows, callbacks=TrainingCallbacks(steps.append, rows.append))
    assert [step.fraction for step in steps] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1])
    assert [(step.epoch, step.batch) for step in steps] == [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3)]
    assert all(step.rate > 0 for step in steps)
    assert np.mean([step.loss for step in steps[:3]]) == pytest.approx(result.history["train_loss"][0], rel=0.05)
    assert pandas.DataFrame(rows).equals(result.history)
    assert list(result.history["learning_rate"]) == [
        learning_rate(train_settings(), 2, 6),
        learning_rate(train_settings(), 5, 6),
    ]
