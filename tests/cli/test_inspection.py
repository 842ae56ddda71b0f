import io
import json
import os
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
import yaml
from affine import Affine
from rasterio.crs import CRS
from rich.console import Console
from ruamel.yaml import YAML

import stages.ingest
import stages.patches
from landfold.cli.inspection import InspectionError, inspect
from landfold.cli.inspection.commented_yaml import commented, yaml_text
from landfold.cli.inspection.networks import NETWORKS
from landfold.cli.inspection.presentation import report_data, show
from landfold.cli.inspection.scene_settings import EUROSAT
from landfold.core import settings
from landfold.geo.settings import ProjectSettings
from landfold.maps.settings import ExportSettings
from landfold.network.settings import ModelSettings, TrainSettings
from landfold.params import Params
from landfold.patches.labels import LabelSettings
from landfold.scenes.ingest import check_scene
from landfold.scenes.settings import IngestSettings
from tests.factories import (
    CRS_UTM33,
    ORIGIN_X,
    ORIGIN_Y,
    box,
    centres,
    halves,
    make_grid,
    params,
    small_scene,
    tree,
    write_band,
    write_labels,
    write_params,
)
from tests.kinds import switched
from tests.products import LANDSAT_NAME, write_landsat, write_safe, zipped

MODELS = {
    "project": ProjectSettings,
    "ingest": IngestSettings,
    "labels": LabelSettings,
    "model": ModelSettings,
    "train": TrainSettings,
    "export": ExportSettings,
}
REPOSITORY = Path(__file__).parents[2] / "params.yaml"


def stack(path, *, bands=4, names=None, crs=CRS_UTM33, resolution_m=10.0, shape=(24, 30), x_px=0, y_px=0, **profile):
    """A file of several bands whose numbers tell their place; named only if ``names`` are given."""
    grid = make_grid(*shape, resolution_m, crs=crs or CRS_UTM33, x_px=x_px, y_px=y_px)
    east, south = centres(grid)
    values = np.stack([1000 + 100 * i + east / 10 + south / 5 for i in range(bands)]).round().astype("uint16")
    profile = {"dtype": "uint16", "transform": grid.transform, "crs": crs} | profile
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", driver="GTiff", count=bands, height=shape[0], width=shape[1], **profile) as dataset:
        dataset.write(values.astype(profile["dtype"]))
        if names:
            dataset.descriptions = names
    return path


def tiles(folder, *, count=3, **options):
    """Tiles in a folder for each class."""
    for label in ("forest", "lake"):
        for i in range(count):
            stack(folder / label / f"{label}_{i}.tif", x_px=40 * i, y_px=40 * (label == "lake"), **options)
    return folder


def report_text(found, width=100):
    console = Console(file=io.StringIO(), width=width)
    show(found, console)
    return console.file.getvalue()


def messages(found):
    return [f.message for f in found.refusals]


def assert_loads(found):
    """The printed sections are those of the proposal, every setting is there, and the models take them."""
    pasted = yaml.safe_load(found.proposal.text)
    assert pasted == found.proposal.sections
    for section, model in MODELS.items():
        if section in pasted:
            assert list(pasted[section]) == list(model.model_fields)
            settings.validate(pasted[section], model, where=section)
    return pasted


def test_the_network_that_is_proposed_is_that_of_the_repository_and_of_the_documents(tmp_path):
    sections = tuple(NETWORKS["pixel"])
    assert NETWORKS["pixel"] == {name: settings.read(REPOSITORY)[name] for name in sections}
    assert NETWORKS["patch"] == {name: switched("classifier", tmp_path)[name] for name in sections}


