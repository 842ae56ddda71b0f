"""Sections of params.yaml with comments, as text that every YAML reader reads back to the same values."""

import io
import json
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

WIDTH = 100
COMMENT_COLUMN = 30


class Representer(RoundTripRepresenter):
    """As usual, but ``null`` is written out, as in params.yaml."""


Representer.add_representer(
    type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
)


def commented(entries: Iterable[tuple[str, Any, str]], *, depth: int = 1) -> CommentedMap:
    """A mapping of (key, value, comment); a long comment stands above its key, another one beside the value."""
    mapping = CommentedMap()
    for name, value, comment in entries:
        key = _scalar(name)
        mapping[key] = value if isinstance(value, CommentedMap) else flow(value)
        row = f"{'  ' * depth}{key}: {json.dumps(value, ensure_ascii=False)}"
        if not comment:
            continue
        if isinstance(value, CommentedMap) or max(len(row), COMMENT_COLUMN) + 4 + len(comment) > WIDTH:
            above = textwrap.fill(comment, WIDTH - 2 * depth - 2)
            mapping.yaml_set_comment_before_after_key(key, before=above, indent=2 * depth)
        else:
            mapping.yaml_add_eol_comment(comment, key, column=COMMENT_COLUMN)
    return mapping


def yaml_text(sections: Mapping[str, CommentedMap]) -> str:
    """The sections as text, with an empty line between them."""
    writer, parts = YAML(), []
    writer.Representer, writer.width = Representer, 10_000
    for name, content in sections.items():
        stream = io.StringIO()
        writer.dump({name: content}, stream)
        parts.append(stream.getvalue())
    return "\n".join(parts)


def flow(value: Any) -> Any:
    """Lists and mappings on one line, and text in quotes where a reader of YAML could take it for something else."""
    if isinstance(value, dict):
        items = CommentedMap((flow(key), flow(part)) for key, part in value.items())
        items.fa.set_flow_style()
        return items
    if isinstance(value, list):
        items = CommentedSeq(flow(item) for item in value)
        items.fa.set_flow_style()
        return items
    return _scalar(value) if isinstance(value, str) else value


def _scalar(text: str) -> str:
    try:
        plain = yaml.safe_load(text) == text  # by YAML 1.1, in which `no` is false; ruamel.yaml knows YAML 1.2
    except yaml.YAMLError:
        plain = False
    return text if plain else DoubleQuotedScalarString(text)
