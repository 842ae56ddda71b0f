import json

import geopandas
import numpy as np
import pandas
import pytest
import shapely
from dvc_render.vega import VegaRenderer
from matplotlib.image import imread

from landfold.folds.split import Split
from landfold.report.figures import (
    Picture,
    accuracy_by_distance,
    distance_distributions,
    error_map,
    figure,
    fold_map,
    gap_bars,
)

COLOURS = {"water": (47, 127, 209), "farm": (233, 196, 106)}


def zones():
    boxes = [shapely.box(330000 + 2000 * i, 5814000, 332000 + 2000 * i, 5815000) for i in range(2)]
    return geopandas.GeoDataFrame({"zone": ["a", "b"], "fold": [0, 1]}, geometry=boxes, crs="EPSG:32633")


def patches(predicted):
    x = 330200 + 400.0 * np.arange(8)
    return geopandas.GeoDataFrame(
        {
            "label": ["water"] * 4 + ["farm"] * 4,
            "predicted": predicted,
            "fold": [0] * 4 + [1] * 4,
            "x": x,
            "y": 5814300.0,
        },
        geometry=shapely.box(x - 50, 5814250, x + 50, 5814350),
        crs="EPSG:32633",
    )


RIGHT = ["water"] * 4 + ["farm"] * 4
WRONG_WATER = ["farm"] * 4 + ["farm"] * 4


def pixels(path, colour):
    """How many pixels of a picture have a colour, to a rounding."""
    picture = (imread(path)[..., :3] * 255).round()
    return int((abs(picture - np.array(colour)) <= 1).all(axis=-1).sum())


def test_error_map_shows_the_true_colour_of_what_is_wrong(tmp_path):
    right, wrong = tmp_path / "right.png", tmp_path / "wrong.png"
    error_map(right, zones(), patches(RIGHT), COLOURS)
    error_map(wrong, zones(), patches(WRONG_WATER), COLOURS)
    assert pixels(right, COLOURS["water"]) > 0  # the legend
    assert pixels(wrong, COLOURS["water"]) > 3 * pixels(right, COLOURS["water"])
    assert pixels(wrong, COLOURS["farm"]) == pixels(right, COLOURS["farm"])


def test_error_map_keeps_the_shape_of_the_ground(tmp_path):
    north_south = zones()
    north_south["geometry"] = shapely.transform(north_south.geometry.to_numpy(), lambda c: c[:, ::-1])
    turned = patches(RIGHT).rename(columns={"x": "y", "y": "x"})
    error_map(tmp_path / "flat.png", zones(), patches(RIGHT), COLOURS)
    error_map(tmp_path / "tall.png", north_south, turned, COLOURS)
    assert imread(tmp_path / "tall.png").shape[0] > 2 * imread(tmp_path / "flat.png").shape[0]


def test_pictures_depend_on_their_content_alone(tmp_path):
    masks = [Split(train=np.arange(8) >= 4, validation=np.arange(8) < 4, buffer=np.zeros(8, dtype=bool))] * 2
    for name in ("first.png", "second.png"):
        error_map(tmp_path / f"error-{name}", zones(), patches(WRONG_WATER), COLOURS)
        fold_map(tmp_path / f"fold-{name}", zones(), patches(RIGHT), masks)
    for kind in ("error", "fold"):
        assert (tmp_path / f"{kind}-first.png").read_bytes() == (tmp_path / f"{kind}-second.png").read_bytes()


def test_fold_map_shows_the_scene_and_the_test_region(tmp_path):
    masks = [Split(train=np.arange(8) >= 4, validation=np.arange(8) < 4, buffer=np.zeros(8, dtype=bool))] * 2
    fold_map(tmp_path / "bare.png", zones(), patches(RIGHT), masks)
    fold_map(tmp_path / "test.png", zones(), patches(RIGHT).assign(fold=[-1] * 4 + [1] * 4), masks)
    assert pixels(tmp_path / "test.png", (0, 0, 0)) > pixels(tmp_path / "bare.png", (0, 0, 0)) + 100
    scene = np.zeros((3, 20, 30))
    scene[:, :10] = np.linspace(1, 2, 30)  # the south half is without data
    picture = Picture(scene, tuple(zones().total_bounds))
    fold_map(tmp_path / "scene.png", zones(), patches(RIGHT), masks, pictures=[picture])
    bare, shown = imread(tmp_path / "bare.png"), imread(tmp_path / "scene.png")
    assert bare.shape == shown.shape
    changed = np.flatnonzero((abs(bare - shown) > 0.1).any(axis=(1, 2)))
    assert 0 < len(changed) < 0.6 * bare.shape[0]
    assert changed.max() - changed.min() < 0.6 * bare.shape[0]


def test_a_figure_that_fails_leaves_the_earlier_one(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"earlier")
    with pytest.raises(RuntimeError, match="halfway"), figure(path, width=2, height=1):
        raise RuntimeError("halfway")
    assert path.read_bytes() == b"earlier"
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def filled(template, x, ys, row, revisions):
    """The Vega specification that `dvc plots diff` makes of a template of this repository."""
    y = "dvc_inferred_y_value" if len(ys) > 1 else ys[0]
    points = [
        {**row, y: row[field], "rev": revision, "filename": "data.csv", "field": field}
        for revision in revisions
        for field in ys
    ]
    labels = {"title": "A title", "x_label": "across", "y_label": "up"}
    definitions = [{"filename": "data.csv", "field": field} for field in ys]
    return VegaRenderer(
        points,
        "plot",
        template=template,
        template_dir=".dvc/plots",
        x=x,
        y=y,
        anchors_y_definitions=definitions,
        **labels,
    ).get_filled_template()


