"""Sections of params.yaml with their comments, as text that YAML reads back to the same values."""

import json
import re
from collections.abc import Iterable
from typing import Any

import yaml

WIDTH = 100

Lines = list[tuple[str, Any, str]]
"""(key, value, comment) of a section; a value of Lines is a mapping below the key."""


def value_of(lines: Lines, key: str) -> Any:
    """The value of a key of a section."""
    return next(value for name, value, _ in lines if name == key)


def _is_lines(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], tuple)


def plain_data(lines: Any) -> Any:
    """A section without its comments; any other value as it is."""
    return {key: plain_data(value) for key, value, _ in lines} if _is_lines(lines) else lines


def yaml_text(sections: dict[str, Lines], unlabelled: bool) -> str:
    """The sections with their comments."""
    parts = ["\n".join([f"{section}:", *_rows(lines, "  ")]) for section, lines in sections.items()]
    if unlabelled:
        parts.append("# labels: none were found")
    return "\n\n".join(parts) + "\n"


def _rows(lines: Lines, indent: str) -> Iterable[str]:
    for key, value, comment in lines:
        nested = _is_lines(value)
        row = f"{indent}{scalar(key)}:" + ("" if nested else f" {flow(value)}")
        beside = f"{row:<28}  # {comment}"
        if not comment:
            yield row
        elif len(beside) <= WIDTH:
            yield beside
        else:
            yield from _wrapped(comment, indent)
            yield row
        if nested:
            yield from _rows(value, indent + "  ")


def _wrapped(comment: str, indent: str) -> Iterable[str]:
    line = f"{indent}#"
    for word in comment.split():
        if len(line) + 1 + len(word) > WIDTH:
            yield line
            line = f"{indent}#"
        line += f" {word}"
    yield line


def flow(value: Any) -> str:
    """A value on one line of YAML."""
    if isinstance(value, list):
        return f"[{', '.join(flow(item) for item in value)}]"
    if isinstance(value, str):
        return scalar(value)
    return json.dumps(value)


def scalar(text: str) -> str:
    """Text of YAML, in quotes where it could be read as something else."""
    plain = re.fullmatch(r"[^\W\d_]([\w ./:-]*\w)?", text) and ": " not in text and yaml.safe_load(text) == text
    return text if plain else json.dumps(text, ensure_ascii=False)
