"""An assessment as data for JSON, and as text for a terminal."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from landfold.accuracy.assessment import DESIGNS, Assessment
from landfold.accuracy.estimators import Estimate

WIDTH = 100
"""Columns of text."""


def assessment_data(assessment: Assessment) -> dict[str, Any]:
    """Everything for JSON: areas in m2, null where there is no estimate.

    ``low`` and ``high`` are cut at what is possible, shares at 0 and 1 and areas at 0 and the map's; the standard
    error is not.
    """
    return {
        "map": str(assessment.map_path),
        "points_file": str(assessment.points_path),
        "attribute": assessment.attribute,
        "design": assessment.design,
        "level": assessment.level,
        "standard_errors": assessment.width,
        "cell_m2": assessment.cell_m2,
        "total_m2": float(assessment.mapped_m2.sum()),
        "points": int(assessment.counts.sum()),
        "left_out": assessment.left_out,
        "overall_accuracy": _interval(assessment.estimates.overall, assessment.width, 1.0),
        "classes": [_class_data(assessment, i) for i in range(len(assessment.names))],
        "matrix": {
            "rows": "map",
            "columns": "reference",
            "classes": assessment.names,
            "points": assessment.counts.tolist(),
            "proportions": assessment.estimates.proportions.tolist(),
        },
        "notes": assessment.notes,
    }


def _class_data(assessment: Assessment, i: int) -> dict[str, Any]:
    estimates, width = assessment.estimates, assessment.width
    return {
        "number": assessment.numbers[i],
        "name": assessment.names[i],
        "mapped_m2": float(assessment.mapped_m2[i]),
        "map_points": int(assessment.counts[i].sum()),
        "reference_points": int(assessment.counts[:, i].sum()),
        "users_accuracy": _interval(estimates.users, width, 1.0, i),
        "producers_accuracy": _interval(estimates.producers, width, 1.0, i),
        "area_m2": _interval(estimates.areas, width, float(assessment.mapped_m2.sum()), i),
    }


def _interval(estimate: Estimate, width: float, most: float, i: int | None = None) -> dict[str, float | None]:
    """An estimate, or that of class ``i``, with its interval."""
    value, error = (float(part if i is None else part[i]) for part in (estimate.value, estimate.standard_error))
    numbers = {
        "estimate": value,
        "standard_error": error,
        "low": max(0.0, value - width * error),
        "high": min(most, value + width * error),
    }
    # All of them, since min and max would make a bound that looks real of NaN.
    return dict.fromkeys(numbers) if np.isnan(value + error) else numbers


def assessment_text(assessment: Assessment) -> str:
    """Everything in lines of at most WIDTH columns."""
    total, overall = assessment.mapped_m2.sum(), assessment.estimates.overall
    head = [
        f"{assessment.map_path}: {len(assessment.names)} classes on {_hectares(total, total)} ha, "
        f"cells of {assessment.cell_m2:,.0f} m2",
        f"{assessment.points_path}: {assessment.counts.sum()} points, attribute {assessment.attribute}",
        f"design: {DESIGNS[assessment.design]}",
    ]
    parts = [
        "\n".join(_wrap(head)),
        f"Overall accuracy  {_share(overall.value, overall.standard_error, assessment)}",
        "\n".join(["By class", *_class_table(assessment)]),
        f"± is half of the {100 * assessment.level:g} % interval: {assessment.width:.4g} standard errors.",
        "\n".join(["Points by class in the map (rows) and in the reference (columns)", *_matrix(assessment)]),
    ]
    if assessment.notes:
        parts.append("\n".join(["Notes", *_wrap(assessment.notes, "  - ", "    ")]))
    return "\n\n".join(parts)


def _wrap(lines: Sequence[str], first: str = "", rest: str = "  ") -> list[str]:
    options = {"initial_indent": first, "subsequent_indent": rest, "break_on_hyphens": False}
    return [part for line in lines for part in textwrap.wrap(line, WIDTH, **options)]


def _share(value: float, error: float, assessment: Assessment) -> str:
    return "-" if np.isnan(value) else f"{value:.3f} ± {assessment.width * error:.3f}"


def _hectares(area_m2: float, total_m2: float) -> str:
    return f"{area_m2 / 10_000:,.{0 if total_m2 >= 1e7 else 2}f}"


def _class_table(assessment: Assessment) -> list[str]:
    e, total = assessment.estimates, assessment.mapped_m2.sum()
    rows = [("class", "points", "user's", "producer's", "mapped ha", "area ha", "± ha", "share")]
    for i, name in enumerate(assessment.names):
        rows.append(
            (
                f"{assessment.numbers[i]} {name}",
                str(assessment.counts[i].sum()),
                _share(e.users.value[i], e.users.standard_error[i], assessment),
                _share(e.producers.value[i], e.producers.standard_error[i], assessment),
                _hectares(assessment.mapped_m2[i], total),
                _hectares(e.areas.value[i], total),
                _hectares(assessment.width * e.areas.standard_error[i], total),
                f"{100 * e.areas.value[i] / total:.1f} %",
            )
        )
    return _aligned(rows)


def _matrix(assessment: Assessment) -> list[str]:
    """The error matrix with the numbers of the classes as heads, in pieces that fit the width."""
    labels = [f"{number} {name}" for number, name in zip(assessment.numbers, assessment.names, strict=True)]
    counts = np.column_stack([assessment.counts, assessment.counts.sum(axis=1)])
    counts = np.vstack([counts, counts.sum(axis=0)])
    rows = [[*map(str, assessment.numbers), "sum"], *counts.astype(str).tolist()]
    label_width, width = min(max(map(len, labels)), 30), max(len(text) for row in rows for text in row)
    step = (WIDTH - 2 - label_width) // (width + 2)
    pieces = [
        [[label, *row[start : start + step]] for label, row in zip(["", *labels, "sum"], rows, strict=True)]
        for start in range(0, len(rows[0]), step)
    ]
    return [line for piece in pieces for line in _aligned(piece)]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table: the first column to the left, cut to fit the width, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    widths[0] = min(widths[0], WIDTH - 2 - sum(widths[1:]) - 2 * (len(widths) - 1))
    lines = []
    for first, *others in rows:
        cut = first if len(first) <= widths[0] else first[: widths[0] - 1] + "…"
        cells = [cut.ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(others, widths[1:], strict=True))]
        lines.append("  " + "  ".join(cells))
    return lines
