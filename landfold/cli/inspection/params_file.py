"""Proposed settings put into a params.yaml that keeps its comments, its order and all other settings."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import CommentMark
from ruamel.yaml.scalarstring import FoldedScalarString
from ruamel.yaml.tokens import CommentToken

from landfold.cli.inspection.commented_yaml import Representer, flow
from landfold.core import settings
from landfold.core.errors import LandfoldError
from landfold.core.files import writing


class ParamsFileError(LandfoldError):
    """A params.yaml that cannot be changed."""


def write_settings(path: Path, sections: Mapping[str, CommentedMap]) -> list[str]:
    """Set the values of some sections in a file of settings; what has its value already is not touched.

    A setting keeps its comment. A section that the file lacks is added at its end, with the comments of the proposal.

    Args:
        path: the file, such as params.yaml.
        sections: whole sections; a setting of the file that its section does not have is removed.

    Returns:
        The dotted names of the settings that were changed, such as ``ingest.bands``; none: the file is as it was.

    Raises:
        SettingsError: the file is absent or no file of settings.
        ParamsFileError: it may not be written.
    """
    settings.read(path)
    target = path.resolve()  # of a link, the file that it leads to is replaced, not the link
    text = target.read_bytes().decode("utf-8")
    parser = YAML()
    parser.Representer, parser.width, parser.preserve_quotes = Representer, 10_000, True
    parser.indent(mapping=2, sequence=4, offset=2)
    document = parser.load(text.replace("\r\n", "\n"))
    changed: list[str] = []
    for name, values in sections.items():
        if isinstance(document.get(name), CommentedMap):
            changed += _update(document[name], values, name)
        else:
            document[name] = values
            changed.append(name)
    if not changed:
        return []
    if not os.access(target, os.W_OK):
        raise ParamsFileError(f"{path}: may not be written; change its permissions, or name another file by --params")
    with writing(target) as temporary:
        with temporary.open("w", encoding="utf-8", newline="\r\n" if "\r\n" in text else "\n") as stream:
            parser.dump(document, stream)
        shutil.copymode(target, temporary)
    return changed


def _update(own: CommentedMap, values: Mapping[str, Any], place: str) -> list[str]:
    """Give a mapping the keys and values of another one; the dotted names of what differed."""
    changed = []
    if set(own) != set(values):
        _set_keys(own, values)
        changed.append(place)
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(own[key], CommentedMap):
            changed += _update(own[key], value, f"{place}.{key}")
        elif own[key] != value or isinstance(own[key], bool) != isinstance(value, bool):
            _set_value(own, key, value)
            changed.append(f"{place}.{key}")
    return [place] if place in changed else changed


def _set_keys(own: CommentedMap, values: Mapping[str, Any]) -> None:
    """The keys of ``values`` in their order, with their own values and comments where they were there before."""
    below = _take_below(own)
    kept = {key: (own[key], own.ca.items.get(key)) for key in own if key in values}
    own.clear()
    own.ca.items.clear()
    for key, value in values.items():
        fresh = value if isinstance(value, CommentedMap) else flow(value)
        own[key], comment = kept.get(key, (fresh, None))
        if comment:
            own.ca.items[key] = comment
    _put_below(own, below)


def _set_value(own: CommentedMap, key: str, value: Any) -> None:
    """Another value for a key, with the comments of the value before."""
    before = own[key]
    below = _take_below(before) if _is_block(before) else ""
    own[key] = flow(value)
    if isinstance(before, FoldedScalarString) and isinstance(value, str):
        own[key] = FoldedScalarString(value)
        own[key].comment = getattr(before, "comment", None)
    _put_below(own, below, key)


def _is_block(value: Any) -> bool:
    """Whether a value is a mapping or a list with a line for each item."""
    return isinstance(value, CommentedMap | CommentedSeq) and len(value) > 0 and not value.fa.flow_style()


def _last_line(own: CommentedMap | CommentedSeq, key: Any = None) -> tuple[list[Any], int]:
    """The comments of the last line of a mapping, a list or the value of a key, and the place of that beside it."""
    if key is None:
        key = list(own)[-1] if isinstance(own, CommentedMap) else len(own) - 1
    if _is_block(own[key]):
        return _last_line(own[key])
    place = 2 if isinstance(own, CommentedMap) else 0
    return own.ca.items.setdefault(key, [None] * 4), place


def _take_below(own: CommentedMap | CommentedSeq) -> str:
    """Remove the comments and empty lines below the last line; they belong to what comes next in the file."""
    if not own:
        return ""
    comments, place = _last_line(own)
    if comments[place] is None:
        return ""
    beside, newline, below = comments[place].value.partition("\n")
    comments[place] = CommentToken(beside + newline, comments[place].start_mark, None) if beside else None
    return below


def _put_below(own: CommentedMap, below: str, key: Any = None) -> None:
    if not below:
        return
    comments, place = _last_line(own, key)
    if comments[place] is None:
        comments[place] = CommentToken("\n" + below, CommentMark(0), None)
    else:
        beside = comments[place].value.rstrip("\n")
        comments[place] = CommentToken(f"{beside}\n{below}", comments[place].start_mark, None)
