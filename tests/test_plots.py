import json

import geopandas
import numpy as np
import pytest
import shapely
from dvc_render.vega import VegaRenderer
from matplotlib.image import imread

from landfold.folds import Split
from landfold.plots import error_map, figure, fold_map

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
        ("class_scores", "value", ["class"], {"class": "farm", "support": "4", "score": "f1", "value": "0.5"}),
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
