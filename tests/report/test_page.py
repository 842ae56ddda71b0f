import base64
import re
from html.parser import HTMLParser
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from landfold.core.files import write_json
from landfold.report import page as report
from landfold.report.page import DARK, LIGHT, contrast, page, shades
from landfold.report.pictures import CHARTS, PICTURES
from landfold.report.result import ReportError, Sources, read_report_data

VOID = {"meta", "img", "link", "br", "hr", "input"}
NASTY = ["<b>water</b>", 'farm & "field"', "Wälder 'ß'"]


def scored(pooled, low=None, high=None):
    return {
        "pooled": pooled,
        "low": pooled - 0.05 if low is None else low,
        "high": pooled + 0.05 if high is None else high,
    }


def headline(pooled, **more):
    return {name: scored(pooled) | more for name in ("accuracy", "balanced_accuracy", "macro_f1")}


def contents(classes=("water", "farm"), *, scenes=1, folds=2, repeats=1, zones=4):
    """Every file that the page is read from, as plain data that tests may change."""
    n = len(classes)
    numbers = [str(fold) for fold in range(folds * repeats)]
    summary = {
        "zoned": headline(0.7134, mean=0.71, std=0.04) | {"weighted_f1": 0.7, "f1": dict.fromkeys(classes, 0.5)},
        "over_baseline": {name: scored(0.06, 0.02, 0.10) for name in report.SCORES},
        "random": headline(0.79),
        "gap": {name: scored(0.08, 0.04, 0.12) for name in report.SCORES},
        "patches": 40,
        "zones": zones,
        "effective_zones": zones - 0.5,
    }
    zone_rows = [
        {"zone": f"E{i}N7", "fold": i % folds, "patches": 1 + i, "accuracy": 1 - i / zones, "distance_m": 300.0 + i}
        for i in range(zones)
    ]
    bins = [
        {"scaled": scaled, "bin": b, "low": b / 10, "high": (b + 1) / 10, "count": b, "confidence": b / 10 + 0.05,
         "accuracy": b / 12}
        for scaled in (False, True)
        for b in (5, 9)
    ]  # fmt: skip
    scores = {
        "classes": list(classes),
        "patches": 40,
        "zones": zones,
        "effective_zones": zones - 0.5,
        "repeats": repeats,
        "headline": headline(0.7134),
        "baseline": {"name": "band statistics alone"} | headline(0.6534),
        "pooled": {
            "weighted_f1": 0.7, "top2": 0.87, "log_loss": 1.0, "brier": 0.4, "ece": 0.11,
            "quantity_disagreement": 0.06, "allocation_disagreement": 0.22,
        },
        "kappa": {"value": 0.61, "caveat": "It adds nothing."},
        "confusion": [[8 if i == j else (i + 2 * j) % 5 for j in range(n)] for i in range(n)],
        "per_class": [
            {"class": name, "support": 10, "precision": scored(0.6), "recall": scored(0.5), "f1": scored(0.55)}
            for name in classes
        ],
        "per_fold": [
            {"fold": int(fold), "repeat": int(fold) // folds, "patches": 20, "accuracy": 0.7, "balanced_accuracy": 0.6,
             "macro_f1": 0.5, "log_loss": 1.0, "temperature": 1.4}
            for fold in numbers
        ],
        "per_zone": zone_rows,
        "zone_summary": {"worst": zone_rows[-1], "median_accuracy": 0.625, "least_patches": 3},
        "comparisons": [],
        "calibration": {
            "bins": 15,
            "clip": 1e-7,
            "before": {"log_loss": 1.0, "brier": 0.44, "ece": 0.11},
            "after": {"log_loss": 0.93, "brier": 0.43, "ece": 0.06},
            "fitted": {
                "coverage": 0.9,
                "ensemble": {"temperature": 1.42, "uniform_share": 0.07, "unscaled_share": 0.3},
                "folds": [],
            },
            "reliability": bins,
            "sets": {"covered": scored(0.89, 0.84, 0.93), "classes": 2.47},
        },
        "warnings": ["fewer than 10 zones <each>"],
    }  # fmt: skip
    spread = {"q05": 0.0, "median": 160.0, "q95": 1678.8}
    audit = {
        "baseline": "random_forest",
        "zoned": headline(0.66),
        "random": headline(0.75),
        "gap": {name: scored(0.09, 0.05, 0.13) for name in report.SCORES},
        "coordinates": {"zoned": headline(0.36), "random": headline(0.77), "gap": headline(0.41)},
        "distances": {
            "held_out_to_train": {
                "zoned": spread | {"wasserstein_m": 698.0},
                "random": spread | {"wasserstein_m": 154.0},
            },
            "prediction_to_sample": spread,
            "sample_to_sample": spread,
        },
        "autocorrelation": {"range_m": 1051.5, "levels_off": True, "zone_size_m": 2560.0},
        "warnings": ["zones are small"],
    }  # fmt: skip
    counts = {"train": 18, "validation": 20, "buffer": 2, "zones": 2, "flags": [], "classes": {}}
    entry = {
        "sensor": "sentinel2", "acquired": None, "crs": "EPSG:32633", "grid": {"width": 120, "height": 90},
        "resolution_m": [10.0, 10.0], "valid_fraction": 0.98, "cloud_fraction": 0.01, "warnings": [], "masks": [],
    }  # fmt: skip
    files = [{"file": f"B0{i}.tif", "sha256": f"{i}" * 64} for i in (2, 3)]
    return {
        "metrics/summary.json": summary,
        "metrics/scores.json": scores,
        "metrics/audit.json": audit,
        "metrics/patches.json": {
            "windows": 12345, "kept": 40,
            "dropped": {"impure": 3, "invalid": 2, "small": 0, "unlabelled": 12300},
        },
        "metrics/folds.json": {"folds": {fold: dict(counts) for fold in numbers}, "test": 0, "cautions": []},
        "data/scenes/report.json": {
            "refusals": {},
            "scenes": [entry | {"scene": f"S{i:03}", "bands": files} for i in range(scenes)],
        },
        "data/folds/k2/index.json": {"folds": list(map(int, numbers)), "digests": dict.fromkeys(numbers, "ab" * 32)},
        "models/k2/fold_0/model.json": {
            "patches_digest": "cd" * 32, "statistics_digest": "ef" * 32, "channels": ["B", "NDVI"],
            "classes": list(classes),
        },
        "data/maps/applicability.json": {"scenes": {"S000": {"cells": 100, "outside": 0.054}}},
    }  # fmt: skip