@pytest.mark.parametrize(
    ("kind", "unit"),
    [("polygons", "pixel"), ("points", "pixel"), ("raster", "pixel"), ("table", "patch"), ("folder", "patch")],
)
def test_what_is_pasted_goes_together(tmp_path, kind, unit):
    if kind == "folder":
        tiles(tmp_path / "data/raw/scenes", names=("blue", "green", "red", "nir"))
    else:
        small_scene(tmp_path / "data/raw/scenes")
    labels = tmp_path / "data/raw/labels"
    labels.mkdir(exist_ok=True)
    if kind == "polygons":
        halves(labels / "labels.gpkg")
    elif kind == "points":
        points = [
            ("crop", shapely.Point(ORIGIN_X + 200, ORIGIN_Y - 400)),
            ("lake", shapely.Point(ORIGIN_X + 900, ORIGIN_Y - 400)),
        ]
        write_labels(labels / "labels.gpkg", points)
    elif kind == "raster":
        write_band(labels / "classes.tif", make_grid(), np.where(centres(make_grid())[0] < 600, 3, 7).astype("uint8"))
    elif kind == "table":
        (labels / "classes.csv").write_text("file,class\nT33UUU_20170216T102101,wood\nabsent,lake\n")
    found = inspect(tmp_path / "data/raw")
    pasted = assert_loads(found)
    assert (pasted["labels"]["kind"], pasted["labels"]["unit"]) == (kind, unit)
    whole = settings.read(REPOSITORY) | pasted | {"indices": {"names": []}}
    assert settings.validate(whole, Params, where="params.yaml:").model.of_pixels == (unit == "pixel")
    # settings that go together already are not proposed again
    for name, content, proposed in (
        ("whole", whole, False),
        ("other", params(labels__attribute="absent") if unit == "pixel" else settings.read(REPOSITORY), True),
    ):
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        assert ("model" in inspect(tmp_path / "data/raw", path).proposal.sections) == proposed


