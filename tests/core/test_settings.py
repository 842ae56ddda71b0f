import ast
import copy
import importlib
import pkgutil
import re
from pathlib import Path

import pytest
import yaml
from pydantic import Field, ValidationError

import landfold
from landfold.core.settings import Settings, SettingsError, read, validate, value
from landfold.params import OWNERS, Params, faults, read_params
from tests.factories import write_params

ROOT = Path(__file__).parents[2]
USERS_OWN_KEYS = {"colours"}
"""Sections whose keys are class names: the section's own comment speaks for all of them."""


class Crop(Settings):
    """A model of its own, so that these tests do not depend on the pipeline's."""

    size_px: int = Field(ge=1)
    """side in pixels"""
    rate: float
    """a rate"""
    names: list[str]
    """names"""


GOOD = {"size_px": 4, "rate": 0.5, "names": ["a"]}


def crop(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return validate(read(path)["patches"], Crop, where=f"{path}: patches")


def test_a_section_becomes_a_model(tmp_path):
    found = crop(tmp_path, "patches: {size_px: 4, rate: 0.5, names: [a]}\n")
    assert (found.size_px, found.rate, found.names) == (4, 0.5, ["a"])


@pytest.mark.parametrize("text", ["1e-5", "1E-5", "1.0e-05", "0.00001", "+1e-5", ".1e-4"])
def test_a_number_in_exponent_form_is_a_number(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(f"patches: {{rate: {text}}}\n")
    rate = read(path)["patches"]["rate"]
    assert isinstance(rate, float)
    assert rate == pytest.approx(1e-5, rel=1e-12)


@pytest.mark.parametrize("text", ["e5", "1e", "a1e5", "6e7e281b", "1.2.3e4"])
def test_what_only_looks_like_a_number_stays_text(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(f"patches: {{rate: {text}}}\n")
    assert read(path)["patches"]["rate"] == text


def test_unknown_key_names_the_key_and_suggests_the_right_one():
    with pytest.raises(
        SettingsError, match=r"params\.yaml: patches\.sise_px: unknown setting \(did you mean 'size_px'"
    ):
        validate(GOOD | {"sise_px": 3}, Crop, where="params.yaml: patches")


class Farm(Settings):
    """A model with another inside."""

    crop: Crop
    """the crop"""
    size_m: int
    """side in metres"""


def test_faults_inside_a_nested_section_speak_of_that_section():
    with pytest.raises(SettingsError, match="sise_px") as caught:
        validate({"crop": {"sise_px": 3, "rate": 0.5, "names": [1]}, "size_m": 2}, Farm, where="farm")
    assert str(caught.value).splitlines() == [
        "farm.crop.size_px: missing; add it (side in pixels)",
        "farm.crop.names.0: found 1: Input should be a valid string (names)",
        "farm.crop.sise_px: unknown setting (did you mean 'size_px'?); known are size_px, rate, names",
    ]


def test_keys_that_anchors_bring_may_be_overridden(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("zones: &all {k: 1, seed: 2}\npatches: {<<: *all, k: 3}\n")
    assert read(path) == {"zones": {"k": 1, "seed": 2}, "patches": {"k": 3, "seed": 2}}


def test_missing_key_is_named_with_its_meaning():
    with pytest.raises(SettingsError, match=r"patches\.size_px: missing; add it \(side in pixels\)"):
        validate({"rate": 1.0, "names": []}, Crop, where="patches")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size_px": "four"}, r"patches\.size_px: found 'four': .*integer.*\(side in pixels\)"),
        ({"size_px": 0}, r"patches\.size_px: found 0: .*greater than or equal to 1"),
        ({"size_px": 1.5}, r"patches\.size_px: found 1\.5"),
        ({"rate": "fast"}, r"patches\.rate: found 'fast'"),
        ({"names": [1]}, r"patches\.names\.0: found 1: .*string"),
        ({"names": "a"}, r"patches\.names: found 'a': .*list"),
    ],
)
def test_wrong_type_or_range_is_named_with_what_was_found(change, message):
    with pytest.raises(SettingsError, match=message):
        validate(GOOD | change, Crop, where="patches")


def test_all_faults_are_named_at_once():
    with pytest.raises(SettingsError, match="size_px") as caught:
        validate({"size_px": "x", "colour": 1, "names": []}, Crop, where="patches")
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    for name in ("patches.size_px", "patches.rate", "patches.colour"):
        assert any(line.startswith(f"{name}:") for line in lines)


def test_a_section_without_content_is_refused_under_its_name(tmp_path):
    with pytest.raises(SettingsError, match=r"params\.yaml: patches: found None"):
        crop(tmp_path, "patches:\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5: {}\n", "5: a key must be text; put it in quotes"),
        ("- a\n", "expected sections"),
        ("", "expected sections"),
        ("a: [\n", "not valid YAML"),
        ("zones: {}\npatches:\n  rate: 1\n  size_px: 3\n  rate: 2\n", "'rate' stands twice .*second time on line 5"),
        ("patches: {rate: 1, rate: 1}\n", "'rate' stands twice in one section, the second time on line 1; keep one"),
        ("zones: {k: 1}\npatches: {}\nzones: {k: 2}\n", "'zones' stands twice .*second time on line 3; keep one"),
        ("zones: {day: 2020-01-01}\n", r"zones\.day: found 2020-01-01, a date; put it in quotes"),
        ("zones: {k: !!int abc}\n", "not valid YAML: invalid literal for int"),
        ("zones: {k: !!python/object:os.system x}\n", "not valid YAML: could not determine a constructor"),
        ("zones: {k: !!set {x}}\n", r"zones\.k: found \{'x'\}, a set"),
        ("zones: {k: !!binary YQ==}\n", r"zones\.k: found b'a', a bytes"),
        ("zones: {[1, 2]: 3}\n", r"zones\.\(1, 2\): a key must be text"),
        ("zones: " + "[" * 5000, "nested too deeply"),
        ("zones: &itself {k: *itself}\n", "nested too deeply, or in itself"),
        ("zones: {k: 1}\x00\n", "not valid YAML: unacceptable character"),
    ],
)
def test_a_file_of_another_shape_is_refused(tmp_path, text, message):
    with pytest.raises(SettingsError, match=message):
        crop(tmp_path, text)


