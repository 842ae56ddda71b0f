import re

import numpy as np
import pandas
import pytest

from landfold.report import charts
from landfold.report.figures import HELD_OUT, SPLITS, TRAINING, svg
from tests.report.test_maps import count, drawn

HISTORY = pandas.DataFrame(
    {"fold": fold, "epoch": epoch, "train_loss": 2 / epoch, "validation_loss": 3 / epoch + fold}
    for fold in range(3)
    for epoch in range(1, 5)
)
ZONES = [{"zone": f"E{i}", "accuracy": a, "patches": n} for i, (a, n) in enumerate([(1.0, 3), (0.0, 1), (0.5, 40)])]
BINS = [
    {"scaled": scaled, "confidence": 0.1 * i, "accuracy": 0.08 * i, "count": i} for scaled in (0, 1) for i in (5, 9)
]
SPATIAL, RANDOM = (tuple(bytes.fromhex(SPLITS[split][1][1:])) for split in ("zoned", "random"))


def strokes(figure, colour):
    return len(re.findall(f"stroke: {colour}", svg(figure).decode()))


def test_curves_have_a_line_for_every_fold_and_a_mean_of_both_roles():
    figure = charts.training_curves(HISTORY, "loss")
    assert strokes(figure, HELD_OUT) == strokes(figure, TRAINING) == 3 + 1 + 1  # folds, mean, legend
    mean = figure.axes[0].lines[-1].get_ydata()
    np.testing.assert_allclose(mean, 3 / np.arange(1, 5) + 1)


def test_a_fold_that_stopped_early_ends_its_line():
    figure = charts.training_curves(HISTORY[:-1], "loss")
    assert figure.axes[0].lines[-1].get_ydata()[-1] == 3 / 4 + 0.5


def test_zones_are_dots_from_the_worst_to_the_best():
    figure = charts.zone_accuracies(ZONES, median=0.5, pooled=0.6)
    (dots,) = figure.axes[0].collections
    np.testing.assert_array_equal(dots.get_offsets(), [(1, 0), (2, 0.5), (3, 1)])
    assert list(np.argsort(dots.get_sizes())) == [0, 2, 1]


def test_reliability_has_points_of_each_state_and_is_drawn_without_scaled_bins():
    both, one = charts.reliability_diagram(BINS), charts.reliability_diagram(BINS[:2])
    assert [len(part.get_offsets()) for part in both.axes[0].collections] == [2, 2]
    assert [len(part.get_offsets()) for part in one.axes[0].collections] == [2, 0]
    assert svg(one) != svg(both)


def distances(zoned):
    kinds = {
        "sample_to_sample": np.full(50, 160.0),
        "prediction_to_sample": np.repeat([0.0, 160.0, 500.0], 20),
        "zoned": zoned,
        "random": np.repeat([160.0, 226.0], 30),
    }
    return pandas.concat(pandas.DataFrame({"kind": kind, "distance_m": values}) for kind, values in kinds.items())


def test_distances_of_each_kind_are_drawn_also_those_of_zero():
    w = {"zoned": 700.0, "random": 20.0}
    far = drawn(charts.distance_distributions(distances(np.linspace(300, 2000, 80)), w))
    assert count(far, SPATIAL) > 200
    assert count(far, RANDOM) > 200
    zero = charts.distance_distributions(distances(np.zeros(3)).assign(distance_m=0.0), w)
    assert len(drawn(zero)) > 100


def comparison(random):
    def scores(value):
        return {name: {"pooled": value, "low": value - 0.1, "high": value + 0.05} for name in ("accuracy", "macro_f1")}

    return {"zoned": scores(0.5), "random": scores(random), "gap": scores(random - 0.5)}


def test_bars_are_as_high_as_the_scores():
    figure = charts.gap_bars({"statistics": comparison(0.75), "coordinates": comparison(0.25)})
    for axes, random in zip(figure.axes, (0.75, 0.25), strict=True):
        heights = {
            label: [bar.get_height() for bar in bars] for bars, label in zip(axes.containers[1::2], SPLITS, strict=True)
        }
        assert heights == {"random": [random] * 2, "zoned": [0.5] * 2}
        assert axes.get_xticklabels()[1].get_text().startswith(f"macro F1\n{random - 0.5:+.3f}\n")
    assert count(drawn(figure), RANDOM) > 500


def test_bars_of_pixels_come_first_one_for_each_split():
    own = {name: comparison(0.75)[part] for name, part in (("zones", "zoned"), ("random_patches", "random"))}
    pixels = own | {"random_pixels": comparison(0.9)["random"], "gap": comparison(0.9)["gap"]}
    first, second = charts.gap_bars({"patches": comparison(0.75)}, pixels).axes
    heights = [[bar.get_height() for bar in bars] for bars in first.containers[1::2]]
    assert heights == [[0.9] * 2, [0.75] * 2, [0.5] * 2]
    assert [text.get_text() for text in first.get_legend().get_texts()] == ["random pixels", "random patches", "zones"]
    assert [text.get_text() for text in second.get_legend().get_texts()] == ["random CV", "spatial CV"]
    assert first.get_xticklabels()[0].get_text().startswith("accuracy\n+0.400\n")


def test_zones_are_of_pixels_where_these_are_counted():
    rows = [row | {"pixels": 100 * row["patches"]} for row in ZONES]
    axes = charts.zone_accuracies(rows, of="pixels", median=0.5, pooled=0.6).axes[0]
    assert axes.get_xlabel().endswith("areas are pixels, 100 to 4000")


def audited(zoned_m, patches=60):
    return pandas.DataFrame(
        {
            "label": ["water", "farm"] * (patches // 2),
            "predicted_zoned": "water",
            "predicted_random": ["water", "farm"] * (patches // 2),
            "zoned_m": np.resize(zoned_m, patches),
            "random_m": 160.0,
        }
    )


@pytest.mark.parametrize(("patches", "drawn_at"), [(60, [400, 1200]), (18, [1200])])
def test_accuracy_is_drawn_where_there_are_enough_patches(patches, drawn_at):
    figure = charts.accuracy_by_distance(audited([400.0, 900.0, 1500.0], patches))
    random, spatial = figure.axes[0].collections
    np.testing.assert_allclose(random.get_offsets(), [(160, 1)])
    np.testing.assert_allclose(spatial.get_offsets(), [(distance, 0.5) for distance in drawn_at])
    assert len(figure.axes[0].texts) == 1 + len(drawn_at)


def test_accuracy_is_drawn_where_all_distances_are_one():
    (_, spatial) = charts.accuracy_by_distance(audited([160.0])).axes[0].collections
    np.testing.assert_allclose(spatial.get_offsets(), [(160, 0.5)])
