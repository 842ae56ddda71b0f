from pathlib import Path

import numpy as np
import pytest
import yaml

from landfold.core import settings
from landfold.maps.colours import APART, USUAL, ColourSettings, oklab

ROOT = Path(__file__).resolve().parents[2]


def load(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return settings.validate(settings.read(path)["colours"], ColourSettings, where=f"{path}: colours")


def test_colours_come_in_the_order_asked_for(tmp_path):
    colours = load(tmp_path, 'colours:\n  water: "#2f7fd1"\n  copy: "#FFFFFF"\n  farm: "#000102"\n')
    assert colours.rgb(["farm", "water"]) == [(0, 1, 2), (47, 127, 209)]
    assert colours.rgb(["copy"]) == [(255, 255, 255)]


def colours_of(*names, **listed):
    return dict(zip(names, ColourSettings(**listed).rgb(list(names)), strict=True))


EUROSAT = [
    "AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial", "Pasture", "PermanentCrop", "Residential",
    "River", "SeaLake",
]  # fmt: skip
WORLDCOVER = [
    "Tree cover", "Shrubland", "Grassland", "Cropland", "Built-up", "Bare / sparse vegetation", "Snow and ice",
    "Permanent water bodies", "Herbaceous wetland", "Mangroves", "Moss and lichen",
]  # fmt: skip
DYNAMIC_WORLD = [
    "water", "trees", "grass", "flooded_vegetation", "crops", "shrub_and_scrub", "built", "bare", "snow_and_ice",
]  # fmt: skip


@pytest.mark.parametrize("names", [EUROSAT, WORLDCOVER, DYNAMIC_WORLD], ids=["EuroSAT", "WorldCover", "Dynamic World"])
def test_names_of_common_data_sets_have_usual_colours_that_can_be_told_apart(names):
    found = ColourSettings().rgb(names)
    usual = {bytes.fromhex(colour[1:]) for colour in USUAL}
    assert {bytes(colour) for colour in found} <= usual
    assert apart(found) > 0.05


def apart(colours):
    """The least distance of two of them."""
    places = oklab(np.array(colours))
    distance = np.linalg.norm(places[:, None] - places, axis=2)
    return (distance + np.eye(len(colours))).min()


@pytest.mark.parametrize(
    "names",
    [("water", "Water", "WATER_BODIES", "SeaLake"), ("built-up", "Built_Up", "urban areas"), ("city", "Cities")],
)
def test_a_name_has_one_colour_however_it_is_written(names):
    assert len({colours_of(name)[name] for name in names}) == 1


def test_default_project_needs_no_list():
    listed = yaml.safe_load((ROOT / "params.yaml").read_text())["colours"]
    assert colours_of(*listed) == colours_of(*listed, **listed)


def test_what_is_listed_comes_before_what_is_usual_and_nothing_is_used_twice():
    found = colours_of("lake", "water", "forest", forest="#2f7fd1")
    assert found["forest"] == (47, 127, 209)
    assert len(set(found.values())) == 3
    assert colours_of("lake", "water")["lake"] == (47, 127, 209)
    assert colours_of("water", "lake")["water"] == (47, 127, 209)


@pytest.mark.parametrize("count", [1, 2, 7, 60, 255])
def test_unknown_names_have_distinct_colours_that_depend_on_the_names_alone(count):
    names = [f"Klasse {i}" for i in range(count)]
    found = ColourSettings().rgb(names)
    assert found == ColourSettings().rgb(names)
    assert len(set(found)) == count
    assert found[:2] == [(230, 159, 0), (86, 180, 233)][:count]
    assert (255, 255, 255) not in found


def test_a_few_unknown_names_beside_known_ones_resemble_none():
    assert apart(ColourSettings().rgb(["water", "a", "forest", "b", "farm", "c"])) >= APART


def test_oklab_of_known_colours():
    """Grey has no hue; white is 1; red as in the CSS Color 4 specification's samples."""
    found = oklab(np.array([(0, 0, 0), (255, 255, 255), (128, 128, 128), (255, 0, 0)]))
    assert found[:3, 1:] == pytest.approx(0, abs=1e-4)
    assert found[:, 0] == pytest.approx([0, 1, 0.5998, 0.6280], abs=1e-4)
    assert found[3] == pytest.approx([0.6280, 0.2249, 0.1258], abs=1e-3)


def test_a_section_of_comments_alone_is_empty(tmp_path):
    assert load(tmp_path, "colours:\n  # water\n").rgb(["water"]) == [(47, 127, 209)]


@pytest.mark.parametrize("value", ["red", '"#12345"', '"#1234567"', '"#12345g"', "0x112233", "[1, 2, 3]"])
def test_what_is_no_colour_is_refused_by_its_class(tmp_path, value):
    with pytest.raises(settings.SettingsError, match=r"params.yaml: colours.water: found .*(pattern|string)"):
        load(tmp_path, f'colours:\n  farm: "#000102"\n  water: {value}\n')


def test_a_colour_that_yaml_took_for_a_comment_is_explained(tmp_path):
    with pytest.raises(settings.SettingsError, match=r"colours.water: found None: write the colour in quotes"):
        load(tmp_path, "colours:\n  water: #2f7fd1\n")
