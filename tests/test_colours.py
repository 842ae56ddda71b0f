import pytest

from landfold import settings
from landfold.colours import ColourError, ColourSettings


def load(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return settings.load(path, "colours", ColourSettings)


def test_colours_come_in_the_order_asked_for(tmp_path):
    colours = load(tmp_path, 'colours:\n  water: "#2f7fd1"\n  copy: "#FFFFFF"\n  farm: "#000102"\n')
    assert colours.rgb(["farm", "water"]) == [(0, 1, 2), (47, 127, 209)]
    assert colours.rgb(["copy"]) == [(255, 255, 255)]


def test_every_class_without_a_colour_is_named(tmp_path):
    colours = load(tmp_path, 'colours:\n  water: "#2f7fd1"\n')
    with pytest.raises(ColourError, match=r"no colour for class farm, scrub; add a line such as 'farm: .*for water"):
        colours.rgb(["farm", "water", "scrub"])


@pytest.mark.parametrize("value", ["red", '"#12345"', '"#1234567"', '"#12345g"', "0x112233", "[1, 2, 3]"])
def test_what_is_no_colour_is_refused_by_its_class(tmp_path, value):
    with pytest.raises(settings.SettingsError, match=r"params.yaml: colours.water: found .*(pattern|string)"):
        load(tmp_path, f'colours:\n  farm: "#000102"\n  water: {value}\n')


def test_a_colour_that_yaml_took_for_a_comment_is_explained(tmp_path):
    with pytest.raises(settings.SettingsError, match=r"colours.water: found None: write the colour in quotes"):
        load(tmp_path, "colours:\n  water: #2f7fd1\n")
