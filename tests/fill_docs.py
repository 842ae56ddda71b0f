"""Figures of metrics/ in README.md and docs/: ``python -m tests.fill_docs`` (``make docs``) writes them anew.

A figure stands between two comments, which Markdown does not show::

    <!-- metrics/summary.json pixels.accuracy -->0.67 (0.61 to 0.71)<!-- / -->

The first names a file and a value in it by its dotted path; ``per_class[class=farm]`` is the entry of a list that has
this value. A colon and a format of Python may follow the path (``pixels.count:,`` or ``gap.accuracy.pooled:.0%``). A
score has its interval behind it, one number for each end.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from tests.imports import ROOT

FIGURE = re.compile(r"(<!-- (metrics/\S+\.json) ([^\s:]+)(?::(\S+))? -->)(.*?)<!-- / -->")
STEP = re.compile(r"(\w+)(?:\[(.+)\])?")


def pages() -> list[Path]:
    """README.md and all of docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def filled(text: str, root: Path = ROOT) -> str:
    """The text of a page with the figures of the files below ``root``.

    Raises:
        ValueError: a figure names a file or a value that is not there.
    """

    def written(found: re.Match[str]) -> str:
        opening, file, path, style, _ = found.groups()
        return f"{opening}{figure(value(root / file, path), style)}<!-- / -->"

    return FIGURE.sub(written, text)


def value(file: Path, path: str) -> Any:
    """The value at a path in a file."""
    if not file.is_file():
        raise ValueError(f"{file}: not there; run dvc repro")
    place = json.loads(file.read_text(encoding="utf-8"))
    for name, entry in (STEP.fullmatch(step).groups() for step in re.findall(r"\w+(?:\[[^\]]+\])?", path)):
        try:
            place = place[name]
        except (KeyError, TypeError):
            raise ValueError(f"{file}: no {name} of {path}") from None
        if entry:
            wanted = dict(pair.split("=") for pair in entry.split(","))
            found = [row for row in place if all(str(row[key]) == text for key, text in wanted.items())]
            if len(found) != 1:
                raise ValueError(f"{file}: {len(found)} entries {entry} of {path}")
            (place,) = found
    return place


def figure(number: Any, style: str | None) -> str:
    """A number, or a score with its interval, as it stands in a page."""
    if not isinstance(number, dict):
        text = format(number, style or ("" if isinstance(number, int | str) else ".2f"))
        return text.replace("%", " %")
    if number["low"] is None:
        return figure(number["pooled"], style)
    middle, low, high = (figure(number[end], style) for end in ("pooled", "low", "high"))
    return f"{middle} ({low.removesuffix(' %')} to {high})"


def main() -> None:
    """Write every page anew whose figures have changed."""
    for page in pages():
        text = page.read_text(encoding="utf-8")
        try:
            now = filled(text)
        except ValueError as error:
            sys.exit(f"{page.relative_to(ROOT)}: {error}")
        if now != text:
            page.write_text(now, encoding="utf-8")
            print(f"{page.relative_to(ROOT)}: figures of metrics/ filled in")


if __name__ == "__main__":
    main()
