"""Many experiments from one line: a grid or a random sample of settings, queued with DVC.

DVC queues grids by itself (``-S train.epochs=5,10``). What is added here: draws at random, names that tell
the values, and a look at every value by the settings that own it before anything is queued, so that a queue
of twenty does not fail one by one.
"""

import copy
import itertools
import math
import random
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from landfold.core.errors import LandfoldError, did_you_mean
from landfold.core.settings import read
from landfold.params import faults

TRIES = 100
"""Draws for each experiment wanted, before a space is called too small for so many different ones."""

COMPARABLE = {"indices", "normalize", "model", "train", "export", "audit", "track", "colours", "ingest.bands"}
"""Sections, and settings of others, that leave alone which patches are scored, on which classes and folds."""


class SweepError(LandfoldError):
    """A sweep that cannot be queued."""


@dataclass(frozen=True)
class Space:
    """What one setting may be: listed values, or a range evenly or by orders of magnitude."""

    name: str
    values: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    logarithmic: bool = False
    whole: bool = False

    @classmethod
    def parse(cls, text: str) -> "Space":
        """``NAME=a,b``, ``NAME=low:high`` or ``NAME=log:low:high``.

        Raises:
            SweepError: if it is none of these.
        """
        name, equals, given = text.partition("=")
        if not (name and equals and given):
            raise SweepError(f"'{text}': expected NAME=VALUES, such as train.learning_rate=0.0003,0.001")
        ends = given.removeprefix("log:").split(":")
        if len(ends) == 1 or given.startswith(("[", "{", '"', "'")):
            return cls(name, tuple(_split(given)))
        logarithmic = given.startswith("log:")
        try:
            low, high = (float(end) for end in ends)
        except ValueError:
            raise SweepError(f"'{text}': expected two numbers, such as 0:0.5 or log:1e-4:1e-2") from None
        if not (low < high and math.isfinite(high - low) and (low > 0 or not logarithmic)):
            least = " and more than 0" if logarithmic else ""
            raise SweepError(f"'{text}': the first number must be the smaller one{least}")
        whole = all(re.fullmatch(r"[-+]?\d+", end) for end in ends)
        return cls(name, (), low, high, logarithmic, whole)

    def draw(self, chance: random.Random) -> str:
        """A value at random; numbers have three digits, so that a name can tell them wholly."""
        if self.values:
            return chance.choice(self.values)
        if self.logarithmic:
            value = math.exp(chance.uniform(math.log(self.low), math.log(self.high)))
        elif self.whole:
            return str(chance.randint(int(self.low), int(self.high)))
        else:
            value = chance.uniform(self.low, self.high)
        value = min(max(float(f"{value:.3g}"), self.low), self.high)
        return str(round(value)) if self.whole else f"{value:g}"


@dataclass(frozen=True)
class Experiment:
    """One line of the queue: its name and the settings that it changes, as they are written."""

    name: str
    changes: tuple[tuple[str, str], ...]


def plan(params: Path, texts: Sequence[str], *, count: int | None = None, seed: int = 0) -> list[Experiment]:
    """The experiments of a grid or, with ``count``, of a random sample; all are good settings.

    Raises:
        SweepError: an unknown setting, a value that its owner refuses, more draws than there are values.
    """
    content = read(params)
    spaces = [Space.parse(text) for text in texts]
    names = [space.name for space in spaces]
    if twice := {name for name in names if names.count(name) > 1}:
        raise SweepError(f"{min(twice)} is given twice; put all its values into one list")
    for name in names:
        _known(content, name)
    drawn = _grid(spaces) if count is None else _sample(spaces, count, seed)
    titles = _distinct([_name(names, values) for values in drawn])
    experiments = [Experiment(title, tuple(zip(names, v, strict=True))) for title, v in zip(titles, drawn, strict=True)]
    refused = [line for experiment in experiments for line in _refused(content, experiment)]
    if refused:
        raise SweepError("nothing is queued:\n" + "\n".join(dict.fromkeys(refused)))
    return experiments


def command(experiment: Experiment) -> list[str]:
    """The line of DVC that queues an experiment."""
    changes = [part for name, value in experiment.changes for part in ("-S", f"{name}={value}")]
    return ["dvc", "exp", "run", "--queue", "-n", experiment.name, *changes]


