"""Results by name, of any git revision or DVC experiment, and the difference of two, paired over zones and folds.

A result is metrics/scores.json; `landfold.scores.summary` explains its tables. Two results are paired where they score
the same ground: the same zones, or the same folds, with the same number of pixels or patches in each.

The interval over zones is that of `landfold.scores.intervals`, from the accuracy of each zone. The other headline
scores are not in metrics/scores.json by zone. Their interval is one over folds: that of t with one degree of freedom
less than folds, and the standard error of Nadeau and Bengio (2003, https://doi.org/10.1023/A:1024068626366),
sd * sqrt(1 / n + test / train), since folds share most of what they train on; test / train is 1 / (k - 1).
"""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit

from landfold.core.errors import LandfoldError, did_you_mean
from landfold.scores.intervals import TAIL, difference_interval
from landfold.scores.metrics import HEADLINE, rounded

SCORES = Path("metrics/scores.json")
WORKSPACE = "workspace"
"""What DVC calls the files as they are, committed or not."""

_OF_BOTH = {"headline", "per_class", "per_fold", "per_zone", "zone_summary", "comparisons"}
_OF_PATCHES = _OF_BOTH | {"classes", "repeats", "patches", "warnings"}


class ResultError(LandfoldError):
    """A result that is not there or cannot be read."""


@dataclass(frozen=True)
class Result:
    """A result's name, as the user gave it, and the content of its metrics/scores.json."""

    name: str
    scores: dict[str, Any]

    def tables(self, unit: str) -> dict[str, Any]:
        """The tables of ``pixels`` or ``patches``."""
        return self.scores["pixels"] if unit == "pixels" else self.scores

    @property
    def unit(self) -> str:
        """What the map is of: ``pixels`` where the network is one of pixels, else ``patches``."""
        return "pixels" if "pixels" in self.scores else "patches"


def read_result(name: str) -> Result:
    """The result of a git revision, a DVC experiment, or of the ``workspace``.

    Raises:
        ResultError: no such revision or experiment, no scores in it, or scores that are no whole result.
    """
    if name == WORKSPACE:
        if not SCORES.is_file():
            raise ResultError(f"{SCORES}: not found; run `dvc repro` in the folder of dvc.yaml, or name a commit")
        place, text = str(SCORES), SCORES.read_text(encoding="utf-8")
    else:
        place = f"{name}:{SCORES}"
        text = _git("show", f"{_commit(name)}:./{SCORES}")
        if text is None:
            raise ResultError(f"{place}: not found; `git log --all -- {SCORES}` lists the commits of results")
    try:
        scores = json.loads(text)
    except json.JSONDecodeError as error:
        raise ResultError(f"{place}: no JSON, {error}; take it from a commit or run `dvc repro`") from None
    result = Result(name, scores)
    missing = _OF_PATCHES - set(scores) or _OF_BOTH - set(result.tables(result.unit))
    if missing:
        raise ResultError(
            f"{place}: no {', '.join(sorted(missing))} in it, as `dvc repro` writes it now; it is of another version"
        )
    return result


def _commit(name: str) -> str:
    """The commit of a git revision or else of an experiment: of the present commit first, then of any other."""
    if commit := _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"):
        return commit.strip()
    if (head := _git("rev-parse", "HEAD")) is None:
        raise ResultError(f"{name}: no git repository with a commit here; change to the folder of dvc.yaml")
    listed = (_git("for-each-ref", "--format=%(objectname) %(refname)", "refs/exps/*/*/*") or "").split("\n")
    refs = {ref: commit for commit, ref in (line.split() for line in listed if line)}
    own = f"refs/exps/{head[:2]}/{head[2:].strip()}/{name}"
    named = [own] if own in refs else [ref for ref in refs if ref.split("/")[4] == name]
    if len(named) > 1:
        bases = ", ".join("".join(ref.split("/")[2:4])[:7] for ref in named)
        raise ResultError(f"{name}: experiments of several commits ({bases}); give the hash of one (`dvc exp show -A`)")
    if not named:
        hint = did_you_mean(name, {ref.split("/")[4] for ref in refs})
        raise ResultError(
            f"{name}: no such commit, branch, tag or experiment{hint}; `dvc exp list -A` lists experiments"
        )
    return refs[named[0]]


