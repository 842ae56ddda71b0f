"""Strict loading of one section of params.yaml into the settings model of its owner."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from landfold.core.errors import LandfoldError

SECTIONS = (
    "project",
    "dataset",
    "ingest",
    "indices",
    "normalize",
    "labels",
    "patches",
    "zones",
    "audit",
    "model",
    "train",
    "machine",
    "evaluate",
    "export",
    "track",
    "colours",
    "card",
)


class SettingsError(LandfoldError):
    """A setting that is missing, unknown or out of its range."""


class Settings(BaseModel):
    """Base of every settings model: unknown keys refused, immutable, documented by its fields.

    A field has no default: params.yaml shows every value that is in force.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class _Loader(yaml.SafeLoader):
    """Numbers and keys as in YAML 1.2.

    YAML 1.1 reads ``1e-5``, as ``dvc exp run -S`` may write it, as text, and PyYAML takes the last of equal keys.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping, unless it has a key twice."""
        lines: dict[str, int] = {}
        for key, _ in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in lines:
                raise yaml.YAMLError(f"'{name}' is on line {lines[name]} and again on line {line}; keep one")
            lines[name] = line
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+0123456789."),
)

Model = TypeVar("Model", bound=Settings)


def read(path: Path) -> dict[str, Any]:
    """Read params.yaml as plain data.

    Raises:
        SettingsError: if it is absent, is not YAML, or has an unknown section.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - a SafeLoader
    except FileNotFoundError:
        raise SettingsError(f"{path}: not found; run this from the root of the repository") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise SettingsError(f"{path}: expected sections such as 'ingest:', found {content!r}")
    for section in content:
        if section not in SECTIONS:
            raise SettingsError(f"{path}: unknown section '{section}'{_suggestion(str(section), SECTIONS)}")
    return content


def load(path: Path, section: str, model: type[Model]) -> Model:
    """Load one section of params.yaml.

    Raises:
        SettingsError: naming every key that is missing, unknown or has an unusable value.
    """
    content = read(path)
    if section not in content:
        raise SettingsError(f"{path}: section '{section}' is missing")
    return validate(content[section], model, where=f"{path}: {section}")


def value(path: Path, name: str) -> Any:
    """One value of params.yaml by its dotted name, such as ``zones.k``.

    For a stage that needs a single value of a section whose owner has validated it upstream, and that
    dvc.yaml therefore lists by the same name.

    Raises:
        SettingsError: if there is no such value.
    """
    found: Any = read(path)
    for part in name.split("."):
        if not isinstance(found, dict) or part not in found:
            raise SettingsError(f"{path}: {name}: missing")
        found = found[part]
    return found


def validate(values: Any, model: type[Model], *, where: str) -> Model:
    """Turn plain data into a settings model; ``where`` opens each line of the error."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(e, model, where) for e in error.errors())) from None


def _explain(error: Any, model: type[Settings], where: str) -> str:
    location = error["loc"]
    name = ".".join([where, *(str(part) for part in location)])
    model, field = _innermost(model, location)
    meaning = f" ({' '.join(field.description.split())})" if field and field.description else ""
    if error["type"] == "extra_forbidden":
        known = list(model.model_fields)
        return f"{name}: unknown setting{_suggestion(str(location[-1]), known)}; known are {', '.join(known)}"
    if error["type"] == "missing":
        return f"{name}: missing; add it{meaning}"
    found = f"found {error['input']!r}: " if not isinstance(error["input"], dict) else ""
    message = error["msg"].removeprefix("Value error, ")
    return f"{name}: {found}{message}{meaning}"


def _innermost(model: type[Settings], location: Sequence[Any]) -> tuple[type[Settings], FieldInfo | None]:
    """The nested model that a location leads to, and the last field on the way, None if it has no such field."""
    field = None
    for part in location:
        inner = field.annotation if field else model
        if not (isinstance(inner, type) and issubclass(inner, Settings)):
            break
        model, field = inner, inner.model_fields.get(str(part))
    return model, field


def _suggestion(name: str, known: object) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""
