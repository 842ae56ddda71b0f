import shutil
from dataclasses import replace

import numpy as np
import pandas
import pytest
import torch

from landfold.geo.raster import Raster
from landfold.network.callbacks import TrainingCallbacks
from landfold.network.checkpoints import Checkpoint
from landfold.network.errors import TrainingError
from landfold.network.fold import write_fold
from landfold.network.model import pixel_probabilities
from landfold.network.pixel_examples import RANDOM_SHARE, SurroundingsExamples
from landfold.pixels.counts import is_boundary
from landfold.pixels.rows import read_padded
from tests.factories import box, make_grid, tree, write_labelled_scene
from tests.network.tiny import (
    PIXEL_SHAPE,
    PIXEL_TRAIN,
    Killed,
    pixel_card,
    pixel_examples,
    pixel_ground,
    same,
    stop_after,
    train_settings,
    trained_on_pixels,
    write_pixel_project,
)

GRID = make_grid(*PIXEL_SHAPE)
REGION = box(820, 620, 1000, 800)
LEARNED = ["epoch", "learning_rate", "train_loss", "train_accuracy"]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pixels")
    write_pixel_project(folder)
    return folder


@pytest.fixture(scope="module")
def first(project):
    """Fold 0 trained with the settings as they are."""
    result = trained_on_pixels(project)
    torch.use_deterministic_algorithms(False)
    return result


def ground_of(folder, fold=0, kind="fold", **changes):
    return pixel_examples(folder, fold, kind, **changes)._pixels.ground


def equal_weights(one, other) -> bool:
    mine, theirs = (result.classifier.network.state_dict() for result in (one, other))
    return all(torch.equal(mine[name], theirs[name]) for name in mine)


def changed_ground(folder, target, changed):
    """A copy of a project in which the pixels of a mask have other values and other labels, and all of them data."""
    shutil.copytree(folder, target)
    values, labels, valid = pixel_ground()
    values, labels = np.where(changed, 1 - values, values), np.where(changed, 2 - labels // 2, labels)
    write_labelled_scene(target, "s", values, labels, grid=GRID, valid=valid | changed)
    return target


def test_learns_what_is_easy_and_is_right_on_ground_that_it_has_not_seen(first):
    pixels, patches = first.predictions.pixels, first.predictions.validation
    right = pixels["pixels"][pixels["label"] == pixels["predicted"]].sum()
    assert right / pixels["pixels"].sum() > 0.95
    assert (patches["label"] == patches["predicted"]).mean() > 0.9
    history = first.history
    assert list(history.columns) == [*LEARNED, "validation_loss", "validation_accuracy"]
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0]
    assert history["validation_accuracy"].iloc[-1] == pytest.approx(right / pixels["pixels"].sum())


def test_examples_are_the_labelled_pixels_on_either_side_of_the_ground(project):
    _, labels, valid = pixel_ground()
    for fold in range(3):
        examples = pixel_examples(project, fold)
        ground, there = examples._pixels.ground, valid & (labels > 0)
        blocked, scored = ground.blocked(GRID), ground.scored(GRID)
        assert examples.data.train.targets.tolist() == (labels[there & ~blocked] - 1).tolist()
        assert examples.data.validation.targets.tolist() == (labels[there & scored] - 1).tolist()
        assert examples.data.inner is None
        assert (there & blocked & ~scored).any(), "the buffer"


def test_at_most_so_many_pixels_are_learned_from_and_they_change_the_result(project, first):
    assert len(pixel_examples(project, max_pixels=500).data.train) == 500
    few, again = (pixel_examples(project, max_pixels=500).data.train.targets for _ in range(2))
    assert few.tolist() == again.tolist()
    assert not same(trained_on_pixels(project, max_pixels=500), first)


def test_the_same_again_is_the_same_to_the_bit_and_the_byte(project, first, tmp_path):
    again = trained_on_pixels(project)
    assert same(again, first)
    for name, result in {"first": first, "second": again}.items():
        (tmp_path / name).mkdir()
        write_fold(tmp_path / name, result)
    files = tree(tmp_path / "first")
    tables = ["pixel_sample.parquet", "pixels.parquet", "predictions.parquet"]
    assert list(files) == ["history.csv", "model.json", "model.safetensors", *tables]
    assert files == tree(tmp_path / "second")


@pytest.mark.parametrize("changes", [{}, {"early_stopping": 3, "average": "ema", "sampling": "balanced"}])
def test_an_interrupted_training_continues_to_the_same_bits(project, tmp_path, changes):
    whole = trained_on_pixels(project, **changes)
    with pytest.raises(Killed), Checkpoint(tmp_path) as checkpoint:
        trained_on_pixels(project, checkpoint=checkpoint, callbacks=stop_after(2), **changes)
    notices = []
    with Checkpoint(tmp_path) as checkpoint:
        callbacks = TrainingCallbacks(on_notice=notices.append)
        again = trained_on_pixels(project, checkpoint=checkpoint, callbacks=callbacks, **changes)
    assert notices == ["fold 0: continuing an interrupted training after epoch 2"]
    assert same(again, whole)
    for table in ("validation", "pixels"):
        pandas.testing.assert_frame_equal(getattr(again.predictions, table), getattr(whole.predictions, table))