def named(part, key):
    """Every text that a specification has under a key, at any depth."""
    if isinstance(part, list):
        return {text for entry in part for text in named(entry, key)}
    if not isinstance(part, dict):
        return set()
    here = {part[key]} if isinstance(part.get(key), str) else set()
    return here | {text for value in part.values() for text in named(value, key)}


@pytest.mark.parametrize(
    ("template", "x", "ys", "row"),
    [
        (
            "folds",
            "epoch",
            ["train_loss", "validation_loss"],
            {"fold": "0", "epoch": "1", "train_loss": "1.5", "validation_loss": "1.6"},
        ),
        (
            "confusion_counts",
            "predicted",
            ["actual"],
            {"actual": "farm", "predicted": "water", "count": "3", "share": "0.25"},
        ),
        (
            "confusion_shares",
            "predicted",
            ["actual"],
            {"actual": "farm", "predicted": "water", "count": "3", "share": "0.25"},
        ),
        (
            "class_scores",
            "value",
            ["class"],
            {"class": "farm", "support": "4", "score": "f1", "value": "0.5", "low": "0.4", "high": "0.6"},
        ),
        (
            "reliability",
            "confidence",
            ["accuracy"],
            {
                "scaled": "True",
                "bin": "7",
                "low": "0.4667",
                "high": "0.5333",
                "count": "4",
                "confidence": "0.5",
                "accuracy": "0.25",
            },
        ),
        (
            "zone_points",
            "distance_m",
            ["accuracy"],
            {"zone": "E1N2", "fold": "0", "patches": "4", "accuracy": "0.25", "distance_m": "812.5"},
        ),
        (
            "differences",
            "difference",
            ["score"],
            {
                "comparison": "gap",
                "of": "random",
                "against": "zoned",
                "score": "accuracy",
                "of_value": "0.8",
                "against_value": "0.7",
                "difference": "0.1",
                "low": "0.05",
                "high": "0.15",
            },
        ),
    ],
)
def test_dvc_fills_the_templates_and_they_tell_revisions_apart(monkeypatch, pytestconfig, template, x, ys, row):
    monkeypatch.chdir(pytestconfig.rootpath)
    specification = filled(template, x, ys, row, ["main", "workspace"])
    data = specification.pop("data")
    assert "<DVC_METRIC" not in json.dumps([specification, data])
    assert specification["title"]["text"] == "A title"
    assert {point["rev"] for point in data["values"]} == {"main", "workspace"}
    used = named(specification, "field")
    assert "rev" in used
    assert used - {"rev"} <= set(data["values"][0]) | named(specification, "as")


ZONED, RANDOM = (0, 114, 178), (213, 94, 0)


def distances(zoned):
    return {
        "sample_to_sample": np.full(50, 160.0),
        "prediction_to_sample": np.repeat([0.0, 160.0, 500.0], 20),
        "zoned": zoned,
        "random": np.repeat([160.0, 226.0], 30),
    }


def test_distances_of_each_kind_are_drawn_also_those_of_zero(tmp_path):
    w = {"zoned": 700.0, "random": 20.0}
    distance_distributions(tmp_path / "far.png", distances(np.linspace(300, 2000, 80)), w)
    distance_distributions(tmp_path / "again.png", distances(np.linspace(300, 2000, 80)), w)
    distance_distributions(tmp_path / "zero.png", {name: np.zeros(3) for name in distances(np.ones(1))}, w)
    for colour in (ZONED, RANDOM):
        assert pixels(tmp_path / "far.png", colour) > 200
    assert (tmp_path / "far.png").read_bytes() == (tmp_path / "again.png").read_bytes()
    assert (tmp_path / "zero.png").stat().st_size > 1000


def comparison(random):
    def scores(value):
        return {name: {"pooled": value, "low": value - 0.1, "high": value + 0.05} for name in ("accuracy", "macro_f1")}

    return {"zoned": scores(0.5), "random": scores(random), "gap": scores(random - 0.5)}


def test_bars_are_as_high_as_the_scores(tmp_path):
    for name, random in (("low", 0.25), ("high", 0.75)):
        gap_bars(tmp_path / f"{name}.png", {"statistics": comparison(random), "coordinates": comparison(random)})
    low, high = (tmp_path / f"{name}.png" for name in ("low", "high"))
    assert pixels(low, ZONED) == pytest.approx(pixels(high, ZONED), rel=0.05)
    assert pixels(high, RANDOM) / pixels(low, RANDOM) == pytest.approx(3, rel=0.15)
    before = low.read_bytes()
    gap_bars(low, {"statistics": comparison(0.25), "coordinates": comparison(0.25)})
    assert low.read_bytes() == before


def reach(zoned_m, count=60):
    return pandas.DataFrame(
        {
            "label": ["water", "farm"] * (count // 2),
            "predicted_zoned": "water",
            "predicted_random": ["water", "farm"] * (count // 2),
            "zoned_m": np.resize(zoned_m, count),
            "random_m": 160.0,
        }
    )


def test_accuracy_is_drawn_where_there_are_enough_patches(tmp_path):
    accuracy_by_distance(tmp_path / "some.png", reach([400.0, 900.0, 1500.0]))
    for least in (1, 61):
        accuracy_by_distance(tmp_path / f"{least}.png", reach([400.0, 900.0, 1500.0]), least=least)
    accuracy_by_distance(tmp_path / "one.png", reach([160.0]))
    assert pixels(tmp_path / "1.png", ZONED) > 2 * pixels(tmp_path / "61.png", ZONED) > 0, "the legend is always there"
    assert pixels(tmp_path / "one.png", RANDOM) > 50
    before = (tmp_path / "some.png").read_bytes()
    accuracy_by_distance(tmp_path / "some.png", reach([400.0, 900.0, 1500.0]))
    assert (tmp_path / "some.png").read_bytes() == before
