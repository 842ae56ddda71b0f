"""The patches and folds that a delivery would give, on the terminal and as data for programs."""

from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from landfold.cli.inspection.patch_trial import PatchTrial
from landfold.folds.summary import fold_summary

MAX_ROWS = 40
TITLES = {
    "class": "class",
    "polygons": "polygons",
    "large_enough": "of {} px or more",
    "largest_px": "largest px",
    "pixels": "labelled px",
    "patches": "patches",
    "zones": "zones",
}
"""Columns of the table of classes by their key in the data; {} is what a core needs."""


def patch_data(trial: PatchTrial) -> dict[str, Any]:
    """Settings, counts of windows, and the counts of classes and folds."""
    folds = None if trial.folds is None else fold_summary(trial.folds)
    return {
        **trial.settings.model_dump(),
        "scenes": {"cut": len(trial.ground.grids), "all": trial.ground.scenes},
        "windows": trial.patches.windows,
        "kept": len(trial.patches.table),
        "dropped": trial.patches.dropped,
        "classes": trial.classes(),
        "folds": folds,
    }


def show_patches(trial: PatchTrial, console: Console) -> None:
    """Patches, why windows were dropped, classes and folds."""
    size, rows = trial.settings, trial.classes()
    part = "" if trial.ground.complete else f" in {len(trial.ground.grids)} of {trial.ground.scenes} scenes"
    dropped = ", ".join(f"{count} {reason}" for reason, count in trial.patches.dropped.items() if count)
    _print(
        console,
        f"\nPatches of {size.size_px} px, core {size.core_px} px, every {size.stride_px} px{part}: "
        f"{len(trial.patches.table)} of {trial.patches.windows} windows{f'; dropped: {dropped}' if dropped else ''}",
    )
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in rows[0]:
        justify = "left" if name == "class" else "right"
        table.add_column(TITLES[name].format(trial.needed_px), justify=justify, overflow="fold")
    for row in rows[:MAX_ROWS]:
        table.add_row(*map(str, row.values()))
    console.print(Padding(table, (0, 0, 0, 2)), markup=False, highlight=False)
    if len(rows) > MAX_ROWS:
        _print(console, f"  and {len(rows) - MAX_ROWS} more classes; --json has them all")
    if trial.folds is not None:
        summary = fold_summary(trial.folds)
        counts = [fold["validation"] for fold in summary["folds"].values()]
        span = " to ".join(map(str, dict.fromkeys((min(counts), max(counts)))))
        _print(console, f"  {summary['zones']} zones in {summary['k']} folds, which validate {span} patches each")


def _print(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, overflow="fold")