def paste(folder, found, **patches):
    """params.yaml of a project with the proposed sections in place of its own."""
    content = params(**patches) | assert_loads(found)
    (folder / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")


def test_band_files_and_polygons_run_with_the_pasted_section(tmp_path, stage):
    small_scene(tmp_path / "data/raw/scenes")
    halves(tmp_path / "data/raw/labels/labels.gpkg")
    before = tree(tmp_path / "data")
    found = inspect(tmp_path / "data/raw")
    assert tree(tmp_path / "data") == before
    assert found.taken
    assert (found.place.kind, found.judged_by) == ("delivery", "proposal")
    pasted = assert_loads(found)
    assert pasted["project"]["crs"] == "EPSG:32633"
    assert pasted["ingest"]["bands"] == ["B", "G", "R", "N"]
    assert (pasted["ingest"]["crs_policy"], pasted["ingest"]["resolution_m"]) == ("error", 10)
    assert pasted["labels"] | {"classes": None} == {
        **{"kind": "polygons", "unit": "pixel", "attribute": "kind", "layer": None, "invalid": "refuse"},
        **{"resampling": None, "classes": None, "exclude": [], "zone_attribute": None},
    }
    assert pasted["labels"]["classes"] == {"crop": ["crop"], "lake": ["lake"]}
    assert list(pasted["colours"]) == ["crop", "lake"]
    paste(tmp_path, found)
    assert "1 of 1 scenes" in stage(stages.ingest)
    assert "windows kept" in stage(stages.patches)
    assert inspect(tmp_path / "data/raw", tmp_path / "params.yaml").taken


def test_named_tiles_in_class_folders_run_with_the_pasted_section(tmp_path, stage):
    tiles(tmp_path / "data/raw/scenes", names=("blue", "green", "red", "nir"))
    found = inspect(tmp_path / "data/raw")
    assert found.taken
    assert assert_loads(found)["labels"]["classes"] == {"forest": ["forest"], "lake": ["lake"]}
    assert found.labels.values == {"forest": 3, "lake": 3}
    paste(tmp_path, found)
    assert "6 of 6 scenes" in stage(stages.ingest)
    assert "windows kept" in stage(stages.patches)


def test_landsat_and_a_label_raster_run_with_the_pasted_section(tmp_path, stage):
    write_landsat(tmp_path / "data/raw/scenes" / LANDSAT_NAME)
    grid = make_grid(24, 32, 30)
    classes = np.where(centres(grid)[0] < 480, 3, 7).astype("uint8")
    classes[0, 0] = 0
    write_band(tmp_path / "data/raw/labels/classes.tif", grid, classes, nodata=0)
    found = inspect(tmp_path / "data/raw")
    assert found.taken, messages(found)
    pasted = assert_loads(found)
    assert pasted["ingest"]["masks"] == {
        **{"scl": [], "qa_pixel": ["fill", "dilated_cloud", "cirrus", "cloud", "cloud_shadow"]},
        **{"fmask": [], "file": [], "l1c": None},
    }
    assert pasted["ingest"]["resolution_m"] == 30
    assert pasted["labels"]["classes"] == {"class_3": ["3"], "class_7": ["7"]}
    assert found.labels.values == {"3": 24 * 16 - 1, "7": 24 * 16}
    pasted["ingest"]["masks"]["qa_pixel"] = []  # the numbers of this product's QA file mean nothing
    content = params(patches__size_px=8) | pasted
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    assert "1 of 1 scenes" in stage(stages.ingest)
    assert "windows kept" in stage(stages.patches)


def test_nameless_bands_are_refused_until_their_order_is_filled_in(tmp_path):
    tiles(tmp_path, bands=3)
    found = inspect(tmp_path)
    assert not found.taken
    assert len(messages(found)) == 6
    assert all("3 bands carry no names" in message for message in messages(found))
    section = yaml.safe_load(found.proposal.text)["ingest"]
    assert (section["bands"], section["band_order"]) == (["?"], ["?", "?", "?"])
    assert [view.size_px for view in found.scenes] == [(30, 24)] * 6
    assert 'Fill in what is "?"' in report_text(found)
    order = ["R", "G", "N"]
    own = write_params(
        tmp_path,
        **{"ingest__band_order": order, "ingest__bands": ["G", "R", "N"], "labels__kind": "folder"},
        **{"labels__attribute": None, "labels__invalid": None, "labels__exclude": []},
        labels__classes={"wood": ["forest"], "water": ["lake"]},
    )
    filled = inspect(tmp_path, own)
    assert filled.taken, messages(filled)
    assert "ingest" not in assert_loads(filled)  # the user's settings fit


def test_eurosats_order_is_a_comment_and_never_a_value(tmp_path):
    tiles(tmp_path, bands=13, shape=(64, 64), count=2)
    found = inspect(tmp_path)
    assert ", ".join(EUROSAT) in " ".join(found.proposal.text.replace("#", " ").split())
    assert found.proposal.sections["ingest"]["band_order"] == ["?"] * 13
    tiles(tmp_path / "other", bands=13, shape=(60, 64), count=2)
    assert "EuroSAT" not in inspect(tmp_path / "other").proposal.text


def test_a_broken_file_does_not_hide_the_good_ones(tmp_path):
    tiles(tmp_path, names=("B", "G", "R", "N"))
    broken = tmp_path / "forest/forest_1.tif"
    broken.write_bytes(broken.read_bytes()[:300])
    found = inspect(tmp_path)
    assert len(found.scenes) == 6
    assert [(f.about, f.name) for f in found.refusals] == [("scene", "forest_1")]
    assert "cannot be read" in messages(found)[0]
    assert assert_loads(found)["ingest"]["bands"] == ["B", "G", "R", "N"]


def test_a_band_file_that_cannot_be_read_is_told_by_name(tmp_path):
    folder = small_scene(tmp_path, "one")
    small_scene(tmp_path, "two")
    (folder / "one_B04.tif").write_bytes(b"no raster")
    found = inspect(tmp_path)
    assert [f.name for f in found.refusals] == ["one"]
    assert "one_B04.tif: cannot be read" in messages(found)[0]
    assert found.scenes[0].crs_name == "EPSG:32633"


@pytest.mark.parametrize(
    ("crs", "transform", "policy", "project", "orientation"),
    [
        pytest.param(4326, Affine(1e-4, 0, 13, 0, -1e-4, 52), "reproject", "EPSG:32633", "north-up", id="degrees"),
        pytest.param(32633, Affine(10, 0, 4e5, 0, 10, 5e6), "reproject", "EPSG:32633", "south-up", id="south-up"),
        pytest.param(32633, Affine(8, 6, 4e5, 6, -8, 5e6), "reproject", "EPSG:32633", "rotated", id="rotated"),
        pytest.param(3857, Affine(10, 0, 14e5, 0, -10, 65e5), "reproject", "EPSG:32633", "north-up", id="mercator"),
        pytest.param(32633, Affine(10, 0, 4e5, 0, -10.02, 5e6), "keep", "EPSG:32633", "north-up", id="not square"),
        pytest.param(32633, Affine(10, 0, 4e5, 0, -10.0008, 5e6), "keep", "EPSG:32633", "north-up", id="nearly"),
    ],
)
def test_the_policy_follows_the_grids(tmp_path, crs, transform, policy, project, orientation):
    stack(tmp_path / "one.tif", names=("B", "G", "R", "N"), crs=CRS.from_epsg(crs), transform=transform)
    found = inspect(tmp_path)
    assert found.taken, messages(found)
    pasted = assert_loads(found)
    assert (pasted["ingest"]["crs_policy"], pasted["project"]["crs"]) == (policy, project)
    assert pasted["ingest"]["resolution_m"] == pytest.approx(10, rel=0.15)
    assert found.scenes[0].orientation == orientation
    assert report_data(found)["scenes"][0]["orientation"] == orientation


@pytest.mark.parametrize(
    ("zones", "crs"), [((32632, 32634), "EPSG:3035"), ((32617, 32619), "EPSG:6933")], ids=["Europe", "elsewhere"]
)
def test_scenes_of_several_utm_zones_stay_on_their_grids(tmp_path, zones, crs):
    for zone in zones:
        at = Affine(9.98, 0, ORIGIN_X, 0, -9.98, ORIGIN_Y)
        stack(tmp_path / f"s{zone}.tif", names=("B", "G", "R", "N"), crs=CRS.from_epsg(zone), transform=at)
    found = inspect(tmp_path)
    assert found.taken, messages(found)
    pasted = assert_loads(found)
    assert pasted["project"]["crs"] == crs
    assert (pasted["ingest"]["crs_policy"], pasted["ingest"]["resolution_m"]) == ("keep", 10)


def test_kept_pixels_are_within_the_tolerance_of_the_proposed_resolution(tmp_path):
    stack(tmp_path / "one.tif", names=("B", "G", "R", "N"), transform=Affine(1.38, 0, 4e5, 0, -1.3794, 5e6))
    ingest = assert_loads(inspect(tmp_path))["ingest"]
    assert (ingest["crs_policy"], ingest["resolution_m"]) == ("keep", 1.38)


def test_no_crs_is_refused_and_nothing_is_guessed(tmp_path):
    stack(tmp_path / "one.tif", names=("B", "G", "R", "N"), crs=None)
    found = inspect(tmp_path)
    assert found.scenes[0].crs_name is None
    assert found.scenes[0].size_px == (30, 24)
    assert found.proposal.sections["project"]["crs"] == "?"
    assert not found.taken
    assert "the file has no CRS" in messages(found)[0]
    judged = inspect(tmp_path, write_params(tmp_path))
    assert any("the file has no CRS" in message for message in messages(judged))


def test_what_files_tell_need_not_be_set(tmp_path):
    silent = inspect(small_scene(tmp_path, "silent"))
    assert "scale: 0.0001               # check: no scene has a scale" in silent.proposal.text
    assert "nodata: 0                   # check: no scene has a nodata value" in silent.proposal.text
    telling = inspect(small_scene(tmp_path / "more", "telling", scale=0.0002, offset=-0.1, nodata=9))
    assert "scale: 0.0001               # not used" in telling.proposal.text
    assert "nodata: 0                   # not used" in telling.proposal.text
    both = inspect(tmp_path)
    assert "check: 1 of 2 scenes have a scale" in both.proposal.text


def test_the_offset_of_late_sentinel2_is_the_users_to_check(tmp_path):
    late = inspect(small_scene(tmp_path / "late", "T33UUU_20230216T102101"))
    assert "04.00 (2022-01-25) and later has -0.1" in " ".join(late.proposal.text.replace("#", " ").split())
    assert late.proposal.sections["ingest"]["offset"] == 0
    assert "-0.1" not in inspect(small_scene(tmp_path / "early")).proposal.text


def test_bands_are_those_that_all_scenes_have_in_standard_order(tmp_path):
    stack(tmp_path / "one.tif", names=("nir", "red", "green", "swir1"))
    stack(tmp_path / "two.tif", names=("green", "red", "nir", "blue"), x_px=50)
    found = inspect(tmp_path)
    assert assert_loads(found)["ingest"]["bands"] == ["G", "R", "N"]
    assert "not in all scenes: B, S1" in found.proposal.text
    assert found.taken


def test_ones_own_settings_judge_and_the_proposal_stays(tmp_path):
    small_scene(tmp_path / "raw/scenes")
    halves(tmp_path / "raw/labels/labels.gpkg")
    own = write_params(tmp_path, ingest__bands=["B", "S1"], labels__attribute="fclass")
    found = inspect(tmp_path / "raw", own)
    assert found.judged_by == str(own)
    assert [f.about for f in found.refusals] == ["scene", "labels", "indices"]
    assert "no file for band S1" in messages(found)[0]
    assert "no attribute 'fclass'" in messages(found)[1]
    assert assert_loads(found)["ingest"]["bands"] == ["B", "G", "R", "N"]
    assert "REFUSED" in report_text(found)


def test_settings_that_do_not_load_are_told_and_the_rest_is_judged(tmp_path):
    small_scene(tmp_path / "raw/scenes")
    halves(tmp_path / "raw/labels/labels.gpkg")
    own = write_params(tmp_path, ingest__resolution_m=-10)
    found = inspect(tmp_path / "raw", own)
    assert [f.about for f in found.refusals] == ["settings"]
    assert "resolution_m" in messages(found)[0]
    own.write_text("ingest: [", encoding="utf-8")
    assert "not valid YAML" in messages(inspect(tmp_path / "raw", own))[0]
    assert "not found" in messages(inspect(tmp_path / "raw", tmp_path / "absent.yaml"))[0]


def test_a_band_order_that_names_no_band_does_not_hide_the_scenes(tmp_path):
    stack(tmp_path / "raw/scenes/one.tif", bands=3)
    own = write_params(tmp_path, ingest__band_order=["R", "purple", "N"])
    found = inspect(tmp_path / "raw", own)
    assert [view.scene.name for view in found.scenes] == ["one"]
    assert any("'purple' names no band" in message for message in messages(found))


def test_one_name_twice_is_told_and_both_are_shown(tmp_path):
    for folder in ("a", "b"):
        stack(tmp_path / folder / "one.tif", names=("B", "G", "R", "N"))
    found = inspect(tmp_path)
    assert not found.taken
    assert any("must be unique" in message for message in messages(found))
    assert "one" in report_text(found)


def test_labels_that_meet_no_scene(tmp_path):
    small_scene(tmp_path / "raw/scenes")
    write_labels(tmp_path / "raw/labels/l.gpkg", [("a", box(9e4, 0, 9.1e4, 10)), ("b", box(9e4, 20, 9.1e4, 30))])
    assert "the labels meet no scene" in messages(inspect(tmp_path / "raw"))[0]


def test_no_labels_in_a_delivery(tmp_path):
    small_scene(tmp_path / "raw/scenes")
    found = inspect(tmp_path / "raw")
    assert messages(found) == [
        "no labels were found: put them into the folder labels, or tiles into a folder for each class"
    ]
    assert "labels" not in assert_loads(found)
    assert "labels: none were found" in report_text(found)
    assert inspect(tmp_path / "raw/scenes").taken


def test_labels_of_another_kind_and_none_tell_the_mend(tmp_path):
    for i, label in enumerate(("crop", "crop", "lake", "lake")):
        stack(tmp_path / f"tiles/scenes/{label}/{label}_{i}.tif", names=("B", "G", "R", "N"), x_px=40 * i)
    own = write_params(tmp_path, ingest__bands=["B", "G", "R", "N"], indices__names=[])
    found = inspect(tmp_path / "tiles", own)
    assert len(found.refusals) == 1
    assert messages(found)[0].endswith("or correct labels.kind; the folders of the scenes would be labels.kind: folder")
    assert "\n  - labels: expected one vector file" in report_text(found)
    small_scene(tmp_path / "raw/scenes")
    found = inspect(tmp_path / "raw", own)
    assert messages(found)[0].endswith("found none; put the labels there, or correct labels.kind")


def test_indices_that_the_bands_do_not_allow(tmp_path):
    small_scene(tmp_path / "raw/scenes")
    halves(tmp_path / "raw/labels/labels.gpkg")
    bands = {"ingest__bands": ["B", "G", "R"], "labels__attribute": "kind"}
    classes = {"crop": ["crop"], "lake": ["lake"]}
    found = inspect(
        tmp_path / "raw", write_params(tmp_path, **bands, labels__classes=classes, indices__names=["NDVI", "NGRDI"])
    )
    assert [(f.about, f.message) for f in found.refusals] == [
        (
            "indices",
            "index NDVI: it needs band N, but ingest.bands is B, G, R; add the band there or take NDVI out of "
            "indices.names",
        )
    ]


def test_the_likeliest_attribute_is_proposed_and_the_others_are_named(tmp_path):
    table = geopandas.GeoDataFrame(
        {
            "fid_old": range(12),
            "share": np.linspace(0, 1, 12),
            "Code": [11, 12, 13] * 4,
            "landcover": ["Äcker, nass", "no", "1e5"] * 4,
            "holes": ["a", "b", None] * 4,
        },
        geometry=[box(100 * i, 0, 100 * i + 50, 50) for i in range(12)],
        crs=CRS_UTM33,
    )
    table.to_file(tmp_path / "labels.gpkg")
    found = inspect(tmp_path / "labels.gpkg")
    assert found.place.kind == "labels"
    assert [a.name for a in found.labels.attributes] == ["landcover", "Code", "holes"]
    assert found.labels.attributes[2].empty == 4
    pasted = assert_loads(found)
    assert pasted["labels"]["attribute"] == "landcover"
    assert sorted(v for values in pasted["labels"]["classes"].values() for v in values) == ["1e5", "no", "Äcker, nass"]
    assert "or: Code (3 values), holes (2 values)" in found.proposal.text
    path = tmp_path / "pasted.yaml"
    path.write_text(found.proposal.text, encoding="utf-8")
    labels = settings.validate(settings.read(path)["labels"], LabelSettings, where="labels")
    assert labels.attribute == "landcover"
    assert found.taken


def test_invalid_polygons_are_counted_and_to_be_repaired(tmp_path):
    bow = shapely.Polygon([(ORIGIN_X, ORIGIN_Y), (ORIGIN_X + 50, ORIGIN_Y - 50), (ORIGIN_X + 50, ORIGIN_Y),
                           (ORIGIN_X, ORIGIN_Y - 50)])  # fmt: skip
    write_labels(tmp_path / "labels.gpkg", [("a", bow), ("b", box(0, 0, 10, 10)), ("a", box(20, 0, 30, 10))])
    found = inspect(tmp_path)
    assert found.labels.invalid == 1
    assert assert_loads(found)["labels"]["invalid"] == "repair"
    assert found.taken
    assert "1 invalid polygons were repaired" in found.warnings[0].message


def test_points_layers_and_a_second_file(tmp_path):
    path = tmp_path / "raw/labels/labels.gpkg"
    points = geopandas.GeoDataFrame(
        {"kind": ["a", "b"] * 6}, geometry=[shapely.Point(ORIGIN_X + 90 * i, ORIGIN_Y - 95) for i in range(12)],
        crs=CRS_UTM33,
    )  # fmt: skip
    path.parent.mkdir(parents=True)
    points.to_file(path, layer="first")
    points.to_file(path, layer="second")
    small_scene(tmp_path / "raw/scenes")
    found = inspect(tmp_path / "raw")
    assert found.taken, messages(found)
    assert (found.labels.kind, found.labels.layers) == ("points", ("first", "second"))
    assert assert_loads(found)["labels"]["layer"] == "first"
    assert assert_loads(found)["labels"]["invalid"] is None
    halves(tmp_path / "raw/labels/more.gpkg")
    assert "expected one" in messages(inspect(tmp_path / "raw"))[0]


def test_a_table_must_list_every_scene(tmp_path):
    for i in range(3):
        stack(tmp_path / f"scenes/s{i}.tif", names=("B", "G", "R", "N"), x_px=40 * i)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/classes.csv").write_text("file,class\ns0.tif,wood\ns1.tif,lake\n", encoding="utf-8")
    found = inspect(tmp_path)
    assert found.labels.values == {"wood": 1, "lake": 1}
    assert "1 of 3 scenes are not listed (s2)" in messages(found)[0]
    (tmp_path / "labels/classes.csv").write_text("name,kind\ns0.tif,wood\n", encoding="utf-8")
    assert "expected columns file and class" in messages(inspect(tmp_path))[0]


def test_values_of_a_raster_that_the_settings_do_not_know(tmp_path):
    small_scene(tmp_path / "raw/scenes")
    grid = make_grid(90, 120)
    write_band(tmp_path / "raw/labels/l.tif", grid, (centres(grid)[0] // 400).astype("uint8") + 1)
    own = write_params(
        tmp_path, labels__kind="raster", labels__attribute=None, labels__invalid=None, labels__resampling="nearest",
        labels__classes={"one": [1], "nine": [9]}, labels__exclude=[2],
    )  # fmt: skip
    found = inspect(tmp_path / "raw", own)
    assert "no value of class nine is in the labels" in messages(found)[0]
    assert any("class 3 is in neither" in w.message and "where a patch meets it" in w.message for w in found.warnings)


@pytest.mark.parametrize(("level", "thresholds"), [("L1C", {"coastal": 0.2, "cirrus": 0.012}), ("L2A", None)])
def test_cloud_of_level_1c_is_looked_for(tmp_path, level, thresholds):
    write_safe(tmp_path, level=level)
    found = inspect(tmp_path)
    assert found.taken, messages(found)
    assert assert_loads(found)["ingest"]["masks"]["l1c"] == thresholds


@pytest.mark.parametrize(("resolution_m", "resampling"), [(5, "mode"), (10, "mode"), (30, "nearest")])
def test_labels_of_larger_pixels_than_the_scenes_are_taken_by_nearest(tmp_path, resolution_m, resampling):
    small_scene(tmp_path / "scenes")
    grid = make_grid(900 // resolution_m, 1200 // resolution_m, resolution_m)
    write_band(tmp_path / "labels/l.tif", grid, (centres(grid)[0] // 400).astype("uint8") + 1)
    found = inspect(tmp_path)
    assert found.taken, messages(found)
    assert assert_loads(found)["labels"]["resampling"] == resampling


def test_a_picture_is_no_label_raster(tmp_path):
    grid = make_grid(90, 120)
    write_band(tmp_path / "l.tif", grid, np.arange(90 * 120).reshape(90, 120).astype("uint16"))
    found = inspect(tmp_path)
    assert "more than 255 distinct values" in found.labels.fault
    assert not found.taken


def test_one_file_is_taken_for_itself_with_what_belongs_to_it(tmp_path):
    tiles(tmp_path / "tiles", names=("B", "G", "R", "N"))
    one = inspect(tmp_path / "tiles/lake/lake_1.tif")
    assert [view.scene.name for view in one.scenes] == ["lake_1"]
    assert (one.place.kind, one.taken) == ("scene", True)
    small_scene(tmp_path / "bands", "s")
    band = inspect(tmp_path / "bands/s/s_B03.tif")
    assert [view.bands for view in band.scenes] == [["B", "G", "R", "N"]]
    write_landsat(tmp_path / "landsat")
    assert inspect(tmp_path / "landsat" / f"{LANDSAT_NAME}_MTL.txt").scenes[0].scene.sensor == "landsat8"
    safe = write_safe(tmp_path / "safe")
    archive = zipped(safe, tmp_path / "product.zip")
    for path in (safe, archive):
        found = inspect(path)
        assert found.taken, messages(found)
        assert (found.place.kind, found.scenes[0].resolutions) == ("scene", (10.0, 20.0, 60.0))


def test_a_broken_file_is_named_by_its_own_path(tmp_path):
    (tmp_path / "one.tif").write_bytes(b"II*\0")
    found = inspect(tmp_path / "one.tif")
    assert messages(found)[0].startswith(f"{tmp_path}{os.sep}one.tif: cannot be read")


def test_no_message_names_the_folder_that_stands_in_for_a_file(tmp_path):
    write_band(tmp_path / "l.tif", make_grid(20, 30), np.zeros((20, 30), "uint8"), crs=None)
    (tmp_path / "t.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    (tmp_path / "v.gpkg").write_bytes(b"no vector")
    for name in ("l.tif", "t.csv", "v.gpkg"):
        found = inspect(tmp_path / name)
        assert not found.taken
        assert "landfold-inspect-" not in json.dumps(report_data(found)) + report_text(found)


def test_nothing_to_inspect(tmp_path):
    with pytest.raises(InspectionError, match="nowhere: not found; give a folder such as data/raw"):
        inspect(tmp_path / "nowhere")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InspectionError, match="no scene found"):
        inspect(tmp_path)


def test_many_scenes_share_lines_and_their_equal_refusals_one_entry(tmp_path):
    for i in range(25):
        stack(tmp_path / f"t{i:02}.tif", names=("B", "G", "R", "N"), x_px=40 * i)
    for i in range(3):
        stack(tmp_path / f"u{i}.tif", bands=2, crs=CRS.from_epsg(32632))
    found = inspect(tmp_path)
    text = report_text(found)
    assert "28 scenes, 3 would be refused" in text
    assert [line.split()[:3] for line in text.splitlines() if line[2:].split()[1:2] == ["as"]] == [
        ["25", "as", "t00"],
        ["3", "as", "u0"],
    ]
    assert text.count("bands carry no names") == 1
    assert "3 scenes (u0, u1, u2)" in text
    assert len(report_data(found)["scenes"]) == 28


def test_the_text_fits_its_width_and_says_what_it_does_not_check(tmp_path):
    small_scene(tmp_path / "scenes", "a_very_long_name_of_a_scene_that_does_not_fit_into_a_column_20220101T000000")
    write_landsat(tmp_path / "scenes/l")
    found = inspect(tmp_path)
    report = report_text(found, width=90).partition("Proposed")[0]
    assert report.startswith(str(tmp_path))
    assert max(map(len, report.splitlines())) <= 90
    assert "ingest.min_valid" in report


def test_the_data_hold_what_the_text_tells(tmp_path):
    small_scene(tmp_path / "scenes")
    halves(tmp_path / "labels/labels.gpkg")
    data = json.loads(json.dumps(report_data(inspect(tmp_path)), allow_nan=False))
    assert list(data) == [
        *(
            "path",
            "kind",
            "judged_by",
            "taken",
            "scenes",
            "labels",
            "patches",
            "refusals",
            "warnings",
            "not_checked",
            "proposal",
        )
    ]
    assert data["scenes"] == [
        {
            "name": "T33UUU_20170216T102101",
            "sensor": "sentinel2",
            "acquired": "2017-02-16",
            "processing": {},
            "crs": "EPSG:32633",
            "width_px": 120,
            "height_px": 90,
            "resolutions": [10.0],
            "unit": "m",
            "orientation": "north-up",
            "bounds": [ORIGIN_X, ORIGIN_Y - 900, ORIGIN_X + 1200, ORIGIN_Y],
            "dtype": "uint16",
            "bands": ["B", "G", "R", "N"],
            "unnamed_bands": [],
            "masks": [],
            "verdict": "taken",
        }
    ]
    assert data["labels"]["values"] == {"crop": 1, "lake": 1}
    assert data["refusals"] == []
    assert {warning["about"] for warning in data["warnings"]} == {"scene"}
    assert [(row["class"], row["polygons"]) for row in data["patches"]["classes"]] == [("crop", 1), ("lake", 1)]
    assert data["patches"]["kept"] == data["patches"]["windows"] - sum(data["patches"]["dropped"].values())


def test_equal_tiles_are_tried_once_and_judged_alike(tmp_path, monkeypatch):
    tiles(tmp_path, names=("B", "G", "R", "N"), count=12)
    stack(tmp_path / "lake/odd.tif", names=("B", "G", "R", "N"), crs=None)
    tried = []
    monkeypatch.setattr(
        "landfold.cli.inspection.verdict.check_scene",
        lambda scene, *rest: tried.append(scene.name) or check_scene(scene, *rest),
    )
    found = inspect(tmp_path)
    assert tried == ["forest_0", "odd"]
    assert [f.name for f in found.refusals] == ["odd"]


@pytest.mark.parametrize(
    "text", ["a", "1", "no", "null", "1e5", "~", "a: b", "a #b", "- a", "[x", '"q"', "ü, ö", " a", ""]
)
def test_every_text_comes_back_from_every_reader_of_yaml(text):
    written = yaml_text({"labels": commented([(text, [text, None], "a comment"), ("scale", text, "another " * 20)])})
    content = {"labels": {text: [text, None], "scale": text}}
    assert yaml.safe_load(written) == YAML(typ="safe", pure=True).load(written) == content
    assert written.count("#") > 2