def test_a_training_of_other_pixels_does_not_continue(project, tmp_path):
    blocked = ground_of(project).blocked(GRID)
    other = changed_ground(project, tmp_path / "other", ~blocked)
    with pytest.raises(Killed), Checkpoint(tmp_path / "states") as checkpoint:
        trained_on_pixels(project, checkpoint=checkpoint, callbacks=stop_after(1))
    notices = []
    with pytest.raises(Killed), Checkpoint(tmp_path / "states") as checkpoint:
        callbacks = replace(stop_after(1), on_notice=notices.append)
        trained_on_pixels(other, checkpoint=checkpoint, callbacks=callbacks)
    assert notices == []


@pytest.mark.parametrize(
    ("fold", "changes"), [(0, {}), (2, {"class_weights": "balanced"}), (1, {"early_stopping": 2, "epochs": 6})]
)
def test_held_out_ground_and_its_buffer_have_no_influence_on_the_weights(project, tmp_path, fold, changes):
    before = trained_on_pixels(project, fold, **changes)
    blocked = ground_of(project, fold).blocked(GRID)
    after = trained_on_pixels(changed_ground(project, tmp_path / "changed", blocked), fold, **changes)
    assert equal_weights(before, after)
    seen = [name for name in before.history if not name.startswith("validation")]
    assert before.history[seen].equals(after.history[seen])
    assert not before.history["validation_loss"].equals(after.history["validation_loss"])
    assert not before.predictions.pixels.equals(after.predictions.pixels)


def test_the_test_region_has_no_influence_on_the_weights_and_is_predicted_apart(tmp_path):
    project = tmp_path / "project"
    write_pixel_project(project, REGION)
    before = trained_on_pixels(project)
    region = np.zeros(PIXEL_SHAPE, dtype=bool)
    region[62:80, 82:100] = True
    after = trained_on_pixels(changed_ground(project, tmp_path / "changed", region))
    assert equal_weights(before, after)
    assert before.predictions.pixels.equals(after.predictions.pixels)
    tests = before.predictions.test
    assert len(tests) > 0
    assert not tests.equals(after.predictions.test)
    assert not set(tests["patch"]) & set(before.predictions.validation["patch"])
    (tmp_path / "fold").mkdir()
    write_fold(tmp_path / "fold", before)
    assert (tmp_path / "fold/test.parquet").is_file()


def test_ground_next_to_the_buffer_has_an_influence(project, tmp_path, first):
    blocked = ground_of(project).blocked(GRID)
    changed = np.zeros_like(blocked)
    row, column = np.argwhere(~blocked)[700]
    changed[row, column] = True
    assert not equal_weights(trained_on_pixels(changed_ground(project, tmp_path / "changed", changed)), first)


@pytest.mark.parametrize("fold", [0, 1, 2])
@pytest.mark.parametrize("most", [300, 305, 10_000])
def test_a_random_fold_trains_on_as_many_pixels_as_the_spatial_one_and_sets_others_aside(project, fold, most):
    spatial, random = (pixel_examples(project, fold, kind, max_pixels=most) for kind in ("fold", "random"))
    count = len(spatial.data.train)
    _, labels, valid = pixel_ground()
    there = (valid & (labels > 0) & ~random._pixels.ground.blocked(GRID)).sum()
    whole = min(there, round(count / (1 - RANDOM_SHARE)))  # all there are, where its patches leave too few
    assert len(random._aside) == round(RANDOM_SHARE * whole)
    assert len(random.data.train) == whole - len(random._aside) == min(count, there - round(RANDOM_SHARE * there))
    assert len(spatial._aside) == 0


def test_a_random_fold_counts_pixels_of_its_patches_and_pixels_set_aside(project):
    examples, result = pixel_examples(project, 0, "random"), trained_on_pixels(project, 0, "random")
    counts = result.predictions.pixels.groupby("split")["pixels"].sum()
    _, labels, valid = pixel_ground()
    scored = examples._pixels.ground.scored(GRID) & valid & (labels > 0)
    assert counts.to_dict() == {"random patches": scored.sum(), "random pixels": len(examples._aside)}
    held_out = examples._pixels.table["side"] == "validation"
    assert list(result.predictions.validation["patch"]) == list(examples._pixels.table["patch"][held_out])


EARLY = {"early_stopping": 9, "epochs": 4, "inner_folds": 4}


def inner_zones(examples: SurroundingsExamples) -> np.ndarray:
    """Which pixels are in the zones that choose the epoch: those of no other training pixel that may be seen."""
    ground, learned = examples._pixels.ground, set(examples.rows.zones)
    zones = ground.zones_of(GRID)
    return ~np.isin(zones, sorted(learned)) & ~ground.in_zones(GRID)


