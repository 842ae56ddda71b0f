import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import shapely
import torch
from torch import nn

from landfold.core.digests import file_sha256
from landfold.core.errors import LandfoldError
from landfold.network import training
from landfold.network.checkpoints import keeping
from landfold.network.dataset import Examples
from landfold.network.engine import launch
from landfold.network.inner import inner_split
from landfold.network.model import Classifier
from landfold.network.recipe import TrainingError, rate_at
from landfold.network.settings import TrainSettings
from landfold.network.training import Ears, Step, fit, predictions_table, train_fold, write_fold
from tests.network.test_model import make_card, make_settings

SETTINGS: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 16,
    "learning_rate": 0.003,
    "weight_decay": 0.01,
    "schedule": "one-cycle",
    "warmup_epochs": 0,
    "clip_norm": 0,
    "label_smoothing": 0.0,
    "class_weights": "none",
    "sampling": "shuffled",
    "average": "none",
    "ema_decay": 0.9,
    "average_epochs": 2,
    "early_stopping": None,
    "inner_folds": 4,
    "flips_and_turns": True,
    "spectral_jitter": 0.0,
    "band_dropout": 0.0,
    "cache_gb": 1,
    "device": "cpu",
    "devices": 1,
    "nodes": 1,
    "precision": "32-true",
    "compile": False,
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
    table = pandas.DataFrame({"patch": [f"s/{i * 7 % 56}" for i in range(56)], "label": label, "side": side})
    zone = [f"z{i % 8}" for i in range(56)]
    geometry = shapely.to_wkb(shapely.box(np.arange(56) * 20, 0, np.arange(56) * 20 + 10, 10))
    return table.assign(zone=zone, geometry=geometry), windows


def trained(table=None, windows=None, fold=0, model=None, checkpoint=None, ears=None, **changes):
    own, pixels = problem()
    settings = recipe(**changes)
    card = make_card(fold=fold, classes=CLASSES, model=model or make_settings(), train=settings.model_dump())
    table, windows = own if table is None else table, pixels if windows is None else windows
    return train_fold(table, windows, card, settings, checkpoint=checkpoint, ears=ears)


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


CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "epochs": ({}, {"epochs": 3}),
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
    "flips_and_turns": ({}, {"flips_and_turns": False}),
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
    """Those here have a test of their own: they bear on where a training runs."""
    elsewhere = {"device", "devices", "nodes", "compile", "deterministic", "cache_gb"}
    assert set(CHANGES) | elsewhere == set(TrainSettings.model_fields)


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


def test_weights_that_the_last_step_spoils_are_noticed():
    with pytest.raises(TrainingError, match=r"fold 0, epoch 1: .* is no longer finite after its last step; lower"):
        trained(epochs=1, batch_size=64, learning_rate=1.03e37, weight_decay=33, schedule="constant")


def test_a_training_gone_astray_keeps_its_last_good_state_and_says_where(tmp_path, base):
    state = tmp_path.glob("*/state.pt")
    with keeping(tmp_path) as checkpoint:
        with pytest.raises(
            TrainingError, match=r"fold 0, epoch 2: the loss is nan; .*after epoch 1 is kept in "
        ) as error:
            trained(checkpoint=checkpoint, ears=Ears(on_epoch=spoil))
        kept = torch.load(next(state), weights_only=True)
        assert str(error.value).endswith(str(next(tmp_path.glob("*/state.pt"))))
        assert pandas.DataFrame(kept["rows"]).equals(base.history[:1])
        assert all(torch.isfinite(tensor).all() for tensor in kept["network"].values())


def spoil(row):
    """Make all further losses NaN."""
    frame = sys._getframe()
    while "run" not in frame.f_locals:
        frame = frame.f_back
    frame.f_locals["run"].weights.fill_(np.nan)
    frame.f_locals["run"].criterion.weight.fill_(np.nan)


class Killed(BaseException):
    """The end of a process, as far as a test in one can have it."""


RECIPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "ema": {"average": "ema", "spectral_jitter": 0.1},
    "last": {"average": "last", "average_epochs": 3, "band_dropout": 0.2},
    "early": {"early_stopping": 4, "average": "ema", "sampling": "balanced"},
}


@pytest.mark.parametrize("stopped", [1, 3, 4])
@pytest.mark.parametrize("kind", RECIPES)
def test_a_stopped_training_goes_on_to_the_same_bits_and_tells_all_epochs(tmp_path, kind, stopped):
    changes = RECIPES[kind] | {"epochs": 4, "model": make_settings(dropout=0.4)}
    whole = trained(**changes)

    def stop(row):
        if row["epoch"] == stopped:
            raise Killed

    with pytest.raises(Killed), keeping(tmp_path) as checkpoint:
        trained(checkpoint=checkpoint, ears=Ears(on_epoch=stop), **changes)
    steps, rows, notices = [], [], []
    with keeping(tmp_path) as checkpoint:
        again = trained(checkpoint=checkpoint, ears=Ears(steps.append, rows.append, notices.append), **changes)
    assert same(again, whole)
    assert again.predictions.equals(whole.predictions)
    assert {step.epoch for step in steps} == set(range(stopped + 1, 5))
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert notices[-1] == f"fold 0: going on after epoch {stopped} of a training that was stopped"
    assert not tmp_path.exists()


def test_a_training_of_other_settings_or_patches_does_not_go_on(tmp_path):
    def stop(row):
        raise Killed

    with pytest.raises(Killed), keeping(tmp_path) as checkpoint:
        trained(checkpoint=checkpoint, ears=Ears(on_epoch=stop))
    table, windows = problem()
    others = [{"learning_rate": 0.004}, {"windows": windows * 0.999}, {"model": make_settings(dropout=0.1)}]
    table["side"] = table["side"].to_numpy()[::-1]
    for other in [*others, {"table": table}]:
        notices = []
        with pytest.raises(Killed), keeping(tmp_path) as checkpoint:
            trained(checkpoint=checkpoint, ears=Ears(on_epoch=stop, on_notice=notices.append), **other)
        assert not any("going on" in text for text in notices)
    assert len(list(tmp_path.glob("*/state.pt"))) == 5


EARLY: dict[str, Any] = {"epochs": 12, "early_stopping": 2, "learning_rate": 0.03}


def test_early_stopping_ends_in_the_best_epoch_of_the_inner_patches():
    result = trained(**EARLY)
    history = result.history
    assert list(history.columns)[4:] == ["inner_loss", "inner_accuracy", "validation_loss", "validation_accuracy"]
    best = int(history["inner_loss"].argmin())
    assert len(history) == best + 3 < 12
    accuracy = (result.predictions["label"] == result.predictions["predicted"]).mean()
    assert accuracy == history["validation_accuracy"][best]
    probabilities = result.predictions[[f"p_{name}" for name in CLASSES]].to_numpy()
    truth = [CLASSES.index(name) for name in result.predictions["label"]]
    loss = -np.log(probabilities[range(12), truth]).mean()
    assert loss == pytest.approx(history["validation_loss"][best], rel=1e-4)
    assert loss != pytest.approx(history["validation_loss"].iloc[-1], rel=1e-4)


def test_a_training_that_was_stopped_after_its_best_epoch_remembers_it(tmp_path):
    whole = trained(**EARLY)
    best = int(whole.history["inner_loss"].argmin()) + 1

    def stop(row):
        if row["epoch"] == best + 1:
            raise Killed

    with pytest.raises(Killed), keeping(tmp_path) as checkpoint:
        trained(checkpoint=checkpoint, ears=Ears(on_epoch=stop), **EARLY)
    with keeping(tmp_path) as checkpoint:
        assert same(trained(checkpoint=checkpoint, **EARLY), whole)


