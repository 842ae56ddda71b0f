"""`landfold sweep`: queue experiments whose settings are drawn at random. DVC queues grids by itself."""

import argparse
import copy
import json
import math
import random
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from landfold.core.errors import LandfoldError, did_you_mean

PARAMS = Path("params.yaml")

TRIES = 100
"""Draws for each experiment; if they do not give enough different ones, the values are too few."""

SAME_PATCHES = {
    "indices",
    "normalize",
    "model",
    "train",
    "machine",
    "export",
    "audit",
    "track",
    "colours",
    "ingest.bands",
}
"""Sections, and a setting of another one, that do not change which patches are scored, nor their classes and folds."""

_ABOUT = """\
Queue N experiments with settings drawn at random. The settings' owners check all values before anything is queued.
`dvc queue start` then runs them."""

_EPILOG = """\
NAME=VALUES  a setting of params.yaml by its dotted name, and one of
  none,sqrt        one of these values
  0:0.5            a number between the two, evenly distributed; a whole number if both are
  log:1e-4:1e-2    the same, evenly distributed over orders of magnitude

example:
  landfold sweep -n 20 train.learning_rate=log:1e-4:1e-2 model.dropout=0:0.5 train.class_weights=none,sqrt

All combinations of listed values are queued by DVC itself:
  dvc exp run --queue -S 'train.learning_rate=0.0003,0.001,0.003' -S 'model.blocks=3,4'"""


class SweepError(LandfoldError):
    """A sweep that cannot be queued."""


