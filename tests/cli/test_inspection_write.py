"""`landfold inspect --write`: from files to zones without an edit by hand, and what it says of patches and folds."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas
import pyogrio
import pytest
import rasterio
import yaml

import stages.indices
import stages.ingest
import stages.normalize
import stages.patches
import stages.zones
from landfold.cli import main
from landfold.cli.inspection import inspect
from landfold.cli.inspection.default_data import DEFAULTS
from landfold.cli.inspection.patch_settings import PATCHES, ZONES
from landfold.cli.inspection.presentation import report_data
from landfold.cli.inspection.proposal import INDICES, NORMALIZE
from landfold.core import settings
from landfold.params import read_params
from tests.cli.test_inspection import report_text
from tests.cli.test_your_data import bands_and_points, landsat, safe, two_zones
from tests.factories import (
    CRS_UTM33,
    ORIGIN_X,
    ORIGIN_Y,
    box,
    centres,
    make_grid,
    read_json,
    whole,
    write_band,
    write_labels,
    write_scene,
)

REPOSITORY = Path(__file__).parents[2] / "params.yaml"
TO_ZONES = (stages.ingest, stages.indices, stages.normalize, stages.patches, stages.zones)
BANDS = {band: (10.0, lambda east, south, i=i: 800 + 100 * i + east / 10 + south / 5) for i, band in enumerate("BGRN")}


def stripes(path, values, *, width_m=160):
    """Polygons side by side, as high as the scene, of values in turn."""
    shapes = [box(i * width_m, 0, (i + 1) * width_m, 900) for i in range(1200 // width_m)]
    write_labels(path, [(values[i % len(values)], shape) for i, shape in enumerate(shapes)])


def project(folder):
    """An own delivery beside the repository's params.yaml; the only edits are those of the command."""
    write_scene(folder / "data/raw/scenes/june", "june_20210614", BANDS)
    stripes(folder / "data/raw/labels/fields.gpkg", ["maize", "lake", "alder"])
    shutil.copy(REPOSITORY, folder / "params.yaml")


def written(capsys):
    """Run the command; its exit code and the settings that it says it changed."""
    code = main(["inspect", "data/raw", "--write"])
    return code, capsys.readouterr().err.strip()


def test_constants_are_those_of_the_repository():
    params = settings.read(REPOSITORY)
    for section, values in DEFAULTS.items():
        assert {name: params[section][name] for name in values} == values
    assert params["patches"] == PATCHES
    assert params["normalize"] == NORMALIZE
    assert params["indices"]["names"] == list(INDICES)
    assert params["zones"] | {"origin_m": [0, 0]} == ZONES


def comments(text):
    return [comment.strip() for comment in re.findall(r"(?:^|\s)(# .*)$", text, re.MULTILINE)]


def test_from_files_to_zones_without_an_edit(tmp_path, stage, capsys):
    project(tmp_path)
    path = Path("params.yaml")
    before = path.read_text(encoding="utf-8")
    code, told = written(capsys)
    assert code == 0
    assert told.startswith("params.yaml: changed project.name, ingest.bands, ")
    after = path.read_text(encoding="utf-8")
    assert comments(after) == comments(before)
    assert written(capsys) == (0, "params.yaml: nothing to change")
    assert path.read_text(encoding="utf-8") == after
    trial = report_data(inspect(Path("data/raw"), path))["patches"]
    for module in TO_ZONES:
        stage(module)
    counts, folds = read_json(Path("metrics/patches.json")), read_json(Path("metrics/folds.json"))
    assert {row["class"]: row["patches"] for row in trial["classes"]} == counts["classes"]
    assert {row["class"]: row["pixels"] for row in trial["classes"]} == counts["class_px"]
    assert trial["folds"]["folds"] == folds["folds"]
    params = read_params()
    assert params.labels.names == ["alder", "lake", "maize"]
    assert params.indices.names == ["NDVI", "NDWI"]
    assert params.card.licence == "scenes: licence not stated; labels fields.gpkg: licence not stated"
    assert params.project.name == f"landfold-{tmp_path.name[:40]}"