def test_the_validation_fold_has_no_part_in_early_stopping():
    table, windows = problem()
    first = trained(**EARLY)
    unseen = (table["side"] != "train").to_numpy()
    windows[unseen] = 1 - windows[unseen]
    table.loc[unseen, ["label", "zone"]] = ["wood", "elsewhere"]
    second = trained(table, windows, **EARLY)
    seen = [name for name in first.history if not name.startswith("validation")]
    assert first.history[seen].equals(second.history[seen])
    assert not first.history.equals(second.history)
    mine, other = (result.classifier.network.state_dict() for result in (first, second))
    assert all(torch.equal(mine[name], other[name]) for name in mine)


def test_inner_patches_are_not_learnt_from():
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
def test_the_averaged_weights_are_the_ones_observed_and_used(average):
    result = trained(average=average, epochs=3)
    probabilities = result.predictions[[f"p_{name}" for name in CLASSES]].to_numpy()
    truth = [CLASSES.index(name) for name in result.predictions["label"]]
    loss = -np.log(probabilities[range(12), truth]).mean()
    assert loss == pytest.approx(result.history["validation_loss"].iloc[-1], rel=1e-4)
    plain = trained(epochs=3)
    learning = ["train_loss", "train_accuracy"]
    assert result.history[learning].equals(plain.history[learning])
    assert not result.history["validation_loss"].equals(plain.history["validation_loss"])


def test_a_class_without_a_training_patch_is_told_and_borne():
    notices = []
    for kind in ("none", "sqrt", "balanced"):
        result = trained(class_weights=kind, sampling="balanced", ears=Ears(on_notice=notices.append))
        assert np.isfinite(result.history).all(axis=None)
    text = "fold 0: no training patch of class wood: the network cannot learn it, and every such patch of the "
    assert notices == [text + "validation fold counts as wrong"] * 3


@pytest.mark.parametrize(
    ("error", "precision", "message"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "32-true", r"lower train.batch_size \(16\) or train.cache_gb"),
        (MemoryError(), "bf16-mixed", r"lower train.batch_size \(16\)"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 1 bytes"), "32-true", r"lower train.batch_size"),
    ],
)
def test_memory_that_runs_out_names_the_setting_to_lower(monkeypatch, error, precision, message):
    def full(*arguments):
        raise error

    monkeypatch.setattr(training, "augment", full)
    with pytest.raises(TrainingError, match=rf"fold 0, epoch 1: the memory of this machine ran out; {message}"):
        trained(precision=precision)


def test_compile_is_told_to_torch_and_gives_the_same(base, monkeypatch):
    compiled, real = [], torch.compile

    def eagerly(network, **options):
        compiled.append(network)
        return real(network, **options | {"backend": "eager"})

    monkeypatch.setattr(torch, "compile", eagerly)
    result = trained(compile=True)
    assert [type(network).__name__ for network in compiled[:1]] == ["ResNet"]
    assert result.history.to_numpy() == pytest.approx(base.history.to_numpy(), rel=1e-4)
    assert list(result.classifier.network.state_dict()) == list(base.classifier.network.state_dict())


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
        examples = Examples.of(windows, np.arange(count) % 2)
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
    result = trained(table, windows, ears=Ears(steps.append, rows.append))
    assert [step.fraction for step in steps] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1])
    assert [(step.epoch, step.batch) for step in steps] == [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3)]
    assert all(step.rate > 0 for step in steps)
    assert np.mean([step.loss for step in steps[:3]]) == pytest.approx(result.history["train_loss"][0], rel=0.05)
    assert str(Step(0.5, 1, 2, 3, 4, 0.123, 56.7)) == "epoch 1/2 batch 3/4 loss 0.123 57 patches/s"
    assert pandas.DataFrame(rows).equals(result.history)
    assert list(result.history["learning_rate"]) == [rate_at(recipe(), 2, 6), rate_at(recipe(), 5, 6)]


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
