"""Strict settings: YAML into models that refuse what is unknown, missing or of another type."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError

from landfold.core.errors import LandfoldError, did_you_mean

MAX_BYTES = 2**20
"""No params.yaml is longer; a longer file is another one."""

LONGEST = 200
"""Characters of a value that a message repeats."""


class SettingsError(LandfoldError):
    """A setting that is missing, unknown or out of its range."""


class Settings(BaseModel):
    """Base of every settings model: unknown keys refused, types strict, numbers finite, immutable.

    A field has no default: params.yaml shows every value that is in force. Its docstring is what a message says of it.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, strict=True, allow_inf_nan=False
    )


Model = TypeVar("Model", bound=Settings)

AsTuple = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)
"""For fields that are tuples: YAML and JSON have lists alone."""

Point = Annotated[tuple[float, float], AsTuple]
"""x and y, metres."""

Box = Annotated[tuple[float, float, float, float], AsTuple]
"""x_min, y_min, x_max, y_max, metres."""


def read(path: Path) -> dict[str, Any]:
    """Read params.yaml as plain data, by the rules of YAML 1.2 as DVC does: ``1e-5`` is a number and ``no`` is text.

    Raises:
        SettingsError: if it is absent, no UTF-8, no YAML, or holds what is no plain data.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SettingsError(f"{path}: larger than {MAX_BYTES >> 20} MiB; expected a file of settings")
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{path}: not found; run this from the root of the repository") from None
    except IsADirectoryError:
        raise SettingsError(f"{path}: a folder; expected a file of settings") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: not UTF-8 at byte {error.start}; save it in that encoding") from None
    except DuplicateKeyError as error:
        raise SettingsError(f"{path}: not valid YAML: {_duplicate(error)}") from None
    except (YAMLError, ValueError, TypeError, AttributeError) as error:
        raise SettingsError(f"{path}: not valid YAML: {' '.join(str(error).split())[:LONGEST]}") from None
    except RecursionError:
        raise SettingsError(f"{path}: nested too deeply; expected sections with settings") from None
    if not isinstance(content, dict):
        raise SettingsError(f"{path}: expected sections such as 'ingest:', found {_shown(content)}")
    try:
        _check_plain(content, f"{path}: ")
    except RecursionError:
        raise SettingsError(f"{path}: nested too deeply, or in itself; expected sections with settings") from None
    return content


def _duplicate(error: DuplicateKeyError) -> str:
    mark = error.problem_mark
    key = mark.buffer[mark.pointer :].partition(":")[0].strip()
    return f"'{key}' stands twice in one section, the second time on line {mark.line + 1}; keep one"


def _check_plain(content: Any, name: str) -> None:
    """Refuse a date, a set, bytes and keys that are no text, which YAML knows and no setting is."""
    if isinstance(content, dict):
        for key, value in content.items():
            if not isinstance(key, str):
                raise SettingsError(f"{name}{_shown(key)}: a key must be text; put it in quotes")
            _check_plain(value, f"{name}{key}.")
    elif isinstance(content, list):
        for number, value in enumerate(content):
            _check_plain(value, f"{name}{number}.")
    elif content is not None and type(content) not in (str, int, float, bool):
        kind = "a date" if hasattr(content, "year") else f"a {type(content).__name__}"
        raise SettingsError(f"{name.rstrip('.')}: found {content}, {kind}; put it in quotes if it is text")


def value(path: Path, name: str) -> Any:
    """One value of params.yaml by its dotted name, such as ``zones.k``, for those who read no other.

    Raises:
        SettingsError: if there is no such value.
    """
    place: Any = read(path)
    for part in name.split("."):
        if not isinstance(place, dict) or part not in place:
            raise SettingsError(f"{path}: {name}: missing")
        place = place[part]
    return place


def validate(values: Any, model: type[Model], *, where: str) -> Model:
    """Turn plain data into a settings model.

    Args:
        values: plain data, as of YAML or JSON.
        model: what it must fit.
        where: opens each line of the error: ``params.yaml: ingest`` for a section, ``params.yaml:`` for the whole file.

    Raises:
        SettingsError: a line for each setting that is missing, unknown or has an unusable value.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(fault, model, where) for fault in error.errors())) from None


def _explain(error: Any, model: type[Settings], where: str) -> str:
    location = error["loc"]
    place = ".".join(str(part) for part in location)
    name = f"{where} {place}" if where.endswith(":") else ".".join([where, place] if place else [where])
    model, field = _innermost(model, location)
    meaning = f" ({' '.join(field.description.split())})" if field and field.description else ""
    if error["type"] == "extra_forbidden":
        known = list(model.model_fields)
        return f"{name}: unknown setting{did_you_mean(str(location[-1]), known)}; known are {', '.join(known)}"
    if error["type"] == "missing":
        return f"{name}: missing; add it{meaning}"
    shown = f"found {_shown(error['input'])}: " if not isinstance(error["input"], dict) else ""
    message = error["msg"].removeprefix("Value error, ")
    return f"{name}: {shown}{message}{meaning}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _innermost(model: type[Settings], location: Sequence[Any]) -> tuple[type[Settings], FieldInfo | None]:
    """The nested model that a location leads to, and the last field on the way, None if it has no such field."""
    field = None
    for part in location:
        inner = field.annotation if field else model
        if not (isinstance(inner, type) and issubclass(inner, Settings)):
            break
        model, field = inner, inner.model_fields.get(str(part))
    return model, field


def used_or_null(choice: str, field: str, value: object, used: bool) -> None:
    """Refuse a field that a choice needs and that is null, or that it has no use for and that is set.

    Raises:
        ValueError: for pydantic, which names the section.
    """
    if used and value is None:
        raise ValueError(f"{choice} needs {field}; it is null")
    if not used and value is not None:
        raise ValueError(f"{choice} has no use for {field}; set it to null")