def test_an_absent_file_says_where_to_run(tmp_path):
    with pytest.raises(SettingsError, match=r"params\.yaml: not found; run this from the root"):
        read(tmp_path / "params.yaml")
    with pytest.raises(SettingsError, match="a folder; expected a file of settings"):
        read(tmp_path)


def test_another_encoding_and_a_huge_file_are_refused(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_bytes("zones: {kind: gr\u00fcn}\n".encode("latin-1"))
    with pytest.raises(SettingsError, match="not UTF-8 at byte 16; save it in that encoding"):
        read(path)
    path.write_text("zones:\n" + "# long\n" * 200_000)
    with pytest.raises(SettingsError, match="larger than 1 MiB"):
        read(path)


def test_numbers_are_those_of_yaml_1_2(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("zones: {time: 1:30, answer: no, octal: 0o17, padded: 08}\n")
    assert read(path) == {"zones": {"time": "1:30", "answer": "no", "octal": 15, "padded": 8}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size_px": True}, "found True: Input should be a valid integer"),
        ({"size_px": 4.0}, "found 4.0: Input should be a valid integer"),
        ({"rate": "1"}, "found '1': Input should be a valid number"),
        ({"rate": False}, "found False: Input should be a valid number"),
        ({"rate": float("nan")}, "found nan: Input should be a finite number"),
        ({"rate": float("inf")}, "found inf: Input should be a finite number"),
        ({"names": ("a",)}, "found \\('a',\\): Input should be a valid list"),
        ({"names": ["a", 2]}, "found 2: Input should be a valid string"),
    ],
)
def test_types_are_strict_and_numbers_finite(change, message):
    with pytest.raises(SettingsError, match=message):
        validate(GOOD | change, Crop, where="patches")


def test_a_long_value_is_not_repeated_whole():
    with pytest.raises(SettingsError, match="size_px") as caught:
        validate(GOOD | {"size_px": "x" * 10_000}, Crop, where="patches")
    assert len(str(caught.value)) < 400


def test_one_value_is_found_by_its_dotted_name(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("zones: {k: 5, origin_m: [0, 0]}\n")
    assert value(path, "zones.k") == 5
    for name in ("zones.j", "patches.k", "zones.k.x"):
        with pytest.raises(SettingsError, match=rf"params\.yaml: {name}: missing"):
            value(path, name)


def test_settings_are_immutable():
    found = validate(GOOD, Crop, where="patches")
    with pytest.raises(ValidationError, match="frozen"):
        found.size_px = 5


def owners():
    """Every settings model of the package, by the section that its docstring names."""
    models = {}
    for module in pkgutil.walk_packages(landfold.__path__, "landfold."):
        path = Path(importlib.util.find_spec(module.name).origin)
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            section = isinstance(node, ast.ClassDef) and re.match(r"Section ``(\w+)``", ast.get_docstring(node) or "")
            if section:
                models[section[1]] = getattr(importlib.import_module(module.name), node.name)
    return models


def test_every_section_has_the_owner_that_its_docstring_names():
    assert owners() == OWNERS


def test_the_repositorys_own_settings_load():
    assert read_params(ROOT / "params.yaml").content == read(ROOT / "params.yaml")


@pytest.mark.parametrize("model", [Params, *OWNERS.values()], ids=lambda model: model.__name__)
def test_settings_are_documented_and_have_no_hidden_defaults(model):
    for field, info in model.model_fields.items():
        assert info.description, f"{field} has no docstring"
        assert info.is_required(), f"{field} has a default that params.yaml would not show"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected sections"),
        ("patchs: {}\n", r"params\.yaml: patchs: unknown setting \(did you mean 'patches'\?\)"),
        ("patches:\n", r"params\.yaml: patches: found None: "),
        ("zones: {}\n", r"params\.yaml: ingest: missing; add it"),
    ],
)
def test_the_file_is_checked_whole(tmp_path, text, message):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=message):
        read_params(path)