@pytest.mark.parametrize("build", [safe, landsat, bands_and_points, two_zones], ids=lambda build: build.__name__)
def test_deliveries_of_other_kinds_go_to_zones_without_an_edit(build, tmp_path, stage, capsys):
    build(tmp_path / "data/raw")
    shutil.copy(REPOSITORY, tmp_path / "params.yaml")
    assert written(capsys)[0] == 0
    assert written(capsys) == (0, "params.yaml: nothing to change")
    for module in TO_ZONES:
        stage(module)
    folds = read_json(Path("metrics/folds.json"))["folds"]
    assert not any("class_missing_train" in fold["flags"] for fold in folds.values())


def test_what_was_written_is_shown_with_its_comments_and_told_to_programs(tmp_path, stage, capsys):
    project(tmp_path)
    assert main(["inspect", "data/raw", "--write"]) == 0
    output = capsys.readouterr().out
    assert "Written to params.yaml, without these comments" in output
    assert "nodata: 0                   # check: no scene has a nodata value" in output
    assert main(["inspect", "data/raw", "--write", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["changed"] == []
    shutil.copy(REPOSITORY, "params.yaml")
    assert main(["inspect", "data/raw", "--write", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert "labels.classes" in data["changed"]
    assert data["proposal"] == {"sections": {}, "yaml": ""}


def test_tiles_whose_bands_have_no_names_need_their_order_alone(tmp_path, stage, capsys):
    for i, place in enumerate(("forest/a", "forest/b", "forest/c", "lake/d", "lake/e", "lake/f")):
        grid = make_grid(32, 32, x_px=40 * i)
        profile = {"driver": "GTiff", "dtype": "uint16", "count": 3, "height": 32, "width": 32, "crs": CRS_UTM33}
        target = tmp_path / f"data/raw/scenes/{place}.tif"
        target.parent.mkdir(parents=True, exist_ok=True)
        with rasterio.open(target, "w", transform=grid.transform, **profile) as dataset:
            dataset.write(np.stack([1000 + 10 * i + sum(centres(grid)) / 10] * 3).astype("uint16"))
    shutil.copy(REPOSITORY, tmp_path / "params.yaml")
    assert written(capsys)[0] == 1
    assert written(capsys) == (1, "params.yaml: nothing to change")
    path = Path("params.yaml")
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('band_order: ["?", "?", "?"]', "band_order: [R, G, N]"), encoding="utf-8")
    assert written(capsys)[0] == 0
    assert written(capsys) == (0, "params.yaml: nothing to change")
    for module in TO_ZONES:
        stage(module)
    params = read_params()
    assert params.ingest.bands == ["G", "R", "N"]
    assert (params.labels.unit, params.patches.size_px, params.export.stride_px) == ("patch", 32, 32)
    assert read_json(Path("metrics/folds.json"))["zones"] == 6


def test_settings_that_fit_stay_the_users(tmp_path, stage, capsys):
    project(tmp_path)
    written(capsys)
    path = Path("params.yaml")
    text = path.read_text(encoding="utf-8")
    for old, new in {
        "bands: [B, G, R, N]": "bands: [G, R, N]",
        "    alder: [alder]\n    lake: [lake]": "    wet: [lake, alder]",
        "kind: grid ": "kind: hexagon ",
        "buffer_m: 100": "buffer_m: 0",
        "k: 5 ": "k: 3 ",
        "folds: [0, 1, 2, 3, 4]": "folds: [0, 1, 2]",
    }.items():
        assert old in text
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
    assert written(capsys) == (0, "params.yaml: nothing to change")


def small_polygons(folder):
    write_scene(folder / "scenes/june", "june_20210614", BANDS)
    shapes = [("field", box(i * 160, j * 160, (i + 1) * 160, (j + 1) * 160)) for i in range(7) for j in range(3)]
    shapes += [("wood", box(i * 160, 480 + j * 160, (i + 1) * 160, 640 + j * 160)) for i in range(7) for j in range(2)]
    shapes += [("pond", box(i * 160, 830, i * 160 + 70, 880)) for i in range(6)]
    write_labels(folder / "labels/l.gpkg", shapes)


def own(folder, **changes):
    content = whole({"ingest": {"bands": ["B", "G", "R", "N"]}, "indices": {"names": []}})
    content["labels"] |= {"attribute": "kind", "classes": {name: [name] for name in ("field", "pond", "wood")}}
    for name, value in changes.items():
        section, key = name.split("__")
        content[section][key] = value
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def test_why_a_class_has_no_patch_and_smaller_cores_are_proposed(tmp_path):
    small_polygons(tmp_path / "raw")
    zones = {"zones__block_size_m": 160, "zones__origin_m": [ORIGIN_X, ORIGIN_Y], "zones__buffer_m": 0}
    found = inspect(tmp_path / "raw", own(tmp_path, **zones))
    (message,) = [f.message for f in found.warnings if f.about == "patches"]
    assert message == (
        "no patch of class pond: the largest of its polygons in the scenes has 35 px, and a core of 16 x 16 px needs "
        "128 px of one class (patches.core_px, patches.min_purity); lower patches.core_px, merge the class with "
        "another, or move its values to labels.exclude"
    )
    pond = next(row for row in found.trial.classes() if row["class"] == "pond")
    assert pond == {
        **{"class": "pond", "polygons": 6, "large_enough": 0, "largest_px": 35, "pixels": 210, "patches": 0, "zones": 0}
    }
    smaller = found.proposal.sections["patches"]
    assert smaller["core_px"] == 8
    fitted = inspect(
        tmp_path / "raw", own(tmp_path, **zones | {f"patches__{name}": value for name, value in smaller.items()})
    )
    assert not any(f.about == "patches" for f in fitted.warnings)
    assert next(row for row in fitted.trial.classes() if row["class"] == "pond")["patches"] > 0


def test_a_class_that_no_scene_shows_is_left_out_of_the_proposal_and_refused_in_ones_own(tmp_path):
    write_scene(tmp_path / "raw/scenes/june", "june_20210614", BANDS)
    far = [("moor", box(90_000, 0, 90_500, 500))]
    near = [(name, box(i * 160, 0, (i + 1) * 160, 900)) for i, name in enumerate(["field", "wood"] * 3)]
    write_labels(tmp_path / "raw/labels/l.gpkg", near + far)
    labels = inspect(tmp_path / "raw").proposal.sections["labels"]
    assert (labels["classes"], labels["exclude"]) == ({"field": ["field"], "wood": ["wood"]}, ["moor"])
    classes = {name: [name] for name in ("field", "moor", "wood")}
    found = inspect(tmp_path / "raw", own(tmp_path, labels__classes=classes))
    assert [f.message for f in found.refusals if f.about == "labels"] == [
        "no pixel of a scene has a label of class moor; bring labels of it, or move its values to labels.exclude"
    ]


def test_zones_that_make_no_folds_are_refused_and_others_are_proposed(tmp_path):
    small_polygons(tmp_path / "raw")
    found = inspect(tmp_path / "raw", own(tmp_path, zones__block_size_m=50_000))
    (message,) = [f.message for f in found.refusals]
    assert message.startswith("1 zones cannot make 5 folds")
    zones = found.proposal.sections["zones"]
    assert (zones["k"], zones["kind"]) == (5, "grid")
    assert zones["block_size_m"] < 900
    repaired = own(tmp_path, **{f"zones__{name}": value for name, value in zones.items()})
    assert inspect(tmp_path / "raw", repaired).taken


def test_what_is_left_of_the_default_data_is_told(tmp_path, stage, capsys):
    project(tmp_path)
    found = inspect(Path("data/raw"), Path("params.yaml"))
    told = [
        f.message.partition(" is still that of the default data")[0] for f in found.warnings if f.about == "settings"
    ]
    assert told == ["project.name", "card.licence", "card.limits"]
    written(capsys)
    assert not [f for f in inspect(Path("data/raw"), Path("params.yaml")).warnings if f.about == "settings"]
    write_scene(tmp_path / "default/scenes/T33UUU_20170216T102101", "T33UUU_20170216T102101", BANDS)
    assert not [f for f in inspect(tmp_path / "default", REPOSITORY).warnings if f.about == "settings"]


RAT = """<PAMDataset><PAMRasterBand band="1"><GDALRasterAttributeTable>
<FieldDefn index="0"><Name>Value</Name><Type>0</Type><Usage>5</Usage></FieldDefn>
<FieldDefn index="1"><Name>Class</Name><Type>2</Type><Usage>2</Usage></FieldDefn>
<Row index="0"><F>1</F><F>Conifers</F></Row><Row index="1"><F>2</F><F>Open water</F></Row>
</GDALRasterAttributeTable></PAMRasterBand></PAMDataset>"""
CATEGORIES = """<PAMDataset><PAMRasterBand band="1"><CategoryNames>
<Category></Category><Category>Conifers</Category><Category>Open water</Category>
</CategoryNames></PAMRasterBand></PAMDataset>"""


@pytest.mark.parametrize(
    ("kind", "classes"),
    [
        (RAT, {"Conifers": ["1"], "Open water": ["2"]}),
        (CATEGORIES, {"Conifers": ["1"], "Open water": ["2"]}),
        (CATEGORIES.replace("Open water", "Conifers"), None),
        ("tags", {"Conifers": ["1"], "Open water": ["2"]}),
        ("vat", {"Conifers": ["1"], "Open water": ["2"]}),
        ("<!DOCTYPE a><PAMDataset/>", {"class_1": ["1"], "class_2": ["2"]}),
        (None, {"class_1": ["1"], "class_2": ["2"]}),
    ],
    ids=["attribute table", "category names", "one name twice", "tags", "vat.dbf", "document type", "none"],
)
def test_classes_of_a_raster_are_named_by_its_own_table(tmp_path, kind, classes):
    write_scene(tmp_path / "scenes/june", "june_20210614", BANDS)
    grid = make_grid()
    path = write_band(tmp_path / "labels/l.tif", grid, (1 + (centres(grid)[0] > 600)).astype("uint8"))
    if kind == "tags":
        with rasterio.open(path, "r+") as dataset:
            dataset.update_tags(1, CLASS_1="Conifers", CLASS_2="Open water")
    elif kind == "vat":
        table = pandas.DataFrame({"Value": [1, 2], "Count": [5, 6], "Class_Name": ["Conifers", "Open water"]})
        pyogrio.write_dataframe(table, path.with_name("l.tif.dbf"), driver="ESRI Shapefile")
        path.with_name("l.tif.dbf").rename(path.with_name("l.tif.vat.dbf"))
    elif kind is not None:
        path.with_name("l.tif.aux.xml").write_text(kind, encoding="utf-8")
    found = inspect(tmp_path)
    labels = found.proposal.sections["labels"]["classes"]
    if classes is None:
        assert labels["Conifers"] == ["1", "2"]
    else:
        assert labels == classes


def test_refusals_to_write(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_scene(tmp_path / "data/raw/scenes/june", "june_20210614", BANDS)
    assert main(["inspect", "data/raw", "--write"]) == 1
    assert "params.yaml: not found; run this from the root of the repository" in capsys.readouterr().err
    shutil.copy(REPOSITORY, "params.yaml")
    (tmp_path / "empty/scenes").mkdir(parents=True)
    assert main(["inspect", "empty", "--write"]) == 1
    assert "empty: neither scenes nor labels were recognised" in capsys.readouterr().err
    assert Path("params.yaml").read_bytes() == REPOSITORY.read_bytes()


def test_of_a_large_delivery_a_part_is_cut_and_nothing_is_refused_for_it(tmp_path, monkeypatch):
    monkeypatch.setattr("landfold.cli.inspection.patch_trial.MAX_SCENES", 2)
    for i in range(4):
        grid = make_grid(32, 32, x_px=40 * i)
        values = np.stack([1000 + 10 * i + centres(grid)[0] / 10] * 4).astype("uint16")
        target = tmp_path / f"scenes/{'forest' if i < 2 else 'lake'}/t{i}.tif"
        target.parent.mkdir(parents=True, exist_ok=True)
        profile = {"driver": "GTiff", "dtype": "uint16", "count": 4, "height": 32, "width": 32, "crs": CRS_UTM33}
        with rasterio.open(target, "w", transform=grid.transform, **profile) as dataset:
            dataset.write(values)
            dataset.descriptions = list("BGRN")
    found = inspect(tmp_path)
    assert report_data(found)["patches"]["scenes"] == {"cut": 2, "all": 4}
    assert found.taken
    assert "in 2 of 4 scenes" in report_text(found)