def of_pixels(files, *, random=True):
    """The files of a network of pixels."""
    scores = files["metrics/scores.json"]
    splits = {"zones": headline(0.61) | {"pixels": 9876}}
    summary = {"count": 9876, "accuracy": scored(0.61), "macro_f1": scored(0.52)}
    if random:
        splits |= {
            "random_patches": headline(0.83) | {"pixels": 7000},
            "random_pixels": headline(0.87) | {"pixels": 900},
        }
        names = ("accuracy", "macro_f1")
        summary |= {"random": headline(0.87), "gap": {name: scored(0.26, 0.21, 0.31) for name in names}}
    zones = [row | {"pixels": 100 * row["patches"]} for row in scores["per_zone"]]
    scores["pixels"] = {
        "count": 9876,
        "zones": scores["zones"],
        "effective_zones": scores["effective_zones"],
        "headline": headline(0.61),
        "confusion": [[800 + i if i == j else 50 for j, _ in enumerate(scores["confusion"])]
                      for i, _ in enumerate(scores["confusion"])],
        "per_class": [row | {"support": 5432} for row in scores["per_class"]],
        "per_fold": [
            {name: value for name, value in row.items() if name not in ("patches", "log_loss", "temperature")}
            | {"pixels": 4321}
            for row in scores["per_fold"]
        ],
        "per_zone": zones,
        "zone_summary": {"worst": zones[-1], "median_accuracy": 0.575, "least_pixels": 300},
        "boundary": headline(0.44) | {"pixels": 2345},
        "interior": headline(0.71) | {"pixels": 7531},
        "calibration": scores["calibration"] | {"before": {"log_loss": 1.0, "brier": 0.44, "ece": 0.0654},
                                                "reliability": []},
        "splits": splits,
        "comparisons": [],
    }  # fmt: skip
    files["metrics/summary.json"]["pixels"] = summary


PARAMS = {"project": {"name": "meadows & <lakes>"}, "train": {"epochs": 2}, "export": {"calibrated": True}}