def add(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "sweep",
        help="queue experiments with settings drawn at random",
        description=_ABOUT,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("values", metavar="NAME=VALUES", nargs="+", help="a setting and its values (see below)")
    parser.add_argument("-n", metavar="N", dest="count", type=int, help="number of experiments")
    parser.add_argument("--seed", metavar="S", type=int, default=0, help="seed of the draws (default: 0)")
    parser.add_argument("--dry-run", action="store_true", help="print the commands and queue nothing")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Draw, check, print and queue; the exit code is returned."""
    if options.count is None:
        grid = ["dvc", "exp", "run", "--queue", *(part for text in options.values for part in ("-S", text))]
        raise SweepError(f"-n N is missing; for all combinations of listed values use DVC itself: {shlex.join(grid)}")
    drawn = draw_experiments(PARAMS, options.values, count=options.count, seed=options.seed)
    existing = existing_names()
    experiments = [experiment for experiment in drawn if experiment.name not in existing]
    for warning in incomparable(drawn[0].changes):
        print(f"landfold sweep: {warning}", file=sys.stderr)
    for experiment in experiments:
        print(shlex.join(experiment.command), flush=True)
        if not options.dry_run:
            queue(experiment)
    if not options.dry_run:
        skipped = len(drawn) - len(experiments)
        remark = f", {skipped} exist already" if skipped else ""
        print(f"{len(experiments)} experiments queued{remark}; run them by: dvc queue start", flush=True)
    return 0


def parse_space(text: str) -> tuple[str, Callable[[random.Random], Any]]:
    """``NAME=a,b``, ``NAME=low:high`` or ``NAME=log:low:high`` as the setting's name and how to draw a value of it.

    Numbers have three digits, so that names of experiments are short and exact.

    Raises:
        SweepError: if it is none of these.
    """
    name, _, given = text.partition("=")
    if not (name and given):
        raise SweepError(f"'{text}': expected NAME=VALUES, such as train.learning_rate=0.0003,0.001")
    ends = re.fullmatch(r"(log:)?([^:\[\]{},\"']+):([^:\[\]{},\"']+)", given)
    if ends is None:
        values = _values(name, given)
        return name, lambda generator: generator.choice(values)
    logarithmic = ends[1] is not None
    try:
        low, high = float(ends[2]), float(ends[3])
    except ValueError:
        raise SweepError(f"'{text}': expected two numbers, such as 0:0.5 or log:1e-4:1e-2") from None
    if not (low < high and math.isfinite(high - low) and (low > 0 or not logarithmic)):
        positive = " and more than 0" if logarithmic else ""
        raise SweepError(f"'{text}': the first number must be the smaller one{positive}")
    whole = all(re.fullmatch(r"[-+]?\d+", ends[i]) for i in (2, 3))
    if whole and not logarithmic:
        return name, lambda generator: generator.randint(int(low), int(high))

    def draw(generator: random.Random) -> float | int:
        if logarithmic:
            value = math.exp(generator.uniform(math.log(low), math.log(high)))
        else:
            value = generator.uniform(low, high)
        value = min(max(float(f"{value:.3g}"), low), high)
        return round(value) if whole else value

    return name, draw


def _values(name: str, text: str) -> tuple[Any, ...]:
    """``none,[NDVI, NDWI]`` as values, by the rules of YAML."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return tuple(YAML(typ="safe", pure=True).load(f"[{text}]"))
    except YAMLError:
        raise SweepError(f"{name}={text}: not values that YAML can read") from None


@dataclass(frozen=True)
class Experiment:
    """One entry of the queue: its name, and the settings that it changes."""

    name: str
    changes: Mapping[str, Any]

    @property
    def command(self) -> list[str]:
        """DVC's command that queues it."""
        changes = [part for name, value in self.changes.items() for part in ("-S", f"{name}={_text(value)}")]
        return ["dvc", "exp", "run", "--queue", "-n", self.name, *changes]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def draw_experiments(params: Path, texts: Sequence[str], *, count: int, seed: int = 0) -> list[Experiment]:
    """``count`` different experiments at random, whose settings are all valid.

    Args:
        params: params.yaml.
        texts: ``NAME=VALUES`` for each setting.
        count: number of experiments; the first of a longer sweep are those of a shorter one.
        seed: of the random numbers.

    Raises:
        SweepError: an unknown setting, a value that its owner refuses, or fewer different values than experiments.
    """
    from landfold.core.settings import read

    content = read(params)
    spaces = [parse_space(text) for text in texts]
    names = [name for name, _ in spaces]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise SweepError(f"{min(repeated)} is given twice; put all its values into one list")
    _check_names(content, names)
    if count < 1:
        raise SweepError(f"-n {count}: expected 1 or more")
    generator = random.Random(seed)  # noqa: S311 - no secret
    drawn: dict[str, Experiment] = {}
    for _ in range(TRIES * count):
        changes = {name: draw(generator) for name, draw in spaces}
        title = _title(changes)
        drawn.setdefault(title, Experiment(title, changes))
        if len(drawn) == count:
            break
    else:
        raise SweepError(f"-n {count}: there are only {len(drawn)} different experiments; ask for fewer")
    refused = [line for experiment in drawn.values() for line in _refused(content, experiment.changes)]
    if refused:
        raise SweepError("nothing is queued:\n" + "\n".join(dict.fromkeys(refused)))
    return list(drawn.values())


def _check_names(content: Mapping[str, Any], names: Sequence[str]) -> None:
    """Refuse a setting that params.yaml does not have, as DVC would."""
    from landfold.tracking.store import leaves

    known = [name for name, _ in leaves(content)]
    for name in names:
        if name not in known:
            raise SweepError(f"{name}: no such setting in params.yaml{did_you_mean(name, known)}")


def _refused(content: Mapping[str, Any], changes: Mapping[str, Any]) -> list[str]:
    """What the owners of the changed settings refuse, one line each."""
    from landfold.params import faults

    changed = copy.deepcopy(dict(content))
    for name, value in changes.items():
        *path, last = name.split(".")
        section = changed
        for part in path:
            section = section[part]
        section[last] = value
    return faults(changed, dict.fromkeys(name.partition(".")[0] for name in changes), where="params.yaml")


def _title(changes: Mapping[str, Any]) -> str:
    """Such as ``learning_rate-0.001_blocks-3``, which git accepts as the name of a reference."""
    last = [name.rpartition(".")[2] for name in changes]
    short = [end if last.count(end) == 1 else name for name, end in zip(changes, last, strict=True)]
    text = "_".join(f"{name}-{_text(value)}" for name, value in zip(short, changes.values(), strict=True))
    return re.sub(r"[^\w.+-]+|\.{2,}", "-", text).strip("-.")


def queue(experiment: Experiment) -> None:
    """Queue an experiment.

    Raises:
        SweepError: with DVC's message, if it refuses.
    """
    done = subprocess.run([sys.executable, "-m", *experiment.command], capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise SweepError(f"{experiment.name}: {lines[0] if lines else done.stderr.strip()}; see landfold doctor")


def existing_names() -> set[str]:
    """Names of the experiments of the present commit, finished or queued."""
    commit = _git("rev-parse", "HEAD").strip()
    finished = _git("for-each-ref", "--format=%(refname)", f"refs/exps/{commit[:2]}/{commit[2:]}/").split()
    queued = re.findall(rf"dvc-exp:{commit}:\S*:(\S+)", _git("log", "-g", "--format=%gs", "refs/exps/celery/stash"))
    return {name.rpartition("/")[2] for name in finished} | set(queued)


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""


def incomparable(names: Iterable[str]) -> list[str]:
    """A warning for each setting that changes which patches, classes or zones are scored."""
    return [
        f"warning: {name} changes the patches, classes or zones that are scored; "
        "scores of different values of it are not comparable"
        for name in names
        if name not in SAME_PATCHES and name.partition(".")[0] not in SAME_PATCHES
    ]