def queue(experiment: Experiment) -> None:
    """Queue an experiment.

    Raises:
        SweepError: with what DVC says, if it refuses.
    """
    done = subprocess.run(command(experiment), capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise SweepError(f"{experiment.name}: {lines[0] if lines else done.stderr.strip()}; see landfold doctor")


def taken() -> set[str]:
    """Names of the experiments of the present commit: those that are over and those that are queued."""
    commit = _git("rev-parse", "HEAD").strip()
    done = _git("for-each-ref", "--format=%(refname)", f"refs/exps/{commit[:2]}/{commit[2:]}/").split()
    waiting = re.findall(rf"dvc-exp:{commit}:\S*:(\S+)", _git("log", "-g", "--format=%gs", "refs/exps/celery/stash"))
    return {name.rpartition("/")[2] for name in done} | set(waiting)


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""


def incomparable(experiments: Sequence[Experiment]) -> list[str]:
    """A warning for each setting that changes what is scored, not only what scores."""
    names = dict.fromkeys(name for experiment in experiments for name, _ in experiment.changes)
    return [
        f"warning: {name} changes the patches, classes or zones that are scored; "
        "scores of different values of it are not comparable"
        for name in names
        if name not in COMPARABLE and name.partition(".")[0] not in COMPARABLE
    ]


def _split(text: str) -> list[str]:
    """At the commas outside brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def _grid(spaces: Sequence[Space]) -> list[tuple[str, ...]]:
    for space in spaces:
        if not space.values:
            raise SweepError(f"{space.name}: a range has no end of values; list some, or draw with -n")
    return list(dict.fromkeys(itertools.product(*(space.values for space in spaces))))


def _sample(spaces: Sequence[Space], count: int, seed: int) -> list[tuple[str, ...]]:
    if count < 1:
        raise SweepError(f"-n {count}: expected 1 or more")
    chance = random.Random(seed)  # noqa: S311 - no secret
    drawn: dict[tuple[str, ...], None] = {}
    for _ in range(TRIES * count):
        drawn[tuple(space.draw(chance) for space in spaces)] = None
        if len(drawn) == count:
            return list(drawn)
    raise SweepError(f"-n {count}: only {len(drawn)} different experiments were found; ask for fewer, or leave out -n")


def _known(content: Mapping[str, Any], name: str) -> None:
    """Refuse a setting that params.yaml does not have, as DVC would."""
    place: Any = content
    for part in name.split("."):
        if not isinstance(place, Mapping) or part not in place:
            hint = did_you_mean(part, place if isinstance(place, Mapping) else ())
            raise SweepError(f"{name}: no such setting in params.yaml{hint}")
        place = place[part]
    if isinstance(place, Mapping):
        raise SweepError(f"{name}: a section, not a setting; known are {', '.join(f'{name}.{key}' for key in place)}")


def _refused(content: Mapping[str, Any], experiment: Experiment) -> list[str]:
    changed = copy.deepcopy(dict(content))
    for name, text in experiment.changes:
        *path, last = name.split(".")
        place: Any = changed
        for part in path:
            place = place[part]
        place[last] = _value(name, text)
    sections = dict.fromkeys(name.partition(".")[0] for name, _ in experiment.changes)
    return faults(changed, sections, where="params.yaml")


def _value(name: str, text: str) -> Any:
    """A value as params.yaml will have it; YAML alone reads 1e-5 as text."""
    try:
        return float(text) if re.fullmatch(r"[-+]?[\d.]+[eE][-+]?\d+", text) else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        raise SweepError(f"{name}={text}: not a value that YAML can read") from None


def _name(names: Sequence[str], values: Sequence[str]) -> str:
    """Such as ``learning_rate-0.001_blocks-3``: a name that git takes for a reference."""
    ends = [name.rpartition(".")[2] for name in names]
    short = [end if ends.count(end) == 1 else name.replace(".", "-") for name, end in zip(names, ends, strict=True)]
    parts = [f"{name}-{value}" for name, value in zip(short, values, strict=True)]
    return re.sub(r"[^\w.+-]+|\.{2,}", "-", "_".join(parts)).strip("-.")


def _distinct(names: list[str]) -> list[str]:
    """The names, with a number behind those that occur before."""
    given: list[str] = []
    for name in names:
        numbered = (f"{name}-{number}" for number in itertools.count(2))
        given.append(next(other for other in itertools.chain([name], numbered) if other not in given))
    return given