def _git(*arguments: str) -> str | None:
    """What git prints; None where it fails."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, encoding="utf-8", check=False)
    return done.stdout if done.returncode == 0 else None


def compare_results(base: Result, other: Result) -> dict[str, Any]:
    """Two results side by side, and the second less the first.

    Returns:
        ``base`` and ``other``, their names; ``unit``, pixels where both have them, else patches; the ``count`` of them
        and ``zones``, of the base;
        ``scores``: a headline score to ``{"base", "other", "difference", "over_folds"}``, the first two as in
        metrics/scores.json. ``difference`` is that of the pooled scores with its 95 % interval over zones,
        ``over_folds`` the mean of the folds' differences with its 95 % interval over folds; each is ``{"pooled", "low",
        "high"}``, the ends None where there is no interval. ``difference`` is None where classes or zones differ,
        ``over_folds`` where the folds do;
        ``per_fold``: rows ``{"fold", "repeat", unit, score: {"base", "other", "difference"}}``, empty likewise;
        ``warnings``: sentences on what cannot be compared.
    """
    unit = base.unit if base.unit == other.unit else "patches"
    first, second = base.tables(unit), other.tables(unit)
    difference = _first_difference(base, other, unit)
    warnings = [_WARNINGS[difference]] if difference else []
    if base.unit != other.unit:
        warnings.append("one network is of pixels, the other of patches: they are compared on patches")
    per_fold = [] if difference else _paired_folds(first["per_fold"], second["per_fold"], unit)
    # with repeats, zones are those of the first repeat, and the pooled score is the mean of all
    same_ground = difference in (None, "folds")
    by_zone = same_ground and base.scores["repeats"] == other.scores["repeats"] == 1
    scores = {}
    for name in HEADLINE:
        a, b = first["headline"][name], second["headline"][name]
        ends = _over_zones(first["per_zone"], second["per_zone"], unit) if by_zone and name == "accuracy" else None
        scores[name] = {
            "base": a,
            "other": b,
            "difference": _with_ends(b["pooled"] - a["pooled"], ends) if same_ground else None,
            "over_folds": _over_folds([row[name]["difference"] for row in per_fold], base.scores["repeats"]),
        }
    return {
        "base": base.name,
        "other": other.name,
        "unit": unit,
        "count": sum(row[unit] for row in first["per_zone"]),
        "zones": len(first["per_zone"]),
        "scores": scores,
        "per_fold": per_fold,
        "warnings": warnings,
    }


_WARNINGS = {
    "classes": "the classes differ: the scores are not comparable",
    "zones": "the zones differ, or what is scored in them: the scores are of other ground and not comparable",
    "folds": "the folds differ: the scores are not paired by fold",
}


def _first_difference(base: Result, other: Result, unit: str) -> str | None:
    """What keeps two results from being paired: their classes, zones or folds; None if nothing does."""
    first, second = base.tables(unit), other.tables(unit)

    def differ(table: str, *names: str) -> bool:
        rows = [[tuple(row[name] for name in names) for row in tables[table]] for tables in (first, second)]
        return rows[0] != rows[1]

    if base.scores["classes"] != other.scores["classes"]:
        return "classes"
    if differ("per_zone", "zone", unit):
        return "zones"
    return "folds" if differ("per_zone", "fold") or differ("per_fold", "fold", "repeat", unit) else None


def _paired_folds(first: Sequence[dict[str, Any]], second: Sequence[dict[str, Any]], unit: str) -> list[dict[str, Any]]:
    return [
        {"fold": a["fold"], "repeat": a["repeat"], unit: a[unit]}
        | {name: {"base": a[name], "other": b[name], "difference": rounded(b[name] - a[name])} for name in HEADLINE}
        for a, b in zip(first, second, strict=True)
    ]


def _over_zones(
    first: Sequence[dict[str, Any]], second: Sequence[dict[str, Any]], unit: str
) -> tuple[float, float] | None:
    """The ends of the paired interval of the difference in accuracy; None if no zone differs, or there is one alone."""
    sizes = np.array([row[unit] for row in first], dtype=np.float64)
    gains = sizes * [b["accuracy"] - a["accuracy"] for a, b in zip(first, second, strict=True)]
    if len(sizes) < 2 or not gains.any():
        return None
    without = (gains.sum() - gains) / (sizes.sum() - sizes)
    return difference_interval(float(gains.sum() / sizes.sum()), without, sizes)


def _over_folds(differences: Sequence[float], repeats: int) -> dict[str, float | None] | None:
    """The mean and its interval over folds (see the module's docstring), which is left out where no fold differs."""
    count = len(differences)
    if not count:
        return None
    mean, folds = float(np.mean(differences)), count // repeats
    if folds < 2 or not np.any(differences):
        return _with_ends(mean, None)
    error = np.std(differences, ddof=1) * np.sqrt(1 / count + 1 / (folds - 1))
    half = float(stdtrit(count - 1, 1 - TAIL) * error)
    return _with_ends(mean, (mean - half, mean + half))


def _with_ends(value: float, ends: tuple[float, float] | None) -> dict[str, float | None]:
    low, high = (None, None) if ends is None else map(rounded, ends)
    return {"pooled": rounded(value), "low": low, "high": high}
