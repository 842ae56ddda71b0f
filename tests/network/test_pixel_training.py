"""Both kinds of networks of pixels: what they learn, that it is repeated to the bit, and what they never see."""

from dataclasses import replace

import numpy as np
import pytest
import shapely
import torch
from scipy.ndimage import binary_dilation

from landfold.core.settings import validate
from landfold.network import training
from landfold.network.callbacks import TrainingCallbacks
from landfold.network.checkpoints import Checkpoint
from landfold.network.errors import TrainingError
from landfold.network.model import build
from landfold.network.settings import ModelSettings
from landfold.params import Params
from landfold.pixels.ground import HeldOutGround
from tests import factories
from tests.kinds import switched
from tests.network.pixel_problem import (
    CHANNELS,
    CLASSES,
    HELD_OUT,
    MODELS,
    RULE,
    fold_pixels,
    make_ground,
    model_settings,
    trained,
    write_problem,
)
from tests.network.tiny import Killed, same, stop_after

KINDS = sorted(MODELS)
NETWORKS = ["segmentation", "surroundings"]
"""Those that learn by epochs."""
LEARNED = ["epoch", "learning_rate", "train_loss", "train_accuracy"]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return write_problem(tmp_path_factory.mktemp("problem"))


@pytest.fixture(scope="module")
def results(scenes):
    """The problem trained once by each kind."""
    return {kind: trained(kind, fold_pixels(scenes)) for kind in KINDS}


def weights_of(result) -> dict[str, torch.Tensor]:
    return result.classifier.network.state_dict()


def same_weights(first, second) -> bool:
    mine, other = weights_of(first), weights_of(second)
    return all(torch.equal(tensor, other[name]) for name, tensor in mine.items())


@pytest.mark.parametrize("kind", KINDS)
def test_learns_what_differs_by_colour_or_texture(scenes, kind):
    model = model_settings(kind, **({"decoder": "unet", "depth": 1} if kind == "segmentation" else {}))
    more = {"segmentation": {"epochs": 8, "epoch_size": 192}, "surroundings": {"epochs": 6}}.get(kind, {})
    result = trained(kind, fold_pixels(scenes), model=model, learning_rate=0.01, sampling="balanced", **more)
    pixels = result.predictions.pixels
    right = pixels["label"] == pixels["predicted"]
    assert pixels["pixels"][right].sum() > 0.95 * pixels["pixels"].sum()
    by_class = pixels[right].groupby("label")["pixels"].sum() / pixels.groupby("label")["pixels"].sum()
    assert sorted(by_class.index) == sorted(CLASSES)
    assert by_class.min() > 0.8
    assert set(pixels["zone"]) == {HELD_OUT}
    assert pixels["pixels"].sum() == 46 * 48, "rows 23 and 47 have no labels"


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_again_is_the_same_to_the_bit(scenes, results, kind):
    again = trained(kind, fold_pixels(scenes))
    assert same(again, results[kind])
    assert again.predictions.pixels.equals(results[kind].predictions.pixels)


@pytest.mark.parametrize("kind", NETWORKS)
def test_an_interrupted_training_continues_to_the_same_bits(scenes, results, kind, tmp_path):
    for epoch in (1, 2):
        with pytest.raises(Killed), Checkpoint(tmp_path) as checkpoint:
            trained(kind, fold_pixels(scenes), checkpoint=checkpoint, callbacks=stop_after(epoch))
    notices = []
    callbacks = TrainingCallbacks(on_notice=notices.append)
    with Checkpoint(tmp_path) as checkpoint:
        again = trained(kind, fold_pixels(scenes), checkpoint=checkpoint, callbacks=callbacks)
    assert same(again, results[kind])
    assert notices == ["fold 0: continuing an interrupted training after epoch 2"]


def spoil_blocked(values: np.ndarray, labels: np.ndarray, ground: HeldOutGround) -> None:
    """Other values and labels in held-out ground and its buffer."""
    blocked = ground.blocked(factories.make_grid(*labels.shape))
    values[:, blocked] = np.random.default_rng(9).random((len(values), int(blocked.sum())))
    labels[blocked] = 1 + labels[blocked] % 3


def spoil_beside(values: np.ndarray, labels: np.ndarray, ground: HeldOutGround) -> None:
    """Other values in the first pixels beyond the buffer."""
    blocked = ground.blocked(factories.make_grid(*labels.shape))
    values[:, binary_dilation(blocked) & ~blocked] = 0.9