def leaves(content, place=()):
    """Every value of params.yaml that is neither a section nor a list of several, by its path."""
    if isinstance(content, dict) and content:
        for key, value in content.items():
            yield from leaves(value, (*place, key))
    else:
        yield place


OWN = read(ROOT / "params.yaml")
STRANGE = [True, -1, 0.5, 10**30, float("nan"), float("inf"), "x", [], {}, {"x": 1}, [[1]], "\x00", None, 2**63]


@pytest.mark.parametrize("place", list(leaves(OWN)), ids=".".join)
def test_a_wrong_value_anywhere_is_refused_by_its_name(place):
    """Whatever is put in the place of a setting is taken or refused in sentences that name it, never a traceback."""
    messages = []
    for strange in STRANGE:
        content = copy.deepcopy(OWN)
        section = content
        for key in place[:-1]:
            section = section[key]
        section[place[-1]] = strange
        messages += faults(content, OWN, where="params.yaml")
    assert all(message.startswith(f"params.yaml: {place[0]}") for message in messages), messages
    assert len(messages) >= 6


def test_every_number_is_bounded():
    """A number with a typo in it, such as 10000000 epochs, ends in a sentence and not in an endless run."""
    unbounded = [
        f"{section}.{name}"
        for section, model in OWNERS.items()
        for name, field in model.model_fields.items()
        if field.annotation in (int, float, int | None, float | None)
        and not any(hasattr(rule, "le") or hasattr(rule, "lt") for rule in field.metadata)
    ]
    assert unbounded == ["ingest.offset", "ingest.nodata"], "any number may be meant there"


def test_every_setting_has_a_comment():
    """On its own line, on the line of the key around it, or on a line of comment right above it."""
    lines = (ROOT / "params.yaml").read_text(encoding="utf-8").splitlines()
    commented = [bool(re.search(r"(^|\s)#", line)) for line in lines]
    bare = []

    def visit(node, covered):
        for key, content in node.value:
            line = key.start_mark.line
            above = line > 0 and lines[line - 1].lstrip().startswith("#")
            here = covered or commented[line] or above
            if isinstance(content, yaml.MappingNode):
                visit(content, here)
            elif not here:
                bare.append(f"line {line + 1}: {key.value}")

    for name, section in yaml.compose("\n".join(lines)).value:
        visit(section, covered=name.value in USERS_OWN_KEYS)
    assert bare == [], "params.yaml: say what these mean"


def test_the_tests_own_settings_load(tmp_path):
    assert read_params(write_params(tmp_path)).zones.k == 2