SOURCES = Sources(
    metrics=Path("metrics"),
    scenes=Path("data/scenes"),
    normalized=Path("data/normalized"),
    patches=Path("data/patches.parquet"),
    folds=Path("data/folds/k2"),
    card=Path("models/k2/fold_0/model.json"),
    maps=Path("data/maps"),
    audit=Path("data/audit"),
    predictions=Path("data/predictions.parquet"),
)


def write_result(folder: Path, files: dict) -> None:
    for name, content in files.items():
        write_json(folder / name, content)
    (folder / "data/predictions.parquet").write_bytes(b"PAR1")
    (folder / "metrics/plots").mkdir(exist_ok=True)
    lines = [f"{fold},{epoch},0.001,{2 / epoch},0.5,1.5,0.4" for fold in (0, 1) for epoch in (1, 2)]
    head = "fold,epoch,learning_rate,train_loss,train_accuracy,validation_loss,validation_accuracy"
    (folder / "metrics/plots/history.csv").write_text("\n".join([head, *lines]) + "\n")


def picture() -> bytes:
    content = BytesIO()
    Image.new("P", (4, 3)).save(content, "PNG")
    return content.getvalue()


FIGURES = dict.fromkeys(PICTURES, picture()) | dict.fromkeys(CHARTS, b"<svg></svg>")


def render(classes: int = 2, params=PARAMS) -> str:
    colours = [(i * 37 % 256, i * 91 % 256, 120) for i in range(classes)]
    return page(read_report_data(SOURCES, params), FIGURES, colours)


@pytest.fixture
def rendered(tmp_path, monkeypatch):
    """The page of some files, below a folder that must not show in it."""
    monkeypatch.chdir(tmp_path)

    def write_and_render(files=None):
        files = files or contents()
        write_result(tmp_path, files)
        text = render(len(files["metrics/scores.json"]["classes"]))
        assert str(tmp_path) not in text
        return text

    return write_and_render