EARLY = {"early_stopping": 2, "inner_folds": 3, "epochs": 4}


@pytest.mark.parametrize(
    ("kind", "changes"),
    [*((kind, {}) for kind in KINDS), *((kind, EARLY) for kind in NETWORKS)],
    ids=lambda value: value if isinstance(value, str) else "early stopping" if value else "all epochs",
)
def test_held_out_ground_and_its_buffer_have_no_influence(scenes, results, kind, changes, tmp_path):
    result = trained(kind, fold_pixels(scenes), **changes) if changes else results[kind]
    other = trained(kind, fold_pixels(write_problem(tmp_path, spoil_blocked)), **changes)
    assert same_weights(other, result)
    seen = [
        *(name for name in LEARNED if name in result.history),
        *(["inner_loss", "inner_accuracy"] if changes else []),
    ]
    assert other.history[seen].equals(result.history[seen])
    assert not other.history["validation_loss"].equals(result.history["validation_loss"])
    assert not other.predictions.pixels.equals(result.predictions.pixels)


@pytest.mark.parametrize("kind", KINDS)
def test_ground_beside_the_buffer_has_an_influence(results, kind, tmp_path):
    other = trained(kind, fold_pixels(write_problem(tmp_path, spoil_beside)))
    assert not same_weights(other, results[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_the_test_region_has_no_influence_and_is_not_scored(kind, tmp_path):
    x, y = factories.ORIGIN_X + 1200, factories.ORIGIN_Y - 700
    region = np.array([shapely.box(x, y, x + 200, y + 200)], dtype=object)

    def spoil(values, labels, _):
        spoil_blocked(values, labels, make_ground(zones=frozenset(), test=region))

    one, two = (
        trained(kind, fold_pixels(write_problem(tmp_path / name, change), ground=make_ground(test=region)))
        for name, change in {"one": None, "two": spoil}.items()
    )
    assert same(one, two)
    assert one.predictions.pixels.equals(two.predictions.pixels)


@pytest.mark.parametrize("kind", KINDS)
def test_a_random_fold_is_scored_on_its_patches(scenes, kind):
    spatial = fold_pixels(scenes)
    table = spatial.table.assign(side=np.where(np.arange(len(spatial.table)) % 5 == 0, "validation", "train"))
    footprints = shapely.from_wkb(table["geometry"][table["side"] == "validation"].to_numpy(object))
    ground = make_ground(zones=frozenset(), footprints=footprints, buffer_m=0.0)
    result = trained(kind, replace(spatial, table=table, ground=ground, spatial=spatial.ground), epochs=1)
    splits = result.predictions.pixels.groupby("split")["pixels"].sum()
    assert set(splits.index) == {"random patches"} | (set() if kind == "segmentation" else {"random pixels"})


@pytest.mark.parametrize("kind", KINDS)
def test_refuses_a_fold_without_a_pixel_to_learn_from(scenes, kind):
    x, y = np.meshgrid(factories.ORIGIN_X + np.arange(0, 1700, 10), factories.ORIGIN_Y - np.arange(0, 1100, 10))
    zones = frozenset(RULE.at(x.ravel() + 5, y.ravel() - 5))
    with pytest.raises(TrainingError, match="fold 0: no labelled pixel is left to learn from: all lie in held-out"):
        trained(kind, fold_pixels(scenes, ground=make_ground(zones=zones)))


def test_a_lone_window_that_cannot_be_normalized_is_refused(scenes, monkeypatch):
    """As where each of two processes has one window of a batch."""
    monkeypatch.setattr(training, "batch_count", lambda examples, *_: examples)
    message = "fold 0: a process has a single example of a batch, .*; raise train.batch_size or lower train.devices"
    with pytest.raises(TrainingError, match=message):
        trained("segmentation", fold_pixels(scenes), model=model_settings(decoder="deeplabv3plus", depth=3))


def test_the_settings_of_the_docs_make_a_network(tmp_path):
    params = validate(switched("segmentation", tmp_path), Params, where="params.yaml:")
    for changes in ({}, {"depth": 2, "window_px": 32}):
        model = ModelSettings.model_validate(params.model.model_dump() | changes)
        assert build(model, CHANNELS, 3, size_px=model.window_px).training