def test_early_stopping_hides_the_inner_zones_and_chooses_by_them(project, tmp_path):
    examples, every = pixel_examples(project, **EARLY), pixel_examples(project)
    inside = inner_zones(examples)
    assert inside.sum() >= 500
    _, labels, valid = pixel_ground()
    there = valid & (labels > 0) & ~examples._pixels.ground.blocked(GRID)
    assert examples.data.inner.targets.tolist() == (labels[there & inside] - 1).tolist()
    learning = examples._pixels.ground.with_zones(set(examples._pixels.ground.zones_of(GRID)[inside]))
    assert len(examples.data.train) == (there & ~learning.blocked(GRID)).sum() < len(every.data.train)
    before = trained_on_pixels(project, **EARLY)
    after = trained_on_pixels(changed_ground(project, tmp_path / "changed", learning.blocked(GRID)), **EARLY)
    assert before.history[LEARNED].equals(after.history[LEARNED])
    assert not before.history["inner_loss"].equals(after.history["inner_loss"])


def test_early_stopping_uses_the_weights_of_the_best_epoch_of_the_inner_zones(project):
    changes = {"early_stopping": 2, "epochs": 12, "learning_rate": 0.1}
    result = trained_on_pixels(project, **changes)
    best = int(result.history["inner_loss"].argmin())
    assert len(result.history) == best + 3 < 12
    pixels = result.predictions.pixels
    right = pixels["pixels"][pixels["label"] == pixels["predicted"]].sum() / pixels["pixels"].sum()
    assert right == pytest.approx(result.history["validation_accuracy"][best])


def whole_scene(folder, classifier) -> np.ndarray:
    """The probabilities of all pixels, (y, x, class)."""
    margin = classifier.card.margin_px
    with Raster.open(folder / "normalized/s.tif") as raster:
        values = read_padded(raster, GRID.whole, margin)
    found = pixel_probabilities([classifier], values, np.ones(PIXEL_SHAPE, dtype=bool))
    return found[0].reshape(*PIXEL_SHAPE, -1)


def test_predictions_are_those_of_the_map_counted_and_as_means_over_cores(project, first):
    probabilities = whole_scene(project, first.classifier)
    _, labels, valid = pixel_ground()
    ground = ground_of(project)
    scored = ground.scored(GRID) & valid & (labels > 0)
    names = np.array(["water", "field"])
    rows = pandas.DataFrame(
        {
            "zone": ground.zones_of(GRID)[scored],
            "boundary": is_boundary(np.pad(labels, 1))[scored],
            "label": names[labels[scored] - 1],
            "predicted": names[probabilities[scored].argmax(axis=1)],
        }
    )
    expected = rows.groupby(list(rows)).size()
    found = first.predictions.pixels
    assert set(found["split"]) == {"zones"}
    assert found.set_index(list(rows))["pixels"].to_dict() == expected.to_dict()
    sample = first.predictions.sample.sort_values("p_water", ignore_index=True)
    order = np.argsort(probabilities[scored][:, 0], kind="stable")
    np.testing.assert_array_equal(sample[["p_water", "p_field"]], probabilities[scored][order])
    np.testing.assert_array_equal(np.sort(sample["zone"]), np.sort(rows["zone"]))
    assert first.predictions.sample["label"].value_counts().to_dict() == rows["label"].value_counts().to_dict()
    for patch in first.predictions.validation.itertuples():
        row, column = (int(part) + 2 for part in patch.patch.split("/")[1:])
        core = probabilities[row : row + 4, column : column + 4][valid[row : row + 4, column : column + 4]]
        assert (patch.p_water, patch.p_field) == pytest.approx(tuple(core.mean(axis=0)), abs=1e-6)
        assert patch.predicted == names[int(patch.p_field > patch.p_water)]


def test_a_class_without_a_training_pixel_is_reported(project):
    notices = []
    examples = pixel_examples(project)
    labels = pixel_ground()[1]
    assert set(examples.data.train.targets) == {0, 1}
    only = project.parent / "one-class"
    values, labels, valid = pixel_ground()
    shutil.copytree(project, only)
    write_labelled_scene(only, "s", values, np.minimum(labels, 1), grid=GRID, valid=valid)
    trained_on_pixels(only, epochs=1, callbacks=TrainingCallbacks(on_notice=notices.append))
    assert notices == [
        "fold 0: no training pixel of class field: the network cannot learn it, and all of it in the validation fold "
        "counts as wrong"
    ]


def test_refuses_a_fold_without_a_pixel_to_learn_from(project):
    examples = pixel_examples(project)
    pixels = replace(examples._pixels, ground=replace(examples._pixels.ground, buffer_m=5000.0))
    with pytest.raises(TrainingError, match=r"fold 0: no labelled pixel is left to learn from: .*lower zones.buffer_m"):
        SurroundingsExamples(pixels, pixel_card(), train_settings(**PIXEL_TRAIN))
