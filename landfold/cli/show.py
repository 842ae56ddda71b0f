"""``landfold show``: a result as tables on the terminal, or the difference of two."""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from landfold.cli.results import Result

WIDTH = 120
"""Columns where the output is no terminal."""

_ABOUT = """\
Print the scores of a result with their 95 % intervals over zones, by class and by fold; of two results the difference,
fold by fold and with its paired intervals."""

_EPILOG = """\
RESULT is a commit, branch or tag of git, an experiment of DVC by its name, or `workspace`: the files as they are.

examples:
  landfold show                   the result in the workspace
  landfold show slower            that of an experiment
  landfold show HEAD slower       the experiment less the commit that it started from
  landfold show main --json       the same tables for programs"""

_LABELS = {"accuracy": "accuracy", "macro_f1": "macro F1"}


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "show",
        help="show the scores of a result, or the difference of two",
        description=_ABOUT,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("base", metavar="RESULT", nargs="?", default="workspace", help="default: workspace")
    parser.add_argument("other", metavar="OTHER", nargs="?", help="a second result, from which the first is subtracted")
    parser.add_argument("--json", action="store_true", help="print the tables as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Read and print; the exit code is returned."""
    from rich.console import Console

    from landfold.cli.results import compare_results, read_result

    base = read_result(options.base)
    content = compare_results(base, read_result(options.other)) if options.other else result_tables(base)
    if options.json:
        print(json.dumps(content, indent=2, ensure_ascii=False), flush=True)
    else:
        console = Console(width=None if sys.stdout.isatty() else WIDTH, markup=False, highlight=False)
        (_print_difference if options.other else _print_result)(content, console)
    return 0


def result_tables(result: "Result") -> dict[str, Any]:
    """What is shown of one result.

    Returns:
        ``result``, its name; ``unit``, pixels or patches; ``scores``, rows ``{"of", "difference", "accuracy",
        "macro_f1"}``, where ``difference`` tells that the two scores are differences; ``per_class``, ``per_fold``,
        ``zone_summary`` and ``warnings`` as in metrics/scores.json.
    """
    unit, tables = result.unit, result.tables(result.unit)
    count, zones = sum(row[unit] for row in tables["per_zone"]), len(tables["per_zone"])
    rows = [_row(f"{count:,} {unit} of {zones} zones", tables["headline"])]
    if unit == "pixels":
        rows += [_row(f"{part} pixels", tables[part]) for part in ("interior", "boundary")]
    if "baseline" in tables:
        rows.append(_row(f"baseline of {unit}", tables["baseline"]))
    pairs: dict[str, dict[str, Any]] = {}
    for row in tables["comparisons"]:
        difference = {"pooled": row["difference"], "low": row["low"], "high": row["high"]}
        pairs.setdefault(f"{row['of']} minus {row['against']}", {})[row["score"]] = difference
    rows += [_row(name, scores, difference=True) for name, scores in pairs.items()]
    if unit == "pixels":
        rows.append(_row(f"{result.scores['patches']:,} patches", result.scores["headline"]))
    return {
        "result": result.name,
        "unit": unit,
        "scores": rows,
        **{name: tables[name] for name in ("per_class", "per_fold", "zone_summary")},
        "warnings": result.scores["warnings"],
    }


def _row(of: str, scores: dict[str, Any], *, difference: bool = False) -> dict[str, Any]:
    return {"of": of, "difference": difference} | {name: scores[name] for name in _LABELS}


def _print_result(content: dict[str, Any], console: "Console") -> None:
    unit = content["unit"]
    _print_table(
        console,
        [f"result: {content['result']}", *_LABELS.values()],
        ([row["of"], *(_score(row[name], signed=row["difference"]) for name in _LABELS)] for row in content["scores"]),
    )
    _print_table(
        console,
        ["class", unit, "F1", "precision", "recall"],
        (
            [row["class"], f"{row['support']:,}", *(_class_score(row[name]) for name in ("f1", "precision", "recall"))]
            for row in content["per_class"]
        ),
    )
    _print_table(
        console,
        ["fold", unit, *_LABELS.values()],
        (
            [str(row["fold"]), f"{row[unit]:,}", *(_number(row[name]) for name in _LABELS)]
            for row in content["per_fold"]
        ),
    )
    worst, median = content["zone_summary"]["worst"], content["zone_summary"]["median_accuracy"]
    console.print(
        f"worst zone: {worst['zone']} in fold {worst['fold']}, accuracy {_number(worst['accuracy'])} of "
        f"{worst[unit]:,} {unit}; median of the zones {_number(median)}"
    )
    _print_warnings(console, content["warnings"])


def _print_difference(content: dict[str, Any], console: "Console") -> None:
    base, other, unit, scores = (content[key] for key in ("base", "other", "unit", "scores"))
    names = {
        "base": base,
        "other": other,
        "difference": f"{other} minus {base}",
        "over_folds": "mean over folds",
    }
    rows = [
        [text, *(_score(scores[name][part], signed=part not in ("base", "other")) for name in _LABELS)]
        for part, text in names.items()
        if scores["accuracy"][part]
    ]
    _print_table(console, [f"{content['count']:,} {unit} of {content['zones']} zones", *_LABELS.values()], rows)
    if content["per_fold"]:
        parts = {"base": base, "other": other, "difference": "difference"}
        _print_table(
            console,
            ["\nfold", f"\n{unit}", *(f"{label}\n{part}" for label in _LABELS.values() for part in parts.values())],
            (
                [str(row["fold"]), f"{row[unit]:,}"]
                + [_number(row[name][part], signed=part == "difference") for name in _LABELS for part in parts]
                for row in content["per_fold"]
            ),
        )
    console.print(_verdict(content))
    _print_warnings(console, content["warnings"])


def _verdict(content: dict[str, Any]) -> str:
    """Which is more accurate, by the interval over zones or else over folds."""
    if content["per_fold"] and not any(row["accuracy"]["difference"] for row in content["per_fold"]):
        return "The accuracy is the same in every fold."
    for over, part in (("zones", "difference"), ("folds", "over_folds")):
        interval = content["scores"]["accuracy"][part]
        if interval and interval["low"] is not None:
            better, worse = interval["low"] > 0, interval["high"] < 0
            word = "better than" if better else "worse than" if worse else "neither clearly better nor worse than"
            return (
                f"By the 95 % interval over {over}, {content['other']} is {word} {content['base']} in accuracy.\n"
                "The interval does not include what another train.seed changes."
            )
    return "The difference has no interval."


def _print_warnings(console: "Console", warnings: Iterable[str]) -> None:
    for warning in warnings:
        console.print(f"warning: {warning}")


def _print_table(console: "Console", header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for i, name in enumerate(header):
        table.add_column(name, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    console.print()


def _score(score: dict[str, Any], *, signed: bool = False) -> str:
    from landfold.scores.sentences import with_interval

    return "-" if score["pooled"] is None else with_interval(score, signed=signed)


def _class_score(score: dict[str, Any]) -> str:
    """Without an interval it is not defined: of a class that does not occur, or is not predicted."""
    return "-" if score["low"] is None else _score(score)


def _number(value: float | None, *, signed: bool = False) -> str:
    from landfold.scores.sentences import rounded_text

    return "-" if value is None else rounded_text(value, signed=signed)