class Page(HTMLParser):
    """Elements in order as (tag, attributes, text inside)."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.loose = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        element = (tag, dict(attrs), [], [name for name, _, _, _ in self.open])
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        if not self.open or self.open[-1][0] != tag:
            self.loose.append(tag)
        else:
            self.open.pop()

    def handle_data(self, data):
        for element in self.open:
            element[2].append(data)

    def all(self, *tags):
        return [(attributes, "".join(text).strip()) for tag, attributes, text, _ in self.elements if tag in tags]

    def inside(self, tag, parent):
        return [element for element in self.elements if element[0] == tag and parent in element[3]]


def check_structure(text):
    found = Page(text)
    assert found.loose == []
    assert found.open == []
    assert text.startswith("<!DOCTYPE html>")
    ((html, _),) = found.all("html")
    assert html["lang"] == "en"
    assert [len(found.all(tag)) for tag in ("h1", "header", "nav", "main", "footer", "title")] == [1] * 6
    assert any(meta.get("name") == "viewport" for meta, _ in found.all("meta"))
    levels = [int(tag[1]) for tag, _, _, _ in found.elements if re.fullmatch("h[1-6]", tag)]
    assert all(b <= a + 1 for a, b in pairwise(levels))
    ids = [attributes["id"] for _, attributes, _, _ in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for attributes, label in found.all("a"):
        assert attributes["href"].removeprefix("#") in ids
        assert label
    first_link, _ = found.all("a")[0]
    assert first_link == {"class": "skip", "href": "#main"}
    for attributes, _ in found.all("section"):
        assert attributes["aria-labelledby"] in ids
    for attributes, _ in found.all("img"):
        assert len(attributes["alt"]) > 30
    for attributes, _ in found.all("div"):
        if attributes.get("class") == "box":
            assert attributes["aria-label"]
            assert (attributes["role"], attributes["tabindex"]) == ("region", "0")
    tables, captions = found.all("table"), found.all("caption")
    assert len(tables) == len(captions) > 5
    assert all(words for _, words in captions)
    assert {attributes.get("scope") for attributes, _ in found.all("th")} == {"col", "row"}
    rows = found.inside("tr", "table")
    assert all("tbody" in parents or "thead" in parents for _, _, _, parents in rows)
    return found


def test_structure_is_accessible(rendered):
    found = check_structure(rendered())
    assert {name for name, _, _, _ in found.elements} & {"script", "link", "iframe", "object", "style"} == {"style"}


def test_nothing_is_loaded_from_outside(rendered):
    text = rendered(contents(NASTY))
    for tag, attributes, _, _ in Page(text).elements:
        for name in ("src", "href", "srcset", "poster", "data", "action", "background"):
            if name in attributes:
                assert re.match("data:image/(png|svg\\+xml);base64,|#", attributes[name]), (tag, name)
    style = "".join(text for _, text in Page(text).all("style"))
    assert "url(" not in text.replace(" ", "")
    assert "@import" not in style
    assert "@font-face" not in style


def test_figures_are_whole(rendered):
    images = [attributes["src"].split(",", 1) for attributes, _ in Page(rendered()).all("img")]
    kinds = {b"\x89PNG": "data:image/png;base64", b"<svg": "data:image/svg+xml;base64"}
    contents = [base64.b64decode(content, validate=True) for _, content in images]
    assert sorted(contents) == sorted(FIGURES.values())
    assert [kind for kind, _ in images] == [kinds[content[:4]] for content in contents]


@pytest.mark.parametrize("name", NASTY)
def test_names_are_text_wherever_they_stand(rendered, name):
    found = Page(rendered(contents(NASTY)))
    assert [text for _, text in found.all("th")].count(name) == 3  # per-class table, and twice in the confusion
    assert "b" not in {tag for tag, _, _, _ in found.elements}
    assert any(name in attributes["alt"] for attributes, _ in found.all("img"))
    assert found.all("h1")[0][1] == "meadows & <lakes>"


def test_equal_inputs_are_equal_bytes(rendered, tmp_path, monkeypatch):
    first = rendered()
    other = tmp_path / "elsewhere"
    other.mkdir()
    monkeypatch.chdir(other)
    write_result(other, contents())
    assert render() == first


def test_every_part_is_there(rendered):
    words = re.sub(r"[ \n]+", " ", " ".join(text for _, text in Page(rendered()).all("main")))
    for text in (
        "Accuracy, 95 % interval 0.66 to 0.76",
        "Under spatial cross-validation (CV) the network classifies 71 of 100 patches correctly; for other zones of "
        "this kind, 66 to 76.",
        "Random CV gives the network an accuracy of 0.79, spatial CV 0.71: an optimistic bias of 0.08 (0.04 to 0.12).",
        "The network is better than a random forest on the mean and spread of each channel, which reaches 0.66: +0.06 "
        "(+0.02 to +0.10) in accuracy.",
        "5.4\u00a0% of the mapped ground is outside the area of applicability, too unlike the training patches;",
        "The median accuracy of a zone is 0.62. The worst of those with 3 patches or more is E3N7 in fold 1: 0.25 on 4",
        "Wasserstein distance 154 m for random CV, 698 m for spatial CV",
        "Errors are spatially correlated over 1\u202f052 m; zones are about 2\u202f560 m wide.",
        "Kappa 0.61: It adds nothing.",
        "12\u202f345",
        "git log -1 -- metrics/report.html",
        "2" * 64,
        "ab" * 32,
        "epochs: 2",
        "torch",
        "GDAL",
    ):
        assert text in words


def words_of(text):
    return re.sub(r"[ \n]+", " ", " ".join(text for _, text in Page(text).all("main", "header")))


def test_pixels_come_before_patches(rendered):
    files = contents()
    of_pixels(files)
    text = rendered(files)
    check_structure(text)
    words = words_of(text)
    for part in (
        "9\u202f876 labelled pixels, or 40 labelled patches, in",
        "Accuracy of pixels, 95 % interval 0.56 to 0.660.61 Macro F1 of pixels, 95 % interval 0.47 to 0.570.52 "
        "Accuracy of patches, 95 % interval 0.66 to 0.76",
        "the network classifies 61 of 100 labelled pixels correctly; for other zones of this kind, 56 to 66. A patch",
        "of these it classifies 71 of 100 correctly",
        "A random split of pixels gives the network an accuracy of 0.87, spatial CV 0.61: an optimistic bias of 0.26",
        "Pixels, spatial CV 0.61 0.56 to 0.66 Pixels, random patches 0.83 0.78 to 0.88 Pixels, random pixels 0.87",
        "(+0.02 to +0.10) in accuracy of patches.",
        "by a jackknife over the zones (4, which count as 3.5 of equal size)",
        "Scores of the classes by pixel",
        "interior7\u202f5310.71 0.66 to 0.76",
        "boundary2\u202f3450.44 0.39 to 0.49",
        "A row holds the pixels of one true class",
        "The median accuracy of a zone is 0.57. The worst of those with 300 pixels or more is E3N7 in fold 1: 0.25 on "
        "400 pixels",
        "87.0\u00a0% of the pixels correctly where these are held out at random (macro F1 0.87), 83.0\u00a0% where "
        "patches are (0.83), and 61.0\u00a0% where zones are (0.61).",
        "over all folds the three are 1.42, 0.30 and 0.07. The maps hold the calibrated probabilities.",
        "hold it in 0.89 (0.84 to 0.93) of held-out zones, with 2.47 classes on average",
        "Expected calibration error of pixels0.070.06",
        "Expected calibration error of patches0.110.06",
    ):
        assert part in words
    table = text[text.index('<table class="confusion">') :]
    assert re.findall(r">(\d+)<small>", table[: table.index("</table>")]) == ["800", "50", "50", "801"]
    assert words.count("5\u202f432") == 2


def test_pixels_without_random_folds(rendered):
    files = contents()
    without_network(files)
    of_pixels(files, random=False)
    text = rendered(files)
    check_structure(text)
    assert "was not trained under random folds" in words_of(text)
    assert "random pixels" not in words_of(text)


def test_labels_without_an_interior_show_no_score_of_it(rendered):
    files = contents()
    of_pixels(files)
    none = {name: {"pooled": None, "low": None, "high": None} for name in report.SCORES}
    files["metrics/scores.json"]["pixels"]["interior"] = none | {"pixels": 0}
    assert "interior0– no interval" in words_of(rendered(files))  # noqa: RUF001 - a dash


def test_clouds_that_nothing_tells_of_are_unknown(rendered):
    files = contents()
    files["data/scenes/report.json"]["scenes"][0]["cloud_fraction"] = None
    rows = [words for _, words in Page(rendered(files)).all("tr") if words.startswith("S000sentinel2")]
    assert [words.endswith("unknown") for words in rows] == [True]


def test_warnings_of_all_stages_are_collected(rendered):
    files = contents()
    files["metrics/folds.json"]["folds"]["1"]["flags"] = ["no water in training"]
    files["metrics/folds.json"]["cautions"] = ["zones with class b: 1"]
    files["data/scenes/report.json"]["refusals"] = {"S9": "scene S9: no CRS"}
    files["data/scenes/report.json"]["scenes"][0]["warnings"] = ["no nodata value"]
    files["metrics/patches.json"] |= {"label_overlap_m2": 129211, "labels_mended": 3}
    found = Page(rendered(files))
    notices = [text for _, text in found.all("li") if ":" in text]
    assert notices == [
        "scores: fewer than 10 zones <each>",
        "audit: zones are small",
        "folds: zones with class b: 1",
        "fold 1: no water in training",
        "scene S9, refused: scene S9: no CRS",
        "scene S000: no nodata value",
        "labels: classes overlap on 129\u202f211 m²",
        "labels: 3 polygons crossed themselves and were repaired",
    ]
    assert ("Warnings (8)") in [text for _, text in found.all("a")]


def test_confusion_has_truth_along_the_rows(rendered):
    files = contents(["a", "b", "c"])
    files["metrics/scores.json"]["confusion"] = [[9, 1, 0], [0, 0, 0], [2, 2, 4]]
    text = rendered(files)
    table = text[text.index('<table class="confusion">') :]
    cells = re.findall(r'<td class="s(\d+)( right)?">(\d+)(?:<small>(\d+) %)?', table[: table.index("</table>")])
    assert [(int(shade), bool(right), int(n), int(share or 0)) for shade, right, n, share in cells] == [
        (9, True, 9, 90), (1, False, 1, 10), (0, False, 0, 0),
        (0, False, 0, 0), (0, True, 0, 0), (0, False, 0, 0),
        (3, False, 2, 25), (3, False, 2, 25), (5, True, 4, 50),
    ]  # fmt: skip


def without_network(files):
    del files["metrics/summary.json"]["random"], files["metrics/summary.json"]["gap"]


def with_test_region(files):
    files["metrics/summary.json"]["test"] = headline(0.5) | {"patches": 7, "zones": 2}
    files["metrics/folds.json"]["test"] = 7


def undefined(files):
    """A class that never occurs, so that its scores have no interval."""
    none = {"pooled": None, "low": None, "high": None}
    files["metrics/scores.json"]["per_class"][0] |= {"support": 0, "precision": none, "recall": none, "f1": none}
    files["metrics/scores.json"]["confusion"][0] = [0] * len(files["metrics/scores.json"]["classes"])
    files["metrics/scores.json"]["kappa"]["value"] = None


def no_range(files):
    files["metrics/audit.json"]["autocorrelation"]["range_m"] = None


@pytest.mark.parametrize(
    ("size", "change", "there", "absent"),
    [
        ({}, without_network, "was not trained under random folds", "Random less spatial CV"),
        ({}, with_test_region, "The test region has 7 patches", "No test region was kept"),
        ({"zones": 5}, None, "No test region was kept (zones.test_region): all 5 zones are in the folds", None),
        ({"zones": 60}, None, "all 60 zones are in the folds. Where settings", "too few to spare"),
        ({}, undefined, "no interval", "None"),
        ({}, no_range, "No spatial correlation of the errors was found", "correlated over"),
        ({"classes": [f"class {i}" for i in range(60)]}, None, "class 59", "the number below each count"),
        ({"scenes": 300}, None, "from 300 scenes", "SHA-256 of the scenes' files"),
        ({"zones": 1, "folds": 1}, None, "All 1 zones", None),
        ({"repeats": 3}, None, "mean of 3 repeats", None),
    ],
)
def test_page_is_whole_without_what_is_optional_and_at_any_size(rendered, size, change, there, absent):
    files = contents(**size)
    if change:
        change(files)
    text = rendered(files)
    found = check_structure(text)
    words = re.sub(r"[ \n]+", " ", found.all("main")[0][1])
    assert there in words + found.all("header")[0][1]
    assert absent is None or absent not in words
    assert len(text) < 1_500_000


def test_page_without_applicability(rendered, tmp_path):
    files = contents()
    del files["data/maps/applicability.json"]
    assert "area of applicability" not in check_structure(rendered(files)).all("main")[0][1]


def test_a_split_whose_distances_are_those_of_the_map_is_named(rendered):
    files = contents()
    files["metrics/audit.json"]["distances"]["held_out_to_train"]["zoned"]["wasserstein_m"] = 20.0
    assert "more like those under spatial CV" in rendered(files)


@pytest.mark.parametrize("name", ["metrics/scores.json", "metrics/plots/history.csv", "data/scenes/report.json"])
def test_a_part_that_is_missing_is_named(rendered, tmp_path, name):
    rendered()
    (tmp_path / name).unlink()
    with pytest.raises(ReportError, match=rf"^{name}: not found; run `dvc repro`"):
        render()


def test_contrast_of_known_pairs():
    assert contrast("#000000", "#ffffff") == contrast("#ffffff", "#000000") == 21
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)
    assert contrast("#0b5c8a", "#0b5c8a") == 1


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_text_has_contrast_enough(palette):
    """WCAG 2.2 AA: 4.5 for text."""
    pairs = [(ink, "page") for ink in ("text", "muted", "accent", "random", "other")]
    pairs += [("text", "surface"), ("muted", "surface"), ("notice-text", "notice")]
    assert {pair: contrast(palette[pair[0]], palette[pair[1]]) >= 4.5 for pair in pairs} == dict.fromkeys(pairs, True)
    assert min(contrast(*pair) for pair in shades(palette)) >= 4.5
    assert shades(palette)[0][0] == palette["page"]
    assert shades(palette)[-1][0] == palette["accent"]


def test_colours_of_the_page_are_those_of_the_palette(rendered):
    text = rendered()
    for palette in (LIGHT, DARK):
        for name, colour in palette.items():
            assert f"--{name}: {colour};" in text
    inks = set(re.findall(r"(?<![-\w])color: ([^;}]+)", "".join(t for _, t in Page(text).all("style"))))
    assert all(ink == "inherit" or ink.startswith("var(--") for ink in inks), inks
    used = {ink.removeprefix("var(--").rstrip(")") for ink in inks if ink.startswith("var")}
    steps = {f"i{step}" for step in range(len(shades(LIGHT)))}
    assert used - steps <= {"text", "muted", "accent", "random", "other", "notice-text"}
